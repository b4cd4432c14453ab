"""Power cuts: a journal is used at random until the power goes; what it had acknowledged must be there."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from edge_agent.buffer.rows import Commit, Lane, RowKey
from edge_agent.buffer.store import Store
from edge_agent.errors import StoreError
from edge_agent.types import Priority
from tests.prove.medium import Medium, on

BEGIN = 1_795_000_000_000_000_000
_EVERYTHING = 2**63 - 1
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where the files of a simulated medium are: what lasts is not the real disk's to say, and it is slow."""
_LONGEST = (160, 3000)
"""Operations of the medium after which the power goes at the latest: early, or after some checkpoints."""


@dataclass(slots=True)
class Tally:
    """What a campaign of cuts found; all but `cuts`, `acknowledged` and `seconds` must be 0."""

    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    """Lines that were acknowledged and are not there."""
    fake: int = 0
    """Lines that are there and were never written, or twice."""
    uncounted: int = 0
    """Counted losses that did not happen, or the other way round."""
    broken: int = 0
    """Files that could not be used as they were."""
    seconds: float = 0.0
    seeds: list[int] = field(default_factory=list)
    """Seeds of the cuts that went wrong."""

    @property
    def bad(self) -> int:
        """Cuts that went wrong."""
        return len(self.seeds)


def line(number: int) -> bytes:
    """Line `number`, which tells of itself whether it is genuine."""
    return b"readings,machine=m%d v=%d.5 %d" % (number % 5, number * 7919 % 10007, BEGIN + number)


def genuine(text: bytes) -> int | None:
    """The number of a line; None where nobody wrote it."""
    try:
        number = int(text.rsplit(b" ", 1)[1]) - BEGIN
    except (IndexError, ValueError):
        return None
    return number if line(number) == text else None


class _Life:
    """A store in use, and what it has promised."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        self._store, self._rng = store, rng
        self._number = 0
        self._rows: dict[int, list[int]] = {}
        self.kept: set[int] = set()
        """Numbers of lines that must be there."""
        self.maybe: set[int] = set()
        """Numbers of lines that may be there or not: their commit, or their end, was under way."""

    def go_on(self) -> None:
        """Commit lines and acknowledgements until the medium fails."""
        while True:
            commit = Commit(created=BEGIN)
            fresh = self._append(commit)
            acked = self._acknowledge(commit)
            done = {number for seq in acked for number in self._rows[seq]}
            self.maybe |= set(fresh) | done
            self.kept -= done
            self._store.commit(commit)
            self.kept |= set(fresh)
            self.maybe -= set(fresh) | done
            for seq in acked:
                del self._rows[seq]
            self._remember()

    def _append(self, commit: Commit) -> list[int]:
        count = self._rng.randint(1, 40)
        fresh = list(range(self._number + 1, self._number + count + 1))
        self._number += count
        for number in fresh:
            priority = Priority.ALARM if number % 37 == 0 else Priority.TELEMETRY
            commit.pieces.setdefault(RowKey(f"m{number % 5}", priority, ""), []).append(line(number))
        return fresh

    def _acknowledge(self, commit: Commit) -> list[int]:
        if not self._rows or self._rng.random() < 0.5:
            return []
        acked = self._rng.sample(sorted(self._rows), self._rng.randint(1, len(self._rows)))
        commit.acks["sink"] = acked
        return acked

    def _remember(self) -> None:
        for seq, numbers in contents(self._store).items():
            if seq not in self._rows:
                self._rows[seq] = [number for number in numbers if number is not None]


def contents(store: Store) -> dict[int, list[int | None]]:
    """What is in a store: the numbers of each row's lines, None for one that nobody wrote."""
    lanes = [Lane(priority, 0, _EVERYTHING) for priority in Priority]
    batch = store.fetch("sink", lanes, (), 10**12, 10**9)
    return {record.seq: [genuine(text) for text in record.lines.split(b"\n")] for record in batch.records}


def one_cut(folder: Path, seed: int, tally: Tally, *, synchronous: str | None, lies: bool) -> None:
    """Use a journal in `folder` until the power goes, and look at what is left."""
    rng = random.Random(seed)
    path = folder / "journal.db"
    with Medium(lies=lies) as medium, on(medium, synchronous):
        store = _store(path)
        life = _Life(store, rng)
        medium.power_off_at = rng.randint(1, rng.choice(_LONGEST))
        # That the power is off shows as an error of the disk: what comes after it is what this is about.
        with contextlib.suppress(sqlite3.Error, OSError, StoreError):
            store.open(BEGIN)
            life.go_on()
        _abandon(store)
        medium.cut(rng)
    tally.cuts += 1
    tally.acknowledged += len(life.kept)
    _compare(path, life, tally, seed)


def _compare(path: Path, life: _Life, tally: Tally, seed: int) -> None:
    found, verdict, losses = _left(path)
    there = {number for number in found if number is not None}
    lost = len(life.kept - there)
    fake = (
        found.count(None) + len(found) - found.count(None) - len(there) + len(there - life.kept - life.maybe)
    )
    broken = int(verdict != "ok" or "journal_set_aside" in losses)
    uncounted = 0 if broken else sum(losses.values())
    tally.lost += lost
    tally.fake += fake
    tally.broken += broken
    tally.uncounted += uncounted
    if lost or fake or broken or uncounted:
        tally.seeds.append(seed)


def _left(path: Path) -> tuple[list[int | None], str, dict[str, int]]:
    """The numbers that are left, what SQLite says of the file, and what is counted as lost."""
    store = _store(path)
    store.open(BEGIN)
    try:
        found = [number for numbers in contents(store).values() for number in numbers]
        try:
            verdict = str(store._sql.execute("PRAGMA integrity_check").fetchone()[0])
        except sqlite3.DatabaseError as damage:
            verdict = str(damage)
        return found, verdict, dict(store.dropped)
    finally:
        store.close()


def numbers_in(path: Path) -> list[int | None]:
    """The numbers of the lines in the journal at `path`; None for a line that nobody wrote."""
    return _left(path)[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While it lasts, the journal does not say what is done to it on purpose."""
    journal = logging.getLogger("edge_agent.buffer")
    level = journal.level
    journal.setLevel(logging.CRITICAL + 1)
    # apsw has room for one error of a statement, and hands the others of a medium without power to this.
    hook, sys.unraisablehook = sys.unraisablehook, _unless_on_purpose
    try:
        yield
    finally:
        sys.unraisablehook = hook
        journal.setLevel(level)


def _unless_on_purpose(error: sys.UnraisableHookArgs) -> None:
    if not isinstance(error.exc_value, apsw.Error):
        sys.__unraisablehook__(error)


def campaign(cuts: int, seed: int, *, synchronous: str | None = None, lies: bool = False) -> Tally:
    """`cuts` cuts with seeds from `seed` on. `synchronous` and `lies` break the promise on purpose."""
    tally = Tally()
    began = time.monotonic()
    with quiet():
        for number in range(cuts):
            with tempfile.TemporaryDirectory(prefix="edge-agent-cut-", dir=MEMORY) as folder:
                one_cut(Path(folder), seed + number, tally, synchronous=synchronous, lies=lies)
    tally.seconds = time.monotonic() - began
    return tally


def _store(path: Path) -> Store:
    # Small, so that the WAL is moved into the file every few dozen commits.
    return Store(path, max_size=1024**2, reject_new=False, readers=("sink",))


def _abandon(store: Store) -> None:
    """Let go of a store as a dead process does: the lock goes, nothing is written any more."""
    store._drop_handle()
    store._lock.release()
