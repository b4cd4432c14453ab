"""`edge-agent rul fit` and `rul predict`: the table is read here, the models' bay does the rest."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_agent import registry
from edge_agent.backtest.table import BadRecording, Floats, Table, as_numbers, numbers, read_table
from edge_agent.backtest.times import times_of

_USAGE = 2
_HOUR = 3600e9


def fit(
    file: Path,
    *,
    unit: str,
    time: str,
    ignore: Sequence[str],
    out: Path,
    cap: float | None,
    json_output: bool,
) -> int:
    """Train a model on lives and write it; 1 where training failed, 2 where the table cannot be used."""
    try:
        units, times, values, notes = _read(file, unit, time, ignore)
    except BadRecording as problem:
        print(problem, file=sys.stderr)
        return _USAGE
    for note in notes:
        print(f"{file}: {note}", file=sys.stderr)
    if sys.stderr.isatty():
        print(f"training on {len(set(units))} units; a minute or two", file=sys.stderr)
    report = registry.rul("fit")(units, times, values, out, cap)
    if json_output:
        print(json.dumps({"model": str(out), **report}))
        return 0
    print(
        f"{out}: learned from {report['units']} units and {report['rows']} rows; at most {report['cap']:g} "
        f"is predicted. On units it was not trained on: RMSE {report['rmse']:g} (up to the cap), the 90 % "
        f"interval holds {report['coverage']:.1%} of rows"
    )
    return 0


def predict(model: Path, file: Path, *, unit: str, time: str, json_output: bool) -> int:
    """Say what is left of each unit at its last row; 1 where the model cannot be used, 2 for the table."""
    try:
        units, times, values, _ = _read(file, unit, time, ())
    except BadRecording as problem:
        print(problem, file=sys.stderr)
        return _USAGE
    found = registry.rul("predict")(model, units, times, values)
    if json_output:
        print(json.dumps({"units": found}, ensure_ascii=False))
        return 0
    for one in found:
        print(
            f"unit {one['unit']}: {one['rul']:.4g} left, 90 % interval {one['low']:.4g} to {one['high']:.4g}"
        )
    return 0


def _read(
    file: Path, unit: str, time: str, ignore: Sequence[str]
) -> tuple[Sequence[str], Floats, Mapping[str, Floats], Sequence[str]]:
    """Units, times and the other columns: numbers as they are, dates in hours since the first one."""
    table = read_table(file)
    units = table.column(unit)
    if "" in units:
        raise BadRecording(f"{file}:{table.lines[list(units).index('')]}: {unit} is empty: whose row is it?")
    times = _times(table, time)
    found = numbers(table, {unit, time, *ignore})
    if not found.values:
        raise BadRecording(f"{file}: there is no numeric column besides {unit} and {time}")
    return units, times, found.values, found.notes


def _times(table: Table, column: str) -> Floats:
    plain, strange = as_numbers(table.column(column), comma=table.comma)
    if not strange and not np.isnan(plain).any():
        return plain
    moments = times_of(table, column, None)
    hours: Floats = (moments - moments.min()) / _HOUR
    return hours
