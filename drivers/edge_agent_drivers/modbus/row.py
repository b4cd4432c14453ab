"""What one scan gathers, and what is known of the device it asks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edge_agent.types import Status, Value
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.derive import Known
from edge_agent_drivers.modbus.faults import LineFault
from edge_agent_drivers.modbus.limits import Limits
from edge_agent_drivers.modbus.line import ModbusLine
from edge_agent_drivers.modbus.plan import Block, Span

SEARCH_BUDGET = 32
"""Most extra requests one scan spends on finding refused registers; the search goes on in the next."""
SILENCES = 3
"""Most timeouts one scan spends on finding registers that the device is silent about, likewise."""

STRIKES = 3
"""Scans in a row in which a block fails alone before something is done about it."""
FIRST_REST = 30.0
"""Seconds for which it is left alone first; doubles up to `comm.retest`."""


@dataclass(slots=True)
class Quarantined:
    """What is known of a value that is left out; `until` is on the monotonic clock."""

    status: Status
    until: float


@dataclass(slots=True)
class Strikes:
    """What is known of a block that gets no usable answer while others do."""

    status: Status
    count: int = 0
    rest: float = FIRST_REST
    until: float = 0.0
    sought: bool = False
    """True for a part of a silent block: the search goes on with it."""


@dataclass(slots=True)
class Device:
    """What is known of the device behind a line, shared by the read groups of a machine."""

    machine: str
    line: ModbusLine
    unit: int
    limits: Limits
    retest: float
    retries: int = 0
    """How often a question is asked again within a scan that got silence, garbage or "busy"."""
    known: Known = field(default_factory=dict)
    """The powers of ten that tags hold for others."""

    def lower(self, table: Table, most: int) -> None:
        """Take no more than `most` addresses of `table` at once from now on."""
        if most < self.limits.of(table):
            limits = self.limits
            self.limits = replace(limits, bits=most) if table.bits else replace(limits, registers=most)


@dataclass(slots=True)
class Row:
    """What one scan gathers, in the columns of its group."""

    values: list[Value | None]
    statuses: dict[int, Status] = field(default_factory=dict)
    raw: list[str] | None = None
    answered: bool = False
    """Whether the device itself answered anything at all, be it with a no."""
    unanswered: int = 0
    """Questions without an answer."""
    in_a_row: int = 0
    """Of these, the last ones, with no answer since."""
    failure: LineFault | None = None
    """The last fault that was not a no of the device."""
    gone: bool = False
    """True once the connection could not be opened again: nothing more is asked."""
    budget: int = SEARCH_BUDGET
    silences: int = SILENCES
    unfinished: bool = False
    """True where a search for silent registers goes on in the next scan."""
    notes: list[tuple[Block, LineFault]] = field(default_factory=list)
    """What went wrong with which block; said only where others answered, else the sampler says it."""

    def answer(self) -> None:
        """The device answered, be it with a no."""
        self.answered, self.in_a_row = True, 0

    def no_answer(self, fault: LineFault) -> None:
        """A question got no answer from the device."""
        self.unanswered += 1
        self.in_a_row += 1
        self.failure = fault

    def fail(self, spans: tuple[Span, ...], status: Status) -> None:
        """Give all `spans` the same bad status, but for those that were read already."""
        for span in spans:
            if self.values[span.column] is None:
                self.statuses[span.column] = status

    def take(self, block: Block, payload: bytes) -> None:
        """Decode the answer to `block` into its columns."""
        values, statuses = block.decoder.decode(payload)
        self.answer()
        for span, value in zip(block.spans, values, strict=True):
            self.values[span.column] = value
            self.statuses.pop(span.column, None)
        for i, status in statuses.items():
            self.statuses[block.spans[i].column] = status
        if self.raw is not None:
            for span in block.spans:
                self.raw[span.column] = block.words(span, payload)
