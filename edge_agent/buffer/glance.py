"""A journal file of an agent that does not run, looked at without changing it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.buffer import database
from edge_agent.buffer.rows import Quarantined
from edge_agent.buffer.table import Records
from edge_agent.errors import StoreError, TemporaryError


@dataclass(frozen=True, slots=True)
class Figures:
    """What the file says of itself; `oldest` and `newest` are UTC ns."""

    rows: int
    bytes: int
    packed: int
    """Bytes of the rows."""
    oldest: int | None
    newest: int | None
    quarantined: int
    dropped: dict[str, int]


@contextlib.contextmanager
def glance(path: Path) -> Iterator[Glance]:
    """The file, read-only. TemporaryError where an agent has it, StoreError where it cannot be read."""
    if not path.exists():
        raise StoreError(f"{path} is not there: nothing has been kept yet, or `state:` is another folder")
    _refuse_a_running_agents(path.with_name(path.name + ".lock"))
    try:
        connection = _open(path)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    with contextlib.closing(connection):
        try:
            yield Glance(connection)
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be read: {error}") from error


def _refuse_a_running_agents(lock: Path) -> None:
    """Leave the file alone while its owner holds the lock, which is looked at and not taken."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{lock} cannot be read ({error.strerror}): ask as the agent's user") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise TemporaryError(
            f"an edge-agent (pid {owner}) uses {lock.parent} and does not answer on its control socket: "
            "ask as its user, with its $RUNTIME_DIRECTORY, or stop it"
        ) from error
    finally:
        os.close(descriptor)


def _open(path: Path) -> sqlite3.Connection:
    """Without a WAL the file is all there is and is opened as a picture, which makes no file beside it."""
    wal = path.with_name(path.name + "-wal")
    mode = "mode=ro" if wal.exists() and wal.stat().st_size else "immutable=1"
    connection = sqlite3.connect(f"file:{path.absolute()}?{mode}", uri=True)
    try:
        if connection.execute("PRAGMA application_id").fetchone()[0] != database.APPLICATION_ID:
            raise StoreError(f"{path} is not a journal of edge-agent")
    except BaseException:
        connection.close()
        raise
    return connection


class Glance:
    """An open file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection
        self._records = Records(connection, ())

    def figures(self) -> Figures:
        """Its figures; reads every row's head."""
        query = (
            "SELECT count(*), coalesce(sum(length(body) + 128), 0), min(created), max(created) FROM records"
        )
        rows, packed, oldest, newest = self._sql.execute(query).fetchone()
        facts = dict(self._sql.execute("SELECT name, value FROM facts"))
        return Figures(
            rows,
            self._records.live_bytes(),
            packed,
            oldest,
            newest,
            self._records.quarantine_size(),
            json.loads(facts.get("dropped", "{}")),
        )

    def quarantine(self, limit: int, before: int) -> list[Quarantined]:
        """What is in quarantine with a number below `before`, newest first."""
        return self._records.quarantine(limit, before)
