"""Keys that are not known: what was meant, or where they belong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_agent.settings import shape
from edge_agent.settings.models import Configuration
from edge_agent.settings.nodes import MapNode, Node, Place
from edge_agent.settings.problems import Problem, at, closest

ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(
        ("interval", "poll", "poll_interval", "poll_rate", "period", "rate", "scan_rate"), "every"
    ),
    **dict.fromkeys(("cycle_time", "sampling_interval", "frequency", "refresh"), "every"),
    **dict.fromkeys(("slave", "slave_id", "device_id", "station", "node_address"), "unit_id"),
    **dict.fromkeys(("host", "ip", "hostname", "endpoint", "server", "address", "uri", "connection"), "url"),
    **dict.fromkeys(("register", "addr", "reg", "offset_address"), "address"),
    **dict.fromkeys(("node_id", "nodeid", "nodeId", "id"), "node"),
    **dict.fromkeys(("datatype", "data_type", "format"), "type"),
    **dict.fromkeys(("factor", "gain", "multiplier", "slope"), "scale"),
    **dict.fromkeys(("scale_factor", "sf", "scale_register", "exponent"), "scale_from"),
    **dict.fromkeys(("decimals", "decimal", "decimal_places"), "decimals_from"),
    **dict.fromkeys(("states", "value_map", "values", "mapping", "lookup", "names"), "enum"),
    **dict.fromkeys(("wrap", "overflow", "modulus", "roll_over"), "rollover"),
    **dict.fromkeys(("flags", "bitfield", "bit"), "bits"),
    **dict.fromkeys(("gaps", "skip", "exclude", "forbidden"), "holes"),
    **dict.fromkeys(("endian", "endianness", "word_order", "wordorder", "swap"), "byte_order"),
    **dict.fromkeys(("name", "title", "display_name"), "label"),
    **dict.fromkeys(("units", "uom", "eu", "engineering_unit"), "unit"),
    **dict.fromkeys(("hihi", "hh", "high_alarm", "alarm_high"), "high_high"),
    **dict.fromkeys(("lolo", "ll"), "low_low"),
    **dict.fromkeys(("max", "maximum", "hi", "upper"), "high"),
    **dict.fromkeys(("min", "minimum", "lo", "lower"), "low"),
    **dict.fromkeys(("user", "login"), "username"),
    **dict.fromkeys(("pass", "passwd", "pwd"), "password"),
    **dict.fromkeys(("delay", "delay_on"), "on_delay"),
    **dict.fromkeys(("severity",), "priority"),
    **dict.fromkeys(("instruction", "advice", "what_to_do"), "action"),
    **dict.fromkeys(("protocol",), "driver"),
    **dict.fromkeys(("template", "device_type", "device_profile", "register_map"), "profile"),
    **dict.fromkeys(("devices", "assets", "plcs", "machine"), "machines"),
    **dict.fromkeys(("points", "signals", "variables", "registers", "sensors"), "tags"),
    **dict.fromkeys(("influxdb", "influx", "database"), "historian"),
    **dict.fromkeys(("broker",), "mqtt"),
    **dict.fromkeys(("plant", "factory"), "site"),
    **dict.fromkeys(("limits_range", "eu_range", "span"), "range"),
    **dict.fromkeys(("deadband", "hyst"), "hysteresis"),
    **dict.fromkeys(("db", "db_name"), "database"),
    **dict.fromkeys(("organisation", "organization"), "org"),
}
"""Words of other programs -> the key that means the same here, where it is known."""


def unknown_key(place: Place, key: str, value: Node, models: Sequence[shape.Model]) -> Problem:
    """The problem of a key that none of `models` knows."""
    if not key:
        return at(place, "E104", "a colon without a key before it", "remove it, or put the text in quotes")
    return at(place, "E104", f"unknown key '{key}'", _hint(key, value, models))


def _hint(key: str, value: Node, models: Sequence[shape.Model]) -> str:
    known = [name for model in models for name in shape.keys(model)]
    if ELSEWHERE.get(key) in known:
        return f"did you mean '{ELSEWHERE[key]}'?"
    near = closest(key, known)
    # Three signs are near to much; one slip in them is near enough.
    if near and (len(key) > 3 or near.startswith(key) or (key[0] == near[0] and len(near) <= 4)):
        return f"did you mean '{near}'?"
    looks = _looks_like(value, known)
    if looks:
        return looks
    for model in models:
        path = shape.belongs(model, key)
        if path:
            return f"'{key}' belongs below {_path(path)}"
    if key in Configuration.model_fields and key not in known:
        return f"'{key}' belongs to the top of the file, not indented"
    return f"known here: {', '.join(known)}" if 0 < len(known) <= 12 else ""


def _looks_like(value: Node, known: Sequence[str]) -> str:
    if not isinstance(value, MapNode):
        return ""
    if "machines" in known and ("driver" in value.entries or "tags" in value.entries):
        return "this looks like a machine: indent it below machines:"
    if "tags" in known and ("address" in value.entries or "node" in value.entries):
        return "this looks like a tag: indent it below tags:"
    return ""


def _path(path: Sequence[str]) -> str:
    words = ["NAME" if part == "*" else part for part in path]
    return ".".join(words)


def misspelt(node: Node, wanted: str, models: Sequence[shape.Model]) -> str | None:
    """The unknown key of a mapping that `wanted`, which is missing, was probably meant by."""
    if not isinstance(node, MapNode):
        return None
    known = {name for model in models for name in shape.keys(model)}
    strangers = [key for key in node.entries if key not in known]
    for key in strangers:
        if ELSEWHERE.get(key) == wanted:
            return key
    return closest(wanted, strangers)
