"""The OPC UA driver against node-opcua: values, deadband, and a server that stops answering."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from edge_agent.errors import DeviceUnreachable
from edge_agent.types import Reason, Value
from edge_agent_drivers.opcua.driver import OpcuaDriver
from tests.drivers.stage import OpcuaFactory, by_name, good, missing, scan
from tests.support.nodeopcua import NodeOpcuaServer


def node(name: str) -> dict[str, Any]:
    return {"node": f"nsu=urn:plant:node;s=Press.{name}"}


TAGS = {
    "temperature": node("Temperature"),
    "pressure": node("Pressure"),
    "count": node("Count"),
    "offset": node("Offset"),
    "running": node("Running"),
    "order": node("Order") | {"type": "string"},
    "profile": node("Profile"),
    "nowhere": node("Nowhere"),
}
FIRST = {
    "temperature": good(20.5),
    "pressure": good(1.5),
    "count": good(7),
    "offset": good(-3),
    "running": good(True),
    "order": good("A-4711"),
    "profile": missing(Reason.CONFIG_ERROR),
    "nowhere": missing(Reason.ILLEGAL_ADDRESS),
}


@pytest.fixture(autouse=True)
async def _as_at_first(node_opcua: NodeOpcuaServer) -> None:
    await asyncio.to_thread(node_opcua.set, "Temperature", 20.5)


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_every_kind_of_value_is_read(
    mode: str, node_opcua: NodeOpcuaServer, opcua: OpcuaFactory
) -> None:
    """Subscribing and polling read the same values, bad nodes isolated."""
    driver = opcua(node_opcua.url, TAGS, mode=mode)
    await driver.connect()
    assert await scan(driver) == FIRST


async def changes(driver: OpcuaDriver, seconds: float) -> list[Value | None]:
    """The values of a single tag that come within some seconds."""
    end = time.monotonic() + seconds
    found: list[Value | None] = []
    while time.monotonic() < end:
        found += [batch.values[0] for batch in await driver.read(driver.groups[0])]
        await asyncio.sleep(0.05)
    return found


async def test_a_deadband_is_kept_by_the_server(node_opcua: NodeOpcuaServer, opcua: OpcuaFactory) -> None:
    """Changes within the deadband are not sent at all."""
    driver = opcua(node_opcua.url, {"temperature": TAGS["temperature"] | {"deadband": 1.0}})
    await driver.connect()
    await driver.read(driver.groups[0])
    found: list[Value | None] = []
    for value in (21.0, 21.3, 22.0, 22.5):
        await asyncio.to_thread(node_opcua.set, "Temperature", value)
        found += await changes(driver, 0.3)
    assert found == [22.0]


async def test_bad_and_uncertain_come_through(node_opcua: NodeOpcuaServer, opcua: OpcuaFactory) -> None:
    """node-opcua's status codes give quality and reason."""
    driver = opcua(node_opcua.url, {"temperature": TAGS["temperature"]})
    await driver.connect()
    await driver.read(driver.groups[0])
    for status, expected in (
        ("BadOutOfService", missing(Reason.OUT_OF_SERVICE)),
        ("UncertainSubstituteValue", (20.6, Reason.SUBSTITUTE)),
    ):
        await asyncio.to_thread(node_opcua.set, "Temperature", 20.6, status)
        await asyncio.sleep(0.3)
        assert by_name(await driver.read(driver.groups[0])) == {"temperature": expected}


async def test_a_server_that_stops_answering_is_noticed_and_comes_back(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory
) -> None:
    """Half-open: no keep-alive is DeviceUnreachable, closing does not hang, and reconnecting reads again."""
    driver = opcua(node_opcua.url, TAGS, timeout="800ms")
    await driver.connect()
    assert await scan(driver) == FIRST
    with node_opcua.frozen():
        began = time.monotonic()
        with pytest.raises(DeviceUnreachable, match="not even a keep-alive"):
            await changes(driver, 10)
        assert time.monotonic() - began < 4.5
        began = time.monotonic()
        await driver.close()
        assert time.monotonic() - began < 1.2
        with pytest.raises(DeviceUnreachable):
            await driver.connect()
    await driver.connect()
    assert await scan(driver) == FIRST
