"""What a tag should read, from the other tags at the same moment: the witness against a stuck sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent_models.arrays import Arrays, Floats, fields_of, taken

_STRENGTH = 0.05
_FIELDS = ("coef", "spread")


@dataclass(frozen=True)
class Parity:
    """Ridge regression of every tag on all the others, in standardised residuals."""

    coef: Floats
    """(tags, tags), row j predicts tag j; zero diagonal."""
    spread: Floats
    """(tags,) standard deviation of what is left."""

    def predict(self, row: Floats) -> Floats:
        """(tags,) expected from the others; a missing one says nothing."""
        expected: Floats = self.coef @ np.where(np.isfinite(row), row, 0.0)
        return expected

    def save(self) -> Arrays:
        """The model as arrays."""
        return fields_of(self, _FIELDS)


def fit_parity(rows: Floats) -> Parity:
    """Learn from standardised residuals (n, tags), NaN as 0.

    One inverse gives all the regressions: the coefficients of tag j are -P_ji / P_jj of the precision matrix.
    """
    count, tags = rows.shape
    covariance = rows.T @ rows / max(1, count) + _STRENGTH * np.eye(tags)
    precision = np.linalg.inv(covariance)
    coef = -precision / np.diag(precision)[:, None]
    np.fill_diagonal(coef, 0.0)
    left = rows - rows @ coef.T
    return Parity(coef, np.sqrt((left**2).mean(axis=0)))


def load_parity(arrays: Arrays) -> Parity:
    """The model from what `save` gave. ModelError where something is missing."""
    return Parity(*(np.asarray(taken(arrays, name), dtype=np.float64) for name in _FIELDS))
