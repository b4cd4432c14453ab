"""Whatever a device sends (fault E11): never an exception, never NaN or infinity."""

from __future__ import annotations

import math
import random
import struct

import pytest

from edge_agent.types import GOOD, Quality, Reason
from edge_agent_drivers import codec
from edge_agent_drivers.codec import BitDecoder, Field, RegisterDecoder
from edge_agent_drivers.scaling import linear, ne43, two_point

NASTY = [
    b"\x7f\xc0\x00\x00", b"\xff\xff\xff\xff", b"\x7f\x80\x00\x00", b"\xff\x80\x00\x00", b"\x00\x00\x00\x01",
    b"\x80\x00\x00\x00", b"\x80\x00\x80\x00", b"\x00\x00\x7f\x80", b"\xc0\x7f\x00\x00", b"\x7f\xff\xff\xff",
    b"\x7c\x00\xfc\x00", b"\xaa\xaa\xbb\xbb", b"\x27\x10\xd8\xf0", b"\x1b[2J", b"\xff\xfe\x00\x41", bytes(4),
]  # fmt: skip
"""NaN, infinities, denormals, INT_MIN, 0x8000, words and bytes swapped, no BCD, control characters."""
SCALINGS = [None, linear(0.1, -40), linear(1e300, 0), linear(-1e-300, 1e300), two_point((4, 20), (0, 1e9))]


def wild_field(noise: random.Random, type_: str) -> Field:
    """A field of that type with settings that YAML could give it."""
    numeric = type_ not in ("bool", "string")
    invalid: frozenset[float] = frozenset()
    if numeric:
        invalid = codec.sentinels(type_, noise.choice([0, 0x7FFF, 0x70]) if type_[-1] != "8" else 0x70)
    return Field(
        type_,
        length=noise.randint(1, 6) if type_ == "string" else 0,
        order=noise.choice(list(codec.ORDERS)),
        layout=noise.choice(["packed", "low_byte", "high_byte"]) if type_ == "string" else "packed",
        mask=noise.choice([None, 0x6F]) if type_ in ("uint16", "int16", "uint32", "int32") else None,
        scaling=noise.choice(SCALINGS) if numeric else None,
        invalid=noise.choice([frozenset(), invalid]),
        range=noise.choice([None, (-100.0, 100.0)]) if numeric else None,
        signal=noise.choice([None, ne43((0, 16))]) if numeric else None,
    )


def judge(value: object, status: tuple[Quality, Reason], field: Field) -> None:
    quality, reason = status
    assert (value is None) == (quality is Quality.BAD), (field, value, status)
    assert quality is Quality.GOOD or reason is not Reason.NONE
    if isinstance(value, float):
        assert math.isfinite(value), field
    if isinstance(value, str):
        assert value.isprintable()


@pytest.mark.parametrize("seed", range(8))
def test_a_hundred_thousand_payloads_never_become_what_they_are_not(seed: int) -> None:
    """Over all types, orders and settings, 16,000 payloads a seed (128,000 in all) are a value or bad."""
    noise = random.Random(seed)
    for _ in range(400):
        fields, start = [], 0
        for type_ in noise.sample(codec.TYPES, 8):
            field = wild_field(noise, type_)
            fields.append((start, field))
            start += field.registers - noise.choice([0, 0, 1]) * (field.registers > 1)
        end = max(at + field.registers for at, field in fields)
        decoder = RegisterDecoder(fields)
        for _ in range(40):
            nasty = b"".join(noise.choice(NASTY) for _ in range(end // 2 + 1))
            payload = noise.choice([nasty, noise.randbytes(2 * end)])[: 2 * end]
            values, statuses = decoder.decode(payload)
            for i, (_, field) in enumerate(fields):
                judge(values[i], statuses.get(i, GOOD), field)


def test_bits_are_bits_whatever_the_padding() -> None:
    """Coils come out as booleans, and what stands in the padding of the last byte is nobody's."""
    noise = random.Random(1)
    for _ in range(2000):
        offsets = sorted(noise.sample(range(40), 8))
        payload = noise.randbytes(5)
        values, statuses = BitDecoder(offsets).decode(payload)
        assert statuses == {}
        assert values == [bool(payload[at // 8] & 1 << at % 8) for at in offsets]


@pytest.mark.parametrize(
    ("type_", "hexadecimal", "expected"),
    [
        ("int16", "8000", -32768),
        ("int32", "80000000", -(2**31)),
        ("int64", "8000000000000000", -(2**63)),
        ("uint64", "FFFFFFFFFFFFFFFF", 2**64 - 1),
        ("float32", "00000001", 2**-149),
        ("float64", "0000000000000001", 5e-324),
        ("float32", "7F7FFFFF", struct.unpack(">f", bytes.fromhex("7F7FFFFF"))[0]),
        ("float32", "7FC00000", None),
        ("float32", "7FA00000", None),
        ("float32", "FF800000", None),
        ("bcd16", "9A99", None),
        ("mod10_32", "27100000", None),
    ],
)
def test_the_ends_of_each_type(type_: str, hexadecimal: str, expected: float | None) -> None:
    """INT_MIN and denormals are values where nothing says otherwise; NaN and broken digits are none."""
    values, statuses = RegisterDecoder([(0, Field(type_))]).decode(bytes.fromhex(hexadecimal))
    assert values == [expected]
    assert (statuses == {}) == (expected is not None)
