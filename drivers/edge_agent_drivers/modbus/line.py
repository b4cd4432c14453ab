"""A line to Modbus devices as a client that only reads: every answer is checked, nothing is made up.

Lines that lead to the same endpoint share one connection (`connection.py`, `sharing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.channel import Channel, Dial, Timing
from edge_agent_drivers.modbus.connection import Connection
from edge_agent_drivers.modbus.faults import LineFault, LineLost, Refused, WrongCount
from edge_agent_drivers.modbus.pdu import Asked, Question

__all__ = ["Channel", "Dial", "ModbusLine", "Timing"]


class Guard(Protocol):
    """Says whether the device may be asked; see `identity.py`."""

    async def check(self) -> None:
        """Before each question. A LineFault where none may be asked; its own go through `ask_for`."""

    def doubt(self) -> None:
        """A question got no answer: whatever is known of the device may have changed."""


class ModbusLine:
    """What one machine, or one command, has of a connection; opened again by whoever wants it open.

    Times are in seconds: `timeout` for connecting and for each whole answer, `pause` between an answer and
    the next question, `connect_pause` between connecting and the first.
    """

    def __init__(
        self,
        name: str,
        dial: Dial,
        *,
        timeout: float,
        pause: float = 0.0,
        connect_pause: float = 0.0,
        numbered: bool = True,
    ) -> None:
        """A line with a connection of its own; `sharing.line_to` makes those that share one."""
        self._name = name
        self._timing = Timing(timeout, pause, connect_pause)
        self._connection: Connection | None = None
        self.guard: Guard | None = None
        self._find: Callable[[], Connection] = lambda: Connection(name, dial, numbered=numbered)

    @classmethod
    def over(cls, name: str, find: Callable[[], Connection], timing: Timing) -> ModbusLine:
        """A line over the connection that `find` finds once the event loop runs."""
        line = cls.__new__(cls)
        line._name, line._find, line._timing, line._connection = name, find, timing, None
        line.guard = None
        return line

    def __str__(self) -> str:
        return self._name

    @property
    def connected(self) -> bool:
        """Whether the connection is open as far as anybody knows."""
        connection = self._connection
        return connection is not None and connection.usable and connection.joined(self)

    @property
    def answered(self) -> bool:
        """Whether anybody was answered over the connection since it was opened last."""
        return self._connection is not None and self._connection.answered

    @property
    def generation(self) -> int:
        """Goes up with every attempt to connect, whoever of those that share the connection made it."""
        return 0 if self._connection is None else self._connection.attempts

    @property
    def pipeline(self) -> int:
        """How many questions may be under way at once."""
        return 1 if self._connection is None else self._connection.pipeline

    async def open(self) -> None:
        """Connect, or join those who have. Where nobody shares it, a connection that was there is dropped.

        LineLost or Untrusted where that fails within the timeout.
        """
        if self._connection is None:
            self._connection = self._find()
        await self._connection.open(self, self._timing)

    def close(self) -> None:
        """Let go of the connection, without waiting for anybody; others that share it keep it."""
        if self._connection is not None:
            self._connection.leave(self)

    async def ask(self, unit: int, table: Table, address: int, count: int) -> bytes:
        """The bytes of `count` registers or bits from `address` on, as the device sent them.

        Refused where the device answers with an exception; NoAnswer, BadReply or LineLost where there is no
        answer to this question: what then becomes of the connection is in `connection.py`.
        """
        question = partial(register_question, unit, table, address, count)
        if self.guard is None:
            return await self.ask_for(unit, question)
        await self.guard.check()
        generation = self.generation
        try:
            payload = await self.ask_for(unit, question)
        except (Refused, WrongCount):
            raise
        except LineFault:
            self.guard.doubt()
            raise
        if self.generation != generation:
            raise LineLost(f"{self} was connected anew before it answered")
        return payload

    async def ask_for(self, unit: int, question: Callable[[int], Asked]) -> bytes:
        """As `ask`, unguarded, for the question that `question` makes of a transaction number."""
        return await (self._connection or self._joined()).ask(self, unit, question)

    async def ask_ahead(self, unit: int, wanted: Sequence[tuple[Table, int, int]]) -> list[bytes | LineFault]:
        """Ask for as many of `wanted` (table, address, count) as may be under way at once, one at least; the
        outcomes of the first ones. LineLost or Resting where nothing could be asked."""
        questions = [partial(register_question, unit, *one) for one in wanted]
        if self.guard is None:
            return await self._joined().ask_ahead(self, unit, questions)
        await self.guard.check()
        generation = self.generation
        outcomes = await self._joined().ask_ahead(self, unit, questions)
        if any(isinstance(one, LineFault) and not isinstance(one, Refused | WrongCount) for one in outcomes):
            self.guard.doubt()
        if self.generation != generation:
            raise LineLost(f"{self} was connected anew before it answered")
        return outcomes

    def _joined(self) -> Connection:
        if self._connection is None:
            self._connection = self._find()
        return self._connection


def register_question(unit: int, table: Table, address: int, count: int, transaction: int) -> Question:
    """The question for registers or bits, with a transaction number."""
    return Question(transaction, unit, table, address, count)
