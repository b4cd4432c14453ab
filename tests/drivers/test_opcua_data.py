"""The OPC UA driver against node-opcua: limits, revised wishes, deadbands, paths, arrays, structures."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from edge_agent.errors import DeviceUnreachable
from edge_agent.types import Reason, SampleBatch, Value
from edge_agent_drivers.opcua import monitoring
from edge_agent_drivers.opcua.driver import OpcuaDriver
from tests.drivers.stage import OpcuaFactory, good, missing, scan
from tests.support.nodeopcua import NodeOpcuaServer


def node(name: str, **keys: Any) -> dict[str, Any]:
    return {"node": f"nsu=urn:plant:node;s={name}", **keys}


async def gather(driver: OpcuaDriver, seconds: float) -> list[SampleBatch]:
    """All that comes within some seconds."""
    end = time.monotonic() + seconds
    found: list[SampleBatch] = []
    while time.monotonic() < end:
        found += await driver.read(driver.groups[0])
        await asyncio.sleep(0.05)
    return found


async def until(driver: OpcuaDriver, wanted: Callable[[SampleBatch], bool], seconds: float = 5) -> None:
    """Read until a batch is wanted; fails where none comes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(wanted(batch) for batch in await driver.read(driver.groups[0])):
            return
        await asyncio.sleep(0.05)
    pytest.fail("it never came")


def value_of(batch: SampleBatch, tag: str) -> Value | None:
    """The value of a tag; text where it is not in the batch."""
    return batch.values[batch.names.index(tag)] if tag in batch.names else "not in it"


@pytest.fixture(autouse=True)
async def _as_at_first(node_opcua: NodeOpcuaServer) -> AsyncIterator[None]:
    yield
    for name, value in (("Press.Level", 100.0), ("Press.Fast", 0.0), ("Temperature", 20.5)):
        await asyncio.to_thread(node_opcua.set, name, value)


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_the_servers_limits_are_read_and_kept_to(
    mode: str, node_opcua: NodeOpcuaServer, opcua: OpcuaFactory
) -> None:
    """70 tags: reads of at most 7, 4 items a call, 25 a subscription; a request over a limit is refused."""
    tags = {f"t{i}": node(f"Press.Many.{i}") for i in range(70)}
    refused = node_opcua.refused_requests
    driver = opcua(node_opcua.url, tags, mode=mode)
    await driver.connect()
    assert await scan(driver) == {f"t{i}": good(i) for i in range(70)}
    # The first read, which asks for the limits, cannot know them: it is asked again in two halves.
    assert node_opcua.refused_requests <= refused + 1
    if mode == "subscribe":
        assert driver.describe().count("subscription: publishes") == 3
        assert "server takes at most: reads 7" in driver.describe()


async def test_more_items_than_the_server_monitors_are_a_named_error(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, said: Callable[[], list[str]]
) -> None:
    """Three subscriptions of 25: the 76th tag is bad config_error with what to do, the others are read."""
    tags = {f"t{i}": node(f"Press.Many.{i}") for i in range(80)}
    driver = opcua(node_opcua.url, tags)
    await driver.connect()
    found = await scan(driver)
    assert {found[f"t{i}"] for i in range(75, 80)} == {missing(Reason.CONFIG_ERROR)}
    assert all(found[f"t{i}"] == good(i) for i in range(75))
    assert len([line for line in said() if "write mode: poll" in line]) == 5


async def test_what_the_server_revises_is_said_once_and_shown(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, said: Callable[[], list[str]]
) -> None:
    """Sampling below the node's minimum, a queue above the server's: one line, also over reconnects."""
    driver = opcua(node_opcua.url, {"slow": node("Press.Slow", sampling="100ms", queue_size=60)})
    for _ in range(2):
        await driver.connect()
        await driver.close()
    [line] = [line for line in said() if "revised by the server" in line]
    assert "1 tags sampled every 0.7 s, not 0.1 s" in line
    await driver.connect()
    assert "sampled every 0.1 s, queue 60; the server: 0.7 s, queue 50" in driver.describe()
    [batch] = await driver.read(driver.groups[0], raw=True)
    assert batch.raw == ["Double 1.0; sampled every 0.7 s, not 0.1 s"]


