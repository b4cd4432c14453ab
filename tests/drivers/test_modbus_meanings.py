"""What registers mean, from the YAML of a tag to the sample: enumerations, powers of ten, rates, signals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edge_agent.alarms.limits import LimitAlarms
from edge_agent.clock import SECOND, Clock
from edge_agent.types import Kind, Reason, SampleBatch, Store, Value
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.settings import ModbusMachine
from edge_agent_simulators.modbus_server import ModbusServer
from tests.drivers.stage import ModbusFactory, good, missing, scan

PARTS = {"address": "holding:10", "kind": "counter", "rate": "1m", "unit": "pcs"}
WAITING = missing(Reason.WAITING_FOR_INITIAL_DATA)


async def begin(
    device: ModbusServer, modbus: ModbusFactory, tags: dict[str, Any], **keys: Any
) -> ModbusDriver:
    driver = modbus(device.port, tags, **keys)
    await driver.connect()
    return driver


def put(device: ModbusServer, address: int, *words: int) -> None:
    device.images[1].set_words("holding", address, [word & 0xFFFF for word in words])


async def test_an_enumeration_keeps_its_number_and_gains_a_text(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """TAG stays the number, TAG.text is what it means; a number without a name stays digits."""
    tag = {"address": "holding:7", "type": "int16", "enum": {0: "stopped", 0xFFFF: "lost"}}
    driver = await begin(device, modbus, {"state": tag})
    number, text = driver.groups[0].tags
    assert (number.kind, number.store, number.names) == (
        Kind.STATE,
        Store.FLOAT,
        ((-1, "lost"), (0, "stopped")),
    )
    assert (text.name, text.kind, text.store) == ("state.text", Kind.STATE, Store.STRING)
    for word, shown, name in ((0, 0, "stopped"), (0xFFFF, -1, "lost"), (17, 17, "17")):
        put(device, 7, word)
        assert await scan(driver) == {"state": good(shown), "state.text": good(name)}


async def test_several_bits_of_a_word_are_a_number_with_names(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """`"4-6": {name, enum}` gives TAG.name and TAG.name.text; a coil may have names as well."""
    bits = {
        3: "tripped",
        "4-6": {"name": "mode", "enum": {2: "auto"}},
        "15-8": {"name": "load", "label": "Load"},
    }
    tags = {
        "status": {"address": "holding:7", "bits": bits},
        "door": {"address": "coil:5", "enum": {0: "closed", 1: "open"}},
    }
    driver = await begin(device, modbus, tags)
    put(device, 7, 0x6428)
    assert await scan(driver) == {
        "status": good(0x6428),
        "status.tripped": good(True),
        "status.mode": good(2),
        "status.mode.text": good("auto"),
        "status.load": good(100),
        "door": good(True),
        "door.text": good("open"),
    }
    device.images[1].remove("holding", 7)
    found = await scan(driver)
    assert {found[name] for name in found if name.startswith("status")} == {missing(Reason.ILLEGAL_ADDRESS)}


def test_an_alarm_on_a_named_bit_is_an_alarm_of_the_machine(modbus: ModbusFactory) -> None:
    """`bits: {3: {name: tripped, alarm: ...}}` raises WORD.tripped as an alarm on a tag of its own would."""
    alarm = {"when": True, "priority": "high", "action": "Reset at the panel"}
    tags = {
        "status": {"address": "holding:7", "bits": {3: {"name": "tripped", "label": "Trip", "alarm": alarm}}}
    }
    driver = modbus(1, tags)
    raw = {"driver": "modbus", "url": "tcp://127.0.0.1", "tags": tags}
    alarms = LimitAlarms("pump-1", ModbusMachine.model_validate(raw).points)
    assert alarms.ids == {"status.tripped"}
    names = driver.groups[0].names
    assert alarms.observe(SampleBatch("pump-1", names, SECOND, [0, False])) == []
    [raised] = alarms.observe(SampleBatch("pump-1", names, 2 * SECOND, [8, True]))
    assert (raised.id, raised.priority.value, raised.action) == (
        "status.tripped",
        "high",
        "Reset at the panel",
    )
    assert "Trip" in raised.message


async def test_a_mask_leaves_only_the_bits_that_count(device: ModbusServer, modbus: ModbusFactory) -> None:
    """A drive's state is ETA & 0x006F: `mask` with `enum`, beside the word itself, in one read."""
    tags = {
        "eta": {"address": "holding:7", "bits": {9: "remote"}},
        "state": {"address": "holding:7", "mask": 0x006F, "enum": {0x27: "operation enabled"}},
    }
    driver = await begin(device, modbus, tags)
    put(device, 7, 0x0237)
    found = await scan(driver)
    assert (found["state"], found["state.text"]) == (good(0x27), good("operation enabled"))
    assert (found["eta"], found["eta.remote"]) == (good(0x237), good(True))
    assert device.requests == 1


