"""Whatever a device sends, nothing that is made of it later is worse than a bad value (fault E11)."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from edge_agent.types import GOOD, Quality
from edge_agent_drivers.modbus.columns import plan_groups
from edge_agent_drivers.modbus.derive import Derivations, Known
from edge_agent_drivers.modbus.plan import coalesce
from edge_agent_drivers.modbus.row import Row
from tests.drivers.test_codec_garbage import NASTY
from tests.drivers.test_plan import machine

TAGS: dict[str, Any] = {
    "sf": {"address": "holding:0", "type": "int16"},
    "digits": {"address": "holding:1", "type": "bcd16"},
    "power": {"address": "holding:2", "type": "int32", "scale_from": "sf", "scale": 1e300, "range": [0, 9]},
    "level": {"address": "holding:4", "type": "uint64", "decimals_from": "digits"},
    "energy": {"address": "holding:8", "type": "float64", "kind": "counter", "rate": "7d"},
    "count": {
        "address": "holding:12",
        "kind": "counter",
        "rate": "1h",
        "rollover": 60000,
        "scale_from": "sf",
    },
    "state": {"address": "holding:13", "type": "signmag16", "enum": {-5: "lost"}},
    "word": {
        "address": "holding:14",
        "type": "int32",
        "invalid": [0x80000000],
        "bits": {31: "top", "8-29": {"name": "number", "enum": {7: "seven"}}},
    },
    "serial": {"address": "holding:16", "type": "string", "length": 7, "layout": "low_byte"},
}


@pytest.mark.parametrize("seed", range(4))
def test_what_is_made_of_garbage_is_a_finite_value_or_bad(seed: int) -> None:
    """In 5,000 rows a seed everything is finite, missing exactly where it is bad, and no rate is negative."""
    noise = random.Random(seed)
    [plan] = plan_groups(machine(tags=TAGS))
    blocks = coalesce(plan.spans, machine(tags=TAGS).limits)
    known: Known = {}
    derived = Derivations("pump-1", plan.steps, known)
    names = plan.group.names
    for at in range(5_000):
        row = Row([None] * len(names), raw=[""] * len(names))
        for block in blocks if at % 3 else ():
            nasty = b"".join(noise.choice(NASTY) for _ in range(block.payload_bytes // 4 + 1))
            payload = noise.choice([nasty, noise.randbytes(block.payload_bytes)])
            row.take(block, payload[: block.payload_bytes])
        derived.apply(row, at * noise.choice([0, 1, 10**9]))
        for column, name in enumerate(names):
            value, status = row.values[column], row.statuses.get(column, GOOD)
            # Every third row has nothing in it, as where another master is listened to: no value, no status.
            missing = column in row.statuses and status.quality is Quality.BAD
            assert (value is None) == (missing or not at % 3), (name, value, status)
            assert not isinstance(value, float) or math.isfinite(value), name
            assert not name.endswith(".rate") or value is None or (isinstance(value, float) and value >= 0)
