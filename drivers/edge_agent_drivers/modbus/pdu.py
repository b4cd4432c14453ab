"""A question to a Modbus device and the judgement of its answer, whatever carries them. Pure."""

from __future__ import annotations

import struct
from typing import NamedTuple, Protocol

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.faults import BadReply, LineFault, Refused, WrongCount

_READ = struct.Struct(">BHH")
EXCEPTION = 0x80
"""Set in the function code of an answer that says no."""


class Asked(Protocol):
    """What a framing must know of a question: `Question`, or `identification.IdentityQuestion`."""

    @property
    def transaction(self) -> int:
        """Counts the questions of a line; only framings that have room for it send it."""

    @property
    def unit(self) -> int:
        """Whom it is for."""

    @property
    def pdu(self) -> bytes:
        """The bytes that every framing carries: function and what follows."""

    def judge(self, name: str, function: int, content: bytes) -> bytes | LineFault:
        """What was asked for, or the fault, in an answer whose `content`, never empty, follows `function`.

        Transaction and unit are the framing's to compare; `name` is the device's, for people.
        """

    def size(self, answer: bytes) -> int | None:
        """How many bytes an answer has that begins with `answer` (function and on); None: not known yet.

        For framings that do not say it themselves.
        """


class Question(NamedTuple):
    """A request for `quantity` registers or bits from `address` (0 to 65535) on.

    `transaction` counts the questions of a line; only framings that have room for it send it.
    """

    transaction: int
    unit: int
    table: Table
    address: int
    quantity: int

    @property
    def pdu(self) -> bytes:
        """Function, address and quantity. Nothing else makes a read request, and no `Table` has a function
        that writes."""
        return _READ.pack(self.table.function, self.address, self.quantity)

    @property
    def answer_bytes(self) -> int:
        """How many bytes of registers or bits the answer must have."""
        return (self.quantity + 7) // 8 if self.table.bits else 2 * self.quantity

    def judge(self, name: str, function: int, content: bytes) -> bytes | LineFault:
        """The registers or bits in an answer, or the fault."""
        return judge(name, self, function, content)

    def size(self, answer: bytes) -> int | None:
        """How many bytes the answer has, by its own byte count."""
        if answer[:1] and answer[0] & EXCEPTION:
            return 2
        return 2 + answer[1] if len(answer) > 1 else None


def judge(name: str, question: Question, function: int, content: bytes) -> bytes | LineFault:
    """The registers or bits in an answer, or the fault; `content` follows the function, never empty.

    Transaction and unit are the framing's to compare; `name` is the device's, for people.
    """
    asked = question.table.function
    if function == asked | EXCEPTION:
        return Refused(content[0])
    if function != asked:
        return BadReply(f"{name} answered function {function}, not {asked}")
    payload = content[1:]
    if content[0] != len(payload):
        return BadReply(f"{name} announced {content[0]} bytes and sent {len(payload)}")
    if len(payload) != question.answer_bytes:
        return WrongCount(f"{name} sent {len(payload)} bytes, {question.answer_bytes} were asked for")
    return payload
