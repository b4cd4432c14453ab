"""Where a fast score stops being normal: its own limit, wider the smaller the budget of false alarms."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from edge_agent_models.arrays import Floats
from edge_agent_models.rhythm import PERSIST_ROWS, PERSIST_SECONDS

_QUANTILE = 0.999
_MARGIN = 1.3
"""For one false alarm a quarter; see `margin`."""
_QUARTER = 1 / 91.3125
PROVISIONAL = 2.0
"""How much wider limits are until the baseline is established."""

STRANGE = 2.0
"""From this ratio on a machine in an unknown regime is anomalous all the same."""


def own_limit(scores: Floats, margin: float) -> float:
    """The limit of one smoothed score: `margin` beyond q.999 of its learned values (n,).

    Each value must come from a model that had not learned from it.
    """
    if not len(scores):
        return 1.0
    return max(float(np.quantile(scores, _QUANTILE)) * margin, 1e-6)


def margin(per_day: float, period: float) -> float:
    """How far beyond the learned scores the limits lie for `per_day` false alarms, rows `period` s apart.

    A few hundred or thousand learned rows cannot show how a fused score behaves once a quarter. So the margin
    for one a quarter was measured, and another budget moves it as the tail of a normal law would: an alert
    has as many chances a day as persistence leaves.
    """
    lasting = max(PERSIST_SECONDS, PERSIST_ROWS * period)

    def far(rate: float) -> float:
        return -NormalDist().inv_cdf(min(0.1, rate * lasting / 86_400.0))

    return _MARGIN * far(per_day) / far(_QUARTER)
