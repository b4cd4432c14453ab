"""How far rows are apart, what counts as a gap, and how long windows are.

Rows may be a tenth of a second or fifteen minutes apart. Windows are counted in rows, because rows are the
evidence; their number follows from the rate, because fifteen rows are a quarter of a minute at 1 Hz but four
hours when rows are a quarter of an hour apart.
"""

from __future__ import annotations

import math

import numpy as np

from edge_agent_models.arrays import Arrays, fields_of, median, restore

GAP = 5.0
"""A step longer than this many row periods is a gap: what lay before it no longer describes now."""
PERSIST_ROWS = 3
PERSIST_SECONDS = 30.0
_RECENT = 31
_FIELDS = ("last", "steps", "count", "period")


def window_rows(period: float) -> int:
    """Rows of the smoothing window: 15 at 1 Hz, 30 at 4 Hz, 5 at 10 s, 3 where rows are minutes apart.

    `period` in seconds. It falls with the root of the period: some averaging is bought at any rate, and the
    delay it costs grows slower than the time between rows.
    """
    return int(min(60, max(3, round(15.0 / math.sqrt(max(period, 1e-3))))))


def persistence_rows(period: float) -> int:
    """Rows for which evidence must last: at least 3, and at least 30 seconds."""
    return max(PERSIST_ROWS, math.ceil(PERSIST_SECONDS / max(period, 1e-3)))


def insist_rows(period: float) -> int:
    """Rows for which the level alone must be out to count without the other scores: 30, and 5 minutes."""
    return min(3000, max(30, math.ceil(300.0 / max(period, 1e-3))))


class Rhythm:
    """The time between rows, learned from the rows themselves."""

    def __init__(self) -> None:
        self.last = 0
        self.steps = np.full(_RECENT, np.nan)
        self.count = 0
        self.period = 1.0
        """Median of the last 31 steps, seconds."""

    def step(self, time: int) -> float | None:
        """Seconds since the row before; 0 for the first row, None for a row that is not later than it."""
        if self.last and time <= self.last:
            return None
        seconds = (time - self.last) / 1e9 if self.last else 0.0
        self.last = time
        if seconds > 0:
            self.steps[self.count % _RECENT] = seconds
            self.count += 1
            if self.count <= _RECENT or self.count % 8 == 0:
                self.period = float(median(self.steps[~np.isnan(self.steps)]))
        return seconds

    def gap(self, seconds: float) -> bool:
        """Whether a step of that many seconds is a hole in the rows rather than jitter."""
        return seconds > GAP * self.period + 1.0

    def save(self) -> Arrays:
        """The streaming state."""
        return fields_of(self, _FIELDS)

    def load(self, arrays: Arrays) -> None:
        """Go on from `save`."""
        restore(self, _FIELDS, arrays)
