"""The Modbus driver against servers that share no code with it: libmodbus and pymodbus' own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_agent.types import Reason
from edge_agent_drivers import codec
from tests.drivers.stage import ModbusFactory, good, missing, scan
from tests.drivers.test_codec import on_wire
from tests.support.libmodbus import LibmodbusServer

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


async def test_every_type_and_byte_order_over_libmodbus(
    libmodbus: LibmodbusServer, modbus: ModbusFactory
) -> None:
    """Numbers of every type, in every byte order, arrive from a foreign server as they were put there."""
    tags: dict[str, Any] = {}
    expected: dict[str, object] = {}
    address = 0
    for order in codec.ORDERS:
        for type_, (bits, number) in NUMBERS.items():
            registers = codec.width(type_)
            libmodbus.put(address, on_wire(bits, registers, order))
            tags[f"{type_}.{order}"] = {"address": f"holding:{address}", "type": type_, "byte_order": order}
            expected[f"{type_}.{order}"] = good(number)
            address += registers
    driver = modbus(libmodbus.port, tags)
    await driver.connect()
    assert await scan(driver) == expected


async def test_tables_of_libmodbus_are_read(libmodbus: LibmodbusServer, modbus: ModbusFactory) -> None:
    """Registers and bits of all four tables arrive as they were put there."""
    libmodbus.mapping.tab_registers[5] = 65535
    libmodbus.mapping.tab_input_registers[6] = 0x8000
    libmodbus.mapping.tab_bits[11] = 1
    libmodbus.mapping.tab_input_bits[12] = 1
    tags = {
        "h": {"address": "holding:5", "type": "int16"},
        "i": {"address": "input:6"},
        "c": {"address": "coil:11"},
        "c0": {"address": "coil:10"},
        "d": {"address": "discrete:12"},
    }
    driver = modbus(libmodbus.port, tags)
    await driver.connect()
    assert await scan(driver) == {
        "h": good(-1), "i": good(0x8000), "c": good(True), "c0": good(False), "d": good(True),
    }  # fmt: skip


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
    server = ModbusTcpServer(SimDevice(1, simdata=blocks), address=("127.0.0.1", 0))
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
