"""The Modbus driver against bytes that are wrong, late, split, doubled or made up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

import pytest

from edge_agent.errors import DeviceUnreachable
from edge_agent.types import Reason
from edge_agent_drivers.modbus import connection
from tests.drivers.stage import Liar, ModbusFactory, connect_in_time, good, honest, missing, reply_to, scan

TAGS = {"a": {"address": "holding:0", "type": "uint32"}, "b": {"address": "holding:30"}}
RIGHT = {"a": good(1000 << 16 | 1001), "b": good(1030)}

Lie = Callable[[bytes], Sequence[bytes]]
LIES: dict[str, Lie] = {
    "wrong function": lambda f: [reply_to(f, b"\x04\x04\0\1\0\2")],
    "write function": lambda f: [reply_to(f, b"\x10\x00\x00\x00\x02")],
    "unknown function": lambda f: [reply_to(f, b"\x65\x04\0\1\0\2")],
    "exception of another function": lambda f: [reply_to(f, b"\x84\x02")],
    "exception without a code": lambda f: [reply_to(f, b"\x83")],
    "only a function": lambda f: [reply_to(f, b"\x03")],
    "empty": lambda f: [reply_to(f, b"\x03\x00")],
    "too few registers": lambda f: [reply_to(f, b"\x03\x02\0\1")],
    "too many registers": lambda f: [reply_to(f, b"\x03\x06\0\1\0\2\0\3")],
    "byte count too high": lambda f: [reply_to(f, b"\x03\x06\0\1\0\2")],
    "byte count too low": lambda f: [reply_to(f, b"\x03\x02\0\1\0\2")],
    "odd bytes": lambda f: [reply_to(f, b"\x03\x03\0\1\2")],
    "transaction 0": lambda f: [b"\0\0" + honest(f, lambda _: 7)[2:]],
    "transaction of another": lambda f: [b"\x7f\x01" + honest(f, lambda _: 7)[2:]],
    "unit of another": lambda f: [honest(f, lambda _: 7)[:6] + b"\x09" + honest(f, lambda _: 7)[7:]],
    "unit 0": lambda f: [honest(f, lambda _: 7)[:6] + b"\x00" + honest(f, lambda _: 7)[7:]],
    "protocol not 0": lambda f: [honest(f)[:2] + b"\x01\x00" + honest(f)[4:]],
    "length 0": lambda f: [honest(f)[:4] + b"\0\0" + honest(f)[6:]],
    "length 65535": lambda f: [honest(f)[:4] + b"\xff\xff" + honest(f)[6:]],
    "length too long by one": lambda f: [honest(f)[:5] + bytes((honest(f)[5] + 1,)) + honest(f)[6:]],
    "cut short": lambda f: [honest(f)[:-1]],
    "half a header": lambda f: [honest(f)[:5]],
    "HTTP": lambda _: [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
    "RTU": lambda _: [bytes.fromhex("010304000100022a32")],
    "zeros": lambda _: [bytes(300)],
    "noise": lambda _: [random.Random(7).randbytes(600)],
    "silence": lambda _: [],
}


def lie_about(lie: Lie) -> Callable[[bytes], Sequence[bytes]]:
    """Lie about holding:0, tell the truth about the rest."""
    return lambda frame: lie(frame) if frame[8:10] == b"\0\0" else [honest(frame)]


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_is_never_a_value(name: str, modbus: ModbusFactory) -> None:
    """What does not answer the question is bad, the other block is read, and the truth is read again."""
    async with Liar(lie_about(LIES[name])) as device:
        driver = modbus(device.port, TAGS, comm={"timeout": "80ms"})
        await driver.connect()
        found = await scan(driver)
        assert found["b"] == RIGHT["b"]
        assert found["a"] in (missing(Reason.COMM_FAILURE), missing(Reason.TIMEOUT))
        device.reply = lambda frame: [honest(frame)]
        assert await scan(driver) == RIGHT


async def test_e5_a_reply_in_single_bytes_is_put_together(modbus: ModbusFactory) -> None:
    """TCP may cut anywhere; the frame is what counts."""
    async with Liar(lambda frame: [bytes((byte,)) for byte in honest(frame)]) as device:
        driver = modbus(device.port, TAGS)
        await driver.connect()
        assert await scan(driver) == RIGHT


async def test_e5_a_second_reply_in_the_same_segment_answers_nothing(modbus: ModbusFactory) -> None:
    """A doubled or made-up extra reply is dropped; the next question gets its own answer."""
    async with Liar(lambda frame: [honest(frame) + honest(frame, lambda _: 7)]) as device:
        driver = modbus(device.port, TAGS)
        await driver.connect()
        for _ in range(3):
            assert await scan(driver) == RIGHT


async def test_the_right_reply_after_a_stale_one_is_taken(modbus: ModbusFactory) -> None:
    """A reply with an old transaction is skipped and the right one behind it is the answer."""
    async with Liar(lambda frame: [b"\x7f\x01" + honest(frame, lambda _: 7)[2:], honest(frame)]) as device:
        driver = modbus(device.port, TAGS)
        await driver.connect()
        assert await scan(driver) == RIGHT


async def test_e7_mutated_frames_through_the_driver(
    modbus: ModbusFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replies with broken headers, lengths or tails for three seconds: each value is genuine or bad."""
    rng = random.Random(11)
    monkeypatch.setattr(connection, "RECONNECT_GAP", 0.0)

    def mutate(frame: bytes) -> Sequence[bytes]:
        right = honest(frame)
        head, content = bytearray(right[:9]), right[9:]
        match rng.randrange(4):
            case 0:
                for _ in range(rng.randint(1, 3)):
                    head[rng.randrange(9)] = rng.randrange(256)
            case 1:
                return [right[: rng.randrange(9)] + rng.randbytes(rng.randrange(3))]
            case 2:
                return [rng.randbytes(rng.randint(9, 80))]
            case 3:
                content += rng.randbytes(rng.randint(1, 4))
        return [bytes(head) + content]

    async with Liar(mutate) as device:
        driver = modbus(device.port, TAGS, comm={"timeout": "5ms", "retest": "1ms"}, max_registers=2)
        await connect_in_time(driver)
        began, scans = time.monotonic(), 0
        while time.monotonic() - began < 3 or scans < 200:
            try:
                found = await asyncio.wait_for(scan(driver), 0.5)
            except DeviceUnreachable:
                continue
            finally:
                scans += 1
            assert all(found[name] == RIGHT[name] or found[name][0] is None for name in found)
        assert len(device.requests) > 400


async def test_only_reading_functions_are_ever_sent(modbus: ModbusFactory) -> None:
    """Whatever is configured and whatever goes wrong, the function codes on the wire are 1 to 4."""
    tables = ("holding", "input", "coil", "discrete")
    async with Liar(lambda frame: [reply_to(frame, bytes((frame[7] | 0x80, 2)))]) as device:
        driver = modbus(device.port, {table: {"address": f"{table}:{n}"} for n, table in enumerate(tables)})
        await driver.connect()
        await scan(driver)
        assert {frame[7] for frame in device.requests} == {1, 2, 3, 4}
