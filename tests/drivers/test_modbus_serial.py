"""The Modbus driver on a serial line: timing, locks, other masters, noise, an adapter that is pulled out."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import termios
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import Clock
from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent.pipeline.sampler import LONGEST_RETRY, Sampler
from edge_agent.types import SampleBatch
from edge_agent_drivers.modbus import serial_port
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.channel import Timing
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.endpoint import parse_endpoint
from edge_agent_drivers.modbus.owing import Owing
from edge_agent_drivers.modbus.settings import ModbusMachine
from edge_agent_drivers.modbus.sharing import line_to
from tests.drivers.stage import by_name, good, scan
from tests.support.bus import Bus, read_request

LISTEN = 0.15
"""Seconds of listening in these tests; no setting makes it less than 3."""
TAGS = {"a": {"address": "holding:0", "type": "uint32"}, "b": {"address": "holding:30"}}
Make = Callable[..., ModbusDriver]


def right(unit: int) -> dict[str, Any]:
    """What the tags of a unit are."""
    return {"a": good((100 * unit << 16) + 100 * unit + 1), "b": good(100 * unit + 30)}


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """An RS-485 line."""
    async with Bus(tmp_path) as made:
        yield made


@pytest.fixture
async def serial() -> AsyncIterator[Make]:
    """Makes drivers for a tty, and closes them."""
    made: list[ModbusDriver] = []

    def make(
        path: Path, *, listen: float = LISTEN, query: str = "?baudrate=115200&parity=N", **keys: Any
    ) -> ModbusDriver:
        comm = {"timeout": "100ms", "retest": "300ms", **keys.pop("comm", {})}
        raw = {"driver": "modbus", "url": f"rtu://{path}{query}", "tags": TAGS, "comm": comm, **keys}
        settings = ModbusMachine.model_validate(raw)
        settings = settings.model_copy(update={"comm": settings.comm.model_copy(update={"listen": listen})})
        driver = ModbusDriver(f"machine-{settings.unit_id}", settings, Clock())
        made.append(driver)
        return driver

    yield make
    for driver in made:
        await driver.close()


async def test_several_units_share_one_line(bus: Bus, serial: Make) -> None:
    """Three machines with one tty are read over one port, and only reading functions are on the line."""
    path = bus.plug("ttyUSB0")
    for unit in (1, 2, 3):
        bus.device(unit)
    drivers = [serial(path, unit_id=unit) for unit in (1, 2, 3)]
    await asyncio.gather(*(driver.connect() for driver in drivers))
    for _ in range(3):
        assert await asyncio.gather(*map(scan, drivers)) == [right(unit) for unit in (1, 2, 3)]
    said = bytes(bus.said["ttyUSB0"])
    assert len(said) == 3 * 3 * 2 * 8
    assert {said[i + 1] for i in range(0, len(said), 8)} == {3}


async def test_a_silent_unit_does_not_poison_its_neighbour(bus: Bus, serial: Make) -> None:
    """The living unit is read at every scan while the other one is silent."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    bus.device(2, silent=True)
    living, dead = serial(path, unit_id=1), serial(path, unit_id=2)
    await asyncio.gather(living.connect(), dead.connect())
    for _ in range(3):
        found = await asyncio.gather(scan(living), scan(dead), return_exceptions=True)
        assert found[0] == right(1)
        assert isinstance(found[1], DeviceUnreachable)


async def test_nothing_is_sent_while_the_line_is_listened_to(bus: Bus, serial: Make) -> None:
    """The first byte comes after the listening, once per opening; a reconnect sends at once."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    driver = serial(path)
    began = time.monotonic()
    await driver.connect()
    assert time.monotonic() - began >= LISTEN
    assert not bus.said["ttyUSB0"]
    assert await scan(driver) == right(1)
    await driver.close()
    began = time.monotonic()
    await driver.connect()
    assert time.monotonic() - began < LISTEN
    assert await scan(driver) == right(1)


def test_the_listening_is_never_under_three_seconds() -> None:
    """No setting makes it shorter."""
    with pytest.raises(ValueError, match="greater than or equal to 3"):
        ModbusMachine.model_validate(
            {"driver": "modbus", "url": "rtu:///dev/ttyUSB0", "comm": {"listen": "2s"}}
        )
    assert ModbusMachine.model_validate({"driver": "modbus", "url": "rtu:///dev/ttyUSB0"}).comm.listen == 3


async def test_a_line_for_a_single_question_listens_as_long(bus: Bus) -> None:
    """Commands open lines without a word about listening: three seconds all the same."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    line = line_to(parse_endpoint(f"rtu://{path}?parity=N"), Timing(0.2))
    began = time.monotonic()
    await line.open()
    assert time.monotonic() - began >= 3
    assert await line.ask(1, Table.HOLDING, 0, 1) == b"\0\x64"
    line.close()


