"""A fault is found and explained; heat, load, stops, gaps and new regimes are not taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.types import HealthState
from tests.models.plant import Rows, machine, trained, values

LEARN = 700


@pytest.mark.parametrize("seed", range(1, 3))
def test_a_healthy_machine_is_quiet(seed: int) -> None:
    """Nine days after three of learning: never three rows outside normal."""
    _, scores = trained(machine(3000, period=360, seed=seed), LEARN)
    outside = values(scores) > 1
    assert not (outside[2:] & outside[1:-1] & outside[:-2]).any()


@pytest.mark.parametrize("period", [1.0, 60.0, 840.0])
def test_a_fault_is_found_and_explained(period: float) -> None:
    """At any rate of rows: anomalous within minutes of rows, the right tag, its band, and who moved first."""
    rows = machine(1200, period=period).add("vibration", np.minimum(0.6, np.arange(200) * 0.03), 1000)
    _, scores = trained(rows, LEARN)
    last = scores[-1]
    assert last.state is HealthState.ANOMALOUS
    assert last.first_mover == "vibration"
    assert next(iter(last.contributions)) == "vibration"
    assert sum(last.contributions.values()) == pytest.approx(1.0)
    band = last.bands["vibration"]
    assert band.low < band.high < band.value
    assert band.value == pytest.approx(rows.rows[-10:, 0].mean(), abs=0.35)
    assert all(score.state is not HealthState.ANOMALOUS for score in scores[:300])


def test_a_broken_correlation_is_found() -> None:
    """Two tags that each stay within their band, but no longer together, are a fault."""
    rows = machine(1600)
    alone = machine(1600, seed=99).rows[1100:, 1]
    _, scores = trained(rows.change("acceleration", alone[::-1], 1100), LEARN)
    found = values(scores)
    assert np.nanmedian(found[420:]) > 1.3 * np.nanmedian(found[:390])


def test_a_hot_hall_is_no_fault_and_lost_cooling_is() -> None:
    """Ten degrees more in the hall move the winding as far as a bad fan does; only the fan is a fault."""
    _, hot = trained(machine(1500, ambient_peak=8.0), LEARN)
    assert all(score.state is not HealthState.ANOMALOUS for score in hot)
    strange = [score for score in hot if score.state is HealthState.UNKNOWN_REGIME]
    assert len(strange) > 250
    assert "ambient outside what was learned" in strange[-1].note
    _, blocked = trained(machine(1500, cooling=1.35), LEARN)
    assert blocked[-1].state is HealthState.ANOMALOUS
    assert next(iter(blocked[-1].contributions)) == "winding"


def test_a_slow_creep_of_one_tag_is_not_absorbed() -> None:
    """What rises by little a day and moves nothing else is found in the end, and stays found."""
    rows = machine(2500, period=360)
    creep = np.linspace(0, 0.6, 1500)
    _, scores = trained(rows.add("pressure", creep, 1000), LEARN)
    outside = np.flatnonzero(values(scores) > 1)
    assert outside.size
    assert (values(scores)[-300:] > 0.6).all()
    assert scores[-1].first_mover == "pressure"


def test_nothing_is_said_while_the_machine_stands() -> None:
    """A stop pauses; after it windows fill anew, and what they held before is forgotten."""
    rows = machine(900)
    rows.running[800:830] = 0
    rows.rows[800:830, :6] = 0.0
    _, scores = trained(rows, LEARN, running_when="on")
    states = [score.state for score in scores]
    assert set(states[100:130]) == {HealthState.PAUSED}
    assert np.isnan(values(scores[100:130])).all()
    assert states[131] is HealthState.PAUSED
    assert HealthState.ANOMALOUS not in states
    assert states[-1] is HealthState.NORMAL


def test_a_gap_starts_the_windows_anew() -> None:
    """After hours away nothing is judged until context is known and windows are whole again."""
    rows = machine(1200)
    there = np.r_[0:800, 1000:1200]
    _, scores = trained(Rows(rows.times[there], rows.rows[there], rows.running[there]), LEARN)
    assert {score.state for score in scores[100:160]} == {HealthState.PAUSED}
    assert scores[100].note == "after a gap: not judged for another 60 min"
    assert scores[162].note == "gathering rows after a stop or a gap"
    assert {score.state for score in scores[166:]} == {HealthState.NORMAL}


def test_starts_are_learned() -> None:
    """A machine that is cold every morning is not anomalous every morning."""
    rows = machine(3000, period=300)
    day = np.arange(3000) % 144
    rows.running[:] = day >= 48
    cold = 15 * np.exp(-np.maximum(day - 48, 0) * 300 / 1500.0)
    rows.rows[:, 4] -= np.where(day >= 48, cold, 30)
    _, scores = trained(rows, 1500, running_when="on")
    assert not any(score.state is HealthState.ANOMALOUS for score in scores)


def test_missing_values_are_no_evidence() -> None:
    """A tag without values neither alarms nor hides a fault of another."""
    rows = machine(1200).add("vibration", 0.8, 1100)
    rows.rows[900:, 4] = np.nan
    rows.rows[::7, 2] = np.nan
    _, scores = trained(rows, LEARN)
    assert all(score.state is not HealthState.ANOMALOUS for score in scores[:395])
    assert scores[-1].state is HealthState.ANOMALOUS
    assert "bearing" not in scores[-1].contributions


def test_a_context_that_never_moved_is_unknown_ground() -> None:
    """What a load never seen should do to the tags cannot be known: not judged, and said so."""
    rows = machine(900)
    rows.rows[:, 6] = 1.0
    rows.rows[850:, 6] = 0.5
    _, scores = trained(rows, LEARN)
    assert scores[-1].state is HealthState.UNKNOWN_REGIME
    assert np.isnan(scores[-1].value)
    assert "load never moved while learning" in scores[-1].note


def test_absurd_numbers_are_taken_for_missing() -> None:
    """Infinity and 1e300 are no readings."""
    rows = machine(900)
    rows.rows[800, 0], rows.rows[801, 1], rows.rows[802, 6] = np.inf, 1e300, -np.inf
    _, scores = trained(rows, LEARN)
    assert np.isfinite(values(scores[100:])).all()
    assert all(score.state is not HealthState.ANOMALOUS for score in scores)
