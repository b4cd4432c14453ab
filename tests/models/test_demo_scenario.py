"""The demo's three weeks: the pump is caught days before it breaks, the press is left in peace."""

from __future__ import annotations

import pytest

from edge_agent.types import HealthState
from tests.models.demo_report import DAY, Outcome, play

ONSET, BREAKDOWN = 9.0, 19.5


@pytest.fixture(scope="module", params=[5])
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """The demo played once with one seed."""
    return play(request.param)


def test_the_pump_is_caught_days_before_it_breaks(outcome: Outcome) -> None:
    """Not before the onset; then for good, with a tag of the bearing in front, at least five days ahead."""
    lasting = outcome.lasting("pump-1")
    assert lasting
    assert min(lasting) > ONSET
    assert min(lasting) < BREAKDOWN - 5
    last = [day for day in lasting if day < BREAKDOWN - 0.1]
    assert max(last) > BREAKDOWN - 0.5
    first = next(s for s in outcome.scores["pump-1"] if (s.time - outcome.start) / DAY >= min(lasting))
    assert next(iter(first.contributions)).startswith("bearing_")
    assert (first.first_mover or "").startswith("bearing_")


def test_the_press_is_left_in_peace_and_its_sensor_is_named(outcome: Outcome) -> None:
    """A hot Monday and a stuck sensor are no fault of the machine, and the sensor is named."""
    assert outcome.lasting("press-2") == []
    named = [s for s in outcome.scores["press-2"] if s.faults]
    assert {tag for s in named for tag in s.faults} == {"case_drain_flow"}
    assert (named[0].time - outcome.start) / DAY < 12.5
    assert any(s.state is HealthState.UNKNOWN_REGIME for s in outcome.scores["press-2"])
