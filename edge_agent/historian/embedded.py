"""The historian's store in a SQLite file, for one box without a database server."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from edge_agent.buffer import database
from edge_agent.clock import Clock, iso
from edge_agent.errors import SinkUnavailable
from edge_agent.historian.history import (
    APPLICATION_ID,
    SCHEMA,
    SCHEMA_MINUTES,
    VERSION,
    Shape,
    dump_shape,
    load_shape,
    shape_of,
)
from edge_agent.historian.ledger import FieldLedger, Line, SetAside
from edge_agent.historian.minutes import EVENTS, Minutes, mark_all
from edge_agent.historian.store import Store
from edge_agent.settings.models import RetentionSettings
from edge_agent.types import Record

log = logging.getLogger(__name__)

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
T = TypeVar("T")
_Aside = list[tuple[Record, bytes, str]]


class EmbeddedStore(Store):
    """Writes `history.db`; what has the same shape and time is one point: sending twice is harmless.

    A file that is damaged, not ours or newer is set aside, and a new one begun.
    """

    def __init__(
        self,
        path: Path,
        ledger: FieldLedger,
        set_aside: SetAside,
        retention: RetentionSettings,
        clock: Clock,
    ) -> None:
        self._path = path
        self._ledger = ledger
        self._set_aside = set_aside
        self._minutes = Minutes(retention, clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._connection: sqlite3.Connection | None = None
        self._shapes: dict[Shape, int] = {}

    @property
    def name(self) -> str:
        """`history`."""
        return "history"

    async def deliver(self, records: Sequence[Record], *, backlog: bool) -> None:
        """Store the records in one transaction, synced. SinkUnavailable where the file cannot be written."""
        aside: _Aside = []
        await self._call(self._store, records, aside)
        for record, lines, reason in aside:
            self._set_aside(record, lines, reason)

    async def tidy(self) -> None:
        """Make the minutes that have changed, then drop what is over its age; a little at a time.

        SinkUnavailable where the file cannot be written.
        """
        for step in (self._minutes.make, self._minutes.drop):
            while await self._call(self._tidy, step):
                await asyncio.sleep(0.01)  # deliveries come in between

    async def close(self) -> None:
        """Close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[..., T], *what: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._sound, work, *what)
        except (sqlite3.Error, OSError) as error:
            raise SinkUnavailable(f"{self._path} cannot be written: {error}") from error

    # --- in the thread

    def _sound(self, work: Callable[..., T], *what: object) -> T:
        """Do it, and do it again on a new file where this one turns out to be damaged."""
        try:
            return work(*what)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
                raise
            self._start_afresh("damaged", str(error))
        return work(*what)

    def _store(self, records: Sequence[Record], aside: _Aside) -> None:
        sql = self._open()
        aside.clear()
        lines = self._ledger.screen(records, lambda *what: aside.append(what))
        try:
            sql.execute("BEGIN IMMEDIATE")
            for line in lines:
                if line.point.timestamp < self._minutes.begins and line.point.measurement not in EVENTS:
                    reason = f"too_old: readings before {iso(self._minutes.begins)} are not kept any more"
                    aside.append((line.record, line.text, reason))
                else:
                    self._insert(sql, line)
            sql.execute("COMMIT")
        except BaseException:
            # after a failed sync the handle is not believed any more, nor what it said about shapes
            self._close()
            raise

    def _tidy(self, step: Callable[[sqlite3.Connection, Mapping[int, Shape]], bool]) -> bool:
        sql = self._open()
        try:
            return step(sql, {number: shape for shape, number in self._shapes.items()})
        except BaseException:
            self._close()
            raise

    def _insert(self, sql: sqlite3.Connection, line: Line) -> None:
        point = line.point
        shape = shape_of(point)
        number = self._shapes.get(shape)
        if number is None:
            number = self._new_shape(sql, shape)
        values = point.fields.values()
        if "s" in shape.codes:
            texts = json.dumps([value for value in values if isinstance(value, str)])
            numbers = shape.layout.pack(*(value for value in values if not isinstance(value, str)))
        else:
            texts, numbers = None, shape.layout.pack(*values)
        sql.execute(
            "INSERT OR REPLACE INTO points VALUES (?,?,?,?)", (number, point.timestamp, numbers, texts)
        )
        self._minutes.mark(sql, number, shape, point.timestamp)

    def _new_shape(self, sql: sqlite3.Connection, shape: Shape) -> int:
        columns = "(measurement, machine, tags, fields)"
        number = sql.execute(f"INSERT INTO shapes {columns} VALUES (?,?,?,?)", dump_shape(shape)).lastrowid  # noqa: S608
        assert number is not None  # noqa: S101  # an insert has one
        self._shapes[shape] = number
        return number

    # --- the file

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = self._connect()
            except database.Unusable as unusable:
                self._start_afresh(unusable.kind, str(unusable))
                self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        sql = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            sql.execute("PRAGMA synchronous=FULL")
            self._identify(sql)
            sql.execute("PRAGMA journal_mode=WAL")
            for number, *row in sql.execute("SELECT id, measurement, machine, tags, fields FROM shapes"):
                self._shapes[load_shape(*row)] = number
            self._upgrade(sql)
            self._minutes.opened(sql)
        except BaseException as error:
            self._shapes.clear()
            sql.close()
            if database.is_damage(error):
                raise database.damaged(self._path, error) from error
            raise
        return sql

    def _identify(self, sql: sqlite3.Connection) -> None:
        if sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            marks = f"PRAGMA application_id={APPLICATION_ID};PRAGMA user_version={VERSION};"
            sql.executescript(f"BEGIN;{SCHEMA}{SCHEMA_MINUTES}{marks}COMMIT;")
        elif sql.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise database.Unusable("foreign", "it is not a history of edge-agent")
        elif (version := sql.execute("PRAGMA user_version").fetchone()[0]) > VERSION:
            raise database.Unusable("newer", f"it was written by a newer edge-agent (version {version})")

    def _upgrade(self, sql: sqlite3.Connection) -> None:
        if sql.execute("PRAGMA user_version").fetchone()[0] == 1:
            log.info("%s has no minutes yet: they are made now", self._path)
            sql.executescript(f"BEGIN;{SCHEMA_MINUTES}")
            mark_all(sql, {number: shape for shape, number in self._shapes.items()})
            sql.execute(f"PRAGMA user_version={VERSION}")
            sql.execute("COMMIT")

    def _start_afresh(self, kind: str, why: str) -> None:
        self._close()
        aside = database.set_aside(self._path, kind)
        log.error("%s is set aside as %s (%s); a new history is begun", self._path, aside.name, why)

    def _close(self) -> None:
        self._shapes.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
