"""A broken sensor is named and kept out; it does not look like a broken machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_agent.types import HealthState, Score
from edge_agent_models.ensemble import EnsembleDetector
from tests.models.plant import COLUMNS, Rows, feed, machine, settings, trained

LEARN = 700


def coarse(rows: Rows) -> Rows:
    """The same as cheap instruments show it."""
    steps = np.array([0.01, 0.01, 0.1, 0.1, 0.1, 0.01, 0.01, 0.1])
    return replace(rows, rows=np.round(rows.rows / steps) * steps)


def quiet(scores: list[Score]) -> bool:
    """Whether nothing was held against the machine."""
    return all(score.state is not HealthState.ANOMALOUS for score in scores)


@pytest.mark.parametrize("tag", ["vibration", "winding", "bearing", "current"])
def test_a_stuck_sensor_is_named_and_the_machine_is_not_blamed(tag: str) -> None:
    """The last value to the last digit, while load and heat go on: `stuck`, and no health alert."""
    rows = coarse(machine(1500))
    held = rows.rows[1000, [c.name for c in COLUMNS].index(tag)]
    _, scores = trained(rows.change(tag, np.full(500, held), 1000), LEARN)
    assert scores[-1].faults == {tag: "stuck"}
    assert quiet(scores)
    assert tag not in scores[-1].contributions


def test_a_stuck_sensor_that_moves_again_is_forgiven() -> None:
    """Soon after the values move the tag is judged again."""
    rows = coarse(machine(1500))
    stuck = rows.rows[:, 3].copy()
    stuck[1000:1200] = stuck[1000]
    _, scores = trained(rows.change("winding", stuck[1000:], 1000), LEARN)
    assert scores[480].faults == {"winding": "stuck"}
    assert scores[-1].faults == {}
    assert quiet(scores)


def test_healthy_instruments_are_not_called_stuck() -> None:
    """Coarse steps, and values that a slow instrument repeats, were learned to be so."""
    rows = coarse(machine(1800, period=10))
    slow = np.repeat(rows.rows[::10, 4], 10)
    _, scores = trained(rows.change("bearing", slow, 0), LEARN)
    assert all(not score.faults for score in scores)


def test_a_sensor_that_rests_after_a_real_change_is_not_called_stuck() -> None:
    """A coarse tag that the machine has moved to a new, steady level was measured, not frozen."""
    rows = machine(1200, period=1)
    flow = 32.0 + np.random.default_rng(5).integers(-1, 2, size=1200).astype(np.float64)
    flow[1000:] = 27.0
    _, scores = trained(rows.change("pressure", flow, 0), LEARN)
    assert scores[-1].faults == {}
    assert scores[-1].state is HealthState.ANOMALOUS


def test_values_out_of_range_are_a_sensor_fault() -> None:
    """What the instrument cannot show is masked and named."""
    columns = [replace(COLUMNS[0], range=(0.0, 5.0)), *COLUMNS[1:]]
    rows = machine(900).change("vibration", np.full(100, 400.0), 800)
    detector = EnsembleDetector(columns, settings())
    feed(detector, rows.part(0, LEARN))
    detector.finish_learning()
    scores = feed(detector, rows.part(LEARN, 900))
    assert scores[-1].faults == {"vibration": "out of range"}
    assert quiet(scores)


def test_spikes_of_one_tag_are_a_sensor_fault() -> None:
    """Single wild rows of one tag alone do not raise the score past normal, and are named."""
    rows = machine(1200)
    rows.rows[900:1200:9, 5] += 3.0
    _, scores = trained(rows, LEARN)
    assert scores[-1].faults == {"pressure": "spiking"}
    assert scores[150].faults == {}


def test_a_machine_that_shakes_is_not_called_a_sensor_fault() -> None:
    """Spikes that several tags share come from the machine."""
    rows = machine(1200)
    rows.rows[900:1200:9, 0] += 2.0
    rows.rows[900:1200:9, 1] += 2.0
    _, scores = trained(rows, LEARN)
    assert scores[-1].faults == {}
