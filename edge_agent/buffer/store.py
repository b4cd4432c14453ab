"""The journal's worker side: one SQLite connection, used from one thread at a time, never from the loop."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from edge_agent.buffer import database
from edge_agent.buffer.lock import FileLock
from edge_agent.buffer.rows import Batch, Commit, Lane, Outcome, Quarantined, Row, pack, split, unpack
from edge_agent.buffer.table import Records
from edge_agent.errors import StoreError
from edge_agent.failpoints import reached, reached_soon
from edge_agent.types import Priority, Record

log = logging.getLogger(__name__)

T = TypeVar("T")

_OLD_STEP = 10_000
"""Rows dropped for their age in one transaction."""
_EXACT_COUNT_BYTES = 64 * 1024**2
"""Files up to this size are counted row by row at start; larger ones by their sequence numbers."""
_ROW_OVERHEAD = 128
QUARANTINE_ROWS = 10_000
"""Most rows in quarantine; the oldest are dropped and counted."""


class Store:
    """The rows on disk. Every method blocks, and raises sqlite3.Error where the disk fails."""

    def __init__(self, path: Path, *, max_size: int, reject_new: bool, readers: Sequence[str]) -> None:
        self.path = path
        self.readers = tuple(readers)
        self.dropped: Counter[str] = Counter()
        """Lines lost, by reason, since the file was made."""
        self.rows = 0
        self.next_seq = 1
        self.oldest: int | None = None
        """UTC ns at which the oldest row was committed."""
        self.size = 0
        """Bytes of the file that are in use."""
        self.bytes_written = 0
        """Bytes sent to the medium since the start: WAL frames, and pages moved into the main file."""
        self.quarantined = 0
        self._reject_new = reject_new
        self._wal = database.Wal(path)
        self._wal_limit = min(4 * 1024**2, max_size // 8)
        self._limit = max_size - 2 * self._wal_limit
        self._checkpointed = 0
        self._opened = 0
        self._doubtful = False
        """A sync has failed: what the WAL shows may never have reached the medium."""
        self._connection: sqlite3.Connection | None = None
        self._lock = FileLock(path.with_name(path.name + ".lock"))

    # --- opening and closing

    def open(self, now: int) -> None:
        """Lock and open the file; an unusable one is set aside and what can be read is taken over.

        TemporaryError where another process has it, StoreError where the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path.parent} cannot be made ({error.strerror})") from error
        self._lock.acquire()
        self._opened = now
        try:
            self._connect(now)
        except BaseException:
            self._lock.release()
            raise

    def _connect(self, now: int) -> None:
        try:
            self._connection = database.connect(self.path)
            self._records = Records(self._sql, self.readers)
            self._settle(now)
        except database.Unusable as problem:
            self._start_afresh(problem, now)
        except sqlite3.Error as error:
            if not database.is_damage(error):
                raise StoreError(f"{self.path} cannot be opened: {error}") from error
            self._start_afresh(database.damaged(self.path, error), now)
        try:
            database.sync_folder(self.path.parent)
        except OSError as error:
            self._drop_handle()
            raise StoreError(f"{self.path.parent} cannot be synced: {error.strerror}") from error

    def _start_afresh(self, problem: database.Unusable, now: int) -> None:
        self._drop_handle()
        aside = database.set_aside(self.path, problem.kind)
        self._connection = database.connect(self.path)
        self._records = Records(self._sql, self.readers)
        saved = 0
        if problem.kind == "damaged":
            with database.transaction(self._sql):
                for row in database.salvage(aside):
                    self._records.insert(row)
                    saved += 1
        self._settle(now)
        log.error("%s: set aside as %s, a new journal is begun; %d rows saved", problem, aside.name, saved)
        self.dropped["journal_set_aside"] += 1

    def _settle(self, now: int) -> None:
        """Find out what is there: the next number, rows, drops."""
        facts = dict(self._sql.execute("SELECT name, value FROM facts"))
        low, top = self._records.bounds()
        # numbers of a new file begin with the clock, so that they never meet those of a lost one
        self.next_seq = max(self.next_seq, int(facts.get("next_seq", now // 1_000_000)), (top or 0) + 1)
        for reason, count in json.loads(facts.get("dropped", "{}")).items():
            self.dropped[reason] += int(count)
        with database.transaction(self._sql):
            self._records.forget_strangers()
            self._sql.execute("INSERT OR IGNORE INTO facts VALUES ('next_seq', ?)", (str(self.next_seq),))
        exact = self._records.live_bytes() <= _EXACT_COUNT_BYTES
        self.rows = self._records.count() if exact or not low or not top else top - low + 1
        self.quarantined = self._records.quarantine_size()
        self._look()

    def close(self) -> None:
        """Put everything into the main file and let go of it."""
        try:
            if self._connection is not None:
                connection, self._connection = self._connection, None
                with contextlib.closing(connection):
                    self._checkpoint(connection)
        finally:
            self._lock.release()

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            log.warning("%s stays in two files until the next start: %s", self.path, error)

    def reopen(self, now: int) -> None:
        """Begin again on a fresh file handle: after a failed sync the old one can no longer be believed."""
        self._doubtful = True
        self._drop_handle()
        self.dropped.clear()
        self._connect(now)

    def _drop_handle(self) -> None:
        if self._connection is not None:
            self._checkpointed += self._wal.size()
            try:
                self._connection.close()
            except sqlite3.Error as error:
                log.warning("closing %s: %s", self.path, error)
            self._connection = None

    def _rescuing(self, work: Callable[[], T], now: int) -> T:
        """Do `work`; where the file turns out to be damaged, go on with a new one and repeat."""
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if not database.is_damage(error):
                raise
            problem = database.damaged(self.path, error)
        self._start_afresh(problem, now)
        return work()

    @property
    def _sql(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"the journal {self.path} is not open")
        return self._connection

    # --- writing

    def commit(self, commit: Commit) -> Outcome:
        """One transaction with one sync. Repeating it after a failure stores nothing twice."""
        return self._rescuing(lambda: self._commit(commit), commit.created)

    def _commit(self, commit: Commit) -> Outcome:
        if self._doubtful:
            self._copy_wal()
        before = self.next_seq, self.rows, self.quarantined
        commit.first = commit.first or self.next_seq
        rows: list[Row] = []
        for key, pieces in sorted(commit.pieces.items(), key=lambda item: item[0].priority):
            for group in split(pieces):
                rows.append(pack(commit.first + len(rows), key, commit.created, group))
        drops = self.dropped + commit.dropped
        try:
            with database.transaction(self._sql):
                outcome = self._apply(commit, rows, drops)
                reached("journal-before-sync")
        except BaseException:
            self.next_seq, self.rows, self.quarantined = before
            raise
        reached("journal-synced")
        self.dropped = drops
        self._checkpoint_if_due()
        self._look()
        return outcome

    def _copy_wal(self) -> None:
        """Move everything into the main file, with a sync that counts.

        The system calls pages clean whose sync has failed, and SQLite writes no page again that is as it
        should be: without this, a repeated commit would promise what only the system's memory holds.
        """
        busy, *_ = self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("the WAL could not be moved into the main file")
        self._doubtful = False

    def _apply(self, commit: Commit, rows: list[Row], drops: Counter[str]) -> Outcome:
        removed = self._records.acknowledge(commit.acks)
        rejected = False
        room = sum(len(row.body) + _ROW_OVERHEAD for row in rows)
        if rows and self._records.live_bytes() + room > self._limit:
            if self._reject_new:
                rejected = self._refuse(rows, drops)
            else:
                gone, lines = self._records.make_room(self._limit - room)
                removed += gone
                drops["full_oldest"] += lines
        for row in rows:
            self._records.insert(row)
        if rows:
            self.rows += max(0, rows[-1].seq + 1 - self.next_seq)
            self.next_seq = rows[-1].seq + 1
        self.rows -= removed
        self._set_apart(commit, drops)
        self._note(drops, removed)
        return Outcome(len(rows), sum(row.lines for row in rows), rejected)

    @staticmethod
    def _refuse(rows: list[Row], drops: Counter[str]) -> bool:
        """Leave the telemetry out; alarms are few, come first and always find room."""
        lost = [row for row in rows if row.priority != Priority.ALARM]
        rows[:] = [row for row in rows if row.priority == Priority.ALARM]
        drops["full_rejected"] += sum(row.lines for row in lost)
        return bool(lost)

    def _set_apart(self, commit: Commit, drops: Counter[str]) -> None:
        for record, lines, reason in commit.quarantine:
            self._records.set_apart(record, lines, reason, commit.created)
        self.quarantined += len(commit.quarantine)
        if (excess := self.quarantined - QUARANTINE_ROWS) > 0:
            self._records.trim_quarantine(excess)
            self.quarantined -= excess
            drops["quarantine_full"] += excess

    def _note(self, drops: Counter[str], removed: int) -> None:
        if drops != self.dropped:
            self._sql.execute("INSERT OR REPLACE INTO facts VALUES ('dropped', ?)", (json.dumps(drops),))
        # the next number is written only where the rows no longer tell it: a page less in each commit
        if removed and (self._records.bounds()[1] or 0) < self.next_seq - 1:
            self._sql.execute("UPDATE facts SET value = ? WHERE name = 'next_seq'", (str(self.next_seq),))

    def drop_older(self, before: int) -> int:
        """Drop rows created before `before` (UTC ns), oldest first; returns how many, 0 when all are gone."""
        found = self._rescuing(lambda: self._records.older(before, _OLD_STEP), before)
        return self._drop(found, "too_old") if found else 0

    def _drop(self, found: Sequence[tuple[int, int]], reason: str) -> int:
        drops = self.dropped + Counter({reason: sum(lines for _, lines in found)})
        with database.transaction(self._sql):
            removed = self._records.delete(seq for seq, _ in found)
            self._note(drops, removed)
        self.dropped = drops
        self.rows -= removed
        self._look()
        return removed

    # --- reading

    def fetch(
        self, reader: str, lanes: Sequence[Lane], skip: Collection[int], max_bytes: int, max_records: int
    ) -> Batch:
        """Rows of each of `lanes`, the first first, without those in `skip`."""
        fetch = partial(self._fetch, reader, lanes, skip, max_bytes, max_records)
        return self._rescuing(fetch, self._opened)

    def _fetch(
        self, reader: str, lanes: Sequence[Lane], skip: Collection[int], max_bytes: int, max_records: int
    ) -> Batch:
        records: list[Record] = []
        damaged: dict[int, int] = {}
        more = False
        size = 0
        for lane in lanes:
            for row in self._records.unseen(reader, lane):
                if row.seq in skip:
                    continue
                if len(records) >= max_records or size >= max_bytes:
                    more = True
                    break
                try:
                    record = unpack(row)
                except StoreError as damage:
                    log.error("%s; it is dropped and counted", damage)
                    damaged[row.seq] = 1
                    continue
                if record.priority is lane.priority:
                    records.append(record)
                    size += len(record.lines)
        if damaged:
            self._drop(list(damaged.items()), "damaged")
        return Batch(records, 0 if more else self.next_seq - 1)

    def quarantine(self, limit: int) -> list[Quarantined]:
        """What is in quarantine, newest first."""
        return self._records.quarantine(limit)

    def release(self, found: Sequence[Quarantined], *, lost: bool) -> None:
        """Take rows out of quarantine: they are in the journal again, or `lost` and counted."""
        lines = sum(one.lines.count(b"\n") + 1 for one in found) if lost else 0
        drops = self.dropped + Counter({"quarantine_dropped": lines})
        with database.transaction(self._sql):
            gone = self._records.release(one.id for one in found)
            self._note(drops, 0)
        self.dropped = drops
        self.quarantined -= gone
        self._look()

    # --- figures

    def _look(self) -> None:
        self.oldest = self._records.oldest()
        self.size = self._records.live_bytes()
        self.bytes_written = self._checkpointed + self._wal.size()

    def _checkpoint_if_due(self) -> None:
        """Move the WAL into the main file when it is long enough."""
        if (size := self._wal.size()) >= self._wal_limit:
            pages = self._wal.pages()
            reached_soon("journal-checkpoint")
            try:
                self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.Error as error:
                # the commit itself is on the medium; the WAL grows until this succeeds
                log.error("the WAL of %s could not be moved into it: %s", self.path, error)
                return
            reached("journal-checkpointed")
            self._checkpointed += size + pages * database.PAGE_SIZE
