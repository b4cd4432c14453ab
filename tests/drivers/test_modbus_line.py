"""The Modbus connection itself: bytes out of turn, floods, and sockets that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.faults import BadReply, LineFault, LineLost, NoAnswer, Refused, WrongCount
from edge_agent_drivers.modbus.line import ModbusLine
from edge_agent_drivers.modbus.mbap import FLOOD, MbapConnection, frame
from edge_agent_drivers.modbus.pdu import Question
from edge_agent_drivers.modbus.rtu import RtuConnection
from edge_agent_drivers.modbus.tcp import tcp_dial
from tests.drivers.stage import Liar, honest, reply_to


class Wire:
    """What stands in for asyncio's transport: keeps what is sent, and hands over bytes as asyncio does."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False
        self.connection: MbapConnection | RtuConnection = self.connect()
        self.connection.connection_made(cast(asyncio.Transport, self))

    def connect(self) -> MbapConnection | RtuConnection:
        """What sits on this end of the wire."""
        return MbapConnection("device")

    def write(self, data: bytes) -> None:
        self.sent = data

    def abort(self) -> None:
        self.closed = True

    close = abort

    def is_closing(self) -> bool:
        return self.closed

    def feed(self, data: bytes) -> None:
        """Bytes from the device, as many at a time as the connection has room for."""
        while data and not self.closed:
            room = self.connection.get_buffer(-1)
            taken = min(len(room), len(data))
            assert taken > 0, "asyncio takes an empty buffer for an error"
            room[:taken] = data[:taken]
            self.connection.buffer_updated(taken)
            data = data[taken:]


@contextlib.asynccontextmanager
async def connected(port: int, timeout: float = 1.0) -> AsyncIterator[ModbusLine]:
    """An open line to a port on loopback."""
    line = ModbusLine("127.0.0.1", tcp_dial("127.0.0.1", port), timeout=timeout)
    await line.open()
    try:
        yield line
    finally:
        line.close()


async def test_bytes_between_two_questions_are_no_answer() -> None:
    """What comes before a question is dropped, be it a whole reply or half of one."""
    for early in (0, 1, 5, 11):
        wire = Wire()
        question = Question(8, 1, Table.HOLDING, 0, 1)
        wire.feed(reply_to(frame(question), b"\x03\x02\0\x07")[: early or None])
        answer = wire.connection.ask(question)
        assert not answer.done()
        wire.feed(reply_to(frame(question), b"\x03\x02\0\x09"))
        assert answer.result() == b"\0\x09"


async def test_a_fault_nobody_waits_for_is_harmless() -> None:
    """A question given up, then an answer, a flood and the end of the connection: nothing is raised."""
    wire = Wire()
    question = Question(1, 1, Table.HOLDING, 0, 1)
    wire.connection.ask(question).cancel()
    wire.feed(reply_to(frame(question), b"\x03\x02\0\x07"))
    wire.feed(bytes(2 * FLOOD))
    wire.connection.connection_lost(None)
    wire.connection.close()
    assert wire.closed


def test_a_request_is_what_the_specification_says() -> None:
    """(That nothing but reading can be encoded is shown in test_modbus_never_writes.py.)"""
    asked = Question(0x0102, 3, Table.INPUT, 0x0405, 0x07)
    assert frame(asked) == bytes.fromhex("0102 0000 0006 03 04 0405 0007")


def test_the_driver_does_not_load_pymodbus() -> None:
    """A counterpart of the tests, and nothing the agent has to carry."""
    program = "import sys, edge_agent_drivers.modbus.driver; sys.exit('pymodbus' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0


async def test_a_flood_instead_of_an_answer_is_cut_off_at_once() -> None:
    """Well-formed replies to nobody without end do not keep the line busy until the timeout."""
    stale = bytes.fromhex("7f01 0000 0005 01 03 02 0007")
    async with Liar(lambda _: [stale * 200] * 100) as device, connected(device.port, 5.0) as line:
        began = time.monotonic()
        with pytest.raises(BadReply, match="sends without end"):
            await line.ask(1, Table.HOLDING, 0, 1)
        assert time.monotonic() - began < 0.5
        assert not line.connected


async def test_a_flood_that_nobody_asked_for_is_cut_off() -> None:
    """A device that goes on sending between questions loses its connection, and the next one is read."""
    async with Liar(lambda frame: [honest(frame), *[bytes(4096)] * 100]) as device:
        async with connected(device.port) as line:
            for _ in range(3):
                assert await line.ask(1, Table.HOLDING, 3, 1) == (1003).to_bytes(2, "big")
                async with asyncio.timeout(1):
                    while line.connected:
                        await asyncio.sleep(0.005)
                await line.open()
        assert device.connections == 4


