"""Wall-clock time in one place, so that a demo can live weeks in a minute and tests can hold time still.

Timestamps, alarm delays and learning periods follow `Clock.now`; scan cadence, timeouts and commits follow
the monotonic clock of the real world.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

SECOND = 1_000_000_000


class Clock:
    """UTC in ns, as the system tells it."""

    rate: float = 1.0
    """Seconds of this clock per real second."""

    def now(self) -> int:
        """Nanoseconds since 1970 UTC."""
        return time.time_ns()

    def elapsed(self) -> int:
        """Nanoseconds of this clock's time since some moment, whatever is done to the system's clock."""
        return int(time.monotonic_ns() * self.rate)


@dataclass(frozen=True, slots=True)
class SimulatedClock(Clock):
    """A clock that stood at `epoch` (UTC, ns) at monotonic time `origin` (ns), and runs `rate` times as fast.

    CLOCK_MONOTONIC is the same for all processes of a machine, so simulators in child processes given the
    same three numbers tell the same time.
    """

    epoch: int
    origin: int
    rate: float

    def now(self) -> int:
        """Nanoseconds since 1970 UTC, in simulated time."""
        return self.epoch + int((time.monotonic_ns() - self.origin) * self.rate)


SET_BACK = 7200
"""Seconds: a clock set back by no more was a little ahead; one set back further was wrong before."""


class Stamp:
    """Timestamps for one machine that strictly increase, so that two scans never share a point's identity.

    Where the clock is set back, time goes on at half its speed until the clock has caught up, so that delays
    and periods do not stand still. Where it is set back by more than `SET_BACK`, the new time is believed:
    stamps that are years ahead would hide everything that comes after them.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0
        self._at = clock.elapsed()

    def next(self) -> int:
        """Now in ns, later than the last stamp as far as that can be believed."""
        now, elapsed = self._clock.now(), self._clock.elapsed()
        if now <= self._last and self._last - now <= SET_BACK * SECOND:
            now = self._last + max(1, (elapsed - self._at) // 2)
        self._last, self._at = now, elapsed
        return now


def iso(ns: int) -> str:
    """`ns` since 1970 as ISO 8601 with milliseconds and Z, e.g. 2026-03-02T05:00:00.000Z."""
    moment = datetime.fromtimestamp(ns // SECOND, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % SECOND // 1_000_000:03d}Z"


def parse_iso(text: str) -> int:
    """UTC ns of an ISO 8601 text; a text without a zone is taken as UTC. ValueError where it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds * 1000
