"""Several questions under way at once, questions that are asked again, and registers that get no answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from edge_agent.errors import DeviceUnreachable
from edge_agent.types import Reason
from edge_agent_simulators.modbus_server import ModbusServer
from tests.drivers.stage import ModbusFactory, good, honest, missing, scan

APART = {f"t{n}": {"address": f"holding:{2 * n}"} for n in range(24)}
"""As many blocks as tags."""
ALL_GOOD = {f"t{n}": good(1000 + 2 * n) for n in range(24)}


class Patient:
    """A device that gathers requests for a while, answers them in any order, and loses those it is told to.

    A context manager; `most` is how many requests were ever under way at once.
    """

    def __init__(self, wait: float = 0.02) -> None:
        self._wait = wait
        self._rng = random.Random(1)
        self._server: asyncio.Server | None = None
        self._held: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.late: set[int] = set()
        """Addresses whose next request is answered six rounds too late."""
        self.port = self.most = self.requests = self.connections = 0

    async def __aenter__(self) -> Patient:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        for work in (self._read(reader, writer), self._answer(writer)):
            task = asyncio.ensure_future(work)
            self._tasks.add(task)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                frame = await reader.readexactly(12)
                self._held.append(frame)
                self.requests += 1
                self.most = max(self.most, len(self._held))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        delayed: list[list[bytes]] = [[]] * 6
        while not writer.is_closing():
            await asyncio.sleep(self._wait)
            held, self._held = self._held, []
            self._rng.shuffle(held)
            now = [*delayed.pop(0), *(frame for frame in held if frame[9] not in self.late)]
            delayed.append([frame for frame in held if frame[9] in self.late])
            self.late -= {frame[9] for frame in held}
            for frame in now:
                writer.write(honest(frame))


@pytest.mark.parametrize("ahead", [1, 4, 16])
async def test_answers_in_any_order_find_their_questions(ahead: int, modbus: ModbusFactory) -> None:
    """Never more under way than allowed, and every value its own, with a device that shuffles."""
    async with Patient(0.002) as device:
        driver = modbus(device.port, APART, comm={"pipeline": ahead, "timeout": "1s"})
        await driver.connect()
        for _ in range(3):
            assert await scan(driver) == ALL_GOOD
        assert device.most == ahead
        assert (device.requests, device.connections) == (3 * 24, 1)


async def test_a_lost_reply_costs_only_itself(modbus: ModbusFactory) -> None:
    """One of sixteen is lost: the others are read, the socket stays, and its late reply answers nothing."""
    async with Patient(0.04) as device:
        driver = modbus(device.port, APART, comm={"pipeline": 16, "timeout": "150ms"})
        await driver.connect()
        late = 0
        for n in range(8):
            device.late = {2 * n}
            found = await scan(driver)
            late += found[f"t{n}"] == missing(Reason.TIMEOUT)
            assert found | {f"t{n}": ALL_GOOD[f"t{n}"]} == ALL_GOOD
            assert await scan(driver) == ALL_GOOD
        assert late >= 6
        assert device.connections == 1


async def test_questions_sent_ahead_to_a_dead_device_cost_one_timeout(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """All sixteen are given up together, and the machine is unreachable."""
    driver = modbus(device.port, APART, comm={"pipeline": 16})
    await driver.connect()
    device.faults.add("silence")
    began = time.monotonic()
    with pytest.raises(DeviceUnreachable, match="did not answer"):
        await scan(driver)
    assert time.monotonic() - began < 0.4


async def test_a_slow_device_has_its_timeout_for_each_question(modbus: ModbusFactory) -> None:
    """A device that takes its time is not given up while it goes on answering; what it skips is."""

    class Slow(ModbusServer):
        def answer(self, unit: int, pdu: bytes) -> bytes | None:
            if self.requests == 3:
                self.faults.clear()
                self.faults.add("silence", count=1)
            else:
                self.faults.clear()
                self.faults.add("delay", 0.05, count=1)
            return super().answer(unit, pdu)

    images = {1: {"holding": {2 * n: 1000 + 2 * n for n in range(24)}}}
    tags = {name: tag for name, tag in APART.items() if int(name[1:]) < 8}
    async with Slow(images) as device:
        driver = modbus(device.port, tags, comm={"pipeline": 8, "timeout": "120ms"})
        await driver.connect()
        found = await scan(driver)
        assert found == {name: ALL_GOOD[name] for name in tags} | {"t3": missing(Reason.TIMEOUT)}


async def test_exceptions_among_questions_sent_ahead(device: ModbusServer, modbus: ModbusFactory) -> None:
    """What is refused is searched and left out as ever, while the blocks beside it are read."""
    tags = APART | {"u0": {"address": "input:8"}, "u1": {"address": "input:9"}, "u2": {"address": "input:10"}}
    driver = modbus(device.port, tags, comm={"pipeline": 8, "retest": "1h"})
    await driver.connect()
    for _ in range(3):
        found = await scan(driver)
        assert found["u0"] == good(2008)
        assert found["u2"] == missing(Reason.ILLEGAL_ADDRESS)
        assert found["t9"] == good(1018)
        assert found["t12"] == missing(Reason.ILLEGAL_ADDRESS)
    before = device.requests
    await scan(driver)
    assert device.requests - before == 10 + 5 + 1


@pytest.mark.parametrize(
    ("fault", "value"), [("silence", 0), ("garbage", 0), ("close", 0), ("exception", 5), ("exception", 6)]
)
async def test_what_is_lost_once_is_asked_again_within_the_scan(
    fault: Any, value: float, device: ModbusServer, modbus: ModbusFactory
) -> None:
    """With `retries` one silence, one piece of garbage or one "busy" is not seen in the values."""
    driver = modbus(device.port, {"a": {"address": "holding:0"}}, comm={"retries": 2, "timeout": "60ms"})
    await driver.connect()
    device.faults.add(fault, value, count=2)
    assert await scan(driver) == {"a": good(1000)}
    assert device.requests == 3


@pytest.mark.parametrize(("fault", "value"), [("exception", 4), ("exception", 11), ("short", 0)])
async def test_a_no_is_not_asked_again(
    fault: Any, value: float, device: ModbusServer, modbus: ModbusFactory
) -> None:
    """Another exception, or too few registers, is an answer: the next scan asks again."""
    driver = modbus(
        device.port, {"a": {"address": "holding:0"}, "b": {"address": "holding:30"}}, comm={"retries": 5}
    )
    await driver.connect()
    device.faults.add(fault, value, addresses=[30])
    found = await scan(driver)
    assert found["a"] == good(1000)
    assert found["b"][0] is None
    assert device.requests == 2


async def test_a_busy_device_is_given_a_moment(device: ModbusServer, modbus: ModbusFactory) -> None:
    """After "busy" the question waits; after silence it has waited already."""
    driver = modbus(device.port, {"a": {"address": "holding:0"}}, comm={"retries": 1})
    await driver.connect()
    device.faults.add("exception", 6, count=1)
    began = time.monotonic()
    assert await scan(driver) == {"a": good(1000)}
    assert 0.15 < time.monotonic() - began < 0.5


class Shy(ModbusServer):
    """A device that says nothing at all to a request that covers one of `shy`, or hangs up."""

    def __init__(self, *shy: int, hangs_up: bool = False) -> None:
        super().__init__({1: {"holding": {n: 1000 + n for n in range(64)}}})
        self.shy, self.hangs_up = set(shy), hangs_up
        self.silences = 0

    def answer(self, unit: int, pdu: bytes) -> bytes | None:
        address, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        if self.shy.isdisjoint(range(address, address + count)):
            return super().answer(unit, pdu)
        self.requests += 1
        self.silences += 1
        if self.hangs_up:
            self.drop_connections()
        return None


BLOCK = {f"t{n}": {"address": f"holding:{n}"} for n in range(32)}


@pytest.mark.parametrize("hangs_up", [False, True])
@pytest.mark.parametrize("beside", [{"u": {"address": "holding:50"}}, {}])
async def test_a_register_that_silences_its_block_is_found(
    beside: dict[str, Any], hangs_up: bool, modbus: ModbusFactory, said: Callable[[], list[str]]
) -> None:
    """A block that gets no answer while its parts do is treated like exception 2, within bounded time; also
    where it is the only block, so that the device looks dead."""
    async with Shy(21, hangs_up=hangs_up) as device:
        driver = modbus(device.port, BLOCK | beside, comm={"timeout": "30ms", "retest": "1h"})
        found: dict[str, Any] = {}
        expected: dict[str, Any] = {name: good(1000 + int(name[1:])) for name in BLOCK} | {"u": good(1050)}
        expected["t21"] = missing(Reason.NOT_CONNECTED if hangs_up else Reason.TIMEOUT)
        if not beside:
            del expected["u"]
        await driver.connect()
        for _ in range(12):
            silences = device.silences
            try:
                found = await scan(driver)
            except DeviceUnreachable:
                await driver.close()
                await driver.connect()
            assert device.silences - silences <= 4
            if found == expected:
                break
        assert found == expected
        before = device.requests
        assert await scan(driver) == expected
        assert device.requests - before <= 1 + bool(beside) + 1
        lines = said()
        assert len([line for line in lines if "t21) is refused" in line]) == 1
        assert not [line for line in lines if "is refused" in line and "t21" not in line]


async def test_a_search_among_silent_registers_ends(modbus: ModbusFactory) -> None:
    """A table that the device is silent about costs a bounded number of timeouts, not one a register."""
    async with Shy(*range(32)) as device:
        tags = BLOCK | {"u": {"address": "holding:50"}}
        driver = modbus(device.port, tags, comm={"timeout": "10ms", "retest": "1h"})
        await driver.connect()
        silences = 0
        for _ in range(30):
            silences = device.silences
            found = await scan(driver)
            assert device.silences - silences <= 4
            assert found["u"] == good(1050)
            assert found["t3"] == missing(Reason.TIMEOUT)
        assert device.silences <= 40
        assert device.silences == silences, "it still asks"


async def test_a_device_that_dies_within_a_scan_costs_four_timeouts(modbus: ModbusFactory) -> None:
    """However many blocks are left: the rest is not asked, and the next scan begins with it."""
    async with Shy(*range(1, 60)) as device:
        driver = modbus(device.port, APART, comm={"timeout": "20ms", "retest": "1h"})
        await driver.connect()
        for _ in range(5):
            silences = device.silences
            found = await scan(driver)
            assert found["t0"] == good(1000)
            assert set(found.values()) == {good(1000), missing(Reason.TIMEOUT)}
            assert device.silences - silences <= 4
        device.shy.clear()
        await driver.close()
        await driver.connect()
        assert await scan(driver) == ALL_GOOD
