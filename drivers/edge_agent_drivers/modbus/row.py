"""What one scan gathers, and what is known of the device it asks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

from edge_agent.types import Status, Value
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.derive import Known
from edge_agent_drivers.modbus.faults import LineFault
from edge_agent_drivers.modbus.limits import Limits
from edge_agent_drivers.modbus.line import ModbusLine
from edge_agent_drivers.modbus.plan import Block, Span

log = logging.getLogger(__name__)

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
    known: Known = field(default_factory=dict)
    """The powers of ten that tags hold for others."""

    def lower(self, table: Table, most: int) -> None:
        """Remember that the device takes no more than `most` addresses of `table` at once."""
        key = "bits" if table.bits else "registers"
        if most < self.limits.of(table):
            limits = self.limits
            self.limits = replace(limits, bits=most) if table.bits else replace(limits, registers=most)
            log.warning(
                "%s: the device refuses %s requests over %d %s (exception 3): set max_registers: %d",
                self.machine, table, most, key, most if not table.bits else max(1, most // 16),
            )  # fmt: skip


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
    notes: list[tuple[Block, str]] = field(default_factory=list)
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