async def values(
    driver: OpcuaDriver, server: NodeOpcuaServer, name: str, steps: list[float]
) -> list[Value | None]:
    """What comes of each of several changes."""
    await driver.connect()
    await driver.read(driver.groups[0])
    found: list[Value | None] = []
    for value in steps:
        await asyncio.to_thread(server.set, name, value)
        found += [batch.values[0] for batch in await gather(driver, 0.35)]
    return found + [batch.values[0] for batch in await gather(driver, 0.3)]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        # EURange 0 to 200: 1 % is 2.
        ({"deadband": "1%"}, [103.0, 106.5]),
        # The tag's own range, as the agent itself counts: 1 % of 100 is 1.
        ({"deadband": "1%", "range": [50, 150]}, [101.5, 103.0, 106.5]),
        ({"deadband": 4}, [106.5]),
    ],
)
async def test_deadbands_are_kept_by_the_server(
    keys: dict[str, Any], expected: list[float], node_opcua: NodeOpcuaServer, opcua: OpcuaFactory
) -> None:
    """Absolute, in percent of the tag's range, and in percent of the node's EURange where it has none."""
    driver = opcua(node_opcua.url, {"level": node("Press.Level", **keys)})
    assert await values(driver, node_opcua, "Press.Level", [101.5, 103.0, 106.5]) == expected


async def test_percent_of_a_range_nobody_knows_is_a_named_error(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, said: Callable[[], list[str]]
) -> None:
    """A node without EURange and a tag without range: never a filter that loses values without a word."""
    tags = {"fast": node("Press.Fast", deadband="1%"), "level": node("Press.Level", deadband="1%")}
    driver = opcua(node_opcua.url, tags)
    await driver.connect()
    assert await scan(driver) == {"fast": missing(Reason.CONFIG_ERROR), "level": good(100)}
    assert [line for line in said() if "the node has no EURange: give the tag a range" in line]


async def test_a_full_queue_is_counted_exactly_and_said_once(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, said: Callable[[], list[str]]
) -> None:
    """Bursts of 10000 changes with a queue of 20: one overflow each, the last 20 arrive, with advice."""
    driver = opcua(node_opcua.url, {"fast": node("Press.Fast", sampling="0s", queue_size=20)})
    await driver.connect()
    await driver.read(driver.groups[0])
    for count in (1, 2, 3):
        began = time.monotonic()
        await asyncio.to_thread(node_opcua.command, burst="Press.Fast", times=10_000)
        assert time.monotonic() - began < 1
        found: list[Value | None] = []
        while 10_000 not in found and time.monotonic() < began + 5:
            found += [batch.values[0] for batch in await gather(driver, 0.1)]
        assert found == list(range(9981, 10_001))
        assert f"overflowed {count} times" in driver.describe()
    assert len([line for line in said() if "a longer queue_size" in line]) == 1


async def test_of_ten_thousand_changes_a_second_no_loss_goes_uncounted(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory
) -> None:
    """20 tags, 20 changes each every 40 ms for a second: in order, and where one is missing it was counted.

    The queues hold it all, unless the server's publishing is late on a busy machine.
    """
    tags = {f"quick{i}": node(f"Press.Quick.{i}", sampling="0s", queue_size=50) for i in range(20)}
    driver = opcua(node_opcua.url, tags, every="50ms")
    await driver.connect()
    await driver.read(driver.groups[0])
    streaming = asyncio.create_task(asyncio.to_thread(node_opcua.command, stream=25, times=20))
    found: dict[str, list[int]] = {name: [0] for name in tags}
    end = time.monotonic() + 20
    while any(values[-1] < 500 for values in found.values()) and time.monotonic() < end:
        for batch in await driver.read(driver.groups[0]):
            for name, value in zip(batch.names, batch.values, strict=True):
                found[name].append(int(value or 0))
        await asyncio.sleep(0.05)
    await streaming
    described = driver.describe()
    for name, values in found.items():
        steps = [after - before for before, after in pairwise(values)]
        assert values[-1] == 500
        assert min(steps) > 0
        counted = re.search(rf"^{name} .*overflowed (\d+) times", described, re.MULTILINE)
        assert sum(step > 1 for step in steps) == (int(counted[1]) if counted else 0)
    assert "gaps: 0 messages" in described


