"""Counters: how fast one grows, over a rollover and not over a reset. Pure."""

from __future__ import annotations

from edge_agent.clock import SECOND
from edge_agent.units import format_duration

_POWERS = {"Wh": "W", "kWh": "kW", "MWh": "MW", "varh": "var", "kvarh": "kvar", "Mvarh": "Mvar",
           "VAh": "VA", "kVAh": "kVA", "Ah": "A"}  # fmt: skip
_WORDS = {1.0: "s", 60.0: "min", 3600.0: "h", 86_400.0: "d"}


def rate_unit(unit: str | None, per: float) -> str | None:
    """The unit of a growth in `per` seconds: kW of kWh in 1h, m³/h, pcs/min; None without a unit."""
    if unit is None:
        return None
    if per == 3600.0 and unit in _POWERS:
        return _POWERS[unit]
    return f"{unit}/{_WORDS.get(per) or format_duration(per)}"


class CounterRate:
    """The growth of one counter from one sample to the next, per `per` seconds.

    `modulus` is where it starts again from 0. A step back is then a rollover where it is the shorter way, and
    a reset where it is not or there is no modulus: nobody knows how far the counter went before a reset, so
    there is no rate, and none is made up.
    """

    __slots__ = ("_at", "_last", "_modulus", "_per", "resets")

    def __init__(self, per: float, modulus: float | None = None) -> None:
        self._per, self._modulus = per, modulus
        self._last: float | None = None
        self._at = 0
        self.resets = 0
        """Steps back that were no rollover."""

    def take(self, value: float | None, at: int) -> float | None:
        """The rate at the time `at`, in ns of a clock that nobody sets.

        None at first, after a gap (a value of None) and after a reset.
        """
        last, elapsed = self._last, at - self._at
        self._last, self._at = value, at
        if last is None or value is None or elapsed <= 0:
            return None
        step = value - last
        if step < 0:
            step = self._over(step)
        return None if step < 0 else step * self._per * SECOND / elapsed

    def _over(self, step: float) -> float:
        """A step back with the rollover taken into account; negative where it was a reset."""
        modulus = self._modulus
        if modulus is not None and 0 <= (step + modulus) * 2 <= modulus:
            return step + modulus
        self.resets += 1
        return step
