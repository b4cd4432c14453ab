"""A CSV of machines: a head that names the columns, then a machine in each line, cells with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from edge_agent.settings.masking import looks_secret
from edge_agent.settings.nodes import Place
from edge_agent.settings.problems import at
from edge_agent.settings.sources import Sources

MAX_ROWS = 5000
"""Most machines that one list may bring; an agent on a Raspberry Pi reads far fewer."""
_SEPARATORS = (",", ";", "\t")


class Cell(NamedTuple):
    """What stands in one cell, without quotes and the spaces around it."""

    text: str
    place: Place


@dataclass(slots=True)
class Table:
    """The rows of a CSV by their columns."""

    columns: list[str]
    rows: list[dict[str, Cell]] = field(default_factory=list)


def read(path: Path, wanted: Place, sources: Sources) -> Table | None:
    """The table in `path`; what is wrong goes to `sources.problems`, and None where nothing can be used.

    `wanted` is where the file was asked for. Separators are commas, semicolons or tabs, as the head has them.
    """
    text = sources.text(path, wanted)
    if text is None:
        return None
    lines = text.split("\n")
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip(" ,;\t")]
    if not filled:
        hint = "begin with a line that names the columns"
        sources.problems.append(at(Place(str(path), 1, 1), "E124", "the list is empty", hint))
        return None
    (number, head), *rest = filled
    separator = max(_SEPARATORS, key=head.count)
    header = list(_cells(head, separator, str(path), number))
    # A password in a list must not be shown under a message about its line.
    if not any(looks_secret(cell.text) for cell in header):
        sources.lines[str(path)] = lines
    return _table(header, rest, separator, str(path), sources)


def _table(
    header: list[Cell], lines: list[tuple[int, str]], separator: str, file: str, sources: Sources
) -> Table | None:
    while header and not header[-1].text:
        header.pop()
    if not _named(header, sources):
        return None
    table = Table([cell.text for cell in header])
    for number, line in lines:
        if len(table.rows) >= MAX_ROWS:
            place = Place(file, number, 1)
            sources.problems.append(at(place, "E114", f"more than {MAX_ROWS} machines in one list"))
            break
        cells = list(_cells(line, separator, file, number))
        if _fits(cells, len(header), sources):
            table.rows.append(dict(zip(table.columns, cells, strict=False)))
    return table


def _named(header: list[Cell], sources: Sources) -> bool:
    """Whether every column has a name of its own."""
    seen: set[str] = set()
    fine = True
    for cell in header:
        if not cell.text or "{" in cell.text or "}" in cell.text:
            message, hint = "a column without a usable name", "give it one, without braces"
        elif cell.text in seen:
            message, hint = f"the column '{cell.text}' stands twice", "rename one"
        else:
            seen.add(cell.text)
            continue
        fine = False
        sources.problems.append(at(cell.place, "E124", message, hint))
    return fine


def _fits(cells: list[Cell], columns: int, sources: Sources) -> bool:
    """Whether a line has as many cells as the head; spreadsheets add empty ones, which do no harm."""
    broken = next((cell for cell in cells if cell.text.startswith('"')), None)
    if broken is not None:
        hint = "a cell in quotes ends with a quote, in the same line"
        sources.problems.append(at(broken.place, "E124", "the quote that begins here never ends", hint))
        return False
    extra = next((cell for cell in cells[columns:] if cell.text), None)
    if len(cells) >= columns and extra is None:
        return True
    place = extra.place if extra else cells[-1].place
    message = f"{len(cells)} cells, and the head has {columns}"
    hint = (
        "put a cell that contains the separator in quotes" if extra else "add the separators that are missing"
    )
    sources.problems.append(at(place, "E124", message, hint))
    return False


def _cells(line: str, separator: str, file: str, number: int) -> Iterator[Cell]:
    sign = re.escape(separator)
    pattern = re.compile(rf' *(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<bare>[^{sign}]*?)) *(?P<end>{sign}|$)')
    position = 0
    while (match := pattern.match(line, position)) is not None:
        quoted, bare = match["quoted"], match["bare"]
        start = match.start("bare") if quoted is None else match.start("quoted") - 1
        text = bare if quoted is None else quoted.replace('""', '"')
        yield Cell(text, Place(file, number, start + 1))
        position = match.end()
        if not match["end"]:
            return
