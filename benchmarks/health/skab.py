"""SKAB by its leaderboard's protocol (learn on a file's first 400 rows), and its anomaly-free run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.health.figures import (
    Counts,
    Events,
    Flags,
    Judged,
    bootstrap,
    controls,
    late,
    pooled,
    strict,
)
from benchmarks.health.recorded import part, read, run

LEARN = 400
LABELS = ("anomaly", "changepoint")
PUBLISHED = (
    ("Conv-AE", 0.78, 13.55, 28.02),
    ("MSET", 0.78, 39.73, 14.13),
    ("T2 + Q", 0.76, 26.62, 24.92),
    ("LSTM-AE", 0.74, 29.96, 25.92),
    ("T2", 0.66, 19.21, 42.6),
    ("LSTM-VAE", 0.56, 9.13, 55.03),
    ("LSTM", 0.54, 12.54, 59.53),
    ("AE", 0.39, 2.59, 75.15),
    ("isolation forest", 0.29, 2.56, 82.89),
)
"""F1, FAR %, MAR % as the leaderboard printed them for all 34 files (waico/SKAB, README at b2c0d46)."""
QUIET = ((1200, (0, 1500, 3000)), (2400, (0, 1000, 2000)))
"""Rows to learn from the anomaly-free run, and the rows to start at."""


def files(root: Path) -> Iterator[Path]:
    """The labelled files, in a stable order."""
    for folder in ("valve1", "valve2", "other"):
        yield from sorted((root / folder).glob("*.csv"), key=lambda path: (len(path.stem), path.stem))


def measure(root: Path | None, say: Callable[[str], None]) -> dict[str, Any] | None:
    """All figures; None where there are no files."""
    if root is None:
        return None
    found, costs = [], []
    for path in files(root / "skab"):
        recording = read(path, ignore=("changepoint",))
        truth = recording.values.pop("anomaly")[LEARN:] > 0  # type: ignore[attr-defined]
        done = run(recording, f"{LEARN}rows")
        name = f"{path.parent.name}/{path.stem}"
        found.append(Judged(name, done.seconds, done.anomalous, done.alert, truth))
        costs.append(done.outcome.row_us)
        say(name)
    if not found:
        return None
    return {
        "files": [_row(one.name, [one], lambda one: one.anomalous, lambda one: one.alert) for one in found],
        "pooled": {
            **_row("pooled", found, lambda one: one.anomalous, lambda one: one.alert),
            "interval": bootstrap([Counts.of(one.anomalous, one.truth) for one in found]),
        },
        "controls": _controls(found),
        "published": [dict(zip(("name", "f1", "far", "mar"), row, strict=True)) for row in PUBLISHED],
        "quiet": list(_quiet(root / "skab" / "anomaly-free", say)),
        "row_us": float(np.median(costs)),
    }


def _row(
    name: str, found: Sequence[Judged], anomalous: Callable[[Judged], Flags], alert: Callable[[Judged], Flags]
) -> dict[str, Any]:
    counts = pooled([Counts.of(anomalous(one), one.truth) for one in found])
    events = sum((strict(one.seconds, alert(one), one.truth) for one in found), Events())
    return {
        "name": name,
        "f1": counts.f1,
        "far": counts.far,
        "mar": counts.mar,
        "events": events.events,
        "found": events.found,
        "false": events.false,
        "normal_h": events.normal_hours,
        "latency_s": events.median_latency,
    }


def _controls(found: Sequence[Judged]) -> list[dict[str, Any]]:
    rows = []
    names = [name for name, _ in controls(1, LEARN)]
    for place, name in enumerate(names):

        def blind(one: Judged, place: int = place) -> Flags:
            return list(controls(len(one.truth), LEARN))[place][1]

        rows.append(_row(name, found, blind, blind))
    for delay in (30, 60):

        def delayed(one: Judged, delay: int = delay) -> Flags:
            return late(one.truth, delay)

        rows.append(_row(f"control: the label, {delay} rows late", found, delayed, delayed))
    return rows


def _quiet(folder: Path, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Alerts on the run without anomalies, learned from several starting rows."""
    for path in sorted(folder.glob("*.csv")):
        recording = read(path)
        for learn, starts in QUIET:
            for start in starts:
                if start + learn + 600 > len(recording.times):
                    continue
                done = run(part(recording, start), f"{learn}rows")
                hours = float(done.seconds[-1] - done.seconds[0]) / 3600
                yield {
                    "learn": learn, "start": start, "alerts": len(done.starts), "hours": hours,
                    "share": float(done.alert.mean()), "anomalous": float(done.anomalous.mean()),
                }  # fmt: skip
                say(f"anomaly-free, {learn} rows from row {start}")


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result as text."""
    yield f"SKAB: learn on the first {LEARN} rows, the rest row by row; rows by hysteresis, events by alert"
    yield f"{'':40} {'F1':>6} {'FAR %':>6} {'MAR %':>6}  {'events':>7} {'false':>5} {'late s':>6}"
    for row in [*result["files"], result["pooled"], *result["controls"]]:
        late_s = "-" if row["latency_s"] is None else f"{row['latency_s']:.0f}"
        events = f"{row['found']}/{row['events']}"
        yield (
            f"{row['name']:40} {row['f1']:6.3f} {row['far']:6.1f} {row['mar']:6.1f}  {events:>7} "
            f"{row['false']:5} {late_s:>6}"
        )
    for row in result["published"]:
        name = f"published, all 34 files: {row['name']}"
        yield f"{name:40} {row['f1']:6.2f} {row['far']:6.1f} {row['mar']:6.1f}"
    pooled_row = result["pooled"]
    interval = pooled_row["interval"]
    yield (
        "pooled, 95 % by bootstrap over files: "
        + ", ".join(f"{name} {low:.3g}-{high:.3g}" for name, (low, high) in interval.items())
        + f"; {pooled_row['false']} false alerts in {pooled_row['normal_h']:.2f} normal hours; "
        f"{result['row_us']:.0f} µs a row"
    )
    for row in result["quiet"]:
        yield (
            f"anomaly-free, {row['learn']} rows learned from row {row['start']}: {row['alerts']} alerts in "
            f"{row['hours']:.2f} h, open {row['share']:.1%} of it, {row['anomalous']:.1%} of rows anomalous"
        )
