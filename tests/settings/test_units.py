"""Durations, sizes and rates as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.units import UnitError, format_duration, parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("1s", 1),
        ("1.5s", 1.5),
        ("5m", 300),
        ("5 min", 300),
        ("4h", 14_400),
        ("2w", 1_209_600),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """A number with its unit, a space between them or not."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "count"), [("64MiB", 64 * 2**20), ("2GiB", 2**31), ("500MB", 500_000_000)])
def test_sizes(text: str, count: int) -> None:
    """Binary and decimal sizes are told apart."""
    assert parse_size(text) == count


@pytest.mark.parametrize(("text", "a_year"), [("1 per quarter", 4), ("2 per day", 730.5), ("1 per year", 1)])
def test_rates(text: str, a_year: float) -> None:
    """N per span, in events a day."""
    assert parse_rate(text) * 365.25 == pytest.approx(a_year)


@pytest.mark.parametrize(
    ("parse", "text", "hint"),
    [
        (parse_duration, "5 seconds", "write 5s"),
        (parse_duration, "2hrs", "write 2h"),
        (parse_duration, "1GiB", "write a number with its unit: 250ms, 1s, 5m, 4h, 7d"),
        (parse_size, "2G", "write 2GiB"),
        (parse_size, "64mb", "write 64MiB"),
        (parse_rate, "4/year", "write N per day, week, month, quarter or year: 1 per quarter"),
    ],
)
def test_what_was_meant(parse: object, text: str, hint: str) -> None:
    """What cannot be read comes with how it is written."""
    assert callable(parse)
    with pytest.raises(UnitError) as caught:
        parse(text)
    assert caught.value.hint == hint


@given(st.integers(1, 10_000_000))
def test_formatted_durations_read_back(milliseconds: int) -> None:
    """What is written for a duration means that duration."""
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(
        milliseconds / 1000, rel=1e-4
    )
