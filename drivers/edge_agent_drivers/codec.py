"""Registers to engineering values: types, byte orders, scaling, sentinels. Pure; knows no protocol library.

A `RegisterDecoder` is built once per block and holds precompiled structs, so that the good path makes no
object per sample: unpack, scale in place, check. What cannot be a value (NaN, infinity, a sentinel, a digit
above nine in BCD, text that is none) becomes bad with `invalid_value`, never a number.

Byte orders name the bytes of a 32-bit value in the order they arrive; ABCD is the one of the Modbus
specification. For 64 bits the same scheme goes on (ABCDEFGH, HGFEDCBA, BADCFEHG, GHEFCDAB); for 16 bits
ABCD and CDAB are AB, DCBA and BADC are BA.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

from edge_agent.types import Reason, Status, Value, bad, uncertain
from edge_agent_drivers.convert import CONVERSIONS, from_text
from edge_agent_drivers.scaling import SENSOR_FAILURE, Scaling, Signal

CODES: Mapping[str, str] = {
    "bool": "H",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float16": "e",
    "float32": "f",
    "float64": "d",
    "bcd16": "H",
    "bcd32": "I",
    "mod10_32": "I",
    "mod10_64": "Q",
    "signmag16": "H",
    "signmag32": "I",
}
"""Type -> struct code; `string` has its length instead."""

TYPES = (*CODES, "string")
FLOATS = frozenset({"float16", "float32", "float64"})
ORDERS: Mapping[str, tuple[bool, str]] = {
    "ABCD": (False, ">"),
    "DCBA": (False, "<"),
    "BADC": (True, ">"),
    "CDAB": (True, "<"),
}
"""Byte order -> (swap the two bytes of every register first?, then unpack as big or little endian)."""

INVALID = bad(Reason.INVALID_VALUE)
RANGE_EXCEEDED = uncertain(Reason.RANGE_EXCEEDED)


@dataclass(frozen=True, slots=True)
class Field:
    """How one value lies in its registers and what becomes of it."""

    type: str
    length: int = 0
    """Bytes of a string."""
    order: str = "ABCD"
    layout: str = "packed"
    """Of a string: packed (two characters in a register), low_byte or high_byte (one)."""
    mask: int | None = None
    """Bits of a whole number that count."""
    scaling: Scaling | None = None
    invalid: frozenset[float] = frozenset()
    """Raw values, as `sentinels` gives them, that mean "no value"."""
    range: tuple[float, float] | None = None
    """Engineering range; outside it a value is kept and uncertain."""
    signal: Signal | None = None
    """Where a sensor's signal means that the sensor has failed."""

    @property
    def registers(self) -> int:
        """How many registers the value takes."""
        return width(self.type, self.length, self.layout)


def width(type_: str, length: int = 0, layout: str = "packed") -> int:
    """Registers of a value of that type; `length` is the characters of a string."""
    if type_ == "string" and layout != "packed":
        return length
    size = length if type_ == "string" else struct.calcsize(">" + CODES[type_])
    return (size + 1) // 2


def turnover(type_: str) -> int | None:
    """How many numbers a counter of that type has before it starts again; None for floats."""
    if type_ in FLOATS:
        return None
    decimal = {"bcd16": 4, "bcd32": 8, "mod10_32": 8, "mod10_64": 16}.get(type_)
    bits = 8 * struct.calcsize(">" + CODES[type_]) - type_.startswith("signmag")
    return 10**decimal if decimal else 1 << bits


def sentinels(type_: str, value: float) -> frozenset[float]:
    """What unpacking gives for a raw sentinel as an engineer writes it. ValueError where it does not fit.

    A whole number stands for the bits (0xFFFF is -1 of an int16); for floats it stands for the bits and for
    the number, because manuals write both 0x7FC00000 and -9999.
    """
    if type_ in FLOATS:
        return _float_sentinels(CODES[type_], value)
    if value != int(value):
        raise ValueError(f"{value:g} is no raw value of {type_}: write a whole number, as 0xFFFF or -1")
    bits = 8 * struct.calcsize(">" + CODES[type_])
    number = int(value)
    signed = type_.startswith("int")
    if not (-(1 << bits - 1) if signed else 0) <= number < 1 << bits:
        raise ValueError(f"{value:g} does not fit {type_}, whose raw values have {bits} bits")
    return frozenset({number - (1 << bits) if signed and number >= 1 << bits - 1 else number})


def _float_sentinels(code: str, value: float) -> frozenset[float]:
    size = struct.calcsize(">" + code)
    found: set[float] = set()
    try:
        found.add(struct.unpack(">" + code, struct.pack(">" + code, float(value)))[0])
    except (OverflowError, struct.error):
        if value != int(value):
            raise ValueError(f"{value:g} does not fit a float of {8 * size} bits") from None
    if value == int(value) and 0 <= value < 1 << 8 * size:
        found.add(struct.unpack(">" + code, int(value).to_bytes(size, "big"))[0])
    if not found:
        raise ValueError(f"{value:g} does not fit a float of {8 * size} bits")
    return frozenset(found)


def _conversion(field: Field) -> Callable[..., Value] | None:
    """What turns the unpacked number or bytes into the value before it is scaled; None where it is that."""
    if field.mask is not None:
        return field.mask.__and__
    if field.layout != "packed":
        # Which byte of a register comes first was settled by the byte order.
        start = 0 if field.layout == "high_byte" else 1
        return lambda raw: from_text(raw[start::2])
    return CONVERSIONS.get(field.type)


class _Layer(NamedTuple):
    swapped: bool
    unpack: Callable[[bytes], tuple[Value, ...]]
    columns: tuple[int, ...]


