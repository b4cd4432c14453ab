"""Remaining useful life: training in a worker, prediction without scikit-learn, intervals that hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.cli import main
from edge_agent.errors import ModelError
from edge_agent_models.rul.features import features, width
from edge_agent_models.rul.interval import calibrate
from edge_agent_models.rul.lives import Lives, lives_of
from edge_agent_models.rul.model import RulModel
from edge_agent_models.rul.trees import Trees

TAGS = ("heat", "shake", "constant")


def life(unit: int, rows: int | None = None) -> np.ndarray:
    """A unit that wears out: `heat` rises from half of its life on, each unit with an offset of its own."""
    random = np.random.default_rng(unit)
    length = int(random.integers(60, 140))
    age = np.arange(length)
    wear = np.maximum(0.0, age - 0.5 * length) / (0.5 * length)
    heat = 5 * random.normal() + 4 * wear**2 + 0.1 * random.normal(size=length)
    shake = random.normal() + 2 * wear + 0.1 * random.normal(size=length)
    return np.column_stack([np.full(length, unit), age, heat, shake, np.ones(length)])[:rows]


def lives(units: range, rows: int | None = None) -> Lives:
    table = np.concatenate([life(unit, rows) for unit in units])
    names = [f"u{int(unit)}" for unit in table[:, 0]]
    return lives_of(names, table[:, 1], {tag: table[:, 2 + index] for index, tag in enumerate(TAGS)})


def write(path: Path, told: Lives) -> Path:
    lines = [",".join(("unit", "cycle", *told.tags))]
    for unit, time, row in zip(told.unit, told.time, told.rows, strict=True):
        lines.append(",".join((unit, f"{time:g}", *(f"{value:.6g}" for value in row))))
    path.write_text("\n".join(lines))
    return path


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in ("rul", *arguments)])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained by the command, as a user would."""
    folder = tmp_path_factory.mktemp("rul")
    columns = ("--unit-column", "unit", "--time-column", "cycle")
    table = write(folder / "lives.csv", lives(range(15)))
    assert command("fit", table, *columns, "--cap", "50", "--out", folder / "model.npz") == 0
    return folder / "model.npz"


def test_what_is_left_of_units_never_seen(fitted: Path, tmp_path: Path, capsys: Any) -> None:
    """Near the end within some rows, early at the cap; low <= rul <= high; the interval mostly holds."""
    wholes = {f"u{unit}": len(life(unit)) for unit in range(50, 70)}
    columns = ("--unit-column", "unit", "--time-column", "cycle")
    near = np.concatenate([life(unit)[: len(life(unit)) - 8] for unit in range(50, 70)])
    told = lives_of(
        [f"u{int(unit)}" for unit in near[:, 0]],
        near[:, 1],
        {tag: near[:, 2 + index] for index, tag in enumerate(TAGS)},
    )
    assert command("predict", fitted, write(tmp_path / "now.csv", told), *columns, "--json") == 0
    found = json.loads(capsys.readouterr().out)["units"]
    assert [one["unit"] for one in found] == list(wholes)
    assert all(one["low"] <= one["rul"] <= one["high"] for one in found)
    assert np.median([abs(one["rul"] - 8) for one in found]) < 6
    assert sum(one["low"] <= 8 <= one["high"] for one in found) >= 15
    assert (
        command("predict", fitted, write(tmp_path / "new.csv", lives(range(50, 70), 20)), *columns, "--json")
        == 0
    )
    early = json.loads(capsys.readouterr().out)["units"]
    assert np.median([one["rul"] for one in early]) > 35
    assert all(one["rul"] <= 50 for one in early)


def test_the_manifest_says_what_was_learned(fitted: Path) -> None:
    """Beside the model, for people: tags, cap, units, errors on units that were held out."""
    manifest = json.loads(fitted.with_suffix(".json").read_text())
    assert manifest["kind"] == "rul"
    assert manifest["tags"] == ["heat", "shake"]
    assert (manifest["cap"], manifest["units"]) == (50.0, 15)
    assert manifest["rmse"] < 12
    assert 0.8 <= manifest["coverage"] <= 0.97
    assert len(manifest["sha256"]) == 64


def test_exported_trees_predict_what_scikit_learn_does() -> None:
    """What is read of scikit-learn is private to it: this is the guard, missing values included."""
    from edge_agent_models.rul.training import _exported, _grown

    random = np.random.default_rng(1)
    table = random.normal(size=(800, 6))
    table[random.random(table.shape) < 0.1] = np.nan
    target = np.nan_to_num(table[:, 0]) * 3 + np.isnan(table[:, 1]) * 5 + random.normal(size=800)
    grown = _grown(table, target)
    fresh = random.normal(size=(300, 6))
    fresh[random.random(fresh.shape) < 0.1] = np.nan
    np.testing.assert_allclose(_exported(grown).predict(fresh), grown.predict(fresh), rtol=1e-9)


