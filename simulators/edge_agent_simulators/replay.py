"""A recorded file served through Modbus: float32 per column from holding:0, row by row in its own time."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import struct
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from edge_agent.errors import ConfigError
from edge_agent_simulators.feeds import Feed
from edge_agent_simulators.image import RegisterImage

_SEPARATORS = ",;\t"
_MOST_COLUMNS = 32_768
_RESERVED = frozenset({"enterprise", "site", "area", "line", "machine", "tag", "time"})


class ReplayFeed(Feed):
    """The rows of a CSV file; the last is held for ever, or the file begins again with `loop`.

    `time_column` paces it (ISO 8601 or seconds), else it is a row a second. An empty cell is NaN. Columns of
    text are left out and named in `left_out`. ConfigError where the file or a column is not usable.
    """

    def __init__(
        self,
        path: Path,
        time_column: str | None = None,
        columns: Sequence[str] | None = None,
        loop: bool = False,
    ) -> None:
        header, rows, separator = _read(path)
        for name in (*([time_column] if time_column else []), *(columns or [])):
            if name not in header:
                raise ConfigError([f"{path} has no column '{name}'; it has: {', '.join(header)}"])
        self._decimal_comma = separator != ","
        self._path = path
        self._loop = loop
        self.columns, self.left_out = self._choose(header, rows, time_column, columns)
        self._rows = self._pack(header, rows)
        self._times = _times(
            path, [row[header.index(time_column)] for row in rows] if time_column else None, len(rows)
        )
        self.images = {1: RegisterImage()}
        self.nodes = ()
        self.about = f"{path.name}: {len(rows)} rows, {len(self.columns)} columns"
        self._shown = -1
        self.refresh(0.0)

    def _choose(
        self, header: list[str], rows: list[list[str]], time_column: str | None, columns: Sequence[str] | None
    ) -> tuple[list[str], list[str]]:
        candidates = [name for name in (columns or header) if name != time_column]
        numeric = [name for name in candidates if self._is_numeric(header.index(name), rows)]
        left_out = [name for name in candidates if name not in numeric]
        if not numeric:
            raise ConfigError([f"{self._path} has no column of numbers among: {', '.join(candidates)}"])
        if len(numeric) > _MOST_COLUMNS:
            raise ConfigError(
                [f"{self._path} has {len(numeric)} columns; {_MOST_COLUMNS} fit: use --columns"]
            )
        return numeric, left_out

    def _is_numeric(self, column: int, rows: list[list[str]]) -> bool:
        found = False
        for row in rows:
            if row[column]:
                if self._number(row[column]) is None:
                    return False
                found = True
        return found

    def _number(self, text: str) -> float | None:
        """The number in a cell, NaN where it is empty, None where it is text."""
        if not text:
            return math.nan
        try:
            return float(text.replace(",", ".") if self._decimal_comma else text)
        except ValueError:
            return None

    def _pack(self, header: list[str], rows: list[list[str]]) -> list[bytes]:
        places = [header.index(name) for name in self.columns]
        packer = struct.Struct(f">{len(places)}f")
        packed = []
        for row in rows:
            values = [self._number(row[place]) for place in places]
            packed.append(packer.pack(*(_float32(math.nan if value is None else value) for value in values)))
        return packed

    def refresh(self, t: float) -> None:
        """Show the row that was current at `t`, whole."""
        if self._loop:
            t %= self._times[-1] + self._pause()
        index = max(0, bisect_right(self._times, t + 1e-9) - 1)
        if index != self._shown:
            self._shown = index
            self.images[1].put("holding", 0, self._rows[index])

    def _pause(self) -> float:
        """Seconds from the last row to the first when looping: as between rows in the middle."""
        gaps = sorted(b - a for a, b in zip(self._times, self._times[1:], strict=False))
        return gaps[len(gaps) // 2] or 1.0 if gaps else 1.0

    def instant(self) -> float:
        """When the row that is shown was taken, in seconds since the first."""
        return self._times[self._shown]

    def machines(self, modbus: str | None, opcua: str | None) -> dict[str, dict[str, Any]]:
        """The `machines:` of an agent's YAML."""
        tags: dict[str, dict[str, Any]] = {}
        for index, column in enumerate(self.columns):
            name = _tag_name(column, tags)
            tags[name] = {"address": f"holding:{2 * index}", "type": "float32"}
            if name != column:
                tags[name]["label"] = column
        stem = re.sub(r"[^A-Za-z0-9-]+", "-", self._path.name.split(".")[0]).strip("-") or "replay"
        return {stem: {"driver": "modbus", "url": modbus, "unit_id": 1, "every": "1s", "tags": tags}}


def _tag_name(column: str, taken: dict[str, dict[str, Any]]) -> str:
    """A column's name as a tag may be called: letters, digits, _ - and ., not reserved, not twice."""
    base = re.sub(r"[^A-Za-z0-9_.-]+", "_", column).strip("_.") or "column"
    if base in _RESERVED:
        base += "_1"
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    return name


def _read(path: Path) -> tuple[list[str], list[list[str]], str]:
    """Header, rows as wide as it, and the separator."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ConfigError([f"{path} cannot be read: {error}"]) from error
    text = raw.decode("utf-8-sig", errors="replace")
    first = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    lines = [
        [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=separator) if row
    ]
    if len(lines) < 2:
        raise ConfigError([f"{path} needs a line of column names and at least one row"])
    header = lines[0]
    width = len(header)
    return header, [(row + [""] * width)[:width] for row in lines[1:]], separator


def _times(path: Path, texts: list[str] | None, count: int) -> list[float]:
    """Seconds since the first row, never going back."""
    if texts is None:
        return [float(index) for index in range(count)]
    try:
        seconds = [_seconds(text) for text in texts]
    except ValueError as error:
        raise ConfigError([f"{path}: the time column holds {error}; write ISO 8601 or seconds"]) from error
    return [second - seconds[0] for second in accumulate(seconds, max)]


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"'{text}'") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _float32(value: float) -> float:
    """The value, or infinity where float32 cannot hold it: struct would refuse it."""
    return value if abs(value) < 3.4e38 or value != value else math.copysign(math.inf, value)
