"""One recorded file as the rows of one machine: its times, its columns, how much of it is to be learned."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_agent.backtest.table import BadRecording, Floats, numbers, read_table
from edge_agent.backtest.times import Times, counted, find_time_column, times_of
from edge_agent.clock import SECOND
from edge_agent.units import format_duration, parse_duration


@dataclass(frozen=True, slots=True)
class Learn:
    """How much is learned from: so many rows, so much time, or (neither) the first third."""

    rows: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str | None) -> Learn:
        """`400rows` or `2h`; None is the first third. ValueError with what to write."""
        if text is None:
            return cls()
        if match := re.fullmatch(r"\s*(\d+)\s*rows?\s*", text):
            return cls(rows=int(match[1]))
        try:
            seconds = parse_duration(text.strip())
        except ValueError as error:
            raise ValueError(f"'{text}' is neither rows nor a duration; write 400rows or 2h") from error
        return cls(seconds=seconds)

    def end(self, times: Times) -> int:
        """How many of the rows with these times are learned from; may be all of them."""
        if self.rows is not None:
            return min(self.rows, len(times))
        if self.seconds is not None:
            late = np.flatnonzero(times >= times[0] + int(self.seconds * SECOND))
            return int(late[0]) if len(late) else len(times)
        return len(times) // 3

    def __str__(self) -> str:
        if self.rows is not None:
            return f"{self.rows} rows"
        return "the first third" if self.seconds is None else format_duration(self.seconds)


@dataclass(frozen=True, slots=True)
class Reading:
    """How recorded files are to be read."""

    time_column: str | None = None
    time_format: str | None = None
    period: float | None = None
    """Seconds between rows, for files without time."""
    ignore: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Recording:
    """The rows of one machine, in the order of the file."""

    path: Path
    stamps: Sequence[str]
    """The time of each row as it is written in the file; seconds since the first one where it has none."""
    times: Times
    """UTC ns."""
    values: Mapping[str, Floats]
    """The numeric columns, NaN where a sample is missing."""
    notes: tuple[str, ...] = ()
    """What became of columns and cells that are no numbers."""

    @property
    def late(self) -> npt.NDArray[np.intp]:
        """The rows that are not later than every row before them: no detector takes them."""
        highest = np.maximum.accumulate(self.times)
        return np.flatnonzero(self.times[1:] <= highest[:-1]) + 1


def read_recording(path: Path, reading: Reading) -> Recording:
    """The recording in a file. BadRecording with where and what to do instead."""
    table = read_table(path)
    for name in reading.ignore:
        if name not in table.columns and len(reading.ignore) == 1:
            table.column(name)  # says what there is; of several files some may lack a label column
    column = reading.time_column
    notes: list[str] = []
    if column is None and reading.period is None:
        column = find_time_column(table)
        if column is None:
            notes.append(
                "no column with the time found: a row a second is assumed; say --period or --time-column"
            )
    if column is None:
        period = reading.period or 1.0
        times: Times = counted(table.rows, period)
        stamps: Sequence[str] = [f"{row * period:.10g}" for row in range(table.rows)]
    else:
        times, stamps = times_of(table, column, reading.time_format), table.column(column)
    found = numbers(table, {*reading.ignore, *([column] if column else [])})
    if not found.values:
        raise BadRecording(f"{path}: there is no numeric column to judge; {'; '.join(found.notes)}")
    recording = Recording(path, stamps, times, found.values, (*notes, *found.notes))
    late = recording.late
    if len(late) == len(times) - 1 and len(times) > 1:
        raise BadRecording(f"{path}: no row is later than the first one; is '{column}' the time?")
    if len(late):
        return Recording(path, stamps, times, found.values, (*recording.notes, _late(late, table.lines)))
    return recording


def _late(late: npt.NDArray[np.intp], lines: Sequence[int]) -> str:
    rows = "row is" if len(late) == 1 else "rows are"
    return f"{len(late)} {rows} not later than the rows before: left out, the first in line {lines[late[0]]}"