class RegisterDecoder:
    """Decodes one block of registers.

    `fields` are (registers from the start of the block, field), in ascending order; they may overlap.
    """

    def __init__(self, fields: Sequence[tuple[int, Field]]) -> None:
        self._count = len(fields)
        self._layers = _layers(fields)
        known = list(enumerate(field for _, field in fields))
        self._invalid = [(i, f.invalid) for i, f in known if f.invalid]
        self._converted = [(i, convert) for i, f in known if (convert := _conversion(f))]
        self._scaled = [(i, *f.scaling) for i, f in known if f.scaling is not None]
        self._ranged = [(i, *f.range) for i, f in known if f.range is not None]
        self._signals = [(i, f.signal) for i, f in known if f.signal is not None]
        self._floats = [i for i, f in known if (f.range is None or f.signal is not None) and _may_overflow(f)]

    def decode(self, payload: bytes) -> tuple[list[Value | None], dict[int, Status]]:
        """Values in the order of the fields, and the statuses of those that are not good.

        `payload` is the register bytes of the whole block as they came; its length is the caller's to check.
        """
        values = self._unpack(payload)
        statuses: dict[int, Status] = {}
        for i, sentinel in self._invalid:
            if values[i] in sentinel:
                values[i], statuses[i] = None, INVALID
        for i, convert in self._converted:
            try:
                values[i] = None if values[i] is None else convert(values[i])
            except ValueError:
                values[i], statuses[i] = None, INVALID
        for i, numerator, denominator, offset in self._scaled:
            if (raw := values[i]) is not None:
                values[i] = raw * numerator / denominator + offset  # type: ignore[operator]
        self._check(values, statuses)
        return values, statuses

    def _unpack(self, payload: bytes) -> list[Value | None]:
        if len(self._layers) == 1:
            swapped, unpack, _ = self._layers[0]
            return list(unpack(swap_bytes(payload) if swapped else payload))
        values: list[Value | None] = [None] * self._count
        for swapped, unpack, columns in self._layers:
            for column, value in zip(
                columns, unpack(swap_bytes(payload) if swapped else payload), strict=True
            ):
                values[column] = value
        return values

    def _check(self, values: list[Value | None], statuses: dict[int, Status]) -> None:
        for i in self._floats:
            value = values[i]
            if value is not None and not isfinite(value):  # type: ignore[arg-type]
                values[i], statuses[i] = None, INVALID
        for i, signal in self._signals:
            if (value := values[i]) is not None and (status := signal.judge(value)):  # type: ignore[arg-type]
                statuses[i] = status
                if status is SENSOR_FAILURE:
                    values[i] = None
        for i, low, high in self._ranged:
            value = values[i]
            if value is None or low <= value <= high:  # type: ignore[operator]
                continue
            if isfinite(value):  # type: ignore[arg-type]
                statuses.setdefault(i, RANGE_EXCEEDED)
            else:
                values[i], statuses[i] = None, INVALID


def _may_overflow(field: Field) -> bool:
    """Whether decoding can give NaN or infinity: floats, and whole numbers under an absurd scale."""
    if field.type in FLOATS or field.scaling is None:
        return field.type in FLOATS
    numerator, denominator, offset = field.scaling
    return not isfinite(2.0**64 * numerator / denominator + offset)


class BitDecoder:
    """Decodes one block of coils or discrete inputs; `offsets` count from the block's first."""

    def __init__(self, offsets: Sequence[int]) -> None:
        self._offsets = tuple(offsets)

    def decode(self, payload: bytes) -> tuple[list[Value | None], dict[int, Status]]:
        """Booleans in the order of the offsets; the first coil is the least significant bit of byte 0."""
        bits = int.from_bytes(payload, "little")
        return [bool(bits >> offset & 1) for offset in self._offsets], {}


def swap_bytes(payload: bytes) -> bytes:
    """`payload` (an even number of bytes) with the two bytes of every register exchanged."""
    words = array("H", payload)
    words.byteswap()
    return words.tobytes()


def _placing(field: Field) -> tuple[bool, str]:
    """Which of the four ways of unpacking the field takes; fewer ways are fewer structs per block."""
    if field.type == "string":
        return field.order in ("DCBA", "BADC"), ">"
    if field.registers == 1:
        return False, "<" if field.order in ("DCBA", "BADC") else ">"
    return ORDERS[field.order]


def _code(field: Field, endian: str) -> str:
    if field.type == "string":
        size = field.length if field.layout == "packed" else 2 * field.length
        return f"{size}s" + "x" * (size % 2)
    code = CODES[field.type]
    if field.type in ("int8", "uint8"):
        # The low byte of the register is where devices put a single byte.
        return "x" + code if endian == ">" else code + "x"
    return code


def _layers(fields: Sequence[tuple[int, Field]]) -> list[_Layer]:
    """Structs that together unpack all fields: one per byte order in use, more where fields overlap."""
    pending: dict[tuple[bool, str], list[tuple[int, int, Field]]] = {}
    for column, (start, field) in enumerate(fields):
        pending.setdefault(_placing(field), []).append((column, start, field))
    layers: list[_Layer] = []
    for (swapped, endian), group in pending.items():
        rest = group
        while rest:
            code, columns, later, end = endian, [], [], 0
            for column, start, field in rest:
                if start < end:
                    later.append((column, start, field))
                    continue
                code += "xx" * (start - end) + _code(field, endian)
                columns.append(column)
                end = start + field.registers
            layers.append(_Layer(swapped, _unpacker(code), tuple(columns)))
            rest = later
    return layers


def _unpacker(code: str) -> Callable[[bytes], tuple[Value, ...]]:
    # unpack_from, because a block may go on behind the last field of this layer.
    return struct.Struct(code).unpack_from
