"""The Modbus driver against our simulator: reading, refusals, quarantine, outages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from edge_agent.errors import DeviceUnreachable
from edge_agent.types import Quality, Reason
from edge_agent_drivers.modbus.faults import EXCEPTIONS
from edge_agent_simulators.modbus_server import ModbusServer
from tests.drivers.stage import ModbusFactory, good, missing, scan

TWO_BLOCKS = {"a": {"address": "holding:0"}, "b": {"address": "holding:30"}}


async def test_all_four_tables_are_read_in_one_scan(device: ModbusServer, modbus: ModbusFactory) -> None:
    """Registers and bits of every table arrive in one batch, in the order of the configuration."""
    tags = {
        "bit": {"address": "coil:5"},
        "word": {"address": "holding:3", "scale": 0.1},
        "in": {"address": "input:2", "type": "int16"},
        "off": {"address": "coil:4"},
        "disc": {"address": "discrete:1"},
    }
    driver = modbus(device.port, tags)
    await driver.connect()
    [batch] = await driver.read(driver.groups[0], raw=True)
    assert batch.names == tuple(tags)
    assert batch.values == [True, 100.3, 2002, False, True]
    assert batch.raw == ["1", "03EB", "07D2", "0", "1"]
    assert abs(batch.timestamp - time.time_ns()) < 1_000_000_000
    assert device.requests == 4


async def test_a_status_word_gives_its_bits_as_tags(device: ModbusServer, modbus: ModbusFactory) -> None:
    """`bits` adds TAG.name beside the word; bit_base 1 counts the bits from one."""
    device.images[1].set_words("holding", 7, [0b1000])
    tags = {
        "status": {"address": "holding:7", "bits": {0: "ready", 3: "tripped"}},
        "other": {"address": "holding:7", "bits": {4: "tripped"}, "bit_base": 1},
    }
    driver = modbus(device.port, tags)
    await driver.connect()
    assert await scan(driver) == {
        "status": good(8),
        "status.ready": good(False),
        "status.tripped": good(True),
        "other": good(8),
        "other.tripped": good(True),
    }
    assert device.requests == 1


async def test_each_scan_rate_reads_only_its_own_registers(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """Tags with a rate of their own are a group of their own, on the same connection."""
    driver = modbus(
        device.port, {"a": {"address": "holding:0"}, "slow": {"address": "holding:1", "every": "1m"}}
    )
    await driver.connect()
    assert await scan(driver, 0) == {"a": good(1000)}
    assert await scan(driver, 1) == {"slow": good(1001)}
    assert device.accepted == 1


async def test_a_refused_register_is_found_once_and_left_out(
    device: ModbusServer, modbus: ModbusFactory, said: Callable[[], list[str]]
) -> None:
    """Exception 2 on a block costs one search; then the bad tag is quarantined and the rest is read."""
    tags = {f"t{n}": {"address": f"holding:{n}"} for n in range(24)}
    driver = modbus(device.port, tags, comm={"retest": "1h"})
    expected = {
        name: good(1000 + n) if n < 20 else missing(Reason.ILLEGAL_ADDRESS) for n, name in enumerate(tags)
    }
    await driver.connect()
    assert await scan(driver) == expected
    assert len([line for line in said() if "is refused: exception 2" in line]) == 4
    before = device.requests
    assert await scan(driver) == expected
    assert device.requests - before == 1
    assert said() == []


async def test_a_refused_register_is_tried_again_on_a_timer(
    device: ModbusServer, modbus: ModbusFactory, said: Callable[[], list[str]]
) -> None:
    """A register that appears later is found by the re-test, and the block is whole again."""
    driver = modbus(device.port, {f"t{n}": {"address": f"holding:{n}"} for n in (18, 19, 20)})
    await driver.connect()
    assert (await scan(driver))["t20"] == missing(Reason.ILLEGAL_ADDRESS)
    device.images[1].set_words("holding", 20, [1020])
    assert (await scan(driver))["t20"] == missing(Reason.ILLEGAL_ADDRESS)
    await asyncio.sleep(0.35)
    assert (await scan(driver))["t20"] == good(1020)
    assert "pump-1: holding:20 (t20) answers again" in said()
    before = device.requests
    assert len(await scan(driver)) == 3
    assert device.requests - before == 1


async def test_when_every_register_is_refused_the_search_is_spread_over_scans(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """A wrong register list does not turn one scan into hundreds of requests."""
    tags = {f"t{n}": {"address": f"holding:{n}"} for n in range(500, 560)}
    driver = modbus(device.port, tags, comm={"retest": "1h"})
    await driver.connect()
    before = 0
    for _ in range(6):
        before = device.requests
        assert set((await scan(driver)).values()) == {missing(Reason.ILLEGAL_ADDRESS)}
        assert device.requests - before <= 40
    assert await scan(driver)
    assert device.requests == before


class Narrow(ModbusServer):
    """A device that takes at most ten registers or bits at once."""

    def answer(self, unit: int, pdu: bytes) -> bytes | None:
        """Exception 3 where too many are asked for."""
        if pdu[0] in (1, 2, 3, 4) and int.from_bytes(pdu[3:5], "big") > 10:
            self.requests += 1
            return bytes((pdu[0] | 0x80, 3))
        return super().answer(unit, pdu)


async def test_exception_3_halves_the_maximum_and_is_remembered(
    modbus: ModbusFactory, said: Callable[[], list[str]]
) -> None:
    """A device that takes fewer registers than configured is asked for fewer, in every group, ever after."""
    async with Narrow({1: {"holding": dict.fromkeys(range(64), 5)}}) as device:
        tags = {f"t{n}": {"address": f"holding:{n}"} for n in range(40)}
        tags |= {f"u{n}": {"address": f"holding:{n}", "every": "2s"} for n in range(40, 64)}
        driver = modbus(device.port, tags)
        await driver.connect()
        assert set((await scan(driver, 0)).values()) == {good(5)}
        assert [line for line in said() if "set max_registers: 10" in line]
        before = device.requests
        assert set((await scan(driver, 0)).values()) == {good(5)}
        assert set((await scan(driver, 1)).values()) == {good(5)}
        assert device.requests - before == 4 + 3


@pytest.mark.parametrize("code", [*EXCEPTIONS, 99])
async def test_every_exception_code_has_a_reason(
    code: int, device: ModbusServer, modbus: ModbusFactory
) -> None:
    """An exception on one block makes its tags bad with a stated reason; the other block is read."""
    reason = EXCEPTIONS[code][1] if code in EXCEPTIONS else Reason.DEVICE_FAILURE
    device.faults.add("exception", code, addresses=range(30, 40))
    driver = modbus(device.port, TWO_BLOCKS)
    await driver.connect()
    for _ in range(2):
        assert await scan(driver) == {"a": good(1000), "b": missing(reason)}


async def test_a_gateway_without_its_device_is_unreachable(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """Exceptions 10 and 11 come from the gateway: where nothing else answers, the device is away."""
    device.faults.add("exception", 11)
    driver = modbus(device.port, TWO_BLOCKS)
    await driver.connect()
    with pytest.raises(DeviceUnreachable, match="exception 11"):
        await scan(driver)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("silence", Reason.TIMEOUT),
        ("close", Reason.NOT_CONNECTED),
        ("short", Reason.COMM_FAILURE),
        ("wrong_transaction", Reason.COMM_FAILURE),
        ("wrong_unit", Reason.COMM_FAILURE),
        ("garbage", Reason.COMM_FAILURE),
    ],
)
async def test_one_misbehaving_block_harms_only_itself(
    fault: str, reason: Reason, device: ModbusServer, modbus: ModbusFactory
) -> None:
    """Whatever one block gets instead of an answer, its tags are bad and the others good, and it heals."""
    driver = modbus(device.port, TWO_BLOCKS | {"c": {"address": "input:0"}})
    await driver.connect()
    device.faults.add(fault, addresses=range(30, 40))  # type: ignore[arg-type]
    for _ in range(2):
        assert await scan(driver) == {"a": good(1000), "b": missing(reason), "c": good(2000)}
    device.faults.clear()
    assert await scan(driver) == {"a": good(1000), "b": good(1030), "c": good(2000)}


async def test_a_block_that_stays_silent_is_asked_less_often(
    device: ModbusServer, modbus: ModbusFactory, said: Callable[[], list[str]]
) -> None:
    """After three scans a silent block no longer costs every scan a timeout."""
    device.faults.add("silence", addresses=range(30, 40))
    driver = modbus(device.port, TWO_BLOCKS)
    await driver.connect()
    for _ in range(3):
        await scan(driver)
    began = time.monotonic()
    assert await scan(driver) == {"a": good(1000), "b": missing(Reason.TIMEOUT)}
    assert time.monotonic() - began < 0.1
    assert len(said()) == 2


async def test_constantly_short_replies_are_narrowed_down_to_the_register(
    modbus: ModbusFactory,
) -> None:
    """A device that leaves out what it does not have (jsmodbus) costs only the tags it leaves out."""

    class Short(ModbusServer):
        def answer(self, unit: int, pdu: bytes) -> bytes | None:
            address, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
            there = max(0, min(count, 6 - address))
            self.requests += 1
            return bytes((pdu[0], 2 * there)) + bytes(2 * there)

    async with Short({1: {}}) as device:
        driver = modbus(
            device.port, {f"t{n}": {"address": f"holding:{n}"} for n in range(8)}, comm={"retest": "1h"}
        )
        await driver.connect()
        for _ in range(2):
            await scan(driver)
        found = await scan(driver)
        assert [value for value, _ in found.values()] == [0] * 6 + [None] * 2
        assert found["t7"] == missing(Reason.COMM_FAILURE)
        before = device.requests
        await scan(driver)
        assert device.requests - before == 1


async def test_nothing_answering_is_unreachable_after_two_questions(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """A dead device costs a scan two timeouts, however many blocks there are."""
    device.faults.add("silence")
    driver = modbus(device.port, {f"t{n}": {"address": f"holding:{2 * n}"} for n in range(8)})
    await driver.connect()
    began = time.monotonic()
    with pytest.raises(DeviceUnreachable, match=r"did not answer within 0\.15 s"):
        await scan(driver)
    assert time.monotonic() - began < 0.45


async def test_a_late_reply_never_answers_the_next_question(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """A reply that comes after the timeout belongs to nobody: the next answer is the next question's own."""
    driver = modbus(device.port, TWO_BLOCKS, comm={"timeout": "60ms"})
    await driver.connect()
    for _ in range(20):
        device.faults.add("delay", 0.07, addresses=[0], count=1)
        assert await scan(driver) == {"a": missing(Reason.TIMEOUT), "b": good(1030)}
        await asyncio.sleep(0.01)
        assert await scan(driver) == {"a": good(1000), "b": good(1030)}


