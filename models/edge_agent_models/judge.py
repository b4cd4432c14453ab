"""One row against the learned normal: ratios to the limits, shares, deviations; with its short memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent_models.arrays import Arrays, Bools, Floats, below, fields_of, prefixed, restore
from edge_agent_models.baseline import Baseline
from edge_agent_models.fusion import fuse, fuse_shares
from edge_agent_models.innovation import ORDER
from edge_agent_models.recovery import MOST, OFF, SETTLE, Recovery
from edge_agent_models.slow import Slow
from edge_agent_models.windows import Ring

_PARTS = ("recent", "past", "scores", "slow", "recovery")
_CLOSE = 0.999
_STEP = 3.0
"""While it settles the offset follows at most so much of a row's standard deviation at once."""


@dataclass(frozen=True)
class Verdict:
    """What one row says."""

    value: float
    """Ratio to the limit: the larger of the fast scores, fused, and the slow layer."""
    shares: Floats
    """(tags,) contributions, adding up to 1."""
    deviations: Floats
    """(tags,) z of the window means against the commissioning baseline; NaN where masked or missing."""
    moved: Floats
    """(tags,) the same against where the machine came back to after its last excursion."""


class Judge:
    """The windows behind a verdict. A stop or a gap clears them; nothing is judged until they are full."""

    def __init__(self, baseline: Baseline) -> None:
        self.baseline = baseline
        tags = len(baseline.scale)
        self.recent = Ring(baseline.window, tags)
        self.past = Ring(ORDER, tags)
        self.scores = Ring(baseline.window, 3)
        self.slow = Slow(baseline.slow)
        self.recovery = Recovery(tags, baseline.window)
        self.offset: Floats = np.zeros(tags)
        """(tags,) what the fast scores do not see after a recovery, in standardised residuals."""
        self._short = max(2, round(baseline.window / 3))
        self._most = MOST * np.where(np.isfinite(baseline.level.spread), baseline.level.spread, 0.0)

    def clear(self) -> None:
        """Contact with the rows before is lost.

        The slow averages and the offset stay: a stop heals nothing, and what was mended shows in its rows.
        """
        for ring in (self.recent, self.past, self.scores):
            ring.clear()

    def take(self, row: Floats, masked: Bools, familiar: bool = True) -> Verdict | None:
        """Judge one standardised row (tags,), NaN where missing; None while windows fill.

        A masked tag is taken out of the whole window: what it said before it was found out counts no more.
        Where context is not `familiar` the slow averages rest: they would remember its doubts for days.
        """
        row = np.where(masked | ~self.baseline.judged, np.nan, row)
        slow = self.slow.take(row) if familiar else self.slow.ratios
        row = row - self.offset
        self.recent.push(row)
        for tag in np.flatnonzero(masked):
            self.recent.forget(int(tag))
        error = self._innovation(row)
        if error is None or not (self.recent.full or self.recovery.settling):
            return None
        return self._verdict(error, slow)

    def _innovation(self, row: Floats) -> Floats | None:
        """(tags,) the one-step error; a missing value is taken to be what was expected of it."""
        model = self.baseline.innovation
        expected = None
        if self.past.full:
            expected = model.expect(self.past.recent(ORDER))
        guess = np.zeros(len(row)) if expected is None else expected
        filled = np.where(np.isfinite(row), row, guess)
        self.past.push(filled)
        return None if expected is None else filled - expected

    def _verdict(self, error: Floats, slow: Floats) -> Verdict | None:
        base = self.baseline
        moved = base.level.deviations(self.recent.mean())
        kept = base.level.steady
        distance, near_shares = base.novelty.score(moved[kept])
        now = np.array([base.level.score(moved), base.innovation.score(error), distance])
        self.scores.push(now)
        if not (self.scores.full or self.recovery.settling):
            return None
        fast = float(fuse(self.scores.median() / base.limits, base.weights))
        creeping = self.slow.worst(slow)
        if fast >= creeping:
            spread_shares = np.zeros(len(moved))
            spread_shares[kept] = near_shares
            each = [base.level.shares(moved), base.innovation.shares(error), spread_shares]
            shares = fuse_shares(now / base.limits, base.weights, each)
        else:
            shares = Slow.shares(slow)
        there = moved + self.offset / base.level.spread
        fast = self._recovered(fast, moved)
        return Verdict(max(fast, creeping), shares, there, moved)

    def _recovered(self, fast: float, moved: Floats) -> float:
        """The fast ratio; low enough to end an alert while a machine that came back settles within limits."""
        self.recovery.follow(fast)
        if not self.recovery.watching:
            return fast
        base = self.baseline
        rows = self.recent.recent(self._short)
        there = np.isfinite(rows)
        left = np.where(there, rows, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1) - base.level.mean
        left = np.where(there.any(axis=0) & base.judged, left, 0.0)
        if self.recovery.over(moved, left / base.level.spread):
            self._shift(left)
            newest = self.recent.recent(self._short)[::-1]
            self.recent.clear()
            self.scores.clear()
            for row in newest:
                self.recent.push(row)
            return min(fast, OFF * _CLOSE)
        if self.recovery.settling:
            self._shift(np.clip(left, -_STEP, _STEP) / (SETTLE * self._short))
            return fast if fast > 1.0 else min(fast, OFF * _CLOSE)
        return fast

    def _shift(self, by: Floats) -> None:
        """Take more for the offset, within its bounds."""
        offset = np.clip(self.offset + by, -self._most, self._most)
        by = offset - self.offset
        self.offset = offset
        self.recent.rows -= by
        self.past.rows -= by

    def save(self) -> Arrays:
        """The windows."""
        arrays = fields_of(self, ("offset",))
        for name in _PARTS:
            arrays.update(prefixed(name, getattr(self, name).save()))
        return arrays

    def load(self, arrays: Arrays) -> None:
        """Go on from `save`."""
        restore(self, ("offset",), arrays)
        for name in _PARTS:
            getattr(self, name).load(below(name, arrays))
