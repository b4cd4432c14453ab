"""What a connection is made of: an open channel in some framing, how one is opened, and its timing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge_agent_drivers.modbus.faults import BEHIND_GATEWAY, LineFault, NoAnswer, Refused, WrongCount
from edge_agent_drivers.modbus.pdu import Asked

SILENCE = NoAnswer()
"""The outcome of a question that was given up."""

OPENING = 5.0
"""Seconds that opening a tty may take: some adapters do, and who else has it open is looked up."""


class Channel(Protocol):
    """An open connection in one framing, as `MbapConnection`. Faults are results, not exceptions."""

    @property
    def usable(self) -> bool:
        """Whether it is open as far as anybody knows."""

    @property
    def skipped(self) -> str:
        """What came since the question that answers another one; empty where nothing did."""

    def rest(self, unit: int) -> float:
        """Seconds for which `unit` is not asked, since an answer that nobody waits for may still come; 0 or
        less where it may be asked."""

    def ask(self, question: Asked) -> asyncio.Future[bytes | LineFault]:
        """Send a question; what becomes of it is the result of the future. One that is done is given up."""

    def close(self, fault: LineFault | None = None) -> None:
        """Drop the connection without waiting for anybody; an open question gets `fault`, else LineLost."""


Dial = Callable[[], Awaitable[Channel]]
"""Opens a channel. LineLost or Untrusted where that fails; it is cancelled when the timeout is over."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a line asks of its connection, in seconds. Of several lines the strictest counts, except that
    each waits its own `timeout`."""

    timeout: float
    """For connecting and for each whole answer."""
    pause: float = 0.0
    """Between an answer and the next question."""
    connect_pause: float = 0.0
    """Between connecting and the first question."""
    pipeline: int = 1
    """Most questions under way at once."""
    listen: float = 0.0
    """Listening before the first byte on a serial line; 0 on a network."""

    @property
    def connecting(self) -> float:
        """Longest time that opening a connection may take."""
        return self.timeout + (OPENING + self.listen if self.listen else 0.0)


def give_up(*answers: asyncio.Future[bytes | LineFault]) -> None:
    """Wait no longer for answers that have not come."""
    for answer in answers:
        if not answer.done():
            answer.set_result(SILENCE)


async def collect(answers: Sequence[asyncio.Future[bytes | LineFault]], timeout: float) -> None:
    """Wait for all answers, `timeout` seconds for each after the one before, since a device takes its time
    for each; where none comes in that time, no more are waited for."""
    loop = asyncio.get_running_loop()

    def over(one: asyncio.Future[bytes | LineFault], done_before: int) -> None:
        give_up(*([one] if sum(answer.done() for answer in answers) > done_before else answers))

    try:
        for one in answers:
            if not one.done():
                timer = loop.call_later(timeout, over, one, sum(answer.done() for answer in answers))
                try:
                    await one
                finally:
                    timer.cancel()
    except BaseException:
        give_up(*answers)
        raise


def of_the_unit(outcome: bytes | LineFault) -> bool:
    """Whether the unit itself answered, be it with a no."""
    if isinstance(outcome, Refused):
        return outcome.code not in BEHIND_GATEWAY
    return isinstance(outcome, bytes | WrongCount)
