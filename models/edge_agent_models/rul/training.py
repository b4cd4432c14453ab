"""Training a model of remaining life: the one module that knows scikit-learn, for workers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from edge_agent_models.rul.features import Floats, features, window_for
from edge_agent_models.rul.interval import COVERAGE, calibrate
from edge_agent_models.rul.lives import Lives, teaching
from edge_agent_models.rul.model import RulModel
from edge_agent_models.rul.trees import Trees

TREES = 300
FOLDS = 10
FOLDS_OF_CAPS = 5
"""Fewer where caps are only compared."""
CAPS = (0.45, 0.55, 0.65, 0.8, 1.0)
"""Caps that are tried, as shares of the median life."""
LATE = 2 / 3
"""Caps are compared over so much of each life, its end."""
_MOST_ROWS = 60_000

Units = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Training:
    """A trained model, and how well it did on units it was not trained on."""

    model: RulModel
    report: dict[str, Any]
    held_out: Floats
    """The prediction for each row by the model that did not see the row's unit."""
    true: Floats
    """What was left at each row, not capped."""
    unit: Units


def train(lives: Lives, cap: float | None = None) -> Training:
    """A model from lives that end with a failure; the cap is chosen by cross-validation unless it is given.

    ModelError where they teach nothing; see `teaching`.
    """
    lives = teaching(lives)
    ends = [(times, rows) for _, times, rows in lives.each()]
    window = window_for(np.array([len(times) for times, _ in ends]))
    table = np.concatenate([features(rows, window) for _, rows in ends])
    true = np.concatenate([times[-1] - times for times, _ in ends])
    unit = np.repeat(np.arange(len(ends)), [len(times) for times, _ in ends])
    kept = np.arange(0, len(table), max(1, len(table) // _MOST_ROWS))
    table, true, unit = table[kept], true[kept], unit[kept]
    chosen, tried = (cap, {}) if cap is not None else _choose_cap(table, true, unit)
    held_out = _held_out(table, true, unit, chosen)
    interval = calibrate(held_out, true, unit, chosen)
    grown = _exported(_grown(table, np.minimum(true, chosen)))
    model = RulModel(lives.tags, window, chosen, grown, interval)
    return Training(model, _report(held_out, true, unit, chosen, tried), held_out, true, unit)


def _forest() -> HistGradientBoostingRegressor:
    # Small trees and few features for each: with tens of units, larger ones learn the units by heart.
    return HistGradientBoostingRegressor(
        max_iter=TREES,
        max_leaf_nodes=8,
        learning_rate=0.05,
        min_samples_leaf=40,
        max_features=0.2,
        early_stopping=False,
        random_state=1,
    )


def _grown(table: Floats, target: Floats) -> HistGradientBoostingRegressor:
    # One thread: polling wants the other cores, and threads that wait for each other cost most when busy.
    with threadpool_limits(limits=1):
        return _forest().fit(table, target)


def _folds(unit: Units, folds: int = FOLDS) -> list[npt.NDArray[np.bool_]]:
    """Which rows are held out in each fold; all rows of a unit together."""
    units = len(np.unique(unit))
    place = np.random.default_rng(1).permutation(units) % min(folds, units)
    return [place[unit] == fold for fold in range(min(folds, units))]


def _held_out(table: Floats, true: Floats, unit: Units, cap: float, folds: int = FOLDS) -> Floats:
    predicted = np.empty(len(true))
    for out in _folds(unit, folds):
        predicted[out] = _grown(table[~out], np.minimum(true[~out], cap)).predict(table[out])
    return np.clip(predicted, 0.0, cap)


def _choose_cap(table: Floats, true: Floats, unit: Units) -> tuple[float, dict[str, float]]:
    """The cap whose predictions are nearest to what is left in the last two thirds of each unit's life.

    Before, nothing can be foreseen yet, and predicting the longest life would win.
    """
    lengths = np.array([true[unit == one].max() for one in range(unit.max() + 1)])
    late = true <= LATE * lengths[unit]
    tried: dict[float, float] = {}
    for share in CAPS:
        cap = _rounded(share * float(np.median(lengths)))
        error = _held_out(table, true, unit, cap, FOLDS_OF_CAPS)[late] - true[late]
        tried[cap] = float(np.sqrt(np.mean(error**2)))
    best = min(tried, key=lambda cap: tried[cap])
    return best, {f"{cap:g}": round(error, 3) for cap, error in tried.items()}


def _rounded(value: float) -> float:
    """To three digits: more would only pretend."""
    return float(f"{value:.3g}")


def _exported(grown: HistGradientBoostingRegressor) -> Trees:
    """The trees as arrays. What is read here is private to scikit-learn: a test compares the predictions."""
    nodes = [stage[0].nodes for stage in grown._predictors]
    firsts = np.cumsum([0, *(len(tree) for tree in nodes)])
    every = np.concatenate(nodes)
    offset = np.repeat(firsts[:-1], [len(tree) for tree in nodes])
    own = np.arange(len(every))
    leaf = every["is_leaf"].astype(bool)
    return Trees(
        firsts[:-1].astype(np.int32),
        np.where(leaf, 0, every["feature_idx"]).astype(np.int32),
        np.where(leaf, 0.0, every["num_threshold"]).astype(np.float64),
        every["missing_go_to_left"].astype(bool),
        np.where(leaf, own, every["left"] + offset).astype(np.int32),
        np.where(leaf, own, every["right"] + offset).astype(np.int32),
        np.where(leaf, every["value"], 0.0).astype(np.float64),
        float(np.ravel(grown._baseline_prediction)[0]),
    )


def _report(
    held_out: Floats, true: Floats, unit: Units, cap: float, tried: dict[str, float]
) -> dict[str, Any]:
    error = held_out - np.minimum(true, cap)
    capped, whole = coverage(held_out, true, unit, cap)
    return {
        "units": int(unit.max() + 1),
        "rows": len(true),
        "cap": cap,
        "caps_tried": tried,
        "rmse": round(float(np.sqrt(np.mean(error**2))), 3),
        "mae": round(float(np.abs(error).mean()), 3),
        "interval": COVERAGE,
        "coverage": round(capped, 4),
        "coverage_not_capped": round(whole, 4),
        "scikit_learn": sklearn.__version__,
    }


def coverage(held_out: Floats, true: Floats, unit: Units, cap: float) -> tuple[float, float]:
    """The share of rows inside intervals that other units calibrated: of what is left, capped and not."""
    inside = np.empty((2, len(true)), dtype=bool)
    for out in _folds(unit):
        low, high = calibrate(held_out[~out], true[~out], unit[~out], cap).around(held_out[out])
        for row, told in enumerate((np.minimum(true[out], cap), true[out])):
            inside[row, out] = (told >= low) & (told <= high)
    capped, whole = inside.mean(axis=1)
    return float(capped), float(whole)
