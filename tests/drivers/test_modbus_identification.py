"""Device identification, 43/14: what devices say of themselves; and what can be sent at all."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.faults import BadReply, LineFault, Refused
from edge_agent_drivers.modbus.identification import Category, IdentityQuestion, identify
from edge_agent_drivers.modbus.line import ModbusLine
from edge_agent_drivers.modbus.pdu import Question
from edge_agent_drivers.modbus.tcp import tcp_dial
from edge_agent_simulators.modbus_server import ModbusServer
from tests.drivers.stage import Liar, reply_to

SAFE = {1, 2, 3, 4, 43}


def answer(first: int, objects: dict[int, bytes], following: int | None = None) -> bytes:
    """A well-formed identification."""
    packed = b"".join(bytes((number, len(text))) + text for number, text in objects.items())
    more = (0, 0) if following is None else (0xFF, following)
    return bytes((0x2B, 0x0E, 2, 0x82, *more, len(objects))) + packed


async def identified(
    reply: Callable[[bytes], bytes], category: Category = Category.REGULAR
) -> dict[int, str]:
    """What is made of a device whose answers `reply` makes of the request's PDU."""
    async with Liar(lambda frame: [reply_to(frame, reply(frame[7:]))]) as device:
        line = ModbusLine("device", tcp_dial("127.0.0.1", device.port), timeout=0.2)
        await line.open()
        try:
            return await identify(line, 1, category)
        finally:
            line.close()


async def test_our_simulator_says_what_it_is() -> None:
    """The basic objects come back under their numbers."""
    async with ModbusServer({7: {"holding": {0: 1}}}, identification=("ACME", "P-1", "2.3")) as server:
        line = ModbusLine("device", tcp_dial("127.0.0.1", server.port), timeout=1.0)
        await line.open()
        assert await identify(line, 7, Category.BASIC) == {0: "ACME", 1: "P-1", 2: "2.3"}
        line.close()


async def test_what_follows_is_asked_for() -> None:
    """A stream over several answers is put together, and text is made readable."""
    parts = {
        0: answer(0, {0: b"ACME\0\xff\xff", 1: b"P\x01-1 "}, 2),
        2: answer(2, {2: "1.0 °".encode()}, 0x80),
        0x80: answer(0x80, {0x80: b"Stra\xdfe"}),
    }
    asked: list[int] = []

    def reply(pdu: bytes) -> bytes:
        assert pdu[:3] == b"\x2b\x0e\x03"
        asked.append(pdu[3])
        return parts[pdu[3]]

    assert await identified(reply, Category.EXTENDED) == {0: "ACME", 1: "P -1", 2: "1.0 °", 128: "Straße"}
    assert asked == [0, 2, 0x80]


@pytest.mark.parametrize(
    ("pdu", "fault"),
    [
        (b"\xab\x01", Refused),
        (b"\x03\x02\0\1", BadReply),
        (b"\x2b\x0d\x02\x82\0\0\0", BadReply),
        (b"\x2b\x0e\x02\x82\0\0", BadReply),
        (b"\x2b\x0e\x02\x82\0\0\2\0\1A", BadReply),
        (b"\x2b\x0e\x02\x82\0\0\1\0\x05A", BadReply),
        (b"\x2b\x0e\x02\x82\0\0\1\0\1AB", BadReply),
        (answer(0, {0: b"A"}, 0), BadReply),
    ],
)
async def test_what_is_no_identification_is_a_fault(pdu: bytes, fault: type[LineFault]) -> None:
    """A no, another function, cut or padded objects, and a stream without end."""
    with pytest.raises(fault):
        await identified(lambda _: pdu)


def test_mutated_identifications_are_judged() -> None:
    """20,000 mutated answers: never an exception, and what passes holds whole objects."""
    rng = random.Random(1)
    right = answer(0, {0: b"ACME", 1: b"P-1", 2: b"1.0"})
    question = IdentityQuestion(1, 1, Category.BASIC, 0)
    passed = 0
    for _ in range(20_000):
        wrong = bytearray(right[: rng.randrange(2, len(right) + 1)])
        for _ in range(rng.randrange(4)):
            wrong[rng.randrange(len(wrong))] = rng.randrange(256)
        outcome = question.judge("device", wrong[0], bytes(wrong[1:]))
        size = question.size(bytes(wrong))
        if isinstance(outcome, bytes):
            passed += 1
            assert size == len(wrong)
    assert 100 < passed < 15_000


def test_nothing_but_reading_functions_can_be_encoded() -> None:
    """Functions 1 to 4 and 43/14, over every question there is."""
    first = {Question(1, 1, table, 0xFFFF, 2000).pdu[0] for table in Table}
    identities = [IdentityQuestion(1, 1, category, 0xFF).pdu for category in Category]
    assert first | {pdu[0] for pdu in identities} == SAFE
    assert {pdu[1] for pdu in identities} == {0x0E}
