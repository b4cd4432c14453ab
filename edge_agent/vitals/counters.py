"""The agent's own counters and freshness, as plain numbers: an increment costs an addition, no lock.

All of it is touched from the event loop only. `prometheus-client` is loaded when /metrics is asked for
(metrics.py), so that an agent without `web` does not pay for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from edge_agent.clock import SECOND, Clock, iso
from edge_agent.vitals.freshness import STAGES, TagFreshness
from edge_agent.vitals.watchdog import Watchdog

BUCKETS = (0.005, 0.02, 0.1, 0.5, 2.0)
"""Upper edges of the poll durations, in seconds."""


class BufferLevel(NamedTuple):
    """How full the journal is."""

    bytes: int = 0
    max_bytes: int = 0
    rows: int = 0
    oldest: int | None = None
    """When the oldest row was made (UTC, ns); None where there is none."""

    @property
    def fill(self) -> float:
        """Share of the size cap, 0 to 1."""
        return self.bytes / self.max_bytes if self.max_bytes else 0.0


class ScanVitals:
    """One read group of a machine: scans, overruns, failures, durations, and how many tags are good now."""

    __slots__ = ("durations", "failures", "good_now", "overruns", "scans", "seconds", "tags")

    def __init__(self, tags: int) -> None:
        self.tags = tags
        self.good_now = 0
        """Tags with a good value now; `scanned` sets it, a subscription may say better."""
        self.scans = 0
        self.overruns = 0
        self.failures = 0
        self.durations = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def scanned(self, seconds: float, good: int) -> None:
        """A scan took `seconds` and left `good` tags with a good value."""
        self.scans += 1
        self.good_now = good
        self.seconds += seconds
        self.durations[bisect_left(BUCKETS, seconds)] += 1

    def failed(self) -> None:
        """A scan failed as a whole."""
        self.failures += 1
        self.good_now = 0

    def overran(self) -> None:
        """A scan could not begin on time because the one before took too long."""
        self.overruns += 1


class MachineVitals:
    """One machine: its read groups, readings by quality, and how far its newest data has come."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.groups: list[ScanVitals] = []
        self.good = 0
        self.uncertain = 0
        self.bad = 0
        self.tried = False
        self.reachable = False
        self.read = 0
        """Timestamp (UTC, ns) of the newest reading; 0: none yet. The next two are as far as it came."""
        self.committed = 0
        self.acknowledged = 0
        self.freshness = TagFreshness(())
        """The same for each tag."""

    def group(self, tags: int) -> ScanVitals:
        """Register a read group of so many tags."""
        scan = ScanVitals(tags)
        self.groups.append(scan)
        return scan

    def readings(self, ns: int, good: int, uncertain: int, bad: int) -> None:
        """A batch stamped `ns` brought so many readings."""
        self.good += good
        self.uncertain += uncertain
        self.bad += bad
        if good or uncertain:
            self.read = max(self.read, ns)

    @property
    def tags(self) -> int:
        """How many tags are read."""
        return sum(group.tags for group in self.groups)

    @property
    def good_now(self) -> int:
        """How many tags have a good value now."""
        return sum(group.good_now for group in self.groups)


