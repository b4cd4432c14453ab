"""From a machine's values to its registers, by a map written as tags are in an agent's YAML."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from ruamel.yaml import YAML

from edge_agent.errors import ConfigError
from edge_agent_simulators.image import RegisterImage, Table
from edge_agent_simulators.instruments import Reading

_CODES = {
    "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
    "float32": "f", "float64": "d",
}  # fmt: skip
_TABLES: tuple[Table, ...] = ("holding", "input", "coil", "discrete")
_STRING_WORDS = 16
"""Registers a string occupies whatever its length, so that reading a little too far is no error."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag's place: `address` in `table`, raw = (value - offset) / scale."""

    tag: str
    table: Table
    address: int
    type: str
    byte_order: str = "ABCD"
    scale: float = 1.0
    offset: float = 0.0
    length: int = 0
    bits: Mapping[int, str] = field(default_factory=dict)
    invalid: tuple[int, ...] = ()

    @classmethod
    def parse(cls, tag: str, written: Mapping[str, Any]) -> Entry:
        """The entry as it stands in the map. ConfigError where it makes no sense."""
        table, _, number = str(written["address"]).partition(":")
        default = "bool" if table in ("coil", "discrete") else "uint16"
        type_ = written.get("type", default)
        if table not in _TABLES or not number.isdecimal() or type_ not in (*_CODES, "bool", "string"):
            raise ConfigError([f"register map: {tag}: no such address or type: {written}"])
        return cls(
            tag, _TABLES[_TABLES.index(table)], int(number), type_, written.get("byte_order", "ABCD"),
            written.get("scale", 1.0), written.get("offset", 0.0), written.get("length", 0),
            written.get("bits", {}), tuple(written.get("invalid", ())),
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """The entry as an agent's YAML says it, defaults left out."""
        said: dict[str, Any] = {"address": f"{self.table}:{self.address}"}
        if self.type != "bool":
            said["type"] = self.type
        for key, default in (("byte_order", "ABCD"), ("scale", 1.0), ("offset", 0.0), ("length", 0)):
            if getattr(self, key) != default:
                said[key] = getattr(self, key)
        if self.bits:
            said["bits"] = dict(self.bits)
        if self.invalid:
            said["invalid"] = list(self.invalid)
        return said

    def encoder(self) -> Callable[[Reading], bytes]:
        """The bytes of a register value, high byte first; None becomes the sentinel, or NaN."""
        if self.type == "string":
            return lambda value: str(value or "").encode("latin-1").ljust(2 * _STRING_WORDS, b"\0")
        packer = struct.Struct(">" + _CODES[self.type])
        swap = _swapper(self.byte_order, packer.size)
        if self.type.startswith("float"):
            return lambda value: swap(packer.pack(math.nan if value is None else float(value)))
        sentinel = self.invalid[0] if self.invalid else 0
        scale, offset = self.scale, self.offset
        exact = scale == 1.0 and offset == 0.0

        def encode(value: Reading) -> bytes:
            if value is None:
                return swap(packer.pack(sentinel))
            if exact and isinstance(value, int):
                # By way of a float the last digits of 64 bits would be lost.
                return swap(packer.pack(value))
            return swap(packer.pack(round((float(value) - offset) / scale)))

        return encode


def _swapper(order: str, size: int) -> Callable[[bytes], bytes]:
    """What turns big-endian bytes into a byte order named by its 32-bit form."""

    def words(raw: bytes) -> bytes:
        return b"".join(raw[at : at + 2] for at in range(size - 2, -1, -2))

    match order:
        case "ABCD":
            return lambda raw: raw
        case "DCBA":
            return lambda raw: raw[::-1]
        case "CDAB":
            return words
        case "BADC":
            return lambda raw: words(raw)[::-1]
    raise ConfigError([f"'{order}' is no byte order: there are ABCD, DCBA, BADC and CDAB"])


class RegisterMap:
    """All places of one machine; `write` puts its values into an image in one go."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = {entry.tag: entry for entry in entries}

    def bind(self, image: RegisterImage, names: Sequence[str]) -> Callable[[Sequence[Reading]], None]:
        """What writes values, in the order of `names`, into `image`; names without a place are left out."""
        writers = [
            (index, _writer(image, self.entries[name]))
            for index, name in enumerate(names)
            if name in self.entries
        ]

        def write(values: Sequence[Reading]) -> None:
            for index, put in writers:
                put(values[index])

        return write


def _writer(image: RegisterImage, entry: Entry) -> Callable[[Reading], None]:
    address = entry.address
    if entry.table == "coil" or entry.table == "discrete":
        bits: Literal["coil", "discrete"] = entry.table
        return lambda value: image.set_bits(bits, address, [bool(value)])
    words: Literal["holding", "input"] = entry.table
    encode = entry.encoder()
    last: list[Reading] = [object()]  # type: ignore[list-item] # equal to no reading

    def put(value: Reading) -> None:
        if value != last[0]:
            last[0] = value
            image.put(words, address, encode(value))

    return put


def load_map(model: str) -> RegisterMap:
    """The register map of a machine model."""
    text = (resources.files("edge_agent_simulators") / "maps" / f"{model}.yaml").read_text(encoding="utf-8")
    return RegisterMap(
        [Entry.parse(tag, entry) for tag, entry in YAML(typ="safe", pure=True).load(text).items()]
    )
