"""The agent and the historian are killed at every named failpoint."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.failpoints import NAMES
from tests.prove import points

TIMES = 3
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("process", ["agent", "historian"])
def test_a_kill_at_any_point_loses_nothing_acknowledged(tmp_path: Path, process: str) -> None:
    """The real process dies at each failpoint three times: all acknowledged is stored, nothing made up."""
    verdict, kills = points.campaign(
        tmp_path, TIMES, agent=process == "agent", historian=process == "historian"
    )
    assert kills >= TIMES * len(points.AGENT if process == "agent" else points.HISTORIAN)
    assert not any(verdict.found.values()), verdict.problems
    assert verdict.acknowledged > 100


def test_every_failpoint_is_somewhere() -> None:
    """The names that can be asked for are those in the code."""
    texts = [path.read_text() for path in (ROOT / "edge_agent").rglob("*.py")]
    found = {name for text in texts for name in re.findall(r'reached(?:_soon)?\("([a-z-]+)"\)', text)}
    assert found == set(NAMES)


def test_without_the_variable_nothing_happens() -> None:
    """A failpoint that nobody asked for does nothing; a foreign name neither."""
    code = "from edge_agent.failpoints import reached, reached_soon as s; reached('journal-synced'); s('x')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, env={"EDGE_AGENT_FAILPOINT": "somewhere:1"}
    )
