"""The OPC UA driver against our simulator: subscribing, polling, times, bad nodes, outages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from edge_agent.clock import SECOND, SimulatedClock
from edge_agent.errors import DeviceUnreachable
from edge_agent.types import Quality, Reason, SampleBatch
from edge_agent_drivers.opcua.driver import OpcuaDriver
from tests.drivers.stage import AT_FIRST, OpcuaFactory, Press, by_name, good, missing, node, scan

TAGS = {
    "temperature": node("Temperature"),
    "pressure": node("Pressure"),
    "count": node("Count"),
    "running": node("Running") | {"type": "bool"},
    "order": node("Order") | {"type": "string"},
}


@pytest.fixture(autouse=True)
async def _as_at_first(press: Press) -> None:
    await press.write(AT_FIRST)


async def gather(driver: OpcuaDriver, seconds: float) -> list[SampleBatch]:
    """All that comes within some seconds."""
    end = time.monotonic() + seconds
    found: list[SampleBatch] = []
    while time.monotonic() < end:
        found += await driver.read(driver.groups[0])
        await asyncio.sleep(0.05)
    return found


FIRST = {
    "temperature": good(20.5),
    "pressure": good(1.5),
    "count": good(7),
    "running": good(True),
    "order": good("A-4711"),
}


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_the_first_read_has_every_value(mode: str, press: Press, opcua: OpcuaFactory) -> None:
    """After connecting, one read gives all tags, in one batch because they share their source time."""
    driver = opcua(press.url, TAGS, mode=mode)
    await driver.connect()
    [batch] = await driver.read(driver.groups[0])
    assert by_name([batch]) == FIRST
    assert abs(batch.timestamp - time.time_ns()) < 2 * SECOND


async def test_changes_come_with_their_source_time(press: Press, opcua: OpcuaFactory) -> None:
    """A subscription gives each change once, one batch per source time, oldest first."""
    driver = opcua(press.url, TAGS, every="50ms")
    await driver.connect()
    await driver.read(driver.groups[0])
    stamps = []
    for step in range(4):
        at = time.time_ns() // 1000 * 1000
        stamps.append(at)
        await press.write({"Temperature": 30.0 + step, "Count": 10 + step}, at)
        await asyncio.sleep(0.08)
    found = await gather(driver, 0.3)
    assert [batch.timestamp for batch in found] == stamps
    assert [batch.names for batch in found] == [("temperature", "count")] * 4
    assert [list(batch.values) for batch in found] == [[30.0 + step, 10 + step] for step in range(4)]


async def test_polling_stamps_what_has_not_changed_with_the_agents_time(
    press: Press, opcua: OpcuaFactory
) -> None:
    """A polled value keeps its source time the first time and is confirmed by the agent's afterwards."""
    driver = opcua(press.url, {"temperature": TAGS["temperature"], "count": TAGS["count"]}, mode="poll")
    await driver.connect()
    await driver.read(driver.groups[0])
    at = time.time_ns() // 1000 * 1000
    await press.write({"Temperature": 31.0}, at)
    before = time.time_ns()
    changed, held = await driver.read(driver.groups[0])
    assert (changed.names, changed.timestamp, changed.values) == (("temperature",), at, [31.0])
    assert held.names == ("count",)
    assert before <= held.timestamp <= time.time_ns()


async def test_a_held_value_is_passed_on_again(press: Press, opcua: OpcuaFactory) -> None:
    """A value that does not change is emitted every max_interval with the agent's time, in good quality."""
    tags = {"count": TAGS["count"] | {"max_interval": "200ms"}, "pressure": TAGS["pressure"]}
    driver = opcua(press.url, tags)
    await driver.connect()
    await driver.read(driver.groups[0])
    found = await gather(driver, 0.7)
    assert 2 <= len(found) <= 4
    assert {(batch.names, batch.values[0]) for batch in found} == {(("count",), 7)}
    assert all(not batch.statuses for batch in found)
    assert [b.timestamp for b in found] == sorted({b.timestamp for b in found})


async def test_a_slow_drift_within_the_deadband_is_found_out(press: Press, opcua: OpcuaFactory) -> None:
    """A held value is read for being passed on again, so a server that hides a drift does not for long."""
    tags = {"temperature": TAGS["temperature"] | {"deadband": 1.0, "max_interval": "300ms"}}
    driver = opcua(press.url, tags)
    await driver.connect()
    await driver.read(driver.groups[0])
    for value in (21.0, 21.9, 22.8):
        await press.write({"Temperature": value})
    assert by_name(await gather(driver, 0.5)) == {"temperature": good(22.8)}


