"""The historian's store in a SQLite file, for one box without a database server."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge_agent.contracts.plugs import Sink
from edge_agent.errors import SinkUnavailable
from edge_agent.historian.history import (
    APPLICATION_ID,
    SCHEMA,
    VERSION,
    Shape,
    dump_shape,
    load_shape,
    shape_of,
)
from edge_agent.historian.ledger import FieldLedger, Line, SetAside
from edge_agent.types import Record

log = logging.getLogger(__name__)


class EmbeddedStore(Sink):
    """Writes `history.db`; what has the same shape and time is one point: sending twice is harmless."""

    def __init__(self, path: Path, ledger: FieldLedger, set_aside: SetAside) -> None:
        self._path = path
        self._ledger = ledger
        self._set_aside = set_aside
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._connection: sqlite3.Connection | None = None
        self._shapes: dict[Shape, int] = {}

    @property
    def name(self) -> str:
        """`history`."""
        return "history"

    async def deliver(self, records: Sequence[Record], *, backlog: bool) -> None:
        """Store the records in one transaction, synced. SinkUnavailable where the file cannot be written."""
        aside: list[tuple[Record, bytes, str]] = []
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._store, records, aside)
        except (sqlite3.Error, OSError) as error:
            raise SinkUnavailable(f"{self._path} cannot be written: {error}") from error
        for record, lines, reason in aside:
            self._set_aside(record, lines, reason)

    async def close(self) -> None:
        """Close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    # --- in the thread

    def _store(self, records: Sequence[Record], aside: list[tuple[Record, bytes, str]]) -> None:
        lines = self._ledger.screen(records, lambda *what: aside.append(what))
        sql = self._open()
        sql.execute("BEGIN IMMEDIATE")
        try:
            for line in lines:
                self._insert(sql, line)
            sql.execute("COMMIT")
        except BaseException:
            # after a failed sync the handle is not believed any more, nor what it said about shapes
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

    def _new_shape(self, sql: sqlite3.Connection, shape: Shape) -> int:
        columns = "(measurement, machine, tags, fields)"
        number = sql.execute(f"INSERT INTO shapes {columns} VALUES (?,?,?,?)", dump_shape(shape)).lastrowid  # noqa: S608
        assert number is not None  # noqa: S101  # an insert has one
        self._shapes[shape] = number
        return number

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        self._path.parent.mkdir(parents=True, exist_ok=True)
        sql = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            sql.execute("PRAGMA journal_mode=WAL")
            sql.execute("PRAGMA synchronous=FULL")
            if sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                marks = f"PRAGMA application_id={APPLICATION_ID};PRAGMA user_version={VERSION};"
                sql.executescript(f"BEGIN;{SCHEMA}{marks}COMMIT;")
            if sql.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise sqlite3.DatabaseError("it is not a history of edge-agent; move it away")
            if sql.execute("PRAGMA user_version").fetchone()[0] > VERSION:
                raise sqlite3.DatabaseError("it was written by a newer edge-agent; update this one")
            for number, *row in sql.execute("SELECT id, measurement, machine, tags, fields FROM shapes"):
                self._shapes[load_shape(*row)] = number
        except BaseException:
            sql.close()
            raise
        self._connection = sql
        return sql

    def _close(self) -> None:
        self._shapes.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
