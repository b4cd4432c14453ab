"""What a tag of a Modbus machine may say in YAML. Imports no protocol library: `check` reads this."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, FiniteFloat, StringConstraints, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from edge_agent.contracts.settings import DiscreteAlarmSettings, StrictModel, TagSettings, default_kind
from edge_agent.types import Kind, Tag
from edge_agent.units import Duration
from edge_agent_drivers import codec
from edge_agent_drivers.modbus.address import AddressField
from edge_agent_drivers.modbus.orders import Order
from edge_agent_drivers.scaling import Scaling, linear, two_point

MOST_REGISTERS = 125
Type = Literal[
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "bcd16", "bcd32", "mod10_32", "mod10_64", "signmag16", "signmag32",
    "string",
]  # fmt: skip
WORDS = ("uint16", "int16", "uint32", "int32")
"""Types whose bits can be named."""
WHOLE = (*(t for t in codec.CODES if t not in codec.FLOATS and t != "bool"),)
"""Types that are whole numbers."""

Problem = tuple[str, str]
"""The key that is wrong, and what is wrong with it."""


class ScalingSettings(StrictModel):
    """Two points of a straight line: `raw: [0, 27648], eng: [0, 16]`."""

    raw: tuple[FiniteFloat, FiniteFloat]
    """Two raw values."""
    eng: tuple[FiniteFloat, FiniteFloat]
    """The engineering values that belong to them."""

    @model_validator(mode="after")
    def _a_line(self) -> Self:
        if self.raw[0] == self.raw[1] or self.eng[0] == self.eng[1]:
            raise ValueError("scaling needs two different points, as raw: [0, 27648], eng: [0, 16]")
        return self


Names = dict[int, Annotated[str, StringConstraints(min_length=1, max_length=128)]]
"""Raw number -> what it means, as {0: stopped, 1: running}."""


class BitSettings(StrictModel):
    """One bit of a status word, or several that lie side by side."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$", max_length=128)]
    """It becomes the tag WORD.name."""
    label: str | None = None
    """Free text shown to people."""
    description: str | None = None
    """Anything worth knowing."""
    enum: Names = {}
    """Of several bits: what their number means; its text becomes the tag WORD.name.text."""
    alarm: DiscreteAlarmSettings | None = None
    """An alarm on the bit, or on the number that several make."""


def _named(written: object) -> object:
    return {"name": written} if isinstance(written, str) else written


def _bit_key(written: object) -> object:
    text = str(written)
    if not re.fullmatch(r"\d{1,2}(-\d{1,2})?", text):
        raise ValueError(f"'{text}' is no bit: write a number like 3, or several like \"4-6\"")
    return text


Bits = dict[
    Annotated[str, BeforeValidator(_bit_key), StringConstraints(pattern=r"^\d{1,2}(-\d{1,2})?$")],
    Annotated[BitSettings, BeforeValidator(_named)],
]
"""`3` or `4-6` -> a name, or a mapping with `name`."""


class NamedBits(NamedTuple):
    """Bits `first` to `last` of a word, counted from 0, the least significant."""

    first: int
    last: int
    settings: BitSettings


def _no_number(written: object) -> object:
    if isinstance(written, int | float):
        raise ValueError(
            "this names the tag of the register that holds it: write scale: 0.1 where it is fixed"
        )
    return written


