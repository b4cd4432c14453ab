"""What a tag of a Modbus machine may say in YAML. Imports no protocol library: `check` reads this."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, FiniteFloat, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from edge_agent.contracts.settings import StrictModel, TagSettings, default_kind
from edge_agent.types import Kind, Tag
from edge_agent.units import Duration
from edge_agent_drivers import codec
from edge_agent_drivers.modbus.address import AddressField
from edge_agent_drivers.modbus.orders import Order
from edge_agent_drivers.modbus.tagcheck import tag_problems
from edge_agent_drivers.modbus.words import Bits, NamedBits, Names
from edge_agent_drivers.scaling import Scaling, linear, two_point

MOST_REGISTERS = 125
Type = Literal[
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "bcd16", "bcd32", "mod10_32", "mod10_64", "signmag16", "signmag32",
    "string",
]  # fmt: skip


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
        problems = list(tag_problems(self))
        if problems:
            raise located("ModbusTag", [((key,), message) for key, message in problems])
        return self


def _as_read(type_: str, number: int) -> int:
    if not type_.startswith("int"):
        return number
    try:
        return int(next(iter(codec.sentinels(type_, number))))
    except ValueError:
        # It does not fit, which is said elsewhere.
        return number


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
