"""The records of an open journal file: SQL, inside the transactions of the caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from edge_agent.buffer import database
from edge_agent.buffer.rows import Lane, Quarantined, Row
from edge_agent.types import Priority, Record

_STEP = 64
"""Rows dropped at a time while the file is over its size."""
_QUARANTINE = "seq, machine, source, created, at, reason, lines"


class Records:
    """Rows of lines, who has acknowledged them, and the quarantine."""

    def __init__(self, sql: sqlite3.Connection, readers: Sequence[str]) -> None:
        self._sql = sql
        self._readers = tuple(readers)

    def bounds(self) -> tuple[int | None, int | None]:
        """The lowest and the highest sequence number."""
        low, top = self._sql.execute("SELECT min(seq), max(seq) FROM records").fetchone()
        return low, top

    def count(self) -> int:
        """How many rows there are; reads the whole file."""
        return int(self._sql.execute("SELECT count(*) FROM records").fetchone()[0])

    def oldest(self) -> int | None:
        """When the first row was committed, UTC ns."""
        found = self._sql.execute("SELECT created FROM records ORDER BY seq LIMIT 1").fetchone()
        return found[0] if found else None

    def live_bytes(self) -> int:
        """Bytes of the file that are in use."""
        pages = self._sql.execute("PRAGMA page_count").fetchone()[0]
        free = self._sql.execute("PRAGMA freelist_count").fetchone()[0]
        return int((pages - free) * database.PAGE_SIZE)

    # --- records

    def insert(self, row: Row) -> None:
        """Store a row; again the same row where a commit is repeated."""
        self._sql.execute("INSERT OR REPLACE INTO records VALUES (?,?,?,?,?,?,?,?,?)", row)

    def delete(self, seqs: Iterable[int]) -> int:
        """Delete rows and return how many were there."""
        marks = [(seq,) for seq in seqs]
        removed = self._sql.executemany("DELETE FROM records WHERE seq = ?", marks).rowcount
        if len(self._readers) > 1:
            self._sql.executemany("DELETE FROM acked WHERE seq = ?", marks)
        return max(removed, 0)

    def acknowledge(self, acks: dict[str, list[int]]) -> int:
        """Note what readers have, delete what all of them have, and return how many rows that were."""
        removed = 0
        for cursor, seqs in acks.items():
            if len(self._readers) == 1:
                removed += self.delete(seqs)
                continue
            self._sql.executemany("INSERT OR IGNORE INTO acked VALUES (?,?)", [(cursor, seq) for seq in seqs])
            removed += self.delete(seq for seq in seqs if self._everybody_has(seq))
        return removed

    def _everybody_has(self, seq: int) -> bool:
        count = self._sql.execute("SELECT count(*) FROM acked WHERE seq = ?", (seq,)).fetchone()[0]
        return bool(count >= len(self._readers))

    def forget_strangers(self) -> None:
        """Forget readers that are configured no longer, and delete the rows they alone had kept."""
        marks = ",".join("?" * len(self._readers))
        self._sql.execute(f"DELETE FROM acked WHERE cursor NOT IN ({marks})", self._readers)  # noqa: S608
        if self._readers:
            done = "(SELECT seq FROM acked GROUP BY seq HAVING count(*) >= ?)"
            self._sql.execute(f"DELETE FROM records WHERE seq IN {done}", (len(self._readers),))  # noqa: S608
            self._sql.execute("DELETE FROM acked WHERE seq NOT IN (SELECT seq FROM records)")

    def make_room(self, limit: int) -> tuple[int, int]:
        """Delete the oldest rows, alarms last, until at most `limit` bytes are used: (rows, lines) gone."""
        gone = lost = 0
        for where in ("WHERE priority != 0", ""):
            oldest = f"SELECT seq, lines FROM records {where} ORDER BY seq LIMIT {_STEP}"  # noqa: S608
            while self.live_bytes() > limit and (found := self._sql.execute(oldest).fetchall()):
                gone += self.delete(seq for seq, _ in found)
                lost += sum(lines for _, lines in found)
        return gone, lost

    def older(self, before: int, limit: int) -> list[tuple[int, int]]:
        """(seq, lines) of rows created before `before`, from the oldest to the first that is younger."""
        found: list[tuple[int, int]] = []
        for seq, created, lines in self._sql.execute("SELECT seq, created, lines FROM records ORDER BY seq"):
            if created >= before or len(found) >= limit:
                break
            found.append((seq, lines))
        return found

    def unseen(self, reader: str, lane: Lane) -> Iterator[Row]:
        """A reader's rows of a lane, in order: alarms alone, or all.

        Alarms are among the telemetry too, because a damaged row may only look like one.
        """
        where = "priority = 0" if lane.priority is Priority.ALARM else "1"
        if len(self._readers) > 1:
            has = "SELECT 1 FROM acked WHERE acked.seq = records.seq AND cursor = :reader"
            where += f" AND NOT EXISTS ({has})"
        within = "seq > :after AND seq <= :until"
        query = f"SELECT {database.COLUMNS} FROM records WHERE {where} AND {within} ORDER BY seq"  # noqa: S608
        limits = {"after": lane.after, "until": lane.until, "reader": reader}
        for values in self._sql.execute(query, limits):
            yield Row(*values)

    # --- quarantine

    def set_apart(self, record: Record, lines: bytes, reason: str, at: int) -> None:
        """Put lines into quarantine."""
        row = (record.seq, record.machine, record.source, record.created, at, reason, lines)
        self._sql.execute(f"INSERT INTO quarantine({_QUARANTINE}) VALUES (?,?,?,?,?,?,?)", row)  # noqa: S608

    def quarantine_size(self) -> int:
        """Rows in quarantine."""
        return int(self._sql.execute("SELECT count(*) FROM quarantine").fetchone()[0])

    def quarantine(self, limit: int, before: int) -> list[Quarantined]:
        """What is in quarantine with a number below `before`, newest first."""
        query = f"SELECT id, {_QUARANTINE} FROM quarantine WHERE id < ? ORDER BY id DESC LIMIT ?"  # noqa: S608
        return [Quarantined(*values) for values in self._sql.execute(query, (before, limit))]

    def release(self, ids: Iterable[int]) -> int:
        """Take rows out of quarantine and return how many were there."""
        marks = [(one,) for one in ids]
        return max(0, self._sql.executemany("DELETE FROM quarantine WHERE id = ?", marks).rowcount)

    def trim_quarantine(self, excess: int) -> None:
        """Drop the oldest rows of the quarantine."""
        oldest = "(SELECT id FROM quarantine ORDER BY id LIMIT ?)"
        self._sql.execute(f"DELETE FROM quarantine WHERE id IN {oldest}", (excess,))  # noqa: S608
