"""The words the whole house shares: quality, tag, sample batch, record, score, alert."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Value = float | int | bool | str


class Quality(enum.IntEnum):
    """OPC UA's three severities, with the numbers SCADA systems show for them."""

    BAD = 0
    UNCERTAIN = 64
    GOOD = 192

    @property
    def word(self) -> str:
        """The quality as it is written on the wire: good, uncertain or bad."""
        return self.name.lower()


class Reason(enum.StrEnum):
    """Why a sample is not good (or is good but forced): a closed list, in OPC UA's words."""

    NONE = ""
    # bad
    NOT_CONNECTED = "not_connected"
    COMM_FAILURE = "comm_failure"
    DEVICE_FAILURE = "device_failure"
    SENSOR_FAILURE = "sensor_failure"
    CONFIG_ERROR = "config_error"
    OUT_OF_SERVICE = "out_of_service"
    TIMEOUT = "timeout"
    ILLEGAL_ADDRESS = "illegal_address"
    INVALID_VALUE = "invalid_value"
    OUT_OF_RANGE = "out_of_range"
    WAITING_FOR_INITIAL_DATA = "waiting_for_initial_data"
    # uncertain
    LAST_USABLE = "last_usable"
    SUBSTITUTE = "substitute"
    RANGE_EXCEEDED = "range_exceeded"
    SENSOR_NOT_ACCURATE = "sensor_not_accurate"
    INITIAL = "initial"
    CLOCK_SKEW = "clock_skew"
    # good
    LOCAL_OVERRIDE = "local_override"


class Status(NamedTuple):
    """Quality with its reason."""

    quality: Quality
    reason: Reason


GOOD = Status(Quality.GOOD, Reason.NONE)


def bad(reason: Reason) -> Status:
    """A bad status for `reason`; the sample then carries no value."""
    return Status(Quality.BAD, reason)


def uncertain(reason: Reason) -> Status:
    """An uncertain status for `reason`; the sample keeps its value."""
    return Status(Quality.UNCERTAIN, reason)


class Kind(enum.StrEnum):
    """What a tag stands for; measurements are judged by the health model, the others are not."""

    MEASUREMENT = "measurement"
    SETPOINT = "setpoint"
    COUNTER = "counter"
    STATE = "state"
    CONFIG = "config"


class Store(enum.StrEnum):
    """How a tag is stored as a field of the line protocol."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Tag:
    """One configured point of a machine (a named bit of a status word is a tag of its own)."""

    name: str
    kind: Kind = Kind.MEASUREMENT
    type: str = "float64"
    unit: str | None = None
    label: str | None = None
    range: tuple[float, float] | None = None
    store: Store = Store.FLOAT
    deadband: float = 0.0
    """Smallest change that is passed on, in engineering units; 0 passes everything."""
    max_interval: float = 600.0
    """Seconds after which a held value is emitted again although it has not changed."""
    names: tuple[tuple[int, str], ...] = ()
    """What its numbers mean, where they stand for something: (0, "stopped"), (1, "running")."""


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """Tags read together at one scan rate: one row, one timestamp, one line of line protocol."""

    tags: tuple[Tag, ...]
    every: float
    """Scan rate in seconds of real time."""
    by_exception: bool = False
    """True where only changes come (subscriptions): a tag that says nothing still has its value, and is heard
    of again after its `max_interval` at the latest."""

    @property
    def names(self) -> tuple[str, ...]:
        """The tags' names, in column order."""
        return tuple(tag.name for tag in self.tags)


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """One scan of one read group, in columns: `values[i]` belongs to `names[i]`.

    `timestamp` is UTC in ns, taken once by the driver and never changed. A value is None exactly where its
    status is bad; `statuses` lists only the columns that are not good. `raw` is what the device sent, as
    text, and only there when it was asked for.
    """

    machine: str
    names: tuple[str, ...]
    timestamp: int
    values: Sequence[Value | None]
    statuses: Mapping[int, Status] = field(default_factory=dict)
    raw: Sequence[str] | None = None

    def status(self, column: int) -> Status:
        """The status of one column."""
        return self.statuses.get(column, GOOD)


