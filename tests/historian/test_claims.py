"""Two agents with a machine of the same name: the second is refused, named, and loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent.historian import History
from tests.historian.conftest import historian
from tests.historian.test_historian import Machine
from tests.sinks.conftest import Agent, configuration
from tests.support.mosquitto import Mosquitto, eventually


def agent(folder: Path, broker: Mosquitto, name: str) -> Agent:
    more: dict[str, Any] = {"agent": name}
    return Agent(folder / name, configuration(folder / name, broker.url, **more), confirm_timeout=0.5)


async def test_a_second_agent_with_the_same_machine_is_refused_and_named(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its readings are kept apart with the reason; its other machines go on; the first is not disturbed."""
    plant = configuration(tmp_path, broker.url)
    pump, twin, fan = Machine(plant, "pump-1"), Machine(plant, "pump-1"), Machine(plant, "fan-3")
    first, second = agent(tmp_path, broker, "pi-01"), agent(tmp_path, broker, "pi-02")
    async with historian(plant, tmp_path) as one, first.running(), second.running():
        await pump.scan(first)
        await eventually(lambda: first.unconfirmed == 0)
        twin.number = 100
        twin.scan(second)
        fan.scan(second)
        pump.scan(first)
        await eventually(lambda: first.unconfirmed == 0 and second.unconfirmed == 0)
        assert await one.drained(10)
        (kept,) = await second.journal.quarantined()
        assert "pump-1 belongs to the agent pi-01" in kept.reason
        assert "pi-02" in caplog.text
        with History(one.history) as history:
            times = {ns for ns, _ in history.range("pump-1", "vibration")}
            assert times == {ns for _, field, ns in pump.emitted if field == "vibration"}
            assert history.count("fan-3", "vibration") == 1


async def test_a_machine_moves_to_another_agent_once_its_own_is_offline(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """A Pi that was replaced by one with another name needs nobody's help."""
    plant = configuration(tmp_path, broker.url)
    pump = Machine(plant, "pump-1")
    first, second = agent(tmp_path, broker, "pi-01"), agent(tmp_path, broker, "pi-02")
    async with historian(plant, tmp_path) as one:
        async with first.running():
            await pump.scan(first)
            await eventually(lambda: first.unconfirmed == 0)
        async with second.running():
            await pump.scan(second)
            await eventually(lambda: second.unconfirmed == 0)
            assert one.intake.claims.owners == {"fjord-parts/ulsteinvik/pump-1": "pi-02"}
            assert second.journal.stats().quarantined == 0
        assert await one.drained(10)
        with History(one.history) as history:
            assert history.count("pump-1", "running") == 2
