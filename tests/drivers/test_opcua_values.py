"""What an OPC UA server sends, judged: values, status codes and times."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import SECOND, Clock
from edge_agent.types import GOOD, Quality, Reason, Status, Tag, uncertain
from edge_agent_drivers.opcua import status
from edge_agent_drivers.opcua.items import Item, Timing
from edge_agent_drivers.opcua.nodeid import NodeRef
from edge_agent_drivers.opcua.requests import named
from edge_agent_drivers.opcua.status import status_of
from edge_agent_drivers.opcua.variants import Part, Reading, describe, interpret, to_ns

NOW = 1_780_000_000 * SECOND


def sent(value: Any, kind: ua.VariantType | None = None, code: int = 0) -> ua.DataValue:
    variant = ua.Variant(value) if kind is None else ua.Variant(value, kind)
    return ua.DataValue(Value=variant, StatusCode=ua.StatusCode(ua.UInt32(code)))


@pytest.mark.parametrize(
    ("value", "kind", "wanted", "expected"),
    [
        (20.5, ua.VariantType.Double, "float64", 20.5),
        (1.5, ua.VariantType.Float, "float32", 1.5),
        (-3, ua.VariantType.Int16, "float64", -3),
        (2**64 - 1, ua.VariantType.UInt64, "float64", 2**64 - 1),
        (ua.ServerState.Failed, ua.VariantType.Int32, "float64", 1),
        (True, ua.VariantType.Boolean, "float64", True),
        (1, ua.VariantType.Byte, "bool", True),
        ("A-4711", ua.VariantType.String, "string", "A-4711"),
        (ua.LocalizedText("Störung", "de"), ua.VariantType.LocalizedText, "string", "Störung"),
    ],
)
def test_scalars_are_values(value: Any, kind: ua.VariantType, wanted: str, expected: object) -> None:
    """Numbers of every width, enumerations, bools and text come out as plain values."""
    reading = interpret(sent(value, kind), Part(wanted))
    assert (reading.value, reading.status, reading.note) == (expected, GOOD, "")
    assert type(reading.value) in (float, int, bool, str)


@pytest.mark.parametrize(
    ("value", "kind", "wanted", "reason", "note"),
    [
        ([1.0, 2.0], ua.VariantType.Double, "float64", Reason.CONFIG_ERROR, "array"),
        ([], ua.VariantType.Double, "float64", Reason.CONFIG_ERROR, "array"),
        ("text", ua.VariantType.String, "float64", Reason.CONFIG_ERROR, "add type: string"),
        (1.5, ua.VariantType.Double, "string", Reason.CONFIG_ERROR, "leave out type: string"),
        (datetime(2026, 1, 1, tzinfo=UTC), ua.VariantType.DateTime, "float64", Reason.CONFIG_ERROR, "a date"),
        (uuid.UUID(int=1), ua.VariantType.Guid, "string", Reason.CONFIG_ERROR, "GUID"),
        (b"x", ua.VariantType.ByteString, "string", Reason.CONFIG_ERROR, "bytes"),
        (ua.Argument(), ua.VariantType.ExtensionObject, "float64", Reason.CONFIG_ERROR, "a structure"),
        (float("nan"), ua.VariantType.Double, "float64", Reason.INVALID_VALUE, ""),
        (float("-inf"), ua.VariantType.Float, "float64", Reason.INVALID_VALUE, ""),
        (2, ua.VariantType.Int32, "bool", Reason.INVALID_VALUE, ""),
        (None, ua.VariantType.Null, "float64", Reason.INVALID_VALUE, ""),
    ],
)
def test_what_is_no_scalar_is_bad_and_says_why(
    value: Any, kind: ua.VariantType, wanted: str, reason: Reason, note: str
) -> None:
    """Arrays, structures, dates, NaN and nothing at all never become a number."""
    reading = interpret(sent(value, kind), Part(wanted))
    assert (reading.value, reading.status) == (None, Status(Quality.BAD, reason))
    assert note in reading.note
    assert describe(sent(value, kind))


@given(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=5),
        st.binary(max_size=5), st.datetimes(timezones=st.just(UTC)), st.lists(st.floats(), min_size=1),
    ),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["float64", "bool", "string", "int16"]),
)  # fmt: skip
def test_no_variant_gives_an_exception_or_a_made_up_value(value: Any, code: int, wanted: str) -> None:
    """Whatever the value and the status code: a plain value, or bad with a reason."""
    reading = interpret(sent(value, code=code), Part(wanted, (0.0, 1.0)))
    assert (reading.value is None) == (reading.status.quality is Quality.BAD)
    assert reading.value is None or isinstance(reading.value, float | int | bool | str)
    if code & 0x80000000:
        assert reading.value is None


def test_the_numbers_of_the_status_table_are_those_of_the_standard() -> None:
    """Each code in the table is the one its comment names, by asyncua's list."""
    source = Path(status.__file__).read_text()
    rows = re.findall(r"0x([0-9A-F]{8}): Reason\.\w+,  # (\w+)", source)
    assert len(rows) > 25
    assert {name: int(code, 16) for code, name in rows} == {
        name: getattr(StatusCodes, name) for _, name in rows
    }


