"""Rows for the health model from scans that come at different rates."""

from __future__ import annotations

import math

from edge_agent.clock import SECOND
from edge_agent.contracts.plugs import Column
from edge_agent.pipeline.features import FeatureRows, Latest, Row
from edge_agent.types import Reason, SampleBatch, bad

COLUMNS = (Column("a"), Column("b"))


def batch(seconds: float, **values: float | None) -> SampleBatch:
    statuses = {i: bad(Reason.TIMEOUT) for i, value in enumerate(values.values()) if value is None}
    return SampleBatch("m", tuple(values), int(seconds * SECOND), list(values.values()), statuses)


def rows_of(rows: FeatureRows, *batches: SampleBatch) -> list[Row]:
    """The rows that some batches close; a last batch far in the future closes what is still open."""
    made = [rows.take(one, True) for one in (*batches, batch(10**6, z=0.0))]
    return [row for row in made if row is not None]


def test_fast_scans_are_averaged_into_a_row_a_second() -> None:
    """Four scans a second become one row with their mean."""
    rows = FeatureRows(COLUMNS, period=0.25, hold=3)
    scans = [batch(100.0, a=9.0, b=9.0), *(batch(100.25 + i / 4, a=float(i), b=1.0) for i in range(4))]
    assert [row.values for row in rows_of(rows, *scans)] == [(9.0, 9.0), (1.5, 1.0)]


def test_a_slow_tag_is_held_and_then_missing() -> None:
    """A value is used until it is older than the hold time, then it is NaN and not made up."""
    rows = FeatureRows(COLUMNS, period=1, hold=3)
    made = rows_of(rows, batch(100, a=1.0, b=7.0), *(batch(100 + i, a=1.0) for i in range(1, 6)))
    held = [row.values[1] for row in made]
    assert held[:4] == [7.0, 7.0, 7.0, 7.0]
    assert all(math.isnan(value) for value in held[4:])


def test_a_bad_tag_is_missing_at_once() -> None:
    """What came before a tag went bad says nothing about now."""
    rows = FeatureRows(COLUMNS, period=1, hold=100)
    made = rows_of(rows, batch(100, a=1.0, b=7.0), batch(101, a=1.0, b=None))
    assert math.isnan(made[1].values[1])


def test_an_instant_that_comes_in_two_parts_is_one_row() -> None:
    """A server's notifications may split what changed at once: no row mixes the old and the new instant."""
    rows = FeatureRows(COLUMNS, period=1, hold=100)
    made = rows_of(
        rows, batch(100, a=1.0, b=1.0), batch(105, a=2.0), batch(105, b=2.0), batch(110, a=3.0, b=3.0)
    )
    assert [row.values for row in made] == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
    assert [row.time // SECOND for row in made] == [100, 105, 110]


def test_running_is_three_valued() -> None:
    """Unknown is -1, not off; a row has the state of its own instant."""
    rows = FeatureRows(COLUMNS, period=1, hold=3)
    states = [
        rows.take(batch(100 + i, a=1.0, b=1.0), state) for i, state in enumerate((True, False, None, True))
    ]
    assert [row.running for row in states if row is not None] == [1, 0, -1]


def test_latest_keeps_the_newest_value_of_every_tag() -> None:
    """Expressions see the newest value, and None where it is bad."""
    latest = Latest()
    latest.take(batch(1, a=1.0, b=2.0))
    latest.take(batch(2, b=None))
    assert latest.values == {"a": 1.0, "b": None}
