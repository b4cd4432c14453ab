"""pydantic's errors -> problems with a place in the file, in the words of an engineer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from edge_agent.expressions import ExpressionError
from edge_agent.settings import shape, unknown, wording
from edge_agent.settings.crosscheck import number_as_unit
from edge_agent.settings.masking import without_userinfo
from edge_agent.settings.nodes import Entry, ListNode, MapNode, Node, Place, ScalarNode
from edge_agent.settings.problems import Problem, at
from edge_agent.units import UnitError

_CODES = {"address": "E120", "node": "E120", "url": "E121", "listen": "E121"}
"""Keys whose refusal has a code of its own."""
_BEGINNINGS = {"not yet: ": "E112", "this machine has no tag ": "E204"}
"""How refusals begin that have a code of their own wherever they stand."""
_UNKNOWN = ("extra_forbidden", "invalid_key")
_LIST_LENGTHS = ("too_short", "too_long")


@dataclass(slots=True)
class _Fault:
    """One of pydantic's errors with the node it is about."""

    kind: str
    path: tuple[str, ...]
    """The keys that exist in the file on the way to it."""
    branch: bool
    """It is about one member of a union only."""
    key: Place
    """Where the key stands (or the whole, at the root)."""
    node: Node
    missing: str
    """The key that is not there: unknown to the model, or missing in the file."""
    context: Mapping[str, Any]
    message: str
    of_key: bool
    """It is about the key itself, not its value."""


def translate(error: ValidationError, root: MapNode, model: type[BaseModel], place: Place) -> list[Problem]:
    """The problems of a mapping that `model` refused; `place` is that of the key the mapping belongs to."""
    # Our own validators name a key by its first spelling, and the file may have another.
    written = {n: s for n in model.model_fields for s in shape.spellings(model, n) if s in root.entries}
    errors = error.errors(include_url=False, include_input=False)
    faults = [_fault(dict(e), root, place, written) for e in errors]
    problems = [_problem(fault, model) for fault in _settled(faults)]
    return [problem for problem in problems if problem is not None]


def _fault(error: dict[str, Any], root: MapNode, place: Place, written: Mapping[str, str]) -> _Fault:
    kind, location = str(error["type"]), [str(part) for part in error["loc"]]
    if location:
        location[0] = written.get(location[0], location[0])
    missing = location.pop() if kind == "missing" and location else ""
    of_key = bool(location) and location[-1] == "[key]"
    if of_key:
        location.pop()
    path, branch = [], False
    node: Node = root
    for index, part in enumerate(location):
        last = index == len(location) - 1
        below = _step(node, part)
        if below is None:
            if last and kind in _UNKNOWN:
                missing = part
            branch = True
            continue
        path.append(part)
        place, node = below
    if of_key:
        node = ScalarNode(place, text=path[-1], value=path[-1])
    context = error.get("ctx", {})
    return _Fault(kind, tuple(path), branch, place, node, missing, context, str(error["msg"]), of_key)


def _step(node: Node, part: str) -> tuple[Place, Node] | None:
    if isinstance(node, MapNode):
        entry = node.entries.get(part) or _by_number(node, part)
        return (entry.key.place, entry.value) if entry else None
    if isinstance(node, ListNode) and part.isdigit() and int(part) < len(node.items):
        return node.items[int(part)].place, node.items[int(part)]
    return None


def _by_number(node: MapNode, part: str) -> Entry | None:
    # A key written 0x10 arrives as 16.
    return next((e for e in node.entries.values() if str(e.key.value) == part), None)


def _settled(faults: Sequence[_Fault]) -> Iterable[_Fault]:
    """One fault per place and key: where a union refused, the word of the member that came furthest."""
    seen: set[tuple[tuple[str, ...], str, str]] = set()
    for fault in faults:
        if fault.branch and any(_deeper(other, fault) for other in faults):
            continue
        rivals = [o for o in faults if o.branch and o.path == fault.path and o.kind in _UNION_KINDS]
        kind = fault.kind
        if fault.branch and kind in _UNION_KINDS and len(rivals) > 1:
            fault.kind = kind = "union"
        mark = (fault.path, kind, fault.missing if kind != "value_error" else fault.message)
        if mark not in seen:
            seen.add(mark)
            yield fault


_UNION_KINDS = frozenset({*wording.EXPECTED, "literal_error", "enum", "string_pattern_mismatch", "union"})


def _deeper(other: _Fault, fault: _Fault) -> bool:
    """Whether `other` is about something within the union member that `fault` only says is not its kind."""
    if other is fault or fault.kind not in _UNION_KINDS:
        return False
    below = len(other.path) > len(fault.path) and other.path[: len(fault.path)] == fault.path
    return below or (other.path == fault.path and other.kind not in _UNION_KINDS)


def _problem(fault: _Fault, model: type[BaseModel]) -> Problem | None:
    if fault.kind in _UNKNOWN:
        models = shape.models_at(model, fault.path[:-1])
        above = fault.path[-1] if fault.path else fault.missing
        return unknown.unknown_key(fault.key, above, fault.node, models)
    if fault.kind == "missing":
        return _missing(fault, model)
    if fault.kind in ("value_error", "assertion_error"):
        return _refused(fault)
    return _wrong(fault, fault.path[-1] if fault.path else "")


