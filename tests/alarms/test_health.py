"""From streams of scores to one maintenance alert, notices, and sensors that are called sensors."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.alarms.case import CaseRules
from edge_agent.alarms.health import HealthAlarms
from edge_agent.alarms.wire import alert_json
from edge_agent.clock import SECOND, parse_iso
from edge_agent.contracts.settings import HealthSettings
from edge_agent.types import AlarmKind, AlarmPriority, AlarmState, Alert, Band, HealthState, Score

START = parse_iso("2026-03-02T05:00:00Z")
UNITS = {"bearing_vibration": "mm/s", "motor_temperature": "°C", "pressure": "bar", "flow": None}
SHARES = {"motor_temperature": 0.24, "bearing_vibration": 0.62, "pressure": 0.1, "flow": 0.04}
BANDS = {
    "bearing_vibration": Band(3.4, 1.8, 2.3),
    "motor_temperature": Band(50.0, 55.0, 66.0),
    "pressure": Band(4.0, 3.9, 4.2),
}
SETTINGS = HealthSettings(action="Plan an inspection of the pump's drive end")
N, A = HealthState.NORMAL, HealthState.ANOMALOUS


def alarms(settings: HealthSettings = SETTINGS, rules: CaseRules | None = None) -> HealthAlarms:
    return HealthAlarms("pump-1", "Feed pump 1", settings, UNITS, rules)


def row(t: float, value: float, state: HealthState = A, faults: dict[str, str] | None = None) -> Score:
    return Score(
        START + round(t * SECOND), value, state, contributions=SHARES if value > 1 else {},
        bands=BANDS if value > 1 else {}, first_mover="bearing_vibration", faults=faults or {},
    )  # fmt: skip


def stream(values: Iterable[float], begin: int = 0, state: HealthState = A) -> list[Score]:
    return [row(begin + t, value, state) for t, value in enumerate(values)]


def seconds(ns: int | None) -> float:
    assert ns is not None
    return (ns - START) / SECOND


def test_one_alert_after_thirty_seconds_of_evidence() -> None:
    """Raised once, 30 s after the first row above the limit, as a maintenance alert."""
    found = alarms().observe(stream([0.3] * 100 + [1.4] * 500))
    [alert] = found
    assert (alert.id, alert.kind, alert.maintenance) == ("health", AlarmKind.HEALTH, True)
    assert (alert.state, alert.priority) == (AlarmState.UNACKNOWLEDGED, AlarmPriority.MEDIUM)
    assert (seconds(alert.since), seconds(alert.raised_at), alert.occurrence) == (100, 130, 1)


def test_the_message_says_what_since_when_which_tags_how_sure_and_what_to_do() -> None:
    """Invariant 9, in the words a technician reads at 06:10."""
    [alert] = alarms().observe(stream([1.4] * 31))
    assert alert.message == (
        "Feed pump 1 has not been normal since 2026-03-02 05:00:00 UTC: "
        "bearing_vibration 3.4 mm/s, 1.1 mm/s above its normal 1.8 to 2.3 mm/s (62% of the evidence); "
        "motor_temperature 50 °C, 5 °C below its normal 55 to 66 °C (24% of the evidence); "
        "pressure 4 bar, within its normal 3.9 to 4.2 bar, but not as the other tags say "
        "(10% of the evidence). Moved first: bearing_vibration. "
        "Confidence: fairly sure, 1.4 times the limit at the most. "
        "Plan an inspection of the pump's drive end"
    )
    assert alert.action == "Plan an inspection of the pump's drive end"
    assert alert.contributions == SHARES
    assert alert.bands == BANDS


def test_without_a_configured_action_it_still_says_where_to_look() -> None:
    """The default action names the tags that moved."""
    [alert] = alarms(HealthSettings()).observe(stream([1.4] * 31))
    assert alert.action == (
        "Plan an inspection of Feed pump 1, "
        "first what bearing_vibration, motor_temperature and pressure stand for"
    )


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([1.4] * 29 + [0.3] * 60, "29 s are not 30"),
        ([1.4, 1.4, 0.5] * 60, "falls below 0.6 again and again"),
        ([1.4, 1.4] + [0.8] * 40 + [1.4] * 20, "the lull between the limits lasts longer than 30 s"),
        ([1.0] * 300, "exactly at the limit is not above it"),
        ([math.nan] * 300, "not judged"),
        ([math.nan, 1.4] * 20, "20 s of evidence between rows that are not judged"),
    ],
)
def test_too_little_evidence_raises_nothing(values: list[float], why: str) -> None:
    """No alert where persistence is not met."""
    assert not alarms().observe(stream(values)), why


def test_rows_between_the_limits_do_not_break_the_evidence() -> None:
    """Hysteresis: a dip to 0.8 for a few rows neither counts nor starts it over."""
    [alert] = alarms().observe(stream([1.4] * 20 + [0.8] * 5 + [1.4] * 30))
    assert (seconds(alert.since), seconds(alert.raised_at)) == (0, 35)


def test_three_rows_are_needed_however_slow_they_come() -> None:
    """Rows of ten minutes: the third raises it."""
    scores = [row(600 * t, 5.0) for t in range(3)]
    [alert] = alarms().observe(scores)
    assert seconds(alert.raised_at) == 1200


def test_it_closes_after_thirty_seconds_below_the_lower_limit() -> None:
    """And says how long it lasted."""
    health = alarms()
    health.observe(stream([1.4] * 60))
    assert not health.observe(stream([0.7] * 300, 60)), "between the limits it stays open"
    assert health.open
    [closed] = health.observe(stream([0.5] * 60, 360))
    assert (closed.state, seconds(closed.cleared_at)) == (AlarmState.RETURNED_UNACKNOWLEDGED, 390)
    assert closed.message.startswith(
        "Feed pump 1 is back within what was learned as normal, after 6 min; it was about bearing_vibration,"
    )
    assert not health.open


def test_the_latch_is_bounded() -> None:
    """A score that settles between the limits does not keep the case open for ever."""
    rules = CaseRules(latch=600)
    health = alarms(rules=rules)
    health.observe(stream([1.4] * 60))
    [closed] = health.observe(stream([0.8] * 1000, 60))
    assert 60 + 600 <= seconds(closed.cleared_at) <= 60 + 600 + 32


def test_a_case_stays_open_while_the_machine_stands_still() -> None:
    """Paused, unknown and learning rows neither raise nor clear, however long they last."""
    health = alarms()
    health.observe(stream([1.4] * 60))
    held = [HealthState.PAUSED, HealthState.MAINTENANCE, HealthState.LEARNING, HealthState.UNKNOWN_REGIME]
    for index, state in enumerate(held):
        assert not health.observe(stream([0.1] * 1000, 60 + 1000 * index, state))
        assert not alarms().observe(stream([9.0] * 1000, 60, state))
    assert health.open


def test_severity_follows_the_evidence_upwards() -> None:
    """medium, then high once it has been grave for 30 s, with the strongest row's evidence."""
    health = alarms()
    found = health.observe(stream([1.4] * 60 + [2.5] * 60 + [7.0] + [2.2] * 100 + [1.2] * 500))
    assert [(alert.priority, seconds(alert.raised_at)) for alert in found] == [
        (AlarmPriority.MEDIUM, 30),
        (AlarmPriority.HIGH, 30),
    ]
    assert found[1].value == 2.5
    assert "sure, 2.5 times the limit" in found[1].message
    assert health.current()[0].value == 7.0, "the evidence is that of the strongest row"


