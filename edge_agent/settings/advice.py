"""Warnings: a configuration that works, and probably not as it was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from edge_agent.contracts.settings import LimitsSettings, MachineSettings, TagSettings
from edge_agent.settings.nodes import MapNode, Place
from edge_agent.settings.problems import Problem, at
from edge_agent.types import Kind
from edge_agent.units import format_duration

_RAW: Mapping[str, tuple[float, float]] = {
    **{f"uint{bits}": (0.0, 2.0**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"int{bits}": (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    "bcd16": (0.0, 9999.0),
    "bcd32": (0.0, 99_999_999.0),
    "mod10_32": (-99_999_999.0, 99_999_999.0),
    "mod10_64": (-9_999_999_999_999_999.0, 9_999_999_999_999_999.0),
    "signmag16": (-32_767.0, 32_767.0),
    "signmag32": (-2_147_483_647.0, 2_147_483_647.0),
    "bool": (0.0, 1.0),
}


def of_machines(
    root: MapNode, machines: Mapping[str, MachineSettings], state: Path | None
) -> Iterator[Problem]:
    """The warnings of every machine that could be read; `state` is the drivers' folder, where it is known."""
    for name, machine in machines.items():
        node = root.get("machines", name)
        if not isinstance(node, MapNode):
            continue
        tags = node.get("tags")
        for tag, settings in machine.tags.items():
            below = tags.get(tag) if isinstance(tags, MapNode) else None
            if isinstance(settings, TagSettings) and isinstance(below, MapNode):
                yield from _limits(settings, below)
                yield from _discrete(settings, below)
                yield from _bit_alarms(below)
        yield from _judged(machine, node)
        yield from _fed(machine, node)
        for doubt in machine.doubts(name, state):
            yield at(_place(node, doubt.path), doubt.code, doubt.message, doubt.hint)


def _place(node: MapNode, path: tuple[str, ...]) -> Place:
    """Where the last key of `path` stands that is written."""
    place = node.place
    for key in path:
        entry = node.entries.get(key)
        if entry is None:
            break
        place = entry.key.place
        if not isinstance(entry.value, MapNode):
            break
        node = entry.value
    return place


def _fed(machine: MachineSettings, node: MapNode) -> Iterator[Problem]:
    """Whether a communication watchdog that any message feeds is fed often enough."""
    watchdog = machine.comm_watchdog
    if watchdog is None or watchdog.timeout is None or not watchdog.harmed_by_silence:
        return
    if getattr(machine, "mode", None) == "listen":
        # Another master feeds it.
        return
    rates = [machine.rate_of(tag) for tag in machine.tags.values() if isinstance(tag, TagSettings)]
    if not rates or min(rates) <= watchdog.timeout / 3:
        return
    entry = next(
        node.entries[key] for key in ("every", "scan", "profile", "comm_watchdog") if key in node.entries
    )
    message = (
        f"read every {format_duration(min(rates))}, and its communication watchdog waits "
        f"{format_duration(watchdog.timeout)}"
    )
    hint = (
        f"every: {format_duration(watchdog.timeout / 3)} or less, or switch the watchdog off in the machine "
        "and write comm_watchdog: off"
    )
    yield at(entry.key.place, "W312", message, hint)


def _limits(tag: TagSettings, node: MapNode) -> Iterator[Problem]:
    limits = node.get("limits")
    if tag.limits is None or not isinstance(limits, MapNode):
        return
    for name in LimitsSettings.NAMES:
        limit = getattr(tag.limits, name)
        entry = limits.entries.get(name)
        if limit is None or entry is None:
            continue
        inner = entry.value.entries.get("value") if isinstance(entry.value, MapNode) else None
        yield from _reachable(tag, name, limit.value, (inner or entry).value.place)
        if not limit.action:
            yield _no_action(entry.key.place, f"'{name}'")
    yield from _same_action(tag.limits, limits)


def _same_action(limits: LimitsSettings, node: MapNode) -> Iterator[Problem]:
    """Two limits on one side that call for the same."""
    for inner, outer in (("high", "high_high"), ("low", "low_low")):
        first, second = getattr(limits, inner), getattr(limits, outer)
        if first and second and first.action and first.action == second.action and outer in node.entries:
            message = f"'{inner}' and '{outer}' have the same action"
            hint = "the inner one leaves time for something gentler, or one of the two is enough"
            yield at(node.entries[outer].key.place, "W313", message, hint)


def _no_action(place: Place, what: str) -> Problem:
    return at(place, "W302", f"{what} has no action", "say what the operator should do: action: ...")


def _reachable(tag: TagSettings, name: str, value: float, place: Place) -> Iterator[Problem]:
    if tag.range is not None:
        low, high, what = *tag.range, "range"
    elif (possible := _possible(tag)) is not None:
        low, high, what = *possible, "what the register can hold"
    else:
        return
    if not low <= value <= high:
        yield at(place, "W301", f"'{name}' ({value:g}) is outside {what}, {low:g} to {high:g}", "check both")


def _possible(tag: TagSettings) -> tuple[float, float] | None:
    """The engineering values that the tag's type can hold after scaling, where the driver has such types."""
    raw = _RAW.get(str(getattr(tag, "type", None) or ""))
    if raw is None or getattr(tag, "factor", None) is not None:
        return None
    scaling = getattr(tag, "scaling", None)
    if scaling is not None:
        (raw_low, raw_high), (eng_low, eng_high) = scaling.raw, scaling.eng
        slope = (eng_high - eng_low) / (raw_high - raw_low)
        ends = [eng_low + (value - raw_low) * slope for value in raw]
    else:
        ends = [value * getattr(tag, "scale", 1.0) + getattr(tag, "offset", 0.0) for value in raw]
    return min(ends), max(ends)


def _discrete(tag: TagSettings, node: MapNode) -> Iterator[Problem]:
    if tag.alarm is not None and not tag.alarm.action and "alarm" in node.entries:
        yield _no_action(node.entries["alarm"].key.place, "the alarm")


def _bit_alarms(node: MapNode) -> Iterator[Problem]:
    bits = node.get("bits")
    for bit in bits.entries.values() if isinstance(bits, MapNode) else ():
        alarm = bit.value.entries.get("alarm") if isinstance(bit.value, MapNode) else None
        if alarm is not None and isinstance(alarm.value, MapNode) and "action" not in alarm.value.entries:
            yield _no_action(alarm.key.place, "the alarm")


def _judged(machine: MachineSettings, node: MapNode) -> Iterator[Problem]:
    """Whether the health model has anything to judge."""
    if machine.health is False or not machine.tags or machine.health.tags:
        return
    context = set(machine.health.context)
    for name, tag in machine.tags.items():
        if name in context or not isinstance(tag, TagSettings):
            continue
        type_ = str(getattr(tag, "wire_type", None) or getattr(tag, "type", None) or "float64")
        if getattr(tag, "rate", None) is not None:
            return
        if tag.tag(name, type_).kind is Kind.MEASUREMENT and not getattr(tag, "bits", None):
            return
    entry = node.entries.get("health") or node.entries.get("tags")
    if entry is not None:
        hint = "write health: off, or give a tag kind: measurement"
        yield at(entry.key.place, "W306", "health has nothing to judge: no tag is a measurement", hint)
