"""The codec against expectations that share nothing with `struct`: arithmetic on bits and letters."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.types import GOOD, Quality, Reason
from edge_agent_drivers import codec, scaling
from edge_agent_drivers.codec import BitDecoder, Field, RegisterDecoder

ORDERS = st.sampled_from(sorted(codec.ORDERS))
LETTERS = {
    1: {"ABCD": "AB", "CDAB": "AB", "DCBA": "BA", "BADC": "BA"},
    2: {order: order for order in codec.ORDERS},
    4: {"ABCD": "ABCDEFGH", "DCBA": "HGFEDCBA", "BADC": "BADCFEHG", "CDAB": "GHEFCDAB"},
}
"""Registers -> byte order -> which byte of the value, A the most significant, arrives when."""
INTEGERS = {
    "int16": (16, True), "uint16": (16, False), "int32": (32, True), "uint32": (32, False),
    "int64": (64, True), "uint64": (64, False),
}  # fmt: skip
FLOATS = {"float16": (5, 10), "float32": (8, 23), "float64": (11, 52)}
"""Type -> bits of exponent and of fraction."""


def on_wire(bits: int, registers: int, order: str) -> bytes:
    """The register bytes of a value's bits, by spelling the order out letter by letter."""
    value = bits.to_bytes(2 * registers, "big")
    return bytes(value[ord(letter) - ord("A")] for letter in LETTERS[registers][order])


def ieee(bits: int, exponent_bits: int, fraction_bits: int) -> float:
    """A float by the definition of IEEE 754."""
    sign = -1.0 if bits >> exponent_bits + fraction_bits else 1.0
    exponent = bits >> fraction_bits & (1 << exponent_bits) - 1
    fraction = bits & (1 << fraction_bits) - 1
    bias = (1 << exponent_bits - 1) - 1
    if exponent == (1 << exponent_bits) - 1:
        return math.nan if fraction else sign * math.inf
    if exponent == 0:
        return sign * math.ldexp(fraction, 1 - bias - fraction_bits)
    return sign * math.ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits)


def decode_one(field: Field, payload: bytes) -> tuple[object, Reason]:
    values, statuses = RegisterDecoder([(0, field)]).decode(payload)
    status = statuses.get(0, GOOD)
    assert (values[0] is None) == (status.quality is Quality.BAD)
    return values[0], status.reason


