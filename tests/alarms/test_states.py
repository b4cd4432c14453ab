"""The state machine of a condition: every transition, every delay."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.alarms.states import RAISED, TRANSITIONS, Condition, Delays, Input, step
from edge_agent.clock import SECOND
from edge_agent.types import AlarmKind, AlarmPriority, AlarmState, Alert

S = AlarmState

# Written out again, as a table for people: rows are states, columns what happens, "." changes nothing.
TABLE = """
                         raise           resume          return                   acknowledge   suppress                 release
normal                   unacknowledged  acknowledged    .                        .             suppressed               .
unacknowledged           .               .               returned_unacknowledged  acknowledged  returned_unacknowledged  .
acknowledged             unacknowledged  .               normal                   .             suppressed               .
returned_unacknowledged  unacknowledged  unacknowledged  .                        normal        .                        .
suppressed               .               .               .                        .             .                        normal
"""  # noqa: E501
HEAD, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
CASES = [
    (row[0], happened, row[0] if after == "." else after)
    for row in ROWS
    for happened, after in zip(HEAD, row[1:], strict=True)
]


@pytest.mark.parametrize(("before", "happened", "after"), CASES)
def test_every_input_in_every_state_does_what_the_table_says(before: str, happened: str, after: str) -> None:
    """The transitions are exactly those of the table."""
    assert step(S(before), Input(happened)) is S(after)


def test_states_of_later_issues_take_no_part() -> None:
    """No transition leads to shelved, out of service or latched yet."""
    later = {S.SHELVED, S.OUT_OF_SERVICE, S.LATCHED}
    assert not later & {*TRANSITIONS.values(), *(state for state, _ in TRANSITIONS)}


def state_of(condition: Condition) -> AlarmState:
    return condition.state


def at(seconds: float) -> int:
    return round(seconds * SECOND)


def test_raises_only_after_the_on_delay_without_a_break() -> None:
    """A condition that goes away within its on-delay is never raised, and starts from zero."""
    condition = Condition(Delays.seconds(on=30))
    looks = [(0, True), (20, True), (25, False), (26, True), (55, True)]
    assert not any(condition.observe(holds, at(t)) for t, holds in looks)
    assert condition.observe(True, at(56))
    assert (condition.state, condition.occurrence) == (S.UNACKNOWLEDGED, 1)
    assert (condition.since, condition.raised_at) == (at(26), at(56))


def test_returns_only_after_the_off_delay() -> None:
    """One look back into trouble starts the off-delay again."""
    condition = Condition(Delays.seconds(off=10))
    assert condition.observe(True, at(0))
    assert not condition.observe(False, at(1))
    assert not condition.observe(True, at(5))
    assert not condition.observe(False, at(6))
    assert not condition.observe(False, at(15))
    assert condition.observe(False, at(16))
    assert (condition.state, condition.cleared_at) == (S.RETURNED_UNACKNOWLEDGED, at(16))


def test_time_without_a_value_counts_for_nothing() -> None:
    """Ten minutes of bad values do not use up an on-delay of 30 s."""
    condition = Condition(Delays.seconds(on=30))
    for t, holds in [(0, True), (10, True), (11, None), (600, None), (611, True), (629, True)]:
        assert not condition.observe(holds, at(t)), t
    assert condition.observe(True, at(630))


def test_a_clock_that_steps_back_starts_the_delay_again() -> None:
    """A condition is neither raised at once nor stuck until the old time comes round."""
    condition = Condition(Delays.seconds(on=30))
    assert not condition.observe(True, at(1_000_000))
    assert not condition.observe(True, at(5))
    assert not condition.observe(True, at(34))
    assert condition.observe(True, at(35))


def test_rows_and_time_must_both_be_met() -> None:
    """Three rows within a second are not 30 s, and 30 s of one row are not three rows."""
    fast, slow = (Condition(Delays.seconds(on=30, on_rows=3)) for _ in range(2))
    assert not any(fast.observe(True, at(t / 4)) for t in range(119))
    assert fast.observe(True, at(30))
    assert not slow.observe(True, at(0))
    assert not slow.observe(True, at(60))
    assert slow.observe(True, at(120))


def test_suppression_hides_nothing_nobody_has_seen() -> None:
    """An unacknowledged occurrence is returned, and only its acknowledgement lets it be suppressed."""
    condition = Condition()
    condition.observe(True, at(1))
    assert condition.observe(True, at(2), allowed=False)
    assert (condition.state, condition.cleared_at) == (S.RETURNED_UNACKNOWLEDGED, at(2))
    assert not condition.observe(True, at(3), allowed=False)
    assert condition.acknowledge()
    assert condition.observe(True, at(4), allowed=False)
    assert state_of(condition) is S.SUPPRESSED
    assert not condition.observe(True, at(5), allowed=None), "unknown keeps it suppressed"
    assert condition.observe(None, at(6)), "and released by a known true, whatever the value"
    assert state_of(condition) is S.NORMAL


def test_a_suppressed_condition_starts_its_delay_when_it_is_released() -> None:
    """The time before `active_when` came true does not count towards the on-delay."""
    condition = Condition(Delays.seconds(on=30))
    for t in range(100):
        condition.observe(True, at(t), allowed=False)
    assert condition.observe(True, at(100)), "released"
    assert not condition.observe(True, at(129))
    assert condition.observe(True, at(130))
    assert condition.since == at(100)


def test_what_comes_back_soon_is_the_same_occurrence() -> None:
    """Within the merge time neither the counter nor raised_at moves; after it both do."""
    condition = Condition(Delays.seconds(merge=60))
    condition.observe(True, at(0))
    condition.observe(False, at(10))
    assert condition.observe(True, at(69))
    assert (condition.occurrence, condition.raised_at, condition.cleared_at) == (1, 0, None)
    condition.observe(False, at(70))
    assert condition.observe(True, at(130))
    assert (condition.occurrence, condition.raised_at) == (2, at(130))


def test_what_was_acknowledged_and_comes_back_soon_stays_acknowledged() -> None:
    """Nobody is called twice for one occurrence, unless it becomes worse."""
    condition = Condition(Delays.seconds(merge=60))
    condition.observe(True, at(0))
    condition.acknowledge()
    condition.observe(False, at(10))
    assert state_of(condition) is S.NORMAL
    condition.observe(True, at(20))
    assert state_of(condition) is S.ACKNOWLEDGED
    assert condition.worsen()
    assert state_of(condition) is S.UNACKNOWLEDGED


def alert_of(condition: Condition) -> Alert:
    return Alert(
        "m", "t.high", AlarmKind.LIMIT, AlarmPriority.LOW, condition.state, condition.occurrence,
        condition.raised_at, condition.cleared_at, "", "", since=condition.since,
    )  # fmt: skip


LOOKS = st.lists(
    st.tuples(
        st.integers(0, 20), st.sampled_from([True, False, None]), st.sampled_from([True, True, False, None]),
        st.booleans(),
    ),
    max_size=60,
)  # fmt: skip


@given(LOOKS, st.integers(0, 30), st.integers(0, 30))
def test_nothing_is_raised_or_returned_without_enough_evidence(
    looks: list[tuple[int, bool | None, bool | None, bool]], on: int, off: int
) -> None:
    """Whatever comes: raised only at a known true look, returned only at a known false or unallowed one."""
    condition = Condition(Delays.seconds(on, off))
    now = 0
    for pause, holds, allowed, seen in looks:
        now += pause
        before, occurrence = condition.state, condition.occurrence
        changed = condition.observe(holds, at(now), allowed)
        assert changed == (condition.state is not before)
        if condition.state in RAISED and before not in RAISED:
            assert holds is True
            assert allowed is True
            assert condition.occurrence == occurrence + 1
            assert condition.since is not None
            assert condition.raised_at - condition.since >= at(on)
        if before in RAISED and condition.state not in RAISED:
            assert allowed is False or holds is False
            assert condition.cleared_at == at(now)
        if allowed is None or (holds is None and before is not S.SUPPRESSED and allowed):
            assert not changed
        if seen:
            condition.acknowledge()
        assert condition.raised == (condition.cleared_at is None and condition.occurrence > 0)


@given(LOOKS)
def test_a_restart_keeps_the_state(looks: list[tuple[int, bool | None, bool | None, bool]]) -> None:
    """Without delays, a condition restored after every look goes the way of one that never stopped."""
    steady, restarted = Condition(), Condition()
    for t, (pause, holds, allowed, seen) in enumerate(looks):
        now = at(t * 20 + pause)
        fresh = Condition()
        fresh.restore(alert_of(restarted))
        restarted = fresh
        assert steady.observe(holds, now, allowed) == restarted.observe(holds, now, allowed)
        if seen:
            steady.acknowledge()
            restarted.acknowledge()
        assert alert_of(steady) == alert_of(restarted)


def test_every_way_through_three_inputs_ends_in_a_known_state() -> None:
    """The machine is closed: no sequence leads out of the states of this version."""
    known = {state for state, _ in TRANSITIONS}
    for path in itertools.product(Input, repeat=3):
        state = S.NORMAL
        for happened in path:
            state = step(state, happened)
        assert state in known
