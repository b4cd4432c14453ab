"""`profile: NAME` -> the keys and tags of that device profile, put into the machine's part of the tree.

It happens before anything is checked, so that expressions, health, alarms and crosschecks know a profile's
tags like any other. What a profile brought has the place of the `profile:` key; mistakes in a profile of
one's own are shown in its file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_agent import registry
from edge_agent.contracts.settings import TagSettings
from edge_agent.settings import syntax
from edge_agent.settings.nodes import Entry, ListNode, MapNode, Node, Place, ScalarNode, plain, text_of
from edge_agent.settings.params import apply_params
from edge_agent.settings.problems import Problem, at, closest, did_you_mean
from edge_agent.settings.sources import Sources
from edge_agent.settings.translate import translate
from edge_agent.units import UnitError, parse_duration

FACTS = frozenset({"device", "source", "firmware", "verified", "not_known", "notes", "params"})
"""What stays in the profile."""
ELSEWHERE: Mapping[str, tuple[str, ...]] = {"min_pause": ("comm", "pause"), "update_period": ("every",)}
"""What has another name in a machine."""
_BY_KEY = frozenset({"comm", "byte_order", "invalid", "comm_watchdog", "limits", "health", "security", "tls"})
"""Mappings that own settings change key by key; every other value they replace."""
_INSTEAD: Mapping[str, tuple[str, ...]] = {
    "scan": ("every",),
    "every": ("scan",),
    "scaling": ("scale", "offset", "scale_from", "decimals_from"),
    "scale": ("scaling",),
    "offset": ("scaling",),
    "scale_from": ("scaling", "decimals_from", "signal"),
    "decimals_from": ("scaling", "scale_from", "signal"),
    "signal": ("scale_from", "decimals_from"),
    "bits": ("enum",),
    "enum": ("bits",),
}
"""Own keys -> those of the profile that they stand for as well."""
_DEFAULT_EVERY = 1.0


def merge(root: MapNode, sources: Sources) -> list[Problem]:
    """Put the profiles of all machines into the tree; what is wrong with them comes back."""
    shelf = _Shelf(sources)
    seen: set[int] = set()
    for _, _, node in root.mappings("machines"):
        # An anchor may bring the same mapping to several machines.
        if "profile" in node.entries and id(node) not in seen:
            seen.add(id(node))
            shelf.put_into(node)
    return shelf.problems


class _Shelf:
    """The profiles that a configuration uses, each read once."""

    def __init__(self, sources: Sources) -> None:
        self.problems: list[Problem] = []
        self._sources = sources
        self._bundled: dict[tuple[str, str], MapNode] = {}
        self._own: dict[Path, MapNode | None] = {}

    def put_into(self, machine: MapNode) -> None:
        entry = machine.entries["profile"]
        name = text_of(entry.value)
        if name is None:
            # The machine's model says that this is no text.
            return
        driver = text_of(machine.get("driver")) or _driver_of(name)
        if driver not in registry.PROFILES:
            # The machine's model says that it knows no profiles.
            return
        machine.entries.setdefault("driver", _said(entry.key, "driver", driver))
        profile = self._profile(driver, name, entry.value.place)
        if profile is not None:
            self.problems += _Merging(machine, profile, entry).run()

    def _profile(self, driver: str, name: str, place: Place) -> MapNode | None:
        if name.endswith((".yaml", ".yml")):
            path = Path(place.file).parent / name
            if path not in self._own:
                self._own[path] = self._read_own(driver, path, place)
            return self._own[path]
        known = registry.profile_names(driver)
        if name not in known:
            hint = did_you_mean(name, known) or "edge-agent profiles lists them; one's own is ./NAME.yaml"
            self.problems.append(at(place, "E122", f"there is no profile '{name}'", hint))
            meant = closest(name, known)
            if meant is None:
                # Tags that seem to be missing may be the profile's.
                self._sources.repaired = True
                return None
            name = meant
        if (driver, name) not in self._bundled:
            self._bundled[driver, name] = bundled(driver, name)
        return self._bundled[driver, name]

    def _read_own(self, driver: str, path: Path, place: Place) -> MapNode | None:
        tree = self._sources.file(path, place)
        if tree is None:
            return None
        model = registry.profile_model(driver)
        try:
            model.model_validate(plain(tree))
        except ValidationError as error:
            self.problems += translate(error, tree, model, tree.place)
            self._sources.repaired = True
            return None
        return tree


def bundled(driver: str, name: str) -> MapNode:
    """The tree of a bundled profile, which the tests have checked."""
    root = syntax.read(registry.profile_text(driver, name), f"profile {name}").root
    return root if isinstance(root, MapNode) else MapNode(Place(f"profile {name}", 1, 1))


def _driver_of(name: str) -> str:
    """The driver of a machine that does not name one: the one that has such a profile."""
    drivers = list(registry.PROFILES)
    return next((d for d in drivers if name in registry.profile_names(d)), drivers[0])


class _Merging:
    """One profile on its way into one machine."""

    def __init__(self, machine: MapNode, profile: MapNode, entry: Entry) -> None:
        self.machine, self.profile, self.entry = machine, profile, entry
        self.problems: list[Problem] = []

    def run(self) -> list[Problem]:
        """Bring everything, and return what is wrong with what the machine says about it."""
        brought = MapNode(self.entry.key.place)
        for key, entry in self.profile.entries.items():
            if key == "update_period" and _duration(entry.value) <= _DEFAULT_EVERY:
                continue
            if key not in FACTS and key != "tags":
                _put(brought, ELSEWHERE.get(key, (key,)), _copy(entry, self.entry.key.place))
        tags = self._tags()
        self.machine.entries = combined(self.machine, brought).entries
        if tags is not None:
            self.machine.entries["tags"] = tags
        return self.problems

    def _tags(self) -> Entry | None:
        """The profile's tags with the machine's own on top; None where those are no mapping."""
        entry = self.machine.entries.get("tags")
        own = entry.value if entry else MapNode(self.entry.key.place)
        theirs = self.profile.get("tags")
        if isinstance(own, ScalarNode) and own.value is None:
            own = MapNode(own.place)
        if not isinstance(own, MapNode) or not isinstance(theirs, MapNode):
            return None
        tags = MapNode(own.place)
        for name, brought in theirs.entries.items():
            if name in own.entries:
                mine = own.entries[name]
                if not _off(mine.value):
                    tags.entries[name] = self._tag(mine, brought)
            elif self._wanted(name):
                tags.entries[name] = _copy(brought, self.entry.key.place)
        strange = self._misspelt(own, theirs)
        self.problems += self._unknown(theirs)
        self.problems += [at(place, "E204", *_no_tag(name, theirs)) for name, place in strange.items()]
        self.problems += apply_params(self.machine, self.profile, tags, own, self.entry)
        for name, mine in own.entries.items():
            if name not in theirs.entries and name not in strange and not _off(mine.value):
                tags.entries[name] = mine
        key = entry.key if entry else _said(self.entry.key, "tags", None).key
        return Entry(key, tags)

    def _tag(self, mine: Entry, brought: Entry) -> Entry:
        copied = _copy(brought, mine.key.place)
        if isinstance(mine.value, MapNode) and isinstance(copied.value, MapNode):
            return Entry(mine.key, combined(mine.value, copied.value))
        return mine

    def _wanted(self, name: str) -> bool:
        only = self.machine.get("profile_tags")
        return not isinstance(only, ListNode) or any(text_of(item) == name for item in only.items)

    def _unknown(self, theirs: MapNode) -> Iterator[Problem]:
        """Names in `profile_tags`, and tags switched off, that the profile does not have."""
        only = self.machine.get("profile_tags")
        named = [(text_of(item), item.place) for item in only.items] if isinstance(only, ListNode) else []
        own = self.machine.get("tags")
        if isinstance(own, MapNode):
            for name, entry in own.entries.items():
                if _off(entry.value):
                    named.append((name, entry.key.place))
        for tag, place in named:
            if tag is not None and tag not in theirs.entries:
                yield at(place, "E204", *_no_tag(tag, theirs))

    def _misspelt(self, own: MapNode, theirs: MapNode) -> dict[str, Place]:
        """Own tags that only make sense as changes to one of the profile's, and are named like none."""
        tags = [entry.value for entry in theirs.entries.values() if isinstance(entry.value, MapNode)]
        common = set.intersection(*(set(tag.entries) for tag in tags)) if tags else set()
        needed = common - TagSettings.model_fields.keys()
        return {
            name: entry.key.place
            for name, entry in own.entries.items()
            if isinstance(entry.value, MapNode)
            and name not in theirs.entries
            and not needed & entry.value.entries.keys()
            and closest(name, theirs.entries)
        }