async def test_a_power_of_ten_from_another_register(device: ModbusServer, modbus: ModbusFactory) -> None:
    """value = raw * 10^n (SunSpec), then scale, to the exact decimal; 0x8000 is not implemented."""
    tags = {
        "power": {"address": "holding:10", "type": "int16", "scale_from": "power_sf", "range": [0, 5000]},
        "kilowatts": {"address": "holding:10", "type": "int16", "scale_from": "power_sf", "scale": 0.001},
        "power_sf": {"address": "holding:11", "type": "int16"},
    }
    driver = await begin(device, modbus, tags)
    put(device, 10, 1234, -1)
    assert await scan(driver) == {"power": good(123.4), "kilowatts": good(0.1234), "power_sf": good(-1)}
    put(device, 10, 1234, 1)
    found = await scan(driver)
    assert found["power"] == (12340.0, Reason.RANGE_EXCEEDED)
    nothing = missing(Reason.INVALID_VALUE)
    put(device, 10, 1234, 0x8000)
    assert await scan(driver) == {"power": nothing, "kilowatts": nothing, "power_sf": nothing}
    put(device, 10, 1234, 400)
    assert await scan(driver) == {"power": nothing, "kilowatts": nothing, "power_sf": good(400)}


async def test_decimals_from_another_register_that_is_read_less_often(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """raw / 10^n with n from another scan rate: no value before n is known, then the last n; 24.2 is 242."""
    tags = {
        "temperature": {"address": "holding:10", "type": "int16", "decimals_from": "decimals"},
        "decimals": {"address": "holding:11", "every": "1h"},
    }
    driver = await begin(device, modbus, tags)
    often, seldom = 0, 1
    put(device, 10, 242, 1)
    assert await scan(driver, often) == {"temperature": WAITING}
    assert await scan(driver, seldom) == {"decimals": good(1)}
    assert await scan(driver, often) == {"temperature": good(24.2)}
    put(device, 10, 2423, 2)
    assert await scan(driver, seldom) == {"decimals": good(2)}
    assert await scan(driver, often) == {"temperature": good(24.23)}
    device.images[1].remove("holding", 11)
    await scan(driver, seldom)
    assert await scan(driver, often) == {"temperature": missing(Reason.ILLEGAL_ADDRESS)}
    await driver.close()
    await driver.connect()
    assert await scan(driver, often) == {"temperature": WAITING}


class HandClock(Clock):
    """A clock whose monotonic side is moved by hand, while the other runs backwards."""

    def __init__(self) -> None:
        self.minutes = 0

    def now(self) -> int:
        return (10**9 - self.minutes) * SECOND

    def elapsed(self) -> int:
        return self.minutes * 60 * SECOND


async def rates(
    driver: ModbusDriver, device: ModbusServer, clock: HandClock, *raws: int
) -> list[tuple[Value | None, Reason]]:
    """For each raw uint16 put at holding:10, a minute later each, the rate."""
    found = []
    for raw in raws:
        put(device, 10, raw)
        clock.minutes += 1
        value, reason = (await scan(driver))["energy.rate"]
        found.append((round(value, 9) if isinstance(value, float) else value, reason))
    return found


async def test_a_counter_has_a_rate(
    device: ModbusServer, modbus: ModbusFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """TAG.rate is the growth per hour in kW; none at first and after a reset, and a rollover is none.

    It goes by the monotonic clock: a clock that is set meanwhile changes nothing.
    """
    tag = {"address": "holding:10", "unit": "kWh", "scale": 0.1, "rate": "1h", "rollover": 65536}
    clock = HandClock()
    driver = await begin(device, modbus, {"energy": tag}, clock=clock)
    counter, made = driver.groups[0].tags
    assert (counter.kind, made.kind, made.unit) == (Kind.COUNTER, Kind.MEASUREMENT, "kW")
    assert await rates(driver, device, clock, 60000, 60010, 60010, 65530, 4, 0, 10) == [
        WAITING,
        good(60.0),
        good(0),
        good(33120.0),
        good(60.0),
        WAITING,
        good(60.0),
    ]
    assert caplog.text.count("taken as reset number 1") == 1


async def test_a_counter_without_rollover_is_reset_by_every_step_back(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """A negative step is never a negative rate, and the rate after a gap of bad values is not made up."""
    tags = {"energy": {**PARTS, "scale_from": "sf"}, "sf": {"address": "holding:11", "type": "int16"}}
    clock = HandClock()
    driver = await begin(device, modbus, tags, clock=clock)
    put(device, 11, 2)
    assert driver.groups[0].tags[1].unit == "pcs/min"
    assert await rates(driver, device, clock, 5, 7, 6, 8) == [WAITING, good(200), WAITING, good(200)]
    device.images[1].remove("holding", 10)
    assert (await scan(driver))["energy.rate"] == missing(Reason.ILLEGAL_ADDRESS)
    await asyncio.sleep(0.35)
    assert await rates(driver, device, clock, 20, 21) == [WAITING, good(100)]
    put(device, 11, 0x8000)
    assert await rates(driver, device, clock, 22) == [missing(Reason.INVALID_VALUE)]


@pytest.mark.parametrize(
    ("milliamperes", "reason", "valued"),
    [
        (3.59, Reason.SENSOR_FAILURE, False),
        (3.7, Reason.SENSOR_NOT_ACCURATE, True),
        (3.81, Reason.NONE, True),
        (12, Reason.NONE, True),
        (20.49, Reason.NONE, True),
        (20.9, Reason.SENSOR_NOT_ACCURATE, True),
        (21.01, Reason.SENSOR_FAILURE, False),
    ],
)
async def test_a_signal_that_leaves_ne_43_has_failed(
    device: ModbusServer, modbus: ModbusFactory, milliamperes: float, reason: Reason, valued: bool
) -> None:
    """4-20mA: as counts of an analog input card, in microamperes, and where more is less."""
    counts = {"address": "holding:10", "type": "int16", "signal": "4-20mA"}
    tags = {
        "level": {**counts, "scaling": {"raw": [0, 27648], "eng": [0, 16]}},
        "falling": {**counts, "scaling": {"raw": [0, 27648], "eng": [100, -20]}},
        "current": {"address": "holding:11", "scale": 0.001, "signal": "4-20mA"},
    }
    driver = await begin(device, modbus, tags)
    put(device, 10, round((milliamperes - 4) / 16 * 27648), round(milliamperes * 1000))
    found = await scan(driver)
    assert {name: why for name, (_, why) in found.items()} == dict.fromkeys(tags, reason)
    assert all((value is not None) == valued for value, _ in found.values())


async def test_sentinels_by_type_hold_for_tags_that_have_none(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """`invalid` of the machine goes by type; a tag's own list replaces it, and [] means none."""
    tags = {
        "a": {"address": "holding:10"},
        "b": {"address": "holding:10", "invalid": []},
        "c": {"address": "holding:11", "type": "int16"},
        "d": {"address": "holding:11", "type": "int16", "invalid": [7]},
    }
    driver = await begin(device, modbus, tags, invalid={"uint16": [0xFFFF], "int16": [0x8000]})
    put(device, 10, 0xFFFF, 0x8000)
    nothing = missing(Reason.INVALID_VALUE)
    assert await scan(driver) == {"a": nothing, "b": good(65535), "c": nothing, "d": good(-32768)}


async def test_what_is_refused_within_whole_blocks_is_found(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """A refused block is not read in parts; its values are left out, the others go on."""
    tags = {f"t{address}": {"address": f"holding:{address}"} for address in (0, 3, 10, 18, 21, 31)}
    driver = await begin(device, modbus, tags, block="exact", blocks=["holding:0-9", "holding:10-24"])
    found = await scan(driver)
    refused = missing(Reason.ILLEGAL_ADDRESS)
    assert found == {
        "t0": good(1000), "t3": good(1003), "t10": refused, "t18": refused, "t21": refused, "t31": good(1031),
    }  # fmt: skip
    assert device.requests == 3
    assert await scan(driver) == found
    assert device.requests == 5
