"""A line to Modbus devices as a client that only reads: one question at a time, every answer checked.

An answer counts only with the transaction, the unit, the function and the number of bytes that were asked
for. After silence or garbage the connection is closed: a late reply can then never answer the next question.
Transaction numbers go on from one connection to the next, for gateways that send a late reply to whoever is
there now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.faults import BadReply, LineFault, LineLost, NoAnswer, Refused, WrongCount
from edge_agent_drivers.modbus.pdu import Question


class Channel(Protocol):
    """An open connection in one framing, as `MbapConnection`. Faults are results, not exceptions."""

    @property
    def usable(self) -> bool:
        """Whether it is open as far as anybody knows."""

    @property
    def skipped(self) -> str:
        """What came since the question that answers another one; empty where nothing did."""

    def ask(self, question: Question) -> asyncio.Future[bytes | LineFault]:
        """Send a question; what becomes of it is the result of the future."""

    def close(self, fault: LineFault | None = None) -> None:
        """Drop the connection without waiting for anybody; an open question gets `fault`, else LineLost."""


class Guard(Protocol):
    """Says whether the device may be asked; see `identity.py`."""

    async def check(self) -> None:
        """Before each question. A LineFault where none may be asked; its own go through `ask_for`."""

    def doubt(self) -> None:
        """A question got no answer: whatever is known of the device may have changed."""


Dial = Callable[[], Awaitable[Channel]]
"""Opens a channel. LineLost where that fails; it is cancelled when the line's timeout is over."""


class ModbusLine:
    """One connection to a device or gateway, opened again by whoever wants it open.

    Times are in seconds: `timeout` for connecting and for each whole answer, `pause` between an answer and
    the next question, `connect_pause` between connecting and the first.
    """

    def __init__(
        self, name: str, dial: Dial, *, timeout: float, pause: float = 0.0, connect_pause: float = 0.0
    ) -> None:
        self._name, self._dial, self._timeout = name, dial, timeout
        self._pause, self._connect_pause = pause, connect_pause
        self._channel: Channel | None = None
        self._one_at_a_time = asyncio.Lock()
        self._ready_at = 0.0
        self._transaction = 0
        self.guard: Guard | None = None
        self.generation = 0
        """Goes up with every attempt to connect."""
        self._attempt = 0
        """Goes up with every close, so that a connection that was closed while it opened is not used."""

    def __str__(self) -> str:
        return self._name

    @property
    def connected(self) -> bool:
        """Whether the connection is open as far as anybody knows."""
        return self._channel is not None and self._channel.usable

    async def open(self) -> None:
        """Connect, dropping a connection that was there. LineLost where that fails within the timeout."""
        self.close()
        # asyncio closes a dropped socket one turn later, and some devices have room for one connection only.
        await asyncio.sleep(0)
        attempt = self._attempt
        self.generation += 1
        try:
            async with asyncio.timeout(self._timeout):
                channel = await self._dial()
        except TimeoutError as error:
            raise LineLost(f"no connection to {self} within {self._timeout:g} s") from error
        if attempt != self._attempt or not channel.usable:
            channel.close()
            raise LineLost(f"no connection to {self}: it was closed at once")
        self._channel = channel
        self._ready_at = asyncio.get_running_loop().time() + self._connect_pause

    def close(self) -> None:
        """Drop the connection, without waiting for anybody."""
        self._attempt += 1
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    async def ask(self, unit: int, table: Table, address: int, count: int) -> bytes:
        """The bytes of `count` registers or bits from `address` on, as the device sent them.

        Refused where the device answers with an exception; NoAnswer, BadReply or LineLost where there is no
        answer to this question. After those the connection is closed, except for WrongCount.
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

    async def ask_for(self, unit: int, question: Callable[[int], Question]) -> bytes:
        """As `ask`, unguarded, for the question that `question` makes of a transaction number."""
        async with self._one_at_a_time:
            channel = await self._rested()
            # Never 0, which devices send that do not copy it.
            self._transaction = self._transaction % 0xFFFF + 1
            try:
                return await self._exchange(channel, question(self._transaction))
            except (Refused, WrongCount):
                raise
            except BaseException:
                # Cancellation too: the answer to this question must not meet the next one.
                channel.close()
                raise
            finally:
                self._ready_at = asyncio.get_running_loop().time() + self._pause

    async def _rested(self) -> Channel:
        """The connection, after the pause that the device needs. LineLost where there is none."""
        wait = self._ready_at - asyncio.get_running_loop().time()
        if wait > 0 and self.connected:
            await asyncio.sleep(wait)
        if self._channel is None or not self._channel.usable:
            raise LineLost(f"not connected to {self}")
        return self._channel

    async def _exchange(self, channel: Channel, question: Question) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                outcome = await channel.ask(question)
        except TimeoutError:
            if channel.skipped:
                raise BadReply(f"{self} {channel.skipped}") from None
            raise NoAnswer(f"{self} did not answer within {self._timeout:g} s") from None
        if isinstance(outcome, LineFault):
            raise outcome
        return outcome


def register_question(unit: int, table: Table, address: int, count: int, transaction: int) -> Question:
    """The question for registers or bits, with a transaction number."""
    return Question(transaction, unit, table, address, count)
