"""What is wrong with a configuration: one problem, its code, and how it is shown."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edge_agent.settings.explained import anchor
from edge_agent.settings.nodes import Place

Severity = Literal["error", "warning"]
_WIDEST = 160
"""Most signs of a source line that are shown."""

CODES: Mapping[str, str] = {
    "E101": "a file cannot be read",
    "E102": "the YAML cannot be read",
    "E103": "a tab indents the line",
    "E104": "unknown key",
    "E105": "a key stands twice",
    "E106": "a key is missing",
    "E107": "a value of the wrong type",
    "E108": "not one of the values that are possible",
    "E109": "not a duration, size or rate",
    "E110": "a number out of its range",
    "E111": "a name with signs that names cannot have",
    "E112": "not yet: a later version will know this",
    "E113": "a value that this key does not take",
    "E114": "too large, too deep, or too many aliases",
    "E115": "an included file",
    "E116": "a secret that cannot be found or read",
    "E117": "a variable that is not set, or stands where none may",
    "E118": "unknown driver",
    "E119": "unknown scan class",
    "E120": "an address that cannot be read",
    "E121": "a URL that cannot be used",
    "E122": "a device profile that does not exist",
    "E123": "braces that stand for nothing",
    "E124": "a list of machines that cannot be read",
    "E201": "a machine's name stands twice in the site",
    "E202": "a reserved name",
    "E203": "an expression that cannot be read",
    "E204": "a tag that does not exist",
    "E205": "the unit of a tag is a number",
    "E206": "two storage types for one field",
    "E207": "open to the network without users",
    "E208": "the historian's settings are incomplete",
    "E209": "one address with two drivers, or two protocols",
    "E210": "one port for two things",
    "E211": "one line with two settings",
    "W301": "a limit that can never be reached",
    "W302": "an alarm without an action",
    "W303": "a secret in plain text",
    "W304": "an include that matches no file",
    "W305": "nothing to read",
    "W306": "nothing to judge",
    "W307": "a setting without effect",
    "W308": "a value that is probably a slip",
    "W309": "a context tag that does not exist",
    "W310": "a connection that cannot answer as often as it is asked",
    "W311": "tags of a profile that need a parameter",
    "W312": "a machine whose communication watchdog may trip",
    "W313": "two limits with one action",
    "W314": "very many fields in one measurement",
    "W315": "very many series",
    "W316": "more false alarms than anybody reads",
    "W317": "a buffer that does not last a day",
    "W321": "what is sent can be read or changed on the way",
    "W322": "a certificate or key that cannot be used",
    "W323": "a key that others can read",
    "W324": "a server that is not known yet",
    "W325": "a certificate that is about to expire",
}
"""Every code with what it is about. A code keeps its meaning for ever; new ones are added at the end."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what to do about it."""

    file: str
    line: int
    column: int
    code: str
    message: str
    hint: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {self.code}: {self.message}{hint}"

    def to_json(self) -> dict[str, Any]:
        """The problem as a JSON object."""
        return {**asdict(self), "help": anchor(self.code)}


def at(place: Place, code: str, message: str, hint: str = "") -> Problem:
    """A problem at `place`; the code's first letter says how severe it is."""
    return Problem(*place, code, message, hint, "warning" if code.startswith("W") else "error")


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """The problems by file, line and column, each once."""
    return sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line, p.column, p.code, p.message))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion in words, or nothing where no known word is near."""
    close = closest(word, known)
    return f"did you mean '{close}'?" if close else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was most likely meant to be."""
    by_fold = {_folded(name): name for name in known}
    if (same := by_fold.get(_folded(word))) is not None:
        return same
    close = difflib.get_close_matches(_folded(word), by_fold, n=1, cutoff=0.6)
    return by_fold[close[0]] if close else None


def _folded(word: str) -> str:
    return re.sub(r"[\s_-]+", "_", word.strip().lower())


def snippet(problem: Problem, lines: Mapping[str, list[str]], *, indent: str = "    ") -> str:
    """The source line with a caret under the problem's column; nothing where the line is not known."""
    source = lines.get(problem.file, [])
    if not 1 <= problem.line <= len(source):
        return ""
    line = "".join(sign if sign == "\t" or sign.isprintable() else "·" for sign in source[problem.line - 1])
    start, line = _window(line, problem.column - 1)
    # A tab keeps its width under itself, and a wide sign takes two, so that the caret stands right.
    lead = "".join(
        "\t" if sign == "\t" else " " * _width(sign) for sign in line[: problem.column - 1 - start]
    )
    return f"{indent}{line}\n{indent}{lead}^"


def _window(line: str, column: int) -> tuple[int, str]:
    """The part of a long line around `column`, and where it begins."""
    if len(line) <= _WIDEST:
        return 0, line
    start = max(0, min(column - _WIDEST // 2, len(line) - _WIDEST))
    return start, line[start : start + _WIDEST]


def _width(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1