async def test_an_outage_is_not_held_against_the_block_that_was_asked_in_it(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """After scans without any answer, one late answer costs one scan: the block does not rest for 30 s."""
    driver = modbus(device.port, TWO_BLOCKS, comm={"timeout": "60ms"})
    await driver.connect()
    await scan(driver)
    device.faults.add("silence")
    for _ in range(4):
        with pytest.raises(DeviceUnreachable):
            await scan(driver)
    await driver.close()
    device.faults.clear()
    await driver.connect()
    device.faults.add("silence", addresses=[0], count=1)
    await scan(driver)
    assert await scan(driver) == {"a": good(1000), "b": good(1030)}


async def test_a_restarted_device_is_read_again_by_the_same_driver(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """Down is DeviceUnreachable; after close and connect the same object goes on, quarantine and all."""
    driver = modbus(device.port, TWO_BLOCKS | {"bad": {"address": "holding:20"}}, comm={"retest": "1h"})
    await driver.connect()
    before = await scan(driver)
    await device.stop()
    with pytest.raises(DeviceUnreachable, match="check the port"):
        await scan(driver)
    await driver.close()
    with pytest.raises(DeviceUnreachable, match="no connection"):
        await driver.connect()
    await device.start()
    await driver.connect()
    assert await scan(driver) == before


async def test_a_connection_dropped_while_idle_does_not_cost_a_scan(
    device: ModbusServer, modbus: ModbusFactory
) -> None:
    """Devices close idle connections; the next scan opens one and reads."""
    driver = modbus(device.port, TWO_BLOCKS)
    await driver.connect()
    await scan(driver)
    device.drop_connections()
    await asyncio.sleep(0.02)
    assert await scan(driver) == {"a": good(1000), "b": good(1030)}


async def test_pauses_are_kept(device: ModbusServer, modbus: ModbusFactory) -> None:
    """comm.pause spaces requests and connect_pause the first one, for devices that need it."""
    driver = modbus(device.port, TWO_BLOCKS, comm={"pause": "60ms", "connect_pause": "80ms"})
    await driver.connect()
    began = time.monotonic()
    await scan(driver)
    assert 0.14 <= time.monotonic() - began < 0.3


async def test_timestamps_strictly_increase(device: ModbusServer, modbus: ModbusFactory) -> None:
    """Two scans never share a point's identity, also across groups and reconnects."""
    driver = modbus(device.port, TWO_BLOCKS | {"c": {"address": "holding:1", "every": "5s"}})
    stamps = []
    for _ in range(3):
        await driver.connect()
        stamps += [batch.timestamp for group in driver.groups for batch in await driver.read(group)]
        await driver.close()
    assert stamps == sorted(set(stamps))


async def test_a_cancelled_scan_leaves_no_answer_behind(device: ModbusServer, modbus: ModbusFactory) -> None:
    """A scan that is cancelled while waiting gives up its connection, so its answer meets nobody."""
    driver = modbus(device.port, TWO_BLOCKS)
    await driver.connect()
    device.faults.add("delay", 0.05, count=1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(scan(driver), 0.02)
    assert await scan(driver) == {"a": good(1000), "b": good(1030)}
    await asyncio.sleep(0.05)
    assert await scan(driver) == {"a": good(1000), "b": good(1030)}


async def test_bad_is_never_a_number(device: ModbusServer, modbus: ModbusFactory) -> None:
    """Sentinels, NaN and refused bits of a bad word carry no value."""
    device.images[1].set_words("holding", 0, [0xFFFF, 0x7FC0, 0x0000])
    tags = {
        "sentinel": {"address": "holding:0", "invalid": [0xFFFF]},
        "nan": {"address": "holding:1", "type": "float32"},
        "word": {"address": "holding:0", "invalid": [0xFFFF], "bits": {0: "ready"}},
    }
    driver = modbus(device.port, tags)
    await driver.connect()
    [batch] = await driver.read(driver.groups[0])
    assert batch.values == [None] * 4
    assert {status.quality for status in batch.statuses.values()} == {Quality.BAD}
    assert [batch.status(i).reason for i in range(4)] == [Reason.INVALID_VALUE] * 4
