"""What context explains is taken out before anything is judged, and what context never was is noticed.

A ridge regression of every tag on the lagged context (see `lags`), with hinges for what bends. Its strength
is chosen, and its worth tested, on parts of the learning time that it was not fitted on: a tag that context
does not help to predict is left alone. Beyond the learned range the straight part goes on and the limits
widen; they never tighten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edge_agent_models.arrays import Arrays, Bools, Floats, Ints, fields_of, median, taken
from edge_agent_models.lags import LAGS, lagged
from edge_agent_models.missing import mean_there, rms_there, spread_there

FOLDS = 5
_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
_WORTH = 0.03
"""Context must take away at least this share of a tag's out-of-fold variance to be used for it."""
_SEEN = 64
NOVEL = 0.1
"""A context value further than this share of the learned range from every learned one is new."""
NOTICE = 0.15
"""What is further than this beyond that is worth a word."""
_ALIKE = 25.0
"""Rows that say the same: neighbours are alike, so the regression knows less than its rows would make it."""
_KNOTS = (0.25, 0.5, 0.75)
_FIELDS = ("center", "knots", "mean", "scale", "coef", "inverse", "leverage", "low", "high", "seen", "sway")


class Outlook(NamedTuple):
    """What context means for one row."""

    explained: Floats
    """(tags,) what context explains of each, engineering units."""
    widen: Floats
    """(tags,) how many times wider limits are: 1 on familiar ground.

    NaN where nobody can say, because a context tag that never moved while learning does now.
    """
    novel: Bools
    """(context,) whether each context tag is at a value unlike any that was learned."""


@dataclass(frozen=True)
class ContextModel:
    """The learned influence of context. Arrays only; `features` below is what `scale` and `coef` go with."""

    center: Floats
    """(context,) learned means, around which squares are taken."""
    knots: Floats
    """(knots, context) where the hinges bend."""
    mean: Floats
    scale: Floats
    """(features,) standard deviations; infinite for a feature that did not move."""
    coef: Floats
    """(features, tags), for tags as they are minus their mean over the learning time."""
    inverse: Floats
    """(features, features): how little is known about each direction of the features."""
    leverage: Floats
    """() mean leverage of the learned rows."""
    low: Floats
    high: Floats
    seen: Floats
    """(64, context) quantiles of the learned values."""
    sway: Floats
    """(tags,) standard deviation of what context explains over that of what it leaves."""

    def outlook(self, raw: Floats) -> Outlook:
        """What context means for one row (lagged,)."""
        z = self._standard(raw[None])
        away = self._away(raw)
        if np.isfinite(away).all():
            # Beyond what was learned a tag may not go on as straight as it is taken to, the more so the more
            # context moves it; that adds to the doubt about the straight part.
            bent = self.sway * float(away.max(initial=0.0))
            widen = np.sqrt(self._doubt(z)[0] ** 2 + bent**2)
        else:
            widen = np.full(len(self.sway), np.nan)
        return Outlook((z @ self.coef)[0], widen, away > NOTICE)

    def predict_many(self, raw: Floats) -> Floats:
        """(n, tags) what context explains of n rows (n, lagged)."""
        explained: Floats = self._standard(raw) @ self.coef
        return explained

    def doubt_many(self, raw: Floats) -> Floats:
        """(n, tags) standard errors of prediction at n rows (n, lagged), over the usual one; at least 1."""
        return self._doubt(self._standard(raw))

    def _doubt(self, z: Floats) -> Floats:
        leverage = ((z @ self.inverse) * z).sum(axis=1)
        wider = np.sqrt(np.maximum(1.0, (1.0 + _ALIKE * leverage) / (1.0 + _ALIKE * float(self.leverage))))
        return np.where(self.sway > 0, wider[:, None], 1.0)

    def _standard(self, raw: Floats) -> Floats:
        z = (features(raw, self.center, self.knots) - self.mean) / self.scale
        return np.where(np.isfinite(z), z, 0.0)

    def _away(self, raw: Floats) -> Floats:
        """(context,) distance from the nearest learned value, in learned ranges, less what is familiar."""
        now = raw[: len(self.center)]
        if not now.size:
            return np.zeros(0)
        span = self.high - self.low
        nearest = np.abs(self.seen - now).min(axis=0)
        moved = nearest > 0.02 * np.abs(self.center) + 1e-9
        fixed = np.where(moved, np.inf, 0.0)
        share = np.maximum(nearest / np.where(span > 0, span, 1.0) - NOVEL, 0.0)
        return np.where(np.isfinite(now), np.where(span > 0, share, fixed), 0.0)

    def save(self) -> Arrays:
        """The model as arrays."""
        return fields_of(self, _FIELDS)


