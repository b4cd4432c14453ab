"""What one scan gathers, and what is known of the device it asks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edge_agent.types import Status, Value
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.faults import LineFault
from edge_agent_drivers.modbus.line import ModbusLine
from edge_agent_drivers.modbus.plan import Bit, Block, Limits, Span

SEARCH_BUDGET = 32
"""Most extra requests one scan spends on finding refused registers; the search goes on in the next."""


@dataclass(slots=True)
class Device:
    """What is known of the device behind a line, shared by the read groups of a machine."""

    machine: str
    line: ModbusLine
    unit: int
    limits: Limits
    retest: float

    def lower(self, table: Table, most: int) -> None:
        """Take no more than `most` addresses of `table` at once from now on."""
        key = "bits" if table.bits else "registers"
        if most < self.limits.of(table):
            self.limits = replace(self.limits, **{key: most})


@dataclass(slots=True)
class Row:
    """What one scan gathers, in the columns of its group."""

    values: list[Value | None]
    statuses: dict[int, Status] = field(default_factory=dict)
    raw: list[str] | None = None
    answered: bool = False
    """Whether the device itself answered anything at all, be it with a no."""
    unanswered: int = 0
    failure: LineFault | None = None
    """The last fault that was not a no of the device."""
    gone: bool = False
    """True once the connection could not be opened again: nothing more is asked."""
    budget: int = SEARCH_BUDGET
    notes: list[tuple[Block, LineFault]] = field(default_factory=list)
    """What went wrong with which block; said only where others answered, else the sampler says it."""

    def fail(self, spans: tuple[Span, ...], status: Status) -> None:
        """Give all `spans` the same bad status."""
        for span in spans:
            self.statuses[span.column] = status

    def take(self, block: Block, payload: bytes) -> None:
        """Decode the answer to `block` into its columns."""
        values, statuses = block.decoder.decode(payload)
        self.answered = True
        for span, value in zip(block.spans, values, strict=True):
            self.values[span.column] = value
            self.statuses.pop(span.column, None)
        for i, status in statuses.items():
            self.statuses[block.spans[i].column] = status
        if self.raw is not None:
            for span in block.spans:
                self.raw[span.column] = block.words(span, payload)

    def expand(self, bit: Bit) -> None:
        """Give a named bit its value from the word it belongs to."""
        word = self.values[bit.word]
        if not isinstance(word, int):
            self.statuses[bit.column] = self.statuses[bit.word]
            return
        self.values[bit.column] = bool(word >> bit.bit & 1)
        if self.raw is not None:
            self.raw[bit.column] = str(word >> bit.bit & 1)
