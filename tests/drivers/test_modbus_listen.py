"""`mode: listen`: the values that another master asks for, and not one byte of our own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import SECOND, Clock
from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent.types import Reason
from edge_agent_drivers.modbus import listening
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.endpoint import parse_endpoint
from edge_agent_drivers.modbus.settings import ModbusMachine
from edge_agent_drivers.modbus.traffic import Heard, Traffic
from edge_agent_drivers.modbus.tty import open_tty
from tests.drivers.stage import by_name, good, missing, scan
from tests.support.bus import Bus, read_request, sealed

TAGS = {
    "speed": {"address": "holding:0", "type": "uint32"},
    "state": {"address": "holding:3", "bits": {0: "ready", 2: "fault"}},
    "level": {"address": "holding:30"},
}
Make = Callable[..., ModbusDriver]


def reply(unit: int, *words: int, function: int = 3) -> bytes:
    """A device's answer."""
    content = b"".join(word.to_bytes(2, "big") for word in words)
    return sealed(bytes((unit, function, len(content))) + content)


def hear(*frames: bytes, every: float = 0.1) -> tuple[list[Heard], Traffic]:
    """Frames one after the other."""
    traffic, found = Traffic(), []
    for i, frame in enumerate(frames):
        found += traffic.feed(frame, i * every)
    return [*found, *traffic.quiet(len(frames) * every)], traffic


def test_questions_and_answers_are_paired() -> None:
    """Two units, two tables, an exception; what was not asked for is nothing."""
    found, traffic = hear(
        reply(9, 1),  # joined in the middle
        read_request(1, 100, 2), reply(1, 7, 8),
        read_request(3, 0, 1, function=4), reply(3, 9, function=4),
        read_request(1, 5, 1), sealed(b"\x01\x83\x02"),
        read_request(1, 5, 12, function=1), sealed(b"\x01\x01\x02\xcd\x01"), every=0.25,
    )  # fmt: skip
    assert found == [
        Heard(0.5, 1, Table.HOLDING, 100, 2, b"\0\7\0\x08"),
        Heard(1.0, 3, Table.INPUT, 0, 1, b"\0\x09"),
        Heard(1.5, 1, Table.HOLDING, 5, 1, b"", 2),
        Heard(2.0, 1, Table.COIL, 5, 12, b"\xcd\x01"),
    ]
    assert sorted(traffic.asked) == [1, 3]
    assert not traffic.noise


def test_writes_are_understood_and_give_no_values() -> None:
    """Functions 5, 6, 15, 16 and 23 with their answers, and then a read."""
    found, traffic = hear(
        *2 * [sealed(b"\x01\x05\0\x07\xff\0")],
        *2 * [sealed(b"\x01\x06\0\x07\0\x2a")],
        sealed(b"\x01\x0f\0\0\0\x0a\x02\xcd\x01"), sealed(b"\x01\x0f\0\0\0\x0a"),
        sealed(b"\x01\x10\0\0\0\2\4\0\1\0\2"), sealed(b"\x01\x10\0\0\0\2"),
        sealed(b"\x01\x17\0\0\0\2\0\0\0\1\2\0\1"), reply(1, 1, 2, function=23),
        read_request(1, 0, 1), reply(1, 5),
    )  # fmt: skip
    assert [(heard.address, heard.payload) for heard in found] == [(0, b"\0\x05")]
    assert not traffic.noise
    assert traffic.asked[1] == 6
    assert traffic.answered[1] == 6


def test_a_stream_cut_anywhere_gives_the_same() -> None:
    """However the bytes are cut into pieces, the same answers are heard."""
    frames = b"".join(read_request(unit, 10 * unit, 3) + reply(unit, unit, 2, 3) for unit in range(1, 30))
    rng = random.Random(2)
    for _ in range(30):
        traffic, found, start = Traffic(), [], 0
        while start < len(frames):
            end = start + rng.randint(1, 40)
            found += traffic.feed(frames[start:end], 0.0)
            start = end
        assert [heard.unit for heard in found] == list(range(1, 30))


def test_garbage_never_becomes_a_value() -> None:
    """Bits flip and bytes go missing in a long stream: every value heard is one that was said."""
    rng = random.Random(4)
    traffic, kept, said = Traffic(), 0, 0
    for turn in range(20_000):
        address = rng.randrange(1000)
        at = turn * 0.1
        for frame in (read_request(1, address, 2), reply(1, address, address + 1)):
            if rng.random() < 0.1:
                cut = rng.randrange(len(frame))
                frame = frame[:cut] + rng.randbytes(rng.randrange(3)) + frame[cut + 1 :]
            for heard in [*traffic.feed(frame, at), *(traffic.quiet(at) if rng.random() < 0.7 else [])]:
                kept += 1
                words = int.from_bytes(heard.payload[:2], "big"), int.from_bytes(heard.payload[2:], "big")
                assert words == (heard.address, heard.address + 1)
        said += 1
    assert kept > said / 2


