"""`edge-agent browse opcua`: the variables of a server with node id, type, value and unit, ready to paste."""

from __future__ import annotations

import fnmatch
import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent.contracts.plugs import Ask
from edge_agent.errors import DeviceRefused
from edge_agent_drivers import terminal
from edge_agent_drivers.opcua.nodeid import parse_node

FOUND, NOTHING, USAGE = 0, 1, 2
OBJECTS = "i=85"
MOST_VISITED = 20_000
"""Nodes that one browse looks at."""
_AT_ONCE = 25
"""Nodes of one question: short, since a running agent's scans wait for it."""
_NARROW = "narrow it down with --root or --pattern, or raise"
_TEXT = frozenset({"String", "LocalizedText"})
_NUMBERS = ("SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double")
_READABLE = frozenset({"Boolean", *_NUMBERS, "Number", "Integer", "UInteger", "Enumeration", *_TEXT})


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to see."""

    root: str
    pattern: str | None
    depth: int
    most: int
    values: bool

    def fits(self, path: Sequence[str]) -> bool:
        """Whether a variable is wanted: the pattern is for its name, or with a `/` for its whole path."""
        if self.pattern is None:
            return True
        text = "/".join(path) if "/" in self.pattern else path[-1]
        return fnmatch.fnmatchcase(text.lower(), self.pattern.lower())


@dataclass(slots=True)
class Variable:
    """A variable that was found."""

    node: str
    path: tuple[str, ...]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Found:
    """What a browse came upon."""

    variables: list[Variable] = field(default_factory=list)
    visited: int = 0
    cut: str = ""
    """Why it is not all; empty where it is."""


async def browse(
    ask: Ask,
    device: str,
    *,
    root: str,
    pattern: str | None,
    depth: int,
    most: int,
    values: bool,
    json_output: bool,
    security: str | None = None,
    username: str | None = None,
) -> int:
    """Walk the address space and show its variables; the exit code. `device` is for people.

    `security` (POLICY[/MODE]) and `username` are what the connection was asked for with: the YAML needs them.
    """
    try:
        parse_node(root)
    except ValueError as problem:
        terminal.say(str(problem))
        return USAGE
    wish = Wish(root, pattern, depth, most, values)
    terminal.say(f"Browsing {device}: reads only, to depth {depth}, {most} variables at most.")
    try:
        found = await walk(ask, wish)
        await describe(ask, wish, found.variables)
    except DeviceRefused as refusal:
        terminal.progress("")
        terminal.say(str(refusal))
        return NOTHING
    terminal.progress("")
    url = device.split(" ", 1)[0]
    lines = yaml_lines(url, found.variables, _security(security, username))
    if json_output:
        terminal.show(json.dumps(_document(url, found, lines), ensure_ascii=False))
    elif found.variables:
        counts = f"{len(found.variables)} variables, {found.visited} nodes looked at"
        terminal.say(f"{counts}. Ready to paste below a line `site: NAME`:\n")
        terminal.show("\n".join(lines))
    if not found.variables:
        terminal.say(f"No variable below {root}" + (f" fits {pattern}." if pattern else "."))
    if found.cut:
        terminal.say(f"\nNot all: {found.cut}.")
    return FOUND if found.variables else NOTHING


async def walk(ask: Ask, wish: Wish) -> Found:
    """Every wanted variable below the root, level by level, each node once. DeviceRefused for an odd root."""
    [start] = (await ask({"do": "details", "nodes": [wish.root]}))["details"]
    if not start["exists"]:
        raise DeviceRefused(f"the server has no node {wish.root}")
    found = Found(visited=1)
    seen = {wish.root}
    level: list[tuple[str, tuple[str, ...], bool]] = [(wish.root, (), False)]
    for _ in range(wish.depth):
        below: list[tuple[str, tuple[str, ...], bool]] = []
        for first in range(0, len(level), _AT_ONCE):
            part = level[first : first + _AT_ONCE]
            terminal.progress(f"{found.visited} nodes, {len(found.variables)} variables ...")
            reply = await ask({"do": "children", "nodes": [node for node, _, _ in part]})
            for (_, path, variable), children in zip(part, reply["children"], strict=True):
                below += _take(children, path, variable, wish, seen, found)
            if len(found.variables) > wish.most or found.visited >= MOST_VISITED:
                count = min(wish.most, len(found.variables))
                found.cut = f"the first {count} variables of a larger server; {_NARROW} --most"
                del found.variables[wish.most :]
                return found
        level = below
        if not level:
            return found
    if any(not variable for _, _, variable in level):
        found.cut = f"there may be more below depth {wish.depth}; {_NARROW} --depth"
    return found


def _take(
    children: Sequence[Mapping[str, Any]],
    path: tuple[str, ...],
    of_variable: bool,
    wish: Wish,
    seen: set[str],
    found: Found,
) -> list[tuple[str, tuple[str, ...], bool]]:
    """Note the variables among the children of a node; the nodes to go on from."""
    further = []
    for child in children:
        standard = child["namespace"] == 0 and (of_variable or (wish.root == OBJECTS and not path))
        # Properties of a variable (its unit, its range) and the server's own objects are no machine's data.
        if child["node"] in seen or standard:
            continue
        seen.add(child["node"])
        found.visited += 1
        here = (*path, child["name"])
        if child["variable"] and wish.fits(here):
            found.variables.append(Variable(child["node"], here))
        further.append((child["node"], here, bool(child["variable"])))
    return further


async def describe(ask: Ask, wish: Wish, variables: Sequence[Variable]) -> None:
    """Give each variable its details."""
    for first in range(0, len(variables), _AT_ONCE):
        terminal.progress(f"details of {first} of {len(variables)} variables ...")
        part = variables[first : first + _AT_ONCE]
        question = {"do": "details", "nodes": [one.node for one in part], "values": wish.values}
        for variable, details in zip(part, (await ask(question))["details"], strict=True):
            variable.details = details


def _document(url: str, found: Found, lines: Sequence[str]) -> dict[str, Any]:
    return {
        "url": url,
        "visited": found.visited,
        "cut": found.cut or None,
        "variables": [
            {"path": "/".join(one.path), "node": one.node, **one.details} for one in found.variables
        ],
        "yaml": "\n".join(lines),
    }


def _security(security: str | None, username: str | None) -> list[str]:
    if security is None and username is None:
        return []
    policy, _, mode = (security or "None").partition("/")
    keys = [f"policy: {policy}"]
    if mode:
        keys.append(f"mode: {mode}")
    if username is not None:
        keys += [f"username: {json.dumps(username)}", "password: !secret NAME"]
    return [f"    security: {{{', '.join(keys)}}}"]


def yaml_lines(url: str, variables: Sequence[Variable], security: Sequence[str] = ()) -> list[str]:
    """A machine with a tag for every variable, grouped by folder; what cannot be a tag is a comment."""
    lines = ["machines:", "  machine-1:", "    driver: opcua", f"    url: {json.dumps(url)}", *security]
    lines.append("    tags:" if any(not _problem(one.details) for one in variables) else "    tags: {}")
    names = _names(variables)
    for one in variables:
        problem = _problem(one.details)
        lines.append(
            f"      # {'/'.join(one.path)}: {_remark(one.details)}{f'; {problem}' if problem else ''}"
        )
        lines.append(f"      {'# ' if problem else ''}{names[one.node]}: {{{', '.join(_keys(one))}}}")
    return lines


def _keys(variable: Variable) -> list[str]:
    details = variable.details
    keys = [f"node: {json.dumps(variable.node, ensure_ascii=False)}"]
    if details["type"] in _TEXT:
        keys.append("type: string")
    if details["type"] == "Boolean":
        keys.append("type: bool")
    if details["array"]:
        keys.append(f"length: {max(1, min(details.get('length') or 1, 1000))}")
    if details["unit"]:
        keys.append(f"unit: {_quoted(details['unit'])}")
    if details["range"] and not details["array"]:
        keys.append(f"range: [{details['range'][0]:g}, {details['range'][1]:g}]")
    return keys


def _remark(details: Mapping[str, Any]) -> str:
    """Type and, where it was read, value."""
    kind = f"array of {details['type']}" if details["array"] else str(details["type"])
    if details.get("status"):
        return f"{kind}, {details['status']}"
    return f"{kind}, {_text(details['value'])}" if "value" in details else kind


def _problem(details: Mapping[str, Any]) -> str:
    """Why a variable cannot be a tag as it stands; empty where it can."""
    if not details["readable"]:
        return "not readable for this user"
    if details["type"] == "Structure":
        return "add field: NAME for one of its fields"
    return "" if details["type"] in _READABLE else "only numbers, bools and text can be tags"


def _names(variables: Sequence[Variable]) -> dict[str, str]:
    """A tag name for each node: its browse name, or as much of its path as makes it the only one."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for depth in range(1, max((len(one.path) for one in variables), default=0) + 1):
        left = [one for one in variables if one.node not in names]
        made = Counter(_name(".".join(one.path[-depth:])) for one in left)
        for one in left:
            name = _name(".".join(one.path[-depth:]))
            if made[name] == 1 and name not in taken:
                names[one.node] = name
                taken.add(name)
    for one in variables:
        # The same path twice: browse names need not be unique.
        for number in itertools.count(2):
            if one.node in names:
                break
            if (name := f"{_name('.'.join(one.path))}_{number}") not in taken:
                names[one.node] = name
                taken.add(name)
    return names


def _name(text: str) -> str:
    """The text as a name of a tag may be: letters, digits, `_`, `-`, `.`."""
    made = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-")[:120]
    return made or "tag"


def _quoted(unit: str) -> str:
    """A unit as YAML takes it: plain where that cannot be mistaken for anything else."""
    plain = re.fullmatch(r"[^\W\d_][\w/·²³]*|°[CF]", unit) and unit.lower() not in ("true", "false", "null")
    return unit if plain else json.dumps(unit, ensure_ascii=False)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.7g}"
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 60 else shown[:57] + "..."
