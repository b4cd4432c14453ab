"""A hundred Modbus machines through the real sampler, half of them dead: the living keep their cadence."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from edge_agent.clock import Clock
from edge_agent.pipeline.sampler import Sampler
from edge_agent.types import Quality, SampleBatch
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.settings import ModbusMachine
from edge_agent_simulators.modbus_server import ModbusServer

EVERY = 0.4
TIMEOUT = "60ms"
WINDOW = 4.0
IMAGE = {"holding": {n: 1000 + n for n in range(10)}}
TAGS: dict[str, Any] = {f"t{n}": {"address": f"holding:{n}"} for n in range(10)}


@contextlib.asynccontextmanager
async def sampled(
    machines: Sequence[tuple[int, int]], timeout: str = TIMEOUT
) -> AsyncIterator[tuple[list[Sampler], list[int]]]:
    """Samplers of machines given by port and unit, with how many good scans each had."""
    good = [0] * len(machines)

    def counting(index: int, batch: SampleBatch) -> None:
        good[index] += batch.status(0).quality is Quality.GOOD and batch.values[0] == 1000

    samplers, tasks = [], []
    for index, (port, unit) in enumerate(machines):
        settings = ModbusMachine.model_validate(
            {"driver": "modbus", "url": f"tcp://127.0.0.1:{port}", "unit_id": unit, "every": f"{EVERY}s",
             "comm": {"timeout": timeout}, "tags": TAGS}
        )  # fmt: skip
        driver = ModbusDriver(f"m{index}", settings, Clock())
        sampler = Sampler(f"m{index}", driver, partial(counting, index), Clock())
        samplers.append(sampler)
        tasks.append(asyncio.create_task(sampler.run()))
    try:
        yield samplers, good
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def kept(samplers: Sequence[Sampler], good: list[int], living: int) -> float:
    """The share of their slots that the living, the first of all, kept within the window."""
    loop = asyncio.get_running_loop()
    before, missed, began = sum(good[:living]), sum(s.state.overruns for s in samplers[:living]), loop.time()
    await asyncio.sleep(WINDOW)
    slots = living * (loop.time() - began) / EVERY
    had = sum(good[:living]) - before
    lost = sum(s.state.overruns for s in samplers[:living]) - missed
    assert not any(good[living:])
    # A slot at the edge of the window may fall on either side; a lost one is counted as an overrun.
    return min(1 - lost / slots, (had + living / 4) / slots)


async def until_all_have(good: list[int], living: int) -> None:
    """Wait for the first scan of all that live."""
    async with asyncio.timeout(10):
        while not all(good[:living]):
            await asyncio.sleep(0.02)


async def test_on_connections_of_their_own() -> None:
    """50 living, 25 that refuse the connection and 25 that take it and stay silent."""
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(ModbusServer({1: IMAGE})) for _ in range(75)]
        for silent in servers[50:]:
            silent.faults.add("silence")
        closed = [stack.enter_context(socket.socket()) for _ in range(25)]
        for one in closed:
            one.bind(("127.0.0.1", 0))  # Bound and not listening: refused, and nobody else gets the port.
        ports = [server.port for server in servers] + [one.getsockname()[1] for one in closed]
        samplers, good = await stack.enter_async_context(sampled([(port, 1) for port in ports]))
        await until_all_have(good, 50)
        assert await kept(samplers, good, 50) >= 0.99
        assert sum(server.write_requests for server in servers) == 0
        assert max(len(server.connections) for server in servers) == 1


async def test_on_one_connection() -> None:
    """50 living units of one gateway, 25 silent ones, and 25 of which the gateway says that they are away."""
    living = 50
    async with ModbusServer(dict.fromkeys(range(1, 101), IMAGE)) as gateway:
        for unit in range(living + 1, 76):
            gateway.faults.add("silence", unit=unit)
        for unit in range(76, 101):
            gateway.faults.add("exception", 11, unit=unit)
        async with sampled([(gateway.port, unit) for unit in range(1, 101)]) as (samplers, good):
            await until_all_have(good, living)
            # Each dead one is tried once at the start; that is not yet the rest of its life.
            await asyncio.sleep(2)
            assert await kept(samplers, good, living) >= 0.99
            assert gateway.accepted == 1
        assert gateway.write_requests == 0


async def test_dead_units_with_a_long_timeout_cost_5_percent_at_most() -> None:
    """Four silent units with a timeout longer than the period: without rests each attempt is a lost slot."""
    living = 10
    async with ModbusServer(dict.fromkeys(range(1, 15), IMAGE)) as gateway:
        for unit in range(living + 1, 15):
            gateway.faults.add("silence", unit=unit)
        async with sampled([(gateway.port, unit) for unit in range(1, 15)], "450ms") as (samplers, good):
            await until_all_have(good, living)
            await asyncio.sleep(2)
            assert await kept(samplers, good, living) >= 0.95
