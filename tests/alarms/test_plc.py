"""Alarms of the machine's own controller: mirrored, kept over restarts, bounded."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.alarms.plc import MOST, PlcAlarms, condition_id
from edge_agent.alarms.wire import alert_json
from edge_agent.clock import SECOND, parse_iso
from edge_agent.types import AlarmPriority, AlarmState, Alert, ConditionReport, ReportedCondition

START = parse_iso("2026-03-02T05:00:00Z")


def condition(
    name: str = "Press.OilLevel", active: bool = True, acked: bool = False, severity: int = 700, at: int = 0
) -> ReportedCondition:
    return ReportedCondition(name, active, acked, severity, "oil level low", START + at * SECOND)


def told(alerts: list[Alert]) -> list[tuple[str, str]]:
    return [(alert.id, alert.state.value) for alert in alerts]


def report(*conditions: ReportedCondition, complete: bool = False) -> ConditionReport:
    return ConditionReport(conditions, complete)


def test_the_states_are_those_of_the_controller() -> None:
    """Active, acknowledged at the panel, over, active again: one occurrence each time it comes."""
    alarms = PlcAlarms("press-2")
    name = "plc.Press.OilLevel"
    assert told(alarms.observe(report(condition()), START)) == [(name, "unacknowledged")]
    assert alarms.observe(report(condition()), START) == [], "the same again is no news"
    assert told(alarms.observe(report(condition(acked=True)), START)) == [(name, "acknowledged")]
    [over] = alarms.observe(report(condition(active=False, acked=True, at=60)), START)
    assert (over.state, over.cleared_at, over.occurrence) == (AlarmState.NORMAL, START + 60 * SECOND, 1)
    [again] = alarms.observe(report(condition(at=90)), START)
    assert (again.occurrence, again.raised_at, again.cleared_at) == (2, START + 90 * SECOND, None)
    assert (again.priority, again.source) == (AlarmPriority.HIGH, "plc")
    [returned] = alarms.observe(report(condition(active=False, at=95)), START)
    assert returned.state is AlarmState.RETURNED_UNACKNOWLEDGED


def test_what_is_missing_from_a_complete_report_is_over() -> None:
    """After a reconnect the controller lists what is active: the rest ended meanwhile."""
    alarms = PlcAlarms("press-2")
    alarms.observe(report(condition("a"), condition("b")), START)
    assert alarms.observe(report(condition("a")), START) == []
    assert told(alarms.observe(report(condition("a"), complete=True), START)) == [("plc.b", "normal")]
    assert told(alarms.current()) == [("plc.a", "unacknowledged")]


def test_states_survive_a_restart() -> None:
    """What ended while the agent was away is over at the first complete report."""
    before = PlcAlarms("press-2")
    stored = before.observe(report(condition("a"), condition("b")), START)
    after = PlcAlarms("press-2")
    after.restore(stored)
    assert after.claims("plc.a")
    assert not after.claims("plc.c")
    assert told(after.observe(report(condition("b"), complete=True), START)) == [("plc.a", "normal")]
    assert alert_json(stored[0])["source"] == "plc"


def test_a_condition_first_heard_of_when_normal_is_no_news() -> None:
    """Controllers list hundreds of conditions that never were active."""
    assert PlcAlarms("press-2").observe(report(condition(active=False, acked=True)), START) == []


def test_a_controller_that_invents_names_fills_no_memory() -> None:
    """No more than MOST are kept; those that are over make room."""
    alarms = PlcAlarms("press-2")
    many = [condition(f"c{i}") for i in range(MOST + 50)]
    assert len(alarms.observe(report(*many), START)) == MOST
    assert alarms.observe(report(condition("late")), START) == []
    alarms.observe(report(condition("c0", active=False, acked=True)), START)
    assert told(alarms.observe(report(condition("late")), START)) == [("plc.late", "unacknowledged")]


@given(st.text(max_size=200), st.text(max_size=200))
def test_ids_are_levels_of_a_topic_and_differ(one: str, other: str) -> None:
    """No wildcard, slash or control character; different names keep different ids."""
    assert re.fullmatch(r"plc\.[A-Za-z0-9_.-]*", condition_id(one))
    assert one == other or condition_id(one) != condition_id(other)
