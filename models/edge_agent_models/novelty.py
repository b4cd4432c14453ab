"""Novelty: the distance of the smoothed state to the nearest learned states, whatever shape they form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent_models.arrays import Arrays, Floats, Ints, fields_of, taken
from edge_agent_models.level import normalised

NEIGHBOURS = 5
PROTOTYPES = 400


@dataclass(frozen=True)
class Novelty:
    """Mean distance to the 5 nearest of at most 400 prototypes of z (see `LevelScore`) of the steady tags."""

    prototypes: Floats
    """(prototypes, steady tags)."""

    def score(self, state: Floats) -> tuple[float, Floats]:
        """Novelty of one state (steady tags,), NaN left out and made up for; and each tag's share of it."""
        there = np.isfinite(state)
        if not there.any():
            return 0.0, np.zeros(len(state))
        difference = np.where(there, self.prototypes - np.where(there, state, 0.0), 0.0)
        square = difference**2
        distance = square.sum(axis=1) * (len(state) / there.sum())
        count = min(NEIGHBOURS, len(distance))
        nearest = np.argpartition(distance, count - 1)[:count]
        return float(np.sqrt(distance[nearest]).mean()), normalised(square[nearest].mean(axis=0))

    def save(self) -> Arrays:
        """The model as arrays."""
        return fields_of(self, ("prototypes",))


def fit_novelty(states: Floats, times: Ints, apart: int) -> tuple[Novelty, Floats]:
    """Learn prototypes from states (n, steady tags) without NaN at row numbers `times` (n,).

    Returns the model and (n,) in-sample scores, for which neighbours less than `apart` rows away are left
    out: their windows overlap, and a row would be its own witness.
    """
    stride = max(1, -(-len(states) // PROTOTYPES))
    chosen = np.arange(0, len(states), stride)
    prototypes = states[chosen]
    scores = np.zeros(len(states))
    for start in range(0, len(states), 512):
        part = slice(start, start + 512)
        distance = _squares(states[part], prototypes)
        close = np.abs(times[part, None] - times[None, chosen]) < apart
        distance[close] = np.inf
        count = min(NEIGHBOURS, distance.shape[1])
        nearest = np.sqrt(np.partition(distance, count - 1, axis=1)[:, :count])
        finite = np.isfinite(nearest)
        total = np.where(finite, nearest, 0.0).sum(axis=1)
        scores[part] = total / np.maximum(finite.sum(axis=1), 1)
    return Novelty(prototypes), scores


def _squares(left: Floats, right: Floats) -> Floats:
    cross = left @ right.T
    distance = (left**2).sum(axis=1)[:, None] - 2 * cross + (right**2).sum(axis=1)
    positive: Floats = np.maximum(distance, 0.0)
    return positive


def load_novelty(arrays: Arrays) -> Novelty:
    """The model from what `save` gave. ModelError where something is missing."""
    return Novelty(np.asarray(taken(arrays, "prototypes"), dtype=np.float64))
