"""The plainest score: how far the smoothed level of each steady tag is from its learned mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent_models.arrays import Arrays, Bools, Floats, fields_of, taken

_FIELDS = ("mean", "spread", "steady")


@dataclass(frozen=True)
class LevelScore:
    """Largest |z| of window means over the steady tags."""

    mean: Floats
    """(tags,) mean of the learned window means, in standardised residuals."""
    spread: Floats
    """(tags,) their standard deviation; infinite for a tag that cannot be judged."""
    steady: Bools
    """(tags,) whether the tag's level counts."""

    def deviations(self, window_mean: Floats) -> Floats:
        """z of one window mean (tags,), or of many (n, tags), for every tag; NaN where missing."""
        z: Floats = (window_mean - self.mean) / self.spread
        return z

    def score(self, deviations: Floats) -> Floats:
        """Largest |z| over the steady tags that are there: (), or (n,) for many rows; 0 where none is."""
        judged = np.where(self.steady & np.isfinite(deviations), np.abs(deviations), 0.0)
        largest: Floats = judged.max(axis=-1, initial=0.0)
        return largest

    def shares(self, deviations: Floats) -> Floats:
        """(tags,) each steady tag's share of the sum of z²."""
        return normalised(np.where(self.steady & np.isfinite(deviations), deviations**2, 0.0))

    def save(self) -> Arrays:
        """The model as arrays."""
        return fields_of(self, _FIELDS)


def fit_level(window_means: Floats, steady: Bools, usable: Bools, floor: Floats) -> LevelScore:
    """Learn from window means (n, tags); `floor` (tags,) is the least spread each can be known to."""
    there = np.where(np.isfinite(window_means), window_means, 0.0)
    count = np.maximum(np.isfinite(window_means).sum(axis=0), 1)
    mean = there.sum(axis=0) / count
    square = np.where(np.isfinite(window_means), (window_means - mean) ** 2, 0.0).sum(axis=0) / count
    spread = np.maximum(np.sqrt(square), floor)
    spread = np.where(usable & (spread > 0), spread, np.inf)
    return LevelScore(mean, spread, steady & np.isfinite(spread))


def load_level(arrays: Arrays) -> LevelScore:
    """The model from what `save` gave. ModelError where something is missing."""
    return LevelScore(taken(arrays, "mean"), taken(arrays, "spread"), taken(arrays, "steady"))


def normalised(weights: Floats) -> Floats:
    """Non-negative weights as shares that add up to 1 (or all 0)."""
    total = weights.sum()
    return weights / total if total > 0 else weights
