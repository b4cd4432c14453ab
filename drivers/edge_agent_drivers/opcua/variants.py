"""What a server sends as a value, judged: it becomes a plain value, or a bad status with a reason.

Works on asyncua's DataValue by its attributes alone, so that this stays importable without asyncua.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, NamedTuple

from edge_agent.types import GOOD, Quality, Reason, Status, Value, bad, uncertain
from edge_agent_drivers.opcua.status import status_of

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (compared without zone: asyncua's times are UTC, with or without one)
_MICROSECOND = timedelta(microseconds=1)
_BOOLEAN, _LAST_NUMBER, _STRING, _DATE, _LOCALIZED, _STRUCTURE = 1, 11, 12, 13, 21, 22
_NAMES = {
    **dict.fromkeys(range(2, 12), "a number"), 1: "a bool", 12: "text", 13: "a date", 14: "a GUID",
    15: "bytes", 16: "XML", 17: "a node id", 18: "a node id", 19: "a status code",
    20: "a qualified name", 21: "text", 22: "a structure", 23: "a value with its own status", 24: "a variant",
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


Decode = Callable[[Any], "Structure | str"]
"""Takes a structure as it came; its fields, or a clause that says why they cannot be told."""


@dataclass(frozen=True, slots=True)
class Structure:
    """A decoded structure: the type (number of the standard) and the value of each field."""

    fields: Mapping[str, tuple[int, Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """What of a node's value a tag is: the whole, one element, one field, by steps from the outside in."""

    type: str
    limits: tuple[float, float] | None = None
    """The engineering range."""
    steps: tuple[str | int, ...] = ()
    names: Mapping[int, str] | None = None
    """The names of an enumeration, where the tag is its name."""


class _Unfit(Exception):
    """The value is not what the tag says; for people."""


def interpret(sent: Any, part: Part, decode: Decode | None = None) -> Reading:
    """Judge one DataValue for a tag that is `part` of it."""
    status = status_of(int(sent.StatusCode.value)) if sent.StatusCode is not None else GOOD
    source, server = to_ns(sent.SourceTimestamp), to_ns(sent.ServerTimestamp)
    if status.quality is Quality.BAD:
        return Reading(None, status, source, server)
    try:
        value = _value(sent.Value, part, decode)
    except _Unfit as unfit:
        return Reading(None, UNREADABLE, source, server, str(unfit))
    if value is None:
        return Reading(None, INVALID, source, server)
    if part.limits is not None and status is GOOD and not isinstance(value, str):
        status = status if part.limits[0] <= value <= part.limits[1] else RANGE_EXCEEDED
    return Reading(value, status, source, server)


def _value(variant: Any, part: Part, decode: Decode | None) -> Value | None:
    """The value of the tag; None where the server sent none that is one."""
    value = None if variant is None else variant.Value
    if value is None:
        return None
    kind = int(getattr(variant.VariantType, "value", -1))
    for step in part.steps:
        kind, value = (
            (kind, _element(value, step)) if isinstance(step, int) else _field(kind, value, step, decode)
        )
        if value is None:
            return None
    return _scalar(kind, value, part)


def _element(value: Any, index: int) -> Any:
    if not isinstance(value, list | tuple):
        raise _Unfit("it holds a single value and no array: leave out index and length")
    if index >= len(value):
        raise _Unfit(f"its array has {len(value)} elements: {index} is beyond the last one, counted from 0")
    return value[index]


def _field(kind: int, value: Any, name: str, decode: Decode | None) -> tuple[int, Any]:
    if isinstance(value, list | tuple):
        raise _Unfit("it holds an array of structures: give an index as well")
    if not isinstance(value, Structure):
        if kind != _STRUCTURE or decode is None:
            raise _Unfit(f"it holds {_NAMES.get(kind, 'a single value')} and no structure: leave out field")
        decoded = decode(value)
        if isinstance(decoded, str):
            raise _Unfit(decoded)
        value = decoded
    if name not in value.fields:
        raise _Unfit(f"its structure has no field {name}; it has {', '.join(value.fields)}")
    found: tuple[int, Any] = value.fields[name]
    return found


def _scalar(kind: int, value: Any, part: Part) -> Value | None:
    if isinstance(value, list | tuple):
        raise _Unfit("it holds an array: add index: 0 for one element, or length: for the first ones")
    if kind in (_STRING, _LOCALIZED, _DATE):
        if part.type != "string":
            raise _Unfit(f"it holds {'a date' if kind == _DATE else 'text'}: add type: string")
        return _text(kind, value)
    if kind == _STRUCTURE:
        raise _Unfit("it holds a structure: name one of its values with field")
    if not _BOOLEAN <= kind <= _LAST_NUMBER:
        raise _Unfit(
            f"it holds {_NAMES.get(kind, 'an unknown type')}; only numbers, bools and text can be tags"
        )
    if part.type != "string":
        return _number(value, kind, part.type)
    if part.names is None or isinstance(value, float):
        raise _Unfit("it holds a number, not text: leave out type: string")
    return part.names.get(int(value), str(int(value)))


def _text(kind: int, value: Any) -> str | None:
    if kind == _DATE:
        ns = to_ns(value) if isinstance(value, datetime) else None
        # Servers send 1601 for "never".
        return None if ns is None else value.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    text = value.Text if kind == _LOCALIZED else value
    return "" if text is None else printable(str(text))


def printable(text: str) -> str:
    """Bytes that are not UTF-8, which asyncua keeps as surrogates, are read as Latin-1, as on older PLCs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    return text


def _number(value: Any, kind: int, wanted: str) -> Value | None:
    if kind == _BOOLEAN:
        return bool(value)
    if isinstance(value, float):
        if wanted == "bool":
            return bool(value) if value in (0.0, 1.0) else None
        return value if isfinite(value) else None
    number = int(value)
    if wanted == "bool":
        return bool(number) if number in (0, 1) else None
    return number


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
