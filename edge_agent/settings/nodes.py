"""A YAML file as a tree in which every key and value knows its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where something stands; line and column count from one. Sorts as a reader would read."""

    file: str
    line: int
    column: int


@dataclass(slots=True, eq=False)
class Node:
    """A value of the file, with the place it begins at."""

    place: Place
    size: int = 1
    """Nodes in the tree below, aliases counted as often as they are used."""


@dataclass(slots=True, eq=False)
class ScalarNode(Node):
    """Text, a number, true, false or nothing."""

    text: str = field(default="", repr=False)
    """As it was written, without quotes."""
    plain: bool = True
    """Written without quotes, so that it may be a number, true, false or nothing."""
    tag: str | None = None
    """What stood before it, like `!secret`."""
    value: Any = field(default=None, repr=False)
    """The text as YAML 1.2 understands it, or what a secret or variable stands for."""
    secret: bool = False
    """`value` came from outside the file, and must never be shown."""


@dataclass(slots=True, eq=False)
class ListNode(Node):
    """Values in order."""

    items: list[Node] = field(default_factory=list)


class Entry(NamedTuple):
    """A key with its value."""

    key: ScalarNode
    value: Node


@dataclass(slots=True, eq=False)
class MapNode(Node):
    """Values by key; each key stands once."""

    entries: dict[str, Entry] = field(default_factory=dict)
    """By the key's text."""

    def get(self, *keys: str) -> Node | None:
        """The value below these keys, one after the other; None where there is none."""
        node: Node | None = self
        for key in keys:
            entry = node.entries.get(key) if isinstance(node, MapNode) else None
            node = entry.value if entry else None
        return node

    def mappings(self, key: str) -> Iterator[tuple[str, Entry, MapNode]]:
        """Name, entry and mapping of all mappings that stand in the mapping below `key`."""
        below = self.get(key)
        if isinstance(below, MapNode):
            for name, entry in below.entries.items():
                if isinstance(entry.value, MapNode):
                    yield name, entry, entry.value


def plain(node: Node) -> Any:
    """The values of a tree as dict, list and scalars; keys that are whole numbers become int."""
    if isinstance(node, MapNode):
        return {_key(entry.key): plain(entry.value) for entry in node.entries.values()}
    if isinstance(node, ListNode):
        return [plain(item) for item in node.items]
    return node.value if isinstance(node, ScalarNode) else None


def _key(node: ScalarNode) -> str | int:
    # `bits: {0: ready}` is keyed by numbers; every other key is a name, whatever it looks like.
    return node.value if isinstance(node.value, int) and not isinstance(node.value, bool) else node.text


def text_of(node: Node | None) -> str | None:
    """The text of a scalar that is a text."""
    return node.value if isinstance(node, ScalarNode) and isinstance(node.value, str) else None


def scalars(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], ScalarNode]]:
    """Every scalar below `node` with the keys that lead to it (list items by their number)."""
    if isinstance(node, ScalarNode):
        yield path, node
    elif isinstance(node, ListNode):
        for index, item in enumerate(node.items):
            yield from scalars(item, (*path, str(index)))
    elif isinstance(node, MapNode):
        for key, entry in node.entries.items():
            yield from scalars(entry.value, (*path, key))
