"""What every driver promises (edge_agent.contracts.plugs.Driver), tested over each in the same words."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge_agent import registry
from edge_agent.clock import Clock
from edge_agent.contracts.plugs import Driver
from edge_agent.errors import ConfigError, DeviceRefused, DeviceUnreachable
from edge_agent.types import GOOD, Quality, SampleBatch
from edge_agent_simulators.modbus_server import ModbusServer
from tests.drivers.stage import Liar, Press, by_name, good, node
from tests.support.mosquitto import free_port


class Plant(ABC):
    """One machine to read: tags a and b are good, wrong is not there; slow has a rate of its own."""

    kind: str
    keys: dict[str, Any] = {}

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it is."""

    @property
    @abstractmethod
    def tags(self) -> dict[str, Any]:
        """a = 11, b = 22, wrong, slow = 33 once a minute."""

    @abstractmethod
    async def stop(self) -> None:
        """Switch it off."""

    @abstractmethod
    async def start(self) -> None:
        """Switch it on, at the same address."""

    def driver(self, url: str | None = None, **keys: Any) -> Driver:
        """A driver for it."""
        raw = {
            "driver": self.kind,
            "url": url or self.url,
            "tags": self.tags,
            "every": "100ms",
            "timeout": "2s",
        }
        settings = registry.driver_settings(self.kind).model_validate(raw | self.keys | keys)
        return registry.driver(self.kind)("machine-1", settings, Clock())


class ModbusPlant(Plant):
    """A device on Modbus TCP."""

    kind = "modbus"
    tags = {
        "a": {"address": "holding:0"},
        "wrong": {"address": "holding:500"},
        "slow": {"address": "holding:2", "every": "1m"},
        "b": {"address": "holding:1"},
    }

    def __init__(self) -> None:
        self.server = ModbusServer({1: {"holding": {0: 11, 1: 22, 2: 33}}})

    @property
    def url(self) -> str:
        """Where it is."""
        return f"tcp://127.0.0.1:{self.server.port}"

    async def stop(self) -> None:
        """Switch it off."""
        await self.server.stop()

    async def start(self) -> None:
        """Switch it on, at the same address."""
        await self.server.start()


class OpcuaPlant(Plant):
    """A server on OPC UA, read in one of the two modes."""

    kind = "opcua"
    tags = {
        "a": node("Temperature"),
        "wrong": node("Nowhere"),
        "slow": node("Count") | {"every": "1m"},
        "b": node("Pressure"),
    }

    def __init__(self, press: Press, mode: str) -> None:
        self.press = press
        self.keys = {"mode": mode}

    @property
    def url(self) -> str:
        """Where it is."""
        return self.press.url

    async def stop(self) -> None:
        """Switch it off."""
        await asyncio.to_thread(self.press.stop)

    async def start(self) -> None:
        """Switch it on, at the same address."""
        await asyncio.to_thread(self.press.start)
        await self.press.write({"Temperature": 11.0, "Pressure": 22.0, "Count": 33})


@pytest.fixture(params=["modbus", "opcua-subscribe", "opcua-poll"])
async def plant(request: pytest.FixtureRequest) -> AsyncIterator[Plant]:
    """A machine for each driver."""
    if request.param == "modbus":
        device = ModbusPlant()
        await device.start()
        yield device
        await device.stop()
        assert device.server.write_requests == 0
        return
    press: Press = request.getfixturevalue("press")
    await press.write({"Temperature": 11.0, "Pressure": 22.0, "Count": 33})
    yield OpcuaPlant(press, request.param.partition("-")[2])


def consistent(batches: list[SampleBatch]) -> bool:
    """Columns fit together, and a value is missing exactly where its status is bad."""
    return all(
        len(batch.names) == len(batch.values)
        and all(0 <= i < len(batch.names) and status != GOOD for i, status in batch.statuses.items())
        and all((v is None) == (batch.status(i).quality is Quality.BAD) for i, v in enumerate(batch.values))
        for batch in batches
    )


async def connect_and_read(driver: Driver) -> None:
    """Connect, which by itself may succeed where something listens, and scan."""
    await driver.connect()
    await driver.read(driver.groups[0])


