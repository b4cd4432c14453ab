"""Named places where a test can have the process killed; nothing happens unless the environment asks for it.

`EDGE_AGENT_FAILPOINT=journal-synced:3` ends the process with SIGKILL when it comes to `journal-synced` for
the third time, as the kernel would when memory is short: no handler runs, nothing is flushed.
"""

from __future__ import annotations

import os
import signal
from itertools import count

NAMES = (
    "journal-appended",
    "journal-before-sync",
    "journal-synced",
    "journal-checkpoint",
    "journal-checkpointed",
    "sink-before",
    "sink-delivered",
    "historian-committed",
    "historian-confirmed",
    "alarms-before-sync",
    "alarms-synced",
)
"""Every place, in the order a reading comes to them."""

_SOON = 0.002
"""Seconds within which `reached_soon` strikes."""

_name, _, _nth = os.environ.get("EDGE_AGENT_FAILPOINT", "").partition(":")
_passes = count(1)


def reached(name: str) -> None:
    """The process is at `name`."""
    if name == _name and next(_passes) >= int(_nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def reached_soon(name: str) -> None:
    """The process begins `name`, one call that cannot be looked into: it is killed in the midst of it."""
    if name == _name and next(_passes) >= int(_nth or 1):
        # SIGALRM has no handler here: it ends the process at once, inside the call.
        signal.setitimer(signal.ITIMER_REAL, _SOON * (os.getpid() % 7 + 1) / 7)
