"""The part of a machine's YAML that is the same for every driver; each driver's own settings extend it.

These models are read by `check` and `schema`, so nothing here may import a protocol library.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    model_validator,
)
from pydantic_core import CoreSchema

from edge_agent import expressions
from edge_agent.contracts.doubt import Doubt
from edge_agent.types import AlarmPriority, Kind, Store, Tag
from edge_agent.units import Duration, Rate, format_duration

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=128)]
"""Letters, digits, `_`, `-` and `.`; the last two not first."""
Criticality = Literal["A", "B", "C"]


def _condition(text: str) -> str:
    expressions.parse(text)
    return text


Condition = Annotated[str, AfterValidator(_condition)]
"""An expression over the machine's tags (`edge_agent.expressions`), known to be readable."""


def _numbers_strict(schema: Any) -> None:
    # pydantic's own strict mode would refuse text for enums and paths and lists for tuples as well.
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool"):
            schema["strict"] = True
        for key, part in schema.items():
            if key != "metadata":
                _numbers_strict(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            _numbers_strict(part)


class StrictModel(BaseModel):
    """Unknown keys are errors, numbers are not guessed from text, and nothing changes after loading."""

    # Building a validator when it is first used spares `check` those that are only parts of others.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=False,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        defer_build=True,
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The model's schema with strict numbers and booleans: `"26"` and `yes` are not guessed at."""
        schema = handler(source)
        _numbers_strict(schema)
        return schema


class LimitSettings(StrictModel):
    """One limit of a tag: where it is, how urgent it is and what to do."""

    value: float
    """Where the limit is, in engineering units."""
    priority: AlarmPriority = AlarmPriority.MEDIUM
    """low, medium, high or critical."""
    action: str = ""
    """What the operator should do; printed in the alarm."""
    on_delay: Duration | None = None
    """How long the limit must be exceeded before the alarm is raised."""
    off_delay: Duration | None = None
    """How long the value must be back before the alarm clears."""
    hysteresis: float | None = Field(default=None, ge=0)
    """How far the value must come back before the alarm clears, in engineering units."""


def _limit(value: Any) -> Any:
    return {"value": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


Limit = Annotated[LimitSettings, BeforeValidator(_limit, json_schema_input_type=float | LimitSettings)]


class LimitsSettings(StrictModel):
    """The limits of a tag; `active_when`, delays and hysteresis apply to each that does not say its own."""

    low_low: Limit | None = None
    """A number, or a mapping with `value`."""
    low: Limit | None = None
    """A number, or a mapping with `value`."""
    high: Limit | None = None
    """A number, or a mapping with `value`."""
    high_high: Limit | None = None
    """A number, or a mapping with `value`."""
    active_when: Condition | None = None
    """An expression over the machine's tags; while it is false the alarms are suppressed by design."""
    on_delay: Duration = 0.0
    """How long a limit must be exceeded before its alarm is raised."""
    off_delay: Duration = 0.0
    """How long the value must be back before the alarm clears."""
    hysteresis: float = Field(default=0.0, ge=0)
    """How far the value must come back before the alarm clears, in engineering units."""

    NAMES: ClassVar[tuple[str, ...]] = ("low_low", "low", "high", "high_high")

    @model_validator(mode="after")
    def _ordered(self) -> LimitsSettings:
        values = [(name, limit.value) for name in self.NAMES if (limit := getattr(self, name))]
        for (name, value), (above, higher) in itertools.pairwise(values):
            if value >= higher:
                raise ValueError(f"{name} ({value:g}) must be below {above} ({higher:g})")
        return self


class DiscreteAlarmSettings(StrictModel):
    """An alarm on a state: raised while the tag has the value `when`."""

    when: bool | float
    """The value that raises the alarm."""
    priority: AlarmPriority = AlarmPriority.MEDIUM
    """low, medium, high or critical."""
    action: str = ""
    """What the operator should do; printed in the alarm."""
    message: str = ""
    """What the alarm says; default: the tag's label or name."""
    active_when: Condition | None = None
    """An expression over the machine's tags; while it is false the alarm is suppressed by design."""
    on_delay: Duration = 0.0
    """How long the state must last before the alarm is raised."""
    off_delay: Duration = 0.0
    """How long the state must be over before the alarm clears."""


class TagSettings(StrictModel):
    """What every tag may say, whatever the driver."""

    label: str | None = None
    """Free text shown to people."""
    description: str | None = None
    """Anything worth knowing."""
    unit: str | None = None
    """Engineering unit, e.g. mm/s."""
    kind: Kind | None = None
    """measurement, setpoint, counter, state or config; default by type and unit."""
    range: tuple[float, float] | None = None
    """Engineering range [low, high]."""
    every: Duration | None = Field(default=None, gt=0)
    """Scan rate of this tag; default: the machine's."""
    scan: str | None = None
    """Scan class of this tag, instead of `every`."""
    store: Store | None = None
    """float (default for numbers and states), int, bool or string."""
    deadband: (
        Annotated[float, Field(ge=0)] | Annotated[str, StringConstraints(pattern=r"^(100|\d{1,2})(\.\d+)?%$")]
    ) = 0.0
    """Changes smaller than this are not passed on; absolute, or a percentage of `range`."""
    max_interval: Duration = Field(default=600.0, gt=0)
    """A held value is emitted again after this long."""
    limits: LimitsSettings | None = None
    """Limits that raise alarms."""
    alarm: DiscreteAlarmSettings | None = None
    """An alarm on a state."""

    @model_validator(mode="after")
    def _consistent(self) -> TagSettings:
        if self.every is not None and self.scan is not None:
            raise ValueError("a tag has either `every` or `scan`, not both")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError("range is [low, high] with low below high")
        return self

    @model_validator(mode="after")
    def _percent_of_a_range(self) -> TagSettings:
        # A driver whose devices know their ranges replaces this.
        if isinstance(self.deadband, str) and self.range is None:
            raise ValueError("a deadband in percent needs `range`")
        return self

    @property
    def deadband_units(self) -> float:
        """The deadband in engineering units; 0 where it is in percent of a range only the device knows."""
        if isinstance(self.deadband, str):
            low, high = self.range or (0.0, 0.0)
            return float(self.deadband.rstrip("%")) / 100 * (high - low)
        return float(self.deadband)

    def tag(self, name: str, type_: str) -> Tag:
        """The runtime tag for these settings; `type_` is the type of INTERFACE.md the driver reads."""
        return Tag(
            name=name,
            kind=self.kind or default_kind(type_, self.unit),
            type=type_,
            unit=self.unit,
            label=self.label,
            range=self.range,
            store=self.store or (Store.STRING if type_ == "string" else Store.FLOAT),
            deadband=self.deadband_units,
            max_interval=self.max_interval,
        )


_COUNTER_UNITS = frozenset({"kWh", "Wh", "MWh", "kvarh", "h", "pcs", "m3", "m³", "l_total"})


def default_kind(type_: str, unit: str | None) -> Kind:
    """The kind of a tag that does not say: bool is a state, string is config, kWh is a counter."""
    if type_ == "bool":
        return Kind.STATE
    if type_ == "string":
        return Kind.CONFIG
    return Kind.COUNTER if unit in _COUNTER_UNITS else Kind.MEASUREMENT


class HealthSettings(StrictModel):
    """How a machine's health is judged."""

    tags: list[str] | None = None
    """The tags that are judged; default: every tag of kind measurement that is not context."""
    context: list[str] = []
    """Tags that explain the others (load, ambient, product) and are not judged."""
    running_when: Condition | None = None
    """An expression over the machine's tags; rows are judged and learned while it is true."""
    learn: Duration = 14_400.0
    """Least time of running machine to learn from."""
    false_alarms: Rate = Field(default=1 / 91.3125, gt=0)
    """The budget of false alerts for this machine that the limits are calibrated to."""
    action: str = ""
    """What the technician should do when the machine is no longer normal."""
    detector: str = "ensemble"
    """Which detector, by its name in the registry."""


class CommWatchdog(StrictModel):
    """Supervision in a drive or controller that trips where nobody talks to it: silence harms it."""

    text: str
    """What the device does when it hears nothing, and which messages count."""
    parameter: str | None = None
    """Where it is set in the device, in the words of its manual."""
    timeout: Duration | None = Field(default=None, gt=0)
    """How long the device waits, as set or from the factory; nothing where that is not known."""
    disable: str | None = None
    """How it is switched off in the device."""

    @property
    def harmed_by_silence(self) -> bool:
        """Whether it trips when the agent, which only reads, goes silent."""
        return True

    def sentence(self) -> str:
        """All of it, for people."""
        parts = [self.text.rstrip(".")]
        if self.timeout is not None:
            parts.append(f"timeout {format_duration(self.timeout)}")
        if self.parameter:
            parts.append(f"set in {self.parameter}")
        if self.disable:
            parts.append(f"to switch it off: {self.disable.rstrip('.')}")
        return "; ".join(parts)


class MachineSettings(StrictModel):
    """What every machine may say, whatever the driver; each driver adds its own keys and its own tags."""

    driver: str
    """Which driver reads the machine: modbus, opcua."""
    url: str
    """Where the machine is."""
    label: str | None = None
    """What is on the door; shown to people."""
    location: str | None = None
    """Where it stands, in words."""
    asset_id: str | None = None
    """Its number in maintenance planning."""
    description: str | None = None
    """Anything worth knowing."""
    manual: str | None = None
    """Link to its manual."""
    criticality: Criticality | None = None
    """How much depends on it: A, B or C."""
    area: Name | None = None
    """Its area where it is not the agent's."""
    line: Name | None = None
    """Its line where it is not the agent's."""
    measurement: Name = "readings"
    """Measurement of the line protocol this machine's readings go to."""
    every: Duration | None = Field(default=None, gt=0)
    """Scan rate of the machine's tags; default 1s."""
    scan: str | None = None
    """Scan class of the machine's tags, instead of `every`."""
    timeout: Duration = Field(default=1.0, gt=0)
    """How long to wait for an answer."""
    health: HealthSettings | Literal[False] = HealthSettings()
    """How health is judged, or `off`."""
    comm_watchdog: CommWatchdog | None = None
    """What the machine does when the agent goes silent; `off` once it is switched off in the machine."""
    tags: dict[str, Any] = {}
    """What is read, by name."""

    OFF: ClassVar[Mapping[str, Any]] = {"health": False, "comm_watchdog": None}
    """Keys that can be switched off with `off`, and what they are then."""

    @model_validator(mode="before")
    @classmethod
    def _parts_off(cls, values: Any) -> Any:
        # YAML 1.2 reads `off` as text: that is how INTERFACE.md switches a part off.
        if not isinstance(values, dict):
            return values
        return {
            key: cls.OFF[key] if value == "off" and key in cls.OFF else value for key, value in values.items()
        }

    @model_validator(mode="after")
    def _one_rate(self) -> MachineSettings:
        if self.every is not None and self.scan is not None:
            raise ValueError("a machine has either `every` or `scan`, not both")
        return self

    def doubts(self, name: str, state: Path | None) -> Iterator[Doubt]:
        """What this machine's driver has to warn of; `state` is the driver's folder, where it is known."""
        yield from ()

    @property
    def fingerprint(self) -> str:
        """The same for the same settings, secrets left out: says whether two configurations differ."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def points(self) -> Mapping[str, TagSettings]:
        """Every tag by name, those that a driver makes of others among them, with what each says itself."""
        return self.tags

    def shared_line(self) -> tuple[str, Mapping[tuple[str, ...], str]] | None:
        """The line that the machine has in common with others, and what all on it must agree on: key below
        the machine -> setting in words. None where there is nothing to agree on."""
        return None

    def traffic(self) -> Mapping[float, tuple[int, int]] | None:
        """Scan rate -> requests that its tags take, and bytes of values that come with their answers.

        None where the driver asks for all tags of a scan rate at once.
        """
        return None

    @property
    def byte_time(self) -> float:
        """Seconds that one byte takes on the machine's line; 0 on a network."""
        return 0.0

    def rate_of(self, tag: TagSettings) -> float:
        """Seconds between scans of `tag`; scan classes were resolved to `every` when the file was loaded."""
        return tag.every or self.every or 1.0
