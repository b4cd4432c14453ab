"""Raw to engineering units: a straight line, kept exact. Pure."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple


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
