"""How well the detector does on SKAB by its leaderboard's protocol: F1, FAR and MAR per row, pooled.

    python benchmarks/skab.py --data DIR          (or EDGE_AGENT_DATASETS=PARENT_OF_SKAB)

Learn on the first 400 rows of each file, stream the rest row by row. A row counts as anomalous with
hysteresis: on after 3 rows above 1, off below 0.6. Recorded files are never part of the project.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edge_agent.contracts.plugs import Column
from edge_agent.contracts.settings import HealthSettings
from edge_agent_models.ensemble import EnsembleDetector

LEARN = 400
LABELS = ("anomaly", "changepoint")


def read(path: Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Tags, times (UTC ns), rows and the anomaly label of one file."""
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file, delimiter=";"))
    tags = tuple(name for name in lines[0] if name not in (*LABELS, "datetime"))
    times = [int(datetime.fromisoformat(line["datetime"]).replace(tzinfo=UTC).timestamp()) for line in lines]
    rows = [[float(line[tag] or "nan") for tag in tags] for line in lines]
    labels = [float(line.get("anomaly") or 0) for line in lines]
    return tags, np.array(times, dtype=np.int64) * 1_000_000_000, np.array(rows), np.array(labels)


def score(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ratios to the limit and labels of the rows after the learning part."""
    tags, times, rows, labels = read(path)
    settings = HealthSettings.model_validate({"learn": "9999d"})
    detector = EnsembleDetector([Column(tag) for tag in tags], settings)
    running = np.ones(len(rows), dtype=np.int8)
    detector.update(times[:LEARN], rows[:LEARN], running[:LEARN])
    detector.finish_learning()
    scores = detector.update(times[LEARN:], rows[LEARN:], running[LEARN:])
    return np.array([s.value for s in scores]), labels[LEARN:]


def hysteresis(values: np.ndarray, rows: int = 3, off: float = 0.6) -> np.ndarray:
    """Whether a row is anomalous: on after `rows` rows above 1, off below `off`."""
    out = np.zeros(len(values), dtype=bool)
    on, above = False, 0
    for index, value in enumerate(values):
        above = above + 1 if value > 1.0 else 0
        on = (on and not value < off) or above >= rows
        out[index] = on
    return out


def figures(found: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """F1, and false alarm and missed alarm rates in percent."""
    anomalous = labels > 0
    hit, wrong = int((found & anomalous).sum()), int((found & ~anomalous).sum())
    missed = int((~found & anomalous).sum())
    f1 = 2 * hit / max(1, 2 * hit + wrong + missed)
    return f1, 100 * wrong / max(1, int((~anomalous).sum())), 100 * missed / max(1, int(anomalous.sum()))


def files(root: Path) -> Iterator[Path]:
    """The labelled files below `root`, in a stable order."""
    for folder in ("valve1", "valve2", "other"):
        yield from sorted((root / folder).glob("*.csv"), key=lambda path: int(path.stem))


def main() -> int:
    """Print the table; 0 also where there is nothing to score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with valve1/, valve2/, other/")
    root = parser.parse_args().data
    if root is None and "EDGE_AGENT_DATASETS" in os.environ:
        root = Path(os.environ["EDGE_AGENT_DATASETS"]) / "skab"
    paths = list(files(root)) if root is not None else []
    if not paths:
        print("skipped: no SKAB files; give --data DIR or set EDGE_AGENT_DATASETS", file=sys.stderr)
        return 0
    found, labels = [], []
    started, rows = time.process_time(), 0
    print(f"{'file':16} {'F1':>6} {'FAR %':>6} {'MAR %':>6}")
    for path in paths:
        values, truth = score(path)
        rows += len(values)
        found.append(hysteresis(values))
        labels.append(truth)
        f1, far, mar = figures(found[-1], truth)
        print(f"{path.parent.name + '/' + path.stem:16} {f1:6.3f} {far:6.1f} {mar:6.1f}")
    spent = (time.process_time() - started) / rows
    f1, far, mar = figures(np.concatenate(found), np.concatenate(labels))
    print(
        f"{'pooled':16} {f1:6.3f} {far:6.1f} {mar:6.1f}   "
        f"{len(paths)} files, {rows} rows, {spent * 1e6:.0f} us a row"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