class SinkVitals:
    """One sink: whether it takes records now, and how many it took, refused and failed to take."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = False
        self.delivered = 0
        self.rejected = 0
        self.failures = 0
        self.reason = "not tried yet"

    def took(self, records: int) -> None:
        """It has confirmed so many records."""
        self.delivered += records
        self.up, self.reason = True, ""

    def refused(self, records: int) -> None:
        """It will never take these records: they are quarantined."""
        self.rejected += records

    def away(self, reason: str) -> None:
        """It cannot take records now, and why."""
        self.failures += 1
        self.up, self.reason = False, reason


class Vitals:
    """Everything the agent knows about itself. `version` is its own, `clock` tells the age of data."""

    def __init__(self, clock: Clock, version: str) -> None:
        self.clock = clock
        self.version = version
        self.started = clock.now()
        self.watchdog = Watchdog()
        self.machines: dict[str, MachineVitals] = {}
        self.sinks: dict[str, SinkVitals] = {}
        self.queues: dict[str, Callable[[], int]] = {}
        self.dropped: Counter[str] = Counter()
        """Readings lost, by reason."""
        self.before_look: list[Callable[[], None]] = []
        """Called before anybody looks: where figures are copied from those who keep them."""
        self.buffer: Callable[[], BufferLevel] | None = None
        """Asks the journal; None until it is open."""

    def machine(self, name: str) -> MachineVitals:
        """The vitals of a machine, made at the first call."""
        return self.machines.setdefault(name, MachineVitals(name))

    def sink(self, name: str) -> SinkVitals:
        """The vitals of a sink, made at the first call."""
        return self.sinks.setdefault(name, SinkVitals(name))

    def queue(self, name: str, depth: Callable[[], int]) -> None:
        """Register a queue between two stages by a function that tells its depth."""
        self.queues[name] = depth

    def drop(self, reason: str, readings: int) -> None:
        """So many readings are lost for `reason`: never silently."""
        self.dropped[reason] += readings

    def age(self, ns: int) -> float | None:
        """Seconds since `ns`; None for 0 (never)."""
        return max(0.0, (self.clock.now() - ns) / SECOND) if ns else None

    def look(self) -> None:
        """Bring every figure up to date."""
        for refresh in self.before_look:
            refresh()

    def status(self) -> str:
        """One line for systemd: `42/45 tags good, buffer 0.2 %, oldest 3 s`."""
        self.look()
        good = sum(machine.good_now for machine in self.machines.values())
        tags = sum(machine.tags for machine in self.machines.values())
        text = f"{good}/{tags} tags good"
        if self.buffer is None:
            return f"{text}, buffer not open"
        level = self.buffer()
        text += f", buffer {level.fill:.1%}".replace("%", " %")
        if level.oldest is not None:
            text += f", oldest {self.age(level.oldest) or 0.0:.0f} s"
        if lost := sum(self.dropped.values()):
            text += f", {lost} readings dropped"
        return text

    def readiness(self) -> dict[str, Any]:
        """What /readyz tells: ready once the buffer is open and every machine was tried at least once."""
        self.look()
        level = self.buffer() if self.buffer is not None else None
        machines = {name: self._machine_state(machine) for name, machine in self.machines.items()}
        untried = [name for name, machine in self.machines.items() if not machine.tried]
        return {
            "ready": level is not None and not untried,
            "status": self.status(),
            "buffer": self._buffer_state(level),
            "machines": machines,
            "sinks": {
                name: {"up": sink.up, "reason": sink.reason, "delivered": sink.delivered}
                for name, sink in self.sinks.items()
            },
        }

    def freshness(self, machine: str | None = None) -> dict[str, Any]:
        """What /api/v1/freshness tells: how far each tag's newest value has come. KeyError for a stranger."""
        wanted = self.machines if machine is None else {machine: self.machines[machine]}
        found = {}
        for name, vitals in wanted.items():
            tags = vitals.freshness.tags()
            found[name] = {
                tag: {stage: iso(ns) if ns else None for stage, ns in zip(STAGES, times, strict=True)}
                for tag, times in tags.items()
            }
        return {"machines": found}

    def oldest_ages(self, machine: MachineVitals) -> dict[str, float]:
        """stage -> age (s) of the tag that is furthest behind; of one that never came, since the start."""
        now = self.clock.now()
        oldest = machine.freshness.oldest()
        return {stage: max(0.0, (now - (ns or self.started)) / SECOND) for stage, (_, ns) in oldest.items()}

    def summary(self) -> dict[str, Any]:
        """The agent in a few words, for its retained status: buffer, sinks, who is away, what is stalled."""
        self.look()
        level = self.buffer() if self.buffer is not None else BufferLevel()
        oldest = None if level.oldest is None else round(self.age(level.oldest) or 0.0)
        return {
            "tags": sum(machine.tags for machine in self.machines.values()),
            "tags_good": sum(machine.good_now for machine in self.machines.values()),
            "machines_away": [name for name, one in self.machines.items() if one.tried and not one.reachable],
            "buffer": {"fill": round(level.fill, 3), "rows": level.rows, "oldest_seconds": oldest},
            "sinks": {name: "up" if sink.up else sink.reason for name, sink in self.sinks.items()},
            "dropped": sum(self.dropped.values()),
            "stalled": list(self.watchdog.late()),
        }

    def _machine_state(self, machine: MachineVitals) -> dict[str, Any]:
        return {
            "tried": machine.tried,
            "reachable": machine.reachable,
            "tags": machine.tags,
            "tags_good": machine.good_now,
            "read": iso(machine.read) if machine.read else None,
            "committed": iso(machine.committed) if machine.committed else None,
            "acknowledged": iso(machine.acknowledged) if machine.acknowledged else None,
        }

    def _buffer_state(self, level: BufferLevel | None) -> dict[str, Any]:
        if level is None:
            return {"open": False}
        oldest = None if level.oldest is None else self.age(level.oldest)
        return {"open": True, "bytes": level.bytes, "rows": level.rows, "oldest_seconds": oldest}
