"""How much a day of readings writes to the medium, counted below SQLite."""

from __future__ import annotations

import random
from pathlib import Path

from edge_agent.buffer.rows import Commit, RowKey
from edge_agent.buffer.store import Store
from edge_agent.types import Priority
from tests.prove.medium import Medium, on
from tests.prove.power import BEGIN

MACHINES, TAGS, SECONDS = 5, 20, 1800
"""100 tags at 1 Hz, for half an hour that stands for a day."""


def megabytes_a_day(path: Path, *, interval: int) -> float:
    """MB written in a day by the journal of 100 tags at 1 Hz that commits every `interval` seconds.

    The sink acknowledges each commit with the next; every byte given to the medium counts, the WAL and its
    way into the main file alike.
    """
    rng = random.Random(5)
    walks = [[rng.uniform(0, 100) for _ in range(TAGS)] for _ in range(MACHINES)]
    with Medium() as medium, on(medium):
        store = Store(path, max_size=2 * 1024**3, reject_new=False, readers=("sink",))
        store.open(BEGIN)
        acks: list[int] = []
        begun = medium.bytes_written
        for second in range(0, SECONDS, interval):
            commit = Commit(created=BEGIN, acks={"sink": acks})
            for machine in range(MACHINES):
                lines = [_scan(walks[machine], machine, second + i, rng) for i in range(interval)]
                commit.pieces[RowKey(f"pump-{machine}", Priority.TELEMETRY, "")] = lines
            first = store.next_seq
            store.commit(commit)
            acks = list(range(first, store.next_seq))
        store.close()
        return (medium.bytes_written - begun) / 1e6 * 86_400 / SECONDS


def _scan(walk: list[float], machine: int, second: int, rng: random.Random) -> bytes:
    """One scan: measurements that wander, with the digits that a float32 brings."""
    for i in range(TAGS):
        walk[i] += rng.gauss(0, 0.05)
    fields = ",".join(f"tag_{i:02d}={value:.5f}" for i, value in enumerate(walk))
    start = (
        f"readings,enterprise=fjord-parts,site=ulsteinvik,area=machining,line=line-1,machine=pump-{machine}"
    )
    return f"{start} {fields} {BEGIN + second * 10**9}".encode()
