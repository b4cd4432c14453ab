"""What a Modbus machine may say in YAML. Imports no protocol library: `check` reads this."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, FiniteFloat, model_validator

from edge_agent.contracts.doubt import Doubt
from edge_agent.contracts.settings import MachineSettings, Name, StrictModel, TagSettings
from edge_agent.units import Duration
from edge_agent_drivers import codec
from edge_agent_drivers.modbus import spacing
from edge_agent_drivers.modbus.endpoint import Endpoint, parse_endpoint
from edge_agent_drivers.modbus.identity import IdentitySettings
from edge_agent_drivers.modbus.limits import MOST_BITS, Limits, Stretch
from edge_agent_drivers.modbus.orders import Orders
from edge_agent_drivers.modbus.plan import Span, weigh
from edge_agent_drivers.modbus.ranges import AddressRange, AddressRangeField
from edge_agent_drivers.modbus.security import TlsSettings
from edge_agent_drivers.modbus.tagcheck import WHOLE
from edge_agent_drivers.modbus.tags import MOST_REGISTERS, ModbusTag, Type, located
from edge_agent_drivers.modbus.watchdog import ModbusWatchdog, armed_tags
from edge_agent_drivers.scaling import ne43

Problem = tuple[tuple[str, ...], str]
"""Where it is wrong, and what is wrong."""


class CommSettings(StrictModel):
    """Timing of the connection."""

    timeout: Duration | None = Field(default=None, gt=0)
    """How long to wait for an answer; default: the machine's `timeout`."""
    retries: int = Field(default=0, ge=0, le=5)
    """How often a request is asked again within a scan, after silence, garbage or "busy"."""
    pipeline: int = Field(default=1, ge=1, le=16)
    """Most requests under way at once over tcp:// and tls://; more than 1 only where the device says so."""
    pause: Duration = 0.0
    """Least time between an answer and the next request, for slow devices."""
    connect_pause: Duration = 0.0
    """Time between connecting and the first request."""
    listen: Duration = Field(default=3.0, ge=3.0)
    """How long a serial line is listened to before the first byte is sent, lest another master is there."""
    retest: Duration = Field(default=600.0, gt=0)
    """How often a refused register is tried again."""

    @model_validator(mode="after")
    def _no_pause_ahead(self) -> Self:
        if self.pause and self.pipeline > 1:
            raise located(
                "CommSettings",
                [(("pipeline",), "requests that are sent ahead leave no pause: leave one out")],
            )
        return self


def _by_type(written: object) -> object:
    if isinstance(written, list):
        raise ValueError("at a machine invalid values go by type: write {uint16: [0xFFFF], int16: [0x8000]}")
    return written


