"""The learned normal of one machine: fitted once from a lesson, then only read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.errors import ModelError
from edge_agent_models.arrays import Arrays, Bools, Floats, Ints, below, prefixed, taken
from edge_agent_models.context import ContextModel, fit_context, load_context
from edge_agent_models.fusion import fuse
from edge_agent_models.innovation import Innovation, fit_innovation, load_innovation
from edge_agent_models.level import LevelScore, fit_level, load_level
from edge_agent_models.limits import budget_factor, own_limit
from edge_agent_models.missing import mean_there
from edge_agent_models.novelty import Novelty, fit_novelty, load_novelty
from edge_agent_models.parity import Parity, fit_parity, load_parity
from edge_agent_models.quality import moves_in_runs
from edge_agent_models.rhythm import window_rows
from edge_agent_models.screening import quantum, steady
from edge_agent_models.settling import Settling, fit_settling, load_settling
from edge_agent_models.windows import whole_windows, window_means, window_medians

CLIP = 12.0
"""Standardised residuals are clipped here: one wild row must not fill a window."""
LEAST_ROWS = 30
_MISSING = 0.5
"""A tag missing in more than this share of the learned rows is not judged."""


@dataclass(frozen=True)
class Baseline:
    """What is normal: level, scale, context, the three scores and their limits."""

    period: float
    """Seconds between rows."""
    window: int
    """Rows of the smoothing window."""
    middle: Floats
    """(tags,) mean over the learning time, engineering units."""
    scale: Floats
    """(tags,) standard deviation of what context does not explain; infinite for a tag not judged."""
    limits: Floats
    """(3,) level, innovation, novelty; (budget factor included)."""
    tag_limits: Floats
    """(tags,) each tag's own limit of |z|."""
    moves: Floats
    """(tags,) how far predictions moved while the tag repeated its value, engineering units."""
    context: ContextModel
    settling: Settling
    level: LevelScore
    innovation: Innovation
    novelty: Novelty
    parity: Parity

    @property
    def judged(self) -> Bools:
        """(tags,) the tags that can be judged at all: those that moved and were there."""
        return np.isfinite(self.scale)

    def deviations(self, since: float) -> Floats:
        """(tags,) standard deviation of each residual `since` seconds after a start, engineering units."""
        return self.scale * self.settling.widen(since)

    def standardised(self, values: Floats, explained: Floats, deviations: Floats) -> Floats:
        """(tags,) one row without what context explains, in (its widened) standard deviations, clipped."""
        return np.clip((values - self.middle - explained) / deviations, -CLIP, CLIP)

    def save(self) -> Arrays:
        """The baseline as arrays."""
        plain = {name: np.array(getattr(self, name)) for name in _PLAIN + _NUMBERS}
        for name in _PARTS:
            plain.update(prefixed(name, getattr(self, name).save()))
        return plain


_NUMBERS = ("period", "window")
_PLAIN = ("middle", "scale", "limits", "tag_limits", "moves")
_PARTS = ("context", "settling", "level", "innovation", "novelty", "parity")


def load_baseline(arrays: Arrays) -> Baseline:
    """The baseline from what `save` gave. ModelError where something is missing."""
    middle, scale, limits, tag_limits, moves = (
        np.asarray(taken(arrays, name), dtype=np.float64) for name in _PLAIN
    )
    return Baseline(
        float(taken(arrays, "period")),
        int(taken(arrays, "window")),
        middle,
        scale,
        limits,
        tag_limits,
        moves,
        load_context(below("context", arrays)),
        load_settling(below("settling", arrays)),
        load_level(below("level", arrays)),
        load_innovation(below("innovation", arrays)),
        load_novelty(below("novelty", arrays)),
        load_parity(below("parity", arrays)),
    )


