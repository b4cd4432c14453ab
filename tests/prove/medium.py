"""A storage medium that loses power: what was not synced is lost in part, by sectors, in any order.

SQLite writes through an apsw VFS on top of the real files. The real files hold what the system would show
while the power is on; `cut` rewrites them to what a card may hold after it went. The same medium can be full
or fail at the n-th operation. `Sqlite` stands in for the sqlite3 module where the journal opens its file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

import apsw

from edge_agent.buffer import database

SECTOR = 512
"""Bytes that a card writes at once; a longer write may be torn between them."""


@dataclass(slots=True)
class _File:
    """One file: what is on the medium, and what was written since its last sync."""

    durable: bytearray
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)
    """Writes (offset, bytes) and truncations (size), in order."""
    exists: bool = True

    def forget(self) -> None:
        """A sync has failed: the system calls the pages clean, and no later sync writes them."""
        self.pending.clear()

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()


def _apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del content[change:]
        return
    offset, data = change
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _sectors(change: tuple[int, bytes] | int) -> Iterator[tuple[int, bytes] | int]:
    if isinstance(change, int):
        yield change
        return
    offset, data = change
    end = offset + len(data)
    while offset < end:
        stop = min(end, (offset // SECTOR + 1) * SECTOR)
        yield offset, data[len(data) - (end - offset) : len(data) - (end - stop)]
        offset = stop


class Medium(apsw.VFS):
    """The medium below `folder`. `lies`: a sync is only promised, as cheap cards do.

    `before(operation)` is called before each write, sync, truncation and deletion; it may raise an apsw error
    (FullError, IOError). `power_off_at` counts those operations down to the moment the power goes.
    """

    def __init__(self, *, lies: bool = False) -> None:
        self.name = f"medium-{os.getpid()}-{id(self)}"
        super().__init__(self.name, "unix")
        self.files: dict[str, _File] = {}
        self.operations = 0
        self.bytes_written = 0
        self.syncs = 0
        self.power_off_at: int | None = None
        self.before: Callable[[str], None] = lambda _operation: None
        self._lies = lies

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unregister()

    def operate(self, operation: str) -> None:
        """Count one operation; apsw.IOError once the power is off."""
        if self.power_off_at is not None and self.operations >= self.power_off_at:
            raise apsw.IOError("the power is off")
        self.operations += 1
        self.before(operation)

    def excepthook(self, *_error: object) -> bool:
        """Settled: apsw would print the errors that this medium raises on purpose, beside raising them."""
        return True

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _Handle:
        """Open a file on the medium."""
        return _Handle(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """Delete a file; without a sync of its folder a cut may bring it back."""
        self.operate("delete")
        super().xDelete(filename, syncdir)
        if syncdir:
            self.files.pop(filename, None)
        elif (held := self.files.get(filename)) is not None:
            held.exists = False

    def held(self, path: str) -> _File:
        """The file at `path`, as it was when it was first opened."""
        known = self.files.get(path)
        if known is None or not known.exists:
            content = Path(path).read_bytes() if known is None and Path(path).exists() else b""
            known = self.files[path] = _File(bytearray(content))
        return known

    def synced(self, path: str) -> None:
        """A sync of the file at `path` has returned."""
        self.syncs += 1
        if not self._lies:
            self.held(path).sync()

    def sync_folder(self, _folder: Path) -> None:
        """Names that were made or deleted last from here on."""
        try:
            self.operate("sync folder")
        except apsw.Error as error:
            raise OSError(errno.EIO, str(error)) from error
        for path in [path for path, held in self.files.items() if not held.exists]:
            del self.files[path]

    def cut(self, rng: random.Random) -> None:
        """The power goes: of what was not synced any part is lost, and nobody knows which."""
        for path, held in self.files.items():
            content = bytearray(held.durable)
            for change in held.pending:
                for part in _sectors(change):
                    if rng.random() < 0.5:
                        _apply(content, part)
            if held.exists or rng.random() < 0.5:
                Path(path).write_bytes(content)
            else:
                Path(path).unlink(missing_ok=True)
        self.files.clear()


class _Handle(apsw.VFSFile):
    """An open file of the medium."""

    def __init__(self, medium: Medium, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._medium = medium
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        medium.held(self._path)
        super().__init__("unix", name, flags)

    def excepthook(self, *_error: object) -> bool:
        """Settled, as that of the medium."""
        return True

    def xWrite(self, data: bytes, offset: int) -> None:
        self._medium.operate("write")
        super().xWrite(data, offset)
        self._medium.bytes_written += len(data)
        self._medium.held(self._path).pending.append((offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        self._medium.operate("truncate")
        super().xTruncate(newsize)
        self._medium.held(self._path).pending.append(newsize)

    def xSync(self, flags: int) -> None:
        # The real sync is left out: the medium decides what lasts, and ten thousand cuts shall be quick.
        try:
            self._medium.operate("sync")
        except apsw.Error:
            self._medium.held(self._path).forget()
            raise
        self._medium.synced(self._path)


class Sqlite:
    """As much of the sqlite3 module as the journal uses, with its files on a medium."""

    Error = sqlite3.Error
    DatabaseError = sqlite3.DatabaseError
    OperationalError = sqlite3.OperationalError

    def __init__(self, medium: Medium, *, synchronous: str | None = None) -> None:
        self._medium = medium
        self._synchronous = synchronous
        """Instead of what the journal asks for: a build broken on purpose."""

    def connect(self, path: Path | str, **_options: object) -> Connection:
        """A connection to the file at `path`."""
        with _translated():
            connection = apsw.Connection(str(path), vfs=self._medium.name)
        return Connection(connection, self._synchronous)


@contextlib.contextmanager
def on(medium: Medium, synchronous: str | None = None) -> Iterator[None]:
    """While it lasts, journals are opened on `medium`; `synchronous` replaces what they ask for."""
    with (
        patch.object(database, "sqlite3", Sqlite(medium, synchronous=synchronous)),
        patch.object(database, "sync_folder", medium.sync_folder),
    ):
        yield


class Connection:
    """A sqlite3.Connection in autocommit mode, as far as the journal uses one."""

    def __init__(self, connection: apsw.Connection, synchronous: str | None) -> None:
        self._connection = connection
        self._synchronous = synchronous
        self.text_factory: object = None

    def execute(self, statement: str, values: Sequence[Any] | dict[str, Any] = ()) -> Cursor:
        """One statement."""
        if self._synchronous and statement.startswith("PRAGMA synchronous"):
            statement = f"PRAGMA synchronous={self._synchronous}"
        with _translated():
            before = self._connection.total_changes()
            cursor = self._connection.execute(statement, values)
        return Cursor(self._connection, cursor, before)

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> Cursor:
        """One statement for each row."""
        with _translated():
            before = self._connection.total_changes()
            cursor = self._connection.executemany(statement, rows)
        return Cursor(self._connection, cursor, before)

    def executescript(self, script: str) -> Cursor:
        """Several statements."""
        return self.execute(script)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    def close(self) -> None:
        """Close the file."""
        with _translated():
            self._connection.close()


class Cursor:
    """What a statement gives."""

    def __init__(self, connection: apsw.Connection, cursor: apsw.Cursor, before: int) -> None:
        self._cursor = cursor
        self.rowcount = connection.total_changes() - before
        self.lastrowid = connection.last_insert_rowid()

    def fetchone(self) -> Any:
        """The next row, or None."""
        with _translated():
            return next(self._cursor, None)

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        with _translated():
            return list(self._cursor)

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row


class _translated:
    """apsw's errors as sqlite3's."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            raise sqlite3.DatabaseError(str(error)) from error
        if isinstance(error, apsw.Error):
            raise sqlite3.OperationalError(str(error)) from error