PATHS = {
    "exact": {"browse": "nsu=urn:plant:node;Line1/Pump/Temperature"},
    "absolute": {"browse": "/Objects/2:Line1/2:Motor/2:Temperature"},
    "any_namespace": {"browse": "Line1/Motor/Temperature"},
    "wild": {"browse": "Line*/P?mp/Temp*"},
    "odd": {"browse": "Line1/a&/b&:c&*"},
    "many": {"browse": "Line1/*/Temperature"},
    "folder": {"browse": "Line1/Pump"},
    "misspelt": {"browse": "Line1/Pump/Temprature"},
    "foreign": {"browse": "nsu=urn:nobody;Line1/Pump/Temperature"},
}


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_nodes_are_found_by_browse_path(
    mode: str, node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, said: Callable[[], list[str]]
) -> None:
    """By namespace URI, index, in any namespace, by pattern; what is not one variable says why."""
    driver = opcua(node_opcua.url, PATHS, mode=mode)
    await driver.connect()
    assert await scan(driver) == {
        "exact": good(41),
        "absolute": good(62),
        "any_namespace": good(62),
        "wild": good(41),
        "odd": good(7),
        "many": missing(Reason.CONFIG_ERROR),
        "folder": missing(Reason.CONFIG_ERROR),
        "misspelt": missing(Reason.ILLEGAL_ADDRESS),
        "foreign": missing(Reason.CONFIG_ERROR),
    }
    lines = "\n".join(said())
    assert "2 nodes are at Line1/*/Temperature (Line1/Motor/Temperature, Line1/Pump/Temperature)" in lines
    assert "Line1/Pump is a folder or an object" in lines
    assert "there is no 'Temprature' on Line1/Pump/Temprature: did you mean Temperature?" in lines


STRUCTURED = {
    "element": node("Press.Profile", index=1),
    "profile": node("Press.Profile", length=3),
    "too_far": node("Press.Profile", index=3),
    "array": node("Press.Profile"),
    "mode": node("Press.Mode"),
    "mode_name": node("Press.Mode", type="string"),
    "since": node("Press.Since", type="string"),
    "speed": node("Press.Drive", field="Motor.Speed"),
    "drive": node("Press.Drive", fields=["Ready", "Motor.Runtime", "Motor.Mode"]),
    "label": node("Press.Drive", field="Motor.Label", type="string"),
    "current": node("Press.Drive", field="Motor.Currents.2"),
    "second": node("Press.Drives", field="1.Motor.Speed"),
    "nothing": node("Press.Drive", field="Motor.Torque"),
    "structure": node("Press.Drive"),
}


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_arrays_structures_enumerations_and_dates_become_tags(
    mode: str, node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, said: Callable[[], list[str]]
) -> None:
    """One element or field, or several as TAG.0 and TAG.FIELD; what does not fit is bad with a sentence."""
    driver = opcua(node_opcua.url, STRUCTURED, mode=mode)
    assert len(driver.groups[0].tags) == 18
    await driver.connect()
    assert await scan(driver) == {
        "element": good(2),
        "profile.0": good(1),
        "profile.1": good(2),
        "profile.2": good(3),
        "too_far": missing(Reason.CONFIG_ERROR),
        "array": missing(Reason.CONFIG_ERROR),
        "mode": good(2),
        "mode_name": good("Automatic"),
        "since": good("2026-01-02T03:04:05Z"),
        "speed": good(1450),
        "drive.Ready": good(True),
        "drive.Motor.Runtime": good(1500),
        "drive.Motor.Mode": good(1),
        "label": good("M1"),
        "current": good(3),
        "second": good(2),
        "nothing": missing(Reason.CONFIG_ERROR),
        "structure": missing(Reason.CONFIG_ERROR),
    }
    lines = "\n".join(said())
    assert "its array has 3 elements: 3 is beyond the last one" in lines
    assert "its structure has no field Torque; it has Speed, Label, Runtime, Mode, Currents" in lines
    assert "it holds a structure: name one of its values with field" in lines


