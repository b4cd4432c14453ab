"""Durations (`250ms 5m 4h 7d 2y`), sizes (`64MiB 2GiB`) and rates (`1 per quarter`) as people write them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SECONDS = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
    "y": 365 * 86_400.0,
}
_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_PER_DAYS = {"day": 1.0, "week": 7.0, "month": 30.4375, "quarter": 91.3125, "year": 365.25}

# How the units are written elsewhere, and what they are called here.
_ALSO = {
    **dict.fromkeys(("sec", "secs", "second", "seconds", "S"), "s"),
    **dict.fromkeys(("msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours", "H"), "h"),
    **dict.fromkeys(("day", "days", "D"), "d"),
    **dict.fromkeys(("week", "weeks", "W"), "w"),
    **dict.fromkeys(("year", "years", "Y", "a"), "y"),
    **dict.fromkeys(("G", "Gi", "gb", "GiByte", "gib"), "GiB"),
    **dict.fromkeys(("M", "Mi", "mb", "MiByte", "mib"), "MiB"),
    **dict.fromkeys(("K", "k", "Ki", "kb", "KB", "kib"), "KiB"),
}

_NUMBER_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s+per\s+(day|week|month|quarter|year)")


class UnitError(ValueError):
    """A duration, size or rate that cannot be read; `hint` says how it is written."""

    def __init__(self, message: str, hint: str) -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}; {hint}")


def _scaled(text: str, table: dict[str, Any], what: str, examples: str) -> float:
    match = _NUMBER_UNIT.fullmatch(text.strip())
    if match is None or match[2] not in table:
        also = _ALSO.get(match[2]) if match else None
        hint = f"write a number with its unit: {examples}"
        if match is not None and also in table:
            hint = f"write {match[1]}{also}"
        raise UnitError(f"'{text}' is not a {what}", hint)
    return float(match[1]) * float(table[match[2]])


def parse_duration(text: str) -> float:
    """Seconds of `250ms`, `1s`, `5m`, `4h`, `7d`, `2w` or `2y`; ValueError with the fix otherwise."""
    return _scaled(text, _SECONDS, "duration", "250ms, 1s, 5m, 4h, 7d")


def parse_size(text: str) -> int:
    """Bytes of `64MiB`, `2GiB`, `500MB`; ValueError with the fix otherwise."""
    return int(_scaled(text, _BYTES, "size", "64MiB, 2GiB"))


def parse_rate(text: str) -> float:
    """Events per day of `1 per quarter`; ValueError with the fix otherwise."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise UnitError(
            f"'{text}' is not a rate", "write N per day, week, month, quarter or year: 1 per quarter"
        )
    return float(match[1]) / _PER_DAYS[match[2]]


def format_duration(seconds: float) -> str:
    """A duration as people write it, in its largest whole unit: 0.25 -> 250ms, 90 -> 90s, 7200 -> 2h."""
    for unit in ("y", "w", "d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:.12g}s" if seconds >= 1 else f"{seconds * 1000:.12g}ms"


def _duration(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    raise _no_unit(value, "a duration", "1s", ("s", "ms"))


def _size(value: object) -> object:
    if isinstance(value, str):
        return parse_size(value)
    raise _no_unit(value, "a size", "64MiB", ("MiB", "GiB"))


def _rate(value: object) -> object:
    if isinstance(value, str):
        return parse_rate(value)
    raise _no_unit(value, "a rate", "1 per quarter", (" per quarter", " per year"))


def _no_unit(value: object, what: str, example: str, units: tuple[str, str]) -> UnitError:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return UnitError(f"{what} needs its unit", f"write {value}{units[0]} or {value}{units[1]}")
    return UnitError(f"{what} is expected here", f"write it like {example}")


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|min|h|d|w|y)$",
            "examples": ["250ms", "1s", "4h"],
        }
    ),
]
"""Seconds, written with a unit in YAML."""


def _period(value: object) -> object:
    if value == "forever":
        return None
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except UnitError as error:
            raise UnitError(f"'{value}' is no length of time", "write it like 90d, 2y or forever") from error
    raise _no_unit(value, "a length of time", "90d, 2y or forever", ("d", "y"))


Period = Annotated[
    float | None,
    BeforeValidator(_period),
    PlainSerializer(lambda seconds: "forever" if seconds is None else format_duration(seconds)),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(forever|\d+(\.\d+)?\s*(ms|s|m|min|h|d|w|y))$",
            "examples": ["90d", "2y", "forever"],
        }
    ),
]
"""Seconds, or None for `forever`; written with a unit in YAML."""

Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema(
        {"type": "string", "pattern": r"^\d+(\.\d+)?\s*(B|[kMG]B|[KMG]iB)$", "examples": ["2GiB"]}
    ),
]
"""Bytes, written with a unit in YAML."""

Rate = Annotated[
    float,
    BeforeValidator(_rate),
    WithJsonSchema({"type": "string", "pattern": _RATE.pattern, "examples": ["1 per quarter"]}),
]
"""Events per day, written `N per day|week|month|quarter|year` in YAML."""
