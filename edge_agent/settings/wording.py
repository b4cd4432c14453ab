"""What a value should have been, and what it is, in words an engineer uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edge_agent.settings.nodes import ListNode, MapNode, Node, ScalarNode
from edge_agent.settings.problems import did_you_mean

EXPECTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "dict_type": "a mapping (name: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
}
"""pydantic's error type -> what is expected."""

KNOWN_ALTERNATIVES: Mapping[str, str] = {
    "deadband": "a number in the tag's unit, or a percentage of its range such as 1%",
    "byte_order": "ABCD, DCBA, BADC or CDAB, or a mapping by type like {float32: CDAB}",
    "health": "a mapping, or off",
    "comm_watchdog": "a mapping, or off",
    "identity": "a mapping, or off",
    "web": "a mapping, or off",
    "when": "true, false or a number",
    "high": "a number, or a mapping with `value`",
    "high_high": "a number, or a mapping with `value`",
    "low": "a number, or a mapping with `value`",
    "low_low": "a number, or a mapping with `value`",
}
"""Keys that take more than one kind of value -> what they take."""

HINTS: Mapping[str, str] = {
    "listen": "write host:port, like 127.0.0.1:8420",
    "include": "write [machines/*.yaml]",
}
"""Keys whose values are often written in another shape -> how they are written."""

_TYPE_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("float", "real", "single"), "float32"),
    **dict.fromkeys(("double", "lreal"), "float64"),
    **dict.fromkeys(("word", "uint", "unsigned", "u16", "ushort"), "uint16"),
    **dict.fromkeys(("int", "integer", "short", "i16", "signed", "s16"), "int16"),
    **dict.fromkeys(("dword", "udint", "u32", "ulong"), "uint32"),
    **dict.fromkeys(("dint", "long", "i32", "s32"), "int32"),
    **dict.fromkeys(("bit", "boolean"), "bool"),
    **dict.fromkeys(("text", "str", "char", "ascii"), "string"),
    **dict.fromkeys(("bcd",), "bcd16"),
}
"""Register types in the words of other programs and of IEC 61131."""

_RANGES: Mapping[str, tuple[str, str]] = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def found(node: Node | None) -> str:
    """What stands there."""
    if isinstance(node, MapNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return "a list"
    if not isinstance(node, ScalarNode) or node.value is None:
        return "nothing"
    if node.secret:
        return "something else"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    if isinstance(node.value, int | float):
        return f"the number {node.text}"
    text = node.text if len(node.text) <= 60 else f"{node.text[:57]}..."
    return f"the text '{text}'"


def hint_for(kind: str, node: Node | None, key: str = "") -> str:
    """How a value of the wrong type is most likely meant."""
    if key in HINTS:
        return HINTS[key]
    if not isinstance(node, ScalarNode) or node.secret:
        return ""
    text = node.text.strip()
    if kind.startswith(("int", "float")):
        return _number_hint(text, node.plain)
    if kind.startswith("bool"):
        truth = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
        meant = truth.get(text.lower()) or text.lower()
        return f"write {meant}" if meant in ("true", "false") else ""
    if kind == "string_type" and node.value is not None:
        return f"put it in quotes: '{text}'"
    if kind.startswith("tuple"):
        numbers = re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"(?<=\d)\s*-", " ", text))
        return f"write [{', '.join(numbers)}]" if len(numbers) == 2 else ""
    if kind.startswith("list") and node.value is not None:
        return f"write [{text}]"
    return ""


def _number_hint(text: str, plain: bool) -> str:
    if re.fullmatch(r"[-+]?\d+,\d+", text):
        return f"decimals have a point: {text.replace(',', '.')}"
    if re.fullmatch(r"[-+]?\d+(\.\d+)?", text) and not plain:
        return f"without quotes: {text}"
    match = re.fullmatch(r"([-+]?\d+(?:\.\d+)?)\s*([^\d\s.].*)", text)
    return f"write the number alone: {match[1]}" if match else ""


def out_of_range(kind: str, context: Mapping[str, Any], node: Node | None) -> str | None:
    """`must be at least 1`; None where `kind` is not about a range."""
    if kind not in _RANGES:
        return None
    key, words = _RANGES[kind]
    bound = context.get(key, 0)
    text = node.text if isinstance(node, ScalarNode) else ""
    if text.endswith("B") and bound:
        return f"must be {words} {bound / 1024**2:g}MiB"
    unit = "s" if bound and re.search(r"\d\s*(ms|s|m|h|d|w)$", text) else ""
    return f"must be {words} {bound:g}{unit}"


def choices(context: Mapping[str, Any], node: Node | None) -> tuple[str, str]:
    """The values that are possible as text, and a suggestion."""
    options = re.findall(r"'([^']*)'|(\d+)", str(context.get("expected", "")))
    names = [name or number for name, number in options]
    written = node.text if isinstance(node, ScalarNode) and not node.secret else ""
    meant = _TYPE_WORDS.get(written.lower())
    if meant in names:
        return listed(names), f"did you mean '{meant}'?"
    return listed(names), did_you_mean(written, names) if written else ""


def listed(names: list[str]) -> str:
    """`a, b or c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}" if names else ""