async def test_a_shifted_namespace_is_followed(opcua: OpcuaFactory, tmp_path: Path) -> None:
    """F6: after a restart the index means another namespace; URIs and paths find the same nodes again."""
    tags = {
        "by_uri": node("Press.Temperature"),
        "by_path": {"browse": "nsu=urn:plant:node;Press/Temperature"},
        "by_index": {"node": "ns=2;s=Press.Temperature"},
    }
    with NodeOpcuaServer(tmp_path / "before") as server:
        driver = opcua(server.url, tags)
        await driver.connect()
        assert await scan(driver) == dict.fromkeys(tags, good(20.5))
        port = urlsplit(server.url).port or 0
    with pytest.raises(DeviceUnreachable):
        await gather(driver, 5)
    with NodeOpcuaServer(tmp_path / "after", port, shifted=True):
        await driver.connect()
        # Who writes an index gets what is there, which is why the documentation says: write the URI.
        assert await scan(driver) == {"by_uri": good(20.5), "by_path": good(20.5), "by_index": good(-99)}


async def test_a_node_that_changes_its_type_or_goes_harms_only_itself(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text where a number was is config_error; a deleted node illegal_address until it is there again."""
    monkeypatch.setattr(monitoring, "RETEST", 0.5)
    await asyncio.to_thread(node_opcua.command, recreate="Press.Going")
    tags = {"going": node("Press.Going"), "temperature": node("Press.Temperature")}
    driver = opcua(node_opcua.url, tags)
    await driver.connect()
    assert await scan(driver) == {"going": good(33), "temperature": good(20.5)}
    await asyncio.to_thread(node_opcua.command, retype="Press.Going")
    await until(driver, lambda batch: batch.status(0).reason is Reason.CONFIG_ERROR)
    await asyncio.to_thread(node_opcua.command, remove="Press.Going")
    await until(driver, lambda batch: batch.status(0).reason is Reason.ILLEGAL_ADDRESS)
    await asyncio.to_thread(node_opcua.set, "Temperature", 21.5)
    await until(driver, lambda batch: 21.5 in batch.values)
    await asyncio.to_thread(node_opcua.command, recreate="Press.Going")
    await until(driver, lambda batch: batch.names == ("going",) and batch.values == [33])


async def test_what_cannot_be_decoded_harms_only_itself(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory
) -> None:
    """A value asyncua refuses to parse is bad invalid_value; the nodes read with it keep their values."""
    tags = {f"t{i}": node(f"Press.Many.{i}") for i in range(6)}
    tags["garbled"] = node("Press.Span", field="High")
    drivers = [opcua(node_opcua.url, tags, mode=mode) for mode in ("poll", "subscribe")]
    for driver in drivers:
        await driver.connect()
        assert (await scan(driver))["garbled"] == good(1)
    await asyncio.to_thread(node_opcua.command, garble="Press.Span")
    assert await scan(drivers[0]) == {f"t{i}": good(i) for i in range(6)} | {
        "garbled": missing(Reason.INVALID_VALUE)
    }
    await until(drivers[1], lambda batch: value_of(batch, "garbled") is None)
    await asyncio.to_thread(node_opcua.set, "Press.Many.1", 5)
    await until(drivers[1], lambda batch: value_of(batch, "t1") == 5)
    await asyncio.to_thread(node_opcua.set, "Press.Many.1", 1)
