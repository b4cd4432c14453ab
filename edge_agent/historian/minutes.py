"""One-minute means of the embedded store, kept for years, and the end of the readings they are made of.

A minute belongs to a shape, like the rows it is made of: their count, and mean, lowest and highest of each
number. Which minutes have changed is noted in the transaction that stores the rows, so that neither a crash
nor a late backlog loses one, and a minute is always made anew from all of its rows. Rows go only when no
minute of theirs is outstanding; rows that come for a time that is gone already are refused.
"""

from __future__ import annotations

import math
import sqlite3
import struct
from collections.abc import Mapping, Sequence

from edge_agent.clock import SECOND, Clock
from edge_agent.historian.history import MINUTE, Shape, unpack
from edge_agent.settings.models import RetentionSettings

EVENTS = frozenset({"alarms", "quality"})
"""Measurements that have no minutes: they are few, have no average, and are kept as long as minutes."""
MADE_AT_A_TIME = 100
"""Minutes made in one transaction: new rows wait no longer than that takes."""
DROPPED_AT_A_TIME = 2000
"""Rows dropped in one transaction."""
STEP = 3600 * SECOND
"""Readings are dropped an hour's worth at a time."""
_DAY = 86_400 * SECOND


class Minutes:
    """The tables `minutes`, `changed` and `facts`; methods take the file's connection, in its thread."""

    def __init__(self, settings: RetentionSettings, clock: Clock) -> None:
        self.begins = -(2**63)
        """Readings before this (UTC ns) have been dropped, or are about to be."""
        self._settings = settings
        self._belief = Belief(clock)
        self._marked: set[tuple[int, int]] = set()
        self._dropped: int | None = None

    def opened(self, sql: sqlite3.Connection) -> None:
        """Take over what the file says."""
        self._marked.clear()
        facts = dict(sql.execute("SELECT name, value FROM facts"))
        self.begins = facts.get("begins", -(2**63))
        self._belief.seen = facts.get("seen")

    def mark(self, sql: sqlite3.Connection, number: int, shape: Shape, ns: int) -> None:
        """Note that a row of this shape and time is stored: its minute is to be made (again)."""
        place = (number, ns // MINUTE)
        if place in self._marked or not shape.numbers or shape.measurement in EVENTS:
            return
        sql.execute("INSERT OR IGNORE INTO changed(shape, minute) VALUES (?,?)", place)
        self._marked.add(place)

    def make(self, sql: sqlite3.Connection, shapes: Mapping[int, Shape]) -> bool:
        """Make some of the minutes that have changed; whether there may be more."""
        found = sql.execute("SELECT minute, shape FROM changed LIMIT ?", (MADE_AT_A_TIME,)).fetchall()
        sql.execute("BEGIN IMMEDIATE")
        for minute, number in found:
            figures = _figures(sql, number, shapes[number], minute)
            if figures is not None:
                sql.execute("INSERT OR REPLACE INTO minutes VALUES (?,?,?,?)", (number, minute, *figures))
            sql.execute("DELETE FROM changed WHERE minute = ? AND shape = ?", (minute, number))
        sql.execute("COMMIT")
        self._marked.difference_update((number, minute) for minute, number in found)
        return len(found) == MADE_AT_A_TIME

    def drop(self, sql: sqlite3.Connection, shapes: Mapping[int, Shape]) -> bool:
        """Drop some of what is over its age; whether there may be more."""
        now = self._belief.now()
        if now is None or (self._dropped is not None and 0 <= now - self._dropped < STEP):
            return False
        raw, minute = self._settings.raw, self._settings.minute
        old = None if minute is None else now - int(minute * SECOND)
        sql.execute("BEGIN IMMEDIATE")
        sql.execute("INSERT OR REPLACE INTO facts VALUES ('seen', ?)", (now,))
        if raw is not None:
            self._move_begin(sql, now - int(raw * SECOND))
        left = DROPPED_AT_A_TIME
        for number, shape in shapes.items():
            end = old if shape.measurement in EVENTS else self.begins
            if end is not None and left > 0:
                left -= _delete(sql, "points", "ns", number, end, left)
            if old is not None and left > 0:
                left -= _delete(sql, "minutes", "minute", number, old // MINUTE, left)
        sql.execute("COMMIT")
        self._dropped = now if left > 0 else None
        return left <= 0

    def _move_begin(self, sql: sqlite3.Connection, end: int) -> None:
        """From here on readings before `end` are refused and dropped, unless a minute of theirs is due."""
        end = end // MINUTE * MINUTE
        if end < self.begins + STEP:
            return
        due = sql.execute("SELECT 1 FROM changed WHERE minute < ? LIMIT 1", (end // MINUTE,)).fetchone()
        if due is None:
            sql.execute("INSERT OR REPLACE INTO facts VALUES ('begins', ?)", (end,))
            self.begins = end


class Belief:
    """Whether the clock may decide what is deleted: not for a day after it was set, or came up far off."""

    def __init__(self, clock: Clock) -> None:
        self.seen: int | None = None
        """The last time (UTC ns) that was believed, from the file."""
        self._clock = clock
        self._last = (clock.now(), clock.elapsed())
        self._steady_since = self._last[1]

    def now(self) -> int | None:
        """UTC ns, or None while the clock is not believed."""
        now, elapsed = self._clock.now(), self._clock.elapsed()
        if abs((now - self._last[0]) - (elapsed - self._last[1])) > STEP:
            self._steady_since, self.seen = elapsed, None
        self._last = now, elapsed
        near = self.seen is not None and self.seen - STEP <= now <= self.seen + _DAY
        if not near and elapsed - self._steady_since < _DAY:
            return None
        self.seen = now
        return now


def mark_all(sql: sqlite3.Connection, shapes: Mapping[int, Shape]) -> None:
    """Every minute of a file from before there were minutes is to be made."""
    floor = f"(ns - ((ns % {MINUTE}) + {MINUTE}) % {MINUTE}) / {MINUTE}"
    for number, shape in shapes.items():
        if shape.numbers and shape.measurement not in EVENTS:
            some = f"SELECT DISTINCT shape, {floor} FROM points WHERE shape = ?"  # noqa: S608
            sql.execute(f"INSERT INTO changed(shape, minute) {some}", (number,))


def _figures(sql: sqlite3.Connection, number: int, shape: Shape, minute: int) -> tuple[int, bytes] | None:
    """The minute's count and figures, from all of the rows there are; None without any."""
    start = minute * MINUTE
    query = "SELECT numbers, texts FROM points WHERE shape = ? AND ns BETWEEN ? AND ?"
    bounds = (max(start, -(2**63)), min(start + MINUTE - 1, 2**63 - 1))
    layout = shape.layout
    rows = [unpack(shape, layout, *row) for row in sql.execute(query, (number, *bounds))]
    if not rows:
        return None
    columns = [[float(row[place]) for row in rows] for place in shape.numbers]
    return len(rows), b"".join(_pack(column) for column in columns)


def _pack(column: Sequence[float]) -> bytes:
    low, high = min(column), max(column)
    try:
        mean = math.fsum(column) / len(column)
    except OverflowError:
        mean = math.fsum(value / len(column) for value in column)
    # the last bit of a mean may lie outside of what it is the mean of
    return struct.pack("<3d", min(max(mean, low), high), low, high)


def _delete(sql: sqlite3.Connection, table: str, key: str, number: int, end: int, most: int) -> int:
    some = f"SELECT {key} FROM {table} WHERE shape = ? AND {key} < ? ORDER BY {key} LIMIT ?"  # noqa: S608
    done = sql.execute(
        f"DELETE FROM {table} WHERE shape = ? AND {key} IN ({some})",  # noqa: S608
        (number, number, end, most),
    )
    return done.rowcount
