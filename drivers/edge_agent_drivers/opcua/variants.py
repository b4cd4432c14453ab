"""What a server sends as a value, judged: scalars become values, everything else a bad status with a reason.

Works on asyncua's DataValue by its attributes alone, so that this stays importable without asyncua.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import isfinite
from typing import Any, NamedTuple

from edge_agent.types import GOOD, Quality, Reason, Status, Value, bad, uncertain
from edge_agent_drivers.opcua.status import status_of

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (compared without zone: asyncua's times are UTC, with or without one)
_MICROSECOND = timedelta(microseconds=1)
_BOOLEAN, _LAST_NUMBER, _STRING, _LOCALIZED = 1, 11, 12, 21
_NAMES = {
    13: "a date", 14: "a GUID", 15: "bytes", 16: "XML", 17: "a node id", 18: "a node id", 19: "a status code",
    20: "a qualified name", 22: "a structure", 23: "a value with its own status", 24: "a variant",
}  # fmt: skip

INVALID = bad(Reason.INVALID_VALUE)
UNREADABLE = bad(Reason.CONFIG_ERROR)
RANGE_EXCEEDED = uncertain(Reason.RANGE_EXCEEDED)


class Reading(NamedTuple):
    """One value as it goes on, with the server's times (UTC ns; None where there is none)."""

    value: Value | None
    status: Status
    source: int | None
    server: int | None
    note: str = ""
    """Why the node cannot be a tag, for people; empty where it can."""


def interpret(sent: Any, wanted: str, limits: tuple[float, float] | None) -> Reading:
    """Judge one DataValue for a tag of type `wanted` with engineering range `limits`."""
    status = status_of(int(sent.StatusCode.value)) if sent.StatusCode is not None else GOOD
    source, server = to_ns(sent.SourceTimestamp), to_ns(sent.ServerTimestamp)
    if status.quality is Quality.BAD:
        return Reading(None, status, source, server)
    value, problem, note = _scalar(sent.Value, wanted)
    if problem is not None:
        return Reading(None, problem, source, server, note)
    if limits is not None and status is GOOD and not isinstance(value, str | None):
        status = status if limits[0] <= value <= limits[1] else RANGE_EXCEEDED
    return Reading(value, status, source, server)


def _scalar(variant: Any, wanted: str) -> tuple[Value | None, Status | None, str]:
    value = None if variant is None else variant.Value
    if value is None:
        return None, INVALID, ""
    kind = int(getattr(variant.VariantType, "value", -1))
    if isinstance(value, list | tuple):
        return None, UNREADABLE, "it holds an array; only single values can be tags yet"
    if kind in (_STRING, _LOCALIZED):
        text = value if kind == _STRING else value.Text
        if wanted != "string":
            return None, UNREADABLE, "it holds text: add type: string"
        return ("", None, "") if text is None else (str(text), None, "")
    if not _BOOLEAN <= kind <= _LAST_NUMBER:
        return (
            None,
            UNREADABLE,
            f"it holds {_NAMES.get(kind, 'an unknown type')}; only numbers, bools and text can be tags",
        )
    if wanted == "string":
        return None, UNREADABLE, "it holds a number, not text: leave out type: string"
    return _number(value, kind, wanted)


def _number(value: Any, kind: int, wanted: str) -> tuple[Value | None, Status | None, str]:
    if kind == _BOOLEAN:
        return bool(value), None, ""
    if isinstance(value, float):
        return (value, None, "") if isfinite(value) else (None, INVALID, "")
    number = int(value)
    if wanted == "bool":
        return (bool(number), None, "") if number in (0, 1) else (None, INVALID, "")
    return number, None, ""


def to_ns(moment: datetime | None) -> int | None:
    """UTC ns of a server's time, to the microsecond; None where there is none or it lies before 1970."""
    if moment is None:
        return None
    ns = (moment.replace(tzinfo=None) - _EPOCH) // _MICROSECOND * 1000
    return ns if ns > 0 else None


def describe(sent: Any) -> str:
    """What the server sent, as text for people."""
    kind = getattr(getattr(sent.Value, "VariantType", None), "name", "nothing")
    value = getattr(sent.Value, "Value", None)
    code = int(sent.StatusCode.value) if sent.StatusCode is not None else 0
    return f"{kind} {value!r}" + (f" 0x{code:08X}" if code else "")
