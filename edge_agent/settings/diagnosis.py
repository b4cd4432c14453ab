"""What a parser's complaint means in plain words, where the mistake is, and how the line was meant."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ruamel.yaml.error import MarkedYAMLError

from edge_agent.settings.masking import looks_secret
from edge_agent.settings.nodes import Place

_KEY = re.compile(r"(\s*(?:- +)?)([\w.`-]+|'[^']*'|\"[^\"]*\")\s*:(?=\s|$)(.*)")
_NO_SPACE = re.compile(r"\s*([A-Za-z_][\w.-]*):(?=[^\s/:])")
_CLOSER = {"{": "}", "[": "]"}


@dataclass(slots=True)
class Diagnosis:
    """A mistake, and the line as it should be to read on (None: give up)."""

    place: Place
    message: str
    hint: str
    line: int
    instead: str | None


def diagnose(error: MarkedYAMLError, lines: list[str], file: str) -> Diagnosis:
    """What is wrong where the parser stopped, which is often below the mistake itself."""
    problem = str(error.problem)
    mark = error.problem_mark or error.context_mark
    index = min(mark.line, len(lines) - 1)
    quote = _open_quote(lines, index)
    if quote is not None:
        return _unclosed_quote(lines, *quote, file)
    if "flow" in str(error.context) and "expected" in problem:
        return _unclosed_bracket(error, lines, file)
    if "expected ':'" in problem:
        return _no_colon(lines, error.context_mark.line, file)
    if "mapping values" in problem:
        return _nested_value(lines, index, mark.column, file)
    if "expected <block end>" in problem:
        return _wrong_level(lines, index, mark.column, problem, file)
    return _other(lines, index, mark.column, problem, file)


def _unclosed_quote(lines: list[str], index: int, column: int, file: str) -> Diagnosis:
    sign = lines[index][column]
    place = Place(file, index + 1, column + 1)
    message = f"the text that begins with {sign} here never ends"
    return Diagnosis(place, message, f"put a {sign} at its end", index, _without_value(lines[index]))


def _unclosed_bracket(error: MarkedYAMLError, lines: list[str], file: str) -> Diagnosis:
    mark, found = error.context_mark, error.problem_mark
    last = max(mark.line, min(found.line, len(lines)) - 1)
    if found.line == mark.line:
        last = mark.line
    sign = lines[mark.line][mark.column]
    closers = _closers("\n".join([lines[mark.line][mark.column :], *lines[mark.line + 1 : last + 1]]))
    place = Place(file, mark.line + 1, mark.column + 1)
    if not closers or found.line == mark.line:
        place = Place(file, found.line + 1, found.column + 1)
        message = f"a comma or {_CLOSER.get(sign, '}')} is missing before this"
        if "${" in lines[mark.line]:
            return Diagnosis(
                place,
                "${...} needs quotes here",
                'write "${NAME}"',
                mark.line,
                _without_value(lines[mark.line]),
            )
        hint = "entries between brackets are separated by commas; texts with , [ ] { } : need quotes"
        return Diagnosis(place, message, hint, mark.line, _without_value(lines[mark.line]))
    hint = f"put {_CLOSER.get(sign, '}')} at its end"
    return Diagnosis(place, f"this {sign} is never closed", hint, last, _closed(lines[last], closers))


def _closed(line: str, closers: str) -> str:
    code = re.sub(r"\s+#.*$", "", line).rstrip().rstrip(",")
    return code + closers


def _no_colon(lines: list[str], index: int, file: str) -> Diagnosis:
    line = lines[index]
    column = indent(line) + 1
    match = _NO_SPACE.match(line)
    if match:
        place = Place(file, index + 1, match.end() + 1)
        instead = line[: match.end()] + " " + line[match.end() :]
        return Diagnosis(place, f"a space is missing after '{match[1]}:'", "", index, instead)
    place = Place(file, index + 1, column)
    above = line_above(lines, index)
    if above is not None and looks_secret(lines[above].split(":")[0].strip()):
        return Diagnosis(place, "a colon is missing in this line", "", index, "")
    word = line.strip().split(" ")[0]
    below = next((x for x in lines[index + 1 :] if x.strip()), "")
    instead = f"{line.rstrip()}:" if indent(below) > indent(line) and " " not in line.strip() else ""
    return Diagnosis(place, f"a colon is missing after '{word}'", f"write {word}: VALUE", index, instead)


def _nested_value(lines: list[str], index: int, column: int, file: str) -> Diagnosis:
    """`mapping values are not allowed here`: a colon within a value, or a line indented too far."""
    line = lines[index]
    own = indent(line)
    above = line_above(lines, index)
    if _KEY.match(line) is not None and line[own:column].count(":") == 0 and above is not None:
        text = lines[above]
        level = indent(text)
        if _KEY.match(text) is None and not text.lstrip().startswith("- "):
            return _no_colon(lines, above, file)
        place = Place(file, index + 1, own + 1)
        message = "this line is indented further than the one above, which already has a value"
        hint = f"indent it by {level} spaces" if level else "do not indent it"
        return Diagnosis(place, message, hint, index, " " * level + line.lstrip())
    place = Place(file, index + 1, column + 1)
    hint = "put a value that contains ': ' in quotes"
    return Diagnosis(place, "a second colon in one line", hint, index, _without_value(line))


def _wrong_level(lines: list[str], index: int, column: int, problem: str, file: str) -> Diagnosis:
    line = lines[index]
    own = indent(line)
    place = Place(file, index + 1, column + 1)
    found = problem.rsplit("found ", 1)[-1].strip("'\"")
    if found in ("}", "]"):
        instead = line[:column] + line[column + 1 :]
        return Diagnosis(place, f"this {found} closes nothing", "remove it", index, instead)
    if line[:column].strip():
        hint = "a text that begins with a quote ends with it; write the quote itself twice"
        return Diagnosis(place, "text after the end of the value", hint, index, _without_value(line))
    if found == "-":
        instead = re.sub(r"- +", "", line, count=1) if ":" in line else ""
        hint = "remove the -, or indent it below the key it belongs to"
        return Diagnosis(place, "a list item among keys", hint, index, instead)
    if found == "?":
        return Diagnosis(place, "a key among list items", "indent it as the key above the list", index, "")
    above = line_above(lines, index)
    level = 0 if above is None else indent(lines[above])
    message = f"indented by {own} {'space' if own == 1 else 'spaces'}, which fits no line above"
    hint = f"the line above is indented by {level}"
    return Diagnosis(place, message, hint, index, " " * level + line.lstrip())


_OTHER = {
    "undefined alias": (
        "*NAME refers to an &NAME that is not there",
        "a text that begins with * is put in quotes",
    ),
    "unknown escape": ("a \\ between double quotes begins an escape", "write \\\\, or use single quotes"),
    "cannot start any token": ("a value cannot begin with this sign", "put it in quotes"),
    "expected ' '": ("a space is missing before this", "!secret is followed by a space and a name"),
    "undefined tag handle": ("!! is not used here", "a text that begins with ! is put in quotes"),
}


def _other(lines: list[str], index: int, column: int, problem: str, file: str) -> Diagnosis:
    place = Place(file, index + 1, column + 1)
    for part, (message, hint) in _OTHER.items():
        if part in problem:
            return Diagnosis(place, message, hint, index, _without_value(lines[index]))
    return Diagnosis(place, f"this is not YAML: {problem}", "", index, _without_value(lines[index]))


def _without_value(line: str) -> str:
    match = _KEY.match(line)
    return f"{match[1]}{match[2]}: ~" if match and match[3].strip() != "~" else ""


def line_above(lines: list[str], index: int) -> int | None:
    """The nearest line above that says something."""
    for above in range(index - 1, -1, -1):
        text = lines[above].strip()
        if text and not text.startswith("#"):
            return above
    return None


def _open_quote(lines: list[str], index: int) -> tuple[int, int] | None:
    """Line and column of a quote at or up to 30 lines above `index` that its line does not close."""
    for at_line in range(index, max(-1, index - 30), -1):
        column = _unclosed(lines[at_line])
        if column is not None:
            return at_line, column
    return None


def _unclosed(line: str) -> int | None:
    position, before = 0, " "
    while position < len(line):
        sign = line[position]
        if sign == "#" and before == " ":
            return None
        if sign in "'\"" and before in " [{,:":
            end = _quote_end(line, position)
            if end is None:
                return position
            position, sign = end, "x"
        before = sign
        position += 1
    return None


def _quote_end(line: str, start: int) -> int | None:
    pattern = r"'(?:[^']|'')*'" if line[start] == "'" else r'"(?:[^"\\]|\\.)*"'
    match = re.compile(pattern).match(line, start)
    return match.end() - 1 if match else None


def _closers(text: str) -> str:
    """The brackets that close what `text` leaves open."""
    stack: list[str] = []
    bare = re.sub(r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"|(?:^|\s)#.*", "", text)
    for sign in bare:
        if sign in _CLOSER:
            stack.append(_CLOSER[sign])
        elif stack and sign == stack[-1]:
            stack.pop()
    return "".join(reversed(stack))


def indent(line: str) -> int:
    """By how many spaces a line is indented."""
    return len(line) - len(line.lstrip(" "))
