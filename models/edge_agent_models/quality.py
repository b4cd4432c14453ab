"""Sensors that look broken: they are named, and kept out of what is judged.

A stuck sensor repeats its value to the last digit. Many healthy ones do so too (slow instruments, coarse
steps, a tank at rest), so the judgement is by what each tag was learned to do: how likely a repeat is, how
long the longest run was, and how far the other tags and the context meanwhile said it should have moved.
"""

from __future__ import annotations

import math

import numpy as np

from edge_agent_models.arrays import Arrays, Bools, Floats, fields_of, restore

_SUSPECT_ROWS = 3
_STUCK_ROWS = 8
_SUSPECT = math.log(1e-3)
_STUCK = math.log(1e-9)
_MILD = math.log(0.05)
_COARSE = 0.05
_MOVED = 6.0
"""A prediction must have moved by this many standard deviations of its own error to count."""
_SHIFTED = 3.0
"""By so many, and an unlikely run is not trusted, though not yet called stuck either."""
_RELEASE = 10
"""Rows a tag stays masked after it has begun to move again."""
_FAR, _NEAR = 10.0, 4.0
_SPIKES = 3.0
_FADE = 0.98
_OUT_ROWS = 3
_ABSURD = 1e30
_FIELDS = (
    "last", "run", "rows", "repeats", "longest", "learned_move", "low", "high", "hold", "entry", "named",
    "out", "before", "jump", "spikes", "learning",
)  # fmt: skip


def plausible(rows: Floats) -> Floats:
    """The rows without what no instrument can mean: infinite, or beyond 1e30."""
    return np.where(np.abs(rows) < _ABSURD, rows, np.nan)


