"""What surrounds a machine: working hours, and the air of the hall. All functions of time alone.

Times are seconds since the scenario's start, a Monday 00:00; they may be negative (the run-in before it).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from edge_agent_simulators.randomness import Stream

HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY
_FIRST_SHIFT = 6 * HOUR
_SHIFT = 8 * HOUR


@dataclass(frozen=True, slots=True)
class Calendar:
    """When a machine works: `edges` are the instants of a week (s) at which it starts, stops, starts, ..."""

    name: str
    edges: tuple[float, ...]
    breaks: tuple[tuple[float, float], ...] = ()
    """Pauses of people, in seconds of the day; a machine that needs hands idles then."""

    def working(self, t: float) -> bool:
        """Whether the machine is switched on at `t`."""
        return bisect_right(self.edges, t % WEEK) % 2 == 1

    def pausing(self, t: float) -> bool:
        """Whether its operator is at a break at `t`."""
        second = t % DAY
        return any(start <= second < end for start, end in self.breaks)

    def working_seconds(self, start: float, end: float) -> float:
        """Working seconds between two instants, to within ten minutes."""
        step = 600.0
        count = max(1, int((end - start) / step))
        return step * sum(self.working(start + (index + 0.5) * step) for index in range(count))


def shift_number(t: float) -> int:
    """Which eight-hour shift (06-14-22) `t` falls into, counted from the one that begins at 06:00."""
    return math.floor((t - _FIRST_SHIFT) / _SHIFT)


_BREAKS = tuple((start * HOUR, start * HOUR + 900.0) for start in (9.0, 12.0, 17.0, 20.0))

CALENDARS = {
    calendar.name: calendar
    for calendar in (
        # Round the clock, with a stop on Sunday morning for cleaning and greasing.
        Calendar("continuous", (0.0, 6 * DAY + 6 * HOUR, 6 * DAY + 7.5 * HOUR)),
        Calendar("three_shifts", (6 * HOUR, 5 * DAY + 6 * HOUR), _BREAKS),
        Calendar(
            "two_shifts",
            tuple(day * DAY + hour * HOUR for day in range(5) for hour in (6, 22)),
            _BREAKS,
        ),
        # For tests and for looking at one thing at a time.
        Calendar("always", (0.0,)),
    )
}


@dataclass(frozen=True, slots=True)
class HotDay:
    """A day on which the hall reaches `peak` °C in the afternoon; `day` counts from 0."""

    day: int
    peak: float

    def share(self, t: float) -> float:
        """How much of that heat is there at `t`: 0 to 1, highest from 13 to 17 o'clock."""
        hours = abs((t - self.day * DAY) / HOUR - 15.0) - 2.0
        return 1.0 if hours <= 0 else math.exp(-((hours / 4.5) ** 2))


class Ambient:
    """The temperature of the hall: day and night, weather, doors, hot days."""

    def __init__(self, seed: int, name: str, mean: float = 22.0, hot_days: tuple[HotDay, ...] = ()) -> None:
        self._weather = Stream(seed, f"{name}/weather")
        self._door = Stream(seed, f"{name}/door")
        self._mean = mean
        self._hot_days = hot_days

    def at(self, t: float) -> float:
        """°C at `t`."""
        value = self._mean + 3.0 * math.sin((t / DAY - 0.4) * 2 * math.pi)
        value += 1.5 * self._weather.smooth(t, 1.7 * DAY) - self._door_drop(t)
        for hot in self._hot_days:
            share = hot.share(t)
            if share > 1e-3:
                value += max(0.0, hot.peak - value) * share
        return value

    def _door_drop(self, t: float) -> float:
        """K lost through the gate: on about one working hour in four it stands open for a lorry."""
        drop = 0.0
        hour = math.floor(t / HOUR)
        for index in (hour, hour - 1):
            if self._door.uniform(index) < 0.25 and 6 <= index % 24 < 20:
                opened = (index + self._door.uniform(index + 500_000)) * HOUR
                if t > opened:
                    drop += 2.5 * math.exp((opened - t) / 900.0) * min(1.0, (t - opened) / 300.0)
        return drop
