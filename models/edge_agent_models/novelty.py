"""Novelty: the distance of the smoothed state to the nearest learned states, whatever shape they form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent_models.arrays import Arrays, Floats, Ints, fields_of, taken
from edge_agent_models.folds import turns
from edge_agent_models.level import normalised

NEIGHBOURS = 5
PROTOTYPES = 400


@dataclass(frozen=True)
class Novelty:
    """Mean distance to the 5 nearest of at most 400 prototypes of z (see `LevelScore`) of the steady tags."""

    prototypes: Floats
    """(prototypes, steady tags)."""
    sizes: Floats
    """(prototypes,) their squared lengths."""

    def score(self, state: Floats) -> tuple[float, Floats]:
        """Novelty of one state (steady tags,), NaN left out and made up for; and each tag's share of it."""
        there = np.isfinite(state)
        count = int(there.sum())
        if not count:
            return 0.0, np.zeros(len(state))
        if count == len(state):
            square = self.sizes - 2.0 * (self.prototypes @ state) + state @ state
        else:
            apart = np.where(there, self.prototypes - state, 0.0)
            square = (apart**2).sum(axis=1) * (len(state) / count)
        some = min(NEIGHBOURS, len(square))
        nearest = np.argpartition(square, some - 1)[:some]
        away = np.where(there, self.prototypes[nearest] - state, 0.0) ** 2
        distance = float(np.sqrt(np.maximum(square[nearest], 0.0)).sum()) / some
        return distance, normalised(away.sum(axis=0))

    def save(self) -> Arrays:
        """The model as arrays."""
        return fields_of(self, ("prototypes",))


def fit_novelty(states: Floats, times: Ints, rows: int, apart: int) -> tuple[Novelty, Floats]:
    """Learn prototypes from states (n, steady tags) without NaN at row numbers `times` (n,) of `rows`.

    Returns the model and (n,) scores, each by prototypes of the other parts of the learning time, at least
    `apart` rows away: a row would be its own witness.
    """
    stride = max(1, -(-len(states) // PROTOTYPES))
    chosen = np.arange(0, len(states), stride)
    prototypes = states[chosen]
    scores = np.zeros(len(states))
    for learned, tried in turns(times, rows, apart):
        known = prototypes[learned[chosen]]
        if not len(known) or not tried.any():
            continue
        distance = np.sqrt(_squares(states[tried], known))
        count = min(NEIGHBOURS, len(known))
        scores[tried] = np.partition(distance, count - 1, axis=1)[:, :count].mean(axis=1)
    return _made(prototypes), scores


def _made(prototypes: Floats) -> Novelty:
    return Novelty(prototypes, (prototypes**2).sum(axis=1))


def _squares(left: Floats, right: Floats) -> Floats:
    cross = left @ right.T
    distance = (left**2).sum(axis=1)[:, None] - 2 * cross + (right**2).sum(axis=1)
    positive: Floats = np.maximum(distance, 0.0)
    return positive


def load_novelty(arrays: Arrays) -> Novelty:
    """The model from what `save` gave. ModelError where something is missing."""
    return _made(np.asarray(taken(arrays, "prototypes"), dtype=np.float64))
