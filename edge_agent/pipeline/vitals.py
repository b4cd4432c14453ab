"""What the pipeline tells the agent's vitals: readings, scans, freshness, and that every stage tries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from edge_agent.buffer import Delivery, Journal
from edge_agent.pipeline.machine import MachineLine
from edge_agent.pipeline.observer import Observer
from edge_agent.pipeline.sampler import LONGEST_RETRY
from edge_agent.types import Priority, Quality, Record, SampleBatch
from edge_agent.vitals import MachineVitals, Progress, ScanVitals, Vitals

GRACE = 30.0
"""Seconds a sampler may be silent beyond three of its periods: a slow connect is a try, not a stall."""


class PipelineVitals(Observer):
    """Counts for `Vitals`; cheap, per scan."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self._machines: dict[str, tuple[MachineVitals, ScanVitals, Progress, MachineLine]] = {}

    def watch_machine(self, line: MachineLine) -> None:
        """Count one machine's scans, and watch that its sampler tries."""
        machine = self._vitals.machine(line.name)
        scans = machine.group(len(line.tags))
        period = line.sampler.state.slowest_period
        progress = self._vitals.watchdog.stage(
            f"sampler:{line.name}", lambda: 3 * period + GRACE + 1.2 * LONGEST_RETRY
        )
        line.sampler.on_try = self._tried(machine, scans, progress, line)
        self._machines[line.name] = (machine, scans, progress, line)
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
        qualities = [status.quality for status in batch.statuses.values()]
        bad = qualities.count(Quality.BAD)
        uncertain = qualities.count(Quality.UNCERTAIN)
        found[0].readings(batch.timestamp, len(batch.names) - bad - uncertain, uncertain, bad)

    def committed(self, batch: SampleBatch) -> None:
        """Note how far the machine's data has come."""
        if (found := self._machines.get(batch.machine)) is not None:
            found[0].committed = max(found[0].committed, batch.timestamp)

    def delivered(self, records: Sequence[Record]) -> None:
        """Note how far each machine's data is where it was going: to the commit of the newest record.

        A commit comes after its readings, so what is acknowledged is never newer than what was committed.
        """
        for record in records:
            found = self._machines.get(record.machine)
            if found is not None and record.priority is Priority.TELEMETRY:
                newest = min(record.created, found[0].committed)
                found[0].acknowledged = max(found[0].acknowledged, newest)

    def scan(self, machine: str, seconds: float) -> None:
        """Count a scan."""
        if (found := self._machines.get(machine)) is not None:
            _vitals, scans, _progress, line = found
            scans.scanned(seconds, line.fanout.quality.counts()[0])
            scans.overruns = line.sampler.state.overruns

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
