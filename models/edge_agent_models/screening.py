"""Which tags hold still enough, while learning, for their level to mean something."""

from __future__ import annotations

import numpy as np

from edge_agent_models.arrays import Bools, Floats
from edge_agent_models.missing import mean_there, spread_there

BLOCKS = 8
DRIFT = 8.0
"""Tags whose drift ratio is above this are not judged by level (measured: ../shared notes, SKAB)."""


def drift_ratio(residuals: Floats) -> Floats:
    """(tags,) how much more the means of 8 blocks of time scatter than rows without drift would let them.

    `residuals`: (n, tags), NaN where missing. sd(block means) / (mean sd within a block / sqrt(n/8)); around
    1 for white noise, 0 for a tag that does not move at all.
    """
    blocks = np.array_split(residuals, BLOCKS)
    means = np.array([mean_there(block) for block in blocks])
    within = mean_there(np.array([spread_there(block) for block in blocks]))
    expected = within / np.sqrt(len(residuals) / BLOCKS)
    between = spread_there(means)
    return np.where(expected > 0, between / np.where(expected > 0, expected, 1.0), 0.0)


def steady(residuals: Floats, usable: Bools) -> Bools:
    """(tags,) the usable tags whose level may be judged: those that do not drift, and never less than two."""
    ratio = np.where(usable, drift_ratio(residuals), np.inf)
    kept: Bools = ratio <= DRIFT
    if kept.sum() < min(2, usable.sum()):
        kept[np.argsort(ratio, kind="stable")[: min(2, int(usable.sum()))]] = True
    return kept & usable


def quantum(values: Floats) -> Floats:
    """(tags,) the smallest step each tag was seen to make, 0 where it never moved; (n, tags) with NaN."""
    steps = np.abs(np.diff(values, axis=0))
    steps = np.where(steps > 0, steps, np.inf)
    smallest = steps.min(axis=0, initial=np.inf)
    return np.where(np.isfinite(smallest), smallest, 0.0)
