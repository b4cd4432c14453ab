"""Machines run until they fail (FEMTO bearings, IMS bearing test 2), and NAB's machine temperature."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.health.recorded import read, run
from edge_agent.backtest.table import read_table
from edge_agent.clock import parse_iso

FEMTO_LEARN = ("120rows", None)
IMS_LEARN = ("150rows", None)
NAB_LEARN = ("7d", "2000rows")


def femto(root: Path | None, say: Callable[[str], None]) -> dict[str, Any] | None:
    """When each bearing was alerted, as a share of its life; a snapshot every 10 s."""
    if root is None:
        return None
    paths = sorted((root / "femto-features").glob("Bearing*.csv*"))
    rows = []
    for learn in FEMTO_LEARN:
        for path in paths:
            recording = read(path, period=10.0)
            done = run(recording, learn)
            life = len(recording.times)
            rows.append({
                "name": path.name.split(".")[0], "learn": learn or "first third", "rows": life,
                "state": done.outcome.state,
                "starts": [round(start / life, 3) for start in done.starts],
                "lead_min": round((life - done.starts[0]) / 6, 1) if done.starts else None,
            })  # fmt: skip
            say(f"{path.name}, {learn}")
    return {"lives": rows} if rows else None


def femto_lines(result: dict[str, Any]) -> Iterator[str]:
    """The result as text."""
    for learn in dict.fromkeys(row["learn"] for row in result["lives"]):
        lives = [row for row in result["lives"] if row["learn"] == learn]
        early = sum(start < 0.5 for row in lives for start in row["starts"])
        missed = sum(not row["starts"] for row in lives)
        leads = [row["lead_min"] for row in lives if row["starts"]]
        lead = float(np.median(leads)) if leads else 0.0
        yield (
            f"FEMTO, learn {learn}: {missed} of {len(lives)} missed, "
            f"{early} alerts in the first half of life, median lead {lead:.0f} min"
        )
        for row in lives:
            what = f"{row['rows']:5} rows, {row['state']}"
            yield f"  {row['name']:12} {what}; alerts at {row['starts']} of life"


def ims(root: Path | None, say: Callable[[str], None]) -> dict[str, Any] | None:
    """When bearing 1 was alerted, against its author's onset row."""
    if root is None:
        return None
    found = []
    for path in sorted((root / "ims-features").glob("*.csv")):
        recording = read(path)
        labels = read_table(path).columns["Target"]
        onset = next(row for row, label in enumerate(labels) if label != "Normal")
        for learn in IMS_LEARN:
            done = run(recording, learn)
            found.append({
                "name": path.stem, "learn": learn or "first third", "rows": len(labels), "onset": onset,
                "starts": done.starts,
                "first": next(iter(done.outcome.openings[0].alert.contributions)) if done.starts else None,
            })  # fmt: skip
            say(f"{path.name}, {learn}")
    return {"runs": found} if found else None


def ims_lines(result: dict[str, Any]) -> Iterator[str]:
    """The result as text."""
    for row in result["runs"]:
        wanted = f"{row['rows'] // 2}-{row['onset'] + row['rows'] // 20}"
        yield (
            f"IMS test 2, learn {row['learn']}: alerts at rows {row['starts']} of {row['rows']} "
            f"(onset {row['onset']}, wanted in {wanted}), first tag {row['first']}"
        )


def nab(root: Path | None, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Which of the labelled windows of machine_temperature an alert starts in."""
    if root is None:
        return None
    folder = root / "nab"
    if not (folder / "windows.json").exists():
        return None
    windows = json.loads((folder / "windows.json").read_text())
    found = []
    for name, spans in windows.items():
        recording = read(folder / name)
        bounds = [(parse_iso(_z(low)), parse_iso(_z(high))) for low, high in spans]
        for learn in NAB_LEARN:
            done = run(recording, learn)
            starts = [int(recording.times[row]) for row in done.starts]
            found.append({
                "name": name, "learn": learn, "windows": len(bounds),
                "found": [any(low <= at <= high for at in starts) for low, high in bounds],
                "false": [
                    recording.stamps[row] for row, at in zip(done.starts, starts, strict=True)
                    if not any(low <= at <= high for low, high in bounds)
                ],
                "weeks": float(done.seconds[-1] - done.seconds[0]) / (7 * 86_400),
            })  # fmt: skip
            say(f"{name}, {learn}")
    return {"series": found} if found else None


def _z(text: str) -> str:
    return text.replace(" ", "T").split(".")[0] + "Z"


def nab_lines(result: dict[str, Any]) -> Iterator[str]:
    """The result as text."""
    for row in result["series"]:
        per_week = len(row["false"]) / row["weeks"]
        yield (
            f"NAB {row['name']}, learn {row['learn']}: {sum(row['found'])} of {row['windows']} windows "
            f"{['yes' if hit else 'no' for hit in row['found']]}, {len(row['false'])} false "
            f"({per_week:.2f} a machine-week): {', '.join(row['false'])}"
        )