def test_a_late_answer_is_not_taken_for_the_next_question() -> None:
    """The master asked again elsewhere before the first answer came: neither is believed, the next one is."""
    found, _ = hear(
        read_request(1, 0, 1), read_request(1, 50, 1), reply(1, 1000), reply(1, 1050),
        read_request(1, 60, 1), reply(1, 1060), every=0.01,
    )  # fmt: skip
    assert all(heard.payload == (1000 + heard.address).to_bytes(2, "big") for heard in found)
    traffic = Traffic()
    for i in range(400):
        address = i % 5
        assert not traffic.feed(read_request(1, address, 1), i * 0.01) or True
        found = traffic.feed(reply(1, 1000 + address), i * 0.01 + 0.005) if i != 100 else []
    assert [heard.address for heard in found] == [399 % 5]


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "LEAST", 0.4)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """An RS-485 line."""
    async with Bus(tmp_path) as made:
        yield made


@pytest.fixture
async def listener() -> AsyncIterator[Make]:
    """Makes listening drivers, and closes them."""
    made: list[ModbusDriver] = []

    def make(url: str, tags: dict[str, Any] = TAGS, **keys: Any) -> ModbusDriver:
        raw = {"driver": "modbus", "url": url, "tags": tags, "mode": "listen", "every": "50ms", **keys}
        settings = ModbusMachine.model_validate(raw)
        driver = ModbusDriver(f"machine-{settings.unit_id}", settings, Clock())
        made.append(driver)
        return driver

    yield make
    for driver in made:
        await driver.close()


def url(path: Path) -> str:
    return f"rtu://{path}?baudrate=115200&parity=N"


async def poll(bus: Bus, *requests: bytes) -> None:
    """Another master."""
    while True:
        for request in requests:
            bus.say(request)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def master(bus: Bus, *requests: bytes) -> AsyncIterator[None]:
    polling = asyncio.ensure_future(poll(bus, *requests))
    try:
        yield
    finally:
        polling.cancel()


async def until(look: Callable[[], Awaitable[dict[str, Any]]], *names: str) -> dict[str, Any]:
    """The last cell of each tag, once all of `names` have one."""
    cells: dict[str, Any] = {}
    async with asyncio.timeout(3):
        while not cells.keys() >= set(names):
            cells |= await look()
            await asyncio.sleep(0.01)
    return cells


RIGHT = {
    "speed": good((100 << 16) + 101),
    "state": good(103),
    "state.ready": good(True),
    "state.fault": good(True),
}


async def test_values_come_from_the_other_masters_questions(bus: Bus, listener: Make) -> None:
    """Two machines share the port; each gets its own unit's values, with the time they were heard."""
    path = bus.plug("ttyUSB0")
    for unit in (1, 2):
        bus.device(unit)
    first, second = (
        listener(url(path), unit_id=1),
        listener(url(path), {"x": {"address": "holding:5"}}, unit_id=2),
    )
    async with master(bus, read_request(1, 0, 10), read_request(2, 5, 1), read_request(1, 30, 1)):
        began = Clock().now()
        await asyncio.gather(first.connect(), second.connect())
        assert await until(lambda: scan(first), *RIGHT, "level") == {**RIGHT, "level": good(130)}
        assert await until(lambda: scan(second), "x") == {"x": good(205)}
        await asyncio.sleep(0.1)
        batches = await first.read(first.groups[0])
        stamps = [batch.timestamp for batch in batches]
        assert stamps == sorted(set(stamps))
        assert all(began < stamp <= Clock().now() for stamp in stamps)
        assert Clock().now() - stamps[-1] < SECOND // 2
        assert await first.read(first.groups[0], raw=True)
    assert not bus.said["ttyUSB0"]


