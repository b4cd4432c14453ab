"""Being somebody else for a moment: what root may do hides what a service may not."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def plain_user() -> Iterator[Path]:
    """A folder of our own as a user who is not root; where we are not root anyway, just the folder."""
    with tempfile.TemporaryDirectory(prefix="edge-agent-test-") as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)
