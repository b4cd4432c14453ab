"""Timestamps that strictly increase, whatever is done to the clock."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import SECOND, SET_BACK, Clock, Stamp

START = 1_795_000_000 * SECOND


class Moved(Clock):
    """A clock moved by hand: its time, and the time that really passed."""

    def __init__(self) -> None:
        self.time = START
        self.passed = 0

    def now(self) -> int:
        return self.time

    def elapsed(self) -> int:
        return self.passed

    def wait(self, seconds: float) -> None:
        self.time += round(seconds * SECOND)
        self.passed += round(seconds * SECOND)


def test_a_clock_set_back_an_hour_stops_no_delay() -> None:
    """Time goes on at half speed, never back, and is the clock's own again two hours later."""
    clock = Moved()
    stamp = Stamp(clock)
    before = stamp.next()
    clock.time -= 3600 * SECOND
    clock.wait(10)
    assert stamp.next() == before + 5 * SECOND
    clock.wait(7190)
    assert stamp.next() == before + 3600 * SECOND == clock.time
    clock.wait(1)
    assert stamp.next() == clock.time


def test_a_clock_that_was_years_ahead_is_not_believed_for_years() -> None:
    """Ten years forward and back again: the stamps follow, so that nothing hides in the future."""
    clock = Moved()
    stamp = Stamp(clock)
    clock.time += 10 * 365 * 86_400 * SECOND
    stamp.next()
    clock.time -= 10 * 365 * 86_400 * SECOND
    assert stamp.next() == clock.time


@given(st.lists(st.tuples(st.integers(-SET_BACK, 10**6), st.floats(0, 100)), min_size=1, max_size=50))
def test_stamps_strictly_increase_under_any_small_steps(moves: list[tuple[int, float]]) -> None:
    """Steps back of up to two hours, forward of any size: no two stamps alike, none before another."""
    clock = Moved()
    stamp = Stamp(clock)
    stamps = [stamp.next()]
    for step, seconds in moves:
        behind = max(0, stamps[-1] - clock.time)
        clock.time += max(step * SECOND, behind - SET_BACK * SECOND)
        clock.wait(seconds)
        stamps.append(stamp.next())
    assert all(one < other for one, other in pairwise(stamps))
