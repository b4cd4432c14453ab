"""A long outage in virtual time: the journal fills for days, the sink comes back, all is accounted for.

Every line tells by its time what it must say, so that what comes out can be proved genuine.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

from edge_agent.buffer import Delivery, Journal, database, forward
from edge_agent.clock import SECOND, Clock
from edge_agent.contracts.plugs import Sink
from edge_agent.settings.models import BufferSettings
from edge_agent.types import Record
from tests.prove.power import BEGIN

MACHINES, TAGS = 10, 50
"""500 tags at 1 Hz."""
COMMIT = 10
"""Virtual seconds between commits."""
_BODIES = 997
"""Scans that differ before they begin again; a prime, so that no commit looks like another one."""


@dataclass(slots=True)
class Account:
    """What became of the readings; lost, fake, repeated, disordered and uncounted must be 0."""

    emitted: int = 0
    delivered: int = 0
    dropped: int = 0
    """Lines that the journal says it dropped."""
    lost: int = 0
    fake: int = 0
    repeated: int = 0
    disordered: int = 0
    most_bytes: int = 0
    """The largest size of the journal."""
    seconds: float = 0.0

    @property
    def uncounted(self) -> int:
        """Lines that neither came nor are counted."""
        return abs(self.emitted - self.delivered - self.dropped)


class VirtualClock(Clock):
    """Time as the campaign says."""

    time = BEGIN

    def now(self) -> int:
        """The virtual time."""
        return self.time

    def elapsed(self) -> int:
        """The virtual time too: nobody sets this clock."""
        return self.time


class Plant:
    """Ten machines whose scan at second `n` is always the same line."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self._heads = [f"readings,site=s,machine=m{i} ".encode() for i in range(MACHINES)]
        self._bodies = [
            ",".join(f"tag_{tag:02d}={rng.uniform(0, 100):.4f}" for tag in range(TAGS)).encode()
            for _ in range(_BODIES)
        ]

    def scan(self, machine: int, second: int) -> bytes:
        """The line of `machine` at `second`."""
        body = self._bodies[(second * 31 + machine) % _BODIES]
        return b"%s%s %d" % (self._heads[machine], body, BEGIN + second * SECOND)


class Ledger(Sink):
    """Takes records and holds them against what was emitted."""

    def __init__(self, plant: Plant, seconds: int) -> None:
        self._plant = plant
        self._seen = [bytearray(seconds) for _ in range(MACHINES)]
        self._newest = [-1] * MACHINES
        self.delivered = self.fake = self.repeated = self.disordered = 0

    @property
    def name(self) -> str:
        """`ledger`."""
        return "ledger"

    async def deliver(self, records: Sequence[Record], *, backlog: bool) -> None:
        """Look at every line."""
        for record in records:
            machine = int(record.machine[1:])
            for text in record.lines.split(b"\n"):
                self._take(machine, text)

    def _take(self, machine: int, text: bytes) -> None:
        second = (int(text[-19:]) - BEGIN) // SECOND
        if not 0 <= second < len(self._seen[machine]) or self._plant.scan(machine, second) != text:
            self.fake += 1
        elif self._seen[machine][second]:
            self.repeated += 1
        else:
            self._seen[machine][second] = 1
            self.delivered += 1
            self.disordered += second < self._newest[machine]
            self._newest[machine] = max(second, self._newest[machine])

    def missing(self) -> int:
        """Lines that have not come."""
        return sum(seen.count(0) for seen in self._seen)


async def outage(folder: Path, seconds: int, *, max_size: int, seed: int = 1) -> Account:
    """An outage of `seconds` virtual seconds with a journal of at most `max_size` bytes, and its end."""
    began = time.monotonic()
    plant, clock, account = Plant(seed), VirtualClock(), Account()
    ledger = Ledger(plant, seconds)
    settings = BufferSettings.model_validate(
        {"max_size": f"{max_size // 1024}KiB", "commit_interval": "1h", "max_age": "60d"}
    )
    with _unsynced():
        async with Journal(
            folder / "journal.db", clock, settings, readers=["ledger"], eager=False
        ) as journal:
            await _fill(journal, plant, clock, seconds, account)
            await _drain(journal, ledger)
            account.dropped = sum(journal.stats().dropped.values())
    account.delivered, account.fake = ledger.delivered, ledger.fake
    account.repeated, account.disordered = ledger.repeated, ledger.disordered
    account.lost = ledger.missing() - account.dropped
    account.seconds = time.monotonic() - began
    return account


async def _fill(journal: Journal, plant: Plant, clock: VirtualClock, seconds: int, account: Account) -> None:
    for start in range(0, seconds, COMMIT):
        for machine in range(MACHINES):
            stop = min(start + COMMIT, seconds)
            journal.append(f"m{machine}", b"\n".join(plant.scan(machine, s) for s in range(start, stop)))
            account.emitted += stop - start
        clock.time = BEGIN + start * SECOND
        await journal.flush()
        account.most_bytes = max(account.most_bytes, journal.stats().bytes)


async def _drain(journal: Journal, ledger: Ledger) -> None:
    delivering = asyncio.create_task(forward(journal, journal.reader("ledger"), ledger, Delivery("ledger")))
    try:
        while journal.stats().rows:
            await asyncio.sleep(0.01)
            await journal.flush()
    finally:
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)


@contextlib.contextmanager
def _unsynced() -> Iterator[None]:
    # A week has 60,000 commits: what they survive is for the other campaigns, here it is about counting.
    with patch.object(database, "connect", partial(database.connect, synchronous="OFF")):
        yield
