"""Modbus RTU's framing, over a serial line or a TCP socket: replies are found by length and checksum.

RTU numbers nothing: a reply says which unit it comes from and how long it is, not what it answers. So that a
late reply never answers the next question:

- A unit that did not answer is left alone once more for as long as it was waited for, at least a second, also
  over a reconnect (`Owing`). What it sends in that time is dropped, and ends the wait where it is the answer
  that was missed. Other units are asked meanwhile: their replies begin with another byte.
- A question goes out once the line has been quiet for `gap` seconds, and what came before it is dropped.
- A reply that came garbled was the answer if it is whole and from the right unit, or just as long as the
  answer: nothing more is expected then.

Two questions of somebody else within a minute mean that there is another master: the connection is given up.

What comes after that while, and a reply that a device sends twice with more than the gap between, cannot be
told from an answer of the same unit with the same function and length.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

from edge_agent_drivers.modbus.crc import crc16, sealed
from edge_agent_drivers.modbus.faults import BadReply, LineFault, LineLost
from edge_agent_drivers.modbus.mbap import FLOOD
from edge_agent_drivers.modbus.owing import Owing
from edge_agent_drivers.modbus.pdu import EXCEPTION, Asked, Question
from edge_agent_drivers.modbus.rtu_frames import LONGEST, SHORTEST, reply_length

_QUESTION = 8
"""Bytes of a question to read, or to write one value."""
_QUESTIONS = frozenset(range(1, 7))
ANOTHER_MASTER = 60.0
"""Seconds within which two questions of somebody else are no accident."""


def frame(question: Asked) -> bytes:
    """The bytes to send."""
    return sealed(bytes((question.unit,)) + question.pdu)


class RtuConnection(asyncio.BufferedProtocol):
    """Asks one question at a time, and finds the reply among echo, noise and what others say.

    Times are in seconds. `gap` is the silence before a question; `settle` the silence after which what does
    not fit is not mended by what still comes. Faults are results of the future, not exceptions.
    """

    def __init__(self, name: str, owing: Owing, *, gap: float = 0.005, settle: float = 0.1) -> None:
        self._name, self._owing, self._gap, self._settle = name, owing, gap, settle
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._view = memoryview(bytearray(2 * LONGEST))
        self._heard = bytearray()
        self._heard_at = self._sent_at = 0.0
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None
        self._question: Asked | None = None
        self._answer: asyncio.Future[bytes | LineFault] | None = None
        self._sent = b""
        """The question as it went out; empty until it did."""
        self._echo = False
        """Whether what comes may still be the echo of the question, as some adapters send it back."""
        self._due = self._came = 0
        """How long the answer is, where the question says it; how much has come since, beside the echo."""
        self._first = self._garbled = False
        """Whether nothing that came since was passed over yet; whether the answer came damaged."""
        self._stranger_at = 0.0
        self.skipped = ""
        """What came since the question and answers something else; empty where nothing did."""

    @property
    def usable(self) -> bool:
        """Whether it is open as far as anybody knows."""
        return self._transport is not None and not self._transport.is_closing()

    def rest(self, unit: int) -> float:
        """Seconds for which `unit` is left alone; a question to it would wait here."""
        return self._owing.left(unit)

    def ask(self, question: Asked) -> asyncio.Future[bytes | LineFault]:
        """Send a question as soon as the line is quiet; what becomes of it is the result of the future.

        A future that is done or cancelled before that is a question given up.
        """
        self._give_up()
        self._received = 0
        self.skipped, self._garbled = "", False
        self._question, self._sent = question, b""
        self._answer = answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(self._ended)
        self._send()
        return answer

    def close(self, fault: LineFault | None = None) -> None:
        """Drop the connection without waiting for anybody; an open question gets `fault`, else LineLost."""
        self._closed = True
        self._lose(fault or LineLost(f"the connection to {self._name} was closed"))
        if self._transport is not None:
            self._transport.abort()

    def _abandon(self, fault: LineFault) -> None:
        """Give up the line itself, and not only this connection over it."""
        self._lose(fault)
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called once connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._heard_at = time.monotonic()
        if self._closed:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once the connection is gone, whoever closed it."""
        self._transport = None
        self._lose(LineLost(f"{self._name} closed the connection" + (f": {exc}" if exc else "")))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where what comes next is put; never empty."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Called when `nbytes` have come."""
        self._received += nbytes
        self._heard_at = time.monotonic()
        self._heard += self._view[:nbytes]
        self._came += nbytes
        if self._received > FLOOD:
            self._abandon(BadReply(f"{self._name} sends without end"))
            return
        self._take()
        if self._question is not None and not self._sent:
            # Somebody talks: the question waits.
            self._send()
        elif self._heard:
            self._later(self._settle, self._quiet)

    def _send(self) -> None:
        """Send the question, or come back when the line has been quiet and the unit owes nothing."""
        question, now = self._question, time.monotonic()
        if question is None or self._transport is None:
            return
        wait = max(self._heard_at + self._gap - now, self._owing.left(question.unit))
        if wait > 0:
            self._later(wait, self._send)
            return
        if self._owing.over(question.unit):
            # Its answer may have come while the loop was busy, and is read before a timer is due.
            self._later(0.0, self._send)
            return
        self._stop_timer()
        self._heard.clear()
        self._echo, self._first, self._came = True, True, 0
        self._due = SHORTEST + question.answer_bytes if isinstance(question, Question) else 0
        self._sent, self._sent_at = frame(question), now
        self._transport.write(frame(question))

    def _quiet(self) -> None:
        """Nothing has come for a while: what is unfinished stays so, and what it hides is looked for."""
        self._timer = None
        as_long = self._came == self._due > 0
        self._take(final=True)
        if self._garbled or (as_long and self._question is not None):
            self._settled(BadReply(f"{self._name} sent a reply with a wrong checksum"))
        elif self._heard and self._sent and not self.skipped:
            self.skipped = "sent bytes that are no Modbus RTU"
        del self._heard[:-LONGEST]

    def _take(self, final: bool = False) -> None:
        """Go through the replies that have come, up to the answer; `final` where nothing is unfinished."""
        if self._echo and not self._past_echo(final):
            return
        start = 0
        while len(self._heard) - start >= SHORTEST:
            length = self._length(start)
            whole = length is not None and start + length <= len(self._heard)
            if length and whole:
                end = start + length
                if self._is_reply(start, end):
                    if self._ours(start):
                        self._judge(start, end)
                        return
                    self._not_ours(start)
                    self._first = False
                    del self._heard[:end]
                    start = 0
                    continue
                self._garbled = self._garbled or (self._first and self._ours(start))
            elif not final and length != 0:
                break
            if self._somebody_asks(start):
                return
            self._first = False
            start += 1
        if not final:
            del self._heard[:start]

    def _past_echo(self, final: bool) -> bool:
        """Drop the echo of the question; False where that takes more bytes to tell."""
        if self._heard.startswith(self._sent):
            del self._heard[: len(self._sent)]
            self._came -= len(self._sent)
        elif not final and self._sent.startswith(self._heard):
            return False
        self._echo = False
        return True

    def _somebody_asks(self, start: int) -> bool:
        """Whether what is no reply is a question that is not ours. The second one of late ends it all."""
        content = self._heard[start : start + _QUESTION]
        if len(content) < _QUESTION or content[1] not in _QUESTIONS:
            return False
        if crc16(content) != 0 or content == self._sent:
            return False
        before, self._stranger_at = self._stranger_at, time.monotonic()
        self._first = False
        del self._heard[: start + _QUESTION]
        if before and self._stranger_at - before < ANOTHER_MASTER:
            self._abandon(LineLost(f"another master asks unit {content[0]} on {self._name}"))
        return True

    def _ours(self, start: int) -> bool:
        """Whether what begins at `start` is from the unit and of the function that were asked."""
        question = self._question
        return (
            question is not None
            and self._sent != b""
            and self._heard[start] == question.unit
            and self._heard[start + 1] & ~EXCEPTION == question.pdu[0]
        )

    def _length(self, start: int) -> int | None:
        if self._question is None or not self._ours(start):
            return reply_length(self._heard, start)
        size = self._question.size(bytes(self._heard[start + 1 :]))
        if size is None:
            return None
        return 1 + size + 2 if 1 + size + 2 <= LONGEST else 0

    def _is_reply(self, start: int, end: int) -> bool:
        """Whether the checksum is right, and it is not our own question that comes back."""
        whole = self._heard[start:end]
        return crc16(whole) == 0 and whole != self._sent

    def _not_ours(self, start: int) -> None:
        unit, function = self._heard[start], self._heard[start + 1]
        self._owing.heard(unit, function)
        self.skipped = f"answered for unit {unit}, function {function & ~EXCEPTION}, which nobody waits for"

    def _judge(self, start: int, end: int) -> None:
        if (question := self._question) is None:
            return
        content = bytes(self._heard[start + 2 : end - 2])
        outcome = question.judge(self._name, self._heard[start + 1], content)
        if isinstance(outcome, BadReply):
            # Not what was asked for: the answer may still come.
            self._owing.gave_up(question, time.monotonic() - self._sent_at)
        self._settled(outcome)

    def _settled(self, outcome: bytes | LineFault) -> None:
        """Give whoever waits the outcome. What came beside it is dropped."""
        answer, self._answer, self._question = self._answer, None, None
        self._garbled = False
        self._stop_timer()
        self._heard.clear()
        if answer is not None and not answer.done():
            answer.set_result(outcome)

    def _lose(self, fault: LineFault) -> None:
        if self._question is not None and self._sent:
            self._owing.gave_up(self._question, time.monotonic() - self._sent_at)
        self._settled(fault)

    def _ended(self, answer: asyncio.Future[bytes | LineFault]) -> None:
        if answer is self._answer:
            self._give_up()

    def _give_up(self) -> None:
        """Nobody waits for the answer any more."""
        if self._question is not None:
            if self._sent:
                self._owing.gave_up(self._question, time.monotonic() - self._sent_at)
            else:
                self._stop_timer()
        self._answer = self._question = None
        self._garbled = False

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, what)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
