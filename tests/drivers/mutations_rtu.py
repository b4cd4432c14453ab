"""Right replies of Modbus RTU and what noise, collisions and broken devices make of them.

Here the registers are touched too: the checksum tells. What it cannot tell is left out: the well-formed
answer to an earlier question of the same unit, function and length (`rtu.Owing` keeps that away).
"""

from __future__ import annotations

import random

from edge_agent_drivers.modbus.crc import sealed
from edge_agent_drivers.modbus.pdu import Question
from edge_agent_drivers.modbus.rtu import frame
from tests.drivers.mutations import Mutation


def right_answer(question: Question, rng: random.Random) -> tuple[bytes, bytes]:
    """A right reply and the registers or bits in it."""
    content = rng.randbytes(question.answer_bytes)
    return sealed(bytes((question.unit, question.table.function, len(content))) + content), content


def flipped_bits(reply: bytes, question: Question, rng: random.Random) -> bytes:
    """One to three bits anywhere are others, which the checksum always finds."""
    changed = bytearray(reply)
    for place in rng.sample(range(8 * len(reply)), rng.randint(1, 3)):
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def burst(reply: bytes, question: Question, rng: random.Random) -> bytes:
    """Two bytes in a row are others, which the checksum always finds."""
    start = rng.randrange(len(reply) - 1)
    wrong = rng.randint(1, 0xFFFF) ^ int.from_bytes(reply[start : start + 2], "big")
    return reply[:start] + wrong.to_bytes(2, "big") + reply[start + 2 :]


def another(reply: bytes, question: Question, rng: random.Random) -> bytes:
    """A right reply from another unit, or of another function."""
    head = bytearray(reply[:2])
    head[rng.randrange(2)] ^= rng.randint(1, 255)
    return sealed(bytes(head) + reply[2:-2])


def other_quantity(reply: bytes, question: Question, rng: random.Random) -> bytes:
    """A right reply but for more (or, past the longest, fewer) bytes than were asked for."""
    other = (question.answer_bytes + rng.randint(1, 12)) % 252
    return sealed(reply[:2] + bytes((other,)) + rng.randbytes(other))


def hole(reply: bytes, question: Question, rng: random.Random) -> bytes:
    """Some bytes in the middle are lost."""
    start = rng.randrange(len(reply))
    return reply[:start] + reply[start + rng.randint(1, 5) :]


def noise(rng: random.Random) -> bytes:
    """Some bytes of it."""
    return rng.randbytes(rng.randint(1, 40))


MUTATIONS: tuple[Mutation, ...] = (
    flipped_bits,
    burst,
    another,
    other_quantity,
    hole,
    lambda reply, _, rng: reply[: rng.randrange(len(reply))],
    lambda reply, _, rng: reply[rng.randrange(1, len(reply)) :],
    lambda reply, _, rng: reply + noise(rng),
    lambda reply, _, rng: noise(rng) + reply,
    lambda reply, question, rng: frame(question) + reply,
    lambda reply, question, rng: frame(question),
    lambda reply, question, rng: another(reply, question, rng) + reply,
    lambda reply, question, rng: flipped_bits(reply, question, rng) + reply,
    lambda _, __, rng: rng.randbytes(rng.randrange(100)),
    lambda reply, _, rng: sealed(bytes((reply[0], reply[1] | 0x80, rng.randrange(256)))),
)
