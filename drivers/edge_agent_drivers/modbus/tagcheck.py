"""What is wrong with a Modbus tag by itself: keys that do not go with its type, or with each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_agent.types import Kind
from edge_agent_drivers import codec
from edge_agent_drivers.modbus.words import BitSettings
from edge_agent_drivers.scaling import Scaling

if TYPE_CHECKING:
    from edge_agent_drivers.modbus.tags import ModbusTag

WORDS = ("uint16", "int16", "uint32", "int32")
"""Types whose bits can be named."""
WHOLE = (*(t for t in codec.CODES if t not in codec.FLOATS and t != "bool"),)
"""Types that are whole numbers."""

Problem = tuple[str, str]
"""The key that is wrong, and what is wrong with it."""


def tag_problems(tag: ModbusTag) -> Iterator[Problem]:
    """What is wrong with the tag."""
    type_ = tag.wire_type
    if tag.address.table.bits and type_ != "bool":
        yield "type", f"{tag.address.table}s are bits: {type_} needs a register (holding:... or input:...)"
    if (type_ == "string") != (tag.length is not None):
        yield (
            "length",
            (
                "a string needs its length in characters, as length: 16"
                if type_ == "string"
                else "only strings have a length"
            ),
        )
    if tag.layout != "packed" and type_ != "string":
        yield "layout", "only strings have a layout"
    yield from _scale_problems(tag)
    yield from _sentinel_problems(tag)
    yield from _mask_problems(tag)
    yield from _enum_problems(tag)
    yield from _bit_problems(tag)
    yield from _counter_problems(tag)


def _scale_problems(tag: ModbusTag) -> Iterator[Problem]:
    type_, plain = tag.wire_type, tag.scale == 1.0 and tag.offset == 0.0
    if tag.scale == 0:
        yield "scale", "scale 0 makes every value the same"
    if tag.scaling is not None and not plain:
        yield "scaling", "write either `scaling` or `scale` and `offset`, not both"
    if type_ in ("bool", "string") and (tag.scaling is not None or not plain):
        key = "scaling" if tag.scaling is not None else "scale" if tag.scale != 1.0 else "offset"
        yield key, f"a {type_} has no scale or offset"
    for key in ("scale_from", "decimals_from"):
        if getattr(tag, key) is not None:
            yield from _factor_problems(tag, key)
    if tag.signal is not None and type_ in ("bool", "string"):
        yield "signal", f"a {type_} is no 4-20mA signal"
    if tag.signal is not None and tag.factor is not None:
        yield "signal", "a 4-20mA signal has a fixed scale: write either `signal` or a scale from a register"


def _factor_problems(tag: ModbusTag, key: str) -> Iterator[Problem]:
    if tag.wire_type not in WHOLE:
        yield key, f"a {tag.wire_type} has no scale in another register: that is for whole numbers"
    if tag.scaling is not None:
        yield key, f"write either `scaling` or `{key}`, not both"
    if key == "decimals_from" and tag.scale_from is not None:
        yield key, "write either `scale_from` or `decimals_from`, not both"


def _sentinel_problems(tag: ModbusTag) -> Iterator[Problem]:
    if tag.invalid and tag.wire_type in ("bool", "string"):
        yield "invalid", f"a {tag.wire_type} has no invalid values"
        return
    for value in tag.invalid or ():
        try:
            codec.sentinels(tag.wire_type, value)
        except ValueError as problem:
            yield "invalid", str(problem)


def _mask_problems(tag: ModbusTag) -> Iterator[Problem]:
    if tag.mask is None:
        return
    if tag.wire_type not in WORDS or tag.address.table.bits:
        yield "mask", f"a mask needs a register of type uint16 or uint32, not {tag.wire_type}"
    elif tag.mask >= 1 << 16 * tag.count:
        yield "mask", f"{tag.wire_type} has {16 * tag.count} bits, and 0x{tag.mask:X} has more"
    if tag.bits:
        yield "mask", "write either `mask` or `bits`, which pick their own bits, not both"


def _enum_problems(tag: ModbusTag) -> Iterator[Problem]:
    if not tag.enum:
        return
    type_ = tag.wire_type
    if type_ not in (*WHOLE, "bool"):
        yield "enum", f"names are for whole numbers, not for {type_}"
        return
    if tag.bits:
        yield (
            "enum",
            "a word has either `enum` or `bits`; a number within the word goes below bits: "
            '"4-6": {name: mode, enum: {0: off}}',
        )
    if tag.scaled is not None or tag.factor is not None:
        yield "enum", "named numbers have no scale, offset or scaling"
    for number in tag.enum:
        if type_ == "bool" and number not in (0, 1):
            yield "enum", f"a bool is 0 or 1, not {number}"
        elif type_.startswith(("int", "uint")):
            try:
                codec.sentinels(type_, number)
            except ValueError as problem:
                yield "enum", str(problem).replace("whose raw values have", "which has")


def _bit_problems(tag: ModbusTag) -> Iterator[Problem]:
    if not tag.bits:
        return
    if tag.wire_type not in WORDS or tag.address.table.bits:
        yield "bits", "named bits need a register of type uint16 or uint32"
        return
    if tag.scaled is not None or tag.factor is not None:
        yield "bits", "a word with named bits has no scale, offset or scaling"
    highest = 16 * tag.count - 1
    for first, last, settings in tag.named_bits:
        for bit in (first, last) if last > first else (first,):
            if not 0 <= bit <= highest:
                low, high = tag.bit_base, highest + tag.bit_base
                yield "bits", f"{tag.wire_type} has bits {low} to {high}, not {bit + tag.bit_base}"
        yield from _field_problems(first, last, settings)
    names = [settings.name for _, _, settings in tag.named_bits]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "bits", f"two bits are named '{name}'"


def _field_problems(first: int, last: int, settings: BitSettings) -> Iterator[Problem]:
    if not settings.enum:
        return
    if first == last:
        yield "bits", f"'{settings.name}' is one bit, which needs no enum; several are written like \"4-6\""
        return
    most = (1 << last - first + 1) - 1
    for number in settings.enum:
        if not 0 <= number <= most:
            yield "bits", f"'{settings.name}' has the numbers 0 to {most}, not {number}"


def _counter_problems(tag: ModbusTag) -> Iterator[Problem]:
    if tag.rate is None:
        if tag.rollover is not None:
            yield "rollover", "the rollover is for the rate of the counter: add rate: 1h, or remove it"
        return
    if tag.wire_type in ("bool", "string") or tag.effective_kind is not Kind.COUNTER:
        yield "rate", "a rate is for counters; write kind: counter if this is one"
        return
    if tag.rollover is None:
        return
    most = codec.turnover(tag.wire_type)
    if most is not None and tag.rollover > most:
        yield "rollover", f"{tag.wire_type} starts again at {most} at the latest, not at {tag.rollover}"
    scaling = tag.scaled or Scaling(1, 1, 0.0)
    end = tag.rollover * scaling.numerator / scaling.denominator + scaling.offset
    if tag.range is not None and tag.factor is None and tag.range[1] > end:
        yield (
            "rollover",
            f"the counter starts again at {end:g}, and range goes to {tag.range[1]:g}; correct one of them",
        )
