"""Raw to engineering units: a straight line, kept exact. Pure."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from edge_agent.types import Reason, Status, bad, uncertain

SENSOR_FAILURE = bad(Reason.SENSOR_FAILURE)
SENSOR_NOT_ACCURATE = uncertain(Reason.SENSOR_NOT_ACCURATE)


class Scaling(NamedTuple):
    """value = raw * numerator / denominator + offset.

    Kept as a fraction because 3 * 0.1 is 0.30000000000000004 and 3 * 1 / 10 is 0.3: what people see and what
    the line protocol carries is then the decimal the engineer expects.
    """

    numerator: float
    denominator: float
    offset: float


_EXACT = 2**53


def linear(scale: float, offset: float) -> Scaling:
    """Scaling for `value = raw * scale + offset`; scale is taken as the decimal it was written as."""
    return _scaling(Fraction(repr(scale)), Fraction(repr(offset)), scale)


def two_point(raw: tuple[float, float], eng: tuple[float, float]) -> Scaling:
    """Scaling of the straight line through (raw[0], eng[0]) and (raw[1], eng[1]). The raw points differ."""
    (r0, r1), (e0, e1) = (tuple(Fraction(repr(x)) for x in pair) for pair in (raw, eng))
    slope = (e1 - e0) / (r1 - r0)
    return _scaling(slope, e0 - r0 * slope, float(slope))


def _scaling(slope: Fraction, offset: Fraction, approximate: float) -> Scaling:
    if abs(slope.numerator) < _EXACT and slope.denominator < _EXACT:
        return Scaling(slope.numerator, slope.denominator, float(offset))
    return Scaling(approximate, 1, float(offset))


class Signal(NamedTuple):
    """Limits of a 4 to 20 mA signal by NAMUR NE 43, in the unit of the value, in ascending order."""

    failed_low: float
    limit_low: float
    limit_high: float
    failed_high: float

    def judge(self, value: float) -> Status | None:
        """Beyond the outer two the sensor has failed; between them and the inner two it is at its limits."""
        if self.limit_low <= value <= self.limit_high:
            return None
        return SENSOR_NOT_ACCURATE if self.failed_low <= value <= self.failed_high else SENSOR_FAILURE


_NE43 = ("3.6", "3.8", "20.5", "21")


def ne43(eng: tuple[float, float] | None) -> Signal:
    """The limits where 4 and 20 mA are the two values `eng`; without it for values in mA."""
    low, high = (Fraction(repr(x)) for x in eng or (4.0, 20.0))
    ends = (low + (Fraction(current) - 4) * (high - low) / 16 for current in _NE43)
    return Signal(*sorted(map(float, ends)))
