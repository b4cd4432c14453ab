"""`edge-agent backtest`: the detector and the alarms of the agent on recorded rows, and what it writes."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.cli import main
from tests.models.plant import COLUMNS, Rows, machine

LEARN = 900
COUNT = 1500
FAULT = 1200
STEP = 60.0


def table(rows: Rows, path: Path, *, separator: str = ";", extra: str | None = None) -> Path:
    names = ["datetime", *(column.name for column in COLUMNS), *([extra] if extra else [])]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(names)
        for time, row in zip(rows.times.tolist(), rows.rows.tolist(), strict=True):
            stamp = str(np.datetime64(time, "ns")).removesuffix("000000000").rstrip(".").replace("T", " ")
            writer.writerow([stamp, *row, *(["7"] if extra else [])])
    return path


def faulty() -> Rows:
    rows = machine(COUNT, period=STEP)
    return rows.add("vibration", 1.5, FAULT).add("acceleration", 0.8, FAULT)


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in ("backtest", *arguments)])
    return int(end.value.code or 0)


def test_scores_and_json_are_as_the_interface_says(tmp_path: Path, capsys: Any) -> None:
    """A row for each row after learning, the file's own times, and an alert with what moved; exit code 0."""
    path = table(faulty(), tmp_path / "run.csv", extra="label")
    scores = tmp_path / "new" / "scores.csv"
    code = command(path, "--learn", f"{LEARN}rows", "--ignore", "label", "--scores", scores, "--json")
    assert code == 0
    (found,) = json.loads(capsys.readouterr().out)["files"]
    assert {"file", "rows", "learned_rows", "state", "row_us", "alerts", "notices"} <= found.keys()
    assert (found["rows"], found["learned_rows"]) == (COUNT, LEARN)
    assert 0 < found["row_us"] < 50_000
    (alert,) = found["alerts"]
    assert alert["cleared_at"] is None
    assert alert["severity"] in {"medium", "high"}
    assert {part["tag"] for part in alert["contributions"][:2]} == {"vibration", "acceleration"}
    assert sum(part["share"] for part in alert["contributions"]) == pytest.approx(1.0, abs=0.01)
    with scores.open() as file:
        told = list(csv.DictReader(file))
    assert list(told[0]) == ["time", "score", "anomalous", "alert"]
    assert len(told) == COUNT - LEARN
    with path.open() as file:
        stamps = [line["datetime"] for line in csv.DictReader(file, delimiter=";")]
    assert [line["time"] for line in told] == stamps[LEARN:]
    opened = next(index for index, line in enumerate(told) if line["alert"] == "1")
    assert told[opened]["time"] == alert["raised_at"]
    # The evidence must last three rows, and the windows have to fill.
    assert FAULT + 2 <= LEARN + opened <= FAULT + 20
    first = next(index for index, line in enumerate(told) if line["anomalous"] == "1")
    assert first <= opened
    assert float(told[opened]["score"]) > 1
    assert not any(line["anomalous"] == "1" for line in told[: FAULT - LEARN])


