"""Innovation of a ridge vector autoregression: what the last rows did not lead one to expect.

It sees a broken correlation or a changed dynamic before any level has left its band.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent_models.arrays import Arrays, Floats, Ints, fields_of, taken
from edge_agent_models.level import normalised
from edge_agent_models.windows import whole_windows

ORDER = 3
_STRENGTH = 10.0
_FIELDS = ("coef", "offset", "precision")


@dataclass(frozen=True)
class Innovation:
    """VAR(3) on standardised residuals, and the Mahalanobis distance of its one-step error."""

    coef: Floats
    """(3 * tags, tags), newest lag first."""
    offset: Floats
    """(tags,) mean of the learned innovations."""
    precision: Floats
    """(tags, tags) inverse of their shrunk covariance."""

    def expect(self, past: Floats) -> Floats:
        """(tags,) expected from the past rows (3, tags), newest first, without NaN."""
        expected: Floats = past.ravel() @ self.coef + self.offset
        return expected

    def score(self, error: Floats) -> float:
        """Mean squared Mahalanobis distance of one innovation (tags,)."""
        return max(0.0, float(error @ self.precision @ error)) / max(1, len(error))

    def shares(self, error: Floats) -> Floats:
        """(tags,) e_j (P e)_j as shares; what a correlated tag takes off another's share counts as none."""
        return normalised(np.maximum(error * (self.precision @ error), 0.0))

    def save(self) -> Arrays:
        """The model as arrays."""
        return fields_of(self, _FIELDS)


def fit_innovation(rows: Floats, segments: Ints) -> tuple[Innovation, Floats, Ints]:
    """Learn from standardised residuals (n, tags) with NaN as 0, in segments (n,).

    Returns the model, its in-sample scores and the rows they belong to.
    """
    ends = whole_windows(segments, ORDER + 1)
    past = np.hstack([rows[ends - lag] for lag in range(1, ORDER + 1)])
    now = rows[ends]
    gram = past.T @ past + _STRENGTH * np.eye(past.shape[1])
    coef = np.asarray(np.linalg.solve(gram, past.T @ now), dtype=np.float64)
    errors = now - past @ coef
    offset = errors.mean(axis=0) if len(errors) else np.zeros(rows.shape[1])
    errors = errors - offset
    precision = np.asarray(np.linalg.inv(shrunk_covariance(errors)), dtype=np.float64)
    model = Innovation(coef, offset, precision)
    distance = ((errors @ precision) * errors).sum(axis=1) / max(1, rows.shape[1])
    return model, np.maximum(distance, 0.0), ends


def shrunk_covariance(errors: Floats) -> Floats:
    """Ledoit and Wolf's covariance (2004) of centred rows (n, p): drawn to a multiple of the identity."""
    n, p = errors.shape
    if n < 2:
        return np.eye(p)
    sample = errors.T @ errors / n
    mu = np.trace(sample) / p
    delta = ((sample - mu * np.eye(p)) ** 2).sum() / p
    square = errors**2
    beta = ((square.T @ square).sum() / n - (sample**2).sum()) / (n * p)
    share = 0.0 if delta <= 0 else min(1.0, max(0.0, beta / delta))
    shrunk: Floats = (1 - share) * sample + (share * mu + 1e-6) * np.eye(p)
    return shrunk


def load_innovation(arrays: Arrays) -> Innovation:
    """The model from what `save` gave. ModelError where something is missing."""
    return Innovation(*(np.asarray(taken(arrays, name), dtype=np.float64) for name in _FIELDS))