class Priority(enum.IntEnum):
    """The class of a journal row; lower is delivered first."""

    ALARM = 0
    TELEMETRY = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One journal row: lines of one machine and one class from one commit.

    `seq` numbers the rows of one journal without gaps; `lines` is line protocol, one line per row of bytes,
    without the header comment. `created` is UTC in ns.
    """

    seq: int
    machine: str
    priority: Priority
    created: int
    lines: bytes
    source: str = ""
    """Who the lines came from, for a historian: the agent's name."""


class HealthState(enum.StrEnum):
    """What the health model of a machine is doing, as published."""

    LEARNING = "learning"
    PROVISIONAL = "provisional"
    NORMAL = "normal"
    ANOMALOUS = "anomalous"
    UNKNOWN_REGIME = "unknown_regime"
    PAUSED = "paused"
    MAINTENANCE = "maintenance"


class Band(NamedTuple):
    """A tag's value beside its normal band, in engineering units."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """The detector's word on one row.

    `value` is the ratio to the limit (1 and above: outside normal; NaN: not judged). `contributions` are
    shares that add up to 1, `bands` the tags' values beside their normal bands, `faults` the tags whose
    sensor (not the machine) looks wrong, with what is wrong. `progress` of learning is 0 to 1.
    """

    time: int
    value: float
    state: HealthState
    progress: float = 1.0
    contributions: Mapping[str, float] = field(default_factory=dict)
    bands: Mapping[str, Band] = field(default_factory=dict)
    first_mover: str | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    """In a sentence: why it is not judged, what is still unseen, which tags drift."""


class AlarmKind(enum.StrEnum):
    """The kinds of condition (ISA-18.2 alarms, and maintenance alerts kept apart from them)."""

    LIMIT = "limit"
    DISCRETE = "discrete"
    COMMUNICATION = "communication"
    DATA_QUALITY = "data_quality"
    HEALTH = "health"


class AlarmPriority(enum.StrEnum):
    """How much a person should hurry."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class AlarmState(enum.StrEnum):
    """The states of ISA-18.2 / IEC 62682 as they are written on the wire."""

    NORMAL = "normal"
    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED_UNACKNOWLEDGED = "returned_unacknowledged"
    SHELVED = "shelved"
    SUPPRESSED = "suppressed"
    OUT_OF_SERVICE = "out_of_service"
    LATCHED = "latched"


@dataclass(frozen=True, slots=True)
class ReportedCondition:
    """A condition as the machine's own controller reports it (OPC UA Part 9), which owns its state.

    `name` is the same at every report; `severity` goes from 1 to 1000; `time` is UTC ns.
    """

    name: str
    active: bool
    acknowledged: bool
    severity: int
    message: str
    time: int


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """What became of a controller's conditions since the last report.

    `complete` says that these are all that are not normal: what is not among them is over.
    """

    conditions: Sequence[ReportedCondition]
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Alert:
    """The full state of one condition of one machine, as published and journalled.

    `id` is the condition's stable name within the machine (`bearing_vibration.high`, `health`);
    `occurrence` counts how often it was raised. Times are UTC in ns; None is "not yet" or "still".
    """

    machine: str
    id: str
    kind: AlarmKind
    priority: AlarmPriority
    state: AlarmState
    occurrence: int
    raised_at: int
    cleared_at: int | None
    message: str
    action: str
    value: float | None = None
    contributions: Mapping[str, float] = field(default_factory=dict)
    bands: Mapping[str, Band] = field(default_factory=dict)
    since: int | None = None
    """When the evidence began, which is before `raised_at` by the persistence."""
    first_mover: str | None = None
    maintenance: bool = False
    """True for a maintenance alert (days), False for an alarm (timely operator response)."""
    source: str = "agent"
    """Who judges the condition: agent, or plc where the machine's controller reports it."""

    @property
    def active(self) -> bool:
        """Whether the condition holds now."""
        return self.cleared_at is None
