"""Line protocol: what is written, what is read back, and what a real InfluxDB makes of it."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent import lineprotocol as lp
from edge_agent.types import (
    AlarmKind,
    AlarmPriority,
    AlarmState,
    Alert,
    HealthState,
    Reason,
    SampleBatch,
    Score,
    Store,
    Tag,
    Value,
    bad,
)
from tests.support.influx import Influxd

LEVELS = {"enterprise": "fjord-parts", "site": "ulsteinvik", "area": "machining", "line": "line-1"}
NS = 1_795_328_000_123_456_789


def encode(tags: list[Tag], values: list[Value | None]) -> bytes:
    encoder = lp.BatchEncoder("pump-1", LEVELS, "readings", tags)
    return encoder.encode(SampleBatch("pump-1", tuple(tag.name for tag in tags), NS, values))


def test_a_scan_is_one_wide_line() -> None:
    """Levels and machine as tags, machine tags as fields, numbers as floats, bools as 0 and 1."""
    tags = [Tag("bearing_vibration"), Tag("running"), Tag("status.tripped")]
    assert encode(tags, [2.31, True, False]) == (
        b"readings,enterprise=fjord-parts,site=ulsteinvik,area=machining,line=line-1,machine=pump-1 "
        b"bearing_vibration=2.31,running=1,status.tripped=0 1795328000123456789"
    )


@pytest.mark.parametrize(
    ("value", "store", "text"),
    [
        (1, Store.FLOAT, "1"),
        (65535, Store.INT, "65535i"),
        (65534.99999999999, Store.INT, "65535i"),
        (2**63 - 1, Store.INT, "9223372036854775807i"),
        (2**63, Store.INT, None),
        (-(2**63), Store.INT, "-9223372036854775808i"),
        (2**64 - 1, Store.FLOAT, "18446744073709551615"),
        (True, Store.BOOL, "true"),
        (0, Store.BOOL, "false"),
        (True, Store.INT, "1i"),
        (1.5, Store.STRING, '"1.5"'),
        ('say "hi"\\\r\n\x00end', Store.STRING, '"say \\"hi\\"\\\\   end"'),
        ("text", Store.FLOAT, '"text"'),
        (-0.0, Store.FLOAT, "-0.0"),
        (5e-324, Store.FLOAT, "5e-324"),
        (math.nan, Store.FLOAT, None),
        (math.inf, Store.INT, None),
        (-math.inf, Store.FLOAT, None),
        (10**400, Store.FLOAT, None),
        (None, Store.FLOAT, None),
    ],
)
def test_a_value_as_its_storage_type(value: Value | None, store: Store, text: str | None) -> None:
    """Each storage type has one spelling; what does not fit it is left out."""
    assert lp.field_text(value, store) == text
    line = encode([Tag("t", store=store)], [value])
    assert line.partition(b" ")[2] == (b"" if text is None else f"t={text} {NS}".encode())


def test_float32_is_written_as_its_exact_double() -> None:
    """2.31 read as a float32 comes back as that float32, bit for bit."""
    (value,) = struct.unpack("f", struct.pack("f", 2.31))
    assert lp.parse(encode([Tag("v")], [value])).fields["v"] == value


def test_bad_values_and_not_a_number_are_left_out() -> None:
    """A scan with some bad values writes the good ones, one without a good value writes no line."""
    tags = [Tag("a"), Tag("b"), Tag("c")]
    assert b" a=1.0,c=3.0 " in encode(tags, [1.0, None, 3.0])
    assert b" a=1.0,c=3.0 " in encode(tags, [1.0, math.nan, 3.0])
    assert b" c=3.0 " in encode(tags, [math.inf, -math.inf, 3.0])
    assert b" a=1e+308,b=1e+308,c=1e+308 " in encode(tags, [1e308, 1e308, 1e308])
    assert encode(tags, [None, None, None]) == b""
    assert encode(tags, [math.nan, None, None]) == b""


def test_part_of_a_group_as_subscriptions_give_it() -> None:
    """A batch with some of the group's tags in another order is written by name."""
    encoder = lp.BatchEncoder("pump-1", {}, "readings", [Tag("a"), Tag("b", store=Store.INT)])
    line = encoder.encode(SampleBatch("pump-1", ("b",), 5, [7]))
    assert line == b"readings,machine=pump-1 b=7i 5"
    with pytest.raises(KeyError):
        encoder.encode(SampleBatch("pump-1", ("x",), 5, [7]))