async def test_reading_once_waits_for_a_round_of_the_master(bus: Bus, listener: Make) -> None:
    """What the CLI reads is complete once the master has asked for everything."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    driver = listener(url(path))
    async with master(bus, read_request(1, 0, 4), *5 * [read_request(2, 0, 4)], read_request(1, 30, 1)):
        await driver.connect()
        found = by_name(await driver.read(driver.groups[0], raw=True))
    assert found == {**RIGHT, "level": good(130)}


async def test_what_is_never_asked_for_is_bad_and_said_once(
    bus: Bus, listener: Make, said: Callable[[], list[str]]
) -> None:
    """A tag outside of the master's questions, or only half inside, is not connected, with what was heard."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    driver = listener(url(path), {**TAGS, "half": {"address": "holding:9", "type": "float32"}})
    async with master(bus, read_request(1, 0, 10)):
        await driver.connect()
        cells = await until(lambda: scan(driver), *RIGHT, "level", "half")
        assert cells["level"] == cells["half"] == missing(Reason.NOT_CONNECTED)
        assert cells["speed"] == RIGHT["speed"]
        for _ in range(5):
            await scan(driver)
    lines = [line for line in said() if "never asked" in line]
    assert len(lines) == 2
    assert all("holding:0..9" in line for line in lines)


async def test_a_tag_that_is_not_heard_any_more_times_out(bus: Bus, listener: Make) -> None:
    """The unit still answers, but the master stopped asking for this tag; then the unit falls silent."""
    path = bus.plug("ttyUSB0")
    device = bus.device(1)
    driver = listener(url(path))
    async with master(bus, read_request(1, 0, 10), read_request(1, 30, 1)):
        await driver.connect()
        await until(lambda: scan(driver), *RIGHT, "level")
    async with master(bus, read_request(1, 0, 10)):
        async with asyncio.timeout(3):
            while (await scan(driver)).get("level", ("", ""))[0] is not None:
                await asyncio.sleep(0.01)
        assert (await scan(driver))["level"] == missing(Reason.TIMEOUT)
        device.silent = True
        await asyncio.sleep(0.5)
        with pytest.raises(DeviceUnreachable, match="unit 1 did not answer the other master"):
            await scan(driver)


async def test_a_unit_nobody_asks_is_unreachable_and_the_others_are_named(bus: Bus, listener: Make) -> None:
    """Connecting waits for the unit's first answer, and says what is heard instead."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    driver = listener(url(path), unit_id=9)
    async with master(bus, read_request(1, 0, 10)):
        with pytest.raises(DeviceUnreachable, match="unit 1 was heard"):
            await driver.connect()


async def test_the_kernel_refuses_to_write_to_the_listening_port(bus: Bus) -> None:
    """The tty is open for reading only, and locked."""
    path = bus.plug("ttyUSB0")
    tty = await asyncio.to_thread(open_tty, parse_endpoint(url(path)), read_only=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(tty.descriptor, b"\1")
    tty.close()


async def test_polling_and_listening_on_one_port_is_refused(bus: Bus, listener: Make) -> None:
    """Where we listen we do not poll as well."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    async with master(bus, read_request(1, 0, 10)):
        await listener(url(path)).connect()
        with pytest.raises(DeviceRefused, match="only one program"):
            await listener(url(path), mode="poll", unit_id=2).connect()
    assert not bus.said["ttyUSB0"]


async def test_a_listening_adapter_that_is_pulled_out_comes_back(bus: Bus, listener: Make) -> None:
    """Unreachable at once, and heard again after plugging in."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    driver = listener(url(path))
    async with master(bus, read_request(1, 0, 10)):
        await driver.connect()
        bus.unplug("ttyUSB0")
        await asyncio.sleep(0.05)
        with pytest.raises(DeviceUnreachable, match="lost"):
            await scan(driver)
        await driver.close()
        with pytest.raises(DeviceUnreachable, match="plugged in"):
            await driver.connect()
        bus.plug("ttyUSB0")
        await driver.connect()
        await until(lambda: scan(driver), *RIGHT)
    assert not bus.said["ttyUSB0"]


async def test_listening_through_a_gateway(listener: Make) -> None:
    """rtu+tcp: what the gateway passes on is heard, and it never gets a byte."""
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def talk() -> None:
            while True:
                writer.write(read_request(1, 0, 4) + reply(1, 100, 101, 102, 103))
                await asyncio.sleep(0.02)

        talking = asyncio.ensure_future(talk())
        while content := await reader.read(100):
            got.extend(content)
        talking.cancel()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        driver = listener(f"rtu+tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await driver.connect()
        assert by_name(await driver.read(driver.groups[0])).items() >= RIGHT.items()
        await driver.close()
        await asyncio.sleep(0.02)
    assert not got


def test_listening_needs_a_line_that_is_shared() -> None:
    """Over Modbus TCP nobody else is heard."""
    with pytest.raises(ValueError, match="nobody else is heard"):
        ModbusMachine.model_validate({"driver": "modbus", "url": "tcp://192.0.2.1", "mode": "listen"})