class ModbusTag(TagSettings):
    """One value of a Modbus device."""

    address: AddressField
    """holding:100, input:12, coil:3, discrete:0, or six-digit Modicon notation (400101)."""
    type: Type | None = None
    """Default: uint16 for registers, bool for coils and discrete inputs."""
    length: int | None = Field(default=None, ge=1, le=2 * MOST_REGISTERS)
    """Length of a string in characters (bytes)."""
    layout: Literal["packed", "low_byte", "high_byte"] = "packed"
    """Of a string: two characters in a register, or one, in the low or in the high byte."""
    byte_order: Order | None = None
    """Of this tag; default: the machine's."""
    scale: FiniteFloat = 1.0
    """value = raw * scale + offset."""
    offset: FiniteFloat = 0.0
    scaling: ScalingSettings | None = None
    """Instead of scale and offset: two points."""
    scale_from: Annotated[str | None, BeforeValidator(_no_number)] = None
    """The tag that holds the power of ten to multiply with (SunSpec); `scale` and `offset` come after it."""
    decimals_from: Annotated[str | None, BeforeValidator(_no_number)] = None
    """The tag that holds the number of decimals: raw / 10^n; `scale` and `offset` come after it."""
    signal: Literal["4-20mA"] | None = None
    """NAMUR NE 43: below 3.6 or above 21 mA the sensor has failed. 4 and 20 mA are the two points of
    `scaling`; without it the value itself is in mA."""
    invalid: list[int | FiniteFloat] | None = None
    """Raw values that mean "no value", as 0xFFFF; default: the machine's for the type. [] for none."""
    mask: int | None = Field(default=None, ge=1)
    """Bits that count, as 0x006F; the others are taken as 0."""
    enum: Names = {}
    """What the numbers mean: {0: stopped, 1: running}. The value stays the number, the text is TAG.text."""
    bits: Bits = {}
    """Named bits of a status word, {0: ready, "4-6": mode}: TAG.ready, TAG.mode. 0 is the lowest bit."""
    bit_base: Literal[0, 1] = 0
    """1 where the manual numbers the bits from one."""
    rate: Duration | None = Field(default=None, gt=0)
    """Of a counter: TAG.rate is how much it grows in that time; 1h makes kW of kWh."""
    rollover: int | None = Field(default=None, ge=2)
    """Of a counter with a rate: the raw number at which it starts again from 0, as 65536."""

    @property
    def wire_type(self) -> str:
        """The type that is read: as written, or the default of the table."""
        return self.type or ("bool" if self.address.table.bits else "uint16")

    @property
    def count(self) -> int:
        """How many registers, or bits of a bit table, the value takes."""
        return 1 if self.address.table.bits else codec.width(self.wire_type, self.length or 0, self.layout)

    @property
    def scaled(self) -> Scaling | None:
        """The scaling, or None where raw is the value."""
        if self.scaling is not None:
            return two_point(self.scaling.raw, self.scaling.eng)
        if self.scale == 1.0 and self.offset == 0.0:
            return None
        return linear(self.scale, self.offset)

    @property
    def factor(self) -> str | None:
        """The tag that holds a power of ten for this one."""
        return self.scale_from or self.decimals_from

    @property
    def effective_kind(self) -> Kind:
        """As written, or the default; words of bits and enumerations are states."""
        if self.kind is None and (self.bits or self.enum):
            return Kind.STATE
        return self.kind or default_kind(self.wire_type, self.unit)

    @property
    def names(self) -> tuple[tuple[int, str], ...]:
        """`enum` with its numbers as they come out of decoding (0xFFFF is -1 of an int16), in order."""
        return tuple(sorted((_as_read(self.wire_type, key), text) for key, text in self.enum.items()))

    @property
    def named_bits(self) -> tuple[NamedBits, ...]:
        """`bits` with their places in the word."""
        found = []
        for key, settings in self.bits.items():
            ends = sorted(int(end) - self.bit_base for end in key.split("-"))
            found.append(NamedBits(ends[0], ends[-1], settings))
        return tuple(found)

    def tag(self, name: str, type_: str) -> Tag:
        """The runtime tag, with what its numbers mean."""
        return replace(super().tag(name, type_), kind=self.effective_kind, names=self.names)

    def derived(self, name: str) -> Iterator[tuple[str, str]]:
        """The tags that are made of this one, which is called `name`: (key it comes from, its name)."""
        if self.enum:
            yield "enum", f"{name}.text"
        for _, _, settings in self.named_bits:
            yield "bits", f"{name}.{settings.name}"
            if settings.enum:
                yield "bits", f"{name}.{settings.name}.text"
        if self.rate is not None:
            yield "rate", f"{name}.rate"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        problems = list(_tag_problems(self))
        if problems:
            raise located("ModbusTag", [((key,), message) for key, message in problems])
        return self


def _as_read(type_: str, number: int) -> int:
    try:
        return int(next(iter(codec.sentinels(type_, number)))) if type_ != "bool" else number
    except ValueError:
        return number


def _tag_problems(tag: ModbusTag) -> Iterator[Problem]:
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
        elif type_ != "bool":
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


def located(title: str, problems: list[tuple[tuple[str, ...], str]]) -> ValidationError:
    """Several problems, each at its own place below the model being validated."""
    return ValidationError.from_exception_data(
        title,
        [
            InitErrorDetails(
                type=PydanticCustomError("value_error", "{text}", {"text": text}), loc=loc, input=loc[-1]
            )
            for loc, text in problems
        ],
    )
