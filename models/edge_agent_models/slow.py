"""The slow layer: a level that has moved by little, but for hours or weeks.

An exponential average of every tag over an eighth of the learning time, against the learned centre, which is
never moved: what wears is not absorbed. Its limit follows from the budget of false alarms. Each part of the
learning time is averaged as the other parts would have seen it, and an eighth of that time gives about eight
independent averages: so the average over its deviation is Student's t, and the budget says how far out in its
tail the limit lies. A short learning time gives wide limits, as it should.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from edge_agent_models.arrays import Arrays, Bools, Floats, fields_of, median, restore, taken
from edge_agent_models.folds import FOLDS, folds
from edge_agent_models.level import normalised
from edge_agent_models.missing import mean_there, rms_there

SHARE = 8
"""The average runs over this part of the learning time."""
LEAST_SECONDS = 300.0
"""A shorter average sees nothing that the fast scores do not."""
_CLIP = 6.0
"""Learned rows are clipped here, so that an excursion while learning hides no later one; others at twice."""
_ROBUST = 1.4826
_BACK = 0.6
_HELD = 1.001
_WRONG = 0.15
"""Of what context explains, this share is not trusted."""
_TAIL_SHARE = 0.3
"""Of the standard deviation: a tag may rest most of the time, and its median deviation be next to nothing."""


@dataclass(frozen=True)
class SlowModel:
    """Centre, spread and limit of the averages. All limits are infinite where learning was too short."""

    rows: float
    """Rows the average runs over."""
    center: Floats
    """(tags,) in standardised residuals."""
    spread: Floats
    """(tags,) standard deviation of a row."""
    limit: Floats
    """(tags,) of the average, in `spread`."""
    start: Floats
    """(tags,) the average at the end of learning, in `spread`."""

    def standard(self, row: Floats) -> Floats:
        """(tags,) one standardised row about its centre, clipped; NaN where missing."""
        z: Floats = (row - self.center) / self.spread
        return np.minimum(np.maximum(z, -2 * _CLIP), 2 * _CLIP)

    def save(self) -> Arrays:
        """The model as arrays."""
        return fields_of(self, _FIELDS)


_FIELDS = ("rows", "center", "spread", "limit", "start")


def load_slow(arrays: Arrays) -> SlowModel:
    """The model from what `save` gave. ModelError where something is missing."""
    rows, *others = (np.asarray(taken(arrays, name), dtype=np.float64) for name in _FIELDS)
    return SlowModel(float(rows), *others)


class Slow:
    """The running averages of one machine."""

    def __init__(self, model: SlowModel) -> None:
        self._model = model
        self._gain = -math.expm1(-1.0 / model.rows)
        self.average: Floats = model.start.copy()
        self.out = False
        """Whether the averages were beyond a limit, and are not well within all of them yet."""

    def take(self, row: Floats) -> Floats:
        """(tags,) ratios of the averages to their limits after a standardised row, NaN where missing."""
        moved = self._model.standard(row) - self.average
        self.average = self.average + self._gain * np.where(np.isfinite(moved), moved, 0.0)
        return self.ratios

    @property
    def ratios(self) -> Floats:
        """(tags,) ratios of the averages to their limits."""
        ratios: Floats = np.abs(self.average) / self._model.limit
        return ratios

    def worst(self, ratios: Floats) -> float:
        """The largest ratio; above 1 from the first row beyond a limit to the first well within all of them.

        So long an average hovers about its limit for hours or days, which is one condition and not several.
        """
        largest = float(ratios.max(initial=0.0))
        self.out = largest > 1.0 or (self.out and largest >= _BACK)
        return max(largest, _HELD) if self.out else largest

    @staticmethod
    def shares(ratios: Floats) -> Floats:
        """(tags,) each tag's share of the sum of squares."""
        return normalised(ratios**2)

    def save(self) -> Arrays:
        """The streaming state."""
        return fields_of(self, ("average", "out"))

    def load(self, arrays: Arrays) -> None:
        """Go on from `save`."""
        restore(self, ("average", "out"), arrays)


def fit_slow(
    rows: Floats, sway: Floats, judged: Bools, seen: int, period: float, per_day: float
) -> SlowModel:
    """Learn from standardised residuals (n, tags), NaN where missing, kept of `seen` rows `period` apart.

    `sway`: (tags,) how far context moved each tag, in the same units; a part of that is taken to be explained
    wrongly for days on end: averaging makes noise small, but no error of what context explains.
    `per_day`: the budget of false alerts.
    """
    count, tags = rows.shape
    span = count / SHARE
    center, spread = _normal(rows, judged)
    long_enough = seen * period >= SHARE * LEAST_SECONDS
    if not long_enough or count < 2 * SHARE:
        return SlowModel(max(1.0, seen / SHARE), center, spread, np.full(tags, np.inf), np.zeros(tags))
    averages, part = np.zeros_like(rows), folds(count)
    for fold in range(FOLDS):
        middle, width = _normal(rows[part != fold], judged)
        averages[part == fold] = _averaged(np.clip((rows - middle) / width, -_CLIP, _CLIP), span)[
            part == fold
        ]
    deviation = np.hypot(np.nan_to_num(rms_there(averages)), _WRONG * sway / spread)
    deviation = np.maximum(deviation, 1e-6)
    chances = int(judged.sum()) * 86_400.0 * SHARE / (per_day * seen * period)
    limit = student_tail(1.0 / (2.0 * max(1.0, chances)), SHARE - 1)
    last = _averaged(np.clip((rows - center) / spread, -_CLIP, _CLIP), span)[-1]
    return SlowModel(seen / SHARE, center, spread, np.where(judged, deviation * limit, np.inf), last)


def _normal(rows: Floats, judged: Bools) -> tuple[Floats, Floats]:
    """Median and robust deviation of each tag; infinite deviation for a tag that is not judged."""
    center = np.nan_to_num(_medians(rows))
    away = rows - center
    deviation = np.maximum(
        _ROBUST * np.nan_to_num(_medians(np.abs(away))), _TAIL_SHARE * np.nan_to_num(rms_there(away))
    )
    return center, np.where(judged & (deviation > 0), deviation, np.inf)


def _medians(rows: Floats) -> Floats:
    return np.array(
        [
            float(median(column[np.isfinite(column)])) if np.isfinite(column).any() else np.nan
            for column in rows.T
        ]
    )


def _averaged(rows: Floats, span: float) -> Floats:
    gain = -math.expm1(-1.0 / span)
    filled = np.where(np.isfinite(rows), rows, np.nan)
    average = np.nan_to_num(mean_there(filled[: max(2, int(span))]))
    out = np.empty_like(rows)
    for index, row in enumerate(filled):
        moved = row - average
        average = average + gain * np.where(np.isfinite(moved), moved, 0.0)
        out[index] = average
    return out


def student_tail(share: float, freedom: float) -> float:
    """What Student's t exceeds with probability `share` (below a half); Wallace's approximation (1959)."""
    normal = -NormalDist().inv_cdf(min(max(share, 1e-15), 0.499))
    normal *= (8 * freedom + 3) / (8 * freedom + 1)
    return math.sqrt(freedom * math.expm1(normal * normal / freedom))
