"""What a Modbus machine and its tags may say in YAML. Imports no protocol library: `check` reads this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AliasChoices,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from edge_agent.contracts.settings import MachineSettings, Name, StrictModel, TagSettings
from edge_agent.units import Duration
from edge_agent_drivers import codec
from edge_agent_drivers.modbus.address import AddressField
from edge_agent_drivers.modbus.endpoint import Endpoint, parse_endpoint
from edge_agent_drivers.modbus.identity import IdentitySettings
from edge_agent_drivers.modbus.orders import Order, Orders
from edge_agent_drivers.modbus.watchdog import ModbusWatchdog, armed_tags
from edge_agent_drivers.scaling import Scaling, linear, two_point

MOST_REGISTERS = 125
Type = Literal[
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "bcd16", "bcd32", "string",
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


class CommSettings(StrictModel):
    """Timing of the connection."""

    timeout: Duration | None = None
    """How long to wait for an answer; default: the machine's `timeout`."""
    retries: int = Field(default=0, ge=0)
    """Not yet: a request that was not answered is asked again at the next scan."""
    pause: Duration = 0.0
    """Least time between an answer and the next request, for slow devices."""
    connect_pause: Duration = 0.0
    """Time between connecting and the first request."""
    retest: Duration = 600.0
    """How often a refused register is tried again."""

    @model_validator(mode="after")
    def _no_retries(self) -> Self:
        if self.retries:
            raise ValueError("not yet: leave comm.retries out; the next scan asks again")
        return self