@given(st.sampled_from(sorted(INTEGERS)), ORDERS, st.data())
def test_integers_come_out_as_they_went_in(type_: str, order: str, data: st.DataObject) -> None:
    """Every integer type in every byte order gives the number whose bits were put on the wire."""
    bits, signed = INTEGERS[type_]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    number = data.draw(st.integers(low, high) | st.sampled_from([low, high, 0]))
    payload = on_wire(number % (1 << bits), bits // 16, order)
    assert decode_one(Field(type_, order=order), payload) == (number, Reason.NONE)


@given(st.sampled_from(sorted(FLOATS)), ORDERS, st.data())
def test_floats_follow_ieee_754_and_nothing_else_is_a_number(
    type_: str, order: str, data: st.DataObject
) -> None:
    """Every bit pattern gives its IEEE 754 value, denormals included; NaN and infinities are bad."""
    exponent, fraction = FLOATS[type_]
    width = 1 + exponent + fraction
    special = st.sampled_from([0, 1, 1 << width - 1, ((1 << exponent) - 1) << fraction, (1 << width) - 1])
    bits = data.draw(st.integers(0, (1 << width) - 1) | special)
    value, reason = decode_one(Field(type_, order=order), on_wire(bits, width // 16, order))
    expected = ieee(bits, exponent, fraction)
    if math.isfinite(expected):
        assert isinstance(value, float)
        assert (value, math.copysign(1, value)) == (expected, math.copysign(1, expected))
    else:
        assert (value, reason) == (None, Reason.INVALID_VALUE)


@given(st.sampled_from(["int8", "uint8"]), ORDERS, st.integers(0, 255), st.integers(0, 255))
def test_a_single_byte_is_the_low_byte_of_its_register(type_: str, order: str, byte: int, other: int) -> None:
    """8-bit types take the register's low byte, wherever the byte order puts that, and ignore the other."""
    expected = byte - 256 if type_ == "int8" and byte > 127 else byte
    assert decode_one(Field(type_, order=order), on_wire(other << 8 | byte, 1, order))[0] == expected


@given(st.sampled_from([("bcd16", 4), ("bcd32", 8)]), ORDERS, st.data())
def test_bcd_is_decimal_digits_or_bad(kind: tuple[str, int], order: str, data: st.DataObject) -> None:
    """BCD reads as the decimal number it spells; a digit above nine is no number."""
    type_, digits = kind
    spelled = data.draw(st.text("0123456789abcdef", min_size=digits, max_size=digits))
    outcome = decode_one(Field(type_, order=order), on_wire(int(spelled, 16), digits // 4, order))
    expected = (int(spelled), Reason.NONE) if spelled.isdecimal() else (None, Reason.INVALID_VALUE)
    assert outcome == expected


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=20), ORDERS, st.integers(0, 3)
)
def test_text_comes_out_without_its_padding(text: str, order: str, padding: int) -> None:
    """Strings of both byte layouts lose trailing NULs and spaces, and keep an odd length."""
    filled = text.encode() + (b"\0" * padding if padding < 3 else b" " * padding)
    length = max(1, len(filled))
    even = filled.ljust(length + length % 2, b"\0")
    pairs = [even[i : i + 2] for i in range(0, len(even), 2)]
    payload = b"".join(pair if order in ("ABCD", "CDAB") else pair[::-1] for pair in pairs)
    assert decode_one(Field("string", length=length, order=order), payload) == (text, Reason.NONE)


@pytest.mark.parametrize("payload", [b"\xff\xff\xff\xff", b"a\x01bc", b"\x1b[2J"])
def test_what_is_no_text_is_bad(payload: bytes) -> None:
    """Empty flash (all 0xFF) and control characters never become a string."""
    assert decode_one(Field("string", length=4), payload) == (None, Reason.INVALID_VALUE)


def test_latin_1_text_is_read() -> None:
    """Older devices send umlauts in Latin-1."""
    assert decode_one(Field("string", length=8), b"K\xfchlung\0")[0] == "Kühlung"


@given(
    st.integers(-32768, 32767),
    st.decimals("-1000", "1000", places=4).filter(bool),
    st.decimals("-500", "500", places=3),
)
def test_scaling_gives_the_decimal_an_engineer_expects(raw: int, scale: Decimal, offset: Decimal) -> None:
    """raw * scale is the nearest float to the exact decimal product: 3 * 0.1 is 0.3."""
    field = Field("int16", scaling=scaling.linear(float(scale), float(offset)))
    value, _ = decode_one(field, on_wire(raw % 65536, 1, "ABCD"))
    assert value == float(Fraction(raw) * Fraction(scale)) + float(offset)


@given(st.integers(-1000, 27648), st.integers(1, 30000), st.decimals("-100", "100", places=2))
def test_two_point_scaling_goes_through_both_points(low: int, span: int, eng: Decimal) -> None:
    """The raw end points give exactly the engineering end points."""
    line = scaling.two_point((low, low + span), (float(eng), float(eng) + 16))
    decoder = RegisterDecoder([(0, Field("int32", scaling=line)), (2, Field("int32", scaling=line))])
    payload = b"".join((raw % (1 << 32)).to_bytes(4, "big") for raw in (low, low + span))
    assert decoder.decode(payload)[0] == pytest.approx([float(eng), float(eng) + 16], abs=1e-9)


@pytest.mark.parametrize(
    ("type_", "written", "payload"),
    [
        ("int16", 0x8000, "8000"),
        ("int16", -1, "FFFF"),
        ("uint16", 0xFFFF, "FFFF"),
        ("uint32", 0xFFFFFFFF, "FFFFFFFF"),
        ("float32", 0xFFFFFFFF, "FFFFFFFF"),
        ("float32", 0x7F7FFFFF, "7F7FFFFF"),
        ("float32", -9999.0, "C61C3C00"),
        ("float32", 9999, "461C3C00"),
        ("bcd16", 0x9999, "9999"),
    ],
)
def test_sentinels_are_recognised_as_manuals_write_them(type_: str, written: float, payload: str) -> None:
    """A sentinel may be the bits or the number, and is bad whatever the scaling would make of it."""
    field = Field(type_, scaling=scaling.linear(0.1, 0), invalid=codec.sentinels(type_, written))
    assert decode_one(field, bytes.fromhex(payload)) == (None, Reason.INVALID_VALUE)


@pytest.mark.parametrize(
    ("type_", "written"),
    [("uint16", 0x10000), ("uint16", -1), ("int16", -32769), ("int16", 1.5), ("float16", 1e9 + 0.5)],
)
def test_a_sentinel_that_does_not_fit_is_an_error(type_: str, written: float) -> None:
    """A raw value the type cannot have is refused, because it would never match."""
    with pytest.raises(ValueError, match=r"does not fit|no raw value"):
        codec.sentinels(type_, written)


def test_outside_its_range_a_value_is_kept_and_uncertain() -> None:
    """The engineering range marks a value; it does not take it away."""
    field = Field("int16", scaling=scaling.linear(0.1, 0), range=(0.0, 25.0))
    assert decode_one(field, (250).to_bytes(2, "big")) == (25.0, Reason.NONE)
    assert decode_one(field, (251).to_bytes(2, "big")) == (25.1, Reason.RANGE_EXCEEDED)


FIELDS = st.builds(
    lambda type_, order, length: Field(type_, length if type_ == "string" else 0, order),
    st.sampled_from(codec.TYPES),
    ORDERS,
    st.integers(1, 9),
)


@given(
    st.lists(st.tuples(st.integers(0, 12), FIELDS), min_size=1, max_size=12),
    st.binary(min_size=80, max_size=80),
)
def test_a_block_decodes_each_value_as_if_it_were_alone(
    placed: list[tuple[int, Field]], payload: bytes
) -> None:
    """Types, byte orders, gaps and overlaps in one block do not influence each other."""
    placed.sort(key=lambda pair: pair[0])
    values, statuses = RegisterDecoder(placed).decode(payload)
    for i, (start, field) in enumerate(placed):
        alone = decode_one(field, payload[2 * start : 2 * (start + field.registers)])
        assert (values[i], statuses.get(i, GOOD).reason) == alone


@given(
    st.sampled_from(sorted(codec.CODES)),
    st.floats(allow_nan=False, allow_infinity=False, width=32).filter(bool),
    st.binary(min_size=8, max_size=8),
)
def test_no_bytes_give_nan_infinity_or_an_exception(type_: str, scale: float, payload: bytes) -> None:
    """Whatever a device sends and however it is scaled, a value is finite or there is none."""
    line = scaling.linear(scale * 1e260, 0.0) if type_ != "bool" else None
    values, statuses = RegisterDecoder([(0, Field(type_, scaling=line))]).decode(payload)
    value = values[0]
    assert statuses or value is not None
    assert value is None or math.isfinite(float(value))


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.data())
def test_bits_count_from_the_lowest_of_the_first_byte(coils: list[bool], data: st.DataObject) -> None:
    """Coil n is bit n mod 8 of byte n div 8."""
    payload = bytearray((len(coils) + 7) // 8)
    for i, coil in enumerate(coils):
        payload[i // 8] |= coil << i % 8
    wanted = data.draw(st.lists(st.integers(0, len(coils) - 1), max_size=10))
    assert BitDecoder(wanted).decode(bytes(payload)) == ([coils[i] for i in wanted], {})
