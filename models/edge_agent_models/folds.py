"""Parts of the learning time that take turns in being left out: what a part could not foresee is honest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edge_agent_models.arrays import Bools, Ints

FOLDS = 5


def folds(rows: int) -> Ints:
    """(rows,) which of five stretches of time each row lies in."""
    return np.arange(rows) * FOLDS // max(1, rows)


def turns(at: Ints, rows: int, apart: int) -> Iterator[tuple[Bools, Bools]]:
    """For each part: which of the rows `at` (m,) to learn from, and which of them to try it on.

    Rows nearer than `apart` to the part left out share values with it through their windows: neither.
    """
    part = folds(rows)
    for fold in range(FOLDS):
        inside = np.flatnonzero(part == fold)
        if not len(inside):
            continue
        tried = (at >= inside[0]) & (at <= inside[-1])
        yield (at < inside[0] - apart) | (at > inside[-1] + apart), tried
