"""RTU framing: which bytes on the line are the answer, and that no late one ever is."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

import pytest

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.channel import Timing
from edge_agent_drivers.modbus.connection import Connection
from edge_agent_drivers.modbus.crc import crc16, sealed
from edge_agent_drivers.modbus.faults import BadReply, LineFault, NoAnswer, Refused, WrongCount
from edge_agent_drivers.modbus.line import ModbusLine
from edge_agent_drivers.modbus.mbap import FLOOD
from edge_agent_drivers.modbus.owing import Owing
from edge_agent_drivers.modbus.pdu import Question
from edge_agent_drivers.modbus.rtu import RtuConnection, frame

Device = Callable[[bytes], Sequence[tuple[float, bytes]]]
"""What a device sends for a request, each piece after so many seconds."""


class Wire(asyncio.Transport):
    """A wire to a device in the same loop."""

    def __init__(self, device: Device, connection: RtuConnection) -> None:
        super().__init__()
        self.device, self._connection = device, connection
        self.sent: list[bytes] = []
        self._closed = False
        connection.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))
        for delay, piece in self.device(bytes(data)):
            asyncio.get_running_loop().call_later(delay, self.feed, piece)

    def feed(self, piece: bytes) -> None:
        """Bytes on the line."""
        if not self._closed:
            self._connection.get_buffer(-1)[: len(piece)] = piece
            self._connection.buffer_updated(len(piece))

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._closed = True
        self._connection.connection_lost(None)


def reply(request: bytes, word: Callable[[int], int] = lambda address: 1000 + address) -> bytes:
    """The right answer to a request for registers."""
    address, count = int.from_bytes(request[2:4], "big"), int.from_bytes(request[4:6], "big")
    content = b"".join(word(address + i).to_bytes(2, "big") for i in range(count))
    return sealed(request[:2] + bytes((len(content),)) + content)


def question(unit: int = 1, address: int = 0, count: int = 2, table: Table = Table.HOLDING) -> Question:
    return Question(0, unit, table, address, count)


RIGHT = bytes.fromhex("03E803E9")


async def ask(device: Device, asked: Question | None = None, timeout: float = 0.06) -> bytes | LineFault:
    """One question to a device; the answer, the fault, or NoAnswer."""
    connection = RtuConnection("line", Owing(), gap=0.001, settle=0.01)
    Wire(device, connection)
    try:
        async with asyncio.timeout(timeout):
            return await connection.ask(asked or question())
    except TimeoutError:
        return BadReply(connection.skipped) if connection.skipped else NoAnswer()
    finally:
        connection.close()


def test_the_checksum_is_that_of_the_specification() -> None:
    """The example frames of the serial line guide and of well-known manuals."""
    for example in ("02 07 41 12", "01 03 00 00 00 0A C5 CD", "11 03 00 6B 00 03 76 87"):
        assert crc16(bytes.fromhex(example)) == 0
    assert frame(question(17, 0x6B, 3)) == bytes.fromhex("1103006B00037687")


def mended(request: bytes, pdu: bytes) -> bytes:
    return sealed(request[:1] + pdu)


GOOD: dict[str, Callable[[bytes], list[bytes]]] = {
    "whole": lambda r: [reply(r)],
    "in single bytes": lambda r: [bytes((byte,)) for byte in reply(r)],
    "after the echo": lambda r: [r, reply(r)],
    "in one piece with the echo": lambda r: [r + reply(r)],
    "in halves with the echo": lambda r: [r[:5], r[5:] + reply(r)[:3], reply(r)[3:]],
    "after noise": lambda r: [b"\0\xff\xfe" + reply(r)],
    "after noise that looks like a long reply": lambda r: [b"\x01\x03\xf0\x55", reply(r)],
    "after a garbled echo": lambda r: [r[:3] + b"\x7e" + r[4:], reply(r)],
    "after another unit's": lambda r: [sealed(b"\x07" + reply(r)[1:-2]), reply(r)],
    "before noise": lambda r: [reply(r) + b"\x55\x00\x13"],
    "twice": lambda r: [reply(r) + reply(r, lambda _: 7)],
}


@pytest.mark.parametrize("name", GOOD)
async def test_the_reply_is_found(name: str) -> None:
    """Whatever stands around it, and however it is cut."""

    def device(request: bytes) -> Sequence[tuple[float, bytes]]:
        return [(0.001 * i, piece) for i, piece in enumerate(GOOD[name](request))]

    assert await ask(device) == RIGHT


LIES: dict[str, tuple[Callable[[bytes], bytes], type[LineFault]]] = {
    "nothing but the echo": (lambda r: r, NoAnswer),
    "echo of a question that could be its own answer": (lambda r: b"\0" + r, BadReply),
    "wrong checksum": (lambda r: reply(r)[:-1] + b"\0", BadReply),
    "wrong unit": (lambda r: sealed(b"\x02" + reply(r)[1:-2]), BadReply),
    "unit 0": (lambda r: sealed(b"\x00" + reply(r)[1:-2]), BadReply),
    "wrong function": (lambda r: mended(r, b"\x04\x04\0\1\0\2"), BadReply),
    "a write's function": (lambda r: mended(r, b"\x10\0\0\0\2"), BadReply),
    "unknown function": (lambda r: mended(r, b"\x65\x04\0\1\0\2"), BadReply),
    "exception of another function": (lambda r: mended(r, b"\x84\x02"), BadReply),
    "exception": (lambda r: mended(r, b"\x83\x02"), Refused),
    "too few registers": (lambda r: mended(r, b"\x03\x02\0\1"), WrongCount),
    "too many registers": (lambda r: mended(r, b"\x03\x06\0\1\0\2\0\3"), WrongCount),
    "byte count too low, checksum right": (lambda r: mended(r, b"\x03\x02\0\1\0\2"), BadReply),
    "byte count too high, checksum right": (lambda r: mended(r, b"\x03\x06\0\1\0\2"), BadReply),
    "odd bytes": (lambda r: mended(r, b"\x03\x03\0\1\2"), WrongCount),
    "cut short": (lambda r: reply(r)[:-1], BadReply),
    "Modbus TCP": (lambda r: b"\0\1\0\0\0\7\1\3\4\3\xe8\3\xe9", BadReply),
    "zeros": (lambda r: bytes(300), BadReply),
    "noise": (lambda r: random.Random(7).randbytes(300), BadReply),
}


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_is_never_the_answer(name: str) -> None:
    """A reply counts only with its checksum, the unit, the function and the number of bytes."""
    lie, fault = LIES[name]
    asked = question(count=20, address=0x0300, table=Table.COIL) if "its own" in name else question()
    assert type(await ask(lambda request: [(0.0, lie(request))], asked)) is fault


async def test_noise_for_ever_is_cut_off() -> None:
    """A line that never stops talking is closed after 16 KiB."""
    connection = RtuConnection("line", Owing(), gap=0.001, settle=0.01)
    wire = Wire(lambda _: [(0.0, bytes(512))] * (FLOOD // 512 + 1), connection)
    assert "without end" in str(await connection.ask(question()))
    assert not connection.usable
    assert wire.is_closing()


async def test_the_line_is_quiet_before_a_question() -> None:
    """Bytes on the line hold a question back for the gap, and are not taken for its answer."""
    connection = RtuConnection("line", Owing(), gap=0.02, settle=0.05)
    wire = Wire(lambda request: [(0.0, reply(request))], connection)
    loop = asyncio.get_running_loop()
    wire.feed(reply(frame(question()), lambda _: 7))
    began = loop.time()
    loop.call_later(0.01, wire.feed, reply(frame(question()), lambda _: 7))
    assert await connection.ask(question()) == RIGHT
    assert loop.time() - began >= 0.03
    connection.close()


async def test_a_unit_that_owes_an_answer_waits_and_others_do_not() -> None:
    """After silence the same unit is asked again once the answer can no longer come; others at once."""
    late, timeout = 0.2, 0.02

    def device(request: bytes) -> Sequence[tuple[float, bytes]]:
        return [] if request[0] == 1 and not silent.pop() else [(0.0, reply(request))]

    silent = [True, False]
    owing = Owing(late)
    wires: list[Wire] = []

    async def dial() -> RtuConnection:
        connection = RtuConnection("line", owing, gap=0.001, settle=0.01)
        wires.append(Wire(device, connection))
        return connection

    connection = Connection("line", dial, numbered=False, shared=True)
    line = ModbusLine.over("line", lambda: connection, Timing(timeout))
    await line.open()
    loop = asyncio.get_running_loop()
    with pytest.raises(NoAnswer):
        await line.ask(1, Table.HOLDING, 0, 2)
    gave_up = loop.time()
    again = asyncio.ensure_future(line.ask(1, Table.HOLDING, 0, 2))
    await asyncio.sleep(0)
    assert await line.ask(2, Table.HOLDING, 0, 2) == RIGHT
    assert loop.time() - gave_up < late / 2
    assert await again == RIGHT
    assert loop.time() - gave_up >= late
    line.close()


async def test_a_late_reply_that_waits_unread_is_read_before_the_next_question() -> None:
    """The loop was busy while it came and until the unit may be asked again: it is a late one still."""
    connection = RtuConnection("line", Owing(0.03), gap=0.0, settle=0.01)
    wire = Wire(lambda request: [(0.02, reply(request))], connection)
    answer = connection.ask(question(address=500))
    await asyncio.sleep(0.01)
    answer.cancel()
    await asyncio.sleep(0)
    time.sleep(0.05)  # noqa: ASYNC251
    wire.device = lambda request: [(0.0, reply(request))]
    assert await connection.ask(question()) == RIGHT
    connection.close()


async def test_no_late_reply_answers_the_next_question() -> None:
    """10,000 replies after random times, half of them too late: none is taken for another question's."""
    timeout, late, lines, questions = 0.004, 0.012, 100, 100
    rng = random.Random(5)
    taken = lost = 0

    def device(request: bytes) -> Sequence[tuple[float, bytes]]:
        return [(rng.uniform(0, timeout + late - 0.002), reply(request))]

    async def line() -> None:
        nonlocal taken, lost
        connection = RtuConnection("line", Owing(late), gap=0.0, settle=0.01)
        Wire(device, connection)
        for _ in range(questions):
            # The same unit, function and count: only the address differs, and that is not in a reply.
            asked = question(address=rng.randrange(1000))
            while (rest := connection.rest(asked.unit)) > 0:
                await asyncio.sleep(rest)
            answer = connection.ask(asked)
            await asyncio.wait([answer], timeout=timeout)
            if answer.done():
                assert answer.result() == b"".join(
                    (1000 + asked.address + i).to_bytes(2, "big") for i in (0, 1)
                )
                taken += 1
            else:
                answer.cancel()
                await asyncio.sleep(0)
                lost += 1
        connection.close()

    await asyncio.gather(*(line() for _ in range(lines)))
    assert taken + lost == lines * questions
    assert min(taken, lost) > 100
