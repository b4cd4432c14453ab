"""The systemd unit: accepted by systemd, locked down, and consistent with what the agent does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = "edge-agent.service"
DROP_INS = sorted((DEPLOY / f"{UNIT}.d").glob("*.conf"))

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing: apt-get install systemd"
)


def settings(path: Path) -> dict[str, list[str]]:
    """Every setting of the unit; one that is said several times has several values."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        key, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def installed(folder: Path, drop_in: Path | None = None) -> Path:
    """The unit as it would be installed, with an ExecStart that exists here."""
    text = (DEPLOY / UNIT).read_text()
    there = text.replace("/opt/edge-agent/bin/edge-agent run", f"{sys.executable} -m edge_agent.cli run")
    assert there != text
    unit = folder / UNIT
    unit.write_text(there)
    if drop_in is not None:
        (folder / f"{UNIT}.d").mkdir()
        shutil.copy(drop_in, folder / f"{UNIT}.d")
    return unit


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@needs_systemd
@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path.name if path else "plain")
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path, drop_in: Path | None) -> None:
    """`systemd-analyze verify` is silent: its exit code is 0 even for unknown keys."""
    done = analyze("verify", installed(tmp_path, drop_in))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


@needs_systemd
def test_verify_would_notice_a_mistake(tmp_path: Path) -> None:
    """The silence above means something."""
    unit = installed(tmp_path)
    unit.write_text(unit.read_text().replace("RestartSec=5", "RestartSecs=5"))
    assert "RestartSecs" in analyze("verify", unit).stderr


@needs_systemd
@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path.name if path else "plain")
def test_the_unit_is_locked_down(tmp_path: Path, drop_in: Path | None) -> None:
    """`systemd-analyze security` counts at most 1.5 points of exposure, with a serial port as well."""
    done = analyze("security", "--offline=true", "--threshold=15", installed(tmp_path, drop_in))
    assert done.returncode == 0, done.stdout


def test_refused_system_calls_fail_instead_of_killing() -> None:
    """numpy's OpenBLAS calls mbind (@resources): without an error number it is killed by SIGSYS."""
    unit = settings(DEPLOY / UNIT)
    assert any("@resources" in value for value in unit["SystemCallFilter"])
    assert unit["SystemCallErrorNumber"] == ["EPERM"]


def test_the_unit_fits_the_agent() -> None:
    """Readiness and watchdog by notify, state where the agent looks, no restart on a bad configuration."""
    unit = settings(DEPLOY / UNIT)
    assert unit["Type"] == ["notify"]
    assert unit["WatchdogSec"] == ["30"]
    assert unit["StateDirectory"] == unit["RuntimeDirectory"] == ["edge-agent"]
    assert unit["ExecStart"] == ["/opt/edge-agent/bin/edge-agent run -c /etc/edge-agent/agent.yaml"]
    assert "78" in unit["RestartPreventExitStatus"][0].split()
    assert "75" not in unit["RestartPreventExitStatus"][0].split()


def test_the_readme_names_every_file_of_the_folder() -> None:
    """Who installs by the README installs all of it."""
    text = (DEPLOY / "README.md").read_text()
    for path in [DEPLOY / UNIT, *DROP_INS]:
        assert path.name in text
