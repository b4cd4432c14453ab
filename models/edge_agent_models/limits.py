"""Where a score stops being normal: its own limit, and a budget of false alarms over all of them."""

from __future__ import annotations

import math

import numpy as np

from edge_agent_models.arrays import Floats, Ints
from edge_agent_models.rhythm import persistence_rows
from edge_agent_models.windows import whole_windows, window_minima

_QUANTILE = 0.999
_MARGIN = 1.6
_EULER = 0.5772
_LEAST_SPREAD = 0.03
"""Least Gumbel scale as a share of the mean block maximum: six quiet blocks prove little about the tail."""
_MOST = 1.5
"""The tail model may raise a limit, by no more than half: what it asks beyond that is extrapolation."""
PROVISIONAL = 2.0
"""How much wider limits are until the baseline is established."""

STRANGE = 2.0
"""From this ratio on a machine in an unknown regime is anomalous all the same."""


def own_limit(scores: Floats) -> float:
    """The limit of one smoothed score from its learned values (n,): q.999 x 1.6."""
    if not len(scores):
        return 1.0
    return max(float(np.quantile(scores, _QUANTILE)) * _MARGIN, 1e-6)


def budget_factor(fused: Floats, segments: Ints, period: float, per_day: float) -> float:
    """How much all limits must be raised for at most `per_day` false alerts a day, 1 to 1.5.

    `fused`: (n,) ratios to the limit while learning, in `segments` (n,), rows `period` seconds apart. An
    alert needs the ratio to last (see `persistence_rows`), so the tail is that of its running minimum: a
    Gumbel law by probability-weighted moments on the maxima of blocks of time.
    """
    last = persistence_rows(period)
    ends = whole_windows(segments, last)
    block = max(20, 4 * last)
    if len(ends) < 3 * block or per_day <= 0:
        return 1.0
    lasting = window_minima(fused, ends, last)
    count = len(lasting) // block
    maxima = np.sort(lasting[: count * block].reshape(count, block).max(axis=1))
    mean = float(maxima.mean())
    weighted = float((maxima * np.arange(count)).sum() / (count * (count - 1)))
    scale = max((2 * weighted - mean) / math.log(2), _LEAST_SPREAD * mean)
    blocks_per_alert = 86_400 / per_day / (period * block)
    level = mean - _EULER * scale + scale * math.log(max(blocks_per_alert, 1.0))
    return float(np.clip(level, 1.0, _MOST))
