"""The figures of benchmarks/health count what they say, and the controls that expose a gamed metric do."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.health.figures import Counts, bootstrap, controls, late, pooled, runs, strict
from benchmarks.health.sim import LEARN_DAYS, Story, played


def flags(text: str) -> np.ndarray:
    return np.array([sign == "#" for sign in text])


def test_rows_are_counted() -> None:
    """F1, FAR and MAR of a case worked out by hand, alone and pooled with another."""
    one = Counts.of(flags("..##.#"), flags("..###."))
    assert (one.hit, one.wrong, one.missed, one.quiet) == (2, 1, 1, 2)
    assert one.f1 == pytest.approx(2 / 3)
    assert one.far == pytest.approx(100 / 3)
    assert one.mar == pytest.approx(100 / 3)
    both = pooled([one, Counts.of(flags("####"), flags("...."))])
    assert both.far == pytest.approx(100 * 5 / 7)
    assert runs(flags(".##..#")) == [(1, 2), (5, 5)]


def test_an_alert_counts_where_it_starts() -> None:
    """Inside an event it is a find, elsewhere a false alert, and under 30 s neither."""
    seconds = np.arange(400.0)
    truth = (seconds >= 200) & (seconds < 300)
    for first, last, found, false in ((210, 250, 1, 0), (190, 250, 0, 1), (210, 230, 0, 0), (310, 399, 0, 1)):
        alert = (seconds >= first) & (seconds < last)
        events = strict(seconds, alert, truth)
        assert (events.events, events.found, events.false) == (1, found, false), (first, last)
    events = strict(seconds, (seconds >= 230) & (seconds < 280), truth)
    assert events.median_latency == 30
    assert events.normal_hours == pytest.approx(299 / 3600)


def test_controls_expose_what_can_be_gamed() -> None:
    """Always on has no miss, the clock a fine F1, the metronome a start in every event and many outside."""
    truth = np.zeros(750, dtype=bool)
    truth[180:560] = True
    blind = dict(controls(len(truth), 400))
    assert Counts.of(blind["control: always on"], truth).mar == 0
    assert Counts.of(next(v for name, v in blind.items() if "clock" in name), truth).f1 > 0.9
    beats = next(v for name, v in blind.items() if "metronome" in name)
    events = strict(np.arange(750.0), beats, truth)
    assert events.found == 1
    assert events.false >= 5
    assert Counts.of(late(truth, 60), truth).f1 < 0.9


def test_intervals_hold_the_figure() -> None:
    """Drawn over files: the pooled figure lies inside, and more files make them narrower."""
    random = np.random.default_rng(1)
    files = [Counts.of(random.random(200) < 0.6, random.random(200) < 0.5) for _ in range(30)]
    few, many = bootstrap(files[:6]), bootstrap(files)
    assert many["f1"][0] <= pooled(files).f1 <= many["f1"][1]
    assert many["f1"][1] - many["f1"][0] < few["f1"][1] - few["f1"][0]


def test_without_data_it_says_so_and_succeeds() -> None:
    """Recorded data is never part of the project."""
    environment = {key: value for key, value in os.environ.items() if key != "EDGE_AGENT_DATASETS"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.health", "--set", "skab,nab,femto,ims", "--json"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.strip() == "{}"
    assert done.stderr.count("skipped") == 4


def test_a_simulated_machine_breaks_and_is_alerted_before() -> None:
    """The story of the benchmark has its truth: onset, breakdown and tags; the alert lies between."""
    story = Story("press", 1009, 10.0, fault="seal_leak", onset=6.0, breakdown=9.0)
    done = played(story, 300.0)
    rows_a_day = 86_400 / 300
    assert done.onset == pytest.approx(6 * rows_a_day, abs=2)
    assert done.onset is not None
    assert done.breakdown is not None
    assert len(done.outcome.recording.times) == done.breakdown <= 9.5 * rows_a_day
    assert "hold_decay" in done.tags
    first = done.outcome.openings[0]
    assert done.onset < first.raised < done.breakdown
    assert next(iter(first.alert.contributions)) in done.tags


@pytest.mark.parametrize("kind", ["pump", "press"])
def test_a_healthy_machine_week_stays_quiet(kind: str) -> None:
    """Products, starts, a hot day: no alert in the week after five days of learning."""
    done = played(Story(kind, 103 if kind == "press" else 102, LEARN_DAYS + 7), 120.0)
    assert done.onset is None
    assert [opening.alert.message for opening in done.outcome.openings] == []