async def poll(bus: Bus, units: list[int], every: float) -> None:
    """Another master at the line."""
    while True:
        for unit in units:
            bus.say(read_request(unit, 4, 2))
            await asyncio.sleep(every)


async def test_a_line_with_another_master_is_refused(bus: Bus, serial: Make) -> None:
    """The units it polls are named, nothing is ever sent, and the port is free again."""
    path = bus.plug("ttyUSB0")
    for unit in (1, 3):
        bus.device(unit)
    master = asyncio.ensure_future(poll(bus, [1, 3, 7], 0.02))
    driver = serial(path)
    with pytest.raises(DeviceRefused, match="another master is polling units 1, 3 and 7") as refused:
        await driver.connect()
    assert "mode: listen" in str(refused.value)
    master.cancel()
    assert not bus.said["ttyUSB0"]
    await asyncio.sleep(0.02)
    await driver.connect()
    assert await scan(driver) == right(1)


async def test_a_master_that_came_while_nobody_was_connected_is_noticed(bus: Bus, serial: Make) -> None:
    """The port stays open between two connections, and what came meanwhile is looked at."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    driver = serial(path)
    await driver.connect()
    await driver.close()
    bus.say(read_request(5, 0, 1))
    await asyncio.sleep(0.02)
    master = asyncio.ensure_future(poll(bus, [5], 0.02))
    with pytest.raises(DeviceRefused, match="another master is polling unit 5"):
        await driver.connect()
    master.cancel()
    assert not bus.said["ttyUSB0"]


async def test_the_agent_is_back_soon_after_plugging_in(bus: Bus, serial: Make) -> None:
    """However long the adapter was away: the sampler looks for it every second."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    batches: list[SampleBatch] = []
    sampler = Sampler("machine-1", serial(path, every="100ms"), batches.append, Clock())
    running = asyncio.ensure_future(sampler.run())
    async with asyncio.timeout(5):
        while not batches:
            await asyncio.sleep(0.01)
        bus.unplug("ttyUSB0")
        while sampler.state.connected or "plugged in" not in sampler.state.error:
            await asyncio.sleep(0.01)
    sampler._retry = LONGEST_RETRY
    await asyncio.sleep(0.5)
    bus.plug("ttyUSB0")
    began = time.monotonic()
    async with asyncio.timeout(5 - 3):  # Three seconds of listening are left out here.
        while not sampler.state.connected:
            await asyncio.sleep(0.01)
    print(f"back after {time.monotonic() - began:.2f} s")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert by_name(batches[-2:-1]) == right(1)


@pytest.mark.parametrize("address", [4, 0x1234])
async def test_a_master_that_comes_while_we_poll_ends_our_polling(
    bus: Bus, serial: Make, address: int
) -> None:
    """The second question of somebody else makes us stop, listen again, and refuse."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    driver = serial(path)
    await driver.connect()
    assert await scan(driver) == right(1)
    bus.say(read_request(7, address, 2))
    await asyncio.sleep(0.1)
    assert await scan(driver) == right(1)
    bus.say(read_request(7, address, 2))
    await asyncio.sleep(0.1)
    said = len(bus.said["ttyUSB0"])
    master = asyncio.ensure_future(poll(bus, [7], 0.02))
    with pytest.raises(DeviceUnreachable, match="another master"):
        await scan(driver)
    await driver.close()
    with pytest.raises(DeviceRefused, match="another master is polling unit 7"):
        await driver.connect()
    master.cancel()
    assert len(bus.said["ttyUSB0"]) == said


async def test_somebody_at_another_speed_is_refused(bus: Bus, serial: Make) -> None:
    """Bytes that are no Modbus RTU mean that somebody talks; a stray byte does not."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    driver = serial(path)

    async def talk() -> None:
        while True:
            bus.say(bytes.fromhex("80787880f8807800"))
            await asyncio.sleep(0.02)

    talking = asyncio.ensure_future(talk())
    with pytest.raises(DeviceRefused, match="not Modbus RTU at 115200 8N2"):
        await driver.connect()
    talking.cancel()
    await asyncio.sleep(0.02)
    connecting = asyncio.ensure_future(driver.connect())
    await asyncio.sleep(0.05)
    bus.say(b"\0")
    await connecting
    assert await scan(driver) == right(1)


async def test_what_we_asked_before_is_no_other_master(bus: Bus, serial: Make) -> None:
    """One late reply after a restart of the agent is not held against the line."""
    path = bus.plug("ttyUSB0")
    device = bus.device(1)
    device.delay = lambda: 0.05
    device.hear(read_request(1, 0, 2))
    driver = serial(path)
    await driver.connect()
    assert await scan(driver) == right(1)


