"""How fast a counter grows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import SECOND
from edge_agent_drivers.counters import CounterRate, rate_unit


@given(
    st.integers(2, 2**32),
    st.integers(0, 2**32),
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 10**12)), min_size=1, max_size=30),
)
def test_over_any_number_of_rollovers_the_rate_is_the_true_one(
    modulus: int, start: int, steps: list[tuple[float, int]]
) -> None:
    """Where no step is over half of the modulus, each rate is what was really added."""
    rate, total, at = CounterRate(60.0, modulus), start, 0
    assert rate.take(total % modulus, at) is None
    for share, elapsed in steps:
        step = int(share * modulus)
        total, at = total + step, at + elapsed
        assert rate.take(total % modulus, at) == pytest.approx(step * 60 * SECOND / elapsed)
    assert rate.resets == 0


@given(st.lists(st.none() | st.integers(0, 1000), max_size=40), st.none() | st.integers(2, 1200))
def test_a_rate_is_never_negative_and_never_made_up(values: list[int | None], modulus: int | None) -> None:
    """Whatever a counter shows, a rate comes only between two values, and is not below zero."""
    rate = CounterRate(1.0, modulus)
    before = None
    for at, value in enumerate(values, start=1):
        grown = rate.take(value, at * SECOND)
        assert grown is None or (before is not None and value is not None and grown >= 0)
        before = value


def test_without_time_between_two_values_there_is_no_rate() -> None:
    """Two values of one instant, or out of order, give none instead of an infinite one."""
    rate = CounterRate(1.0)
    assert [rate.take(5, SECOND), rate.take(6, SECOND), rate.take(7, 0)] == [None, None, None]


@pytest.mark.parametrize(
    ("unit", "per", "expected"),
    [
        ("kWh", 3600.0, "kW"),
        ("kWh", 60.0, "kWh/min"),
        ("m³", 3600.0, "m³/h"),
        ("pcs", 1.0, "pcs/s"),
        ("pcs", 900.0, "pcs/15m"),
        (None, 3600.0, None),
    ],
)
def test_a_rate_has_a_unit(unit: str | None, per: float, expected: str | None) -> None:
    """Energy in an hour is power; anything else is said per time."""
    assert rate_unit(unit, per) == expected
