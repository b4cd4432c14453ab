"""The alarms of an OPC UA server (node-opcua), as the driver reports them for the pipeline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from edge_agent.alarms.plc import PlcAlarms
from edge_agent.clock import Clock
from edge_agent.pipeline.sampler import Sampler
from edge_agent.types import AlarmState, ConditionReport, ReportedCondition
from edge_agent_drivers.opcua.driver import OpcuaDriver
from tests.drivers.stage import OpcuaFactory, Press, good, node, scan
from tests.support.nodeopcua import NodeOpcuaServer

TAGS = {"level": {"node": "nsu=urn:plant:node;s=House.Tank"}}


async def reports(driver: OpcuaDriver, seconds: float = 0.5) -> list[ConditionReport]:
    """The reports of some seconds, as the sampler fetches them: after each scan."""
    end, found = time.monotonic() + seconds, []
    while time.monotonic() < end:
        await driver.read(driver.groups[0])
        if (report := driver.conditions()) is not None:
            found.append(report)
        await asyncio.sleep(0.05)
    return found


def short(report: ConditionReport) -> tuple[bool, list[tuple[str, bool, bool]]]:
    """Whether it is complete, and name, active, acknowledged of each."""
    return report.complete, [(one.name, one.active, one.acknowledged) for one in report.conditions]


@pytest.fixture
async def tank(node_opcua: NodeOpcuaServer) -> AsyncIterator[Callable[..., Any]]:
    """Gives commands to the server; leaves its alarms as they were."""

    async def command(**what: Any) -> None:
        await asyncio.to_thread(node_opcua.command, **what)

    yield command
    await command(set="House.Tank", value=50)
    for name in ("TooHigh", "TooLow"):
        await command(acknowledge=name)


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_an_alarm_comes_is_acknowledged_and_goes(
    mode: str, node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tank: Callable[..., Any]
) -> None:
    """At first a complete report of nothing; then every change once, with message, severity and time."""
    driver = opcua(node_opcua.url, TAGS, mode=mode, conditions=True)
    await driver.connect()
    assert [short(one) for one in await reports(driver)] == [(True, [])]
    await tank(set="House.Tank", value=90)
    [report] = await reports(driver)
    assert short(report) == (False, [("Tank.TooHigh", True, False)])
    [one] = report.conditions
    assert isinstance(one, ReportedCondition)
    assert 1 <= one.severity <= 1000
    assert one.message
    assert abs(one.time - time.time_ns()) < 5e9
    await tank(acknowledge="TooHigh")
    assert [short(one) for one in await reports(driver)] == [(False, [("Tank.TooHigh", True, True)])]
    await tank(set="House.Tank", value=50)
    assert short((await reports(driver))[-1]) == (False, [("Tank.TooHigh", False, True)])
    assert driver.conditions() is None


async def test_the_sampler_passes_them_on_to_become_alarms_of_the_machine(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tank: Callable[..., Any]
) -> None:
    """From the server to the alerts that the pipeline publishes: source plc, raised, acknowledged, over."""
    alarms = PlcAlarms("press-2")
    seen: list[tuple[str, str, AlarmState]] = []

    def observe(report: ConditionReport) -> None:
        seen.extend((one.id, one.source, one.state) for one in alarms.observe(report, time.time_ns()))

    driver = opcua(node_opcua.url, TAGS, conditions=True)
    sampler = Sampler("press-2", driver, lambda _batch: None, Clock(), on_conditions=observe)
    running = asyncio.create_task(sampler.run())
    steps: tuple[dict[str, Any], ...] = (
        {"set": "House.Tank", "value": 90},
        {"acknowledge": "TooHigh"},
        {"set": "House.Tank", "value": 50},
    )
    for number, step in enumerate(steps, 1):
        await asyncio.sleep(0.4)
        await tank(**step)
        async with asyncio.timeout(5):
            while len(seen) < number:
                await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    [(identity, source, _), *_] = seen
    assert "TooHigh" in identity
    assert source == "plc"
    states = [AlarmState.UNACKNOWLEDGED, AlarmState.ACKNOWLEDGED, AlarmState.NORMAL]
    assert [state for _, _, state in seen] == states


async def test_connecting_again_tells_all_that_stands(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tank: Callable[..., Any]
) -> None:
    """What happened while we were away is known: what stands is told, and that the rest is over."""
    driver = opcua(node_opcua.url, TAGS, conditions=True)
    await driver.connect()
    await tank(set="House.Tank", value=90)
    await reports(driver)
    await driver.close()
    await tank(set="House.Tank", value=10)
    await tank(acknowledge="TooHigh")
    await driver.connect()
    first = (await reports(driver))[0]
    assert short(first) == (True, [("Tank.TooLow", True, False)])


async def test_a_server_without_conditions_is_told_once_and_read_all_the_same(
    press: Press, opcua: OpcuaFactory
) -> None:
    """Events that cannot be had cost no value."""
    driver = opcua(press.url, {"count": node("Count")}, conditions=True)
    await driver.connect()
    assert (await scan(driver))["count"][1] == good(1)[1]
    found = await reports(driver)
    assert all(one.complete and not one.conditions for one in found)


async def test_without_the_key_nobody_asks_for_events(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tank: Callable[..., Any]
) -> None:
    """Alarms of the server are wanted or not: `conditions: true`."""
    driver = opcua(node_opcua.url, TAGS)
    await driver.connect()
    await tank(set="House.Tank", value=90)
    assert await reports(driver) == []
