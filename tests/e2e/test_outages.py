"""Simulators -> agent -> mosquitto -> historian -> influxd, with both servers killed for half a minute each.

Read back by query and compared, value by value, with what the simulators served.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.e2e import served
from tests.e2e.plant import DATABASE, AgentProcess, Influxd, Mosquitto, Simulators, metric, points, wait_until
from tests.support.mosquitto import free_port

OUTAGE = 30.0


class Plant:
    """Everything started, with a configuration made from what the simulators announce."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = Mosquitto(folder / "mosquitto", users={"edge": "for-this-test"})
        self.influx = Influxd(folder / "influxd")
        self.served = folder / "served.jsonl"
        self.web = f"http://127.0.0.1:{free_port()}"
        self.broker.start()
        self.influx.start()
        self.influx.create(DATABASE)
        self.simulators = Simulators.start("demo", self.served)
        self.machines: dict[str, Any] = self.simulators.ready["machines"]
        self.agent = AgentProcess(self._configuration())

    def _configuration(self) -> Path:
        machines = {name: {**settings, "every": "200ms"} for name, settings in self.machines.items()}
        bits = machines["pump-1"]["tags"]["status"]["bits"]  # JSON has no numbers as keys
        machines["pump-1"]["tags"]["status"]["bits"] = {int(bit): name for bit, name in bits.items()}
        document = {
            "site": "hall",
            "agent": "e2e",
            "state": str(self.folder / "state"),
            "mqtt": {"url": self.broker.url, "username": "edge", "password": "for-this-test"},
            "historian": {"kind": "influxdb", "url": self.influx.url, "api": "v1", "database": DATABASE},
            "web": {"listen": self.web.removeprefix("http://")},
            "machines": machines,
        }
        path = self.folder / "agent.yaml"
        with path.open("w") as file:
            YAML().dump(document, file)
        return path

    def stop(self) -> None:
        """End what still runs."""
        self.agent.stop()
        self.simulators.kill()
        self.influx.stop(signal.SIGKILL)
        self.broker.stop(signal.SIGKILL)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.xdist_group("outages")
def test_broker_and_database_away_lose_nothing(plant: Plant) -> None:
    """SIGKILL mosquitto for 30 s, then influxd for 30 s: every served value is in InfluxDB, once."""
    plant.agent.start()
    wait_until(lambda: bool(stored(plant)), 30, "the first readings are in InfluxDB")
    for server in (plant.broker, plant.influx):
        time.sleep(3)
        server.stop(signal.SIGKILL)
        time.sleep(OUTAGE)
        server.start()
        before = stored(plant)
        wait_until(lambda count=before: stored(plant) > count, 60, f"readings flow again after {server}")  # type: ignore[misc]
    oldest = "edge_agent_buffer_oldest_seconds"
    wait_until(lambda: metric(plant.web, oldest) < 5 and age(plant) < 5, 60, "the backlog is delivered")
    assert plant.agent.stop() == 0
    plant.simulators.stop()
    log = served.lines(plant.served)
    compare_modbus(plant, log)
    compare_opcua(plant, log)


def stored(plant: Plant) -> int:
    """How many scans of the pump InfluxDB holds."""
    series = plant.influx.query("SELECT count(flow) FROM readings", DATABASE)
    return int(series[0]["values"][0][1]) if series else 0


def age(plant: Plant) -> float:
    """Seconds since the newest scan of the pump that InfluxDB holds."""
    series = plant.influx.query("SELECT last(flow) FROM readings", DATABASE)
    return time.time() - int(series[0]["values"][0][0]) / 1e9


def compare_modbus(plant: Plant, log: list[dict[str, Any]]) -> None:
    """Each tag's answers, in order, are the stored values; only the scan cut off by the stop may miss."""
    held = points(plant.influx, "pump-1")
    compared = 0
    for name, tag in plant.machines["pump-1"]["tags"].items():
        answers = [value for value in served.modbus_values(log, tag) if value is not None]
        values = [value for _time, value in held[name]]
        assert len(values) in (len(answers), len(answers) - 1), name
        same(dict(enumerate(values)), dict(enumerate(answers[: len(values)])), name)
        times = [time for time, _value in held[name]]
        assert times == sorted(set(times)), name
        compared += len(values)
    assert compared > 25 * 60 * 4, "a minute of 25 tags, five times a second"


def compare_opcua(plant: Plant, log: list[dict[str, Any]]) -> None:
    """Every write since the start is stored at its source timestamp; what else is stored is a held value."""
    held = points(plant.influx, "press-2")
    compared = 0
    for name, tag in plant.machines["press-2"]["tags"].items():
        writes = served.opcua_values(log, tag)
        stored_values = dict(held[name])
        first, last = min(stored_values), max(stored_values)
        expected = {time: number(value) for time, value in writes.items() if first <= time <= last}
        for time_ in stored_values.keys() - expected.keys():
            # The value from before we connected, re-read: it gets our time, and is the last write before it.
            expected[time_] = number(writes[max(written for written in writes if written <= time_)])
        same(stored_values, expected, name)
        compared += len(stored_values)
    assert compared > 300, "hall and oil temperature alone move every few seconds"


def same(stored_values: dict[int, Any], expected: dict[int, Any], name: str) -> None:
    """Text is equal; numbers are, to the last digits of a double (0.1 times 3 and 0.3)."""
    if isinstance(next(iter(expected.values())), str):
        assert stored_values == expected, name
    else:
        assert stored_values == pytest.approx(expected, rel=1e-12), name


def number(value: Any) -> Any:
    """As it is stored: numbers and states are floats."""
    return value if isinstance(value, str) else float(value)
