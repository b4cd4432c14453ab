"""Remaining useful life of C-MAPSS engines, each predicted by a model that did not see the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent_models.rul.lives import lives_of

CAP = 125.0
"""What published figures cap the truth at."""
ALERT, RUNNING = 30.0, 3
"""An alert: less than so much left, so many cycles running."""
BAND = (10, 60)
PUBLISHED = (("deep LSTM", 16.14), ("LSTM", 14.93), ("CNN", 16.97), ("AMNL", 10.43))
"""RMSE on FD001's own test engines: near, but not the same question."""


def measure(root: Path | None, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Cross-validated by engine; None where there are no files, or no scikit-learn to train with."""
    if root is None:
        return None
    paths = sorted((root / "cmapss").glob("train_FD001*.txt"))
    if not paths:
        return None
    try:
        from edge_agent_models.rul.training import train
    except ModuleNotFoundError as missing:
        say(f"C-MAPSS needs scikit-learn: {missing}")
        return None
    table = np.loadtxt(paths[0])
    columns = {f"column {index}": table[:, index] for index in range(2, table.shape[1])}
    training = train(lives_of([f"{unit:.0f}" for unit in table[:, 0]], table[:, 1], columns), CAP)
    leads = [_lead(training.held_out[training.unit == one], training.true[training.unit == one])
             for one in range(training.unit.max() + 1)]  # fmt: skip
    alerted = [lead for lead in leads if lead is not None]
    in_band = sum(BAND[0] <= lead <= BAND[1] for lead in alerted) / len(leads)
    return {
        **training.report,
        "file": paths[0].name,
        "in_band": in_band,
        "missed": len(leads) - len(alerted),
        "median_lead": float(np.median(alerted)) if alerted else None,
        "controls": _controls(training.true, training.unit),
        "published": [{"name": name, "rmse": rmse} for name, rmse in PUBLISHED],
    }


def _lead(predicted: np.ndarray, true: np.ndarray) -> float | None:
    """Cycles left when the alert opens; None where it never does."""
    row = 0
    for index, value in enumerate(predicted):
        row = row + 1 if value < ALERT else 0
        if row >= RUNNING:
            return float(true[index])
    return None


def _controls(true: np.ndarray, unit: np.ndarray) -> list[dict[str, Any]]:
    """What is reached without looking at a sensor."""
    capped = np.minimum(true, CAP)
    age = np.concatenate([np.arange(n) for n in np.unique(unit, return_counts=True)[1]])
    lengths = np.array([true[unit == one].max() for one in range(unit.max() + 1)])
    by_age = np.clip(np.median(lengths) - age, 0, CAP)
    return [
        {"name": "control: the mean", "rmse": float(capped.std())},
        {"name": "control: median life less age", "rmse": float(np.sqrt(np.mean((by_age - capped) ** 2)))},
    ]


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result as text."""
    yield (
        f"C-MAPSS {result['file']}: {result['units']} engines, cross-validated by engine, "
        f"cap {result['cap']:g}: RMSE {result['rmse']:.2f}, MAE {result['mae']:.2f}"
    )
    yield (
        f"  90 % interval holds {result['coverage']:.1%} of rows (not capped: "
        f"{result['coverage_not_capped']:.1%}); under {ALERT:g} cycles {RUNNING} times running: "
        f"{result['in_band']:.1%} of engines {BAND[0]}-{BAND[1]} cycles ahead, {result['missed']} missed, "
        f"median {result['median_lead'] or 0:g}"
    )
    for row in (*result["controls"], *result["published"]):
        yield f"  {row['name']:32} RMSE {row['rmse']:.2f}"
