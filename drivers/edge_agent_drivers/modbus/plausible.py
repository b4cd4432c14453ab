"""How likely registers hold this or that: every type and byte order, ranked. Pure.

Each reading is a small hypothesis about the registers, and its score is how many bits it explains: what
the words cost if they were noise (zeros and small numbers are cheap), minus what the value costs if it is
right (a number within the expected range, or else of a magnitude that machines have), minus a little for what
is rare in the field. So a wide type that fits wins over a narrow one that happens to fit as well, a float
whose exponent is absurd loses, and a number with few digits wins over one with seventeen.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10

from edge_agent.types import Value
from edge_agent_drivers import codec
from edge_agent_drivers.modbus import evidence

TYPES = (
    "uint16", "int16", "float32", "uint32", "int32", "float64", "uint64", "int64",
    "float16", "bcd16", "bcd32", "uint8", "int8",
)  # fmt: skip
"""What numbers are tried as; text besides."""
_RARITY: Mapping[str, float] = {
    "uint16": 0.0, "int16": 0.5, "float32": 0.0, "uint32": 1.5, "int32": 2.0, "float64": 3.0, "uint64": 6.0,
    "int64": 6.5, "float16": 6.0, "bcd16": 6.0, "bcd32": 7.0, "uint8": 6.0, "int8": 7.0, "string": 4.0,
}  # fmt: skip
"""Bits that a type costs because devices seldom use it."""
_ODDITY: Mapping[str, float] = {"ABCD": 0.0, "CDAB": 1.0, "DCBA": 4.0, "BADC": 5.0}
_SCALES = (1.0, 0.1, 0.01, 0.001)
"""Scales that are tried for whole numbers where a range is expected."""
IMPOSSIBLE = -1000.0
"""Score of a reading that gives no value, or one that is out of the expected range."""

Range = tuple[float, float]


@dataclass(slots=True)
class Reading:
    """The registers read one way."""

    type: str
    order: str = "ABCD"
    scale: float = 1.0
    length: int = 0
    value: Value | None = None
    later: Value | None = None
    """The value a second later."""
    score: float = IMPOSSIBLE
    notes: list[str] = dataclasses.field(default_factory=list)
    """Why it is likely, or why not."""

    @property
    def registers(self) -> int:
        """How many registers it takes."""
        return codec.width(self.type, self.length)

    @property
    def plausible(self) -> bool:
        """Whether more speaks for it than against it."""
        return self.score > 0.0

    @property
    def possible(self) -> bool:
        """Whether it gives a value that nothing speaks against."""
        return self.score > IMPOSSIBLE


@dataclass(slots=True)
class Candidate:
    """One value, and the readings that give it, the best one first."""

    readings: list[Reading]

    @property
    def best(self) -> Reading:
        """The likeliest of its readings."""
        return self.readings[0]


def rank(
    words: Sequence[int],
    later: Sequence[int] | None = None,
    *,
    expected: Range | None = None,
    types: Sequence[str] = (),
) -> list[Candidate]:
    """Every value these registers may hold, the likeliest first.

    `later` are the same registers a little later, `expected` a range in engineering units, `types` narrows
    down what is tried.
    """
    readings = [
        _judged(reading, words, later, expected)
        for reading in _readings(len(words), types or (*TYPES, "string"))
    ]
    readings.sort(key=lambda reading: -reading.score)
    by_value: dict[object, Candidate] = {}
    for reading in readings:
        key = (type(reading.value) is str, reading.value, reading.scale) if reading.possible else id(reading)
        if key in by_value:
            by_value[key].readings.append(reading)
        else:
            by_value[key] = Candidate([reading])
    return list(by_value.values())


def _readings(count: int, types: Sequence[str]) -> list[Reading]:
    found = []
    for type_ in types:
        if type_ == "string":
            found += [Reading("string", order, length=2 * count) for order in ("ABCD", "BADC")]
        elif type_ != "bool" and codec.width(type_) <= count:
            single = codec.width(type_) == 1
            orders = ("ABCD",) if type_ in ("uint8", "int8") else ("ABCD", "BADC") if single else codec.ORDERS
            found += [Reading(type_, order) for order in orders]
    return found


def _judged(
    reading: Reading, words: Sequence[int], later: Sequence[int] | None, expected: Range | None
) -> Reading:
    reading.value = _decoded(reading, words)
    if reading.value is None:
        reading.notes.append(_why_none(reading))
    elif isinstance(reading.value, str):
        _judge_text(reading, expected)
    else:
        _judge_number(reading, float(reading.value), words, later, expected)
        if reading.possible and later is not None:
            _judge_change(reading, later, expected)
    return reading


def _decoded(reading: Reading, words: Sequence[int]) -> Value | None:
    decoder = codec.RegisterDecoder(
        [(0, codec.Field(type=reading.type, length=reading.length, order=reading.order))]
    )
    return decoder.decode(struct.pack(f">{len(words)}H", *words))[0][0]


def _why_none(reading: Reading) -> str:
    if reading.type in codec.FLOATS:
        return "NaN or infinite"
    if reading.type.startswith("bcd"):
        return "a digit above nine"
    return "not printable"


def _judge_text(reading: Reading, expected: Range | None) -> None:
    text = str(reading.value)
    if expected is not None or not text:
        reading.notes.append("text" if text else "empty text")
        return
    usual = sum(character.isascii() and (character.isalnum() or character in " -_./:") for character in text)
    odd = len(text) - usual
    reading.score = 2.0 * usual - 6.0 * odd - _RARITY["string"] - (2.0 if reading.order != "ABCD" else 0.0)
    if len(text) < 3 or odd:
        reading.score -= 8.0
    reading.notes.append("readable text" if not odd else "odd characters")


def _judge_number(
    reading: Reading, raw: float, words: Sequence[int], later: Sequence[int] | None, expected: Range | None
) -> None:
    cost: float | None
    if expected is None:
        if (cost := evidence.cost(raw, reading.type)) is None:
            reading.notes.append("absurdly small" if abs(raw) < 1 else "absurdly large")
            return
    else:
        reading.scale = _fitting_scale(reading.type, raw, expected)
        value = raw * reading.scale
        if not expected[0] <= value <= expected[1]:
            reading.notes.append("outside the expected range")
            return
        if (cost := evidence.cost_within(value, reading.type, expected, reading.scale)) is None:
            reading.notes.append("absurdly small")
            return
        if reading.scale != 1.0:
            reading.value = round(value, 6)
    if (digits := evidence.digits(raw, reading.type)) is not None:
        reading.notes.append(f"{digits} digit{'s' if digits > 1 else ''}")
    rare = _RARITY[reading.type] + _ODDITY[reading.order]
    rare += 1.0 - log10(reading.scale) if reading.scale < 1 else 0.0
    # What may be below zero is signed: today's value does not show it.
    rare += 1.0 if expected is not None and expected[0] < 0 and reading.type.startswith("u") else 0.0
    noise = evidence.noise(words[: reading.registers], reading.type)
    reading.score = noise - cost - rare + evidence.company(reading.type, reading.order, words, later)


def _fitting_scale(type_: str, raw: float, expected: Range) -> float:
    """The scale of a whole number that brings it into the range: registers often hold tenths."""
    scales = (1.0,) if type_ in codec.FLOATS else _SCALES
    return next((scale for scale in scales if expected[0] <= raw * scale <= expected[1]), 1.0)


def _judge_change(reading: Reading, later: Sequence[int], expected: Range | None) -> None:
    """A second later: a measured value moves a little, a wrong reading jumps."""
    raw = _decoded(reading, later)
    if raw is None or isinstance(raw, str) or isinstance(reading.value, str | None):
        reading.score -= 8.0
        reading.notes.append("no value a second later")
        return
    reading.later = round(raw * reading.scale, 6) if reading.scale != 1.0 else raw
    step = abs(float(reading.later) - float(reading.value))
    if step == 0.0:
        return
    size = (expected[1] - expected[0]) if expected is not None else max(abs(float(reading.value)), 1e-9)
    if step <= 0.2 * size:
        reading.score += 3.0
        reading.notes.append("moves a little")
    else:
        reading.score -= 6.0
        reading.notes.append("jumps")