class ModbusMachine(MachineSettings):
    """A Modbus device."""

    url: str
    """tcp://host:port, udp:// or tls://, rtu+tcp:// for RTU behind a gateway (without a port it is 502, with
    TLS 802), or a serial line: rtu:///dev/ttyUSB0?baudrate=19200&parity=E."""
    mode: Literal["poll", "listen"] = "poll"
    """listen: take the values that another master on the line asks for, and send nothing."""
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
    block: Literal["joined", "exact", "aligned", "single"] = "joined"
    """How values are read together. joined: neighbours in one request. exact: each value, or each of
    `blocks`, in a request of its own. aligned: whole blocks of `block_size`. single: each value alone."""
    block_size: int | None = Field(default=None, ge=2, le=MOST_REGISTERS)
    """With block: aligned, the registers of one block; blocks begin at multiples of it on the wire."""
    blocks: list[AddressRangeField] = []
    """Stretches that are read whole and never with anything else, as input:0-19."""
    readable: list[AddressRangeField] = []
    """All that may be read; no request leaves a stretch, and gaps are bridged only inside. [] for all."""
    holes: list[AddressRangeField] = []
    """Stretches that are never read, as holding:40-49."""
    invalid: Annotated[dict[Type, list[int | FiniteFloat]], BeforeValidator(_by_type)] = {}
    """Raw values that mean "no value", by type, for tags that do not say their own: {uint16: [0xFFFF]}."""
    comm: CommSettings = CommSettings()
    tls: TlsSettings | None = None
    """With tls://: whom to trust, and our own certificate."""
    profile: str | None = None
    """A bundled device profile, or ./NAME.yaml; brings tags and more, which own settings override."""
    profile_tags: list[str] | None = None
    """Only these tags of the profile; default: all."""
    params: dict[Name, int | FiniteFloat] = {}
    """What the profile leaves to the engineer, like the decimals set in the device."""
    identity: IdentitySettings | None = None
    """What says which device this is, asked on each connection; or `off`."""
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
        """Seconds to wait for an answer; on a serial line, beside the time that the bytes take."""
        wait = self.comm.timeout if self.comm.timeout is not None else self.timeout
        return wait + self.byte_time * (13 + 2 * self.max_registers)

    @property
    def byte_time(self) -> float:
        """Seconds that one byte takes on a serial line; 0 on a network."""
        return self.endpoint.character if self.endpoint.serial else 0.0

    def order_of(self, tag: ModbusTag) -> str:
        """The byte order of a tag: its own, else the machine's for its type, else ABCD."""
        return tag.byte_order if tag.byte_order is not None else self.order_for(tag.wire_type)

    def order_for(self, type_: str) -> str:
        """The machine's byte order for a type."""
        if isinstance(self.byte_order, dict):
            return self.byte_order.get(type_, "ABCD")
        return self.byte_order

    @property
    def limits(self) -> Limits:
        """What one request may cover."""

        def stretches(ranges: list[AddressRange]) -> tuple[Stretch, ...]:
            return tuple(Stretch(one.table, *one.on_wire(self.address_base)) for one in ranges)

        return Limits(
            registers=self.max_registers,
            bits=min(16 * self.max_registers, MOST_BITS),
            gap=self.max_gap,
            block=self.block,
            size=self.block_size or 1,
            blocks=stretches(self.blocks),
            readable=stretches(self.readable),
            holes=stretches(self.never_read),
        )

    @property
    def never_read(self) -> list[AddressRange]:
        """The holes, and the registers whose reading arms the device's watchdog."""
        return [*self.holes, *(self.comm_watchdog.armed_by if self.comm_watchdog else ())]

    def sentinels_of(self, tag: ModbusTag) -> frozenset[float]:
        """The raw values of a tag that mean "no value", as they come out of unpacking."""
        type_ = tag.wire_type
        written = tag.invalid if tag.invalid is not None else self.invalid.get(type_, [])  # type: ignore[call-overload]
        return frozenset().union(*(codec.sentinels(type_, value) for value in written))

    @property
    def points(self) -> Mapping[str, TagSettings]:
        """Every tag by name, named bits among them, each with what it says itself."""
        found: dict[str, TagSettings] = dict(self.tags)
        for name, tag in self.tags.items():
            for _, _, bit in tag.named_bits:
                found[f"{name}.{bit.name}"] = TagSettings(
                    label=bit.label, description=bit.description, alarm=bit.alarm
                )
        return found

    def shared_line(self) -> tuple[str, Mapping[tuple[str, ...], str]] | None:
        """What machines on one connection must agree on: ("/dev/ttyUSB0", {("url",): "9600 baud, 8E1"})."""
        line = self.endpoint
        agreed: dict[tuple[str, ...], str] = {}
        if line.scheme == "tls":
            agreed["tls",] = (self.tls or TlsSettings()).described()
        elif line.scheme in ("rtu", "rtu+tcp"):
            agreed["mode",] = f"mode: {self.mode}"
        if line.serial:
            agreed["url",] = f"{line.baudrate} baud, {line.bytesize}{line.parity}{line.stopbits}"
        if line.serial and self.mode == "poll":
            agreed["comm", "listen"] = f"comm.listen: {self.comm.listen:g}s"
        return (str(line).lower() if not line.serial else line.host, agreed) if agreed else None

    def traffic(self) -> Mapping[float, tuple[int, int]]:
        """Scan rate -> requests that its tags take, and bytes of values that come with their answers."""
        spans: dict[float, list[Span]] = {}
        for name, tag in self.tags.items():
            address = tag.address.on_wire(self.address_base)
            span = Span(name, 0, tag.address.table, address, tag.count, None)
            spans.setdefault(self.rate_of(tag), []).append(span)
        limits = self.limits
        return {every: weigh(members, limits) for every, members in spans.items()}

    def doubts(self, name: str, state: Path | None) -> Iterator[Doubt]:
        """Values of different types on the same registers."""
        yield from super().doubts(name, state)
        yield from spacing.overlaps(self)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = [
            *self._url_problems(),
            *self._profile_problems(),
            *self._invalid_problems(),
            *self._tag_problems(),
            *self._name_problems(),
            *self._factor_problems(),
            *armed_tags(self.comm_watchdog if self.mode == "poll" else None, self.tags, self.address_base),
        ]
        # Where a tag lies is judged once it is known to lie anywhere.
        problems = problems or list(spacing.problems(self))
        if problems:
            raise located("ModbusMachine", problems)
        return self

    def _profile_problems(self) -> Iterator[Problem]:
        if self.mode == "listen" and self.identity is not None:
            yield ("identity",), "who only listens cannot ask which device it is: write identity: off"
        if self.profile is None:
            for key in ("params", "profile_tags"):
                if key in self.model_fields_set:
                    yield (key,), f"'{key}' belongs to a device profile; add profile: NAME, or remove it"

    def _url_problems(self) -> Iterator[Problem]:
        try:
            endpoint = parse_endpoint(self.url)
        except ValueError as problem:
            yield ("url",), str(problem)
            return
        if endpoint.scheme in ("rtu", "rtu+tcp") and self.unit_id == 0:
            yield ("unit_id",), "0 is for everybody on a serial line, and nobody answers: write 1 to 247"
        elif endpoint.scheme in ("rtu", "rtu+tcp") and self.unit_id > 247:
            yield ("unit_id",), f"no device of a serial line has the number {self.unit_id}: write 1 to 247"
        if self.tls is not None and endpoint.scheme != "tls":
            yield ("tls",), f"{endpoint.scheme}:// has no TLS: write tls://{endpoint}, or leave tls out"
        if self.mode == "listen" and endpoint.scheme not in ("rtu", "rtu+tcp"):
            yield (
                ("mode",),
                f"on {endpoint.scheme}:// nobody else is heard: listen needs rtu:// or rtu+tcp://",
            )
        if "listen" in self.comm.model_fields_set and not endpoint.serial:
            yield ("comm", "listen"), "only a serial line (rtu://) is listened to first: leave listen out"
        if self.comm.pipeline > 1 and endpoint.scheme not in ("tcp", "tls"):
            yield (
                ("comm", "pipeline"),
                f"{endpoint.scheme}:// carries one request at a time: leave pipeline out",
            )

    def _invalid_problems(self) -> Iterator[Problem]:
        for type_, values in self.invalid.items():
            if type_ in ("bool", "string"):
                yield ("invalid", type_), f"a {type_} has no invalid values"
                continue
            for value in values:
                try:
                    codec.sentinels(type_, value)
                except ValueError as problem:
                    yield ("invalid", type_), str(problem)

    def _tag_problems(self) -> Iterator[Problem]:
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

    def _name_problems(self) -> Iterator[Problem]:
        seen = set(self.tags)
        for name, tag in self.tags.items():
            for key, made in tag.derived(name):
                if made in seen:
                    what = "a bit would be" if key == "bits" else "something would be"
                    yield ("tags", name, key), f"{what} named {made}, as another tag already is"
                seen.add(made)

    def _factor_problems(self) -> Iterator[Problem]:
        for name, tag in self.tags.items():
            if tag.factor is None:
                continue
            place = ("tags", name, "scale_from" if tag.scale_from else "decimals_from")
            other = self.tags.get(tag.factor)
            if tag.factor == name:
                yield place, "a tag cannot hold its own scale; name the tag of the register that holds it"
            elif other is None:
                yield place, f"this machine has no tag '{tag.factor}'{did_you_mean(tag.factor, self.tags)}"
            elif other.wire_type not in WHOLE:
                yield place, f"'{tag.factor}' is a {other.wire_type}; a power of ten is a whole number"
            elif other.scaled is not None or other.factor is not None:
                yield place, f"'{tag.factor}' has a scale itself; a power of ten is read as it is"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...` where a known word is near, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def tag_fields(settings: ModbusMachine, tag: ModbusTag, *, exponent: bool = False) -> codec.Field:
    """How the codec reads a register tag; `exponent`: it holds the power of ten of another."""
    invalid = settings.sentinels_of(tag)
    if exponent and tag.wire_type == "int16" and tag.invalid is None:
        # SunSpec's "not implemented".
        invalid |= {-0x8000}
    # With a power of ten from elsewhere, scale and range have to wait until that is known.
    deferred = tag.factor is not None
    return codec.Field(
        type=tag.wire_type,
        length=tag.length or 0,
        order=settings.order_of(tag),
        layout=tag.layout,
        mask=tag.mask,
        scaling=None if deferred else tag.scaled,
        invalid=invalid,
        range=tag.range if not deferred and tag.wire_type not in ("bool", "string") else None,
        signal=ne43(tag.scaling.eng if tag.scaling else None) if tag.signal else None,
    )
