"""A Modbus device whose every value can be proved genuine, with its own framing and nothing of ours.

Register = word(unit, function, address, sequence), and the sequence goes up with every question. Values that
were made up, came from another register or answer an older question are found out by `Oracle.fakes`.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.drivers.stage import Liar, reply_to

FUNCTIONS: Mapping[str, int] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}


def word(unit: int, function: int, address: int, sequence: int) -> int:
    """The register that belongs there and then; neighbours and successors look unrelated."""
    mixed = ((unit << 24 | function << 16 | address) * 0x9E3779B1 + sequence * 0x85EBCA6B) & 0xFFFFFFFF
    mixed = ((mixed ^ mixed >> 15) * 0x2C1B3C6D) & 0xFFFFFFFF
    return (mixed ^ mixed >> 13) >> 8 & 0xFFFF


class Asked(NamedTuple):
    """A request, taken apart."""

    frame: bytes
    unit: int
    function: int
    address: int
    quantity: int

    @classmethod
    def of(cls, frame: bytes) -> Asked:
        """Takes a whole frame of Modbus TCP apart."""
        return cls(frame, *struct.unpack(">BBHH", frame[6:12]))

    def content(self, sequence: int) -> bytes:
        """The registers or bits that answer it at that time."""
        words = (word(self.unit, self.function, self.address + i, sequence) for i in range(self.quantity))
        if self.function > 2:
            return struct.pack(f">{self.quantity}H", *words)
        packed = bytearray((self.quantity + 7) // 8)
        for i, each in enumerate(words):
            packed[i // 8] |= (each & 1) << i % 8
        return bytes(packed)

    def reply(self, sequence: int) -> bytes:
        """The right reply."""
        content = self.content(sequence)
        return reply_to(self.frame, bytes((self.function, len(content))) + content)


Pieces = Sequence[bytes]
Misbehaviour = Callable[[Asked, bytes], Pieces | Awaitable[Pieces]]
"""Makes of a question and its right reply the pieces that are sent."""


def honestly(_asked: Asked, right: bytes) -> Pieces:
    """The right reply, whole."""
    return [right]


class Oracle(Liar):
    """A device on a free port of loopback; `behave` may be changed at any time."""

    def __init__(self, behave: Misbehaviour = honestly) -> None:
        super().__init__(self._answer)
        self.behave = behave
        self.sequence = 0

    def _answer(self, frame: bytes) -> Pieces | Awaitable[Pieces]:
        asked = Asked.of(frame)
        self.sequence += 1
        return self.behave(asked, asked.reply(self.sequence))

    def fakes(self, found: Iterable[tuple[str, Any]], before: int, unit: int = 1) -> list[str]:
        """The names of `found` whose value no question since `before` was answered with.

        Names are `TABLE.ADDRESS` of a uint32 or a bit, as `tags` makes them; None is no value and no fake.
        """
        since = range(before + 1, self.sequence + 1)
        return [
            name
            for name, value in found
            if value is not None and all(value != expected(name, unit, sequence) for sequence in since)
        ]


def expected(name: str, unit: int, sequence: int) -> int | bool:
    """The value of a tag of `tags` at that time."""
    table, _, text = name.partition(".")
    function, address = FUNCTIONS[table], int(text)
    first = word(unit, function, address, sequence)
    if function < 3:
        return bool(first & 1)
    return first << 16 | word(unit, function, address + 1, sequence)


def tags(*names: str, **keys: Any) -> dict[str, dict[str, Any]]:
    """Settings of tags that `fakes` can judge: uint32 for registers, bits for the other tables."""
    return {
        name: {
            "address": name.replace(".", ":"),
            **({} if name[0] in "cd" else {"type": "uint32"}),
            **keys,
        }
        for name in names
    }


async def nothing(_asked: Asked, _right: bytes) -> Pieces:
    """Silence."""
    await asyncio.sleep(0)
    return []
