"""The one connection to an endpoint, shared by all the lines that lead there.

An answer counts only with the transaction, the unit, the function and the number of bytes that were asked
for. A late reply never answers the next question:

- Where nobody shares the connection it is closed after silence or garbage.
- Where others share it, or several questions are under way, it stays open: transaction numbers tell late
  replies apart. They go on from one connection to the next, for gateways that send a late reply to whoever
  is there now.
- In a framing without transaction numbers the unit is left alone for a while instead (`rtu.py`).

docs/adr/0006-shared-lines.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from edge_agent_drivers.modbus.breaker import Units
from edge_agent_drivers.modbus.channel import SILENCE, Channel, Dial, Timing, collect, give_up, of_the_unit
from edge_agent_drivers.modbus.faults import (
    BadReply,
    LineFault,
    LineLost,
    NoAnswer,
    NotConnected,
    Refused,
    WrongCount,
)
from edge_agent_drivers.modbus.pdu import Asked
from edge_agent_drivers.modbus.turns import Turns

RECONNECT_GAP = 0.1
"""Least seconds between two attempts to connect where the first brought no answer; at most the timeout."""
HALF_OPEN = 10.0
"""Seconds without any answer after which a shared connection is taken for broken and closed."""


class Connection:
    """Opened by the first line that joins, closed by the last that leaves; never two sockets at a time.

    `numbered`: the framing has transaction numbers. `shared`: other lines may join, and dead units rest.
    `datagrams`: what gets lost is lost; there is no stream to begin anew.
    """

    def __init__(
        self,
        name: str,
        dial: Dial,
        *,
        numbered: bool = True,
        shared: bool = False,
        datagrams: bool = False,
    ) -> None:
        self._name, self._dial, self._numbered, self._shared = name, dial, numbered, shared
        self._datagrams = datagrams
        self._members: dict[object, Timing] = {}
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self.attempts = 0
        """How often it was tried to connect."""
        self._failure: LineFault | None = None
        """What became of the last attempt to connect."""
        self._turns = Turns()
        self._units = Units(name)
        self._transaction = 0
        self._ready_at = self._not_before = self._heard_at = 0.0
        self._strictest()

    def __str__(self) -> str:
        return self._name

    @property
    def usable(self) -> bool:
        """Whether it is open as far as anybody knows."""
        return self._channel is not None and self._channel.usable

    @property
    def in_use(self) -> bool:
        """Whether any line has opened it and not left since."""
        return bool(self._members)

    @property
    def pipeline(self) -> int:
        """How many questions may be under way at once."""
        return self._turns.capacity

    @property
    def answered(self) -> bool:
        """Whether anything was answered since it was opened last."""
        return not self._not_before

    def joined(self, line: object) -> bool:
        """Whether the line has opened it and not left since."""
        return line in self._members

    def _strictest(self) -> None:
        timings = self._members.values()
        self._pause = max((timing.pause for timing in timings), default=0.0)
        self._connect_pause = max((timing.connect_pause for timing in timings), default=0.0)
        ahead = min((timing.pipeline for timing in timings), default=1)
        self._turns.capacity = ahead if self._numbered else 1
        self._turns.round = max(len(timings), 1)
        self._sharing = self._shared and (len(timings) > 1 or len(self._units) > 1)
        more = self._sharing or self._turns.capacity > 1
        self._stays_open = more or self._datagrams or not self._numbered

    async def open(self, line: object, timing: Timing) -> None:
        """Join, and connect where nobody has. A line that is alone on it gets a new connection.

        LineLost or Untrusted where that fails within the timeout; the line has then left.
        """
        again = line in self._members
        self._members[line] = timing
        self._strictest()
        attempts = self.attempts
        # The gap is ours and not the device's: it does not count.
        gap = max(0.0, self._not_before - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(gap + timing.connecting), self._opening:
                if again and len(self._members) == 1:
                    self._drop()
                if self.attempts != attempts and self._failure is not None:
                    # Somebody else tried while this one waited.
                    raise type(self._failure)(str(self._failure))
                if not self.usable:
                    await self._connect(timing)
        except TimeoutError as error:
            self.leave(line)
            raise LineLost(f"no connection to {self} within {timing.connecting:g} s") from error
        except BaseException:
            self.leave(line)
            raise
        if line not in self._members or not self.usable:
            self.leave(line)
            raise LineLost(f"no connection to {self}: it was closed at once")

    async def _connect(self, timing: Timing) -> None:
        loop = asyncio.get_running_loop()
        self._drop()
        # asyncio closes a dropped socket one turn later, and some devices have room for one connection only.
        await asyncio.sleep(max(0.0, self._not_before - loop.time()))
        self.attempts += 1
        self._not_before = loop.time() + min(RECONNECT_GAP, timing.timeout)
        self._failure = None
        try:
            async with asyncio.timeout(timing.connecting):
                channel = await self._dial()
        except LineFault as failure:
            self._failure = failure
            raise
        if not self._members:
            channel.close()
            return
        self._channel = channel
        self._heard_at = loop.time()
        self._ready_at = max(self._ready_at, self._heard_at + self._connect_pause)

    def leave(self, line: object) -> None:
        """Let go of the connection; the last one closes it, without waiting for anybody."""
        if self._members.pop(line, None) is not None:
            self._strictest()
        if not self._members:
            self._drop()

    def _drop(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    async def ask(self, line: object, unit: int, question: Callable[[int], Asked]) -> bytes:
        """The answer to the question that `question` makes of a transaction number."""
        timing = self._turn_at_once(line, unit) or await self._turn(line, unit)
        try:
            loop = asyncio.get_running_loop()
            sent = loop.time()
            channel = self._channel
            if channel is None or sent < self._ready_at or not channel.usable:
                channel = await self._rested()
                sent = loop.time()
            answer = channel.ask(question(self._next()))
            timer = loop.call_later(timing.timeout, give_up, answer)
            try:
                outcome = await answer
            except BaseException:
                # Cancelled: the answer to this question must not meet the next one.
                self._unanswered(channel, timing)
                raise
            finally:
                timer.cancel()
            if isinstance(outcome, bytes) and self._untroubled(unit):
                self._heard_at = sent
                return outcome
            outcome = self._judged(channel, outcome, timing)
            self._note(unit, of_the_unit(outcome), sent)
        finally:
            self._turns.give_back()
        if isinstance(outcome, LineFault):
            raise outcome
        return outcome

    async def ask_ahead(
        self, line: object, unit: int, questions: Sequence[Callable[[int], Asked]]
    ) -> list[bytes | LineFault]:
        """Ask as many as have room at once; the outcomes of the first ones, at least one.

        A lost reply costs only itself. LineLost or Resting where nothing could be asked.
        """
        timing = await self._turn(line, unit)
        taken = 1
        try:
            channel = await self._rested()
            if not self._sharing or self._units.lives(unit):
                while taken < len(questions) and self._turns.take():
                    taken += 1
            sent = asyncio.get_running_loop().time()
            answers = [channel.ask(question(self._next())) for question in questions[:taken]]
            try:
                await collect(answers, timing.timeout)
            except BaseException:
                self._unanswered(channel, timing)
                raise
            outcomes = [self._judged(channel, answer.result(), timing) for answer in answers]
            self._note(unit, any(map(of_the_unit, outcomes)), sent)
            return outcomes
        finally:
            for _ in range(taken):
                self._turns.give_back()

    def _turn_at_once(self, line: object, unit: int) -> Timing | None:
        """What `_turn` gives, where there is nothing to wait for or to consider: the usual case."""
        timing = self._members.get(line)
        if timing is None or self._sharing or not self._numbered or unit not in self._units:
            return None
        return timing if self._turns.take() else None

    async def _turn(self, line: object, unit: int) -> Timing:
        """Wait for a turn, which the caller gives back. LineLost or Resting where there is none."""
        timing = self._members.get(line)
        if timing is None:
            raise NotConnected(f"not connected to {self}")
        if unit not in self._units:
            self._units.meet(unit)
            self._strictest()
        while True:
            while (rest := self._owed(unit)) > 0:
                # Others are asked meanwhile. The answer that is owed may end the wait at any time.
                await asyncio.sleep(min(rest, 0.05))
            if not self._turns.take():
                await self._turns.wait(living=self._units.lives(unit))
            if self._owed(unit) <= 0:
                break
            self._turns.give_back()
        if self._sharing:
            try:
                self._units.check(unit, asyncio.get_running_loop().time(), timing.timeout)
            except LineFault:
                self._turns.give_back()
                raise
        return timing

    def _owed(self, unit: int) -> float:
        """Seconds for which a unit is left alone, because an answer that nobody waits for may still come."""
        return self._channel.rest(unit) if self._channel is not None and self.usable else 0.0

    def _untroubled(self, unit: int) -> bool:
        """Whether an answer of the unit changes nothing that is known."""
        return not self._not_before and not self._pause and self._units.clean(unit)

    async def _rested(self) -> Channel:
        """The channel, after the pause that the device needs. LineLost where there is none."""
        wait = self._ready_at - asyncio.get_running_loop().time()
        if wait > 0 and self.usable:
            await asyncio.sleep(wait)
        if self._channel is None or not self._channel.usable:
            raise NotConnected(f"not connected to {self}")
        return self._channel

    def _next(self) -> int:
        # Never 0, which devices send that do not copy it.
        self._transaction = self._transaction % 0xFFFF + 1
        return self._transaction

    def _judged(self, channel: Channel, outcome: bytes | LineFault, timing: Timing) -> bytes | LineFault:
        """The outcome with its words, once its consequences for the connection are drawn."""
        if isinstance(outcome, bytes | Refused | WrongCount):
            self._heard_at = asyncio.get_running_loop().time()
            self._not_before = 0.0
        else:
            if outcome is SILENCE:
                outcome = self._silence(channel, timing)
            self._unanswered(channel, timing)
        if self._pause:
            now = asyncio.get_running_loop().time()
            self._ready_at = max(self._ready_at, now + self._pause)
        return outcome

    def _note(self, unit: int, answered: bool, sent: float) -> None:
        """What a question, or several at once, say of the unit."""
        if answered:
            if not self._units.clean(unit):
                self._units.answered(unit)
        elif self._sharing:
            now = asyncio.get_running_loop().time()
            self._units.away(unit, max(now, self._ready_at) - sent, now)

    def _silence(self, channel: Channel, timing: Timing) -> LineFault:
        if channel.skipped:
            return BadReply(f"{self} {channel.skipped}")
        return NoAnswer(f"{self} did not answer within {timing.timeout:g} s")

    def _unanswered(self, channel: Channel, timing: Timing) -> None:
        """Keep the answer that may still come away from the next question."""
        now = asyncio.get_running_loop().time()
        if not self._stays_open or now - self._heard_at > max(HALF_OPEN, 3 * timing.timeout):
            channel.close()