async def test_a_locked_tty_is_refused_with_the_name_of_who_has_it(bus: Bus, serial: Make) -> None:
    """Also where the other program took no lock but only has it open, and its settings are left alone."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    other = await asyncio.create_subprocess_exec("sleep", "30", stdin=os.open(path, os.O_RDWR | os.O_NOCTTY))
    before = termios.tcgetattr(bus.ports["ttyUSB0"][1])
    driver = serial(path)
    with pytest.raises(DeviceRefused, match=rf"open in sleep \(process {other.pid}\)"):
        await driver.connect()
    assert termios.tcgetattr(bus.ports["ttyUSB0"][1]) == before
    other.kill()
    await other.wait()
    await driver.connect()
    assert await scan(driver) == right(1)


async def test_our_tty_is_locked(bus: Bus, serial: Make) -> None:
    """flock is held and TIOCEXCL is set while the driver has the port; a second driver is refused."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    driver = serial(path)
    await driver.connect()
    if os.geteuid() != 0:
        with pytest.raises(OSError, match="busy"):
            os.open(path, os.O_RDWR | os.O_NOCTTY)
    else:
        taken = os.open(path, os.O_RDWR | os.O_NOCTTY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(taken)
    excl = fcntl.ioctl(bus.ports["ttyUSB0"][1], 0x80045440, b"\0\0\0\0")  # TIOCGEXCL
    assert excl[0] == 1


async def test_what_is_no_serial_line(tmp_path: Path, serial: Make) -> None:
    """A missing adapter is unreachable; what is no tty is refused."""
    with pytest.raises(DeviceUnreachable, match="is the adapter plugged in"):
        await serial(tmp_path / "ttyUSB77").connect()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DeviceRefused, match="cannot be used as a serial line"):
        await serial(file).connect()


async def test_an_adapter_that_is_pulled_out_comes_back(bus: Bus, serial: Make) -> None:
    """Unreachable at once; within five seconds of plugging in it is read again, after new listening."""
    path = bus.plug("ttyUSB0")
    bus.device(1)
    driver = serial(path)
    await driver.connect()
    assert await scan(driver) == right(1)
    bus.unplug("ttyUSB0")
    with pytest.raises(DeviceUnreachable):
        await scan(driver)
    await driver.close()
    with pytest.raises(DeviceUnreachable, match="is the adapter plugged in"):
        await driver.connect()
    await driver.close()
    bus.plug("ttyUSB0")
    sent, began = len(bus.said["ttyUSB0"]), time.monotonic()
    await driver.connect()
    assert time.monotonic() - began >= LISTEN
    assert len(bus.said["ttyUSB0"]) == sent
    assert await scan(driver) == right(1)
    assert time.monotonic() - began < 5


async def test_noise_echo_and_collisions_cost_little(
    bus: Bus, serial: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 % of the replies garbled, echo, stray bytes: three of four values come, and none is wrong.

    A second is 150 ms here: of the cadence, of the timeout, and of the time a silent unit is left alone.
    """
    monkeypatch.setattr(serial_port, "Owing", partial(Owing, 0.15))
    path = bus.plug("ttyUSB0")
    bus.device(1)
    bus.echo = True
    rng = random.Random(3)

    def spoil(content: bytes) -> bytes:
        if rng.random() < 0.2:
            at = rng.randrange(len(content))
            content = content[:at] + bytes((content[at] ^ 1 << rng.randrange(8),)) + content[at + 1 :]
        if rng.random() < 0.05:
            content = rng.randbytes(rng.randint(1, 5)) + content
        return content

    driver = serial(path, comm={"timeout": "150ms", "retries": 1})
    await driver.connect()
    bus.spoil = spoil
    cells: list[bool] = []
    every, count = 0.15, 60
    began = time.monotonic()
    for turn in range(count):
        await asyncio.sleep(max(0.0, began + turn * every - time.monotonic()))
        if time.monotonic() - began > (turn + 1) * every:
            cells += [False, False]
            continue
        try:
            found = await scan(driver)
        except DeviceUnreachable:
            cells += [False, False]
            continue
        for name, cell in found.items():
            assert cell == right(1)[name] or cell[0] is None
            cells.append(cell[0] is not None)
    assert sum(cells) / len(cells) >= 0.75, f"{sum(cells)} of {len(cells)}"


def test_the_times_of_a_line() -> None:
    """3.5 characters of silence, 1.75 ms above 19200; a frame's own time is added to the timeout."""
    slow, fast = (
        parse_endpoint("rtu:///dev/ttyS0?baudrate=9600"),
        parse_endpoint("rtu:///dev/ttyS0?baudrate=38400"),
    )
    assert slow.silence == pytest.approx(3.5 * 11 / 9600)
    assert fast.silence == 0.00175
    assert parse_endpoint("rtu:///dev/ttyS0?baudrate=9600&parity=N").format == "9600 8N2"
    machine = ModbusMachine.model_validate(
        {"driver": "modbus", "url": "rtu:///dev/ttyS0?baudrate=1200", "timeout": "1s", "max_registers": 10}
    )
    assert machine.answer_timeout == pytest.approx(1 + 33 * 11 / 1200)
    with pytest.raises(ValueError, match="needs 8"):
        parse_endpoint("rtu:///dev/ttyS0?bytesize=7")
