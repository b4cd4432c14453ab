"""Chaos: faults come at random from a seed to a site of real processes; then calm, then the oracle.

Several faults may hold at a time, each on something else: the agent, the historian, the broker, the store,
the line to a machine, the disk.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.prove import device, oracle
from tests.prove.oracle import Verdict
from tests.prove.site import PERIOD, SPARED, STRUCK, Site, Store

TMPFS = 96
"""MiB of the small file system that is filled."""
HEAL_DISK = 10.0
"""Seconds within which the journal commits again on a disk that has room."""
LINE = (
    "cut", "refuse", "delay", "lose", "swallow", "trickle", "duplicate",
    *(mode for mode in device.MODES if mode != "honest"),
)  # fmt: skip
"""What may happen to the line to a machine and to the device behind it."""


@dataclass
class Report:
    """What came to pass."""

    verdict: Verdict
    faults: Counter[str] = field(default_factory=Counter)
    heal: float = 0.0
    """Seconds from the last fault's end until every machine's readings were stored again."""
    late: float = 0.0
    """Seconds by which 99 % of the spared machine's scans were late at most, while the agent ran."""
    skipped: str = ""
    """What could not be tried here, and why."""
    seconds: float = 0.0


class Fault(NamedTuple):
    """A fault that holds: on what, until when, and how it ends."""

    target: str
    until: float
    end: Callable[[], None]


class Chaos:
    """Makes faults on `site` from `seed`."""

    def __init__(self, site: Site, seed: int, *, disk: bool) -> None:
        self._site = site
        self._rng = random.Random(seed)
        self._holding: list[Fault] = []
        self._targets = ["agent", "historian", "broker", "line", "line"]
        self._targets += ["store"] if site.influx is not None else []
        self._targets += ["disk"] if disk else []
        self.faults: Counter[str] = Counter()

    def rage(self, seconds: float) -> None:
        """Faults for `seconds`; all have ended when it returns."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            self._expire(now)
            self._begin(now, end)
            time.sleep(self._rng.uniform(0.1, 0.8))
        self._expire(float("inf"))

    def _expire(self, now: float) -> None:
        for fault in [fault for fault in self._holding if fault.until <= now]:
            self._holding.remove(fault)
            fault.end()

    def _begin(self, now: float, end: float) -> None:
        target = self._rng.choice(self._targets)
        held = {fault.target for fault in self._holding}
        # A process that is killed while its disk is full takes with it what the disk did not take: that is
        # within the promise, but more than a commit interval, and nothing could be told apart any more.
        blocked = {"disk": {"agent", "historian"}, "agent": {"disk"}, "historian": {"disk"}}.get(
            target, set()
        )
        if target in held or held & blocked:
            return
        kind, undo = getattr(self, f"_{target}")()
        self.faults[f"{target} {kind}"] += 1
        until = min(end, now + self._rng.uniform(0.3, 4.0))
        self._holding.append(Fault(target, until, undo))

    def _agent(self) -> tuple[str, Callable[[], None]]:
        if self._rng.random() < 0.5:
            self._site.agent.kill()
            return "killed", self._site.agent.start
        self._site.agent.freeze(frozen=True)
        return "frozen", lambda: self._site.agent.freeze(frozen=False)

    def _historian(self) -> tuple[str, Callable[[], None]]:
        if self._rng.random() < 0.5:
            self._site.historian.kill()
            return "killed", self._site.historian.start
        self._site.historian.freeze(frozen=True)
        return "frozen", lambda: self._site.historian.freeze(frozen=False)

    def _broker(self) -> tuple[str, Callable[[], None]]:
        if self._rng.random() < 0.5:
            self._site.broker.stop(signal.SIGKILL)
            return "killed", self._site.broker.start
        self._site.broker.freeze(frozen=True)
        return "frozen", lambda: self._site.broker.freeze(frozen=False)

    def _store(self) -> tuple[str, Callable[[], None]]:
        assert self._site.influx is not None
        self._site.influx.stop(signal.SIGKILL)
        return "killed", self._site.influx.start

    def _disk(self) -> tuple[str, Callable[[], None]]:
        ballast = self._site.state / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        return "full", self._free

    def _free(self) -> None:
        """Room again; what waited in the agent's memory must soon be on the disk."""
        (self._site.state / "ballast").unlink()
        self._site.acknowledging(HEAL_DISK)

    def _line(self) -> tuple[str, Callable[[], None]]:
        kind = self._rng.choice(LINE)
        if kind in device.MODES:
            self._site.behave(kind)
            return kind, lambda: self._site.behave("honest")
        proxy, call = self._site.proxy, self._site.loop.call
        up, down = proxy.to_server, proxy.to_client
        if kind == "cut":
            call(proxy.cut)
        elif kind == "refuse":
            self._site.loop.run(proxy.refuse())
            call(proxy.cut)
            return kind, lambda: self._site.loop.run(proxy.listen())
        elif kind == "delay":
            down.delay, down.jitter = 0.2, 0.4
        elif kind == "lose":
            # Whole segments only: Modbus TCP has no checksum of its own, because TCP has one.
            up.drop = down.drop = 0.3
        elif kind == "duplicate":
            down.duplicate = 0.5
        elif kind == "swallow":
            down.swallow = True
        else:
            down.trickle = 0.02
        return kind, proxy.clear


def campaign(folder: Path, seconds: float, seed: int, *, store: Store = "embedded") -> Report:
    """Chaos for `seconds`, calm, and the oracle's word."""
    began = time.monotonic()
    with small_disk(folder) as (state, skipped), Site(folder, store=store, seed=seed, state=state) as site:
        site.agent.start()
        site.flowing(SPARED)
        chaos = Chaos(site, seed, disk=not skipped)
        chaos.rage(seconds)
        calm = time.time()
        heal = max(site.flowing(machine, since=calm, seconds=90) for machine in (SPARED, STRUCK))
        site.settle(90)
        verdict = site.verdict()
        served = list(device.served(site.served_log))
        ends = site.agent.ends + site.agent.stops
        gaps = oracle.lateness(served, SPARED, PERIOD)
        # The longest gaps are those while the agent was killed or frozen.
        steady = gaps[: len(gaps) - 2 * ends] or gaps
        late = steady[int(0.99 * (len(steady) - 1))]
        return Report(verdict, chaos.faults, heal, late, skipped, time.monotonic() - began)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[tuple[Path, str]]:
    """A small file system for the agent's state; without root a folder, and why it is none."""
    state = folder / "state"
    state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS}m", "edge-agent-prove", str(state)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        yield state, f"no full disk: {done.stderr.strip() or 'mount failed'}"
        return
    try:
        yield state, ""
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)