def test_the_cap_is_chosen_by_cross_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is given: from several that were tried on units held out."""
    from edge_agent_models.rul import training as module

    monkeypatch.setattr(module, "TREES", 10)
    training = module.train(lives(range(6)))
    tried = training.report["caps_tried"]
    assert len(tried) >= 4
    assert training.report["cap"] == float(min(tried, key=lambda cap: tried[cap]))
    assert training.report["cap"] == training.model.cap


def test_prediction_loads_no_scikit_learn(fitted: Path, tmp_path: Path) -> None:
    """A hundred megabytes that a Pi would hold for nothing."""
    table = write(tmp_path / "now.csv", lives(range(2), 30))
    code = (
        "import sys; from edge_agent.cli import main\n"
        f"try: main(['rul', 'predict', {str(fitted)!r}, {str(table)!r}, '--unit-column', 'unit', "
        "'--time-column', 'cycle'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'sklearn', 'scipy', 'pandas'} & set(sys.modules)\n"
    )
    path = ":".join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert "90 % interval" in done.stdout


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("unit,cycle,x\n" + "".join(f"a,{i},{i}\n" for i in range(30)), 1, "at least 5 are needed"),
        ("unit,cycle,x\n" + "".join(f"{i % 6},{i},3\n" for i in range(60)), 1, "no column changes"),
        ("unit,cycle,x\n" + "".join(f"{i % 6},1,{i}\n" for i in range(60)), 1, "is that the time column?"),
        ("engine,cycle,x\n1,1,1\n", 2, "no column 'unit'"),
        ("unit,cycle,x\n,1,1\n", 2, ":2: unit is empty"),
        ("unit,cycle,x\n1,1,yes\n", 2, "no numeric column"),
    ],
)
def test_lives_that_teach_nothing_are_refused(
    tmp_path: Path, capsys: Any, text: str, code: int, said: str
) -> None:
    """With the reason, in one line, and without leaving a model."""
    path, out = tmp_path / "lives.csv", tmp_path / "m.npz"
    path.write_text(text)
    assert command("fit", path, "--unit-column", "unit", "--time-column", "cycle", "--out", out) == code
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_missing_tag_is_named(fitted: Path) -> None:
    """Other tags than it was trained with: refused, never guessed."""
    told = lives(range(2), 30)
    with pytest.raises(ModelError, match="not there: shake"):
        RulModel.load(fitted).predict(lives_of(told.unit.tolist(), told.time, {"heat": told.rows[:, 0]}))


def test_features_see_only_the_past() -> None:
    """Cutting the future off changes no row's features; missing values are the last ones before."""
    rows = np.random.default_rng(1).normal(size=(120, 3))
    rows[:4, 1] = np.nan
    rows[60:70, 2] = np.nan
    whole = features(rows, 5)
    assert whole.shape == (120, width(3))
    for end in (1, 3, 7, 61, 100):
        np.testing.assert_allclose(features(rows[:end], 5), whole[:end], rtol=1e-9, atol=1e-12)
    assert np.isnan(whole[:4]).any(axis=1).all()
    assert np.isfinite(whole[4:]).all()


def test_intervals_cover_units_never_seen() -> None:
    """90 % of rows, give or take what 60 units can tell; one-sided where the cap hides how much is left."""
    random = np.random.default_rng(1)
    unit = np.repeat(np.arange(120), 100)
    true = np.tile(np.arange(100.0)[::-1], 120)
    off = (random.normal(size=120) * 4)[unit]
    predicted = np.clip(true + off + random.normal(size=len(true)) * 2, 0, 70)
    old = unit < 60
    low, high = calibrate(predicted[old], true[old], unit[old], 70.0).around(predicted[~old])
    inside = (true[~old] >= low) & (true[~old] <= high)
    assert 0.85 <= inside.mean() <= 0.95
    early = true[~old] > 80
    assert (high[early] > 80).mean() > 0.8
    assert (low >= 0).all()


def test_order_of_rows_and_units_does_not_matter(fitted: Path) -> None:
    """A shuffled table gives the same answers: rows are sorted by time within each unit."""
    told = lives(range(30, 34), 40)
    mixed = np.random.default_rng(1).permutation(len(told.time))
    shuffled = Lives(told.tags, told.unit[mixed], told.time[mixed], told.rows[mixed])
    model = RulModel.load(fitted)
    wanted = {one.unit: one.rul for one in model.predict(told)}
    assert {one.unit: one.rul for one in model.predict(shuffled)} == wanted


def test_trees_that_lead_nowhere_are_refused() -> None:
    """Arrays that do not belong together never reach the evaluation."""
    node, number = np.zeros(1, dtype=np.int32), np.zeros(1)
    good = Trees(node, node, number, np.zeros(1, dtype=bool), node, node, number, 1.0).arrays()
    assert Trees.of(good, 1).predict(np.zeros((2, 1))).tolist() == [1.0, 1.0]
    for name in ("tree_left", "tree_right", "tree_roots", "tree_feature"):
        with pytest.raises(ModelError):
            Trees.of({**good, name: np.array([5], dtype=np.int32)}, 1)
    with pytest.raises(ModelError):
        Trees.of({**good, "tree_value": np.zeros(3)}, 1)
