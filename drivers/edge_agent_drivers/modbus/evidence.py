"""What speaks for and against a value being what registers hold, in bits. Pure; `plausible.py` weighs it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import floor, log2, log10

from edge_agent_drivers import codec

LEAST, MOST = 1e-3, 1e7
"""Magnitudes of measured values in common units."""
_MANTISSA: Mapping[str, int] = {"float16": 10, "float32": 23, "float64": 52}
_SIGNIFICANT: Mapping[str, int] = {"float16": 4, "float32": 7, "float64": 15}
"""Decimal digits from which on any float of the type can be written: to have fewer says something."""
_EXPECTED_POWERS, _KNOWN_POWERS = 13, 34
"""Powers of two that a value may have: within an expected range, and between LEAST and MOST."""
_ZERO = 4.0


def noise(words: Sequence[int], type_: str) -> float:
    """Bits that the registers cost if they were nothing in particular: many are 0, small numbers common."""
    if type_ in ("uint8", "int8"):
        return 8.0 if words[0] & 0xFF else 2.0
    return sum(_noise(word) for word in words)


def _noise(word: int) -> float:
    if word in (0, 0xFFFF):
        return 2.0
    return min(16.0, 2.0 + 2.0 * log2(min(word, 0x10000 - word) + 1))


def cost_within(value: float, type_: str, expected: tuple[float, float], scale: float = 1.0) -> float | None:
    """Bits to name `value` among those the type has within the expected range; None where that is absurd."""
    low, high = expected
    if type_ not in codec.FLOATS:
        bits = 8 * struct.calcsize(">" + codec.CODES[type_])
        return min(float(bits), log2((high - low) / scale + 1))
    if value == 0.0:
        return _ZERO
    # Floats lie ever closer towards zero: those near it are far too many, and seldom meant.
    smallness = max(abs(low), abs(high)) / abs(value)
    if smallness > 1e6:
        return None
    remote = 0.0 if smallness < 100 else 20.0 if smallness > 1e4 else 2.0 * log2(log2(smallness) + 1)
    return _mantissa(value, type_) + log2(_EXPECTED_POWERS) + remote


def cost(value: float, type_: str) -> float | None:
    """Bits to name `value` where nothing is known of it; None where no machine has such a value."""
    sign = 1.0 if value < 0 else 0.0
    if type_ not in codec.FLOATS:
        size = log2(abs(value) + 1)
        return 4.0 + size + sign + max(0.0, size - 34)
    if value == 0.0:
        return _ZERO
    if not LEAST <= abs(value) <= MOST:
        return None
    return _mantissa(value, type_) + log2(_KNOWN_POWERS) + sign


def digits(value: float, type_: str) -> int | None:
    """Decimal digits of a float; None where it needs as many as its type has, and for whole types."""
    if type_ not in codec.FLOATS or value == 0.0:
        return None
    return next((n for n in range(1, _SIGNIFICANT[type_]) if _survives(value, n, type_)), None)


def _mantissa(value: float, type_: str) -> float:
    """Bits of a float's digits: fewer where it has few, as numbers that people set or devices round have."""
    known = digits(value, type_)
    return _MANTISSA[type_] if known is None else min(_MANTISSA[type_], 2.0 + known * log2(10))


def _survives(value: float, count: int, type_: str) -> bool:
    """Whether the float is the one that a decimal number of so many digits becomes."""
    rounded = round(value, count - 1 - floor(log10(abs(value))))
    if type_ == "float64":
        return rounded == value
    code = ">" + codec.CODES[type_]
    try:
        return bool(struct.unpack(code, struct.pack(code, rounded))[0] == value)
    except (OverflowError, struct.error):
        return False


def company(type_: str, order: str, words: Sequence[int], later: Sequence[int] | None) -> float:
    """What the registers behind say: floats come in rows, and half a float64 looks like a float32."""
    if type_ not in ("float32", "float64") or len(words) < 4:
        return 0.0
    tail = slice(0, 2) if type_ == "float64" and order in ("CDAB", "DCBA") else slice(2, 4)
    whole = _is_whole(words[tail], later[tail] if later is not None else None, order)
    if type_ == "float64":
        return -5.0 if whole else 2.0
    return 3.0 if whole else -1.0


def _is_whole(words: Sequence[int], later: Sequence[int] | None, order: str) -> bool:
    """Whether what a float32 leaves of a float64 is a float32 itself, or whole numbers."""
    if any(word < 256 for word in words):
        return True
    value = _float32(words, order)
    if value is None or later is None:
        return value is not None
    # Digits far behind the point jump when the value moves a little; a value of its own does not.
    after = _float32(later, order)
    return after is not None and abs(after - value) <= 0.5 * abs(value)


def _float32(words: Sequence[int], order: str) -> float | None:
    """The float in two registers; None where no machine has such a value."""
    decoder = codec.RegisterDecoder([(0, codec.Field(type="float32", order=order))])
    value = decoder.decode(struct.pack(">2H", *words))[0][0]
    return value if isinstance(value, float) and LEAST <= abs(value) <= MOST else None