def load_context(arrays: Arrays) -> ContextModel:
    """The model from what `save` gave. ModelError where something is missing."""
    return ContextModel(**{name: np.asarray(taken(arrays, name), dtype=np.float64) for name in _FIELDS})


def features(raw: Floats, center: Floats, knots: Floats) -> Floats:
    """(n, lagged) from `Lags` -> (n, features): squares around the learned mean, hinges on the present."""
    row = lagged(raw)
    again = np.concatenate([center] * len(LAGS))
    bent = [np.maximum(row.inside - knot, 0.0) for knot in knots]
    parts = [
        row.now,
        row.square - 2 * center * row.inside + center**2,
        row.linear,
        row.squares - 2 * again * row.inner + again**2,
        *bent,
        row.ran,
    ]
    return np.concatenate(parts, axis=1)


def fit_context(raw: Floats, values: Floats) -> tuple[ContextModel, Floats]:
    """Learn the influence of context, and what it leaves.

    `raw`: (n, lagged) features of `Lags`; `values`: (n, tags) with NaN where missing. Returns the model and
    the residuals (n, tags). Where context is used they are out of fold, so that they are as large as those
    of rows nobody has seen yet.
    """
    now = lagged(raw).now
    known = np.where(np.isfinite(now), now, np.nan_to_num(mean_there(now)))
    center, low, high = known.mean(axis=0), known.min(axis=0), known.max(axis=0)
    knots = np.quantile(known, _KNOTS, axis=0)
    table = features(raw, center, knots)
    mean, scale = np.nan_to_num(mean_there(table)), np.nan_to_num(spread_there(table))
    scale = np.where(scale > 1e-9 * (1.0 + np.abs(mean)), scale, np.inf)
    z = (table - mean) / scale
    z = np.where(np.isfinite(z), z, 0.0)
    coef, residuals, strength = _fit_tags(z, values - mean_there(values))
    inverse = np.asarray(np.linalg.inv(z.T @ z + max(strength, 1.0) * np.eye(z.shape[1])), dtype=np.float64)
    leverage = ((z @ inverse) * z).sum(axis=1).mean()
    seen = np.quantile(known, np.linspace(0, 1, _SEEN), axis=0)
    left = np.nan_to_num(rms_there(residuals))
    sway = (z @ coef).std(axis=0) / np.where(left > 0, left, np.inf)
    model = ContextModel(
        center, knots, mean, scale, coef, inverse, np.asarray(leverage), low, high, seen, sway
    )
    return model, residuals


def _fit_tags(z: Floats, values: Floats) -> tuple[Floats, Floats, float]:
    """Ridge per tag with its strength chosen by folds: coefficients, residuals, the median strength."""
    rows, tags = values.shape
    coef, residuals = np.zeros((z.shape[1], tags)), values.copy()
    if not z.any():
        return coef, residuals, 1.0
    weight = np.isfinite(values)
    filled = np.where(weight, values, 0.0)
    folds = np.arange(rows) * FOLDS // rows
    held_out = np.stack([_out_of_fold(z, filled, weight, folds, s) for s in _STRENGTHS])
    plain = _out_of_fold(np.zeros((rows, 1)), filled, weight, folds, 1.0)
    errors = [np.nan_to_num(rms_there(np.where(weight, part, np.nan))) for part in held_out]
    left = np.stack(errors) ** 2
    before = np.nan_to_num(rms_there(np.where(weight, plain, np.nan))) ** 2
    best = left.argmin(axis=0)
    useful = np.flatnonzero(left.min(axis=0) < (1.0 - _WORTH) * before)
    for tag in useful:
        rows_of = weight[:, tag]
        strength = _STRENGTHS[best[tag]]
        coef[:, tag] = _ridge(z[rows_of], filled[rows_of, tag : tag + 1], strength)[:, 0]
        residuals[:, tag] = np.where(rows_of, held_out[best[tag], :, tag], np.nan)
    return coef, residuals, float(median(np.array([_STRENGTHS[b] for b in best[useful]] or [1.0])))


def _out_of_fold(z: Floats, values: Floats, weight: Bools, folds: Ints, strength: float) -> Floats:
    """Residuals of every row from a ridge fitted without the row's part of the learning time."""
    residuals = np.empty_like(values)
    for fold in range(FOLDS):
        out = folds == fold
        inside = ~out
        mean = values[inside].sum(axis=0) / np.maximum(weight[inside].sum(axis=0), 1)
        centered = np.where(weight[inside], values[inside] - mean, 0.0)
        shift = z[inside].mean(axis=0)
        coef = _ridge(z[inside] - shift, centered, strength)
        residuals[out] = values[out] - mean - (z[out] - shift) @ coef
    return residuals


def _ridge(z: Floats, values: Floats, strength: float) -> Floats:
    return np.asarray(
        np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ values), dtype=np.float64
    )
