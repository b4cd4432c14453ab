"""`defaults:` -> keys below those of each machine: for all of them, or for those of one driver.

What a machine says itself comes first, then its profile, then its driver's defaults, then those for all. The
keys keep their places, so that a mistake among them is shown once, where it was made.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent import registry
from edge_agent.contracts.settings import MachineSettings
from edge_agent.settings import notyet, shape, unknown
from edge_agent.settings.nodes import Entry, MapNode, Node, Place, text_of
from edge_agent.settings.problems import Problem, at, did_you_mean
from edge_agent.settings.profiles import combined
from edge_agent.settings.wording import found, listed

ALL = "all"
OWN = frozenset({"driver", "url", "profile", "profile_tags", "params", "tags", "from"})
"""What each machine says for itself."""


def merge(root: MapNode) -> tuple[list[Problem], set[Place]]:
    """Take `defaults` out of the tree and put it below every machine.

    What is wrong with it comes back, and the places that several machines share.
    """
    entry = root.entries.pop("defaults", None)
    if entry is None:
        return [], set()
    shelf = _Defaults()
    shelf.read(entry)
    for _, machine, node in list(root.mappings("machines")):
        shelf.put_below(machine, node)
    shelf.unused()
    shared = {place for _, node in shelf.by_driver.values() for place in _places(node)}
    return shelf.problems, shared


class _Defaults:
    """The defaults of a configuration by driver, and for all."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.by_driver: dict[str, tuple[Entry, MapNode]] = {}
        self._used: set[str] = {ALL}

    def read(self, defaults: Entry) -> None:
        if not isinstance(defaults.value, MapNode):
            self._no_mapping("defaults", defaults)
            return
        names = [ALL, *registry.driver_names()]
        for name, entry in defaults.value.entries.items():
            if name not in names:
                hint = did_you_mean(name, names) or self._elsewhere(name) or f"it is {listed(names)}"
                self.problems.append(at(entry.key.place, "E104", f"unknown key '{name}'", hint))
            elif not isinstance(entry.value, MapNode):
                self._no_mapping(name, entry)
            else:
                self.by_driver[name] = (entry, self._known(name, entry.value))

    def _no_mapping(self, name: str, entry: Entry) -> None:
        message = f"'{name}' is a mapping (key: value), not {found(entry.value)}"
        self.problems.append(at(entry.key.place, "E107", message, "indent its keys below it"))

    def _elsewhere(self, key: str) -> str:
        if key in shape.keys(MachineSettings):
            return f"write it below {ALL}: or below the name of a driver"
        return _of_driver(key)

    def _known(self, name: str, node: MapNode) -> MapNode:
        """The keys that may be defaults; of the others is told why not."""
        model = MachineSettings if name == ALL else registry.driver_settings(name)
        kept = MapNode(node.place)
        for key, entry in node.entries.items():
            if key in OWN:
                message = f"'{key}' cannot be a default"
                self.problems.append(at(entry.key.place, "E113", message, "each machine says its own"))
            elif key in shape.keys(model) or f"machines.*.{key}" in notyet.KEYS:
                kept.entries[key] = entry
            elif name == ALL and (hint := _of_driver(key)):
                self.problems.append(at(entry.key.place, "E104", f"unknown key '{key}'", hint))
            else:
                self.problems.append(unknown.unknown_key(entry.key.place, key, entry.value, [model]))
        return kept

    def put_below(self, machine: Entry, node: MapNode) -> None:
        driver = text_of(node.get("driver"))
        for name in (driver, ALL):
            if name in self.by_driver:
                self._used.add(name)
                node.entries = combined(node, self.by_driver[name][1]).entries

    def unused(self) -> None:
        for name, (entry, _) in self.by_driver.items():
            if name not in self._used:
                message = f"no machine has driver: {name}"
                self.problems.append(at(entry.key.place, "W307", message, "remove these defaults"))


def _of_driver(key: str) -> str:
    """Where a key belongs that only machines of some drivers know."""
    drivers = [name for name in registry.driver_names() if key in shape.keys(registry.driver_settings(name))]
    return f"write it below {' or '.join(f'{name}:' for name in drivers)}" if drivers else ""


def _places(node: Node) -> Iterator[Place]:
    yield node.place
    for entry in node.entries.values() if isinstance(node, MapNode) else ():
        yield entry.key.place
        yield from _places(entry.value)