class ModbusTag(TagSettings):
    """One value of a Modbus device."""

    address: AddressField
    """holding:100, input:12, coil:3, discrete:0, or six-digit Modicon notation (400101)."""
    type: Type | None = None
    """Default: uint16 for registers, bool for coils and discrete inputs."""
    length: int | None = Field(default=None, ge=1, le=2 * MOST_REGISTERS)
    """Length of a string in characters (bytes); two of them in a register."""
    byte_order: Order | None = None
    """Of this tag; default: the machine's."""
    scale: FiniteFloat = 1.0
    """value = raw * scale + offset."""
    offset: FiniteFloat = 0.0
    scaling: ScalingSettings | None = None
    """Instead of scale and offset: two points."""
    invalid: list[int | FiniteFloat] = []
    """Raw values that mean "no value", as 0xFFFF."""
    bits: dict[int, Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$", max_length=128)]] = {}
    """Named bits of a status word: {0: ready}; bit 0 is the least significant. They become TAG.ready."""
    bit_base: Literal[0, 1] = 0
    """1 where the manual numbers the bits from one."""

    @property
    def wire_type(self) -> str:
        """The type that is read: as written, or the default of the table."""
        return self.type or ("bool" if self.address.table.bits else "uint16")

    @property
    def count(self) -> int:
        """How many registers, or bits of a bit table, the value takes."""
        return 1 if self.address.table.bits else codec.width(self.wire_type, self.length or 0)

    @property
    def scaled(self) -> Scaling | None:
        """The scaling, or None where raw is the value."""
        if self.scaling is not None:
            return two_point(self.scaling.raw, self.scaling.eng)
        if self.scale == 1.0 and self.offset == 0.0:
            return None
        return linear(self.scale, self.offset)

    @property
    def sentinels(self) -> frozenset[float]:
        """The raw values that mean "no value", as they come out of unpacking."""
        return frozenset().union(*(codec.sentinels(self.wire_type, value) for value in self.invalid))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        problems = list(_tag_problems(self))
        if problems:
            raise _located("ModbusTag", [((key,), message) for key, message in problems])
        return self


def _tag_problems(tag: ModbusTag) -> Iterator[tuple[str, str]]:
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
    if tag.scale == 0:
        yield "scale", "scale 0 makes every value the same"
    if tag.scaling is not None and (tag.scale != 1.0 or tag.offset != 0.0):
        yield "scaling", "write either `scaling` or `scale` and `offset`, not both"
    if type_ in ("bool", "string"):
        if tag.scale != 1.0 or tag.offset != 0.0 or tag.scaling is not None:
            yield "scaling" if tag.scaling is not None else "scale", f"a {type_} has no scale or offset"
        if tag.invalid:
            yield "invalid", f"a {type_} has no invalid values"
    else:
        yield from _sentinel_problems(tag)
    yield from _bit_problems(tag)


def _sentinel_problems(tag: ModbusTag) -> Iterator[tuple[str, str]]:
    for value in tag.invalid:
        try:
            codec.sentinels(tag.wire_type, value)
        except ValueError as problem:
            yield "invalid", str(problem)


def _bit_problems(tag: ModbusTag) -> Iterator[tuple[str, str]]:
    if not tag.bits:
        return
    if tag.wire_type not in ("uint16", "int16", "uint32", "int32") or tag.address.table.bits:
        yield "bits", "named bits need a register of type uint16 or uint32"
        return
    if tag.scaled is not None:
        yield "bits", "a word with named bits has no scale, offset or scaling"
    highest = 16 * tag.count - 1 + tag.bit_base
    for bit in tag.bits:
        if not tag.bit_base <= bit <= highest:
            yield "bits", f"{tag.wire_type} has bits {tag.bit_base} to {highest}, not {bit}"
    names = list(tag.bits.values())
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "bits", f"two bits are named '{name}'"


_NOT_YET = {"udp": "UDP", "tls": "TLS", "rtu": "serial lines", "rtu+tcp": "RTU over TCP"}


class ModbusMachine(MachineSettings):
    """A Modbus device."""

    url: str
    """tcp://host:port; the port is 502 where it is left out."""
    unit_id: int = Field(default=1, ge=0, le=255, validation_alias=AliasChoices("unit_id", "unit"))
    """The device behind the address (`unit` is accepted)."""
    byte_order: Orders = "ABCD"
    """Of every tag, or by type: {float32: CDAB, int32: ABCD}."""
    address_base: Literal[0, 1] = 0
    """1 where the manual counts registers from one."""
    max_registers: int = Field(default=64, ge=1, le=MOST_REGISTERS)
    """Most registers (or 16 coils each) in one request."""
    max_gap: int = Field(default=0, ge=0, le=MOST_REGISTERS)
    """Undeclared addresses that may be read to join two blocks; 0 never reads one."""
    comm: CommSettings = CommSettings()
    profile: str | None = None
    """A bundled device profile, or ./NAME.yaml; brings tags and more, which own settings override."""
    profile_tags: list[str] | None = None
    """Only these tags of the profile; default: all."""
    params: dict[Name, int | FiniteFloat] = {}
    """What the profile leaves to the engineer, like the decimals set in the device."""
    identity: IdentitySettings | None = None
    """A register that says which device this is, checked at each connect; or `off`."""
    comm_watchdog: ModbusWatchdog | None = None
    """What the device does when the agent goes silent; `off` once it is switched off in the device."""
    tags: dict[Name, ModbusTag] = {}

    OFF: ClassVar[Mapping[str, Any]] = {**MachineSettings.OFF, "identity": None}

    @property
    def endpoint(self) -> Endpoint:
        """Where the device is."""
        return parse_endpoint(self.url)

    @property
    def answer_timeout(self) -> float:
        """Seconds to wait for an answer."""
        return self.comm.timeout if self.comm.timeout is not None else self.timeout

    def order_of(self, tag: ModbusTag) -> str:
        """The byte order of a tag: its own, else the machine's for its type, else ABCD."""
        return tag.byte_order if tag.byte_order is not None else self.order_for(tag.wire_type)

    def order_for(self, type_: str) -> str:
        """The machine's byte order for a type."""
        if isinstance(self.byte_order, dict):
            return self.byte_order.get(type_, "ABCD")
        return self.byte_order

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = [
            *self._url_problems(),
            *self._tag_problems(),
            *self._profile_problems(),
            *armed_tags(self.comm_watchdog, self.tags, self.address_base),
        ]
        if problems:
            raise _located("ModbusMachine", problems)
        return self

    def _profile_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if self.profile is None:
            for key in ("params", "profile_tags"):
                if key in self.model_fields_set:
                    yield (key,), f"'{key}' belongs to a device profile; add profile: NAME, or remove it"

    def _url_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        scheme = self.url.partition("://")[0]
        if scheme in _NOT_YET:
            yield ("url",), f"not yet: {scheme}:// ({_NOT_YET[scheme]}); only tcp://host:port works"
            return
        try:
            parse_endpoint(self.url)
        except ValueError as problem:
            yield ("url",), str(problem)

    def _tag_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        names = set(self.tags)
        for name, tag in self.tags.items():
            first = tag.address.on_wire(self.address_base)
            place = ("tags", name)
            if first < 0:
                yield (*place, "address"), f"{tag.address} does not exist: with address_base 1 the first is 1"
            elif first + tag.count > 65536:
                yield (
                    (*place, "address"),
                    f"{tag.wire_type} at {tag.address} goes beyond the last address, 65535",
                )
            if not tag.address.table.bits and tag.count > self.max_registers:
                yield (
                    (*place, "length" if tag.length else "type"),
                    f"{tag.wire_type} takes {tag.count} registers, max_registers is {self.max_registers}, "
                    "and a value is never read in two pieces: raise max_registers if the device allows it",
                )
            for bit in tag.bits.values():
                if (full := f"{name}.{bit}") in names:
                    yield (*place, "bits"), f"a bit would be named {full}, as another tag already is"


def _located(title: str, problems: list[tuple[tuple[str, ...], str]]) -> ValidationError:
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


def tag_fields(settings: ModbusMachine, tag: ModbusTag) -> codec.Field:
    """How the codec reads a register tag."""
    return codec.Field(
        type=tag.wire_type,
        length=tag.length or 0,
        order=settings.order_of(tag),
        scaling=tag.scaled,
        invalid=tag.sentinels,
        range=tag.range if tag.wire_type not in ("bool", "string") else None,
    )