def fit_baseline(
    values: Floats, lagged: Floats, segments: Ints, since: Floats, period: float, per_day: float
) -> Baseline:
    """Learn the normal from n rows.

    `values`: (n, tags) in engineering units, NaN where missing; `lagged`: (n, features) of `Lags`;
    `segments`: (n,) changes where neighbours are not; `since`: (n,) seconds since the last start; `period`:
    seconds between rows; `per_day`: the budget of false alerts. ModelError where there is too little.
    """
    usable = _usable(values)
    if not usable.any():
        raise ModelError("no tag moved while learning: nothing to judge; check that the machine was running")
    steps = quantum(values)
    context, residuals = fit_context(lagged, values)
    residuals = residuals / context.doubt_many(lagged)
    settling, scale = fit_settling(residuals, since)
    scale = np.maximum(scale, steps / np.sqrt(12.0))
    scale = np.where(usable & (scale > 0), scale, np.inf)
    rows = np.clip(residuals / (scale * settling.widen_many(since)), -CLIP, CLIP)
    window = window_rows(period)
    steady_tags = steady(np.where(np.isfinite(scale), rows, np.nan), usable)
    floor = np.where(np.isfinite(scale), 0.5 * steps / scale, 1.0)
    scores = _fit_scores(rows, segments, window, steady_tags, usable, floor)
    limits = np.array([own_limit(smoothed) for smoothed in scores.smoothed.T])
    ratios = fuse(scores.smoothed / limits)
    limits = limits * budget_factor(ratios, segments[scores.ends], period, per_day)
    parity = fit_parity(np.where(np.isfinite(rows), rows, 0.0))
    middle = np.nan_to_num(mean_there(values))
    moves = _learned_moves(values, lagged, context, parity, middle, scale)
    return Baseline(
        period, window, middle, scale, limits, scores.tag_limits, moves,
        context, settling, scores.level, scores.innovation, scores.novelty, parity,
    )  # fmt: skip


@dataclass(frozen=True)
class _Scores:
    level: LevelScore
    innovation: Innovation
    novelty: Novelty
    smoothed: Floats
    """(m, 3) learned scores, smoothed as they will be when streaming."""
    ends: Ints
    tag_limits: Floats


def _fit_scores(
    rows: Floats, segments: Ints, window: int, steady_tags: Bools, usable: Bools, floor: Floats
) -> _Scores:
    ends = whole_windows(segments, window)
    if len(ends) < LEAST_ROWS:
        raise ModelError(
            f"{len(ends)} whole windows of {window} rows are too few to learn from, {LEAST_ROWS} are needed: "
            "learn longer, or look for what interrupts the rows"
        )
    level = fit_level(window_means(rows, ends, window), steady_tags, usable, floor)
    deviations = level.deviations(window_means(rows, ends, window))
    innovation, errors, error_ends = fit_innovation(np.where(np.isfinite(rows), rows, 0.0), segments)
    states = np.where(np.isfinite(deviations), deviations, 0.0)[:, level.steady]
    novelty, distances = fit_novelty(states, ends, 2 * window)
    raw = np.full((len(rows), 3), np.nan)
    raw[ends, 0], raw[error_ends, 1], raw[ends, 2] = level.score(deviations), errors, distances
    whole = whole_windows(segments, window)
    whole = whole[[bool(np.isfinite(raw[end - window + 1 : end + 1]).all()) for end in whole]]
    if not len(whole):
        raise ModelError("the rows are interrupted too often to learn from: no stretch is long enough")
    smoothed = np.column_stack([window_medians(raw[:, score], whole, window) for score in range(3)])
    largest = np.where(np.isfinite(deviations), np.abs(deviations), 0.0).max(axis=0)
    return _Scores(level, innovation, novelty, smoothed, whole, np.maximum(3.5, 1.2 * largest))


def _usable(values: Floats) -> Bools:
    there = np.isfinite(values)
    spread = np.where(there, values, -np.inf).max(axis=0) > np.where(there, values, np.inf).min(axis=0)
    usable: Bools = spread & (there.mean(axis=0) >= 1.0 - _MISSING)
    return usable


def _learned_moves(
    values: Floats, lagged: Floats, context: ContextModel, parity: Parity, middle: Floats, scale: Floats
) -> Floats:
    finite = np.where(np.isfinite(scale), scale, 0.0)
    explained = middle + context.predict_many(lagged)
    row = np.where(finite > 0, (values - explained) / np.where(finite > 0, finite, 1.0), 0.0)
    row = np.clip(np.where(np.isfinite(row), row, 0.0), -CLIP, CLIP)
    return moves_in_runs(values, explained + finite * (row @ parity.coef.T))
