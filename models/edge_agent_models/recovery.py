"""What a machine that came back, though not to the last digit, is measured against by the fast scores.

After a fault has passed, temperatures and levels rest a little beside where they were, and an alert would
stay on for as long. So while the fast scores are out, the largest excursion is remembered; when most of it is
gone for good, what is left becomes an offset that the fast scores see no more. It is bounded for ever, and
the slow layer never sees it: there the commissioning baseline stays the measure.
"""

from __future__ import annotations

import numpy as np

from edge_agent_models.arrays import Arrays, Floats, fields_of, restore

ON_ROWS = 3
OFF = 0.6
_ALONG, _LEFT = 0.2, 0.4
"""Recovered: less than these shares of the excursion are left, along it and in any direction."""
_LEAST = 6.0
"""An excursion smaller than this many standard deviations is too near to normal to say that it has passed."""
_HOLD = 2
"""For so many windows it must have passed."""
SETTLE = 4
"""For so many windows afterwards the offset follows what still settles, a quarter as fast as the rows say."""
MOST = 6.0
"""Most that is ever taken for an offset, in standard deviations of a window's mean."""
_FIELDS = ("on", "above", "age", "passed", "settling", "excursion", "peak")


class Recovery:
    """Follows one excursion at a time; `window` rows are the unit of its patience."""

    def __init__(self, tags: int, window: int) -> None:
        self._window = window
        self.on = False
        self.above = 0
        self.age = 0
        self.passed = 0
        self.settling = 0
        self.excursion: Floats = np.zeros(tags)
        self.peak: Floats = np.zeros(tags)

    @property
    def watching(self) -> bool:
        """Whether the deviations of the next row matter."""
        return self.on or self.settling > 0

    def follow(self, value: float) -> None:
        """Take the fast ratio of a row: whether the machine is out is settled as the alarms settle it."""
        self.settling = max(0, self.settling - 1)
        self.above = self.above + 1 if value > 1.0 else 0
        if self.on and value < OFF:
            self.on = False
        elif not self.on and self.above >= ON_ROWS:
            self.on = True
            self.age = self.passed = 0
            self.excursion[:] = 0.0
            self.peak[:] = 0.0

    def over(self, slow: Floats, quick: Floats) -> bool:
        """Whether the machine has just come back: (tags,) deviations of the window and of its last third."""
        if not self.on:
            return False
        slow = np.where(np.isfinite(slow), slow, 0.0)
        self.excursion = slow if self.age == 0 else self.excursion + (slow - self.excursion) / self._window
        self.age += 1
        if self.excursion @ self.excursion > self.peak @ self.peak:
            self.peak = self.excursion.copy()
        size = float(np.sqrt(self.peak @ self.peak))
        along = float(quick @ self.peak) / max(size, 1e-9)
        gone = along < _ALONG * size and float(np.sqrt(quick @ quick)) < _LEFT * size
        self.passed = self.passed + 1 if gone and size > _LEAST and self.age > self._window else 0
        if self.passed < _HOLD * self._window:
            return False
        self.on = False
        self.above = self.passed = 0
        self.settling = SETTLE * self._window
        return True

    def save(self) -> Arrays:
        """The streaming state."""
        return fields_of(self, _FIELDS)

    def load(self, arrays: Arrays) -> None:
        """Go on from `save`."""
        restore(self, _FIELDS, arrays)
