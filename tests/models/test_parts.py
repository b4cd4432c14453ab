"""The small pieces: windows, limits, drift, covariance, novelty, lags."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent_models.fusion import fuse
from edge_agent_models.innovation import fit_innovation, shrunk_covariance
from edge_agent_models.lags import LAGS, Lags, lagged
from edge_agent_models.limits import budget_factor, own_limit
from edge_agent_models.movers import Movers
from edge_agent_models.novelty import fit_novelty
from edge_agent_models.parity import fit_parity
from edge_agent_models.rhythm import Rhythm, insist_rows, persistence_rows, window_rows
from edge_agent_models.screening import drift_ratio, quantum, steady
from edge_agent_models.settling import fit_settling
from edge_agent_models.windows import Ring, whole_windows, window_means, window_medians
from edge_agent_models.words import learning, listed, span


@pytest.mark.parametrize(
    ("period", "rows"), [(0.1, 47), (0.25, 30), (1, 15), (5, 7), (10, 5), (60, 3), (900, 3), (1e-9, 60)]
)
def test_windows_follow_the_rate(period: float, rows: int) -> None:
    """Fifteen rows at 1 Hz, three where rows are minutes apart."""
    assert window_rows(period) == rows


def test_persistence_has_a_floor_in_rows_and_in_seconds() -> None:
    """Three rows and thirty seconds, whichever is longer; the level alone must insist for longer."""
    assert [persistence_rows(p) for p in (1, 5, 60, 900)] == [30, 6, 3, 3]
    assert [insist_rows(p) for p in (0.01, 1, 60)] == [3000, 300, 30]


def test_the_rhythm_is_learned_and_gaps_stand_out() -> None:
    """Jitter is no gap, ten periods are; time that does not move on is no step."""
    rhythm, time = Rhythm(), 1_000_000_000_000
    random = np.random.default_rng(1)
    for step in random.normal(60, 12, size=200):
        time += int(step * 1e9)
        assert not rhythm.gap(rhythm.step(time) or 0.0)
    assert rhythm.period == pytest.approx(60, rel=0.1)
    assert rhythm.step(time) is None
    assert rhythm.gap(rhythm.step(time + 600_000_000_000) or 0.0)


def test_a_ring_agrees_with_whole_windows() -> None:
    """Streaming means and medians are those of the batch, which learning uses."""
    rows = np.random.default_rng(2).normal(size=(50, 3))
    segments = np.repeat([0, 1], 25)
    ends = whole_windows(segments, 5)
    assert list(ends) == [*range(4, 25), *range(29, 50)]
    means, ring, streamed = window_means(rows, ends, 5), Ring(5, 3), []
    for index, row in enumerate(rows):
        if index == 25:
            ring.clear()
        ring.push(row)
        if ring.full:
            streamed.append((ring.mean(), ring.median()))
    np.testing.assert_allclose([mean for mean, _ in streamed], means)
    np.testing.assert_allclose([middle[1] for _, middle in streamed], window_medians(rows[:, 1], ends, 5))


def test_a_mean_over_few_values_is_drawn_in_and_over_none_is_missing() -> None:
    """Missing values make a tag look less unusual, never more."""
    ring = Ring(4, 2)
    for value in (2.0, np.nan, 2.0, np.nan):
        ring.push(np.array([value, np.nan]))
    assert ring.mean()[0] == pytest.approx(2.0 * np.sqrt(0.5))
    assert np.isnan(ring.mean()[1])
    assert list(ring.recent(2)[:, 0])[1] == 2.0


def test_drift_is_told_from_noise_whatever_the_number_of_rows() -> None:
    """A tag that wanders over the time is left out, one with noise or daily waves is kept."""
    random = np.random.default_rng(3)
    noise, trend = random.normal(size=400), np.linspace(0, 40, 400)
    assert steady(np.column_stack([noise + trend, noise - trend]), np.ones(2, dtype=bool)).all()
    for count in (400, 4000):
        noise, trend = random.normal(size=count), np.linspace(0, 40, count)
        rows = np.column_stack([noise, noise + trend, np.sin(np.arange(count) / count * 150)])
        assert list(drift_ratio(rows) < 1.13) == [True, False, True]
        assert list(steady(rows, np.ones(3, dtype=bool))) == [True, False, True]


def test_quantum_is_the_smallest_step() -> None:
    """The resolution of an instrument is seen in its values."""
    values = np.array([[1.0, 5.0], [1.1, 5.0], [1.5, 5.0], [np.nan, 5.0]])
    np.testing.assert_allclose(quantum(values), [0.1, 0.0])


def test_the_covariance_is_shrunk_as_ledoit_and_wolf_say() -> None:
    """Little shrinkage with many rows, much with few; always invertible."""
    random = np.random.default_rng(4)
    true = np.array([[2.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 0.5]])
    many = random.multivariate_normal(np.zeros(3), true, size=20_000)
    np.testing.assert_allclose(shrunk_covariance(many), true, atol=0.06)
    few = random.normal(size=(6, 20))
    assert np.linalg.cond(shrunk_covariance(few)) < 100


def test_the_innovation_is_large_where_the_dynamics_change() -> None:
    """A known autoregression scores about 1 a row on itself, and more on white noise of the same size."""
    random = np.random.default_rng(5)
    rows = np.zeros((4000, 2))
    for index in range(1, 4000):
        rows[index] = 0.9 * rows[index - 1] + random.normal(size=2) * 0.44
    model, scores, _ = fit_innovation(rows, np.zeros(4000, dtype=np.int64))
    assert scores.mean() == pytest.approx(1.0, rel=0.1)
    noise = random.normal(size=(200, 2))
    past = [noise[index - 3 : index][::-1] for index in range(3, 200)]
    other = [model.score(noise[index + 3] - model.expect(past[index])) for index in range(197)]
    assert np.mean(other) > 3
    assert model.shares(np.array([3.0, 0.0])) == pytest.approx([1.0, 0.0], abs=0.02)


def test_novelty_is_the_distance_to_what_was_seen() -> None:
    """Between two learned clusters is new, within one is not; the tag that is off has the share."""
    random = np.random.default_rng(6)
    states = random.normal(size=(1000, 2)) * 0.1 + np.repeat([[0.0, 0.0], [5.0, 0.0]], 500, axis=0)
    model, scores = fit_novelty(states, np.arange(1000), 10)
    assert len(model.prototypes) <= 400
    assert scores.max() < 1
    between, shares = model.score(np.array([2.5, 0.0]))
    assert between > 2
    assert shares[0] > 0.9
    assert model.score(np.array([np.nan, np.nan]))[0] == 0.0


def test_parity_predicts_a_tag_from_the_others() -> None:
    """Three tags that move together: each is told by the other two, a missing one says nothing."""
    common = np.random.default_rng(7).normal(size=(1000, 1))
    rows = np.hstack([common, common, common]) + 0.1 * np.random.default_rng(8).normal(size=(1000, 3))
    model = fit_parity(rows)
    assert model.predict(np.array([1.0, 1.0, np.nan]))[2] == pytest.approx(1.0, abs=0.1)
    assert (model.spread < 0.3).all()


def test_lags_follow_uneven_time_exactly() -> None:
    """Half the time constant twice is the time constant once; values held at the edge bend no further."""
    steady_steps, uneven = Lags(1), Lags(1)
    for lags in (steady_steps, uneven):
        lags.step(0.0, np.array([0.0]), 1)
    one = [steady_steps.step(300.0, np.array([1.0]), 0) for _ in range(4)][-1]
    other = [uneven.step(seconds, np.array([1.0]), 0) for seconds in (100.0, 700.0, 400.0)][-1]
    np.testing.assert_allclose(one, other)
    row = lagged(one[None])
    np.testing.assert_allclose(row.linear[0], 1 - np.exp(-1200 / LAGS))
    np.testing.assert_allclose(row.ran[0], np.exp(-1200 / LAGS))
    uneven.bound(np.array([0.0]), np.array([2.0]))
    assert lagged(uneven.step(60.0, np.array([9.0]), 1)[None]).square[0, 0] == 4.0


def test_settling_is_learned_tag_by_tag() -> None:
    """The tag that is off after starts gets wider limits there only; unseen starts are held."""
    random = np.random.default_rng(9)
    since = np.tile(np.arange(0, 30_000, 300.0), 10)
    residuals = random.normal(size=(len(since), 2))
    residuals[since < 1800, 0] *= 5
    model, scale = fit_settling(residuals, since)
    assert scale == pytest.approx([1.0, 1.0], rel=0.1)
    assert model.widen(600.0)[0] == pytest.approx(5.0, rel=0.3)
    assert model.widen(600.0)[1] < 1.3
    assert list(model.widen(np.inf)) == [1.0, 1.0]
    assert model.hold == 0.0
    assert fit_settling(residuals, np.full(len(since), np.inf))[0].hold == 3600.0


def test_a_smaller_budget_of_false_alarms_widens_limits() -> None:
    """Once a century asks for more than once a day, within the bounds of what a tail can tell."""
    scores = 0.45 + 0.12 * np.random.default_rng(10).gumbel(size=4000)
    segments = np.zeros(4000, dtype=np.int64)
    factors = [budget_factor(scores, segments, 60.0, rate) for rate in (1.0, 1 / 90, 1 / 36_500)]
    assert factors == sorted(factors)
    assert factors[0] < factors[2]
    assert factors[0] >= 1.0
    assert factors[2] <= 1.5
    assert budget_factor(scores[:30], segments[:30], 60.0, 0.01) == 1.0


def test_own_limits_lie_above_what_was_learned() -> None:
    """A limit is beyond the learned scores, and exists without any."""
    scores = np.random.default_rng(11).normal(size=1000) ** 2
    assert own_limit(scores) > np.quantile(scores, 0.999)
    assert own_limit(np.zeros(0)) == 1.0


def test_one_score_must_shout_or_all_must_speak() -> None:
    """Ratios fuse by their weighted geometric mean."""
    assert fuse(np.array([1.0, 1.0, 1.0])) == pytest.approx(1.0)
    assert fuse(np.array([3.0, 0.5, 0.5])) < 1.0
    assert fuse(np.array([9.0, 0.5, 9.0])) > 1.0


def test_the_first_mover_must_last() -> None:
    """A tag that is out briefly, or came back, is not the first; ties go to neither by position alone."""
    movers = Movers(3)
    for time, ratios in enumerate(
        [[2.0, 0.1, 0.1], [0.1, 2.0, 0.1], [0.1, 2.0, 3.0], [0.1, 0.8, 3.0]], start=1
    ):
        movers.follow(time, np.array(ratios))
    assert movers.first(3) == 1
    assert movers.first(4) is None
    movers.clear()
    assert movers.first(1) is None


def test_words_are_those_of_people() -> None:
    """Spans and lists read as one would say them."""
    assert [span(s) for s in (45, 720, 12_600, 535_680)] == ["45 s", "12 min", "3.5 h", "6.2 d"]
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert "12 of at least 200 rows" in learning(9000, 7200, 12, 200)
