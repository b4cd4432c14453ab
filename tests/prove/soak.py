"""A soak: machine, broker and historian go and come, again and again; nothing may grow.

Figures are those of the agent's process in /proc (`VmRSS`, open descriptors, threads); its tasks it counts
itself, beside the ledger (tests/prove/launch.py).
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.prove.oracle import Verdict
from tests.prove.processes import patiently
from tests.prove.site import SPARED, STRUCK, Site

WARM = 0.25
"""Part of the time after which memory has its size: caches, the WAL and the allocator's arenas are full."""
MORE_MEMORY = 5.0
"""MB that the second half may be above the first one after the warm-up."""


@dataclass
class Soak:
    """What a soak came to."""

    verdict: Verdict
    rounds: int = 0
    memory: float = 0.0
    """MB that the second half is above the first one after the warm-up."""
    descriptors: int = 0
    """The same of open descriptors ..."""
    tasks: int = 0
    """... and of tasks and threads."""
    megabytes: float = 0.0
    """RSS at the end."""
    samples: list[tuple[float, int, int]] = field(default_factory=list)

    @property
    def found(self) -> dict[str, int]:
        """What must be 0."""
        grown = {
            "MB grown": max(0, round(self.memory - MORE_MEMORY)),
            "descriptors grown": max(0, self.descriptors),
            "tasks grown": max(0, self.tasks),
        }
        return {**self.verdict.found, **grown}


POOLED = 16
"""Threads that pools may have, which make them when they are first needed and keep them."""


def _look(site: Site) -> tuple[float, int, int]:
    """RSS in MB, descriptors, and tasks with threads over POOLED, of the agent while everything is well."""
    assert site.agent.process is not None
    process = Path(f"/proc/{site.agent.process.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
    tasks = int((site.ledger.with_name("tasks")).read_text() or 0)
    return (
        int(status["VmRSS"].split()[0]) / 1024,
        len(os.listdir(process / "fd")),
        max(0, int(status["Threads"]) - POOLED) + tasks,
    )


def _round(site: Site) -> None:
    """Each part goes and comes once."""
    site.loop.run(site.proxy.refuse())
    site.loop.call(site.proxy.cut)
    site.broker.stop(signal.SIGKILL)
    time.sleep(0.3)
    patiently(site.broker.start)
    patiently(lambda: site.loop.run(site.proxy.listen()))
    site.behave("garbage")
    time.sleep(0.5)
    site.behave("honest")
    site.historian.kill()
    site.historian.start()
    now = time.time()
    for machine in (SPARED, STRUCK):
        site.flowing(machine, since=now, seconds=60)


def campaign(folder: Path, seconds: float) -> Soak:
    """Rounds for `seconds`."""
    with Site(folder) as site:
        site.agent.start()
        site.flowing(SPARED)
        samples: list[tuple[float, int, int]] = []
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            _round(site)
            time.sleep(0.5)
            samples.append(_look(site))
        site.settle()
        return _judged(site.verdict(), samples)


def _judged(verdict: Verdict, samples: list[tuple[float, int, int]]) -> Soak:
    after = samples[int(WARM * len(samples)) :]
    half = len(after) // 2
    early, late = after[: half or 1], after[half:]

    def grown(column: int) -> float:
        return statistics.median(one[column] for one in late) - statistics.median(
            one[column] for one in early
        )

    return Soak(
        verdict,
        rounds=len(samples),
        memory=grown(0),
        # A connection on its way may hold one more; what leaks is more in every later round.
        descriptors=min(one[1] for one in late) - max(one[1] for one in early),
        tasks=min(one[2] for one in late) - max(one[2] for one in early),
        megabytes=samples[-1][0],
        samples=samples,
    )
