"""Chance as a function of (seed, stream, index), so that a run repeats whatever the step size or jitter."""

from __future__ import annotations

import random

_MASK = 0xFFFFFFFF
_table_source = random.Random(20260302)
_GAUSS = tuple(_table_source.gauss(0.0, 1.0) for _ in range(65_536))


class Stream:
    """One named source of chance; the same seed and name give the same numbers for ever.

    A generator with a state would make a value depend on how often it was asked before; here it depends on
    the index alone.
    """

    __slots__ = ("_multiplier", "_offset")

    def __init__(self, seed: int, name: str) -> None:
        source = random.Random(f"{seed}/{name}")
        # Each stream has its own odd multiplier: with a shared one two streams would be shifted copies.
        self._multiplier = source.getrandbits(31) * 2 + 1
        self._offset = source.getrandbits(32)

    def gauss(self, index: int) -> float:
        """A normal number, mean 0 and deviation 1."""
        return _GAUSS[((index * self._multiplier + self._offset) >> 16) & 0xFFFF]

    def uniform(self, index: int) -> float:
        """A number in [0, 1)."""
        bits = (index * self._multiplier + self._offset) & _MASK
        bits = ((bits ^ (bits >> 15)) * 0x2C1B3C6D) & _MASK
        bits = ((bits ^ (bits >> 12)) * 0x297A2D39) & _MASK
        return (bits ^ (bits >> 15)) / 4_294_967_296

    def smooth(self, t: float, period: float) -> float:
        """A slowly wandering number (mean 0, deviation below 1) that is new about every `period` seconds."""
        knot, rest = divmod(t, period)
        share = rest / period
        share *= share * (3.0 - 2.0 * share)
        before = self.gauss(int(knot))
        return before + (self.gauss(int(knot) + 1) - before) * share
