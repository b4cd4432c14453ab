"""alarms.db: the state of every condition over restarts, and the history of transitions.

SQLite in WAL mode with `synchronous=FULL`: what `record` has returned for, and what `save` was given before a
`flush`, survives SIGKILL and power cuts. A commit takes a second at worst on a slow card, so the event loop
uses `save`, which hands the transition to the store's own thread; what waits there goes into one commit.
"""

from __future__ import annotations

import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_agent.errors import StoreError
from edge_agent.failpoints import reached
from edge_agent.types import AlarmKind, AlarmPriority, AlarmState, Alert, Band

logger = logging.getLogger(__name__)

VERSION = 1
KEEP = 50_000
"""Transitions kept in the history; a chattering condition must not fill the card."""

MOST_WAITING = 10_000
"""Transitions kept in memory while they cannot be written."""
RETRY = 5.0
"""Seconds between attempts to write."""

_Row = tuple[int, str, str, str, str]
"""Time, machine, id, state and the alert as JSON."""

_SCHEMA = """
CREATE TABLE conditions (
    machine TEXT NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL, alert TEXT NOT NULL,
    PRIMARY KEY (machine, id)
) WITHOUT ROWID;
CREATE TABLE transitions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL, machine TEXT NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL, alert TEXT NOT NULL
);
CREATE INDEX transitions_by_machine ON transitions (machine, time);
"""


