"""Reading lines back: small and strict, for the embedded store and the historian's checks."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from edge_agent.lineprotocol.encode import MAX_INT, MIN_INT
from edge_agent.types import Value

_UNESCAPE = re.compile(r"\\([,= ])")
_UNESCAPE_STRING = re.compile(r'\\(["\\])')


class Point(NamedTuple):
    """One parsed line; an int field was written with `i`, every other number is a float."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, Value]
    timestamp: int


class Header(NamedTuple):
    """What the comment line at the head of a `readings` payload says (DECISIONS 3)."""

    agent: str
    seq: int
    backlog: bool


_HEADER = re.compile(rb"# agent=(\S{1,256}) seq=(\d{1,18}) backlog=([01])(?= |$)")


def split_header(payload: bytes) -> tuple[Header | None, bytes]:
    """The header of a payload, if it has one, and the lines after it."""
    if not payload.startswith(b"#"):
        return None, payload
    first, _, rest = payload.partition(b"\n")
    match = _HEADER.match(first)
    if match is None:
        return None, rest
    try:
        agent = match[1].decode()
    except UnicodeDecodeError:
        return None, rest
    return Header(agent, int(match[2]), match[3] == b"1"), rest


def split_head(text: bytes) -> tuple[bytes, bytes]:
    """A line cut at its first space that is not escaped: measurement and tags, fields and timestamp."""
    end = text.find(b" ")
    while end > 0 and text[end - 1] == 0x5C:
        end = text.find(b" ", end + 1)
    return (text, b"") if end < 0 else (text[:end], text[end + 1 :])


def parse_head(text: bytes) -> tuple[str, dict[str, str]]:
    """Measurement and tags of a line's head. ValueError where it is malformed."""
    measurement, *pairs = _split(text.decode(), ",")
    if not measurement:
        raise ValueError("a line needs a measurement")
    tags: dict[str, str] = {}
    for pair in pairs:
        name, value = _pair(pair)
        tags[_unescape(name)] = _unescape(value)
    return _unescape(measurement), tags


def parse(text: bytes) -> Point:
    """One line with a timestamp, parsed. ValueError where it is malformed."""
    start, rest = split_head(text.strip(b"\r\n"))
    measurement, tags = parse_head(start)
    body, _, stamp = rest.rpartition(b" ")
    if not body or not stamp.lstrip(b"-").isdigit():
        raise ValueError("a line needs fields and a timestamp in ns")
    fields = parse_fields(body)
    if not MIN_INT <= int(stamp) <= MAX_INT:
        raise ValueError("the timestamp does not fit 64 bits")
    return Point(measurement, tags, fields, int(stamp))


def parse_fields(body: bytes) -> dict[str, Value]:
    """The fields between head and timestamp. ValueError where they are malformed."""
    text = body.decode()
    plain = '"' not in text and "\\" not in text
    pairs = text.split(",") if plain else _split_fields(text)
    fields: dict[str, Value] = {}
    for pair in pairs:
        name, value = pair.split("=") if plain and pair.count("=") == 1 else _pair(pair)
        if not name or not value:
            raise ValueError(f"'{pair}' is not a field")
        fields[_unescape(name)] = _value(value)
    return fields


_WORDS = dict.fromkeys(("t", "T", "true", "True", "TRUE"), True) | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), False
)
_DIGITS = frozenset("0123456789.")
_INT = re.compile(r"[-+]?[0-9]+i")


def _value(text: str) -> Value:
    if text[-1] in _DIGITS and text.isascii() and "_" not in text:
        number = float(text)
        if math.isfinite(number):
            return number
    elif text in _WORDS:
        return _WORDS[text]
    elif len(text) >= 2 and text[0] == text[-1] == '"':
        return _UNESCAPE_STRING.sub(r"\1", text[1:-1])
    elif _INT.fullmatch(text) and MIN_INT <= int(text[:-1]) <= MAX_INT:
        return int(text[:-1])
    raise ValueError(f"'{text}' is not a value")


def _unescape(text: str) -> str:
    return _UNESCAPE.sub(r"\1", text) if "\\" in text else text


def _split(text: str, separator: str) -> list[str]:
    """`text` cut at the separators that no backslash precedes."""
    if "\\" not in text:
        return text.split(separator)
    return re.split(rf"(?<!\\){re.escape(separator)}", text)


def _pair(text: str) -> tuple[str, str]:
    start = text.find("=")
    while start > 0 and text[start - 1] == "\\":
        start = text.find("=", start + 1)
    if start < 1 or start == len(text) - 1:
        raise ValueError(f"'{text}' is not a name and a value")
    return text[:start], text[start + 1 :]


_FIELD = re.compile(r'((?:\\.|[^\\,="])+=(?:"(?:\\.|[^"\\])*"|[^,"]+))(?:,|$)', re.DOTALL)


def _split_fields(text: str) -> list[str]:
    """The fields of a body in which strings are quoted or names escaped."""
    pairs = []
    position = 0
    while position < len(text):
        match = _FIELD.match(text, position)
        if match is None:
            raise ValueError(f"malformed field at '{text[position : position + 40]}'")
        pairs.append(match[1])
        position = match.end()
    if not pairs or text.endswith(","):
        raise ValueError("a line needs fields")
    return pairs
