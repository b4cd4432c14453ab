"""The time of each row of a recorded table, as UTC ns; nothing is guessed where two readings are possible."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from edge_agent.backtest.table import BadRecording, Table, as_numbers
from edge_agent.clock import SECOND

Times = npt.NDArray[np.int64]

NAMES = ("datetime", "timestamp", "time", "date", "date_time", "_time", "ts", "t")
"""What a column with the time is called, in small letters, the likeliest first."""
FORMATS = (
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d-%m-%Y %H:%M:%S",
    "%d-%m-%Y %H:%M",
    "%m-%d-%Y %H:%M:%S",
    "%m-%d-%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %I:%M:%S %p",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
)
"""Tried where the time is not ISO 8601; taken where just one of them fits every row."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# A number is seconds; since 1970 where it is that large, and in ms, us or ns where it is larger still.
_SCALES = ((1e17, 1), (1e14, 1_000), (1e11, 1_000_000))


def find_time_column(table: Table) -> str | None:
    """The column that looks like the time: by its name, else the first that holds times; None for none."""
    lowered = {name.lower(): name for name in reversed(list(table.columns))}
    for known in NAMES:
        if known in lowered:
            return lowered[known]
    for name, cells in table.columns.items():
        # Eight digits are an ISO date, but far more often a number.
        if not all(cell.isdigit() for cell in cells[:5]) and _fitting(cells[:5]):
            return name
    return None


def times_of(table: Table, column: str, format_: str | None) -> Times:
    """UTC ns of every row; times without a zone are UTC. BadRecording at the first one that is none."""
    cells = table.column(column)
    if format_ is not None:
        return _parsed(table, column, cells, format_)
    seconds, strange = as_numbers(cells, comma=False)
    if not strange and not np.isnan(seconds).any():
        return _from_numbers(seconds)
    fitting = _fitting(cells)
    if len(fitting) > 1 and fitting[0] != "":
        choices = " or ".join(f"'{format_}'" for format_ in fitting)
        raise BadRecording(
            f"{table.path}: '{cells[0]}' in {column} can be read in two ways; say --time-format {choices}"
        )
    return _parsed(table, column, cells, fitting[0] if fitting else "")


def counted(rows: int, period: float) -> Times:
    """Times of rows that have none: one every `period` seconds."""
    return np.round(np.arange(rows) * period * SECOND).astype(np.int64) + SECOND


def _from_numbers(seconds: npt.NDArray[np.float64]) -> Times:
    largest = float(np.abs(seconds).max())
    for above, factor in _SCALES:
        if largest > above:
            return np.round(seconds * factor).astype(np.int64)
    return np.round(seconds * SECOND).astype(np.int64)


def _fitting(cells: Sequence[str]) -> list[str]:
    """The formats that fit all cells; '' stands for ISO 8601, and is alone where it fits."""
    if all(_iso(cell) is not None for cell in cells):
        return [""]
    fitting = list(FORMATS)
    for cell in cells:
        fitting = [format_ for format_ in fitting if _strptime(cell, format_) is not None]
        if not fitting:
            break
    return fitting


def _parsed(table: Table, column: str, cells: Sequence[str], format_: str) -> Times:
    found = np.empty(len(cells), dtype=np.int64)
    for row, cell in enumerate(cells):
        moment = _strptime(cell, format_) if format_ else _iso(cell)
        if moment is None:
            wanted = f"a time like '{format_}'" if format_ else "an ISO 8601 time or a number of seconds"
            what = f"'{cell}' is not {wanted}" if cell else "the time is missing"
            raise BadRecording(
                f"{table.path}:{table.lines[row]}: {column}: {what}; say --time-format "
                "(as '%d.%m.%Y %H:%M:%S'), or --time-column with another column"
            )
        found[row] = _ns(moment)
    return found


def _iso(cell: str) -> datetime | None:
    try:
        return datetime.fromisoformat(cell)
    except ValueError:
        return None


def _strptime(cell: str, format_: str) -> datetime | None:
    try:
        return datetime.strptime(cell, format_)  # noqa: DTZ007 (no zone means UTC, below)
    except ValueError:
        return None


def _ns(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND * 1_000
