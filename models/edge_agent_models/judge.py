"""One row against the learned normal: ratios to the limits, shares, deviations; with its short memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent_models.arrays import Arrays, Bools, Floats, below, prefixed
from edge_agent_models.baseline import Baseline
from edge_agent_models.fusion import fuse, fuse_shares
from edge_agent_models.innovation import ORDER
from edge_agent_models.rhythm import insist_rows
from edge_agent_models.windows import Ring


@dataclass(frozen=True)
class Verdict:
    """What one row says."""

    value: float
    """Fused ratio to the limit."""
    shares: Floats
    """(tags,) contributions, adding up to 1."""
    deviations: Floats
    """(tags,) z of the window means; NaN where masked or missing."""


class Judge:
    """The windows behind a verdict. A stop or a gap clears them; nothing is judged until they are full."""

    def __init__(self, baseline: Baseline) -> None:
        self.baseline = baseline
        tags = len(baseline.scale)
        self.recent = Ring(baseline.window, tags)
        self.past = Ring(ORDER, tags)
        self.scores = Ring(baseline.window, 3)
        self.lasting = Ring(insist_rows(baseline.period), 1)

    def clear(self) -> None:
        """Contact with the rows before is lost.

        How long the level has been out is kept: a stop heals nothing, and what was mended shows in a row.
        """
        for ring in (self.recent, self.past, self.scores):
            ring.clear()

    def take(self, row: Floats, masked: Bools) -> Verdict | None:
        """Judge one standardised row (tags,), NaN where missing; None while windows fill.

        A masked tag is taken out of the whole window: what it said before it was found out counts no more.
        """
        row = np.where(masked | ~self.baseline.judged, np.nan, row)
        self.recent.push(row)
        for tag in np.flatnonzero(masked):
            self.recent.forget(int(tag))
        error = self._innovation(row)
        if not self.recent.full or error is None:
            return None
        return self._verdict(error)

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

    def _verdict(self, error: Floats) -> Verdict | None:
        base = self.baseline
        deviations = base.level.deviations(self.recent.mean())
        kept = base.level.steady
        distance, near_shares = base.novelty.score(deviations[kept])
        now = np.array([base.level.score(deviations), base.innovation.score(error), distance])
        self.scores.push(now)
        if not self.scores.full:
            return None
        spread_shares = np.zeros(len(deviations))
        spread_shares[kept] = near_shares
        ratios = self.scores.median() / base.limits
        shares = [base.level.shares(deviations), base.innovation.shares(error), spread_shares]
        self.lasting.push(ratios[:1])
        # A single tag that creeps away is no surprise from row to row and moves no other tag; but it stays.
        insisting = float(self.lasting.rows.min()) if self.lasting.full else 0.0
        return Verdict(
            max(float(fuse(ratios)), insisting), fuse_shares(now / base.limits, shares), deviations
        )

    def save(self) -> Arrays:
        """The windows."""
        return {
            **prefixed("recent", self.recent.save()),
            **prefixed("past", self.past.save()),
            **prefixed("scores", self.scores.save()),
            **prefixed("lasting", self.lasting.save()),
        }

    def load(self, arrays: Arrays) -> None:
        """Go on from `save`."""
        self.recent.load(below("recent", arrays))
        self.past.load(below("past", arrays))
        self.scores.load(below("scores", arrays))
        self.lasting.load(below("lasting", arrays))