def _no_tag(tag: str, theirs: MapNode) -> tuple[str, str]:
    hint = did_you_mean(tag, theirs.entries) or "edge-agent profiles NAME lists them"
    return f"the profile has no tag '{tag}'", hint


def combined(own: MapNode, brought: MapNode) -> MapNode:
    """`own` with what `brought` says in addition; neither of the two is changed."""
    result = MapNode(own.place)
    replaced = {other for key in own.entries for other in _INSTEAD.get(key, ())}
    for key, entry in brought.entries.items():
        if key not in own.entries and key not in replaced:
            result.entries[key] = entry
    for key, entry in own.entries.items():
        theirs = brought.entries.get(key)
        value = entry.value
        if key in _BY_KEY and theirs and isinstance(value, MapNode) and isinstance(theirs.value, MapNode):
            value = combined(value, theirs.value)
        result.entries[key] = Entry(entry.key, value)
    return result


def _put(node: MapNode, path: tuple[str, ...], entry: Entry) -> None:
    """Put a value below some keys, making the mappings on the way."""
    for key in path[:-1]:
        below = node.entries.setdefault(key, Entry(_key(entry.key, key), MapNode(entry.key.place))).value
        if not isinstance(below, MapNode):
            return
        node = below
    node.entries[path[-1]] = Entry(_key(entry.key, path[-1]), entry.value)


def _key(like: ScalarNode, text: str) -> ScalarNode:
    return ScalarNode(like.place, text=text, value=text)


def _said(like: ScalarNode, key: str, value: Any) -> Entry:
    """An entry at the place of `like`."""
    return Entry(_key(like, key), ScalarNode(like.place, text=str(value), value=value))


def _off(node: Node) -> bool:
    return isinstance(node, ScalarNode) and (node.value is False or node.value == "off")


def _copy(entry: Entry, place: Place) -> Entry:
    """The entry with everything in it standing at `place`."""
    key = entry.key
    return Entry(ScalarNode(place, 1, key.text, key.plain, key.tag, key.value), _moved(entry.value, place))


def _moved(node: Node, place: Place) -> Node:
    if isinstance(node, MapNode):
        return MapNode(place, node.size, {key: _copy(entry, place) for key, entry in node.entries.items()})
    if isinstance(node, ListNode):
        return ListNode(place, node.size, [_moved(item, place) for item in node.items])
    if isinstance(node, ScalarNode):
        return ScalarNode(place, 1, node.text, node.plain, node.tag, node.value)
    return node


def _duration(node: Node) -> float:
    text = text_of(node)
    try:
        return parse_duration(text) if text else 0.0
    except UnitError:
        return 0.0
