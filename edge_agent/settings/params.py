"""`params:` of a machine: what a device profile leaves to the engineer, multiplied into its tags' scale."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from edge_agent.settings.nodes import Entry, ListNode, MapNode, Node, Place, ScalarNode
from edge_agent.settings.problems import Problem, at, did_you_mean
from edge_agent.settings.wording import found, listed

_OWN_SCALE = ("scale", "scaling", "scale_from", "decimals_from")


def apply_params(
    machine: MapNode, profile: MapNode, tags: MapNode, own: MapNode, entry: Entry
) -> Iterator[Problem]:
    """Scale the profile's `tags` by the machine's `params`.

    `own` are the tags as the machine writes them: one with a scale of its own keeps it. Tags whose
    parameter is not given are left out. `entry` is the machine's `profile:`.
    """
    declared = _map(profile.get("params"))
    given = _map(machine.get("params"))
    for name, below in given.entries.items():
        if name not in declared.entries:
            known = list(declared.entries)
            hint = did_you_mean(name, known) or (f"there are {', '.join(known)}" if known else "remove it")
            yield at(below.key.place, "E104", f"the profile has no parameter '{name}'", hint)
    for name, below in declared.entries.items():
        param = _map(below.value)
        scaled = [tag for tag in _texts(param.get("scales")) if tag in tags.entries and not _scales(own, tag)]
        written = given.entries.get(name)
        value = written.value if written else param.get("default")
        if value is None:
            yield from _left_out(name, param, scaled, tags, entry)
            continue
        factor = _factor(value, param)
        if factor is None:
            yield _wrong(name, value, param)
            continue
        for tag in scaled:
            _scale(tags.entries[tag].value, factor)


def _scales(own: MapNode, tag: str) -> bool:
    node = own.get(tag)
    return isinstance(node, MapNode) and any(key in node.entries for key in _OWN_SCALE)


def _factor(value: Node, param: MapNode) -> Decimal | None:
    """What a parameter's value multiplies a scale with; None where it cannot be the value."""
    number = _number(value)
    choices = param.get("values")
    if isinstance(choices, MapNode):
        chosen = next((e.value for e in choices.entries.values() if _number(e.key) == number), None)
        number = _number(chosen) if number is not None else None
    return number if number else None


def _number(node: Node | None) -> Decimal | None:
    value = node.value if isinstance(node, ScalarNode) else None
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _scale(tag: Node, factor: Decimal) -> None:
    if isinstance(tag, MapNode):
        scale = (_number(tag.get("scale")) or Decimal(1)) * factor
        key = ScalarNode(tag.place, text="scale", value="scale")
        tag.entries["scale"] = Entry(key, ScalarNode(tag.place, text=str(scale), value=float(scale)))


def _wrong(name: str, value: Node, param: MapNode) -> Problem:
    choices = param.get("values")
    if isinstance(choices, MapNode):
        hint = f"it is {listed(list(choices.entries))}"
    else:
        hint = "write a number that is not 0"
    return at(value.place, "E108", f"'{name}' cannot be {found(value)}", hint)


def _left_out(name: str, param: MapNode, scaled: list[str], tags: MapNode, entry: Entry) -> Iterator[Problem]:
    for tag in scaled:
        del tags.entries[tag]
    label = param.get("label")
    meaning = f" ({label.text})" if isinstance(label, ScalarNode) else ""
    if scaled:
        message = f"left out until their scale is known: {', '.join(scaled)}"
        yield at(entry.key.place, "W311", message, f"write params: {{{name}: ...}}{meaning}")


def _map(node: Node | None) -> MapNode:
    return node if isinstance(node, MapNode) else MapNode(Place("", 1, 1))


def _texts(node: Node | None) -> list[str]:
    items = node.items if isinstance(node, ListNode) else []
    return [item.text for item in items if isinstance(item, ScalarNode)]
