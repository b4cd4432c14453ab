"""The codec and the simulator's encoder against two that are not ours: libmodbus' and Node's."""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent_drivers import codec
from edge_agent_drivers.codec import Field, RegisterDecoder
from edge_agent_simulators.register_map import Entry
from tests.support import tools
from tests.support.nodevalues import TYPES, NodeValues

ORDERS = ("ABCD", "DCBA", "BADC", "CDAB")
OLD_NAMES = {"ABCD": "badc", "CDAB": "dcba", "BADC": "abcd", "DCBA": "cdab"}
"""Up to 3.1.6 the letters of modbus_set_float_* are the bytes in a little-endian computer's memory (those of
modbus_get_float_* are the bytes on the wire: the two are no pair there)."""


def numbers(type_: str) -> st.SearchStrategy[float]:
    if type_ == "float32":
        return st.floats(width=32, allow_nan=False, allow_infinity=False)
    if type_ == "float64":
        return st.floats(allow_nan=False, allow_infinity=False)
    bits = int(type_.lstrip("uint"))
    low, high = (0, (1 << bits) - 1) if type_.startswith("u") else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return st.integers(low, high) | st.sampled_from([low, high])


QUESTIONS = st.lists(
    st.sampled_from(TYPES).flatmap(
        lambda type_: st.tuples(st.just(type_), st.sampled_from(ORDERS), numbers(type_))
    ),
    min_size=1,
    max_size=60,
)


def decode(type_: str, order: str, raw: bytes) -> float:
    values, statuses = RegisterDecoder([(0, Field(type_, order=order))]).decode(raw)
    assert statuses == {}
    assert isinstance(values[0], int | float)
    return values[0]


def same(one: float, other: float) -> bool:
    return one == other and math.copysign(1, one) == math.copysign(1, other)


@pytest.fixture(scope="module")
def node() -> Iterator[NodeValues]:
    with NodeValues() as started:
        yield started


@given(questions=QUESTIONS)
def test_what_node_encodes_is_what_we_decode(
    node: NodeValues, questions: list[tuple[str, str, float]]
) -> None:
    """Every type in every byte order, 64 bits among them: Node's bytes give back Node's number."""
    for (type_, order, number), raw in zip(questions, node.encode(questions), strict=True):
        assert same(decode(type_, order, raw), number), (type_, order, raw.hex())


@given(questions=QUESTIONS)
def test_what_the_simulator_encodes_node_and_we_decode(
    node: NodeValues, questions: list[tuple[str, str, float]]
) -> None:
    """The simulator's registers mean the same to Node and to us."""
    raws = [Entry("t", "holding", 0, type_, order).encoder()(number) for type_, order, number in questions]
    asked = [(type_, order, raw) for (type_, order, _), raw in zip(questions, raws, strict=True)]
    for (type_, order, number), raw, read in zip(questions, raws, node.decode(asked), strict=True):
        assert same(read, number), (type_, order, raw.hex())
        assert same(decode(type_, order, raw), read), (type_, order, raw.hex())


class LibmodbusFloats:
    """libmodbus' own conversions of floats."""

    def __init__(self) -> None:
        self._library: Any = ctypes.CDLL(str(tools.library("libmodbus.so.5")))
        self._names = {order: order.lower() for order in ORDERS}
        if self.encode("ABCD", 1.0) != b"\x3f\x80\x00\x00":
            self._names = OLD_NAMES

    def encode(self, order: str, number: float) -> bytes:
        put = getattr(self._library, f"modbus_set_float_{self._names[order]}")
        put.argtypes, put.restype = [ctypes.c_float, ctypes.POINTER(ctypes.c_uint16)], None
        words = (ctypes.c_uint16 * 2)()
        put(number, words)
        return struct.pack(">2H", *words)

    def decode(self, order: str, raw: bytes) -> float:
        get = getattr(self._library, f"modbus_get_float_{order.lower()}")
        get.argtypes, get.restype = [ctypes.POINTER(ctypes.c_uint16)], ctypes.c_float
        return float(get((ctypes.c_uint16 * 2)(*struct.unpack(">2H", raw))))


@pytest.fixture(scope="module")
def floats() -> LibmodbusFloats:
    return LibmodbusFloats()


@given(number=numbers("float32"), order=st.sampled_from(ORDERS))
def test_floats_of_libmodbus(floats: LibmodbusFloats, number: float, order: str) -> None:
    """A float that libmodbus encodes we decode, and one that our simulator encodes libmodbus decodes."""
    assert same(decode("float32", order, floats.encode(order, number)), number)
    assert same(floats.decode(order, Entry("t", "holding", 0, "float32", order).encoder()(number)), number)


@given(st.integers(-(10**8) + 1, 10**8 - 1), st.sampled_from(ORDERS), st.sampled_from([2, 4]), st.data())
def test_decimal_words_and_signs(number: int, order: str, words: int, data: st.DataObject) -> None:
    """Words of four decimal digits, and a sign bit with a magnitude, give the number they were made of."""
    if words == 4:
        number = data.draw(st.integers(-(10**16) + 1, 10**16 - 1))
    digits = f"{abs(number):0{4 * words}d}"
    sign = -1 if number < 0 else 1
    groups = [sign * int(digits[at : at + 4]) & 0xFFFF for at in range(0, 4 * words, 4)]
    assert decode(f"mod10_{16 * words}", order, placed(groups, order)) == number
    magnitude = abs(number) % (1 << 15)
    word = magnitude | (0x8000 if number < 0 else 0)
    assert decode("signmag16", order, placed([word], order)) == sign * magnitude
    long = abs(number) % (1 << 31)
    whole = long | (0x80000000 if number < 0 else 0)
    assert decode("signmag32", order, placed([whole >> 16, whole & 0xFFFF], order)) == sign * long


def placed(words: list[int], order: str) -> bytes:
    """Registers, the most significant first, as a byte order sends them."""
    in_order = words[::-1] if order in ("CDAB", "DCBA") else words
    pairs = [word.to_bytes(2, "big") for word in in_order]
    return b"".join(pair[::-1] if order in ("BADC", "DCBA") else pair for pair in pairs)


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
    st.sampled_from(["low_byte", "high_byte"]),
    st.sampled_from(ORDERS),
    st.integers(0, 255),
)
def test_text_with_one_character_a_register(text: str, layout: str, order: str, other: int) -> None:
    """One character in the low or the high byte of each register, whatever is in the other byte."""
    codes = [ord(sign) for sign in text]
    words = [code | other << 8 if layout == "low_byte" else code << 8 | other for code in codes]
    raw = b"".join(word.to_bytes(2, "little" if order in ("BADC", "DCBA") else "big") for word in words)
    field = Field("string", length=len(text), layout=layout, order=order)
    assert field.registers == len(text)
    assert RegisterDecoder([(0, field)]).decode(raw) == ([text], {})


@pytest.mark.parametrize("payload", ["2710 0001", "0001 FFFF", "8000 0000"])
def test_decimal_words_that_are_none_are_bad(payload: str) -> None:
    """A word over 9999, and words of two signs, are no number."""
    field = Field("mod10_32")
    values, statuses = RegisterDecoder([(0, field)]).decode(bytes.fromhex(payload))
    assert (values, statuses) == ([None], {0: codec.INVALID})
