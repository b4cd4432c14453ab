"""Rows for the health model: one value per column, from scans that come at different rates.

A row is due every `period` of the agent's clock (never faster than once a second): the mean of what came
since the last row, else the value that is still held, else NaN once it is too old.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_agent.clock import SECOND
from edge_agent.contracts.plugs import Column
from edge_agent.types import Quality, SampleBatch, Value

FASTEST_ROW = 1.0


@dataclass(slots=True)
class _Cell:
    """What is known of one column since the last row."""

    total: float = 0.0
    count: int = 0
    held: float = math.nan
    held_at: int = 0

    def take(self, value: float, at: int) -> None:
        self.total += value
        self.count += 1
        self.held, self.held_at = value, at

    def forget(self) -> None:
        """The tag went bad: what came before says nothing about now."""
        self.held, self.total, self.count = math.nan, 0.0, 0

    def value(self, now: int, hold: int) -> float:
        """The mean since the last row, or the held value if it is not older than `hold` ns."""
        if self.count:
            mean = self.total / self.count
            self.total, self.count = 0.0, 0
            return mean
        return self.held if now - self.held_at <= hold else math.nan


@dataclass(frozen=True, slots=True)
class Row:
    """One row of one machine: UTC ns, a value per column (NaN missing), and 1, 0 or -1 for running."""

    time: int
    values: tuple[float, ...]
    running: int


class FeatureRows:
    """Turns the batches of one machine into rows.

    A row is closed by the first batch that is newer than it: what a server sends of one instant may come in
    several notifications, and a row of half old and half new values would look like a fault.
    """

    def __init__(self, columns: Sequence[Column], period: float, hold: float) -> None:
        """`period` and `hold` are seconds of the agent's clock."""
        self.columns = tuple(columns)
        self._period = int(max(period, FASTEST_ROW) * SECOND * 0.9)
        self._hold = int(hold * SECOND)
        self._cells = {column.name: _Cell() for column in columns}
        self._last_row = 0
        self._due: int | None = None
        self._running = -1

    def take(self, batch: SampleBatch, running: bool | None) -> Row | None:
        """Note a batch, and whether the machine runs as of it; the row that it closes, if it closes one."""
        row = self._close() if self._due is not None and batch.timestamp > self._due else None
        for index, name in enumerate(batch.names):
            if (cell := self._cells.get(name)) is not None:
                self._note(cell, batch, index)
        self._running = -1 if running is None else int(running)
        if self._due is None and batch.timestamp - self._last_row >= self._period:
            self._due = batch.timestamp
        return row

    def _close(self) -> Row:
        time = self._last_row = self._due or 0
        self._due = None
        values = tuple(cell.value(time, self._hold) for cell in self._cells.values())
        return Row(time, values, self._running)

    @staticmethod
    def _note(cell: _Cell, batch: SampleBatch, index: int) -> None:
        value = batch.values[index]
        if batch.status(index).quality is Quality.BAD:
            cell.forget()
        elif isinstance(value, int | float):
            cell.take(float(value), batch.timestamp)


class Latest:
    """The newest value of every tag of a machine, for expressions and live views; None where it is bad."""

    def __init__(self) -> None:
        self.values: dict[str, Value | None] = {}
        self.timestamp = 0

    def take(self, batch: SampleBatch) -> None:
        """Note a batch."""
        self.values.update(zip(batch.names, batch.values, strict=True))
        self.timestamp = batch.timestamp

    def view(self) -> Mapping[str, Value | None]:
        """The values, live."""
        return self.values
