"""What a unit looks like at each row of its life, from that row and those before it.

Each tag as moving means over two windows, its spread, its trend, and how far it has come from the unit's own
first rows: two units of the same make differ more from each other than one of them changes in half its life.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_LIFE_IN_WINDOWS = 40
LEAST_WINDOW = 5
LARGEST_WINDOW = 10_000
_KINDS = ("mean", "long mean", "spread", "trend", "distance from its first rows", "distance in spreads")


def window_for(lives: npt.NDArray[np.int64]) -> int:
    """Rows of the base window, from how many rows the lives have."""
    return int(np.clip(round(float(np.median(lives)) / _LIFE_IN_WINDOWS), LEAST_WINDOW, LARGEST_WINDOW))


def width(tags: int) -> int:
    """How many features there are: some of each tag, and the age in rows."""
    return len(_KINDS) * tags + 1


def features(rows: Floats, window: int) -> Floats:
    """(n, width) features of one unit's n rows in order of time; NaN only before a tag's first value."""
    shifted, seen, origin = _held(rows)
    short, long = (_moving_mean(shifted, seen, factor * window) for factor in (3, 6))
    variance = _moving_mean(shifted**2, seen, 6 * window) - long**2
    spread = np.sqrt(np.maximum(variance, 0.0))
    smooth = _smoothed(shifted, seen, 2.0 * window)
    trend = smooth - _smoothed(shifted, seen, 12.0 * window)
    distance = smooth - _first_mean(shifted, seen, 2 * window)
    relative = np.divide(distance, spread, out=np.zeros_like(distance), where=spread > 0)
    by_tag = np.stack([short + origin, long + origin, spread, trend, distance, relative], axis=2)
    by_tag[~seen] = np.nan
    age = np.arange(1.0, len(rows) + 1)[:, None]
    return np.concatenate([by_tag.reshape(len(rows), -1), age], axis=1)


def _held(rows: Floats) -> tuple[Floats, npt.NDArray[np.bool_], Floats]:
    """Rows less each tag's first value, missing ones as those before; where one was seen yet; the first.

    Taking the first value away only keeps sums small: it is added again or cancels out.
    """
    present = ~np.isnan(rows)
    seen = np.maximum.accumulate(present, axis=0)
    latest = np.maximum.accumulate(np.where(present, np.arange(len(rows))[:, None], 0), axis=0)
    held = np.take_along_axis(rows, latest, axis=0)
    origin = np.where(seen.any(axis=0), rows[present.argmax(axis=0), np.arange(rows.shape[1])], 0.0)
    return np.where(seen, held - origin, 0.0), seen, origin


def _moving_mean(rows: Floats, seen: npt.NDArray[np.bool_], window: int) -> Floats:
    """Mean of the last `window` rows, of those there are at the start."""
    ends = np.arange(1, len(rows) + 1)
    starts = np.maximum(ends - window, 0)
    sums, counts = _summed(rows), _summed(seen.astype(np.float64))
    mean: Floats = (sums[ends] - sums[starts]) / np.maximum(counts[ends] - counts[starts], 1.0)
    return mean


def _first_mean(rows: Floats, seen: npt.NDArray[np.bool_], window: int) -> Floats:
    """Mean of the first `window` rows, as far as they have come."""
    ends = np.minimum(np.arange(1, len(rows) + 1), window)
    mean: Floats = _summed(rows)[ends] / np.maximum(_summed(seen.astype(np.float64))[ends], 1.0)
    return mean


def _summed(rows: Floats) -> Floats:
    return np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])


def _smoothed(rows: Floats, seen: npt.NDArray[np.bool_], span: float) -> Floats:
    """Exponentially weighted mean of what came so far, the first value weighing as much as any other."""
    keep = 1.0 - 1.0 / span
    out = np.empty_like(rows)
    total, weight = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for index, row in enumerate(rows):
        total, weight = keep * total + row, keep * weight + seen[index]
        out[index] = total / np.maximum(weight, 1e-12)
    return out
