"""The state folder at start: missing, somebody else's, no folder, on a medium that is read-only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError, StoreError
from edge_agent.settings.state import require_writable
from tests.support.users import plain_user


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    """With its parents; again is harmless."""
    require_writable(tmp_path / "a" / "b")
    require_writable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("what", ["folder", "parent", "file"])
def test_c11_what_belongs_to_somebody_else(what: str) -> None:
    """Path, who we are, whose it is, and the command that mends it: also where only one file is not ours
    (somebody has run the agent as root once)."""
    with plain_user() as folder:
        state = folder / "state"
        (state / "agent").mkdir(parents=True)
        (state / "agent" / "journal.db").touch()
        require_writable(state)
        wrong = {"folder": state, "parent": folder, "file": state / "agent" / "journal.db"}[what]
        target = state / "deeper" if what == "parent" else state
        if what == "parent":
            target = folder / "new"
        wrong.chmod(0o500)
        with pytest.raises(ConfigError) as refused:
            require_writable(target)
        wrong.chmod(0o700)
        text = str(refused.value)
        assert f"the state folder {target} cannot be used: {wrong} cannot be written" in text
        assert re.search(rf"by uid {os.geteuid()} \(\w+\), it belongs to uid \d+ \(\w+\)", text)
        assert re.search(rf"sudo chown -R \w+ {target}", text)


def test_c11_run_exits_78(tmp_path: Path) -> None:
    """A file where the folder should be: said at once, exit 78, no traceback."""
    state = tmp_path / "state"
    state.write_text("x")
    path = tmp_path / "agent.yaml"
    path.write_text(f"site: hall\nstate: {state}\n")
    command = [sys.executable, "-m", "edge_agent", "run", "-c", str(path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 78, refused.stderr
    assert f"state: {state} is not a folder" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_c10_a_medium_that_is_read_only_is_no_configuration_error(tmp_path: Path) -> None:
    """It may pass (a reboot mends it), so that the service is started again; the message says what to do."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    state = tmp_path / "state"
    state.mkdir()
    program = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from edge_agent.settings.state import require_writable\n"
        "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'ro', 'none', sys.argv[1]], check=True)\n"
        "require_writable(Path(sys.argv[1]))\n"
    )
    command = ["unshare", "-m", sys.executable, "-c", program, str(state)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if "unshare" in result.stderr or "CalledProcessError" in result.stderr:
        pytest.skip("no mount namespaces here")
    assert StoreError.__name__ in result.stderr
    assert "mounted read-only" in result.stderr
    assert "remount,rw" in result.stderr
