"""Which tag left its own band first: the best hint at where a fault began."""

from __future__ import annotations

import numpy as np

from edge_agent_models.arrays import Arrays, Floats, fields_of, restore

_BACK = 0.6
_FIELDS = ("since", "rows")


class Movers:
    """When each tag went out of its own limit, for as long as it stays out."""

    def __init__(self, tags: int) -> None:
        self.since = np.zeros(tags, dtype=np.int64)
        """UTC ns when the tag went out; 0 while it is in."""
        self.rows = np.zeros(tags, dtype=np.int64)

    def follow(self, time: int, ratios: Floats) -> None:
        """Take one row: (tags,) |z| over each tag's own limit, NaN where it is not known."""
        # A comparison with NaN is false, as it should be.
        out = (ratios > 1.0) | ((self.since > 0) & (ratios > _BACK))
        self.rows = np.where(out, self.rows + 1, 0)
        self.since = np.where(out, np.where(self.since > 0, self.since, time), 0)

    def first(self, lasting: int) -> int | None:
        """The tag that has been out longest, if for at least `lasting` rows."""
        candidates = np.flatnonzero(self.rows >= lasting)
        if not len(candidates):
            return None
        order = np.lexsort((-self.rows[candidates], self.since[candidates]))
        return int(candidates[order[0]])

    def clear(self) -> None:
        """Everything is in again."""
        self.since[:] = 0
        self.rows[:] = 0

    def save(self) -> Arrays:
        """The streaming state."""
        return fields_of(self, _FIELDS)

    def load(self, arrays: Arrays) -> None:
        """Go on from `save`."""
        restore(self, _FIELDS, arrays)
