"""`scan modbus`: what is there, slowly, and not one question more once a device does not like it."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_agent.clock import Clock
from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent.settings.load import load
from edge_agent_drivers import terminal
from edge_agent_drivers.modbus import search, survey
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.settings import ModbusMachine
from edge_agent_simulators.modbus_server import ModbusServer
from tests.drivers.stage import Liar, ModbusFactory, honest, reply_to
from tests.support.bus import Bus
from tests.support.libmodbus import LibmodbusServer

READS = {1, 2, 3, 4, 0x2B}
"""Function codes a scan may send."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between questions."""
    monkeypatch.setattr(search, "PACE", 0.0)
    monkeypatch.setattr(search, "RECOVERY", 0.0)


async def scan(driver: ModbusDriver, **options: Any) -> int:
    await driver.connect()
    given = {"unit_ids": "1-5", "ranges": (), "yes": False, "json_output": True, **options}
    return await survey.survey(driver.ask, "tcp://h:502", **given)


async def test_units_are_found_and_identified(
    modbus: ModbusFactory,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Any,
) -> None:
    """Of five unit ids two answer, one with an exception; the YAML passes check; nothing is written.

    No warnings about the three that nobody has."""
    images: dict[int, Any] = {2: {"holding": {0: 7}}, 4: {"input": {3: 1}}}
    async with ModbusServer(images, unknown_unit="silence") as device:
        assert await scan(modbus(device.port, {}, comm={"timeout": "60ms"})) == 0
        assert device.write_requests == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [(unit["unit_id"], unit["said"]) for unit in found["units"]] == [
        (2, "is there"),
        (4, "is there (holding:0: exception 2)"),
    ]
    assert found["stopped"] is None
    assert [one.message for one in caplog.records if one.levelno >= logging.WARNING] == []
    assert found["units"][0]["identification"]["vendor"] == "edge-agent"
    for warning in ("units 1 to 5", "only reads", "not in production hours"):
        assert warning in said.err
    path = tmp_path / "agent.yaml"
    path.write_text("site: s\n" + found["yaml"] + "\n")
    assert not load(path).errors


