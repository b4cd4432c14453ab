"""The rows a machine's normal is learned from, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edge_agent.errors import ModelError
from edge_agent_models.arrays import Arrays, Floats, Ints, fields_of, restore, taken

CHUNK = 128
"""Rows that stay together when rows must be thinned: dynamics need neighbours."""
_ROWS = ("values", "context", "segments", "since", "chunks")
_FIELDS = ("size", "seen", "stride", "segment", "broken")


class Lesson:
    """Up to `capacity` rows, spread over all of the learning time.

    When it is full every second chunk of 128 rows is let go, and from then on only every second chunk is
    kept: the whole time stays covered, and rows within a chunk stay neighbours.
    """

    def __init__(self, tags: int, features: int, capacity: int | None = None) -> None:
        room = capacity or int(np.clip(1_500_000 // (tags + features), 4 * CHUNK, 4096))
        room -= room % CHUNK
        self.values: Floats = np.full((room, tags), np.nan)
        self.context: Floats = np.full((room, features), np.nan)
        self.segments: Ints = np.zeros(room, dtype=np.int64)
        self.since: Floats = np.zeros(room)
        self.chunks: Ints = np.zeros(room, dtype=np.int64)
        self.size = 0
        self.seen = 0
        self.stride = 1
        self.segment = 0
        self.broken = True

    def interrupt(self) -> None:
        """The next row is no neighbour of the last one (a gap, a stop, a row that is not learned)."""
        self.broken = True

    def take(self, values: Floats, context: Floats, since: float) -> None:
        """Keep a row (or not, where rows are thinned): (tags,), (features,), seconds since the start."""
        chunk = self.seen // CHUNK
        self.seen += 1
        if chunk % self.stride:
            self.broken = True
            return
        if self.size == len(self.values):
            self._thin()
            if chunk % self.stride:
                self.broken = True
                return
        if self.broken:
            self.segment += 1
            self.broken = False
        at = self.size
        self.values[at], self.context[at] = values, context
        self.segments[at], self.since[at], self.chunks[at] = self.segment, since, chunk
        self.size += 1

    def _thin(self) -> None:
        self.stride *= 2
        kept = np.flatnonzero(self.chunks[: self.size] % self.stride == 0)
        for name in _ROWS:
            array = getattr(self, name)
            array[: len(kept)] = array[kept]
        # Chunks that had a neighbour between them must not look adjacent now.
        jumps = np.diff(self.chunks[: len(kept)], prepend=self.chunks[0]) > 1
        self.segments[: len(kept)] += np.cumsum(jumps)
        self.size = len(kept)
        self.segment = int(self.segments[: len(kept)].max(initial=0)) + 1
        self.broken = True

    def forget(self) -> None:
        """Let go of the rows: what was to be learned from them has been learned."""
        self.size = 0
        self.broken = True
        for name in _ROWS:
            setattr(self, name, getattr(self, name)[:0].copy())

    def newest(self, count: int) -> Iterator[tuple[Floats, Floats, float]]:
        """The last rows that are neighbours of the next one, at most `count`, in order of time."""
        start = max(0, self.size - count)
        for at in range(start, self.size):
            if self.segments[at] == self.segments[self.size - 1]:
                yield self.values[at], self.context[at], float(self.since[at])

    def save(self) -> Arrays:
        """What was kept, and the streaming state."""
        rows = {name: getattr(self, name)[: self.size].copy() for name in _ROWS}
        return {**fields_of(self, _FIELDS), **rows}

    def load(self, arrays: Arrays) -> None:
        """Go on from `save`. ModelError where the rows are of other tags or more than there is room for."""
        restore(self, _FIELDS, arrays)
        for name in _ROWS:
            room, rows = getattr(self, name), taken(arrays, name)
            if rows.shape[1:] != room.shape[1:] or not len(rows) == self.size <= len(room):
                raise ModelError(f"the rows learned so far ({name}) do not fit this machine: learn again")
            room[: self.size] = rows
        if not self.size and self.seen:
            self.forget()