def test_a_worse_case_is_announced_again() -> None:
    """What was acknowledged as medium needs a new look as high."""
    health = alarms()
    health.observe(stream([1.4] * 60))
    assert [alert.state for alert in health.acknowledge("health")] == [AlarmState.ACKNOWLEDGED]
    [worse] = health.observe(stream([3.0] * 60, 60))
    assert (worse.state, worse.priority) == (AlarmState.UNACKNOWLEDGED, AlarmPriority.HIGH)
    assert worse.occurrence == 1


def test_what_comes_back_within_hours_is_the_same_case() -> None:
    """Same occurrence and raised_at; after the merge time it is a new one with its own evidence."""
    health = alarms()
    first = health.observe(stream([5.0] * 60 + [0.2] * 60 + [1.4] * 60 + [0.2] * 60))
    assert [(alert.occurrence, seconds(alert.raised_at), alert.active) for alert in first] == [
        (1, 30, True), (1, 30, False), (1, 30, True), (1, 30, False),
    ]  # fmt: skip
    assert first[2].value == 5.0
    [second] = health.observe(stream([1.4] * 60, 30_000))
    assert (second.occurrence, second.value, second.priority) == (2, 1.4, AlarmPriority.MEDIUM)


def test_the_case_and_its_evidence_survive_a_restart() -> None:
    """A restart in the middle neither raises it again nor forgets what it was about."""
    health = alarms()
    [raised] = health.observe(stream([1.9] * 31))
    restarted = alarms()
    restarted.restore([raised])
    assert restarted.current() == [raised]
    [closed] = restarted.observe(stream([1.5] * 60 + [0.2] * 60, 31))
    assert (closed.occurrence, closed.raised_at, closed.value) == (1, raised.raised_at, 1.9)
    assert closed.contributions == SHARES


def test_provisional_rows_raise_a_notice_and_no_alert() -> None:
    """While the model is provisional people are told, not called."""
    health = alarms()
    assert not health.observe(stream([5.0] * 500, state=HealthState.PROVISIONAL))
    [notice] = health.take_notices()
    assert (notice.kind, notice.machine, seconds(notice.time)) == ("provisional", "pump-1", 30)
    assert not health.take_notices()


