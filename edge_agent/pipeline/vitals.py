"""What the pipeline tells the agent's vitals: readings, scans, freshness, and that every stage tries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent.buffer import Delivery, Journal
from edge_agent.pipeline.machine import MachineLine
from edge_agent.pipeline.observer import Observer
from edge_agent.pipeline.sampler import LONGEST_RETRY
from edge_agent.types import Priority, Quality, Record, SampleBatch
from edge_agent.vitals import MachineVitals, Progress, ScanVitals, TagFreshness, Vitals

GRACE = 30.0
"""Seconds a sampler may be silent beyond three of its periods: a slow connect is a try, not a stall."""
COMMIT_SILENCE = 120.0
"""Seconds that lines may wait for their commit while the disk does not say that it fails."""
STATUS_EVERY = 10.0
"""Seconds between looks at whether the retained status has changed ..."""
STATUS_AGAIN = 60.0
"""... and after which it is published anew all the same."""


@dataclass(slots=True)
class _Watched:
    """What is known of one machine, and when (loop time) each polled group brought its last batch."""

    vitals: MachineVitals
    scans: ScanVitals
    line: MachineLine
    group_of: dict[str, int] = field(default_factory=dict)
    looked: dict[int, float] = field(default_factory=dict)

    def silent_group(self) -> float:
        """Seconds by which a polled group is overdue while the machine answers; 0 where none is."""
        now = asyncio.get_running_loop().time()
        if not self.line.sampler.state.connected:
            self.looked.clear()
            return 0.0
        over = [
            now - self.looked.setdefault(number, now) - 3 * group.every - GRACE
            for number, group in enumerate(self.line.driver.groups)
            if not group.by_exception
        ]
        return max(0.0, *over) if over else 0.0


class PipelineVitals(Observer):
    """Counts for `Vitals`; cheap, per scan."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self._machines: dict[str, _Watched] = {}
        self._journal: Journal | None = None

    def watch_journal(self, journal: Journal) -> None:
        """Watch that what waits is committed; a disk that fails says so, is tried again, and is no stall."""
        self._journal = journal

        def waited() -> float:
            stats = journal.stats()
            if stats.error is not None or stats.waiting_since is None:
                return 0.0
            return asyncio.get_running_loop().time() - stats.waiting_since

        stage = self._vitals.watchdog.stage("journal", lambda: _allowed(stage, waited(), COMMIT_SILENCE))

    def watch_machine(self, line: MachineLine) -> None:
        """Count one machine's scans, and watch that its sampler tries."""
        machine = self._vitals.machine(line.name)
        scans = machine.group(len(line.tags))
        period = line.sampler.state.slowest_period
        progress = self._vitals.watchdog.stage(
            f"sampler:{line.name}", lambda: 3 * period + GRACE + 1.2 * LONGEST_RETRY
        )
        line.sampler.on_try = self._tried(machine, scans, progress, line)
        machine.freshness = TagFreshness(tag.name for tag in line.tags)
        watched = _Watched(machine, scans, line)
        for number, group in enumerate(line.driver.groups):
            watched.group_of |= dict.fromkeys(group.names, number)
        self._machines[line.name] = watched
        tags = self._vitals.watchdog.stage(
            f"tags:{line.name}", lambda: _allowed(tags, watched.silent_group(), 1.0)
        )
        if line.scoring is not None:
            self._vitals.queue(f"health:{line.name}", lambda: line.scoring.waiting if line.scoring else 0)

    def watch_delivery(self, delivery: Delivery, journal: Journal, silence: float) -> None:
        """Watch that the sink's loop tries while rows wait for it, and show how it is doing."""
        sink = self._vitals.sink(delivery.sink)

        def refresh() -> None:
            sink.up = delivery.error is None and delivery.last_success is not None
            sink.reason = delivery.error or ("" if sink.up else "nothing delivered yet")
            sink.delivered, sink.failures = delivery.delivered_records, delivery.failed_tries
            stats = journal.stats()
            sink.rejected = max(delivery.quarantined_records, stats.quarantined)
            for reason, count in stats.dropped.items():
                self._vitals.dropped[f"{delivery.sink}_{reason}"] = count

        self._vitals.before_look.append(refresh)
        # The stage is idle by itself; the allowance is asked at every look, which is where waiting is judged.
        stage = self._vitals.watchdog.stage(
            f"forward:{delivery.sink}", lambda: _allowed(stage, _silence(delivery, journal), silence)
        )

    def watch_intake(self, dropped: Mapping[str, int]) -> None:
        """Show the messages that the historian dropped, by reason."""

        def refresh() -> None:
            for reason, count in dropped.items():
                self._vitals.dropped[f"historian_{reason}"] = count

        self._vitals.before_look.append(refresh)

    def batch(self, batch: SampleBatch) -> None:
        """Count the readings of a batch."""
        if (found := self._machines.get(batch.machine)) is None:
            return
        bad = _bad(batch)
        uncertain = sum(status.quality is Quality.UNCERTAIN for status in batch.statuses.values())
        good = len(batch.names) - len(bad) - uncertain
        found.vitals.readings(batch.timestamp, good, uncertain, len(bad))
        found.vitals.freshness.read(batch.names, batch.timestamp, bad)
        if (group := found.group_of.get(batch.names[0])) is not None:
            found.looked[group] = asyncio.get_running_loop().time()

    def committed(self, batch: SampleBatch) -> None:
        """Note how far the machine's data has come."""
        if (found := self._machines.get(batch.machine)) is None:
            return
        found.vitals.committed = max(found.vitals.committed, batch.timestamp)
        if self._journal is not None:
            rows = self._journal.last_commit
            found.vitals.freshness.committed(batch.names, batch.timestamp, _bad(batch), rows)

    def delivered(self, records: Sequence[Record]) -> None:
        """Note how far each machine's data is where it was going: to the commit of the newest record.

        A commit comes after its readings, so what is acknowledged is never newer than what was committed.
        """
        for record in records:
            found = self._machines.get(record.machine)
            if found is not None and record.priority is Priority.TELEMETRY:
                vitals = found.vitals
                vitals.acknowledged = max(vitals.acknowledged, min(record.created, vitals.committed))
                vitals.freshness.acknowledged(record.seq)

    async def report(self, tell: Callable[[Mapping[str, Any]], None]) -> None:
        """Have the agent's status told when it changes, and now and then, until cancelled."""
        loop = asyncio.get_running_loop()
        last: Any = None
        told = float("-inf")
        while True:
            summary = self._vitals.summary()
            level = summary["buffer"]
            news = {**summary, "buffer": level["fill"]}
            if news != last or loop.time() - told > STATUS_AGAIN:
                tell(summary)
                last, told = news, loop.time()
            await asyncio.sleep(STATUS_EVERY)

    def scan(self, machine: str, seconds: float) -> None:
        """Count a scan."""
        if (found := self._machines.get(machine)) is not None:
            found.scans.scanned(seconds, found.line.fanout.quality.counts()[0])
            found.scans.overruns = found.line.sampler.state.overruns

    def dropped(self, reason: str, count: int = 1) -> None:
        """Count a loss."""
        self._vitals.drop(reason, count)

    @staticmethod
    def _tried(
        machine: MachineVitals, scans: ScanVitals, progress: Progress, line: MachineLine
    ) -> Callable[[], None]:
        def tried() -> None:
            progress.tick()
            machine.tried = True
            machine.reachable = line.sampler.state.connected
            scans.failures = line.sampler.state.failures
            scans.good_now = line.fanout.quality.counts()[0]

        return tried


def _bad(batch: SampleBatch) -> Sequence[int]:
    """The columns without a value."""
    if not batch.statuses:
        return ()
    return [column for column, status in batch.statuses.items() if status.quality is Quality.BAD]


def _silence(delivery: Delivery, journal: Journal) -> float:
    """Seconds since the sink's loop last tried, while rows wait and it is not in a pause of its own."""
    now = asyncio.get_running_loop().time()
    if not journal.stats().rows or (delivery.next_try is not None and delivery.next_try > now):
        return 0.0
    tried = max(delivery.last_try or 0.0, delivery.next_try or 0.0)
    return now - tried if tried else 0.0


def _allowed(stage: Progress, silent: float, silence: float) -> float:
    """An allowance that is over exactly when the loop has been silent for too long."""
    if silent <= silence:
        stage.tick()
        return silence
    return 0.0
