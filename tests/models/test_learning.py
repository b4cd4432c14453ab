"""When learning ends, what it takes in, and what happens where it cannot end."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edge_agent.contracts.plugs import Column
from edge_agent.errors import ModelError
from edge_agent.types import HealthState
from edge_agent_models.course import MIN_ROWS, Phase
from edge_agent_models.ensemble import EnsembleDetector
from edge_agent_models.lesson import CHUNK, Lesson
from tests.models.plant import COLUMNS, feed, machine, settings, values


def test_learning_ends_by_time_then_provisional_then_established() -> None:
    """`learn` of running time, half as much provisional with limits twice as wide, then normal."""
    rows = machine(1200)
    detector = EnsembleDetector(COLUMNS, settings(learn="8h"))
    scores = feed(detector, rows)
    states = [score.state for score in scores]
    assert 480 <= states.index(HealthState.PROVISIONAL) <= 482
    assert 720 <= states.index(HealthState.NORMAL) <= 722
    assert detector.phase is Phase.ESTABLISHED
    progress = [score.progress for score in scores]
    assert progress == sorted(progress)
    assert progress[0] < 0.01
    assert progress[-1] == 1.0
    assert "of 8 h of running machine" in scores[100].note
    assert np.nanmedian(values(scores[481:720])) < 0.7 * np.nanmedian(values(scores[730:]))


def test_few_rows_are_not_enough_however_long_they_took() -> None:
    """Rows a quarter of an hour apart need more than `learn` to make a baseline, and the note says so."""
    rows = machine(400, period=900)
    scores = feed(EnsembleDetector(COLUMNS, settings(learn="10h")), rows)
    assert scores[100].state is HealthState.LEARNING
    assert f"of at least {MIN_ROWS} rows" in scores[100].note
    assert scores[MIN_ROWS + 1].state is not HealthState.LEARNING


def test_time_standing_still_or_away_does_not_count() -> None:
    """Learning counts running rows; not a stop, a hole in the rows, nor the hour after it."""
    rows = machine(900)
    rows.running[100:400] = 0
    rows.times[500:] += 40 * 3_600_000_000_000
    detector = EnsembleDetector(COLUMNS, settings(learn="8h"))
    states = [score.state for score in feed(detector, rows)]
    assert states[399] is HealthState.PAUSED
    assert 835 < states.index(HealthState.PROVISIONAL) < 850


def test_unknown_is_not_off_but_not_learned_from_either() -> None:
    """With `running_when`, rows that may or may not be running wait; without it every row counts."""
    rows = machine(300)
    rows.running[:] = -1
    unsure = EnsembleDetector(COLUMNS, settings(learn="4h", running_when="speed > 5"))
    assert {score.state for score in feed(unsure, rows)} == {HealthState.LEARNING}
    assert unsure.phase is Phase.LEARNING
    plain = EnsembleDetector(COLUMNS, settings(learn="4h"))
    feed(plain, rows)
    assert plain.phase is Phase.PROVISIONAL


def test_unknown_rows_are_judged() -> None:
    """A fault is seen also while nobody knows whether the machine runs."""
    rows = machine(700).add("vibration", 0.8, 600)
    rows.running[500:] = -1
    detector = EnsembleDetector(COLUMNS, settings(running_when="speed > 5"))
    feed(detector, rows.part(0, 450))
    detector.finish_learning()
    assert feed(detector, rows.part(450, 700))[-1].state is HealthState.ANOMALOUS


def test_a_machine_that_does_not_move_is_learned_on() -> None:
    """Where nothing can be learned the detector says why and goes on, and starts once there is something."""
    rows = machine(900)
    rows.rows[:300, :6] = 7.0
    detector = EnsembleDetector(COLUMNS, settings(learn="4h"))
    scores = feed(detector, rows)
    assert "no tag moved" in scores[245].note
    assert scores[245].state is HealthState.LEARNING
    assert detector.phase is not Phase.LEARNING


def test_learning_can_be_ended_by_hand() -> None:
    """`finish_learning` makes a baseline of the rows there are, established or provisional, once."""
    detector = EnsembleDetector(COLUMNS, settings())
    with pytest.raises(ModelError, match="0 rows"):
        detector.finish_learning()
    feed(detector, machine(300))
    detector.finish_learning(provisional=True)
    assert detector.phase is Phase.PROVISIONAL
    with pytest.raises(ModelError, match="over already"):
        detector.finish_learning()


def test_judging_begins_with_the_next_row() -> None:
    """After the forced end of learning no row is lost to filling windows."""
    detector = EnsembleDetector(COLUMNS, settings())
    rows = machine(320)
    feed(detector, rows.part(0, 300))
    detector.finish_learning()
    assert not np.isnan(values(feed(detector, rows.part(300, 320)))).any()


def test_a_lesson_covers_all_of_the_time_in_bounded_memory() -> None:
    """When full, chunks are thinned over the whole time; rows of one chunk stay neighbours."""
    lesson = Lesson(1, 1, capacity=8 * CHUNK)
    for index in range(50 * CHUNK):
        lesson.take(np.array([float(index)]), np.zeros(1), np.inf)
    kept = lesson.values[: lesson.size, 0]
    assert lesson.size <= 8 * CHUNK
    assert kept[0] == 0
    assert kept[-1] > 0.8 * 50 * CHUNK
    assert np.diff(kept).max() <= 16 * CHUNK
    segments = lesson.segments[: lesson.size]
    neighbours = np.diff(segments) == 0
    np.testing.assert_array_equal(np.diff(kept)[neighbours], 1.0)
    assert neighbours.sum() >= lesson.size - lesson.size / CHUNK - 1


def test_learning_is_quick() -> None:
    """2000 rows of 10 tags are fitted in well under a second, on a busy machine too."""
    random = np.random.default_rng(3)
    rows = random.normal(size=(2000, 12)).cumsum(axis=0) * 0.01 + random.normal(size=(2000, 12))
    columns = [Column(f"t{i}", context=i >= 10) for i in range(12)]
    detector = EnsembleDetector(columns, settings())
    times = np.arange(1, 2001) * 1_000_000_000
    detector.update(times, rows, np.ones(2000, dtype=np.int8))
    started = time.process_time()
    detector.finish_learning()
    assert time.process_time() - started < 1.0


def test_three_hundred_tags_work() -> None:
    """Many tags are slower, not wrong."""
    random = np.random.default_rng(4)
    rows = random.normal(size=(420, 300))
    rows[410:, 17] += 9
    detector = EnsembleDetector([Column(f"t{i}") for i in range(300)], settings())
    times = np.arange(1, 421) * 60_000_000_000
    detector.update(times[:400], rows[:400], np.ones(400, dtype=np.int8))
    detector.finish_learning()
    last = detector.update(times[400:], rows[400:], np.ones(20, dtype=np.int8))[-1]
    assert next(iter(last.contributions)) == "t17"


def test_two_tags_are_enough() -> None:
    """The smallest machine is judged like any other."""
    rows = machine(600).add("vibration", 1.0, 500)
    detector = EnsembleDetector([Column("vibration"), Column("current")], settings())
    two = rows.rows[:, [0, 2]]
    detector.update(rows.times[:400], two[:400], rows.running[:400])
    detector.finish_learning()
    scores = detector.update(rows.times[400:], two[400:], rows.running[400:])
    assert scores[-1].state is HealthState.ANOMALOUS
    assert scores[50].state is HealthState.NORMAL
