"""F7: a hundred thousand generated DataValues, and mutated bytes of them: no exception, no made-up value."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from edge_agent.clock import Clock
from edge_agent.types import Quality, Reason, Tag
from edge_agent_drivers.opcua.bounds import bound_decoding
from edge_agent_drivers.opcua.conditions import Conditions
from edge_agent_drivers.opcua.events import REFRESH_ENDS, REFRESH_STARTS, SELECTED
from edge_agent_drivers.opcua.items import Item, Timing
from edge_agent_drivers.opcua.nodeid import NodeRef
from edge_agent_drivers.opcua.structures import Types
from edge_agent_drivers.opcua.variants import Part, Reading, describe, interpret, to_ns

SEED = 20261125
CODES = [value for name, value in vars(StatusCodes).items() if isinstance(value, int) and name[0] != "_"]
TYPES = ("float64", "int16", "uint64", "bool", "string")
STEPS: Sequence[tuple[str | int, ...]] = (
    (),
    (),
    (),
    (0,),
    (3,),
    ("Low",),
    ("Nothing",),
    (0, "High"),
    ("Low", 1),
)


def _text(rng: random.Random) -> str:
    return bytes(rng.randrange(256) for _ in range(rng.randrange(6))).decode("utf-8", "surrogateescape")


def _moment(rng: random.Random) -> Any:
    return datetime(1601, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.choice((0, rng.uniform(0, 2.6e11))))


def _integer(bits: int, signed: bool) -> Callable[[random.Random], int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return lambda rng: rng.choice((low, high, 0, 1, rng.randint(low, high)))


def _float(rng: random.Random) -> float:
    return rng.choice((0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 3.4e38, rng.gauss(0, 1e3)))


MAKERS: dict[ua.VariantType, Callable[[random.Random], Any]] = {
    ua.VariantType.Null: lambda _: None,
    ua.VariantType.Boolean: lambda rng: rng.random() < 0.5,
    ua.VariantType.SByte: _integer(8, True),
    ua.VariantType.Byte: _integer(8, False),
    ua.VariantType.Int16: _integer(16, True),
    ua.VariantType.UInt16: _integer(16, False),
    ua.VariantType.Int32: _integer(32, True),
    ua.VariantType.UInt32: _integer(32, False),
    ua.VariantType.Int64: _integer(64, True),
    ua.VariantType.UInt64: _integer(64, False),
    ua.VariantType.Float: _float,
    ua.VariantType.Double: _float,
    ua.VariantType.String: _text,
    ua.VariantType.DateTime: _moment,
    ua.VariantType.Guid: lambda rng: uuid.UUID(int=rng.getrandbits(128)),
    ua.VariantType.ByteString: lambda rng: rng.randbytes(rng.randrange(6)),
    ua.VariantType.NodeId: lambda rng: ua.NodeId(ua.Int32(rng.randrange(1000)), ua.Int16(rng.randrange(5))),
    ua.VariantType.StatusCode: lambda rng: ua.StatusCode(ua.UInt32(rng.choice(CODES))),
    ua.VariantType.QualifiedName: lambda rng: ua.QualifiedName(_text(rng), rng.randrange(5)),
    ua.VariantType.LocalizedText: lambda rng: ua.LocalizedText(rng.choice((None, _text(rng)))),
    ua.VariantType.ExtensionObject: lambda rng: rng.choice(
        (
            ua.Range(_float(rng), _float(rng)),
            ua.EUInformation(DisplayName=ua.LocalizedText("bar")),
            ua.ExtensionObject(
                ua.NodeId(ua.Int32(rng.randrange(9000)), ua.Int16(2)), ua.ByteString(rng.randbytes(5))
            ),
            ua.ExtensionObject(),
        )
    ),
    ua.VariantType.Variant: lambda rng: ua.Variant(rng.gauss(0, 1), ua.VariantType.Double),
}


def generated(rng: random.Random) -> ua.DataValue:
    """One DataValue of any type, alone or in an array, with any status and any times."""
    kind = rng.choice(list(MAKERS))
    make = MAKERS[kind]
    value = [make(rng) for _ in range(rng.randrange(5))] if rng.random() < 0.3 else make(rng)
    code = rng.choice((0, 0, rng.choice(CODES), rng.getrandbits(32)))
    return ua.DataValue(
        Value=None if rng.random() < 0.02 else ua.Variant(value, kind),
        StatusCode=None if rng.random() < 0.02 else ua.StatusCode(ua.UInt32(code)),
        SourceTimestamp=rng.choice((None, _moment(rng))),
        ServerTimestamp=rng.choice((None, _moment(rng))),
    )


def part(rng: random.Random) -> Part:
    """What a tag may want of a value."""
    names = {0: "off", 1: "on"} if rng.random() < 0.2 else None
    return Part(rng.choice(TYPES), rng.choice((None, (0.0, 100.0))), rng.choice(STEPS), names)


def judge(sent: ua.DataValue, wanted: Part, timing: Timing) -> Reading:
    """As the driver does it; what must always hold."""
    reading = interpret(sent, wanted, Types().decode)
    item = Item((Tag("t"),), (wanted,), NodeRef("i", "1"), 0)
    moment, status = timing.choose(item, reading)
    assert describe(sent)
    assert (
        (reading.value is None) == (reading.status.quality is Quality.BAD) == (status.quality is Quality.BAD)
    )
    assert (status.reason is not Reason.NONE) or status.quality is Quality.GOOD
    assert moment is None or moment > 0
    value = reading.value
    assert type(value) in (float, int, bool, str, type(None))
    assert not isinstance(value, float) or math.isfinite(value)
    if isinstance(value, str):
        assert wanted.type == "string"
        value.encode()
    if sent.StatusCode is not None and sent.StatusCode.value & 0x80000000:
        assert value is None
    return reading


def test_no_generated_value_raises_or_is_made_up() -> None:
    """10^5 values: judged without an exception, and a plain number comes out as exactly what was sent."""
    rng, timing = random.Random(SEED), Timing(Clock(), "source", 10)
    kept = 0
    for _ in range(100_000):
        sent, wanted = generated(rng), part(rng)
        reading = judge(sent, wanted, timing)
        if reading.value is None or wanted.steps or sent.Value is None:
            continue
        kept += 1
        if isinstance(reading.value, int | float) and not isinstance(reading.value, bool):
            assert reading.value == sent.Value.Value
    assert kept > 5_000


def test_mutated_bytes_of_values_are_refused_or_judged() -> None:
    """5 * 10^4 encoded values with flipped bits: what asyncua still decodes is judged like any other."""
    rng, timing = random.Random(SEED), Timing(Clock(), "source", 10)
    bound_decoding()
    judged = 0
    for _ in range(50_000):
        content = bytearray(struct_to_binary(generated(rng)))
        for _ in range(rng.randrange(1, 4)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        try:
            sent = struct_from_binary(ua.DataValue, Buffer(bytes(content)))
        except Exception:  # noqa: BLE001, S112 (the session makes BadDecodingError of whatever it is)
            continue
        judged += 1
        judge(sent, part(rng), timing)
    assert judged > 10_000


def test_no_generated_event_raises_or_is_made_up() -> None:
    """10^4 events with anything in their fields: reported with sound values, or left out."""
    rng, conditions = random.Random(SEED), Conditions("press-2", 1, Clock())
    reported = 0
    for _ in range(10_000):
        fields = [rng.choice(list(MAKERS.values()))(rng) for _ in range(SELECTED + (rng.random() < 0.01))]
        fields[0] = rng.choice((fields[0], REFRESH_STARTS, REFRESH_ENDS, *20 * (None,)))
        fields[1] = rng.choice((fields[1], ua.NodeId(ua.Int32(rng.randrange(1000)), ua.Int16(2))))
        conditions.happened(fields)
        for one in getattr(conditions.report(), "conditions", ()):
            reported += 1
            assert one.name.encode()
            one.message.encode()
            assert 1 <= one.severity <= 1000
            assert one.time > 0
    assert reported > 1000


@pytest.mark.parametrize("seconds", [-1, 0, 2**33, 2.5e11])
def test_dates_beyond_all_reason_have_no_time(seconds: float) -> None:
    """1601, and what asyncua makes of larger numbers: no time, or one after 1970."""
    ns = to_ns(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
    assert ns is None or ns > 0
