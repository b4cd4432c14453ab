"""Rows in a sliding window, streaming and, for learning, over whole segments at once."""

from __future__ import annotations

import numpy as np

from edge_agent_models.arrays import Arrays, Floats, Ints, fields_of, median, restore

_FIELDS = ("rows", "position", "filled")


class Ring:
    """The last `length` rows of `width` values; NaN where missing."""

    def __init__(self, length: int, width: int) -> None:
        self.rows: Floats = np.full((length, width), np.nan)
        self.position = 0
        self.filled = 0

    def push(self, row: Floats) -> None:
        """Take a row, dropping the oldest."""
        self.rows[self.position] = row
        self.position = (self.position + 1) % len(self.rows)
        self.filled = min(self.filled + 1, len(self.rows))

    def clear(self) -> None:
        """Forget everything: what comes next has nothing to do with what was."""
        self.rows[:] = np.nan
        self.position = self.filled = 0

    @property
    def full(self) -> bool:
        """Whether `length` rows came since the last clear."""
        return self.filled == len(self.rows)

    def recent(self, count: int) -> Floats:
        """The last `count` rows, newest first: (count, width)."""
        length = len(self.rows)
        return self.rows[(self.position - 1 - np.arange(count)) % length]

    def forget(self, column: int) -> None:
        """Take one column out of the window."""
        self.rows[:, column] = np.nan

    def mean(self) -> Floats:
        """(width,) mean over the window; NaN for a column with less than a third of its values.

        A mean over fewer values is drawn towards 0 by the root of the share that is there, so that missing
        values never make a tag look more unusual than a whole window would.
        """
        there = np.isfinite(self.rows)
        count = there.sum(axis=0)
        length = len(self.rows)
        total = np.where(there, self.rows, 0.0).sum(axis=0)
        enough = count * 3 >= length
        shrunk = total / np.maximum(count, 1) * np.sqrt(count / length)
        return np.where(enough, shrunk, np.nan)

    def median(self) -> Floats:
        """(width,) median over the rows that are there."""
        rows = self.rows[: self.filled] if not self.full else self.rows
        # np.median costs ten times this at such sizes, most of a row's time.
        ordered, half = np.sort(rows, axis=0), len(rows) // 2
        middle: Floats = ordered[half] if len(rows) % 2 else (ordered[half - 1] + ordered[half]) / 2
        return middle

    def save(self) -> Arrays:
        """The streaming state."""
        return fields_of(self, _FIELDS)

    def load(self, arrays: Arrays) -> None:
        """Go on from `save`."""
        restore(self, _FIELDS, arrays)


def whole_windows(segments: Ints, length: int) -> Ints:
    """Indices i of rows whose last `length` rows, itself included, lie in one segment.

    `segments`: (n,) a number per row that changes where contact with the row before is lost.
    """
    n = len(segments)
    if n < length:
        return np.zeros(0, dtype=np.int64)
    ends = np.arange(length - 1, n)
    whole: Ints = ends[segments[ends] == segments[ends - length + 1]]
    return whole


def window_means(rows: Floats, ends: Ints, length: int) -> Floats:
    """Means of the `length` rows up to each of `ends`, NaN left out: (len(ends), columns)."""
    there = np.isfinite(rows)
    total = np.vstack([np.zeros(rows.shape[1]), np.cumsum(np.where(there, rows, 0.0), axis=0)])
    count = np.vstack([np.zeros(rows.shape[1]), np.cumsum(there, axis=0)])
    held = count[ends + 1] - count[ends + 1 - length]
    means: Floats = (total[ends + 1] - total[ends + 1 - length]) / np.maximum(held, 1)
    return np.where(held * 3 >= length, means, np.nan)


def window_medians(scores: Floats, ends: Ints, length: int) -> Floats:
    """Medians of the `length` values up to each of `ends`: (len(ends),)."""
    if not len(ends):
        return np.zeros(0)
    views = np.lib.stride_tricks.sliding_window_view(scores, length)
    return median(views[ends - length + 1])


def window_minima(scores: Floats, ends: Ints, length: int) -> Floats:
    """Smallest of the `length` values up to each of `ends`: (len(ends),)."""
    views = np.lib.stride_tricks.sliding_window_view(scores, length)
    least: Floats = views[ends - length + 1].min(axis=-1)
    return least
