"""How far a prediction of remaining life may be out: 90 % intervals from units that were not trained on.

Conformal, and calibrated by unit: rows of one unit err together, so that units count, not rows. A prediction
near the cap only says "at least": its interval is one-sided.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_agent.errors import ModelError
from edge_agent_models.rul.features import Floats

COVERAGE = 0.9
_UNITS_A_STEP = 5
_MOST_STEPS = 10


@dataclass(frozen=True, slots=True)
class Interval:
    """Lowest and highest true remaining life beside a prediction, at steps of the prediction."""

    at: Floats
    low: Floats
    high: Floats

    def around(self, predicted: Floats) -> tuple[Floats, Floats]:
        """Low and high ends; the prediction lies between them, and nothing is left below zero."""
        low = predicted + np.interp(predicted, self.at, self.low)
        high = predicted + np.interp(predicted, self.at, self.high)
        return np.clip(low, 0.0, predicted), np.maximum(high, predicted)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays to save."""
        return {"interval_at": self.at, "interval_low": self.low, "interval_high": self.high}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Interval:
        """The interval in saved arrays. ModelError where they do not belong together."""
        found = [arrays[f"interval_{name}"].astype(np.float64) for name in ("at", "low", "high")]
        if any(array.shape != found[0].shape or array.ndim != 1 or not len(array) for array in found):
            raise ModelError("its intervals have arrays of different lengths")
        return cls(*found)


def calibrate(predicted: Floats, true: Floats, unit: npt.NDArray[np.intp], cap: float) -> Interval:
    """From predictions for rows of units not trained on; `true` is what was really left, not capped."""
    units = len(np.unique(unit))
    steps = int(np.clip(units // _UNITS_A_STEP, 1, _MOST_STEPS))
    edges = np.quantile(predicted, np.linspace(0, 1, steps + 1))
    at, low, high = [], [], []
    for lower, upper in itertools.pairwise(edges):
        inside = (predicted >= lower) & (predicted <= upper)
        at.append(float(np.median(predicted[inside])))
        ends = _ends(predicted[inside], true[inside], unit[inside], cap)
        low.append(ends[0])
        high.append(ends[1])
    keep = np.concatenate(([True], np.diff(at) > 0))
    return Interval(np.array(at)[keep], np.array(low)[keep], np.array(high)[keep])


def _ends(predicted: Floats, true: Floats, unit: npt.NDArray[np.intp], cap: float) -> tuple[float, float]:
    """Errors (true less predicted) below and above which too few units' rows lie."""
    units, counts = np.unique(unit, return_counts=True)
    weights = 1.0 / counts[np.searchsorted(units, unit)]
    outside = 1.0 - COVERAGE
    error = true - predicted
    capped = np.minimum(true, cap) - predicted
    beyond = float(weights[true >= cap].sum() / weights.sum())
    if beyond < outside / 2:
        return _quantile(error, weights, outside / 2), _quantile(error, weights, 1.0 - outside / 2)
    # What is beyond the cap looks all alike: how much more is left cannot be told, only how little.
    return _quantile(capped, weights, outside), _quantile(error, weights, 1.0 - outside / 10)


def _quantile(values: Floats, weights: Floats, share: float) -> float:
    """The value below which `share` of the weight lies."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(int(np.searchsorted(reached, share)), len(values) - 1)])
