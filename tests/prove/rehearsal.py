"""The oracle over one process: real driver, journal and delivery loop, a device that lies, a sudden end.

Small enough to run on builds that are broken on purpose, which it must find out.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from edge_agent.buffer import Delivery, Journal, forward
from edge_agent.clock import Clock
from edge_agent.contracts.plugs import Sink
from edge_agent.errors import DriverError, SinkUnavailable
from edge_agent.lineprotocol import BatchEncoder, Point, parse
from edge_agent.settings.models import BufferSettings
from edge_agent.types import Record
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.settings import ModbusMachine
from tests.prove import device, launch, oracle
from tests.prove.observer import Seen

MACHINE = "pump-a"
PLAN = ("honest", "honest", "short", "honest", "wrong-id", "honest", "refuse", "honest", "garbage", "honest")
ROUNDS = 6
INTERVAL = 0.03
"""Seconds between commits."""


class Memory(Sink):
    """A store that forgets to answer now and then: the same records come again."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.seen: list[Seen] = []
        self._calls = 0

    @property
    def name(self) -> str:
        """`memory`."""
        return "memory"

    async def deliver(self, records: Sequence[Record], *, backlog: bool) -> None:
        """Keep the records' lines; every third answer is lost on its way."""
        self._calls += 1
        for record in records:
            self.seen.append(Seen(0.0, record.machine, False, record.seq, backlog))
            self.points += [parse(line) for line in record.lines.split(b"\n")]
        if self._calls % 3 == 0:
            raise SinkUnavailable("the answer was lost", retry_after=0.0)


@asynccontextmanager
async def _machine(log: io.StringIO) -> AsyncIterator[tuple[device.Device, ModbusDriver]]:
    made = device.Device(MACHINE, log)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    tags = {f"t{tag}": {"address": f"holding:{2 * tag}", "type": "uint32"} for tag in range(device.TAGS)}
    url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    raw = {"driver": "modbus", "url": url, "timeout": "100ms", "tags": tags}
    driver = ModbusDriver(MACHINE, ModbusMachine.model_validate(raw), Clock())
    try:
        yield made, driver
    finally:
        await driver.close()
        server.close()
        await asyncio.sleep(0.01)


class _Life:
    """The agent from a start to an end."""

    def __init__(self, folder: Path, store: Memory) -> None:
        settings = BufferSettings.model_validate({"commit_interval": f"{INTERVAL}s"})
        self._store = store
        # Not eager, so that there is always something that waits for its commit when the end comes.
        self.journal = Journal(
            folder / "agent" / "journal.db", Clock(), settings, readers=["memory"], eager=False
        )

    async def __aenter__(self) -> _Life:
        await self.journal.open()
        return self

    def deliver(self) -> None:
        """Begin to deliver."""
        work = forward(
            self.journal,
            self.journal.reader("memory"),
            self._store,
            Delivery("memory"),
            max_records=4,
        )
        self._delivering = asyncio.create_task(work)

    async def __aexit__(self, *_: object) -> None:
        self._delivering.cancel()
        await asyncio.gather(self._delivering, return_exceptions=True)

    async def scan(self, made: device.Device, driver: ModbusDriver) -> None:
        """The whole plan, as the sampler and the fan-out would."""
        (group,) = driver.groups
        encoder = BatchEncoder(MACHINE, {"site": "hall"}, "readings", group.tags)
        for made.mode in PLAN:
            await asyncio.sleep(INTERVAL / 4)
            try:
                await driver.connect()
                batches = await driver.read(group)
            except DriverError:
                continue  # as it should be where the device lies
            finally:
                await driver.close()
            for batch in batches:
                if line := encoder.encode(batch):
                    self.journal.append(MACHINE, line)

    async def die(self) -> None:
        """A sudden end: nothing is committed any more."""
        await self.journal._worker.call(self.journal._store._drop_handle)

    async def finish(self) -> None:
        """An end in good order."""
        async with asyncio.timeout(10):
            await self.journal.flush()
            while self.journal.stats().rows:
                await asyncio.sleep(0.01)
                await self.journal.flush()


async def rehearse(folder: Path, ledger: Path) -> oracle.Verdict:
    """Two lives, the second with a backlog; `ledger` is what tests/prove/launch.py keeps of both."""
    log, store = io.StringIO(), Memory()
    async with _machine(log) as (made, driver):
        async with _Life(folder, store) as first:
            first.deliver()
            for _ in range(ROUNDS):
                await first.scan(made, driver)
            await first.die()
        await first.journal.close()
        launch.begin_life(ledger)
        async with _Life(folder, store) as second:
            for _ in range(ROUNDS):
                await second.scan(made, driver)
            second.deliver()  # a backlog by now
            await second.finish()
        await second.journal.close()
    return oracle.judge(
        served=list(device.entries(log.getvalue())),
        ledger=oracle.lives(ledger),
        stored=oracle.gathered(store.points),
        records=store.seen,
        window=10 * INTERVAL,
    )
