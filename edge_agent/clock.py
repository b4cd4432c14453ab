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


class Stamp:
    """Timestamps for one machine that strictly increase, so that two scans never share a point's identity."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> int:
        """Now in ns, or one more than the last stamp where the clock has not moved or went back."""
        self._last = max(self._clock.now(), self._last + 1)
        return self._last


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