@pytest.mark.parametrize(
    ("name", "quality", "reason"),
    [
        ("Good", Quality.GOOD, Reason.NONE),
        ("GoodClamped", Quality.GOOD, Reason.NONE),
        ("GoodLocalOverride", Quality.GOOD, Reason.LOCAL_OVERRIDE),
        ("UncertainLastUsableValue", Quality.UNCERTAIN, Reason.LAST_USABLE),
        ("Uncertain", Quality.UNCERTAIN, Reason.SENSOR_NOT_ACCURATE),
        ("BadSensorFailure", Quality.BAD, Reason.SENSOR_FAILURE),
        ("BadNodeIdUnknown", Quality.BAD, Reason.ILLEGAL_ADDRESS),
        ("BadOutOfMemory", Quality.BAD, Reason.DEVICE_FAILURE),
    ],
)
def test_status_codes_keep_their_severity_and_get_a_reason(
    name: str, quality: Quality, reason: Reason
) -> None:
    """Listed codes have their reason; the others keep at least good, uncertain or bad."""
    assert status_of(getattr(StatusCodes, name)) == (quality, reason)


def test_uncertain_keeps_its_value_and_so_does_a_value_out_of_range() -> None:
    """Uncertain and range exceeded are marks on a value, not its end."""
    code = StatusCodes.UncertainSensorNotAccurate
    assert interpret(sent(1.5, code=code), Part("float64"))[:2] == (
        1.5,
        uncertain(Reason.SENSOR_NOT_ACCURATE),
    )
    assert interpret(sent(25.1), Part("float64", (0, 25)))[:2] == (25.1, uncertain(Reason.RANGE_EXCEEDED))


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - hypothesis wants them naive
def test_times_are_exact_to_the_microsecond(moment: datetime) -> None:
    """UTC ns of asyncua's times, with or without a time zone."""
    expected = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1) * 1000  # noqa: DTZ001
    assert to_ns(moment) == to_ns(moment.replace(tzinfo=UTC)) == expected
    assert to_ns(datetime(1601, 1, 1, tzinfo=UTC)) is None


@dataclass
class StillClock(Clock):
    """A clock that stands at NOW."""

    rate: float = 1.0

    def now(self) -> int:
        """NOW."""
        return NOW


def item(before: int | None = None) -> Item:
    return Item((Tag("t"),), (Part("float64"),), NodeRef("i", "1"), 0, theirs=before)


SKEW = uncertain(Reason.CLOCK_SKEW)


@pytest.mark.parametrize(
    ("whose", "clock", "before", "source", "server", "expected"),
    [
        ("source", 0, None, -2, 0, (-2, GOOD)),
        ("source", 0, -5, -2, 0, (-2, GOOD)),
        ("source", 0, None, -3600, 0, (None, GOOD)),  # old because it has not changed since
        ("source", None, None, -3600, -3600, (None, GOOD)),
        ("source", -3600, None, -3600, -3600, (None, SKEW)),  # the server's own clock is an hour behind
        ("source", 0, -7200, -3600, 0, (None, SKEW)),  # it changed just now, and says an hour ago
        ("source", 0, None, 3600, 0, (None, SKEW)),
        ("source", 0, -3600, -3600, 0, (None, GOOD)),  # the same value, polled again
        ("source", 0, None, None, -1, (-1, GOOD)),
        ("source", 0, None, None, None, (None, GOOD)),
        ("server", 0, None, -3600, -1, (-1, GOOD)),
        ("server", -3600, None, -1, -3600, (None, SKEW)),
        ("agent", 0, None, -1, -1, (None, GOOD)),
        ("agent", 0, None, 3600, 3600, (None, GOOD)),
    ],
)
def test_whose_time_a_value_gets(
    whose: str,
    clock: int | None,
    before: int | None,
    source: int | None,
    server: int | None,
    expected: tuple[int | None, Status],
) -> None:
    """Source or server time within max_skew, else the agent's and uncertain; a held value is no skew."""

    def at(seconds: int | None) -> int | None:
        return None if seconds is None else NOW + seconds * SECOND

    timing = Timing(StillClock(), whose, max_skew=10)
    timing.set_server_time(at(clock))
    chosen = timing.choose(item(at(before)), Reading(1.0, GOOD, at(source), at(server)))
    assert chosen == (at(expected[0]), expected[1])


def test_a_value_with_a_wrong_time_stays_uncertain_while_it_is_held() -> None:
    """Confirming a value does not make its time right: quality does not flap."""
    timing, one = Timing(StillClock(), "source", max_skew=10), item(NOW - 7200 * SECOND)
    reading = Reading(1.0, GOOD, NOW - 3600 * SECOND, NOW)
    for _ in range(3):
        moment, status = timing.choose(one, reading)
        assert (moment, status) == (None, SKEW)
        one.heard(status, timing.theirs(reading), NOW)


def test_a_faster_clock_is_allowed_more_skew() -> None:
    """Ten seconds of real time are ten hours of a demo that runs 3600 times as fast."""
    reading = Reading(1.0, GOOD, NOW + 1800 * SECOND, None)
    assert Timing(StillClock(rate=3600), "source", 10).choose(item(), reading) == (NOW + 1800 * SECOND, GOOD)
    assert Timing(StillClock(), "source", 10).choose(item(), reading) == (None, SKEW)


def test_status_codes_have_the_names_of_the_manuals() -> None:
    """The engineer looks for a name, not for a number; where there is none, it is the number."""
    assert named(StatusCodes.BadNodeIdUnknown) == "BadNodeIdUnknown"
    assert named(StatusCodes.BadNodeIdUnknown | 0x0480) == "BadNodeIdUnknown"
    assert named(0x80FE0000) == "0x80FE0000"
