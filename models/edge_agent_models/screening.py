"""Which tags hold still enough, while learning, for their level to mean something."""

from __future__ import annotations

import numpy as np

from edge_agent_models.arrays import Bools, Floats
from edge_agent_models.missing import mean_there, spread_there

BLOCKS = 8
DRIFT = 1.13
"""Tags whose drift ratio is above this are not judged by level.

On the 400 rows of a SKAB file this is what was measured best there (a drift of 8 standard errors of a block's
mean); as a ratio of deviations it means the same however many rows there are.
"""


def drift_ratio(residuals: Floats) -> Floats:
    """(tags,) how far the means of 8 blocks of time scatter, over the scatter within a block.

    `residuals`: (n, tags), NaN where missing. Near 0 for noise, above 1 for a tag that wanders further over
    the learning time than it moves within an eighth of it: its level then says little about tomorrow's.
    """
    blocks = np.array_split(residuals, BLOCKS)
    between = spread_there(np.array([mean_there(block) for block in blocks]))
    within = mean_there(np.array([spread_there(block) for block in blocks]))
    return np.where(within > 0, between / np.where(within > 0, within, 1.0), 0.0)


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
