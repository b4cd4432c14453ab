"""Browse paths to nodes on one server: translated by it where a path is exact, else walked level by level."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_agent_drivers.opcua.path import BrowsePath, Step, escaped

VARIABLE = 2
"""The node class of what has a value."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Child:
    """A node below another one."""

    node: Any
    """Its node id."""
    name: str
    namespace: int
    node_class: int


@dataclass(frozen=True, slots=True)
class Match:
    """A node on a path, with the browse names that lead to it."""

    node: Any
    node_class: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return "/".join(escaped(name) for name in self.names)


@dataclass(frozen=True, slots=True)
class Found:
    """What a path leads to: one node, or why not."""

    node: Any = None
    problem: str = ""
    """A clause for people; empty where there is a node."""
    missing: bool = False
    """Whether nothing is there (yet); else the path itself is not usable."""


class Server(Protocol):
    """What is asked of a session. Each method raises DeviceUnreachable where the service fails as a whole."""

    @property
    def namespaces(self) -> Sequence[str]:
        """The namespace URIs, by index."""

    def start(self, root: bool) -> Any:
        """The node id of the root, or of the Objects folder."""

    async def translate(self, paths: Sequence[tuple[Any, Sequence[tuple[int, str]]]]) -> list[list[Any]]:
        """The nodes at the end of each path of (namespace, name) from a node; none where it ends nowhere."""

    async def children(self, nodes: Sequence[Any]) -> list[list[Child]]:
        """What is hierarchically below each node."""


async def find(server: Server, paths: Sequence[BrowsePath]) -> list[Found]:
    """One node for each path, or why there is none. DeviceUnreachable where the server does not answer."""
    translated = await _translate(server, paths)
    walked = [path for path in paths if path not in translated]
    matches = dict(zip(walked, await walk(server, walked), strict=True)) if walked else {}
    return [translated.get(path) or _judge(server, path, matches[path]) for path in paths]


async def _translate(server: Server, paths: Sequence[BrowsePath]) -> Mapping[BrowsePath, Found]:
    """Those of the exact paths that lead to one node; the others are walked, to say where they end."""
    asked, names = [], []
    for path in dict.fromkeys(path for path in paths if path.exact):
        spaces = [_namespace(server, step) for step in path.steps]
        if all(space is not None for space in spaces):
            asked.append(path)
            steps = [(space or 0, step.name) for space, step in zip(spaces, path.steps, strict=True)]
            names.append((server.start(path.root), steps))
    if not asked:
        return {}
    answers = await server.translate(names)
    return {path: Found(nodes[0]) for path, nodes in zip(asked, answers, strict=True) if len(nodes) == 1}


def _namespace(server: Server, step: Step) -> int | None:
    if step.namespace is not None:
        return step.namespace
    return server.namespaces.index(step.uri) if step.uri in server.namespaces else None


@dataclass(slots=True)
class Walk:
    """How far one path was followed."""

    path: BrowsePath
    here: list[Match]
    depth: int = 0
    seen: list[str] = field(default_factory=list)
    """The names found where the path ends, if it ends early."""

    @property
    def done(self) -> bool:
        """Whether there is nothing more to follow."""
        return not self.here or self.depth == len(self.path.steps)


async def walk(server: Server, paths: Sequence[BrowsePath]) -> list[Walk]:
    """Follow paths, with or without wildcards, to all nodes on them; each node is browsed once."""
    walks = [Walk(path, [Match(server.start(path.root), 1, ())]) for path in paths]
    known: dict[Any, list[Child]] = {}
    while any(not one.done for one in walks):
        unknown = list(
            dict.fromkeys(
                match.node for one in walks if not one.done for match in one.here if match.node not in known
            )
        )
        known |= dict(zip(unknown, await server.children(unknown), strict=True))
        for one in walks:
            if not one.done:
                _advance(one, known, server.namespaces)
    return walks


def _advance(one: Walk, known: Mapping[Any, list[Child]], uris: Sequence[str]) -> None:
    step = one.path.steps[one.depth]
    one.seen = [child.name for match in one.here for child in known[match.node]]
    further = {}
    for match in one.here:
        for child in known[match.node]:
            uri = uris[child.namespace] if child.namespace < len(uris) else ""
            if step.fits(child.name, child.namespace, uri):
                further[child.node] = Match(child.node, child.node_class, (*match.names, child.name))
    one.here = list(further.values())
    one.depth += 1


def _judge(server: Server, path: BrowsePath, end: Walk) -> Found:
    """A path that was walked leads to one variable, or to a problem."""
    for step in path.steps:
        if step.uri is not None and step.uri not in server.namespaces:
            return Found(problem=f"the server has no namespace {step.uri}")
    variables = [match for match in end.here if match.node_class == VARIABLE]
    if len(variables) == 1:
        return Found(variables[0].node)
    if variables:
        shown = _some(sorted(str(match) for match in variables))
        return Found(problem=f"{len(variables)} nodes are at {path} ({shown}): a tag is one of them")
    if end.here:
        return Found(
            problem=f"{path} is a folder or an object and has no value: append the name of a variable"
        )
    step = path.steps[end.depth - 1]
    near = difflib.get_close_matches(step.name, end.seen, 1)
    hint = f"did you mean {near[0]}?" if near else f"there is {_some(sorted(end.seen)) or 'nothing'}"
    return Found(problem=f"there is no '{step.name}' on {path}: {hint}", missing=True)


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:_SHOWN]) + (", ..." if len(shown) > _SHOWN else "")
