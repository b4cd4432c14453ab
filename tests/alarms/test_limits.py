"""Limit, discrete and communication alarms: scans in, transitions and words out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.alarms.communication import Communication
from edge_agent.alarms.limits import LimitAlarms
from edge_agent.alarms.wire import alert_json
from edge_agent.clock import SECOND, parse_iso
from edge_agent.contracts.settings import TagSettings
from edge_agent.errors import ConfigError
from edge_agent.types import AlarmKind, AlarmPriority, AlarmState, Alert, Reason, SampleBatch, Value, bad

START = parse_iso("2026-03-02T05:00:00Z")
NAMES = ("bearing_vibration", "running", "tripped", "level")

TAGS = {
    "bearing_vibration": TagSettings.model_validate(
        {
            "label": "Bearing vibration",
            "unit": "mm/s",
            "limits": {
                "active_when": "running",
                "on_delay": "30s",
                "hysteresis": 0.3,
                "high": {"value": 2.8, "action": "Plan a bearing inspection this week"},
                "high_high": {"value": 4.5, "priority": "high", "on_delay": "5s", "action": "Stop the pump"},
            },
        }
    ),
    "running": TagSettings(),
    "tripped": TagSettings.model_validate(
        {"alarm": {"when": True, "priority": "high", "action": "Reset at the panel"}}
    ),
    "level": TagSettings.model_validate({"unit": "%", "limits": {"low": 20, "low_low": 10}}),
}


def ns(seconds: float) -> int:
    return START + round(seconds * SECOND)


def scan(t: float, *values: Value | None) -> SampleBatch:
    columns = list(values) + [None] * (len(NAMES) - len(values))
    statuses = {i: bad(Reason.TIMEOUT) for i, value in enumerate(columns) if value is None}
    return SampleBatch("pump-1", NAMES, ns(t), columns, statuses)


def told(alerts: list[Alert]) -> list[tuple[str, str]]:
    return [(alert.id, alert.state.value) for alert in alerts]


def test_a_limit_is_raised_after_its_delay_and_returns_below_its_hysteresis() -> None:
    """Raised at 30 s, kept at 2.6 mm/s (limit 2.8, hysteresis 0.3), returned at 2.4."""
    alarms = LimitAlarms("pump-1", TAGS)
    for t in range(30):
        assert not alarms.observe(scan(t, 3.1, True, False, 50))
    [raised] = alarms.observe(scan(30, 3.1, True, False, 50))
    assert (raised.id, raised.state) == ("bearing_vibration.high", AlarmState.UNACKNOWLEDGED)
    assert raised.message == (
        "Bearing vibration is 3.1 mm/s, above its high limit of 2.8 mm/s, since 2026-03-02 05:00:00 UTC"
    )
    assert (raised.action, raised.value, raised.kind) == (
        "Plan a bearing inspection this week", 3.1, AlarmKind.LIMIT,
    )  # fmt: skip
    assert not alarms.observe(scan(31, 2.6, True, False, 50))
    [returned] = alarms.observe(scan(90, 2.4, True, False, 50))
    assert returned.state is AlarmState.RETURNED_UNACKNOWLEDGED
    assert returned.message == (
        "Bearing vibration is back at 2.4 mm/s (high limit 2.8 mm/s) after 1 min; "
        "it began 2026-03-02 05:00:00 UTC"
    )


def test_each_limit_has_its_own_delay_priority_and_action() -> None:
    """high_high comes after 5 s and high, with the shared delay, after 30 s."""
    alarms = LimitAlarms("pump-1", TAGS)
    found = {
        (alert.id, t): alert for t in range(40) for alert in alarms.observe(scan(t, 5.0, True, False, 50))
    }
    assert set(found) == {("bearing_vibration.high_high", 5), ("bearing_vibration.high", 30)}
    worst = found["bearing_vibration.high_high", 5]
    assert (worst.priority, worst.action) == (AlarmPriority.HIGH, "Stop the pump")


def test_low_limits_look_downwards() -> None:
    """9 % is below low and low_low."""
    alarms = LimitAlarms("pump-1", TAGS)
    assert told(alarms.observe(scan(0, 1.0, True, False, 9))) == [
        ("level.low_low", "unacknowledged"),
        ("level.low", "unacknowledged"),
    ]
    assert told(alarms.observe(scan(1, 1.0, True, False, 10))) == [
        ("level.low_low", "returned_unacknowledged")
    ]


def test_active_when_suppresses_and_releases() -> None:
    """While the pump is off its vibration is not watched; a bad `running` changes nothing."""
    alarms = LimitAlarms("pump-1", TAGS)
    off = told(alarms.observe(scan(0, 9.0, False, False, 50)))
    assert off == [("bearing_vibration.high", "suppressed"), ("bearing_vibration.high_high", "suppressed")]
    assert not alarms.observe(scan(1, 9.0, None, False, 50))
    on = told(alarms.observe(scan(2, 1.0, True, False, 50)))
    assert on == [("bearing_vibration.high", "normal"), ("bearing_vibration.high_high", "normal")]


def test_the_alarm_that_explains_a_trip_outlives_the_stop() -> None:
    """When the pump trips on vibration the raised alarm stays, as returned and unacknowledged."""
    alarms = LimitAlarms("pump-1", TAGS)
    for t in range(6):
        alarms.observe(scan(t, 6.0, True, False, 50))
    found = alarms.observe(scan(6, 0.1, False, True, 50))
    assert told(found) == [
        ("bearing_vibration.high", "suppressed"),
        ("bearing_vibration.high_high", "returned_unacknowledged"),
        ("tripped", "unacknowledged"),
    ]
    assert "is 6 mm/s, above its high-high limit" in found[1].message
    assert "not watched while running is false" in found[1].message


def test_active_when_sees_tags_of_other_read_groups() -> None:
    """`running` comes in another scan class than the vibration it switches."""
    alarms = LimitAlarms("pump-1", TAGS)
    assert not alarms.observe(SampleBatch("pump-1", ("running",), ns(0), [False]))
    found = alarms.observe(SampleBatch("pump-1", ("bearing_vibration",), ns(1), [9.0]))
    assert {alert.state for alert in found} == {AlarmState.SUPPRESSED}
    alarms.hold(ns(2))
    assert not alarms.observe(SampleBatch("pump-1", ("bearing_vibration",), ns(3), [9.0])), (
        "after a lost connection the old value of `running` is not believed"
    )


@pytest.mark.parametrize(
    ("when", "value", "raised"),
    [
        (True, True, True),
        (True, 1, True),
        (True, 8, True),
        (True, False, False),
        (True, "true", False),
        (True, math.nan, False),
        (False, 0, True),
        (3, 3, True),
        (3, 3.0, True),
        (3, 4, False),
    ],
)
def test_a_discrete_alarm_compares_what_it_was_told(when: bool | float, value: Value, raised: bool) -> None:
    """`when: true` is "not zero"; a number is that number; a text or NaN is unknown."""
    tag = TagSettings.model_validate({"label": "Motor tripped", "alarm": {"when": when, "action": "Reset"}})
    alarms = LimitAlarms("pump-1", {"tripped": tag})
    found = alarms.observe(SampleBatch("pump-1", ("tripped",), ns(0), [value]))
    assert [alert.id for alert in found] == (["tripped"] if raised else [])
    if found:
        assert found[0].message.startswith("Motor tripped")
        assert found[0].message.endswith("since 2026-03-02 05:00:00 UTC")


def test_two_conditions_never_share_an_id() -> None:
    """A tag named like a condition every machine has is refused when the alarms are built."""
    alarm = TagSettings.model_validate({"alarm": {"when": True}})
    with pytest.raises(ConfigError, match=r"health: rename the tag"):
        LimitAlarms("m", {"health": alarm})
    limits = TagSettings.model_validate({"limits": {"high": 1}})
    with pytest.raises(ConfigError, match=r"level\.high: rename"):
        LimitAlarms("m", {"level": limits, "level.high": alarm})


def test_acknowledge_and_restore_carry_the_state_over() -> None:
    """After a restart an acknowledged alarm is still acknowledged, and returns to normal."""
    alarms = LimitAlarms("pump-1", TAGS)
    alarms.observe(scan(0, 1.0, True, True, 50))
    [seen] = alarms.acknowledge("tripped")
    assert seen.state is AlarmState.ACKNOWLEDGED
    assert not alarms.acknowledge("tripped")
    assert not alarms.acknowledge("nothing")
    restarted = LimitAlarms("pump-1", TAGS)
    restarted.restore([seen, Alert(**{**{n: getattr(seen, n) for n in Alert.__slots__}, "machine": "other"})])
    assert restarted.current() == [seen]
    assert not restarted.observe(scan(100, 1.0, True, True, 50))
    assert told(restarted.observe(scan(101, 1.0, True, False, 50))) == [("tripped", "normal")]


VALUES = st.one_of(st.none(), st.just(math.nan), st.text(max_size=3), st.booleans(), st.floats())


@given(st.lists(st.tuples(st.integers(0, 60), VALUES, VALUES, VALUES, VALUES), max_size=40))
def test_unknown_values_never_raise_or_clear(
    scans: list[tuple[int, Value | None, Value | None, Value | None, Value | None]],
) -> None:
    """A value that is missing, bad, NaN or a text changes the state of no condition of its tag."""
    alarms = LimitAlarms("pump-1", TAGS)
    now = 0
    for pause, *values in scans:
        now += pause
        for alert in alarms.observe(scan(now, *values)):
            value = values[NAMES.index(alert.id.split(".")[0])]
            known = value is not None and not isinstance(value, str) and value == value
            assert (
                known
                or alert.state in (AlarmState.SUPPRESSED, AlarmState.NORMAL)
                or "not watched" in (alert.message)
            )
            assert alert_json(alert)["message"]
            assert len(alert.message) < 400


NEAR = st.one_of(
    st.none(), st.sampled_from([0, 1, 2.4, 2.5, 2.8, 2.81, 4.5, 4.6, 9.9, 10, 20, 21, True, False])
)


@given(st.lists(st.tuples(st.integers(0, 20), NEAR, NEAR, NEAR, NEAR), max_size=40))
def test_what_is_skipped_would_have_changed_nothing(
    scans: list[tuple[int, Value | None, Value | None, Value | None, Value | None]],
) -> None:
    """The short way over calm tags tells exactly what judging every value does."""
    quick, thorough = LimitAlarms("pump-1", TAGS), LimitAlarms("pump-1", TAGS)
    now = 0
    for pause, *values in scans:
        now += pause
        thorough.restore([])  # which makes it judge everything again
        assert quick.observe(scan(now, *values)) == thorough.observe(scan(now, *values))


def test_many_combinations_of_tags_do_not_fill_the_memory() -> None:
    """A subscription that brings ever other tags keeps a bounded number of plans."""
    alarms = LimitAlarms("pump-1", TAGS)
    for number in range(3000):
        alarms.observe(SampleBatch("pump-1", ("tripped", f"other{number}"), ns(number), [False, 1]))
    assert len(alarms._plans) <= 256


def test_communication_is_raised_after_three_failed_scans_and_cleared_by_one_good() -> None:
    """One condition for the machine, with its tags inside and no password of the URL."""
    tags = ["a", "b", "c", "d", "e"]
    line = Communication("pump-1", "opc.tcp://edge:secret@10.0.4.21:4840", tags, label="Feed pump 1")
    assert not line.failed("no answer within 1 s", ns(0))
    assert not line.recovered(ns(1))
    assert not line.failed("no answer within 1 s", ns(2))
    assert not line.failed("no answer within 1 s", ns(3))
    [alert] = line.failed("no answer within 1 s", ns(5))
    assert (alert.id, alert.kind, alert.since) == ("communication", AlarmKind.COMMUNICATION, ns(2))
    assert alert.message == (
        "Feed pump 1 has not answered since 2026-03-02 05:00:02 UTC: no answer within 1 s; "
        "without value: a, b, c and 2 more"
    )
    assert "opc.tcp://10.0.4.21:4840" in alert.action
    assert "secret" not in alert.action
    assert not line.failed("no answer within 1 s", ns(6))
    [back] = line.recovered(ns(62))
    assert back.state is AlarmState.RETURNED_UNACKNOWLEDGED
    assert back.message == "Feed pump 1 answers again since 2026-03-02 05:01:02 UTC, after 1 min of silence"
    assert not line.recovered(ns(63))


def test_communication_survives_a_restart() -> None:
    """A machine that was away before the restart and answers after it clears the condition."""
    line = Communication("m", "tcp://10.0.0.1:502", scans=1)
    [alert] = line.failed("refused", ns(0))
    restarted = Communication("m", "tcp://10.0.0.1:502", scans=1)
    restarted.restore([alert])
    assert restarted.current() == [alert]
    assert told(restarted.recovered(ns(9))) == [("communication", "returned_unacknowledged")]
    assert told(restarted.acknowledge("communication")) == [("communication", "normal")]
    assert not restarted.current()
