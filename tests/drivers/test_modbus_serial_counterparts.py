"""Serial lines with devices and masters that share no code with us."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import AsyncModbusSerialClient
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_agent.clock import Clock
from edge_agent.errors import DeviceRefused
from edge_agent.types import Reason
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.settings import ModbusMachine
from tests.drivers.stage import good, missing, scan
from tests.support import tools
from tests.support.bus import Bus
from tests.support.libmodbus_rtu import LibmodbusRtuServer

TAGS = {
    "h": {"address": "holding:10", "type": "uint32"},
    "i": {"address": "input:20"},
    "gone": {"address": "holding:2000"},
}
MODBUS_SERIAL = """
const { ServerSerial } = require("modbus-serial");
const vector = {
  getHoldingRegister: (address) => 1000 + address,
  getInputRegister: (address) => 3000 + address,
};
const server = new ServerSerial(vector, { port: process.argv[1], baudRate: 115200, unitID: 7, interval: 5 });
server.on("initialized", () => console.log("ready"));
"""
Make = Callable[..., ModbusDriver]


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """An RS-485 line with `agent` plugged in."""
    async with Bus(tmp_path) as made:
        made.plug("agent")
        yield made


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes drivers at `agent`, and closes them."""
    made: list[ModbusDriver] = []

    def make(unit: int, listen: float = 0.1, **keys: Any) -> ModbusDriver:
        url = f"rtu://{tmp_path}/agent?baudrate=115200&parity=N&stopbits=1"
        raw = {"driver": "modbus", "url": url, "tags": TAGS, "unit_id": unit, "every": "100ms", **keys}
        settings = ModbusMachine.model_validate(raw)
        comm = settings.comm.model_copy(update={"listen": listen})
        made.append(ModbusDriver(f"machine-{unit}", settings.model_copy(update={"comm": comm}), Clock()))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@contextlib.asynccontextmanager
async def libmodbus(bus: Bus, unit: int) -> AsyncIterator[None]:
    """A libmodbus device: holding:N = 1000 + N, input:N = 3000 + N."""
    server = LibmodbusRtuServer(bus.plug(f"libmodbus-{unit}"), unit, 1000, 3000)
    try:
        yield
    finally:
        bus.unplug(f"libmodbus-{unit}")
        await asyncio.to_thread(server.join)


@contextlib.asynccontextmanager
async def program(*command: str | Path, ready: bytes = b"") -> AsyncIterator[asyncio.subprocess.Process]:
    """A child process, once it has said `ready`."""
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**tools.environment(), "NODE_PATH": str(tools.TOOLS / "npm" / "node_modules")},
    )  # fmt: skip
    try:
        if ready and child.stdout is not None:
            async with asyncio.timeout(10):
                while ready not in (line := await child.stdout.readline()):
                    assert line, "it ended before it was ready"
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


RIGHT = {"h": good((1010 << 16) + 1011), "i": good(3020)}


async def test_libmodbus_devices_on_one_line(bus: Bus, driver: Make) -> None:
    """Two of them share the line with us; what they do not have costs only its own tag."""
    async with libmodbus(bus, 3), libmodbus(bus, 4):
        drivers = driver(3), driver(4)
        await asyncio.gather(*(one.connect() for one in drivers))
        for one in drivers:
            assert await scan(one) == {**RIGHT, "gone": missing(Reason.ILLEGAL_ADDRESS)}


async def test_pymodbus_as_a_device(bus: Bus, driver: Make) -> None:
    """pymodbus' serial server."""
    blocks = [
        SimData(10, values=[1010, 1011], datatype=DataType.REGISTERS),
        SimData(20, values=[3020], datatype=DataType.REGISTERS),
    ]
    path = str(bus.plug("pymodbus"))
    server = ModbusSerialServer(SimDevice(5, simdata=blocks), port=path, baudrate=115200)
    await server.serve_forever(background=True)
    one = driver(5)
    await one.connect()
    assert await scan(one) == {**RIGHT, "gone": missing(Reason.ILLEGAL_ADDRESS)}
    await server.shutdown()  # type: ignore[no-untyped-call]


async def test_modbus_serial_as_a_device(bus: Bus, driver: Make) -> None:
    """The RTU server of npm's modbus-serial, which serves every address it is asked for."""
    path, prefix = bus.plug("node"), tools.npm_prefix()
    assert prefix.is_dir()
    async with program(tools.node(), "-e", MODBUS_SERIAL, path, ready=b"ready"):
        one = driver(7)
        await one.connect()
        assert await scan(one) == {**RIGHT, "gone": good(3000)}


def mbpoll(path: Path, unit: int, address: int, count: int) -> list[str | Path]:
    """mbpoll as the line's master: asks for holding registers again and again."""
    return [
        tools.binary("mbpoll"), "-m", "rtu", "-b", "115200", "-P", "none", "-s", "1", "-a", str(unit),
        "-0", "-t", "4", "-r", str(address), "-c", str(count), "-l", "100", "-o", "0.5", path,
    ]  # fmt: skip


async def test_listening_to_mbpoll_and_libmodbus(bus: Bus, driver: Make) -> None:
    """The values that mbpoll asks libmodbus for are ours, and we have said nothing."""
    async with libmodbus(bus, 3), program(*mbpoll(bus.plug("mbpoll"), 3, 8, 10)):
        one = driver(3, mode="listen")
        await one.connect()
        found: dict[str, Any] = {}
        async with asyncio.timeout(3):
            while "h" not in found:
                found |= await scan(one)
                await asyncio.sleep(0.01)
    assert found == {"h": RIGHT["h"]}
    assert not bus.said["agent"]


async def test_a_line_that_mbpoll_polls_is_refused(bus: Bus, driver: Make) -> None:
    """The other master is found before our first byte."""
    async with libmodbus(bus, 3), program(*mbpoll(bus.plug("mbpoll"), 3, 8, 10)):
        await asyncio.sleep(0.3)
        with pytest.raises(DeviceRefused, match="another master is polling unit 3"):
            await driver(3, listen=1.2).connect()
    assert not bus.said["agent"]


async def test_listening_to_pymodbus_as_master(bus: Bus, driver: Make) -> None:
    """Both tables, and a write in between, which gives no value."""
    async with libmodbus(bus, 3):
        master = AsyncModbusSerialClient(str(bus.plug("master")), baudrate=115200, timeout=1)
        assert await master.connect()
        one = driver(3, mode="listen")

        enough = asyncio.Event()

        async def work() -> None:
            # Ended by a word: pymodbus waits with wait_for, which loses a cancellation in Python 3.11.
            while not enough.is_set():
                await master.read_holding_registers(0, count=50, device_id=3)
                await master.write_register(10, 1010, device_id=3)
                await master.write_registers(11, [1011, 7], device_id=3)
                await master.read_input_registers(20, count=1, device_id=3)

        working = asyncio.ensure_future(work())
        await one.connect()
        found: dict[str, Any] = {}
        async with asyncio.timeout(3):
            while not found.keys() >= RIGHT.keys():
                found |= await scan(one)
                await asyncio.sleep(0.01)
        enough.set()
        await working
        master.close()
    assert found == RIGHT
    assert not bus.said["agent"]
