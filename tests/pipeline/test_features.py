"""Rows for the health model from scans that come at different rates."""

from __future__ import annotations

import math

from edge_agent.clock import SECOND
from edge_agent.contracts.plugs import Column
from edge_agent.pipeline.features import FeatureRows, Latest
from edge_agent.types import Reason, SampleBatch, bad

COLUMNS = (Column("a"), Column("b"))


def batch(seconds: float, **values: float | None) -> SampleBatch:
    statuses = {i: bad(Reason.TIMEOUT) for i, value in enumerate(values.values()) if value is None}
    return SampleBatch("m", tuple(values), int(seconds * SECOND), list(values.values()), statuses)


def test_fast_scans_are_averaged_into_a_row_a_second() -> None:
    """Four scans a second become one row with their mean."""
    rows = FeatureRows(COLUMNS, period=0.25, hold=3)
    rows.take(batch(100.0, a=0.0, b=0.0), True)
    taken = [rows.take(batch(100.25 + i / 4, a=float(i), b=1.0), True) for i in range(4)]
    made = [row for row in taken if row is not None]
    assert len(made) == 1
    assert made[0].values == (1.5, 1.0)


def test_a_slow_tag_is_held_and_then_missing() -> None:
    """A value is used until it is older than the hold time, then it is NaN and not made up."""
    rows = FeatureRows(COLUMNS, period=1, hold=3)
    first = rows.take(batch(100, a=1.0, b=7.0), True)
    later = [rows.take(batch(100 + i, a=1.0), True) for i in range(1, 6)]
    assert first is not None
    held = [row.values[1] for row in later if row is not None]
    assert held[:3] == [7.0, 7.0, 7.0]
    assert all(math.isnan(value) for value in held[3:])


def test_a_bad_tag_is_missing_at_once() -> None:
    """What came before a tag went bad says nothing about now."""
    rows = FeatureRows(COLUMNS, period=1, hold=100)
    rows.take(batch(100, a=1.0, b=7.0), True)
    row = rows.take(batch(101, a=1.0, b=None), True)
    assert row is not None
    assert math.isnan(row.values[1])


def test_running_is_three_valued() -> None:
    """Unknown is -1, not off."""
    rows = FeatureRows(COLUMNS, period=1, hold=3)
    states = [rows.take(batch(100 + i, a=1.0, b=1.0), state) for i, state in enumerate((True, False, None))]
    assert [row.running for row in states if row is not None] == [1, 0, -1]


def test_latest_keeps_the_newest_value_of_every_tag() -> None:
    """Expressions see the newest value, and None where it is bad."""
    latest = Latest()
    latest.take(batch(1, a=1.0, b=2.0))
    latest.take(batch(2, b=None))
    assert latest.values == {"a": 1.0, "b": None}
