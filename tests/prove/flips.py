"""Bits that flip on the medium: what is read was written, and what is lost is counted."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path

from edge_agent.buffer.database import PAGE_SIZE
from edge_agent.buffer.rows import Commit, RowKey
from edge_agent.buffer.store import Store
from edge_agent.types import Priority
from tests.prove.power import BEGIN, MEMORY, Tally, contents, line, quiet

LINES = 300


def campaign(flips: int, seed: int) -> Tally:
    """`flips` times one flipped bit in a journal of 300 lines; `lost` are lines that nobody counted."""
    rng = random.Random(seed)
    tally = Tally()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edge-agent-flips-", dir=MEMORY) as folder, quiet():
        sound = Path(folder) / "sound.db"
        _fill(sound)
        for number in range(flips):
            path = Path(folder) / str(number) / "journal.db"
            path.parent.mkdir()
            shutil.copy(sound, path)
            _flip(path, rng)
            _look(path, tally, seed + number)
            shutil.rmtree(path.parent)
    tally.seconds = time.monotonic() - began
    return tally


def _store(path: Path) -> Store:
    return Store(path, max_size=64 * 1024**2, reject_new=False, readers=("sink",))


def _fill(path: Path) -> None:
    store = _store(path)
    store.open(BEGIN)
    for first in range(0, LINES, 10):
        commit = Commit(created=BEGIN)
        for number in range(first, first + 10):
            commit.pieces.setdefault(RowKey(f"m{number % 5}", Priority.TELEMETRY, ""), []).append(
                line(number)
            )
        store.commit(commit)
    store.close()


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    # The first page is the schema: a flip there costs the file, which is set aside and salvaged.
    content[rng.randrange(PAGE_SIZE, len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _look(path: Path, tally: Tally, seed: int) -> None:
    store = _store(path)
    store.open(BEGIN)
    found = [number for numbers in contents(store).values() for number in numbers]
    counted = bool(sum(store.dropped.values()))
    store.close()
    there = {number for number in found if number is not None}
    fake = len(found) - len(there) + len(there - set(range(LINES)))
    lost = LINES - len(there) if not counted else 0
    tally.cuts += 1
    tally.acknowledged += LINES
    tally.fake += fake
    tally.lost += lost
    if fake or lost:
        tally.seeds.append(seed)
