"""A named cursor over the journal: what its sink has not acknowledged yet, alarms first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edge_agent.types import Priority, Record

if TYPE_CHECKING:
    from edge_agent.buffer.journal import Journal


class Reader:
    """One sink's view of the journal; `Journal.reader` makes it. For one task at a time."""

    def __init__(self, journal: Journal, name: str) -> None:
        self.name = name
        self._journal = journal
        self._positions = dict.fromkeys(Priority, 0)
        self._held: dict[int, Priority] = {}
        self._acked: set[int] = set()
        self._complete = 0
        self._fresh = asyncio.Event()

    @property
    def newest(self) -> int:
        """The sequence number of the newest committed row; 0 before the first."""
        return self._journal.newest

    async def fetch(self, max_bytes: int = 1024 * 1024, max_records: int = 256) -> list[Record]:
        """The next records; waits until there is one, stops after the one that fills `max_bytes`.

        Alarms come before telemetry, otherwise in the order of commits; each is given once until `rewind`.
        """
        while True:
            self._fresh.clear()
            if self._complete < self._journal.newest and (
                records := await self._read(max_bytes, max_records)
            ):
                return records
            if self._complete >= self._journal.newest:
                await self._fresh.wait()

    async def _read(self, max_bytes: int, max_records: int) -> list[Record]:
        positions = (self._positions[Priority.ALARM], self._positions[Priority.TELEMETRY])
        batch = await self._journal.read(self.name, positions, frozenset(self._acked), max_bytes, max_records)
        for record in batch.records:
            self._positions[record.priority] = record.seq
            self._held[record.seq] = record.priority
        self._complete = max(self._complete, batch.complete)
        return batch.records

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
        for seq, priority in self._held.items():
            self._positions[priority] = min(self._positions[priority], seq - 1)
        if self._held:
            self._complete = 0
        self._held.clear()

    def wake(self) -> None:
        """Called by the journal after a commit."""
        self._fresh.set()