def _missing(fault: _Fault, model: type[BaseModel]) -> Problem | None:
    if isinstance(fault.node, ListNode):
        count = len(fault.node.items)
        key = _key(fault.path)
        return at(fault.node.place, "E107", f"{key} has only {count} {'value' if count == 1 else 'values'}")
    models = shape.models_at(model, fault.path)
    if unknown.misspelt(fault.node, fault.missing, models):
        # The unknown key is reported already, with what it was meant to be.
        return None
    meaning = next((text for m in models if (text := shape.description(m, fault.missing))), "")
    what = f" ({meaning[0].lower()}{meaning[1:]})" if meaning else ""
    return at(fault.key, "E106", f"'{fault.missing}' is missing", f"add {fault.missing}:{what}")


def _key(path: Sequence[str]) -> str:
    """The nearest key on the way to a value, list positions left out."""
    name = next((part for part in reversed(path) if not part.isdigit()), "")
    return f"'{name}'" if name else "this"


def _wrong(fault: _Fault, key: str) -> Problem:
    place, node = fault.node.place, fault.node
    name = _key(fault.path)
    if fault.of_key and fault.kind in wording.EXPECTED:
        return at(place, "E107", f"the key {name} must be {wording.EXPECTED[fault.kind]}")
    if fault.kind in ("literal_error", "enum"):
        options, hint = wording.choices(fault.context, node)
        return at(place, "E108", f"{name} cannot be {wording.found(node)}", hint or f"it is {options}")
    if fault.kind == "union" or (fault.branch and key in wording.KNOWN_ALTERNATIVES):
        expected = wording.KNOWN_ALTERNATIVES.get(key, "something else")
        return at(place, "E107", f"{name} cannot be {wording.found(node)}", f"write {expected}")
    bounds = wording.out_of_range(fault.kind, fault.context, node)
    if bounds:
        return at(place, "E110", f"{name} {bounds}", "")
    if fault.kind == "finite_number":
        return at(place, "E110", f"{name} must be a finite number")
    if fault.kind in _LIST_LENGTHS:
        count = fault.context.get("max_length" if fault.kind == "too_long" else "min_length")
        return at(place, "E107", f"{name} has {fault.context.get('actual_length')} values, not {count}")
    if fault.kind in ("string_pattern_mismatch", "string_too_long", "string_too_short"):
        return _name(fault, name)
    wanted = wording.KNOWN_ALTERNATIVES.get(key) or wording.EXPECTED.get(fault.kind)
    if wanted is None:
        return at(place, "E113", f"{name}: {fault.message}")
    hint = wording.hint_for(fault.kind, node, key)
    if key == "unit" and isinstance(node, ScalarNode) and isinstance(node.value, int | float):
        return number_as_unit(place, node.text)
    return at(place, "E107", f"{name} is {wanted}, not {wording.found(node)}", hint)


def _name(fault: _Fault, name: str) -> Problem:
    if fault.kind == "string_too_long":
        return at(fault.node.place, "E111", f"{name} is longer than {fault.context.get('max_length')} signs")
    hint = "letters, digits, _ - and . (the last two not first); free text goes into `label`"
    if fault.of_key:
        return at(fault.node.place, "E111", f"nothing can be named {name}", hint)
    return at(fault.node.place, "E111", f"{name} cannot be {wording.found(fault.node)}", hint)


def _refused(fault: _Fault) -> Problem:
    """What a validator of ours (or of a driver) refused, with its own message."""
    key = fault.path[-1] if fault.path else ""
    raised = fault.context.get("error")
    node = fault.node
    if isinstance(node, ScalarNode) and node.secret:
        return at(node.place, "E113", f"'{key}' cannot be this")
    if isinstance(raised, ExpressionError):
        return at(_within(node, raised.column), "E203", *_split(raised.message))
    if isinstance(raised, UnitError):
        return at(node.place, "E109", raised.message, raised.hint)
    text = without_userinfo(fault.message.removeprefix("Value error, ").removeprefix("Assertion failed, "))
    place = _named_in(text, node) if isinstance(node, MapNode) else node.place
    code = next((code for begin, code in _BEGINNINGS.items() if text.startswith(begin)), None)
    code = code or _CODES.get(key, "E113")
    return at(place or fault.key, code, *_split(text))


def _within(node: Node, column: int) -> Place:
    """The place of a column of a scalar's text, where it stands in one line as it is."""
    if not isinstance(node, ScalarNode):
        return node.place
    lead = 0 if node.plain else 1
    file, line, start = node.place
    return Place(file, line, start + lead + column - 1) if "\n" not in node.text else node.place


def _named_in(text: str, node: MapNode) -> Place | None:
    """The key of the mapping that a message about the whole mapping names first."""
    for word in re.findall(r"[\w-]+", text):
        if word in node.entries:
            return node.entries[word].key.place
    return None


def _split(text: str) -> tuple[str, str]:
    """Message and hint of a text like `what is wrong; what to do` or `what is wrong: write this`."""
    message, semicolon, hint = text.partition("; ")
    if semicolon:
        return message, hint
    message, colon, hint = text.partition(": write ")
    return (message, f"write {hint}") if colon else (text, "")
