"""What a device says, all the way: from registers to lines, alarms and the machine's description."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_agent.buffer import Journal
from edge_agent.clock import Clock
from edge_agent.lineprotocol import parse
from edge_agent.pipeline.clockgate import ClockTrust
from edge_agent.pipeline.machine import MachineLine, Shared
from edge_agent.pipeline.observer import Observer
from edge_agent.pipeline.outlets import Place
from edge_agent.settings.models import BufferSettings
from edge_agent.types import AlarmState, Alert
from edge_agent_drivers.modbus.settings import ModbusMachine
from edge_agent_simulators.modbus_server import ModbusServer
from tests.pipeline.test_fanout import KeptBoard

TAGS = {
    "state": {"address": "holding:0", "enum": {0: "stopped", 1: "running"}},
    "status": {
        "address": "holding:1",
        "bits": {3: {"name": "tripped", "label": "Trip", "alarm": {"when": True, "action": "Reset"}}},
    },
    "energy": {"address": "holding:2", "unit": "kWh", "rate": "1h"},
}


class Kept(Observer):
    """Keeps the alerts."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def alert(self, alert: Alert) -> None:
        self.alerts.append(alert)


@pytest.fixture
def trust(tmp_path: Path) -> ClockTrust:
    """Looks at the system, so not in the loop."""
    return ClockTrust(Clock(), tmp_path / "none")


async def test_enumerations_bits_and_rates_arrive_as_tags_of_their_own(
    tmp_path: Path, trust: ClockTrust
) -> None:
    """The text is a string field, the rate a number once there is one, the bit raises its alarm; meta has the
    names."""
    kept, board = Kept(), KeptBoard()
    async with (
        ModbusServer({1: {"holding": {0: 1, 1: 0, 2: 5}}}) as device,
        Journal(tmp_path / "journal.db", Clock(), BufferSettings()) as journal,
    ):
        url = f"tcp://127.0.0.1:{device.port}"
        settings = ModbusMachine.model_validate(
            {"driver": "modbus", "url": url, "health": "off", "tags": TAGS}
        )
        with ThreadPoolExecutor(1) as worker:
            shared = Shared(
                Clock(), journal, board, lambda _alerts, _at: None, worker, tmp_path / "models", kept,
                tag_topics=True, trust=trust, hold=False,
            )  # fmt: skip
            line = MachineLine("pump-1", settings, Place("pump-1", {"site": "hall"}), shared)
        await line.driver.connect()
        for energy, status in ((5, 0), (7, 8)):
            device.images[1].set_words("holding", 1, [status, energy])
            for batch in await line.driver.read(line.driver.groups[0]):
                line.fanout(batch)
        await line.driver.close()
        await journal.flush()
        records = await journal.reader().fetch()
    points = [parse(text) for record in records for text in record.lines.split(b"\n")]
    first, second = (point.fields for point in points if point.measurement == "readings")
    assert first == {
        "state": 1.0,
        "state.text": "running",
        "status": 0.0,
        "status.tripped": 0.0,
        "energy": 5.0,
    }
    assert second["status.tripped"] == 1.0
    assert isinstance(second["energy.rate"], float)
    assert second["energy.rate"] > 0
    [alert] = kept.alerts
    assert (alert.id, alert.state, alert.action) == ("status.tripped", AlarmState.UNACKNOWLEDGED, "Reset")
    meta = json.loads(json.dumps(line.meta("hash")))
    tags = meta["tags"]
    assert (meta["profile"], meta["configuration"]) == (None, "hash")
    assert tags["state"]["enum"] == {"0": "stopped", "1": "running"}
    assert (tags["energy.rate"]["unit"], tags["energy.rate"]["kind"]) == ("kW", "measurement")
    assert tags["status.tripped"]["label"] == "Trip"
