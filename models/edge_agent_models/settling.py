"""How uncertain each tag is after a start, learned from the starts the machine was seen to make.

A cold machine follows its context less well than a warm one. So limits are wider, tag by tag, for as long
after a start as the residuals were seen to be larger; what does not care about starts is judged at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent_models.arrays import Arrays, Floats, fields_of, taken
from edge_agent_models.missing import rms_there

_EDGES = np.array([900.0, 1800.0, 3600.0, 7200.0])
"""Ends of the stretches after a start, seconds."""
_LEAST = 4
_ENOUGH = 30
_MOST = 10.0
UNSEEN = 3600.0
"""Seconds not judged after a start where no start was seen while learning: a motor's slowest temperatures."""


@dataclass(frozen=True)
class Settling:
    """Factors on each tag's standard deviation after a start."""

    factors: Floats
    """(stretches + 1, tags), the last row 1: settled."""
    hold: float
    """Seconds after a start that are not judged at all."""

    def widen(self, since: float) -> Floats:
        """(tags,) factors `since` seconds after the start (infinite: none was seen)."""
        factors: Floats = self.factors[int(np.searchsorted(_EDGES, since, side="right"))]
        return factors

    def widen_many(self, since: Floats) -> Floats:
        """(n, tags) factors for n rows."""
        factors: Floats = self.factors[np.searchsorted(_EDGES, since, side="right")]
        return factors

    def save(self) -> Arrays:
        """The model as arrays."""
        return fields_of(self, ("factors", "hold"))


def load_settling(arrays: Arrays) -> Settling:
    """The model from what `save` gave. ModelError where something is missing."""
    return Settling(np.asarray(taken(arrays, "factors"), dtype=np.float64), float(taken(arrays, "hold")))


def fit_settling(residuals: Floats, since: Floats) -> tuple[Settling, Floats]:
    """Learn from residuals (n, tags) and seconds since the start (n,): the model, and each settled scale.

    A stretch with too few rows is taken to be like the one after it, which is calmer if anything: the
    factors never fall towards the start.
    """
    settled = since >= _EDGES[-1]
    if settled.sum() < _ENOUGH:
        settled = np.ones(len(since), dtype=bool)
    scale = np.nan_to_num(rms_there(residuals[settled]))
    factors = np.ones((len(_EDGES) + 1, residuals.shape[1]))
    stretch = np.searchsorted(_EDGES, since, side="right")
    for index in range(len(_EDGES) - 1, -1, -1):
        rows = residuals[(stretch == index) & ~settled]
        factors[index] = factors[index + 1]
        if len(rows) >= _LEAST:
            seen = np.nan_to_num(rms_there(rows)) / np.where(scale > 0, scale, np.inf)
            factors[index] = np.clip(np.maximum(seen, factors[index + 1]), 1.0, _MOST)
    return Settling(factors, 0.0 if np.isfinite(since).any() else UNSEEN), scale