def test_names_with_percent_signs_do_not_disturb_the_template() -> None:
    """Labels never get here, but a template must not be broken by any name."""
    encoder = lp.BatchEncoder("50%s", {}, "readings", [Tag("100%d")])
    assert encoder.encode(SampleBatch("50%s", ("100%d",), 5, [7.5])) == b"readings,machine=50%s 100%d=7.5 5"


def test_many_patterns_of_types_are_bounded() -> None:
    """The cache of templates starts afresh when values change their types all the time."""
    encoder = lp.BatchEncoder("m", {}, "readings", [Tag(f"t{i}") for i in range(8)])
    names = tuple(f"t{i}" for i in range(8))
    for pattern in range(256):
        values: list[Value | None] = [1.5 if pattern >> i & 1 else True for i in range(8)]
        encoder.encode(SampleBatch("m", names, 1, values))
    assert len(encoder._templates) <= lp.MAX_TEMPLATES


def test_quality_alarm_and_health_lines() -> None:
    """The other measurements, field by field."""
    line = lp.quality_line(LEVELS, "pump-1", "pressure", bad(Reason.TIMEOUT), NS)
    assert line.endswith(b',machine=pump-1,tag=pressure status="bad",reason="timeout",code=0 %d' % NS)
    alert = Alert(
        machine="pump-1",
        id="bearing_vibration.high",
        kind=AlarmKind.LIMIT,
        priority=AlarmPriority.HIGH,
        state=AlarmState.UNACKNOWLEDGED,
        occurrence=2,
        raised_at=NS,
        cleared_at=None,
        message='vibration 3.1 mm/s, "high"',
        action="Plan an inspection",
        value=3.1,
    )
    point = lp.parse(lp.alarm_line(LEVELS, alert, NS + 1))
    assert (point.measurement, point.tags["alarm"], point.timestamp) == ("alarms", alert.id, NS + 1)
    assert point.fields["state"] == "unacknowledged"
    assert point.fields["message"] == alert.message
    assert (point.fields["occurrence"], point.fields["value"], point.fields["raised_at"]) == (2.0, 3.1, NS)
    health = lp.health_line(LEVELS, "pump-1", Score(NS, math.nan, HealthState.LEARNING, 0.25))
    assert lp.parse(health).fields == {"state": "learning", "progress": 0.25}


def test_the_header_goes_there_and_back() -> None:
    """The comment line at the head of a payload names agent, number and backlog; without it there is none."""
    payload = lp.header("pi-01", 17, backlog=True) + b"\nreadings a=1 1"
    assert payload.startswith(b"# agent=pi-01 seq=17 backlog=1\n")
    assert lp.split_header(payload) == (lp.Header("pi-01", 17, True), b"readings a=1 1")
    assert lp.split_header(b"readings a=1 1") == (None, b"readings a=1 1")
    assert lp.split_header(b"# something else\nreadings a=1 1") == (None, b"readings a=1 1")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"readings",
        b"readings a=1",
        b"readings 5",
        b"readings a= 5",
        b"readings =1 5",
        b"readings a 5",
        b"readings a=1,, 5",
        b"readings a=1, 5",
        b"readings a=nan 5",
        b"readings a=inf 5",
        b"readings a=1e999 5",
        b"readings a=1_0 5",
        b"readings a=9223372036854775808i 5",
        b"readings a=0x10 5",
        b"readings a=maybe 5",
        b'readings a="open 5',
        b"readings,x a=1 5",
        b"readings,x= a=1 5",
        b",x=1 a=1 5",
        b"readings a=1 5.5",
        b"readings a=1 9223372036854775808",
        b"readings a=\xff 5",
    ],
)
def test_what_is_not_line_protocol_is_refused(line: bytes) -> None:
    """Each malformed line raises ValueError, and nothing else."""
    with pytest.raises(ValueError):
        lp.parse(line)


