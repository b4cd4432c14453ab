"""E11: NaN, infinity, denormals, sentinels, broken BCD: a million from the wire to line protocol and JSON."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from edge_agent.lineprotocol import BatchEncoder
from edge_agent.types import Quality, Reason
from tests.drivers.oracle import Asked
from tests.drivers.stage import Liar, ModbusFactory, reply_to

SPECIAL = (
    # NaN, infinity and their neighbours, BCD and what is none
    0x7FC0, 0x7F80, 0xFF80, 0x7F81, 0xFFC0, 0x7FF0, 0xFFF0, 0x7FF8, 0xC07F, 0x807F, 0x80FF, 0xF07F,
    0x7C00, 0xFC00, 0x7E00, 0x007C, 0x0001, 0x8000, 0x0080, 0x7F7F, 0xFF7F, 0x7FEF, 0xFFFF, 0x7FFF,
    0x0000, 0x9999, 0x999A, 0xA000, 0x0A00,
)  # fmt: skip
WIDTHS = {
    "int8": 1, "uint8": 1, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "int64": 4, "uint64": 4,
    "float16": 1, "float32": 2, "float64": 4, "bcd16": 1, "bcd32": 2,
}  # fmt: skip
MORE: tuple[dict[str, Any], ...] = (
    {},
    {"byte_order": "CDAB"},
    {"byte_order": "DCBA", "range": [-1e6, 1e6]},
    {"byte_order": "BADC", "scale": 1e306, "offset": -1},
    {"scale": 0.1},
    {"invalid": [0]},
)
VALUES = 1_000_000
SHARES = 4


def layout() -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Tags of every type in every way, one behind the other, and where each begins."""
    tags: dict[str, dict[str, Any]] = {}
    address = 0
    for type_, width in WIDTHS.items():
        for n, more in enumerate(MORE):
            tags[f"{type_}.{n}"] = {"address": f"holding:{address}", "type": type_, **more}
            address += width
    for name, (keys, _) in PLAIN.items():
        tags[name] = {"address": f"holding:{address}", **keys}
        address += WIDTHS[keys["type"]]
    return tags, {name: int(tag["address"][8:]) for name, tag in tags.items()}


def bcd(word: int) -> bool:
    """Whether all four digits are some."""
    return all(word >> shift & 0xF <= 9 for shift in (0, 4, 8, 12))


PLAIN: Mapping[str, tuple[dict[str, Any], Callable[[int, int], bool]]] = {
    "no_sensor": ({"type": "int16", "invalid": [0x8000]}, lambda high, _: high != 0x8000),
    "no_value": ({"type": "uint16", "invalid": [0xFFFF], "scale": 0.1}, lambda high, _: high != 0xFFFF),
    "digits": ({"type": "bcd16"}, lambda high, _: bcd(high)),
    "more_digits": ({"type": "bcd32"}, lambda high, low: bcd(high) and bcd(low)),
    "real": ({"type": "float32"}, lambda high, _: high & 0x7F80 != 0x7F80),
    "half": ({"type": "float16"}, lambda high, _: high & 0x7C00 != 0x7C00),
}
"""Name -> (settings, whether registers with these bits hold a value). By the bits, not by our decoder."""


class Registers:
    """The registers of one scan, half of them special."""

    def __init__(self, count: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._count = count
        self.words: list[int] = []

    def change(self) -> None:
        """Others for the next scan."""
        rng, count = self._rng, self._count
        noise = struct.unpack(f">{count}H", rng.randbytes(2 * count))
        special = rng.choices(SPECIAL, k=count)
        chosen = rng.getrandbits(count)
        self.words = [special[i] if chosen >> i & 1 else noise[i] for i in range(count)]

    def reply(self, frame: bytes) -> list[bytes]:
        """What a device with these registers answers."""
        asked = Asked.of(frame)
        words = self.words[asked.address : asked.address + asked.quantity]
        return [reply_to(frame, struct.pack(f">BB{len(words)}H", 3, 2 * len(words), *words))]


@pytest.mark.parametrize("seed", range(SHARES))
async def test_e11_no_nan_and_no_infinity_in_line_protocol_or_json(seed: int, modbus: ModbusFactory) -> None:
    """1,000,000 values: what is no number is bad invalid_value without a value, and nothing else is."""
    tags, places = layout()
    registers = Registers(max(places.values()) + 4, seed)
    async with Liar(registers.reply) as device:
        driver = modbus(device.port, tags, max_registers=125, comm={"timeout": "5s"})
        await driver.connect()
        [group] = driver.groups
        encoder = BatchEncoder("pump-1", {}, "readings", group.tags)
        for _ in range(VALUES // SHARES // len(tags) + 1):
            registers.change()
            [batch] = await driver.read(group)
            fields = encoder.encode(batch).partition(b" ")[2].lower()
            assert not re.search(rb"=[^,]*(nan|inf)", fields)
            json.dumps(list(batch.values), allow_nan=False)
            for i, value in enumerate(batch.values):
                assert (value is None) == (batch.status(i) == (Quality.BAD, Reason.INVALID_VALUE))
            for name, (_, holds) in PLAIN.items():
                at = places[name]
                there = batch.values[batch.names.index(name)] is not None
                assert there == holds(*registers.words[at : at + 2]), name
