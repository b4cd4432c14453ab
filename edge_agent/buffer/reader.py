"""A named cursor over the journal: what its sink has not acknowledged yet, alarms first."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edge_agent.buffer.rows import Lane
from edge_agent.types import Priority, Record

if TYPE_CHECKING:
    from edge_agent.buffer.journal import Journal

_NEWEST = 2**63 - 1


class _Way(enum.Enum):
    """The ways out of the journal, the first first."""

    ALARM = enum.auto()
    LIVE = enum.auto()
    BACKLOG = enum.auto()


class Reader:
    """One sink's view of the journal; `Journal.reader` makes it. For one task at a time.

    Telemetry up to `backlog_until` is backlog and comes after what is newer, so that a long outage does not
    hold up what happens now. Order holds within the backlog and within what is live (DECISIONS 3).
    """

    def __init__(self, journal: Journal, name: str) -> None:
        self.name = name
        self.backlog_until = 0
        """The last sequence number that counts as backlog."""
        self._journal = journal
        self._positions = dict.fromkeys(_Way, 0)
        self._held: dict[int, _Way] = {}
        self._acked: set[int] = set()
        self._complete = 0
        self._fresh = asyncio.Event()

    @property
    def newest(self) -> int:
        """The sequence number of the newest committed row; 0 before the first."""
        return self._journal.newest

    async def fetch(
        self, max_bytes: int = 1024 * 1024, max_records: int = 256, *, backlog_from: float = 0.0
    ) -> list[Record]:
        """The next records; waits until there is one, stops after the one that fills `max_bytes`.

        Alarms, then live telemetry, then the backlog (not before loop time `backlog_from`), each in the order
        of commits; each record is given once until `rewind`.
        """
        loop = asyncio.get_running_loop()
        while True:
            self._fresh.clear()
            patient = loop.time() < backlog_from
            if self._complete < self._journal.newest:
                if records := await self._read(max_bytes, max_records, backlog=not patient):
                    return records
                if not patient and self._complete < self._journal.newest:
                    continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(backlog_from if patient else None):
                    await self._fresh.wait()

    async def _read(self, max_bytes: int, max_records: int, *, backlog: bool) -> list[Record]:
        places = self._positions
        live_after = max(places[_Way.LIVE], self.backlog_until)
        lanes = [
            Lane(Priority.ALARM, places[_Way.ALARM], _NEWEST),
            Lane(Priority.TELEMETRY, live_after, _NEWEST),
        ]
        if backlog:
            lanes.append(Lane(Priority.TELEMETRY, places[_Way.BACKLOG], self.backlog_until))
        batch = await self._journal.read(self.name, lanes, frozenset(self._acked), max_bytes, max_records)
        for record in batch.records:
            way = self._way(record)
            self._positions[way] = record.seq
            self._held[record.seq] = way
        if backlog:
            self._complete = max(self._complete, batch.complete)
        return batch.records

    def _way(self, record: Record) -> _Way:
        if record.priority is Priority.ALARM:
            return _Way.ALARM
        return _Way.BACKLOG if record.seq <= self.backlog_until else _Way.LIVE

    def ack(self, seqs: Iterable[int]) -> asyncio.Future[None]:
        """These records are where the sink keeps them. The future resolves when that is durable.

        Nobody needs to wait for it: after a crash before that moment they are delivered again. It goes to
        disk with the next commit, and the rows are deleted there when every reader has acknowledged them.
        """
        done = [seq for seq in seqs if self._held.pop(seq, None) is not None]
        self._acked.update(done)
        future = self._journal.acknowledge(self.name, done)
        future.add_done_callback(lambda _: self._acked.difference_update(done))
        return future

    def rewind(self) -> None:
        """Give every record that was fetched and not acknowledged again."""
        for seq, way in self._held.items():
            self._positions[way] = min(self._positions[way], seq - 1)
        if self._held:
            self._complete = 0
        self._held.clear()

    def fall_behind(self) -> None:
        """The sink is away: all that is committed is backlog now, and what it did not take comes again."""
        self.rewind()
        places = self._positions
        # Where the old backlog was done, the new one begins with what was live.
        if places[_Way.BACKLOG] >= self.backlog_until:
            places[_Way.BACKLOG] = max(places[_Way.LIVE], places[_Way.BACKLOG])
        self.backlog_until = places[_Way.LIVE] = self._journal.newest
        self._complete = 0

    def wake(self) -> None:
        """Called by the journal after a commit."""
        self._fresh.set()