async def test_a_gateway_that_says_nobody_is_there(
    modbus: ModbusFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exceptions 10 and 11 come from the gateway, not from the unit: it does not count as found."""
    async with ModbusServer({3: {"holding": {0: 7}}}) as gateway:
        assert await scan(modbus(gateway.port, {})) == 0
        found = json.loads(capsys.readouterr().out)
        assert [unit["unit_id"] for unit in found["units"]] == [3]
        assert await scan(modbus(gateway.port, {}), unit_ids="5-6") == 1


async def test_a_range_of_libmodbus(
    modbus: ModbusFactory,
    libmodbus: LibmodbusServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    """Each address by itself, across the edge of the map; a tag for what answered.

    libmodbus sleeps for half a second over the identification it does not know: that is no harm.
    """
    monkeypatch.setattr(search, "RECOVERY", 0.6)
    libmodbus.mapping.tab_registers[998] = 4711
    driver = modbus(libmodbus.port, {})
    code = await scan(driver, unit_ids="1", ranges=["holding:997-1002", "input:3"], yes=True)
    assert code == 0
    found = json.loads(capsys.readouterr().out)
    unit = found["units"][0]
    assert unit["registers"] == {"holding:997": 0, "holding:998": 4711, "holding:999": 0, "input:3": 0}
    assert (unit["refused"], unit["silent"]) == (3, 0)
    assert 'holding_998: {address: "holding:998"}' in found["yaml"]
    path = tmp_path / "agent.yaml"
    path.write_text("site: s\n" + found["yaml"] + "\n")
    assert not load(path).errors


@pytest.fixture
async def pymodbus_port() -> AsyncIterator[int]:
    """pymodbus' server with holding registers 0 to 3 of unit 1."""
    block = SimData(0, values=[1, 2, 3, 4], datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(1, simdata=[block]), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    yield server.transport.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    await server.shutdown()  # type: ignore[no-untyped-call]


async def test_pymodbus_is_found(
    modbus: ModbusFactory, pymodbus_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own unit is there; for the others it answers exception 4, which may mean anything."""
    assert await scan(modbus(pymodbus_port, {}), unit_ids="1,2", ranges=["holding:0-5"], yes=True) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert [unit["said"].split(" (")[0] for unit in found["units"]] == ["is there", "may be there"]
    assert found["units"][0]["registers"] == {f"holding:{i}": i + 1 for i in range(4)}


async def test_it_stops_where_the_connection_is_closed(
    modbus: ModbusFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device that hangs up at the second unit is asked nothing more, and no second connection is opened."""

    def reply(frame: bytes) -> list[bytes]:
        if frame[6] == 2:
            raise ConnectionResetError
        return [honest(frame)]

    async with Liar(reply) as liar:
        assert await scan(modbus(liar.port, {})) == 1
        assert [frame[6] for frame in liar.requests] == [1, 2]
        assert liar.connections == 1
    said = capsys.readouterr()
    assert "connection was closed when unit 2" in said.err
    assert [unit["unit_id"] for unit in json.loads(said.out)["units"]] == [1]


async def test_it_stops_where_what_answered_is_silent(
    modbus: ModbusFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """An address that kills the device: after its silence the first register is tried, and that was all."""
    killed = False

    def reply(frame: bytes) -> list[bytes]:
        nonlocal killed
        killed = killed or frame[8:10] == b"\0\3"
        return [] if killed else [honest(frame)]

    async with Liar(reply) as liar:
        driver = modbus(liar.port, {}, comm={"timeout": "80ms"})
        assert await scan(driver, unit_ids="1", ranges=["holding:1-50"], yes=True) == 1
        asked = [int.from_bytes(frame[8:10], "big") for frame in liar.requests if frame[7] == 3]
        assert asked == [0, 1, 2, 3, 2]
    said = capsys.readouterr()
    assert "asked for holding:3 and said nothing" in said.err
    assert len(json.loads(said.out)["units"][0]["registers"]) == 2


async def test_one_silent_address_is_no_harm(
    modbus: ModbusFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the device still answers as before, the scan goes on."""
    async with Liar(lambda frame: [] if frame[8:10] == b"\0\3" else [honest(frame)]) as liar:
        driver = modbus(liar.port, {}, comm={"timeout": "80ms"})
        assert await scan(driver, unit_ids="1", ranges=["holding:1-5"], yes=True) == 0
    unit = json.loads(capsys.readouterr().out)["units"][0]
    assert (len(unit["registers"]), unit["silent"]) == (4, 1)


async def test_it_stops_at_a_burst_of_busy(modbus: ModbusFactory, capsys: pytest.CaptureFixture[str]) -> None:
    """Three times busy in a row: the device cannot cope."""

    def reply(frame: bytes) -> list[bytes]:
        busy = int.from_bytes(frame[8:10], "big") >= 5
        return [reply_to(frame, bytes([frame[7] | 0x80, 6]))] if busy else [honest(frame)]

    async with Liar(reply) as liar:
        assert await scan(modbus(liar.port, {}), unit_ids="1", ranges=["holding:1-50"], yes=True) == 1
        assert {frame[7] for frame in liar.requests} <= READS
        assert max(int.from_bytes(frame[8:10], "big") for frame in liar.requests if frame[7] == 3) == 7
    assert "busy" in capsys.readouterr().err


async def test_a_range_is_only_read_with_consent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal and without --yes nothing is asked; on a terminal `n` asks nothing either."""

    async def never(_question: Any) -> Any:
        raise AssertionError("the device was asked")

    async def no(_question: str) -> bool:
        return False

    given: dict[str, Any] = {"unit_ids": "1", "ranges": ["holding:0-9"], "yes": False, "json_output": True}
    monkeypatch.setattr(terminal, "attended", lambda: False)
    assert await survey.survey(never, "tcp://h:502", **given) == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr(terminal, "attended", lambda: True)
    monkeypatch.setattr(terminal, "confirmed", no)
    assert await survey.survey(never, "tcp://h:502", **given) == 1
    assert await survey.survey(never, "tcp://h:502", **{**given, "ranges": (), "unit_ids": "1-247"}) == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"unit_ids": "1-300"}, "0 to 255"),
        ({"unit_ids": "x"}, "1-10"),
        ({"ranges": ["holding:9-3"]}, "lower address first"),
        ({"ranges": ["hr:0-9"]}, "did you mean holding"),
        ({"ranges": ["holding:0-5000"]}, "too many"),
    ],
)
async def test_mistakes_are_said(
    options: dict[str, Any], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong command line is 2, in words."""

    async def never(_question: Any) -> Any:
        raise AssertionError("the device was asked")

    given = {"unit_ids": "1", "ranges": (), "yes": True, "json_output": True, **options}
    assert await survey.survey(never, "tcp://h:502", **given) == 2
    assert word in capsys.readouterr().err


def test_ranges_as_people_write_them() -> None:
    """`holding:0-99`, one address, and six-digit Modicon notation, which counts from one."""
    assert str(survey.parse_span("holding:0-99")) == "holding:0-99"
    assert str(survey.parse_span("input:7")) == "input:7-7"
    assert str(survey.parse_span("400101-400110")) == "holding:100-109"
    assert survey.parse_units("1,3,5-8,3") == [1, 3, 5, 6, 7, 8]


async def test_no_connection_is_said(modbus: ModbusFactory) -> None:
    """Where nobody listens nothing was found, and the way there is what is wrong."""
    driver = modbus(1, {})
    with pytest.raises(DeviceUnreachable):
        await scan(driver)


async def test_a_serial_line_is_scanned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Over RTU, after listening: the two devices of the line are found, absent units cost their timeout."""
    async with Bus(tmp_path) as bus:
        path = bus.plug("ttyUSB0")
        bus.device(2)
        bus.device(4)
        raw = {"driver": "modbus", "url": f"rtu://{path}?baudrate=115200&parity=N", "timeout": "100ms"}
        settings = ModbusMachine.model_validate(raw)
        settings = settings.model_copy(update={"comm": settings.comm.model_copy(update={"listen": 0.1})})
        driver = ModbusDriver("line", settings, Clock())
        try:
            assert await scan(driver) == 0
        finally:
            await driver.close()
    found = json.loads(capsys.readouterr().out)
    assert [unit["unit_id"] for unit in found["units"]] == [2, 4]


async def test_a_line_that_is_only_listened_to_is_not_asked(tmp_path: Path) -> None:
    """`mode: listen` sends nothing for a command either, and goes on listening."""
    settings = ModbusMachine.model_validate(
        {"driver": "modbus", "url": f"rtu://{tmp_path}/ttyUSB0", "mode": "listen", "tags": {}}
    )
    driver = ModbusDriver("line", settings, Clock())
    with pytest.raises(DeviceRefused, match="listen sends nothing"):
        await driver.ask({"do": "read", "unit_id": 1, "table": "holding", "address": 0, "count": 1})


@pytest.mark.parametrize(
    "question",
    [
        {"do": "write", "unit_id": 1, "table": "holding", "address": 0, "count": 1},
        {"do": "read", "unit_id": 256, "table": "holding", "address": 0, "count": 1},
        {"do": "read", "unit_id": 1, "table": "holding", "address": 0, "count": 126},
        {"do": "read", "unit_id": 1, "table": "holding", "address": 65535, "count": 2},
        {"do": "read", "unit_id": 1, "table": "file", "address": 0, "count": 1},
        {"do": "read", "unit_id": 1, "table": "holding"},
        {},
    ],
)
async def test_only_possible_questions_reach_the_device(
    question: dict[str, Any], modbus: ModbusFactory
) -> None:
    """Whoever may use the agent's socket can ask for reads that exist, and for nothing else."""
    async with Liar(lambda frame: [honest(frame)]) as liar:
        driver = modbus(liar.port, {})
        await driver.connect()
        with pytest.raises(DeviceRefused):
            await driver.ask(question)
        assert liar.requests == []
