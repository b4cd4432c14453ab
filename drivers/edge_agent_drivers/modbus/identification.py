"""Device identification, function 43/14: what a device says of itself. Reads, and nothing else."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

from edge_agent_drivers.modbus.faults import BadReply, LineFault, Refused
from edge_agent_drivers.modbus.line import ModbusLine
from edge_agent_drivers.modbus.pdu import EXCEPTION

FUNCTION = 0x2B
READ_DEVICE_ID = 0x0E
"""The one kind of function 43 that is ever sent; its other one, CANopen, can write."""
NAMES: Mapping[int, str] = {
    0: "vendor",
    1: "product code",
    2: "revision",
    3: "vendor url",
    4: "product name",
    5: "model name",
    6: "user application name",
}
"""What the specification calls the first objects; from 128 on a vendor has its own."""

_ASK = struct.Struct(">BBBB")
_HEAD = struct.Struct(">BBBBBB")
"""Behind the function: 14, category, conformity, 255 where more follows, from where, how many objects."""
_MORE = 0xFF


class Category(enum.IntEnum):
    """How much is asked for; a device answers with what it has of it."""

    BASIC = 1
    REGULAR = 2
    EXTENDED = 3


class IdentityQuestion(NamedTuple):
    """A request for the objects of `category` from number `first` on."""

    transaction: int
    unit: int
    category: Category
    first: int

    @property
    def pdu(self) -> bytes:
        """Function, kind, category, first object."""
        return _ASK.pack(FUNCTION, READ_DEVICE_ID, self.category, self.first)

    def judge(self, name: str, function: int, content: bytes) -> bytes | LineFault:
        """The answer behind its function, known to hold whole objects; or the fault."""
        if function == FUNCTION | EXCEPTION:
            return Refused(content[0])
        if function != FUNCTION:
            return BadReply(f"{name} answered function {function}, not {FUNCTION}")
        if len(content) < _HEAD.size or content[0] != READ_DEVICE_ID:
            return BadReply(f"{name} sent an identification that is none")
        objects = list(_objects(content))
        if len(objects) != content[5] or _HEAD.size + sum(2 + len(text) for _, text in objects) != len(
            content
        ):
            return BadReply(f"{name} announced {content[5]} objects and sent something else")
        return content

    def size(self, answer: bytes) -> int | None:
        """How many bytes the answer has, object by object; None: not known yet."""
        if answer[:1] and answer[0] & EXCEPTION:
            return 2
        at = 1 + _HEAD.size
        if len(answer) < at:
            return None
        for _ in range(answer[6]):
            if len(answer) < at + 2:
                return None
            at += 2 + answer[at + 1]
        return at


async def identify(line: ModbusLine, unit: int, category: Category = Category.REGULAR) -> dict[int, str]:
    """What the device says of itself: object number -> text. The line must be open.

    A LineFault where it does not answer, or says no (Refused); many devices do not have it.
    """
    found: dict[int, str] = {}
    first = 0
    while True:
        content = await line.ask_for(unit, partial(_question, unit, category, first))
        for number, text in _objects(content):
            found.setdefault(number, _readable(text))
        _, _, _, more, following, _ = _HEAD.unpack_from(content)
        if more != _MORE:
            return found
        if following <= first:
            raise BadReply(f"{line} goes round in circles: more follows from object {following} on")
        first = following


def _question(unit: int, category: Category, first: int, transaction: int) -> IdentityQuestion:
    return IdentityQuestion(transaction, unit, category, first)


def _objects(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The objects of an answer that are whole."""
    at = _HEAD.size
    while at + 2 <= len(content) and at + 2 + content[at + 1] <= len(content):
        yield content[at], content[at + 2 : at + 2 + content[at + 1]]
        at += 2 + content[at + 1]


def _readable(raw: bytes) -> str:
    text = raw.split(b"\0")[0]
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        decoded = text.decode("latin-1")
    return "".join(letter if letter.isprintable() else " " for letter in decoded).strip()
