"""What every detector owes: one by one is all at once, only the past counts, names and order do not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edge_agent.contracts.plugs import Column
from edge_agent.errors import ConfigError, ModelError
from edge_agent.types import HealthState, Kind, Score
from edge_agent_models.ensemble import EnsembleDetector
from tests.models.plant import COLUMNS, TAGS, Rows, feed, machine, settings, trained, values


def story() -> Rows:
    """Learning, provisional time, a fault, a stop, a gap and missing values, in 900 rows a minute apart."""
    rows = machine(900).add("vibration", 0.8, 700)
    rows.rows[650:660, 1] = np.nan
    rows.running[500:520] = 0
    rows.times[600:] += 3_600_000_000_000
    return rows


def told(rows: Rows, cuts: list[int]) -> list[Score]:
    """Scores of a detector that learns by itself, given the rows in parts."""
    detector = EnsembleDetector(COLUMNS, settings(learn="4h", running_when="on"))
    bounds = [0, *cuts, len(rows.times)]
    found: list[Score] = []
    for start, end in itertools.pairwise(bounds):
        found += feed(detector, rows.part(start, end))
    return found


def same(left: list[Score], right: list[Score]) -> None:
    """Equal in everything, NaN included."""
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert repr(one) == repr(other)


def test_row_by_row_is_the_same_as_all_at_once() -> None:
    """Any way of cutting the rows into calls gives the same scores to the last digit."""
    rows = story()
    whole = told(rows, [])
    assert {score.state for score in whole} >= set(HealthState) - {
        HealthState.MAINTENANCE,
        HealthState.UNKNOWN_REGIME,
    }
    same(whole, told(rows, list(range(1, 900))))
    same(whole, told(rows, [13, 240, 241, 600, 777]))


def test_the_future_changes_nothing() -> None:
    """Scores of the rows before a cut are what they are without the cut."""
    rows = story()
    same(told(rows, [])[:650], told(rows.part(0, 650), []))


def test_order_and_names_of_tags_do_not_matter() -> None:
    """Permuted and renamed columns give the same scores, under the new names."""
    rows = story()
    order = np.array([5, 7, 2, 0, 6, 4, 1, 3])
    columns = [Column(f"x{i}", context=COLUMNS[i].context) for i in order]
    detector = EnsembleDetector(columns, settings(learn="4h", running_when="on"))
    other = detector.update(rows.times, rows.rows[:, order], rows.running)
    whole = told(rows, [])
    np.testing.assert_allclose(values(other), values(whole), rtol=1e-6)
    assert [score.state for score in other] == [score.state for score in whole]
    assert other[-1].first_mover == "x0"
    assert whole[-1].first_mover == "vibration"
    assert max(other[-1].contributions, key=lambda tag: other[-1].contributions[tag]) == "x0"


@pytest.mark.parametrize("at", [5, 150, 300, 510, 710, 890])
def test_what_was_saved_goes_on_exactly(at: int) -> None:
    """A detector restored from arrays, in any phase, says what the one that never stopped says."""
    rows = story()
    first = EnsembleDetector(COLUMNS, settings(learn="4h", running_when="on"))
    feed(first, rows.part(0, at))
    arrays = {name: array.copy() for name, array in first.save().items()}
    assert not any(array.dtype.hasobject for array in arrays.values())
    second = EnsembleDetector(COLUMNS, settings(learn="4h", running_when="on"))
    second.load(arrays)
    same(feed(first, rows.part(at, 900)), feed(second, rows.part(at, 900)))


def test_saving_does_not_share_memory() -> None:
    """What was saved does not change with later rows."""
    rows = machine(600)
    detector, _ = trained(rows.part(0, 400), 300)
    before = detector.save()
    copies = {name: array.copy() for name, array in before.items()}
    feed(detector, rows.part(400, 600))
    for name, array in before.items():
        np.testing.assert_array_equal(array, copies[name])


def test_memory_is_bounded() -> None:
    """State stays the same size however long it runs, and is small once learned."""
    rows = machine(1500)
    detector, _ = trained(rows.part(0, 500), 400)
    size = sum(array.nbytes for array in detector.save().values())
    feed(detector, rows.part(500, 1500))
    assert sum(array.nbytes for array in detector.save().values()) == size
    assert size < 100_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": np.array(99)}, "version 99"),
        ({"columns": np.array(["a", "b"])}, "the machine now has vibration"),
        ({"context": np.array([0], dtype=np.int64)}, "other judged or context tags"),
        ({"lags.linear": np.zeros((3, 9))}, "shape"),
        ({"lesson.values": np.zeros((3, 9))}, "do not fit"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    """Another version, other columns or damaged arrays are a ModelError that says so."""
    detector = EnsembleDetector(COLUMNS, settings())
    feed(detector, machine(100))
    with pytest.raises(ModelError, match=message):
        EnsembleDetector(COLUMNS, settings()).load({**detector.save(), **change})


def test_a_model_with_a_part_missing_is_refused() -> None:
    """Every array is needed; the message names the one that is not there."""
    detector, _ = trained(machine(400), 400)
    arrays = dict(detector.save())
    for name in list(arrays):
        part = {key: array for key, array in arrays.items() if key != name}
        with pytest.raises(ModelError, match="learn again"):
            EnsembleDetector(COLUMNS, settings()).load(part)


def test_rows_of_another_shape_are_refused() -> None:
    """Rows must have the detector's columns."""
    detector = EnsembleDetector(COLUMNS, settings())
    rows = machine(10)
    with pytest.raises(ModelError, match="8 columns"):
        detector.update(rows.times, rows.rows[:, :5], rows.running)


def test_rows_out_of_order_are_left_out() -> None:
    """A duplicate or an older row gets a score that says so, and changes nothing that follows."""
    rows = machine(500)
    clean, scores = trained(rows.part(0, 450), 300)
    muddled, _ = trained(rows.part(0, 450), 300)
    late = feed(muddled, rows.part(440, 450))
    assert all(np.isnan(score.value) and "not later" in score.note for score in late)
    same(feed(clean, rows.part(450, 500)), feed(muddled, rows.part(450, 500)))
    assert len(scores) == 150


def test_something_must_be_judged() -> None:
    """Without a measurement there is nothing to do, and the configuration is at fault."""
    with pytest.raises(ConfigError, match=r"health\.tags"):
        EnsembleDetector([Column("load", context=True), Column("on", Kind.STATE)], settings())


def test_settings_choose_tags_and_context() -> None:
    """`tags` and `context` of the settings decide; setpoints explain by themselves, states are left alone."""
    columns = [
        *(Column(tag) for tag in TAGS),
        Column("load", Kind.SETPOINT),
        Column("ambient"),
        Column("on", Kind.STATE),
    ]
    chosen = settings(tags=["vibration", "winding"], context=["ambient"])
    detector = EnsembleDetector(columns, chosen)
    rows = machine(600).add("winding", 6.0, 500)
    wide = np.column_stack([rows.rows, rows.running])
    detector.update(rows.times[:400], wide[:400], rows.running[:400])
    detector.finish_learning()
    scores = detector.update(rows.times[400:], wide[400:], rows.running[400:])
    assert set(scores[-1].contributions) <= {"vibration", "winding"}
    assert scores[-1].state is HealthState.ANOMALOUS
