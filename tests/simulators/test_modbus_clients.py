"""Our Modbus simulator read by clients of somebody else: the same values and the same refusals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from pymodbus.client import ModbusTcpClient

from edge_agent_simulators.modbus_server import ModbusServer
from tests.support.mbpoll import read_with_mbpoll
from tests.support.nodemodbus import Read, read_with_modbus_serial
from tests.support.pymodbustcp import read_with_pymodbustcp

rng = random.Random(5)
REGISTERS = {
    "holding": {address: rng.randrange(65536) for address in range(130)},
    "input": {address: rng.randrange(65536) for address in range(40)},
    "coil": {address: rng.randrange(2) for address in range(80)},
    "discrete": {address: rng.randrange(2) for address in range(9)},
}
READS: list[Read] = [
    ("holding", 0, 125), ("holding", 129, 1), ("input", 3, 37), ("coil", 0, 80), ("coil", 7, 3),
    ("discrete", 0, 9), ("holding", 125, 10), ("input", 40, 1), ("coil", 79, 2),
]  # fmt: skip
ILLEGAL_ADDRESS = 2


def read_with_pymodbus(port: int, reads: Sequence[Read], unit: int = 1) -> list[list[int] | int]:
    """What pymodbus' client reads: the values, or the number of the exception, for each read."""
    with ModbusTcpClient("127.0.0.1", port=port) as client:
        asks = {
            "holding": client.read_holding_registers,
            "input": client.read_input_registers,
            "coil": client.read_coils,
            "discrete": client.read_discrete_inputs,
        }
        found: list[list[int] | int] = []
        for table, address, quantity in reads:
            answer = asks[table](address, count=quantity, device_id=unit)
            values = [*answer.registers, *map(int, answer.bits[:quantity])]
            found.append(answer.exception_code if answer.isError() else values)
        return found


@pytest.fixture
async def simulator() -> AsyncIterator[ModbusServer]:
    """A simulator with unit 1, and unit 2 with other values."""
    async with ModbusServer({1: REGISTERS, 2: {"holding": {0: 4711}}}) as server:
        yield server
        assert server.write_requests == 0


@pytest.mark.parametrize(
    "read", [read_with_mbpoll, read_with_modbus_serial, read_with_pymodbus, read_with_pymodbustcp]
)
async def test_other_clients_read_the_same(
    read: Callable[[int, Sequence[Read], int], list[list[int] | int]], simulator: ModbusServer
) -> None:
    """All four tables, the edges, exception 2 beyond them, and another unit."""
    found = await asyncio.to_thread(read, simulator.port, READS, 1)
    expected = [
        [REGISTERS[table].get(address + i) for i in range(quantity)] for table, address, quantity in READS
    ]
    assert found == [ILLEGAL_ADDRESS if None in values else values for values in expected]
    assert await asyncio.to_thread(read, simulator.port, [("holding", 0, 1)], 2) == [[4711]]
