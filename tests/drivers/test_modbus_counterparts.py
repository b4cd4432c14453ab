"""The Modbus driver against servers that share no code with it.

libmodbus, modbus-serial, jsmodbus, pyModbusTCP and pymodbus. (Their clients read our simulator in
tests/simulators/test_modbus_clients.py.)
"""

from __future__ import annotations

import random
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_agent.errors import DeviceUnreachable
from edge_agent.types import Reason
from edge_agent_drivers import codec
from tests.drivers.stage import ForeignServer, ModbusFactory, good, missing, scan
from tests.drivers.test_codec import on_wire
from tests.support import witness
from tests.support.libmodbus import LibmodbusServer
from tests.support.nodemodbus import NodeModbusServer

NUMBERS: dict[str, tuple[int, float]] = {
    "int16": (0xFF85, -123),
    "uint16": (0xFF85, 65413),
    "int32": (0xFFFE1DC0, -123456),
    "uint32": (0x89ABCDEF, 2309737967),
    "int64": (0xFFFFFFFFFFFE1DC0, -123456),
    "uint64": (0x0123456789ABCDEF, 81985529216486895),
    "float16": (0xC100, -2.5),
    "float32": (0x47F12000, 123456.0),
    "float64": (0xC0FE240000000000, -123456.0),
    "bcd16": (0x1234, 1234),
    "bcd32": (0x12345678, 12345678),
    "mod10_32": (0x04D2162E, 12345678),
    "mod10_64": (0x0001000200030004, 1000200030004),
    "signmag16": (0x807B, -123),
    "signmag32": (0x8001E240, -123456),
}
"""Type -> (bits, number), from a table of examples and not from an encoder."""


async def test_every_type_and_byte_order(foreign: ForeignServer, modbus: ModbusFactory) -> None:
    """Numbers of every type, in every byte order, arrive from a foreign server as they were put there."""
    tags: dict[str, Any] = {}
    expected: dict[str, object] = {}
    address = 0
    for order in codec.ORDERS:
        for type_, (bits, number) in NUMBERS.items():
            registers = codec.width(type_)
            foreign.fill("holding", address, struct.unpack(f">{registers}H", on_wire(bits, registers, order)))
            tags[f"{type_}.{order}"] = {"address": f"holding:{address}", "type": type_, "byte_order": order}
            expected[f"{type_}.{order}"] = good(number)
            address += registers
    driver = modbus(foreign.port, tags, timeout="2s", comm={"timeout": "2s"})
    await driver.connect()
    assert await scan(driver) == expected


async def test_all_four_tables(foreign: ForeignServer, modbus: ModbusFactory) -> None:
    """Registers and bits of all four tables arrive as they were put there, more of them than fit one byte."""
    rng = random.Random(foreign.port)
    tags: dict[str, Any] = {}
    expected: dict[str, object] = {}
    for table, most in {"holding": 65535, "input": 65535, "coil": 1, "discrete": 1}.items():
        for first, count in ((0, 37), (500, 1), (900, 100)):
            values = [rng.randint(0, most) for _ in range(count)]
            foreign.fill(table, first, values)
            for i, value in enumerate(values):
                tags[f"{table}.{first + i}"] = {"address": f"{table}:{first + i}"}
                expected[f"{table}.{first + i}"] = good(value if most > 1 else bool(value))
    driver = modbus(foreign.port, tags, comm={"timeout": "2s"}, max_registers=125)
    await driver.connect()
    assert await scan(driver) == expected


EDGE = {f"t{n}": {"address": f"holding:{n}"} for n in range(995, 1003)}
BEYOND = ["t1000", "t1001", "t1002"]


async def test_short_replies_of_jsmodbus_are_no_values(
    jsmodbus: NodeModbusServer, modbus: ModbusFactory
) -> None:
    """jsmodbus leaves out what it does not have and says no more: bad comm_failure, the rest is read."""
    jsmodbus.fill("holding", 995, [7, 7, 7, 7, 7])
    driver = modbus(jsmodbus.port, EDGE, comm={"timeout": "2s", "retest": "1h"})
    await driver.connect()
    for _ in range(3):
        found = await scan(driver)
        assert {found[name] for name in BEYOND} == {missing(Reason.COMM_FAILURE)}
        assert {found[name] for name in EDGE if name not in BEYOND} <= {good(7), missing(Reason.COMM_FAILURE)}
    assert await scan(driver) == {
        name: missing(Reason.COMM_FAILURE) if name in BEYOND else good(7) for name in EDGE
    }


