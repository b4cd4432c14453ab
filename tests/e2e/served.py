"""What the simulators say they served, decoded here by other code than the driver's."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_FORMATS = {"float32": ">f", "int16": ">h", "uint16": ">H", "uint32": ">I"}


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a served log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def modbus_values(log: list[dict[str, Any]], tag: Mapping[str, Any]) -> list[Any]:
    """Every answered value of a tag, in the order of the reads; None where it was the sentinel."""
    return list(_modbus_values(log, tag))


def _modbus_values(log: list[dict[str, Any]], tag: Mapping[str, Any]) -> Iterator[Any]:
    table, _, address = tag["address"].partition(":")
    wanted = int(address)
    for read in log:
        if read.get("function") != _FUNCTIONS[table]:
            continue
        if "bits" in read:
            at = wanted - read["address"]  # packed as on the wire: eight to a byte, the lowest first
            if 0 <= at < 8 * len(read["bits"]):
                yield float(read["bits"][at // 8] >> at % 8 & 1)
            continue
        words = read["words"][max(0, wanted - read["address"]) :] if wanted >= read["address"] else []
        if len(words) >= _width(tag):
            yield _decode(words[: _width(tag)], tag)


def _width(tag: Mapping[str, Any]) -> int:
    if tag.get("type") == "string":
        return int(tag["length"]) // 2
    return struct.calcsize(_FORMATS[tag["type"]]) // 2


def _decode(words: list[int], tag: Mapping[str, Any]) -> Any:
    raw = b"".join(word.to_bytes(2, "big") for word in words)
    if tag.get("type") == "string":
        return raw.rstrip(b"\0 ").decode()
    if tag.get("byte_order") == "CDAB":
        raw = raw[2:] + raw[:2]
    (number,) = struct.unpack(_FORMATS[tag["type"]], raw)
    if int.from_bytes(raw, "big") in tag.get("invalid", []):
        return None
    return number * tag.get("scale", 1.0)


def opcua_values(log: list[dict[str, Any]], tag: Mapping[str, Any]) -> dict[int, Any]:
    """source timestamp -> value of every write to a tag's node that has a value."""
    node = tag["node"].partition(";s=")[2]
    return {
        entry["t"]: entry["value"]
        for entry in log
        if entry.get("node") in (node, tag["node"]) and entry["value"] is not None
    }
