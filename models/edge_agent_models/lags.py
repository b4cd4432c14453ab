"""What context tags and the running state were lately: first-order lags, streaming.

A winding follows the load of the last minutes, an oil tank the hall of the last hours, and both are cold
after a night off. Each context tag is followed at 10 minutes, 45 minutes and 3 hours, and so is the running
state; the squares are followed too, because power goes with speed more steeply than in a straight line.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent_models.arrays import Arrays, Floats, fields_of, restore

LAGS = np.array([600.0, 2700.0, 10_800.0])
"""Time constants in seconds: small frames and sensors, motors and bearings, tanks and halls."""
_FIELDS = ("held", "linear", "inner", "square", "ran", "low", "high", "missing")


class Lagged(NamedTuple):
    """Views into n rows of lagged context, as `Lags.step` lays them out."""

    now: Floats
    """(n, context)."""
    inside: Floats
    """(n, context) held within what was learned: what bends must not run away beyond it."""
    square: Floats
    """(n, context) squares of `inside`."""
    linear: Floats
    """(n, lags * context) averages of `now`."""
    inner: Floats
    squares: Floats
    ran: Floats
    """(n, lags) averages of the running state."""


def lagged(raw: Floats) -> Lagged:
    """The parts of (n, width) rows."""
    count = (raw.shape[1] - len(LAGS)) // (3 * (1 + len(LAGS)))
    ends = [0, count, 2 * count, 3 * count]
    ends += [end + ends[-1] for end in (count * len(LAGS), 2 * count * len(LAGS), 3 * count * len(LAGS))]
    return Lagged(*(raw[:, a:b] for a, b in zip(ends, [*ends[1:], raw.shape[1]], strict=True)))


class Lags:
    """Exponential averages of the context, exact for uneven steps of time."""

    def __init__(self, context: int) -> None:
        self.held: Floats = np.full(context, np.nan)
        self.linear: Floats = np.full((len(LAGS), context), np.nan)
        self.inner: Floats = np.full((len(LAGS), context), np.nan)
        """As `linear`, of the values held within what was learned."""
        self.square: Floats = np.full((len(LAGS), context), np.nan)
        self.ran: Floats = np.full(len(LAGS), np.nan)
        self.low: Floats = np.full(context, -np.inf)
        self.high: Floats = np.full(context, np.inf)
        self.missing = np.zeros(context, dtype=np.int64)
        """Rows since the context tag last had a value."""

    @property
    def width(self) -> int:
        """How many features a row has."""
        return self.held.size * 3 * (1 + len(LAGS)) + len(LAGS)

    def step(self, seconds: float, context: Floats, running: int) -> Floats:
        """The features of a row; see `Lagged`.

        `seconds` since the row before, `context` (tags,) with NaN where missing (the last value is held),
        `running` 1, 0 or -1 (unknown: the average stays where it is). NaN for a tag never seen yet.
        """
        there = np.isfinite(context)
        self.missing = np.where(there, 0, self.missing + 1)
        self.held = np.where(there, context, self.held)
        inside = np.minimum(np.maximum(self.held, self.low), self.high)
        gain = -np.expm1(-seconds / LAGS)
        self.linear = _towards(self.linear, self.held, gain)
        self.inner = _towards(self.inner, inside, gain)
        self.square = _towards(self.square, inside * inside, gain)
        if running >= 0:
            started = np.isnan(self.ran)
            self.ran = np.where(started, running, self.ran + (running - self.ran) * gain)
        ran = np.where(np.isnan(self.ran), 1.0, self.ran)
        return np.concatenate(
            [
                self.held,
                inside,
                inside * inside,
                self.linear.ravel(),
                self.inner.ravel(),
                self.square.ravel(),
                ran,
            ]
        )

    def bound(self, low: Floats, high: Floats) -> None:
        """From now on squares stay within what was learned."""
        self.low, self.high = low, high

    def save(self) -> Arrays:
        """The streaming state."""
        return fields_of(self, _FIELDS)

    def load(self, arrays: Arrays) -> None:
        """Go on from `save`."""
        restore(self, _FIELDS, arrays)


def _towards(average: Floats, value: Floats, gain: Floats) -> Floats:
    moved: Floats = average + (value - average) * gain[:, None]
    return np.where(np.isnan(average), value, moved)