_texts = st.text(max_size=20)
_names = st.text(min_size=1, max_size=12).filter(lambda name: not name.startswith("#"))
_values = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    _texts,
    st.none(),
)


def _clean(text: str, *, name: bool) -> str:
    """What is left of a text after the characters line protocol cannot hold."""
    text = "".join(" " if ord(c) < 32 or ord(c) in (127, 0x85, 0x2028, 0x2029) else c for c in text)
    text = text.encode("utf-8", "replace").decode()
    return text.replace("\\", "/").replace('"', "'") if name else text


@given(
    machine=_names,
    columns=st.dictionaries(_names, st.tuples(_values, st.sampled_from(Store)), min_size=1, max_size=6),
    timestamp=st.integers(-(2**63), 2**63 - 1),
)
@settings(max_examples=500, deadline=None)
def test_what_is_encoded_is_read_back(
    machine: str, columns: dict[str, tuple[Value | None, Store]], timestamp: int
) -> None:
    """Any names and values: the line is one line, and parsing it gives the values that can be stored."""
    columns = {_clean(name, name=True): column for name, column in columns.items()}
    tags = [Tag(name, store=store) for name, (_, store) in columns.items()]
    encoder = lp.BatchEncoder(machine, {"site": "s"}, "readings", tags)
    values = [value for value, _ in columns.values()]
    line = encoder.encode(SampleBatch(machine, tuple(columns), timestamp, values))
    expected = {
        name: text for name, (value, store) in columns.items() if (text := lp.field_text(value, store))
    }
    if not expected:
        assert line == b""
        return
    assert len(line.splitlines()) == 1
    point = lp.parse(line)
    assert point.tags == {"site": "s", "machine": _clean(machine, name=True)}
    assert point.timestamp == timestamp
    assert list(point.fields) == list(expected)
    for name, got in point.fields.items():
        _same(got, *columns[name])


def _same(got: Value, value: Value | None, store: Store) -> None:
    if isinstance(value, str):
        assert got == _clean(value, name=False)
    elif store is Store.BOOL:
        assert got is bool(value)
    elif store is Store.INT:
        assert isinstance(got, int)
        assert got == round(value)  # type: ignore[arg-type]  # None is not here
    elif store is Store.FLOAT:
        assert isinstance(got, float)
        assert got == float(value)  # type: ignore[arg-type]


@given(st.binary(max_size=60))
@settings(max_examples=500, deadline=None)
def test_the_parser_survives_anything(line: bytes) -> None:
    """Hostile bytes are a point or a ValueError."""
    with contextlib.suppress(ValueError):
        lp.parse(b"readings,a=b " + line + b" 5")


@pytest.fixture(scope="module")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    server = Influxd(tmp_path_factory.mktemp("influxd"))
    server.start()
    server.create("edge_agent")
    yield server
    server.stop()


@pytest.mark.parametrize(
    "value",
    [2.31, -1e-300, 1.7976931348623157e308, 0.1 + 0.2, 'a "b" \\ c, d=e', "æøå°C 🛠", "ends with \\"],
)
def test_influxd_reads_back_what_was_written(influxd: Influxd, value: Value) -> None:
    """A value's way through a real InfluxDB changes nothing."""
    name = f"field_{type(value).__name__}"
    machine = "pump 1,a=b"
    line = lp.BatchEncoder(machine, LEVELS, "mixed, up", [Tag(name)]).encode(
        SampleBatch(machine, (name,), NS, [value])
    )
    assert influxd.write(lp.header("pi", 1, backlog=False) + b"\n" + line) == (204, "")
    question = f'SELECT "{name}", machine, site FROM "mixed, up" WHERE time = {NS}'  # noqa: S608
    (series,) = influxd.query(question)
    assert series["values"] == [[NS, value, machine, "ulsteinvik"]]


@given(value=st.text(max_size=30), name=_names)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_influxd_takes_every_line_we_write(influxd: Influxd, value: str, name: str) -> None:
    """No text makes a line that InfluxDB refuses, and its parser and ours agree on strings."""
    line = lp.line("texts", {"machine": name}, {"text": lp.quoted(value), name: "1"}, NS)
    assert influxd.write(line) == (204, ""), line
    assert lp.parse(line).tags["machine"] == _clean(name, name=True)