async def test_a_deadband_the_server_cannot_keep_costs_nothing(press: Press, opcua: OpcuaFactory) -> None:
    """A node that cannot be filtered is monitored without a filter, or filtered, but never lost."""
    driver = opcua(press.url, {"running": node("Running") | {"deadband": 0.5}})
    await driver.connect()
    assert await scan(driver) == {"running": good(True)}


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_a_bad_node_harms_only_itself(
    mode: str, press: Press, opcua: OpcuaFactory, said: Callable[[], list[str]]
) -> None:
    """An unknown node and an unknown namespace are bad with a reason; the others are read; said once."""
    tags = {
        "unknown": node("Nowhere"),
        "temperature": TAGS["temperature"],
        "foreign": {"node": "nsu=urn:nobody;s=X"},
        "text": node("Order"),
    }
    driver = opcua(press.url, tags, mode=mode)
    expected = {
        "unknown": missing(Reason.ILLEGAL_ADDRESS),
        "temperature": good(20.5),
        "foreign": missing(Reason.CONFIG_ERROR),
        "text": missing(Reason.CONFIG_ERROR),
    }
    await driver.connect()
    assert await scan(driver) == expected
    await gather(driver, 0.3)
    lines = said()
    assert [line for line in lines if "the server has no namespace urn:nobody" in line]
    assert len([line for line in lines if "add type: string" in line]) == 1


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_status_codes_become_quality_and_reason(mode: str, press: Press, opcua: OpcuaFactory) -> None:
    """Bad carries no value, uncertain keeps it, and good comes back."""
    driver = opcua(press.url, {"temperature": TAGS["temperature"]}, mode=mode)
    await driver.connect()
    await driver.read(driver.groups[0])
    for value, status, expected in (
        (None, None, missing(Reason.SENSOR_FAILURE)),
        (21.0, "UncertainSensorNotAccurate", (21.0, Reason.SENSOR_NOT_ACCURATE)),
        (22.0, "UncertainLastUsableValue", (22.0, Reason.LAST_USABLE)),
        (23.0, None, good(23.0)),
    ):
        await press.write({"Temperature": value}, status=status)
        assert by_name(await gather(driver, 0.25)) == {"temperature": expected}


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_a_wrong_clock_is_told_and_not_stored(mode: str, press: Press, opcua: OpcuaFactory) -> None:
    """A change stamped an hour ahead gets the agent's time and is uncertain with clock_skew."""
    driver = opcua(press.url, {"temperature": TAGS["temperature"]}, mode=mode)
    await driver.connect()
    await driver.read(driver.groups[0])
    await press.write({"Temperature": 24.0}, time.time_ns() + 3600 * SECOND)
    found = [batch for batch in await gather(driver, 0.25) if batch.values == [24.0]]
    assert found[0].status(0) == (Quality.UNCERTAIN, Reason.CLOCK_SKEW)
    assert abs(found[0].timestamp - time.time_ns()) < 2 * SECOND


async def test_time_of_a_simulated_plant_is_no_skew(press: Press, opcua: OpcuaFactory) -> None:
    """In a demo that runs a thousand times as fast, source times within max_skew of real time are right."""
    clock = SimulatedClock(time.time_ns(), time.monotonic_ns(), 1000.0)
    driver = opcua(press.url, {"temperature": TAGS["temperature"]}, clock, max_skew="2s")
    await driver.connect()
    at = clock.now() // 1000 * 1000
    await press.write({"Temperature": 25.0}, at)
    found = [b for b in await gather(driver, 0.4) if b.values == [25.0]]
    assert (found[0].timestamp, found[0].statuses) == (at, {})


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_raw_says_what_the_server_sent(mode: str, press: Press, opcua: OpcuaFactory) -> None:
    """A scan for people reads every node now, and does not disturb what is stored."""
    driver = opcua(press.url, {"temperature": TAGS["temperature"], "order": TAGS["order"]}, mode=mode)
    await driver.connect()
    raw = {
        name: batch.raw[i]
        for batch in await driver.read(driver.groups[0], raw=True)
        if batch.raw is not None
        for i, name in enumerate(batch.names)
    }
    assert raw == {"temperature": "Double 20.5", "order": "String 'A-4711'"}
    assert set(await scan(driver)) == {"temperature", "order"}


async def test_groups_have_their_own_sampling(press: Press, opcua: OpcuaFactory) -> None:
    """Each scan rate is a group of its own over one session."""
    driver = opcua(press.url, {"temperature": TAGS["temperature"], "count": TAGS["count"] | {"every": "1s"}})
    await driver.connect()
    assert await scan(driver, 0) == {"temperature": good(20.5)}
    assert await scan(driver, 1) == {"count": good(7)}


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_a_restarted_server_is_read_again_by_the_same_driver(
    mode: str, press: Press, opcua: OpcuaFactory
) -> None:
    """Down is DeviceUnreachable; after close and connect everything is subscribed again."""
    driver = opcua(press.url, TAGS, mode=mode)
    await driver.connect()
    await driver.read(driver.groups[0])
    await asyncio.to_thread(press.stop)
    try:
        with pytest.raises(DeviceUnreachable):
            await gather(driver, 3)
        await driver.close()
        with pytest.raises(DeviceUnreachable, match="check the port"):
            await driver.connect()
    finally:
        await asyncio.to_thread(press.start)
    await driver.connect()
    assert await scan(driver) == FIRST
    await press.write({"Count": 8})
    assert by_name(await gather(driver, 0.3))["count"] == good(8)


async def test_nothing_is_left_running_after_close(press: Press, opcua: OpcuaFactory) -> None:
    """Closing ends every task the driver or asyncua started."""
    before = asyncio.all_tasks()
    driver = opcua(press.url, TAGS)
    await driver.connect()
    await driver.read(driver.groups[0])
    await driver.close()
    assert asyncio.all_tasks() == before