def test_several_files_make_a_folder_of_scores(tmp_path: Path, capsys: Any) -> None:
    """Each file is a machine of its own, and its scores have its name; a bad one does not stop the others."""
    good = [table(machine(400, period=STEP, seed=seed), tmp_path / f"m{seed}.csv") for seed in (1, 2)]
    bad = tmp_path / "empty.csv"
    bad.write_text("")
    code = command(good[0], bad, good[1], "--learn", "300rows", "--scores", tmp_path / "out", "--json")
    said = capsys.readouterr()
    assert code == 2
    assert "empty.csv: the file is empty" in said.err
    document = json.loads(said.out)
    assert [Path(one["file"]).name for one in document["files"]] == ["m1.csv", "m2.csv"]
    assert [Path(one["file"]).name for one in document["problems"]] == ["empty.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["m1.csv", "m2.csv"]


def test_scores_never_overwrite_what_was_recorded(tmp_path: Path, capsys: Any) -> None:
    """Neither the files themselves, nor each other's where two have the same name."""
    paths = [table(machine(40, period=STEP), tmp_path / name) for name in ("a.csv", "b.csv")]
    before = paths[0].read_bytes()
    assert command(*paths, "--scores", tmp_path) == 2
    assert "overwrite" in capsys.readouterr().err
    (tmp_path / "sub").mkdir()
    twin = table(machine(40, period=STEP), tmp_path / "sub" / "a.csv")
    assert command(paths[0], twin, "--scores", tmp_path / "out") == 2
    assert "several files are called a.csv" in capsys.readouterr().err
    assert command(paths[0], "--scores", paths[0]) == 2
    assert paths[0].read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--learn", "400rows"], "as long as the file"),
        (["--learn", "3d"], "as long as the file"),
        (["--learn", "soon"], "400rows or 2h"),
        (["--time-column", "clock"], "no column 'clock'"),
        (["--ignore", "vibratoin"], "did you mean 'vibration'"),
        (["--time-column", "datetime", "--period", "10s"], "without time"),
        (["--machine", "pump-1"], "-c FILE"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, capsys: Any, options: list[str], said: str) -> None:
    """Exit code 2 and what to write instead."""
    path = table(machine(400, period=STEP), tmp_path / "run.csv")
    assert command(path, *options) == 2
    told = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert said in told


def test_missing_samples_and_strange_columns_are_borne(tmp_path: Path, capsys: Any) -> None:
    """Empty cells, a constant, a text column, a duplicate row: a line for every row all the same."""
    path = table(machine(500, period=STEP), tmp_path / "run.csv", extra="constant")
    lines = path.read_text().splitlines()
    lines[0] += ";product"
    lines[1:] = [f"{line};A" for line in lines[1:]]
    cells = lines[450].split(";")
    lines[450] = ";".join([cells[0], "", "Bad", *cells[3:]])
    lines[460] = lines[459]
    path.write_text("\n".join(lines))
    assert command(path, "--learn", "400rows", "--scores", tmp_path / "s.csv", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["files"]
    said = " ".join(notice["message"] for notice in found["notices"])
    assert "they hold text: product" in said
    assert "1 row is not later than the rows before" in said
    with (tmp_path / "s.csv").open() as file:
        scores = [float(line["score"]) for line in csv.DictReader(file)]
    assert len(scores) == 100
    assert math.isnan(scores[459 - 400])
    assert np.isfinite(scores[:40]).all()
    assert found["alerts"] == []


def test_a_learning_part_that_is_too_short_learns_nothing(tmp_path: Path, capsys: Any) -> None:
    """Nothing is judged then, and it is said; the gate's doubt about a short one is a notice."""
    path = table(machine(400, period=STEP), tmp_path / "run.csv")
    assert command(path, "--learn", "2rows", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["files"]
    assert found["state"] == "learning"
    assert "nothing could be learned" in found["notices"][0]["message"]
    assert command(path, "--learn", "200rows", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["files"]
    assert found["state"] == "provisional"
    assert "`learn` asks for 4h" in found["notices"][0]["message"]


CONFIGURATION = """\
site: hall
mqtt: {{url: mqtt://127.0.0.1:1883}}
historian: {{kind: none}}
machines:
  pump-1:
    label: Feed pump
    driver: modbus
    url: tcp://127.0.0.1:502
    tags:
      vibration: {{address: "holding:0", type: float32, unit: mm/s}}
      current: {{address: "holding:2", type: float32, unit: A}}
      load: {{address: "holding:4", type: float32}}
      ambient: {{address: "holding:6", type: float32, unit: °C}}
      oil: {{address: "holding:8", type: float32}}
    health:
      context: [load, ambient]
      learn: 1h
      running_when: {running}
      action: Look at the drive end
"""


def test_the_settings_of_a_configured_machine_count(tmp_path: Path, capsys: Any) -> None:
    """Its tags, units, context, label, action and running_when; other columns are left out and named."""
    path = table(faulty(), tmp_path / "run.csv")
    config = tmp_path / "agent.yaml"
    config.write_text(CONFIGURATION.format(running="current > 1"))
    assert command(path, "-c", config, "--machine", "pump-1", "--learn", f"{LEARN}rows", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["files"]
    said = " ".join(notice["message"] for notice in found["notices"])
    assert found["state"] == "established"
    assert "no tags of pump-1: acceleration, winding, bearing, pressure" in said
    assert "not in the file: oil" in said
    (alert,) = found["alerts"]
    assert "Feed pump has not been normal" in alert["message"]
    assert "mm/s" in alert["message"]
    assert "Look at the drive end" in alert["message"]
    assert alert["contributions"][0]["tag"] == "vibration"


def test_a_machine_that_stands_is_not_judged(tmp_path: Path) -> None:
    """running_when is evaluated row by row on the recorded values."""
    rows = machine(600, period=STEP)
    path = table(rows.change("current", np.zeros(50), 550), tmp_path / "run.csv")
    config = tmp_path / "agent.yaml"
    config.write_text(CONFIGURATION.format(running="current > 1"))
    scores = tmp_path / "s.csv"
    assert command(path, "-c", config, "--learn", "400rows", "--scores", scores) == 0
    with scores.open() as file:
        told = [float(line["score"]) for line in csv.DictReader(file)]
    assert np.isfinite(told[:150]).all()
    assert np.isnan(told[150:]).all()


def test_a_machine_that_is_not_configured_is_said(tmp_path: Path, capsys: Any) -> None:
    """With the names there are; 78, as for any mistake in a configuration."""
    path = table(machine(100, period=STEP), tmp_path / "run.csv")
    config = tmp_path / "agent.yaml"
    config.write_text(CONFIGURATION.format(running="current > 1"))
    assert command(path, "-c", config, "--machine", "pump-9") == 78
    assert "there is no machine 'pump-9'; there is pump-1" in capsys.readouterr().err
    config.write_text(CONFIGURATION.format(running="tripped == 0").replace("oil:", "tripped:"))
    assert command(path, "-c", config) == 2
    assert "needs a column tripped" in capsys.readouterr().err