class SensorCheck:
    """Follows every judged tag on its own; `ranges` is (tags, 2), infinite where the tag has none."""

    def __init__(self, ranges: Floats) -> None:
        tags = len(ranges)
        self.ranges = ranges
        self.last = np.full(tags, np.nan)
        self.run = np.zeros(tags)
        """Running rows since the value changed."""
        self.rows = np.zeros(tags)
        self.repeats = np.zeros(tags)
        self.longest = np.zeros(tags)
        self.learned_move = np.zeros(tags)
        """Largest range of the prediction during a learned run of repeats, engineering units."""
        self.low = np.full(tags, np.nan)
        self.high = np.full(tags, np.nan)
        self.entry = np.full(tags, np.inf)
        """How unusual the value was when the run began, in standard deviations."""
        self.hold = np.zeros(tags)
        self.named = np.zeros(tags, dtype=bool)
        self.out = np.zeros(tags)
        self.before = np.zeros(tags)
        self.jump = np.zeros(tags, dtype=bool)
        self.spikes = np.zeros(tags)
        self.learning = True

    def clean(self, row: Floats) -> Floats:
        """(tags,) the row without the values outside their tag's range."""
        impossible = (row < self.ranges[:, 0]) | (row > self.ranges[:, 1])
        self.out = np.where(impossible, self.out + 1, np.where(np.isfinite(row), 0.0, self.out))
        return np.where(impossible, np.nan, row)

    def follow(self, row: Floats, running: bool) -> None:
        """Count repeats; a repeat while the machine stands still proves nothing, a change always does."""
        there = np.isfinite(row)
        same = there & (row == self.last)
        if running and self.learning:
            self.rows += there
            self.repeats += same
        self.run = np.where(same, self.run + running, np.where(there, 0.0, self.run))
        if self.learning:
            self.longest = np.maximum(self.longest, self.run)
        moved = there & ~same
        self.low = np.where(moved, np.nan, self.low)
        self.high = np.where(moved, np.nan, self.high)
        self.last = np.where(there, row, self.last)

    def judge(self, expected: Floats, spread: Floats) -> Bools:
        """(tags,) which tags are masked on this row.

        `expected`: (tags,) what context and the other tags say each should read; `spread`: (tags,) the
        standard deviation of that prediction's error; both in engineering units.
        """
        self.low, self.high = np.fmin(self.low, expected), np.fmax(self.high, expected)
        unlikely = self.run * np.log((self.repeats + 1) / (self.rows + 2))
        moved = self.high - self.low
        far = moved > np.maximum(1.5 * self.learned_move, _MOVED * spread)
        beyond = self.run > self.longest
        doubtful = (self.run >= _SUSPECT_ROWS) & beyond & (unlikely < _SUSPECT)
        doubtful |= (self.run >= _SUSPECT_ROWS) & far & (unlikely < _MILD)
        # A coarse tag may well rest for long after the machine has moved it to a new level: there the witness
        # of the others counts, or a rest very much longer than any learned, at a value that was usual.
        start = np.abs(self.last - expected) / np.where(spread > 0, spread, np.inf)
        self.entry = np.where(self.run == 0, start, self.entry)
        fine = (self.repeats + 1) / (self.rows + 2) < _COARSE
        fine |= (self.run > 10 * self.longest + 50) & (self.entry < _NEAR)
        doubtful &= fine | (moved > np.maximum(1.5 * self.learned_move, _SHIFTED * spread))
        lasting = (self.run >= _STUCK_ROWS) & (self.run > 1.5 * self.longest + 3)
        stuck = (lasting & fine & (unlikely < _STUCK)) | ((self.run >= _STUCK_ROWS) & beyond & far)
        # Once found out it is stuck for as long as it does not move, whatever the others do meanwhile.
        stuck |= self.named & (self.run > 0)
        self.hold = np.where(stuck, _RELEASE, np.maximum(self.hold - 1, 0))
        self.named = stuck | (self.named & (self.hold > 0))
        return self.named | doubtful

    def watch_spikes(self, deviations: Floats) -> None:
        """Count single rows that jump far out and back while all the other tags stay calm."""
        size = np.where(np.isfinite(deviations), np.abs(deviations), 0.0)
        back = self.jump & (size < _NEAR)
        self.spikes = self.spikes * _FADE + back
        alone = (size > _NEAR).sum() == 1
        self.jump = (size > _FAR) & (self.before < _NEAR) & alone
        self.before = size

    def faults(self) -> dict[int, str]:
        """Column -> what is wrong with its sensor."""
        if not (self.named.any() or self.out.any() or (self.spikes > _SPIKES).any()):
            return {}
        found = {int(tag): "spiking" for tag in np.flatnonzero(self.spikes > _SPIKES)}
        found |= {int(tag): "out of range" for tag in np.flatnonzero(self.out >= _OUT_ROWS)}
        return found | {int(tag): "stuck" for tag in np.flatnonzero(self.named)}

    def learned(self, moves: Floats) -> None:
        """Learning is over: `moves` (tags,) is how far predictions moved in the runs of repeats it saw."""
        self.learned_move = moves
        self.learning = False

    def save(self) -> Arrays:
        """The streaming state."""
        return fields_of(self, _FIELDS)

    def load(self, arrays: Arrays) -> None:
        """Go on from `save`."""
        restore(self, _FIELDS, arrays)


def moves_in_runs(values: Floats, expected: Floats) -> Floats:
    """(tags,) largest range of `expected` (n, tags) in runs of at least 3 repeats of `values` (n, tags)."""
    tags = values.shape[1]
    largest, run = np.zeros(tags), np.zeros(tags)
    low, high = expected[0].copy(), expected[0].copy()
    for row in range(1, len(values)):
        same = values[row] == values[row - 1]
        run = np.where(same, run + 1, 0)
        low = np.where(same, np.minimum(low, expected[row]), expected[row])
        high = np.where(same, np.maximum(high, expected[row]), expected[row])
        largest = np.where(run >= _SUSPECT_ROWS, np.maximum(largest, high - low), largest)
    return largest
