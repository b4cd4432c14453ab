"""The asyncio face of the journal: cheap appends, group commit, cursors; the disk is another thread's work.

What `append` has answered with a resolved future is on the medium (SQLite WAL, `synchronous=FULL`), and stays
until every reader has acknowledged it, or the configured size or age is reached, which is counted.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from edge_agent.buffer.commits import RETRY_FIRST, GroupCommit, Worker, failed
from edge_agent.buffer.reader import Reader
from edge_agent.buffer.rows import Batch, Lane, Outcome, Quarantined, RowKey
from edge_agent.buffer.store import Store
from edge_agent.clock import SECOND, Clock
from edge_agent.errors import StoreError
from edge_agent.settings.models import BufferSettings
from edge_agent.types import Priority, Record

log = logging.getLogger(__name__)

AGE_CHECK = 60.0
"""Seconds between looks for rows over their age."""
CLOCK_STEP = 3600.0
"""A clock that moves this many seconds more or less than it should was set: ages are then not believed ..."""
CLOCK_TRUST = 86_400.0
"""... for this long, so that a wrong clock drops nothing."""


@dataclass(frozen=True, slots=True)
class JournalStats:
    """Figures of a journal; `rows`, `bytes` and `oldest` are of what is on disk and not yet acknowledged."""

    rows: int
    bytes: int
    oldest: int | None
    """UTC ns at which the oldest row was committed."""
    newest: int
    """Sequence number of the newest row."""
    commits: int
    committed_rows: int
    committed_lines: int
    dropped: Mapping[str, int]
    """Lines lost, by reason: full_oldest, full_rejected, too_old, memory_full, damaged ... Kept for ever."""
    quarantined: int
    """Rows in quarantine."""
    bytes_written: int
    """Bytes sent to the medium since the start."""
    packed: int
    """Bytes of the rows committed since the start: what piles up while nobody takes them."""
    uptime: float
    """Seconds since the start."""
    waiting_bytes: int
    """Bytes of lines that are not committed yet."""
    waiting_since: float | None
    """Loop time (seconds, monotonic) of the oldest lines that are not committed yet."""
    error: str | None
    """Why commits fail at the moment."""


NEWEST = 2**63 - 1
MOST_SAID = 100
"""Reasons for setting lines apart that are logged; a flood of new ones is only counted."""


class Journal:
    """A durable queue of lines for a fixed set of named readers (`readers`), in the file `path`.

    `eager`: the first append after idle time commits at once; without it everything but alarms and urgent
    lines waits for `flush` or the commit interval. A reader that is no longer named loses its place.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        settings: BufferSettings,
        *,
        readers: Sequence[str] = ("sink",),
        eager: bool = True,
    ) -> None:
        self.path = path
        self._clock = clock
        self._settings = settings
        self._eager = eager
        self._readers = {name: Reader(self, name) for name in readers}
        reject_new = settings.on_full == "reject_new"
        self._store = Store(path, max_size=settings.max_size, reject_new=reject_new, readers=readers)
        self._worker = Worker()
        self._group: GroupCommit | None = None
        self._counts: Counter[str] = Counter()
        self._said: set[str] = set()
        self._age = _Age(clock, settings.max_age)
        self._purge: asyncio.Task[None] | None = None
        self._opened = time.monotonic()
        self.last_commit = range(0)
        """Sequence numbers of the last commit's rows; what its futures' callbacks see is their own commit."""

    async def open(self) -> None:
        """Lock and open the file, and take over what a damaged one still holds.

        TemporaryError where another process has it (its pid is named), StoreError where it cannot be written.
        """
        self._opened = time.monotonic()
        await self._worker.call(self._store.open, self._clock.now())
        self._group = GroupCommit(
            self._store,
            self._worker,
            self._clock,
            self._settings.commit_interval,
            eager=self._eager,
            committed=self._committed,
        )
        self._age.start()

    async def close(self) -> None:
        """Commit what waits and close the file; harmless where it is not open."""
        group, self._group = self._group, None
        if group is not None:
            await group.close()
            if self._purge is not None:
                await asyncio.wait([self._purge])
            await self._worker.call(self._store.close)
        self._worker.stop()

    async def __aenter__(self) -> Journal:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- writing

    def append(
        self,
        machine: str,
        lines: bytes,
        priority: Priority = Priority.TELEMETRY,
        *,
        urgent: bool = False,
        source: str = "",
    ) -> asyncio.Future[None]:
        """Take one or more lines (without a line end after the last) of one machine.

        The future is shared by the appends of a commit and resolves when they are on the medium. It fails
        with StoreError where they are not kept: the journal is full (`reject_new`), or its disk has failed
        for so long that memory is full; both are counted. Alarms and `urgent` lines commit at once.
        """
        if self._group is None:
            return failed(f"the journal {self.path} is not open")
        at_once = urgent or priority is Priority.ALARM
        return self._group.lines(RowKey(machine, priority, source), lines, at_once=at_once)

    def acknowledge(self, reader: str, seqs: list[int]) -> asyncio.Future[None]:
        """Used by `Reader.ack`."""
        if self._group is None:
            return failed(f"the journal {self.path} is not open")
        return self._group.acknowledged(reader, seqs)

    def quarantine(self, record: Record, lines: bytes, reason: str) -> asyncio.Future[None]:
        """Keep lines that a sink refused for good; durable no later than later acknowledgements."""
        if self._group is None:
            return failed(f"the journal {self.path} is not open")
        if reason not in self._said and len(self._said) < MOST_SAID:
            self._said.add(reason)
            log.warning("lines of %s are set apart for good (said once): %s", record.machine, reason)
        return self._group.set_apart(record, lines, reason)

    def count_loss(self, reason: str, lines: int) -> None:
        """Count lines that were lost before they came here; kept over restarts."""
        if self._group is not None:
            self._group.count_loss(reason, lines)

    async def flush(self) -> None:
        """Commit what waits now; returns when it is on the medium, or a commit has failed."""
        if self._group is not None:
            await self._group.flush()

    def _committed(self, outcome: Outcome) -> None:
        self._counts.update(commits=1, rows=outcome.rows, lines=outcome.lines)
        self.last_commit = range(self.newest + 1 - outcome.rows, self.newest + 1)
        for reader in self._readers.values():
            reader.wake()
        if self._purge is None and (before := self._age.limit()) is not None:
            self._purge = asyncio.get_running_loop().create_task(self._drop_older(before))

    async def _drop_older(self, before: int) -> None:
        try:
            while await self._worker.call(self._store.drop_older, before):
                log.warning("rows over max_age were dropped from %s", self.path)
        except (sqlite3.Error, OSError) as error:
            log.error("rows over max_age could not be dropped: %s", error)
        finally:
            self._purge = None

    # --- reading

    def reader(self, name: str = "sink") -> Reader:
        """The cursor of that name. KeyError where it was not named when the journal was made."""
        return self._readers[name]

    async def read(
        self, reader: str, lanes: Sequence[Lane], skip: Collection[int], max_bytes: int, max_records: int
    ) -> Batch:
        """Used by `Reader.fetch`."""
        while True:
            try:
                return await self._worker.call(self._store.fetch, reader, lanes, skip, max_bytes, max_records)
            except (sqlite3.Error, OSError) as error:
                log.error("reading %s failed: %s; trying again on a fresh handle", self.path, error)
            await asyncio.sleep(RETRY_FIRST)
            try:
                await self._worker.call(self._store.reopen, self._clock.now())
            except (sqlite3.Error, OSError, StoreError) as error:
                log.error("%s", error)

    async def quarantined(self, limit: int = 100, before: int = NEWEST) -> list[Quarantined]:
        """The newest lines in quarantine; those with a number below `before`."""
        return await self._worker.call(self._store.quarantine, limit, before)

    async def retry_quarantined(self, found: Sequence[Quarantined]) -> None:
        """Put lines from quarantine back into the journal, to be delivered again under new numbers.

        A crash in between leaves them in both, which is harmless. StoreError where the journal is full.
        """
        alarm, telemetry = Priority.ALARM, Priority.TELEMETRY
        back = [
            self.append(
                one.machine,
                one.lines,
                alarm if one.lines.startswith(b"alarms,") else telemetry,
                source=one.source,
            )
            for one in found
        ]
        await self.flush()
        await asyncio.gather(*back)
        await self._worker.call(partial(self._store.release, found, lost=False))

    async def drop_quarantined(self, found: Sequence[Quarantined]) -> None:
        """Give lines in quarantine up; they are counted as lost."""
        await self._worker.call(partial(self._store.release, found, lost=True))

    @property
    def newest(self) -> int:
        """The sequence number of the newest committed row."""
        return self._store.next_seq - 1

    def stats(self) -> JournalStats:
        """The journal's figures; cheap, and safe to call from the loop at any time."""
        store, group = self._store, self._group
        return JournalStats(
            rows=store.rows,
            bytes=store.size,
            oldest=store.oldest,
            newest=self.newest,
            commits=self._counts["commits"],
            committed_rows=self._counts["rows"],
            committed_lines=self._counts["lines"],
            dropped=store.dropped + group.waiting_drops if group else Counter(store.dropped),
            quarantined=store.quarantined,
            bytes_written=store.bytes_written,
            packed=store.packed,
            uptime=time.monotonic() - self._opened,
            waiting_bytes=group.waiting_bytes if group else 0,
            waiting_since=group.waiting_since if group else None,
            error=group.error if group else "not open",
        )


class _Age:
    """Says when rows are too old, unless the clock was set: then age means nothing for a day."""

    def __init__(self, clock: Clock, max_age: float) -> None:
        self._clock = clock
        self._max_age = max_age

    def start(self) -> None:
        """Begin to watch the clock."""
        self._checked = asyncio.get_running_loop().time()
        self._seen = self._clock.now()
        self._distrust_until = float("-inf")

    def limit(self) -> int | None:
        """Rows created before this (UTC ns) are to be dropped; None where it is not time to look."""
        loop_now, now = asyncio.get_running_loop().time(), self._clock.now()
        passed = loop_now - self._checked
        if passed < AGE_CHECK / self._clock.rate:
            return None
        stepped = abs((now - self._seen) / SECOND - passed * self._clock.rate) > CLOCK_STEP
        self._checked, self._seen = loop_now, now
        if stepped:
            log.warning("the clock was set: no rows are dropped for their age for a day")
            self._distrust_until = loop_now + CLOCK_TRUST / self._clock.rate
        if loop_now < self._distrust_until:
            return None
        return now - int(self._max_age * SECOND)