async def test_modbus_serial_refuses_what_it_does_not_have(
    modbus_serial: NodeModbusServer, modbus: ModbusFactory
) -> None:
    """Its exception 2 is narrowed down to the tags beyond the edge."""
    modbus_serial.fill("holding", 995, [8, 8, 8, 8, 8])
    driver = modbus(modbus_serial.port, EDGE, comm={"timeout": "2s"})
    await driver.connect()
    assert await scan(driver) == {
        name: missing(Reason.ILLEGAL_ADDRESS) if name in BEYOND else good(8) for name in EDGE
    }


async def test_modbus_serial_is_silent_for_another_unit(
    modbus_serial: NodeModbusServer, modbus: ModbusFactory
) -> None:
    """A unit that is not there is unreachable, and does not disturb the one that is."""
    modbus_serial.fill("holding", 0, [9])
    absent = modbus(modbus_serial.port, {"a": {"address": "holding:0"}}, unit_id=2)
    there = modbus(modbus_serial.port, {"a": {"address": "holding:0"}}, comm={"timeout": "2s"})
    await absent.connect()
    await there.connect()
    with pytest.raises(DeviceUnreachable, match="did not answer"):
        await scan(absent)
    assert await scan(there) == {"a": good(9)}


async def test_libmodbus_refuses_what_it_does_not_have(
    libmodbus: LibmodbusServer, modbus: ModbusFactory
) -> None:
    """Its exception 2 at the edge of the map is narrowed down to the tag beyond it."""
    tags = {f"t{n}": {"address": f"holding:{n}"} for n in range(995, 1003)}
    driver = modbus(libmodbus.port, tags)
    await driver.connect()
    found = await scan(driver)
    assert [name for name, cell in found.items() if cell == missing(Reason.ILLEGAL_ADDRESS)] == [
        "t1000", "t1001", "t1002",
    ]  # fmt: skip
    assert found["t999"] == good(0)


@pytest.fixture
async def pymodbus_port() -> AsyncIterator[int]:
    """pymodbus' server with holding registers 0 to 3 and 10."""
    blocks = [
        SimData(0, values=[0x0FDB, 0x4049, 7, 8], datatype=DataType.REGISTERS),
        SimData(10, values=[9], datatype=DataType.REGISTERS),
    ]

    def trace(sending: bool, data: bytes) -> bytes:
        if not sending:
            witness.saw("pymodbus", data[7:])
        return data

    server = ModbusTcpServer(SimDevice(1, simdata=blocks), address=("127.0.0.1", 0), trace_packet=trace)
    await server.serve_forever(background=True)
    yield server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    await server.shutdown()  # type: ignore[no-untyped-call]


async def test_pymodbus_as_a_device(pymodbus_port: int, modbus: ModbusFactory) -> None:
    """A word-swapped float and plain registers are read; a hole in the map costs only its own tag."""
    tags = {
        "pi": {"address": "holding:0", "type": "float32", "byte_order": "CDAB"},
        "seven": {"address": "holding:2"},
        "hole": {"address": "holding:4"},
        "nine": {"address": "holding:10"},
    }
    driver = modbus(pymodbus_port, tags)
    await driver.connect()
    found = await scan(driver)
    assert found.pop("pi")[0] == pytest.approx(3.14159274)
    assert found == {"seven": good(7), "hole": missing(Reason.ILLEGAL_ADDRESS), "nine": good(9)}


async def test_a_unit_that_is_not_there(pymodbus_port: int, modbus: ModbusFactory) -> None:
    """pymodbus answers for a missing unit with exception 4: bad with a reason, no value."""
    driver = modbus(pymodbus_port, {"a": {"address": "holding:0"}}, unit_id=9)
    await driver.connect()
    assert await scan(driver) == {"a": missing(Reason.DEVICE_FAILURE)}
