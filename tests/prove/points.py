"""SIGKILL at every named failpoint of the real processes, again and again on one site; then the oracle.

Each start of a process is told where it will die; the start after that is the restart.
"""

from __future__ import annotations

import time
from pathlib import Path

from edge_agent.failpoints import NAMES
from tests.prove.oracle import Verdict
from tests.prove.site import SPARED, Child, Site

AGENT = tuple(name for name in NAMES if not name.startswith("historian-"))
HISTORIAN = tuple(name for name in NAMES if not name.startswith("alarms-") and name != "journal-appended")
PATIENCE = 45.0
"""Seconds within which a process must come to its failpoint."""


class Missed(AssertionError):
    """A process did not come to its failpoint."""


def strike(child: Child, name: str, nth: int) -> None:
    """Start a process, which dies when it comes to `name` for the `nth` time."""
    child.start(EDGE_AGENT_FAILPOINT=f"{name}:{nth}")
    began = time.monotonic()
    code = child.died(PATIENCE)
    if code not in (-9, -14):
        raise Missed(f"{name}:{nth}: ended with {code} after {time.monotonic() - began:.1f} s")


def campaign(folder: Path, times: int, *, agent: bool = True, historian: bool = True) -> tuple[Verdict, int]:
    """Every failpoint `times` times, in both processes: the oracle's word, and how many kills."""
    with Site(folder) as site:
        if agent:
            for nth in range(1, times + 1):
                for name in AGENT:
                    strike(site.agent, name, nth)
        site.agent.start()
        site.flowing(SPARED)
        if historian:
            site.historian.kill()
            for nth in range(1, times + 1):
                for name in HISTORIAN:
                    strike(site.historian, name, nth)
            site.historian.start()
        site.flowing(SPARED, seconds=60)
        site.settle()
        kills = site.agent.ends + site.historian.ends
        return site.verdict(), kills