async def read_for(driver: Driver, seconds: float) -> None:
    """Scan every tenth of a second."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await driver.read(driver.groups[0])
        await asyncio.sleep(0.1)


class TestEveryDriver:
    """The promises of the contract."""

    async def test_groups_are_known_without_a_connection(self, plant: Plant) -> None:
        """One group per scan rate, tags in the order of the configuration; no network is touched."""
        groups = plant.driver(
            "tcp://127.0.0.1:1" if plant.kind == "modbus" else "opc.tcp://127.0.0.1:1"
        ).groups
        assert [(group.every, group.names) for group in groups] == [
            (0.1, ("a", "wrong", "b")),
            (60.0, ("slow",)),
        ]

    async def test_a_scan_gives_the_values_and_isolates_the_bad_tag(self, plant: Plant) -> None:
        """Good tags have their values, the wrong one is bad with a reason, and only the group's tags come."""
        driver = plant.driver()
        await driver.connect()
        batches = await driver.read(driver.groups[0])
        found = by_name(batches)
        assert (found["a"], found["b"]) == (good(11), good(22))
        assert found["wrong"][0] is None
        assert found["wrong"][1]
        assert set(found) == {"a", "wrong", "b"}
        assert consistent(batches)
        assert all(batch.machine == "machine-1" for batch in batches)
        assert by_name(await driver.read(driver.groups[1])) == {"slow": good(33)}
        await driver.close()

    async def test_timestamps_are_now_and_points_are_never_repeated(self, plant: Plant) -> None:
        """Timestamps are UTC ns of about now, and no tag gets the same one twice."""
        driver = plant.driver()
        await driver.connect()
        seen: set[tuple[str, int]] = set()
        count = 0
        for _ in range(4):
            for batch in await driver.read(driver.groups[0]):
                assert abs(batch.timestamp - time.time_ns()) < 60_000_000_000
                seen |= {(name, batch.timestamp) for name in batch.names}
                count += len(batch.names)
        assert len(seen) == count
        await driver.close()

    async def test_raw_says_what_was_sent(self, plant: Plant) -> None:
        """With raw every column has a text, and every tag of the group is there."""
        driver = plant.driver()
        await driver.connect()
        batches = await driver.read(driver.groups[0], raw=True)
        texts = {name: batch.raw[i] for batch in batches if batch.raw for i, name in enumerate(batch.names)}
        assert set(texts) == {"a", "wrong", "b"}
        assert texts["a"]
        await driver.close()

    async def test_nobody_there_is_unreachable_in_time(self, plant: Plant) -> None:
        """Where nothing listens, connecting fails soon, and reading without a connection fails at once."""
        scheme = plant.url.partition("//")[0]
        driver = plant.driver(f"{scheme}//127.0.0.1:{free_port()}")
        began = time.monotonic()
        with pytest.raises(DeviceUnreachable, match="machine-1"):
            await driver.connect()
        with pytest.raises(DeviceUnreachable):
            await driver.read(driver.groups[0])
        assert time.monotonic() - began < 2
        await driver.close()

    async def test_a_listener_that_says_nothing_is_unreachable_in_time(self, plant: Plant) -> None:
        """An open port without an answer does not hang connect, read or close."""
        async with Liar(lambda _: []) as mute:
            scheme = plant.url.partition("//")[0]
            driver = plant.driver(f"{scheme}//127.0.0.1:{mute.port}", timeout="200ms")
            began = time.monotonic()
            with pytest.raises(DeviceUnreachable):
                await connect_and_read(driver)
            await driver.close()
            assert time.monotonic() - began < 1.5

    async def test_closing_is_harmless_at_any_time(self, plant: Plant) -> None:
        """Before connecting, twice, and after failures."""
        driver = plant.driver()
        await driver.close()
        await driver.connect()
        await driver.close()
        await driver.close()
        with pytest.raises(DeviceUnreachable):
            await driver.read(driver.groups[0])

    async def test_the_same_driver_goes_on_after_an_outage(self, plant: Plant) -> None:
        """Off is unreachable, never another exception; after close and connect it reads as before."""
        driver = plant.driver()
        await driver.connect()
        await driver.read(driver.groups[0])
        await plant.stop()
        try:
            with pytest.raises(DeviceUnreachable):
                await read_for(driver, 4)
            for _ in range(2):
                await driver.close()
                with pytest.raises((DeviceUnreachable, DeviceRefused)):
                    await driver.connect()
        finally:
            await plant.start()
        await driver.connect()
        found = by_name(await driver.read(driver.groups[0]))
        assert (found["a"], found["b"]) == (good(11), good(22))
        await driver.close()

    async def test_connecting_again_without_closing_is_allowed(self, plant: Plant) -> None:
        """A second connect replaces the first connection."""
        driver = plant.driver()
        await driver.connect()
        await driver.connect()
        assert by_name(await driver.read(driver.groups[0]))["a"] == good(11)
        await driver.close()

    async def test_no_task_outlives_close(self, plant: Plant) -> None:
        """Nothing goes on in the background after close."""
        before = asyncio.all_tasks()
        driver = plant.driver()
        await driver.connect()
        await driver.read(driver.groups[0])
        await driver.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before

    async def test_settings_of_another_driver_are_refused(self, plant: Plant) -> None:
        """A driver says so where it is given what it does not understand."""
        other = {"modbus": "opcua", "opcua": "modbus"}[plant.kind]
        url = {"modbus": "opc.tcp://127.0.0.1:1", "opcua": "tcp://127.0.0.1:1"}[plant.kind]
        settings = registry.driver_settings(other).model_validate({"driver": other, "url": url})
        with pytest.raises(ConfigError, match="machine-1"):
            registry.driver(plant.kind)("machine-1", settings, Clock())


def test_settings_load_no_protocol_library() -> None:
    """`check` and `schema` read the settings of both drivers without pymodbus, asyncua or cryptography."""
    code = (
        "import sys; from edge_agent import registry\n"
        "for kind in ('modbus', 'opcua'): registry.driver_settings(kind)\n"
        "print(sorted({'pymodbus', 'asyncua', 'cryptography'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
