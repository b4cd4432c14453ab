"""Counterparts of the drivers: our simulators, a liar, libmodbus, node-opcua; none may ever see a write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import Clock
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.settings import ModbusMachine
from edge_agent_drivers.opcua.driver import OpcuaDriver
from edge_agent_drivers.opcua.settings import OpcuaMachine
from edge_agent_simulators.modbus_server import ModbusServer
from tests.drivers.stage import ForeignServer, ModbusFactory, OpcuaFactory, Press, Stage
from tests.support import witness
from tests.support.libmodbus import LibmodbusServer
from tests.support.nodemodbus import NodeModbusServer
from tests.support.nodeopcua import NodeOpcuaServer
from tests.support.pymodbustcp import PyModbusTcpServer

REGISTERS = {
    "holding": {address: 1000 + address for address in [*range(20), *range(30, 40)]},
    "input": {address: 2000 + address for address in range(10)},
    "coil": {address: address % 2 for address in range(20)},
    "discrete": dict.fromkeys(range(4), 1),
}


@pytest.fixture
async def device() -> AsyncIterator[ModbusServer]:
    """A Modbus device: unit 1, holding:N = 1000 + N for 0 to 19 and 30 to 39, and the other tables."""
    async with ModbusServer({1: REGISTERS}, unknown_unit="silence") as server:
        yield server
        assert server.write_requests == 0


@pytest.fixture
async def modbus() -> AsyncIterator[ModbusFactory]:
    """Makes drivers for a port, and closes them."""
    made: list[ModbusDriver] = []

    def make(port: int, tags: dict[str, Any], clock: Clock | None = None, **keys: Any) -> ModbusDriver:
        comm = {"timeout": "150ms", "retest": "300ms", **keys.pop("comm", {})}
        raw = {"driver": "modbus", "url": f"tcp://127.0.0.1:{port}", "tags": tags, "comm": comm, **keys}
        driver = ModbusDriver("pump-1", ModbusMachine.model_validate(raw), clock or Clock())
        made.append(driver)
        return driver

    yield make
    for driver in made:
        await driver.close()


@pytest.fixture
def libmodbus() -> Iterator[LibmodbusServer]:
    """A libmodbus server."""
    with LibmodbusServer() as server:
        yield server
        assert server.write_requests == 0


@pytest.fixture(scope="session")
def modbus_serial() -> Iterator[NodeModbusServer]:
    """The server of npm's modbus-serial, one for the session."""
    with NodeModbusServer("modbus-serial") as server:
        yield server
        witness.saw_harm("modbus-serial", server.harmful)


@pytest.fixture(scope="session")
def jsmodbus() -> Iterator[NodeModbusServer]:
    """The server of npm's jsmodbus, one for the session."""
    with NodeModbusServer("jsmodbus") as server:
        yield server
        witness.saw_harm("jsmodbus", server.harmful)


@pytest.fixture
def pymodbustcp() -> Iterator[PyModbusTcpServer]:
    """The server of pyModbusTCP."""
    with PyModbusTcpServer() as server:
        yield server


@pytest.fixture(params=["libmodbus", "modbus_serial", "jsmodbus", "pymodbustcp"])
def foreign(request: pytest.FixtureRequest) -> ForeignServer:
    """A Modbus TCP server by somebody else."""
    server: ForeignServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session")
def node_opcua(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeOpcuaServer]:
    """A node-opcua server, one for the session because it takes seconds to start."""
    with NodeOpcuaServer(tmp_path_factory.mktemp("node-opcua")) as server:
        yield server
        assert server.write_requests == 0


@pytest.fixture
def crooked(tmp_path: Path) -> Iterator[NodeOpcuaServer]:
    """A node-opcua server of the test's own, because node-opcua does not get over a clock that jumps back."""
    with NodeOpcuaServer(tmp_path / "crooked") as server:
        yield server
        assert server.write_requests == 0


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """An event loop in a thread, for servers that outlive one test."""
    with Stage() as made:
        yield made


@pytest.fixture
async def opcua() -> AsyncIterator[OpcuaFactory]:
    """Makes drivers for a URL, and closes them."""
    made: list[OpcuaDriver] = []

    def make(
        url: str, tags: dict[str, Any], clock: Clock | None = None, state: Path | None = None, **keys: Any
    ) -> OpcuaDriver:
        raw = {"driver": "opcua", "url": url, "tags": tags, "every": "100ms", "timeout": "2s", **keys}
        driver = OpcuaDriver("press-2", OpcuaMachine.model_validate(raw), clock or Clock(), state)
        made.append(driver)
        return driver

    yield make
    for driver in made:
        await driver.close()


@pytest.fixture(scope="module")
def press(stage: Stage) -> Iterator[Press]:
    """Our OPC UA simulator, on the stage, with the nodes of a press."""
    made = Press(stage)
    made.start()
    yield made
    made.stop()
    assert made.write_requests == 0


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the drivers logged since the last call."""

    def take() -> list[str]:
        lines = [record.getMessage() for record in caplog.records if record.name.startswith("edge_agent_")]
        caplog.clear()
        return lines

    caplog.set_level("INFO")
    return take