class AlarmStore:
    """One file with the alarms of all machines; `path` is made if it is not there.

    A damaged file is set aside as `NAME.damaged-TIME` and a new one begun; `notice` then says so (what holds
    is raised again from the machines, occurrence counters begin anew). StoreError where the file is locked,
    cannot be written or is of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notice: str | None = None
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[_Row | threading.Event | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._database = self._opened()
            except sqlite3.DatabaseError as damage:
                if isinstance(damage, sqlite3.OperationalError):
                    raise
                self._set_aside(damage)
                self._database = self._opened()
        except (sqlite3.Error, OSError) as problem:
            raise StoreError(f"{path}: alarm state cannot be opened: {problem}") from problem

    def load(self) -> list[Alert]:
        """The last known state of every condition, by machine and id."""
        with self._lock:
            return self._alerts("SELECT alert FROM conditions ORDER BY machine, id")

    def record(self, alerts: Sequence[Alert], ns: int) -> None:
        """Keep transitions that happened at `ns`, all or none; returns once they are on the medium."""
        if not alerts:
            return
        self._write([_row(one, ns) for one in alerts])

    def save(self, alerts: Sequence[Alert], ns: int) -> None:
        """Keep transitions that happened at `ns` soon, in the order of the calls; returns at once.

        What cannot be written (disk full) is logged, kept in memory and tried again.
        """
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_on, name="alarm-store", daemon=True)
            self._writer.start()
        for alert in alerts:
            self._waiting.put(_row(alert, ns))

    def flush(self) -> None:
        """Wait until everything that was saved before is on the medium, or could not be written."""
        if self._writer is not None:
            done = threading.Event()
            self._waiting.put(done)
            done.wait()

    def history(self, machine: str | None = None, since: int = 0, limit: int = 1000) -> list[Alert]:
        """The newest transitions first, of one machine or of all, not older than `since` (ns)."""
        where = "WHERE time >= ?" + (" AND machine = ?" if machine is not None else "")
        values: list[Any] = [since, *([machine] if machine is not None else []), limit]
        with self._lock:
            return self._alerts(
                f"SELECT alert FROM transitions {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608 - fixed texts
                values,
            )

    def close(self) -> None:
        """Write what is waiting and close the file; harmless where it is closed."""
        if self._writer is not None:
            self._waiting.put(None)
            self._writer.join()
            self._writer = None
        with self._lock:
            self._database.close()

    def _write_on(self) -> None:
        """The thread: one commit for all that waits, tried again every few seconds where it fails."""
        rows: list[_Row] = []
        failed = ended = False
        while not ended:
            flushed, ended = self._gather(rows)
            try:
                self._write(rows)
                rows.clear()
                failed = False
            except StoreError as problem:
                if not failed:
                    logger.error("%s; trying again", problem)
                failed = True
                del rows[:-MOST_WAITING]
            for done in flushed:
                done.set()

    def _gather(self, rows: list[_Row]) -> tuple[list[threading.Event], bool]:
        """Add to `rows` all that waits, at least one entry; who waits for it, and whether to end."""
        flushed: list[threading.Event] = []
        ended = False
        try:
            item = self._waiting.get(timeout=RETRY if rows else None)
            while True:
                if item is None:
                    ended = True
                elif isinstance(item, threading.Event):
                    flushed.append(item)
                else:
                    rows.append(item)
                item = self._waiting.get_nowait()
        except queue.Empty:
            return flushed, ended

    def _write(self, rows: Sequence[_Row]) -> None:
        if not rows:
            return
        with self._lock:
            try:
                with self._database:
                    self._commit(rows)
                    reached("alarms-before-sync")
                reached("alarms-synced")
            except sqlite3.Error as problem:
                raise StoreError(f"{self.path}: alarm state cannot be written: {problem}") from problem

    def _commit(self, rows: Sequence[_Row]) -> None:
        execute = self._database.execute
        execute("BEGIN IMMEDIATE")
        for row in rows:
            execute("INSERT OR REPLACE INTO conditions VALUES (?, ?, ?, ?)", row[1:])
            execute("INSERT INTO transitions (time, machine, id, state, alert) VALUES (?, ?, ?, ?, ?)", row)
        execute("DELETE FROM transitions WHERE seq <= (SELECT max(seq) FROM transitions) - ?", (KEEP,))

    def _alerts(self, statement: str, values: Sequence[Any] = ()) -> list[Alert]:
        try:
            return [_decode(text) for (text,) in self._database.execute(statement, values)]
        except sqlite3.Error as problem:
            raise StoreError(f"{self.path}: alarm state cannot be read: {problem}") from problem

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            self._check(database)
        except BaseException:
            database.close()
            raise
        return database

    def _check(self, database: sqlite3.Connection) -> None:
        [(verdict,)] = database.execute("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        [(version,)] = database.execute("PRAGMA user_version").fetchall()
        if version > VERSION:
            raise StoreError(
                f"{self.path} is of version {version}, this edge-agent knows {VERSION}: "
                "install the newer edge-agent again, or move the file away"
            )
        if version == 0:
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
        for (text,) in database.execute("SELECT alert FROM conditions"):
            _decode(text)

    def _set_aside(self, damage: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns() // 1_000_000}")
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            beside = self.path.with_name(self.path.name + suffix)
            if beside.exists():
                beside.rename(aside.with_name(aside.name + suffix))
        self.notice = f"{self.path} was damaged ({damage}); it was set aside as {aside.name} and begun anew"
        logger.error("%s", self.notice)


def retired(alerts: Iterable[Alert], claimed: Callable[[str, str], bool], ns: int) -> list[Alert]:
    """What to publish for stored conditions that the configuration no longer has: normal, with a word.

    `claimed(machine, id)` says whether a condition of today has taken the stored state over.
    """
    return [
        replace(
            alert,
            state=AlarmState.NORMAL,
            cleared_at=ns if alert.cleared_at is None else alert.cleared_at,
            message=f"{alert.id} is no longer configured; last: {alert.message}",
        )
        for alert in alerts
        if alert.state is not AlarmState.NORMAL and not claimed(alert.machine, alert.id)
    ]


def _row(alert: Alert, ns: int) -> _Row:
    return ns, alert.machine, alert.id, alert.state.value, _encode(alert)


def _encode(alert: Alert) -> str:
    fields = {name: getattr(alert, name) for name in Alert.__slots__}
    fields["contributions"] = dict(alert.contributions)
    fields["bands"] = {tag: list(band) for tag, band in alert.bands.items()}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def _decode(text: str) -> Alert:
    try:
        fields: Mapping[str, Any] = json.loads(text)
        return Alert(
            **{
                **fields,
                "kind": AlarmKind(fields["kind"]),
                "priority": AlarmPriority(fields["priority"]),
                "state": AlarmState(fields["state"]),
                "bands": {tag: Band(*band) for tag, band in fields["bands"].items()},
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise sqlite3.DatabaseError(f"a stored condition cannot be read: {problem}") from problem
