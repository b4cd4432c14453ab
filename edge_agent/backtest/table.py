"""Recorded tables as people have them: CSV of any separator, packed or not, decimal point or comma.

Numbers become columns of floats, NaN where a cell is empty; what is text is named, never guessed at.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_agent.errors import EdgeAgentError

Floats = npt.NDArray[np.float64]

SEPARATORS = (";", "\t", ",", "|", " ")
"""Tried in this order; the one that cuts the first lines into the most columns is taken."""
MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "--", "?"})
"""What stands for a missing sample, in small letters."""
_WORDS: Mapping[str, float] = {"true": 1.0, "false": 0.0}
_LOOKED_AT = 20


class BadRecording(EdgeAgentError):
    """A recorded file cannot be used as it was asked for; says where and what to do instead."""


@dataclass(frozen=True, slots=True)
class Table:
    """A recorded file: the texts of its cells, column by column, all as long as `rows`."""

    path: Path
    columns: Mapping[str, Sequence[str]]
    lines: Sequence[int]
    """The line of the file that each row stands on, counted from one."""
    comma: bool
    """Whether 3,5 may be a number: the separator is another."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.lines)

    def column(self, name: str) -> Sequence[str]:
        """The texts of a column. BadRecording with what there is where it is missing."""
        if name not in self.columns:
            import difflib

            close = difflib.get_close_matches(name, self.columns, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise BadRecording(
                f"{self.path}: there is no column '{name}'; {hint}its columns: {', '.join(self.columns)}"
            )
        return self.columns[name]


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numeric columns of a table, and in words what became of the rest."""

    values: Mapping[str, Floats]
    notes: tuple[str, ...]


def read_table(path: Path) -> Table:
    """The table in a file. BadRecording where it is away, empty, without a header, or a line is too long."""
    text = _text(path)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise BadRecording(f"{path}: the file is empty; a header line and rows are needed")
    separator = _separator([line for _, line in lines[:_LOOKED_AT]])
    reader = csv.reader((line for _, line in lines), delimiter=separator, skipinitialspace=separator == " ")
    try:
        cells = [[cell.strip() for cell in row] for row in reader]
    except csv.Error as error:
        raise BadRecording(f"{path}: not a table of text: {error}") from error
    if len(cells) != len(lines):
        raise BadRecording(f"{path}: a quoted cell reaches over several lines; that is not read")
    header = _header(path, cells[0])
    numbers = [number for number, _ in lines[1:]]
    if not numbers:
        raise BadRecording(f"{path}: there are no rows below the header")
    rows = [_fitted(path, number, row, len(header)) for number, row in zip(numbers, cells[1:], strict=True)]
    return Table(
        path, dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)), numbers, separator != ","
    )


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except OSError as error:  # gzip.BadGzipFile is one
        raise BadRecording(f"{path}: cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise BadRecording(f"{path}: the packed file is damaged: {error}") from error
    if b"\0" in content[:4096] and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadRecording(f"{path}: this is no text file; CSV is read, packed with gzip or not")
    for encoding in (
        ("utf-16",) if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp1252")
    ):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def _separator(lines: Sequence[str]) -> str:
    """The separator that cuts every line into the most cells; a space only as a last resort."""
    best, columns = ",", 1
    for separator in SEPARATORS:
        if separator == " " and columns > 1:
            break
        counts = [
            len(row) for row in csv.reader(lines, delimiter=separator, skipinitialspace=separator == " ")
        ]
        if counts and min(counts) > columns:
            best, columns = separator, min(counts)
    return best


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    names = list(cells)
    while names and not names[-1]:
        names.pop()  # a separator at the end of each line
    if names and all(_number(name, comma=False) is not None for name in names):
        raise BadRecording(
            f"{path}: the first line holds numbers; a header with the columns' names is needed"
        )
    names = [name or f"column {index}" for index, name in enumerate(names, 1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadRecording(f"{path}: two columns have the same name: {', '.join(twice)}; rename one")
    return names


def _fitted(path: Path, line: int, row: Sequence[str], width: int) -> list[str]:
    if len(row) > width and any(row[width:]):
        raise BadRecording(f"{path}:{line}: {len(row)} cells, but the header names {width} columns")
    return [*row[:width], *[""] * (width - len(row))]


def numbers(table: Table, without: Iterable[str] = ()) -> Numbers:
    """Every numeric column but those in `without`.

    A column that is text in more than half of its cells is left out and named; in a numeric one a text cell
    (`Bad`, `I/O Timeout`) is a missing sample, and counted.
    """
    left_out = set(without)
    values: dict[str, Floats] = {}
    texts, empty, notes = [], [], []
    for name, cells in table.columns.items():
        if name in left_out:
            continue
        column, strange = as_numbers(cells, comma=table.comma)
        good = int(np.count_nonzero(~np.isnan(column)))
        if good == 0 and not strange:
            empty.append(name)
        elif len(strange) > good:
            texts.append(name)
        else:
            values[name] = column
            if strange:
                first = strange[0]
                notes.append(
                    f"{name}: {len(strange)} cells hold text, as '{cells[first]}' in line "
                    f"{table.lines[first]}: taken as missing"
                )
    if texts:
        notes.append(f"left out, because they hold text: {', '.join(texts)}")
    if empty:
        notes.append(f"left out, because they are empty: {', '.join(empty)}")
    return Numbers(values, tuple(notes))


def as_numbers(cells: Sequence[str], *, comma: bool) -> tuple[Floats, list[int]]:
    """The cells as floats, NaN where missing or no number, and the indices of those that hold other text."""
    column = np.full(len(cells), math.nan)
    strange: list[int] = []
    for index, cell in enumerate(cells):
        value = _number(cell, comma=comma)
        if value is None:
            strange.append(index)
        else:
            column[index] = value
    return column, strange


def _number(cell: str, *, comma: bool) -> float | None:
    """The number in a cell, NaN where it is missing, None where it is text."""
    try:
        return float(cell)
    except ValueError:
        pass
    word = cell.strip().lower()
    if word in MISSING:
        return math.nan
    if word in _WORDS:
        return _WORDS[word]
    if comma and word.count(",") == 1 and "." not in word:
        return _number(word.replace(",", "."), comma=False)
    return None


def text_file(path: Path) -> io.TextIOWrapper:
    """A text file to write; packed where its name ends in .gz."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "wb"), encoding="utf-8", newline="")
    return path.open("w", encoding="utf-8", newline="")
