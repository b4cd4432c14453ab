"""Text that is not YAML: what is wrong in plain words, and a repair of the line so that reading can go on.

A parser stops at the first mistake. Here each mistake is reported, its line is mended as a person would mend
it, and the text is read again, so that one run names them all.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from edge_agent.settings.diagnosis import diagnose, indent, line_above
from edge_agent.settings.nodes import Node, Place
from edge_agent.settings.problems import Problem, at
from edge_agent.settings.reading import Composer, TooMuch

MAX_REPAIRS = 20

_TAB_INDENT = re.compile(r" *\t[ \t]*(?=[^\s#])")


@dataclass(slots=True)
class Reading:
    """What a text holds, as far as it could be read."""

    root: Node | None = None
    problems: list[Problem] = field(default_factory=list)
    repaired: bool = False
    """Lines were mended to read on: what seems to be missing may only be unreadable."""
    mended: set[int] = field(default_factory=set)
    """Those lines, counted from one."""


def read(text: str, file: str) -> Reading:
    """The tree of `text` with every mistake that can be found."""
    reading = Reading()
    lines = text.split("\n")
    mended: Counter[int] = Counter()
    for _ in range(MAX_REPAIRS):
        try:
            composer = Composer("\n".join(lines), file)
            reading.root = composer.compose()
        except ReaderError as error:
            reading.problems.append(_unprintable(error, text, file))
        except TooMuch as error:
            reading.problems.append(error.problem)
        except MarkedYAMLError as error:
            if _mend(error, lines, file, mended, reading):
                continue
        else:
            reading.problems += composer.problems
        break
    reading.mended = {index + 1 for index in mended}
    return reading


def _mend(
    error: MarkedYAMLError, lines: list[str], file: str, mended: Counter[int], reading: Reading
) -> bool:
    """Report `error` and mend `lines` in place; whether another try is worth it."""
    if "'\\t'" in str(error.problem):
        return _mend_tabs(error, lines, file, mended, reading)
    reading.repaired = True
    diagnosis = diagnose(error, lines, file)
    index = diagnosis.line
    mended[index] += 1
    if mended[index] == 1:
        reading.problems.append(at(diagnosis.place, "E102", diagnosis.message, diagnosis.hint))
    elif mended[index] > 2:
        # Mended twice and still wrong: leave the line out, and say nothing more about it.
        diagnosis.instead = "" if lines[index].strip() else None
    if diagnosis.instead is None:
        return False
    lines[index] = diagnosis.instead
    return True


def _mend_tabs(
    error: MarkedYAMLError, lines: list[str], file: str, mended: Counter[int], reading: Reading
) -> bool:
    """Tabs between words are only spaces; tabs that indent are refused, all at once."""
    line = lines[error.problem_mark.line]
    column = error.problem_mark.column
    if line[:column].strip():
        lines[error.problem_mark.line] = line[:column] + line[column:].replace("\t", " ")
        return True
    reading.repaired = True
    found = False
    for index, line in enumerate(lines):
        match = _TAB_INDENT.match(line)
        if match:
            found = True
            mended[index] += 1
            place = Place(file, index + 1, line.index("\t") + 1)
            reading.problems.append(at(place, "E103", "a tab indents this line", "use spaces"))
            lines[index] = " " * _meantindent(lines, index, match[0]) + line[match.end() :]
    if not found:
        lines[error.problem_mark.line] = line.replace("\t", " ")
    return True


def _meantindent(lines: list[str], index: int, lead: str) -> int:
    """By how many spaces a line that tabs indent is most likely meant to be indented."""
    above = line_above(lines, index)
    level = 0 if above is None else indent(lines[above])
    opens = above is not None and lines[above].split(" #")[0].rstrip().endswith(":")
    below = next((x for x in lines[index + 1 :] if x.strip() and not _TAB_INDENT.match(x)), None)
    if below is None or below.startswith(lead):
        return lead.count("\t") * 2 + lead.count(" ")
    if opens:
        return indent(below) if indent(below) > level else level + 2
    return min(level, indent(below))


def _unprintable(error: ReaderError, text: str, file: str) -> Problem:
    before = text[: error.position]
    line = before.count("\n") + 1
    place = Place(file, line, len(before) - before.rfind("\n"))
    code = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
    return at(place, "E102", f"a sign that cannot be printed (U+{code:04X})", "remove it")
