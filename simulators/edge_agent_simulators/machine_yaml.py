"""The `machines:` part of an agent's YAML that reads what is simulated, ready to paste."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edge_agent.types import Kind
from edge_agent_simulators.instruments import Signal
from edge_agent_simulators.machine import Machine
from edge_agent_simulators.register_map import RegisterMap

NAMESPACE = "urn:edge-agent:simulator"
_PLAIN = re.compile(r"[A-Za-z°µ/][A-Za-z0-9°µ/_. -]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off"})

HEALTH: Mapping[str, Mapping[str, Any]] = {
    "pump": {
        "context": ["speed", "valve_position", "liquid_temperature", "ambient_temperature"],
        "running_when": "running == true",
        "action": "Plan an inspection of the pump",
    },
    # A press works in strokes: what the PLC worked out per stroke can be judged at any scan rate.
    "press": {
        "tags": [
            "oil_temperature", "filter_dp", "case_drain_flow", "tank_level", "cycle_time", "approach_time",
            "press_time", "peak_pressure", "hold_decay", "cycle_power",
        ],
        "context": ["ambient_temperature", "pressure_setpoint"],
        "running_when": "cycling == true",
        "action": "Plan an inspection of the press",
    },
}  # fmt: skip
"""What the health model of each machine model should look at."""


def flow(value: object) -> str:
    """A value in YAML's flow style, quoted where YAML would take it for something else."""
    match value:
        case bool():
            return "true" if value else "false"
        case Mapping():
            return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(flow, value)) + "]"
        case float() | int():
            return f"{value:g}" if isinstance(value, float) else str(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and not text.endswith(" "):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def node_name(tag: str) -> str:
    """A tag as the PLC's programmer would call it: oil_temperature -> OilTemperature."""
    return "".join(part.capitalize() for part in tag.split("_"))


def _meaning(signal: Signal) -> dict[str, Any]:
    """Unit, range, kind and label of a tag, those that say something."""
    said: dict[str, Any] = {}
    if signal.unit:
        said["unit"] = signal.unit
    if signal.range is not None:
        said["range"] = list(signal.range)
    if signal.kind not in (Kind.MEASUREMENT, Kind.CONFIG) and signal.type != "bool":
        said["kind"] = str(signal.kind)
    if signal.kind is Kind.CONFIG and signal.type != "string":
        said["kind"] = str(signal.kind)
    if signal.label:
        said["label"] = signal.label
    return said


def tag_settings(machine: Machine, registers: RegisterMap | None) -> dict[str, dict[str, Any]]:
    """The tags of a machine as an agent's YAML says them; without `registers` as nodes of OPC UA."""
    tags: dict[str, dict[str, Any]] = {}
    for signal in (*machine.signals, *machine.states):
        if registers is None:
            where = {"node": f"nsu={NAMESPACE};s={machine.name}.{node_name(signal.name)}"}
            if signal.type == "string":
                where["type"] = signal.type
        elif signal.name in registers.entries:
            where = registers.entries[signal.name].settings()
        else:
            continue
        tags[signal.name] = {**where, **_meaning(signal)}
    return tags


def machine_lines(
    name: str,
    settings: Mapping[str, Any],
    tags: Mapping[str, Mapping[str, Any]],
    health: Mapping[str, Any] | None = None,
) -> list[str]:
    """One machine of `machines:`, indented below it."""
    lines = [f"  {name}:"]
    lines += [f"    {key}: {flow(value)}" for key, value in settings.items()]
    lines.append("    tags:")
    lines += [f"      {tag}: {flow(written)}" for tag, written in tags.items()]
    if health:
        lines.append("    health:")
        lines += [f"      {key}: {flow(value)}" for key, value in health.items()]
    return lines
