"""Statistics over what is there: NaN counts for nothing, a column of nothing gives NaN without a warning."""

from __future__ import annotations

import numpy as np

from edge_agent_models.arrays import Floats


def mean_there(rows: Floats) -> Floats:
    """(columns,) means of (n, columns)."""
    there = np.isfinite(rows)
    count = there.sum(axis=0)
    total = np.where(there, rows, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def rms_there(rows: Floats) -> Floats:
    """(columns,) root mean squares of (n, columns)."""
    there = np.isfinite(rows)
    count = there.sum(axis=0)
    total = (np.where(there, rows, 0.0) ** 2).sum(axis=0)
    return np.where(count > 0, np.sqrt(total / np.maximum(count, 1)), np.nan)


def spread_there(rows: Floats) -> Floats:
    """(columns,) standard deviations of (n, columns)."""
    return rms_there(rows - mean_there(rows))