def test_an_unseen_regime_is_a_notice() -> None:
    """Once per spell, with the detector's own words."""
    health = alarms()
    spell = [
        Score(START + t * SECOND, math.nan, HealthState.UNKNOWN_REGIME, note="speed above 1480 rpm")
        for t in range(600)
    ]
    assert not health.observe(spell)
    [notice] = health.take_notices()
    assert notice.kind == "unknown_regime"
    assert notice.message == "Feed pump 1 runs as it has not been seen to run: speed above 1480 rpm"


def test_a_stuck_sensor_is_called_a_sensor() -> None:
    """A data-quality condition of the tag; the health case stays closed."""
    health = alarms()
    fault = {"motor_temperature": "stuck at 61.2"}
    found = health.observe([row(t, 0.3, N, fault if t >= 10 else None) for t in range(60)])
    [alert] = found
    assert (alert.id, alert.kind) == ("motor_temperature.quality", AlarmKind.DATA_QUALITY)
    assert (alert.maintenance, seconds(alert.since), seconds(alert.raised_at)) == (False, 10, 40)
    assert alert.message == (
        "The sensor motor_temperature looks wrong since 2026-03-02 05:00:10 UTC (stuck at 61.2): "
        "check the sensor, not the machine"
    )
    assert not health.observe([row(60 + t, math.nan, HealthState.PAUSED) for t in range(100)])
    [back] = health.observe([row(200 + t, 0.3, N) for t in range(60)])
    assert not back.active
    assert "looks right again" in back.message
    assert [one.state for one in health.acknowledge("motor_temperature.quality")] == [AlarmState.NORMAL]


def test_stored_sensor_conditions_come_back_only_for_tags_that_exist() -> None:
    """A tag that was removed leaves its stored condition to be retired."""
    health = alarms()
    [alert] = health.observe([row(t, 0.3, N, {"pressure": "stale"}) for t in range(31)])
    other = HealthAlarms("pump-1", None, SETTINGS, {"flow": None})
    other.restore([alert])
    assert not other.current()
    assert not other.claims("pressure.quality")
    assert other.claims("flow.quality")
    assert other.claims("health")
    assert not other.claims("flow.high")
    again = alarms()
    again.restore([alert])
    assert again.current() == [alert]


def test_evidence_without_contributions_does_not_hide_evidence_with_them() -> None:
    """A stronger row that explains nothing does not replace one that does; infinity is JSON null."""
    health = alarms()
    bare = [Score(START + t * SECOND, math.inf, A) for t in range(20)]
    [alert] = health.observe([*bare, *stream([1.4] * 20, 20)])
    assert alert.contributions == SHARES
    [only] = alarms().observe([Score(START + t * SECOND, math.inf, A) for t in range(31)])
    assert alert_json(only)["value"] is None
    assert only.message.startswith("Feed pump 1 has not been normal since")


def test_the_alert_as_json() -> None:
    """The words and shapes of INTERFACE.md."""
    [alert] = alarms().observe(stream([1.4] * 31))
    found = alert_json(alert)
    assert found["raised_at"] == "2026-03-02T05:00:30.000Z"
    assert found["since"] == "2026-03-02T05:00:00.000Z"
    assert found["cleared_at"] is None
    assert (found["state"], found["kind"], found["priority"]) == ("unacknowledged", "health", "medium")
    assert found["contributions"][0] == {"tag": "bearing_vibration", "share": 0.62}
    assert found["bands"]["bearing_vibration"] == {"value": 3.4, "low": 1.8, "high": 2.3}
    assert (found["id"], found["occurrence"], found["maintenance"]) == ("health", 1, True)


SCORES = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.one_of(st.floats(0, 4), st.just(math.nan)),
        st.sampled_from([N, A, A, A, HealthState.PAUSED, HealthState.PROVISIONAL]),
    ),
    max_size=120,
)


@given(SCORES)
def test_one_open_case_whatever_comes(rows: list[tuple[int, float, HealthState]]) -> None:
    """Alerts alternate between open and closed, occurrences count up by one, and rows cut nothing apart."""
    now, scores = 0, []
    for pause, value, state in rows:
        now += pause
        scores.append(row(now, value, state))
    at_once = alarms().observe(scores)
    health = alarms()
    one_by_one = [alert for score in scores for alert in health.observe([score])]
    assert at_once == one_by_one
    check_alternates(at_once)


def check_alternates(alerts: list[Alert]) -> None:
    occurrence, active = 0, False
    for alert in alerts:
        assert alert.occurrence in (occurrence, occurrence + 1)
        assert alert.active != active or alert.priority is AlarmPriority.HIGH
        if alert.active:
            assert alert.since is not None
            assert alert.raised_at - alert.since >= 30 * SECOND
        occurrence, active = alert.occurrence, alert.active
