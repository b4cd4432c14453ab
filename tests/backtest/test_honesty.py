"""The model sees only the past, and looks at nothing but the readings (issue 5, Honesty)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.backtest.judging import Machine, Outcome, backtest
from edge_agent.backtest.recording import Learn, Recording
from edge_agent.contracts.settings import HealthSettings
from edge_agent.types import Tag
from edge_agent_models.ensemble import EnsembleDetector
from tests.models.plant import COLUMNS, Rows, machine, settings

LEARN = 900
FAULT = 1150
COUNT = 1400
STEP = 10.0


def recording(rows: Rows) -> Recording:
    values = {column.name: rows.rows[:, index] for index, column in enumerate(COLUMNS)}
    return Recording(Path("run.csv"), [str(time) for time in rows.times], rows.times, values)


def faulty(seed: int) -> Recording:
    rows = machine(COUNT, period=STEP, seed=seed)
    return recording(rows.add("bearing", np.minimum(np.arange(COUNT - FAULT), 12) * 1.0, FAULT))


def judged(rows: Recording, learn: int = LEARN) -> Outcome:
    health = HealthSettings(context=[name for name in rows.values if "load" in name or "ambient" in name])
    return backtest(rows, Learn(rows=learn), Machine(health=health, tags=[Tag(name) for name in rows.values]))


def part(rows: Recording, first: int, end: int) -> Recording:
    cut = slice(first, end)
    values = {name: column[cut] for name, column in rows.values.items()}
    return replace(rows, stamps=rows.stamps[cut], times=rows.times[cut], values=values)


def alerts(outcome: Outcome, shift: int = 0) -> list[int]:
    return [opening.raised - shift for opening in outcome.openings]


def same(found: list[int], wanted: list[int], within: int = 10) -> bool:
    return len(found) == len(wanted) and all(abs(a - b) <= within for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("seed", [1, 2])
def test_cutting_the_future_off_changes_nothing_earlier(seed: int) -> None:
    """To the last digit: no whole-file statistic is behind a score, a flag or an alert."""
    rows = faulty(seed)
    whole = judged(rows)
    assert len(whole.openings) == 1
    for end in (LEARN + 1, FAULT + 5, COUNT - 100):
        cut = judged(part(rows, 0, end))
        kept = whole.verdicts[: end - LEARN]
        assert [(v.anomalous, v.alert) for v in cut.verdicts] == [(v.anomalous, v.alert) for v in kept]
        np.testing.assert_array_equal([v.score for v in cut.verdicts], [v.score for v in kept])
        assert alerts(cut) == [row for row in alerts(whole) if row < end]


@pytest.mark.parametrize("seed", [1, 2])
def test_order_and_names_of_tags_do_not_matter(seed: int) -> None:
    """The same alerts, starting within ten rows, and the same tag in front."""
    rows = faulty(seed)
    whole = judged(rows)
    names = list(rows.values)
    renamed = {f"T{index}.{name}"[-24:]: rows.values[name] for index, name in enumerate(reversed(names))}
    other = judged(replace(rows, values=renamed))
    assert same(alerts(other), alerts(whole))
    first = next(iter(whole.openings[0].alert.contributions))
    assert next(iter(other.openings[0].alert.contributions)).endswith(first)


@pytest.mark.parametrize("more", [1, 37, 300])
def test_normal_rows_before_do_not_matter(more: int) -> None:
    """Up to 300 more rows of the same normal learned from: same alerts, starting within ten rows."""
    rows = machine(COUNT + 300, period=STEP, seed=3)
    at = FAULT + 300
    long = recording(rows.add("bearing", np.minimum(np.arange(COUNT + 300 - at), 12) * 1.0, at))
    plain = judged(part(long, 300, COUNT + 300))
    other = judged(part(long, 300 - more, COUNT + 300), LEARN + more)
    assert len(plain.openings) == 1
    assert same(alerts(other, more), alerts(plain))


def test_neither_the_date_nor_the_time_of_day_matters() -> None:
    """The same rows a hundred days and seven hours later: the same scores."""
    rows = faulty(4)
    moved = replace(rows, times=rows.times + (100 * 24 + 7) * 3600 * 1_000_000_000)
    before, after = judged(rows), judged(moved)
    np.testing.assert_allclose([v.score for v in after.verdicts], [v.score for v in before.verdicts])
    assert alerts(after) == alerts(before)


def test_row_by_row_equals_batch() -> None:
    """What the backtest streams one row at a time is what a detector says of all rows at once."""
    rows = faulty(5)
    streamed = judged(rows)
    detector = EnsembleDetector(COLUMNS, settings())
    values = np.column_stack(list(rows.values.values()))
    running = np.full(COUNT, -1, dtype=np.int8)
    detector.update(rows.times[:LEARN], values[:LEARN], running[:LEARN])
    detector.finish_learning()
    batch = detector.update(rows.times[LEARN:], values[LEARN:], running[LEARN:])
    np.testing.assert_array_equal([v.score for v in streamed.verdicts], [score.value for score in batch])
