"""The journal's SQLite file: opening it safely, setting a damaged one aside, saving what can be read."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.buffer.rows import Row, unpack
from edge_agent.errors import StoreError

log = logging.getLogger(__name__)

APPLICATION_ID = 0x45414A4C  # "EAJL"
VERSION = 1
PAGE_SIZE = 1024
"""Bytes. A commit writes whole pages: 100 tags at 1 Hz of one to ten machines cost 270-450 MB a day at 1 s
commits and 120-140 at 10 s; with 4096 it is 360 and 145-220, with 2048 up to 720 (measured)."""

SCHEMA = """
CREATE TABLE records(
  seq INTEGER PRIMARY KEY, machine TEXT NOT NULL, priority INTEGER NOT NULL, created INTEGER NOT NULL,
  source TEXT NOT NULL, lines INTEGER NOT NULL, codec INTEGER NOT NULL,
  checksum INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX alarms ON records(seq) WHERE priority = 0;
CREATE TABLE acked(cursor TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(seq, cursor)) WITHOUT ROWID;
CREATE TABLE quarantine(
  id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, machine TEXT NOT NULL, source TEXT NOT NULL,
  created INTEGER NOT NULL, at INTEGER NOT NULL, reason TEXT NOT NULL, lines BLOB NOT NULL);
CREATE TABLE facts(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

COLUMNS = "seq, machine, priority, created, source, lines, codec, checksum, body"


class Unusable(StoreError):
    """The file is damaged, not ours, or newer than this program; `kind` says which."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def connect(path: Path, *, synchronous: str = "FULL") -> sqlite3.Connection:
    """Open or create the file. Unusable where it is not a journal of ours that this version can read."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    # a damaged text must not stop the row: its checksum tells
    connection.text_factory = _text
    try:
        # the wal-index stays in memory, and no second process can open the file
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute(f"PRAGMA page_size={PAGE_SIZE}")
        _identify(connection, path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA cache_size=-2048")
        connection.execute("SELECT count(*) FROM facts").fetchone()
        connection.execute("SELECT max(seq) FROM records").fetchone()
    except BaseException as error:
        connection.close()
        if is_damage(error):
            raise damaged(path, error) from error
        raise
    return connection


def damaged(path: Path, error: BaseException) -> Unusable:
    """What to say of a file whose content is wrong."""
    return Unusable("damaged", f"{path} is damaged ({error})")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file's content is wrong, and not that the disk is full or fails."""
    if isinstance(error, sqlite3.OperationalError):
        return "no such" in str(error)
    return isinstance(error, sqlite3.DatabaseError)


def _identify(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if application == APPLICATION_ID:
        if version > VERSION:
            raise Unusable(
                "newer", f"{path} was written by a newer edge-agent (version {version} of its format)"
            )
        return
    if not empty:
        raise Unusable("foreign", f"{path} is not a journal of edge-agent")
    connection.executescript(
        f"BEGIN;{SCHEMA}PRAGMA application_id={APPLICATION_ID};PRAGMA user_version={VERSION};COMMIT;"
    )


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it is on the medium when the block ends, or nothing where it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.DatabaseError):  # the first error says more
                connection.execute("ROLLBACK")
        raise


def sync_folder(folder: Path) -> None:
    """Make names created or renamed in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path, kind: str) -> Path:
    """Rename an unusable file, with its WAL, and return its new name."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    target = path.with_name(f"{path.name}.{kind}-{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{kind}-{stamp}-{number}")
    path.rename(target)
    wal = path.with_name(path.name + "-wal")
    if wal.exists():
        wal.rename(target.with_name(target.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    sync_folder(path.parent)
    return target


def salvage(path: Path) -> Iterator[Row]:
    """Every row of a damaged file that can be read and whose checksum fits, from both ends inwards."""
    try:
        connection = sqlite3.connect(path)
        connection.text_factory = _text
    except sqlite3.Error as error:
        log.warning("nothing can be saved from %s: %s", path, error)
        return
    seen: set[int] = set()
    with contextlib.closing(connection):
        for order in ("ASC", "DESC"):
            try:
                for values in connection.execute(f"SELECT {COLUMNS} FROM records ORDER BY seq {order}"):  # noqa: S608
                    row = Row(*values)
                    if row.seq in seen:
                        return
                    if _sound(row):
                        seen.add(row.seq)
                        yield row
            except sqlite3.Error as error:
                log.warning("reading %s (%s) stopped: %s", path, order, error)


def _sound(row: Row) -> bool:
    try:
        unpack(row)
    except StoreError as damage:
        log.warning("%s; it is left behind", damage)
        return False
    return True


class Wal:
    """The write-ahead log beside the file at `path`, looked at from outside."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + "-wal")

    def size(self) -> int:
        """Bytes of the log; it begins at 0 after each checkpoint."""
        return self._path.stat().st_size if self._path.exists() else 0

    def pages(self) -> int:
        """How many pages a checkpoint writes: each frame begins with its page's number."""
        frame = PAGE_SIZE + 24
        with self._path.open("rb", buffering=0) as wal:
            return len({os.pread(wal.fileno(), 4, place) for place in range(32, self.size(), frame)})