async def test_a_late_reply_to_the_next_connection_answers_nothing() -> None:
    """A gateway that sends a late reply to whoever is connected now is not believed."""
    asked: list[bytes] = []

    def late(frame: bytes) -> Sequence[bytes]:
        asked.append(frame)
        return [] if len(asked) == 1 else [honest(asked[0], lambda _: 7), honest(frame)]

    async with Liar(late) as device, connected(device.port, 0.1) as line:
        with pytest.raises(NoAnswer):
            await line.ask(1, Table.HOLDING, 0, 1)
        assert not line.connected
        await line.open()
        assert await line.ask(1, Table.HOLDING, 0, 1) == (1000).to_bytes(2, "big")


async def test_transactions_never_repeat_soon_and_are_never_0() -> None:
    """They go round after 65535, and 0 is left out because devices send it that do not copy it."""
    async with Liar(lambda frame: [honest(frame)]) as device, connected(device.port) as line:
        assert line._connection is not None
        line._connection._transaction = 65533
        for _ in range(3):
            await line.ask(1, Table.HOLDING, 0, 1)
        await line.open()
        await line.ask(1, Table.HOLDING, 0, 1)
        assert [int.from_bytes(frame[:2], "big") for frame in device.requests] == [65534, 65535, 1, 2]


async def test_the_old_socket_is_closed_before_a_new_one_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with room for one connection never sees two of ours."""
    loop = asyncio.get_running_loop()
    connect = loop.create_connection
    with socket.create_server(("127.0.0.1", 0)) as device:
        async with connected(device.getsockname()[1]) as line:
            old, _ = device.accept()
            old.setblocking(False)

            async def only_after_the_end(*args: Any, **keys: Any) -> Any:
                assert old.recv(1) == b"", "the old one is still open"
                return await connect(*args, **keys)

            monkeypatch.setattr(loop, "create_connection", only_after_the_end)
            await line.open()
            old.close()


async def test_a_device_that_takes_no_connection_costs_the_timeout() -> None:
    """Connecting to a device that does not even refuse ends in time."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as device, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(device.getsockname())
        line = ModbusLine("device", tcp_dial(*device.getsockname()), timeout=0.1)
        began = time.monotonic()
        with pytest.raises(LineLost, match=r"no connection to .* within 0\.1 s"):
            await line.open()
        assert 0.09 < time.monotonic() - began < 0.3
        assert not line.connected


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid", "a" * 70 + ".b"])
async def test_a_host_that_is_not_there_is_a_lost_line(host: str) -> None:
    """Refused, unknown, or no name at all."""
    with socket.create_server(("127.0.0.1", 0)) as device:
        port = device.getsockname()[1]
    line = ModbusLine(host, tcp_dial(host, port), timeout=5.0)
    with pytest.raises(LineLost, match="no connection"):
        await line.open()
    with pytest.raises(LineLost, match="not connected"):
        await line.ask(1, Table.HOLDING, 0, 1)


async def test_closing_ends_a_question_and_an_attempt_to_connect() -> None:
    """Whoever waits hears of it at once, and nothing is open afterwards."""
    async with Liar(lambda _: []) as device, connected(device.port, 5.0) as line:
        asking = asyncio.ensure_future(line.ask(1, Table.HOLDING, 0, 1))
        await asyncio.sleep(0.05)
        line.close()
        with pytest.raises(LineLost, match="was closed"):
            await asking
        opening = asyncio.ensure_future(line.open())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        line.close()
        with pytest.raises(LineLost, match="no connection"):
            await opening
        assert not line.connected


async def test_a_cancelled_question_that_was_just_answered_stays_cancelled() -> None:
    """A cancellation in the same turn as the answer is not lost, whichever comes first."""
    async with Liar(lambda frame: [honest(frame)]) as device, connected(device.port) as line:
        for turns in range(40):
            if not line.connected:
                await line.open()
            asking = asyncio.ensure_future(line.ask(1, Table.HOLDING, 0, 1))
            for _ in range(turns // 2):
                await asyncio.sleep(0)
            if asking.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await asking
            else:
                assert asking.result() == (1000).to_bytes(2, "big")


@pytest.mark.parametrize(
    ("pdu", "fault"),
    [(b"\x83\x06", Refused), (b"\x03\x02\0\1", WrongCount), (b"\x03\x03\0\1\2", WrongCount)],
)
async def test_a_well_formed_no_leaves_the_connection_open(pdu: bytes, fault: type[LineFault]) -> None:
    """The stream is still in step after an exception or too few registers."""
    async with Liar(lambda frame: [reply_to(frame, pdu)]) as device, connected(device.port) as line:
        for _ in range(3):
            with pytest.raises(fault):
                await line.ask(1, Table.HOLDING, 0, 2)
        assert device.connections == 1
