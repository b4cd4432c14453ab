"""Right replies of Modbus TCP and what a broken device makes of them.

The registers themselves are never touched: Modbus TCP has no checksum that would tell.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.mbap import frame
from edge_agent_drivers.modbus.pdu import Question
from tests.drivers.stage import reply_to

TABLES = list(Table)
HEAD = 9
"""Bytes before the registers: transaction, protocol, length, unit, function, byte count."""


def any_question(number: int, rng: random.Random, most: int = 125) -> Question:
    """A question to any unit and table for up to `most`; `number` becomes its transaction."""
    return Question(
        number % 65535 + 1, rng.randrange(256), rng.choice(TABLES), rng.randrange(65000), rng.randint(1, most)
    )


def right_answer(question: Question, rng: random.Random) -> tuple[bytes, bytes]:
    """A right reply and the registers or bits in it."""
    content = rng.randbytes(question.answer_bytes)
    return reply_to(frame(question), bytes((question.table.function, len(content))) + content), content


def broken_head(reply: bytes, question: Question, rng: random.Random) -> bytes:
    """Some bytes of the header, the function or the byte count replaced."""
    head = bytearray(reply[:HEAD])
    for _ in range(rng.randint(1, 4)):
        head[rng.randrange(HEAD)] = rng.randrange(256)
    return bytes(head) + reply[HEAD:]


def flipped_bit(reply: bytes, question: Question, rng: random.Random) -> bytes:
    """One bit of the header, the function or the byte count is another."""
    head = bytearray(reply[:HEAD])
    head[rng.randrange(HEAD)] ^= 1 << rng.randrange(8)
    return bytes(head) + reply[HEAD:]


def lying_length(reply: bytes, question: Question, rng: random.Random) -> bytes:
    """The length field says something else."""
    length = int.from_bytes(reply[4:6], "big")
    lie = rng.choice((0, 1, 2, 3, 4, 253, 254, 255, 256, 65535, length - 1, length + 1))
    return reply[:4] + lie.to_bytes(2, "big") + reply[6:]


def stale_before(reply: bytes, question: Question, rng: random.Random) -> bytes:
    """The right reply, behind some to another transaction."""
    stale = question._replace(transaction=question.transaction ^ rng.randrange(1, 65536))
    return right_answer(stale, rng)[0] * rng.randint(1, 3) + reply


def other_quantity(reply: bytes, question: Question, rng: random.Random) -> bytes:
    """A well-formed reply with more or fewer bytes than were asked for."""
    other = rng.choice([n for n in range(252) if n != question.answer_bytes])
    return reply_to(frame(question), bytes((reply[7], other)) + rng.randbytes(other))


Mutation = Callable[[bytes, Question, random.Random], bytes]
"""Makes of a right reply, and the question it answers, what is sent instead."""
MUTATIONS: tuple[Mutation, ...] = (
    broken_head,
    flipped_bit,
    lying_length,
    stale_before,
    other_quantity,
    lambda reply, _, rng: reply[: rng.randrange(len(reply))],
    lambda reply, _, rng: reply[rng.randrange(1, len(reply)) :],
    lambda reply, _, rng: reply + rng.randbytes(rng.randint(1, 300)),
    lambda reply, _, rng: rng.randbytes(rng.randrange(700)),
    lambda _, question, rng: reply_to(frame(question), rng.randbytes(rng.randrange(1, 254))),
    lambda reply, question, rng: reply_to(frame(question), bytes((reply[7] | 0x80, rng.randrange(256)))),
)
"""What makes a wrong reply of the right one, or puts something around it. The registers themselves are never
touched: Modbus TCP has no checksum that would tell."""


def in_pieces(data: bytes, rng: random.Random) -> Sequence[bytes]:
    """The same bytes, cut somewhere or not at all."""
    if rng.randrange(2) or len(data) < 2:
        return [data]
    if rng.randrange(8) == 0:
        return [bytes((byte,)) for byte in data]
    cut = rng.randrange(1, len(data))
    return [data[:cut], data[cut:]]
