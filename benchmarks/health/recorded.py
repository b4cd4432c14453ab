"""Recorded files through `edge-agent backtest`'s own path; no setting differs from the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.health.figures import Flags, Floats
from edge_agent.backtest.judging import Outcome, backtest
from edge_agent.backtest.recording import Learn, Reading, Recording, read_recording


@dataclass(frozen=True)
class Run:
    """A file after its learning part."""

    outcome: Outcome
    seconds: Floats
    score: Floats
    anomalous: Flags
    alert: Flags

    @property
    def starts(self) -> list[int]:
        """The rows of the file at which an alert opened."""
        return [opening.raised for opening in self.outcome.openings]


def read(path: Path, ignore: Sequence[str] = (), period: float | None = None) -> Recording:
    return read_recording(path, Reading(ignore=ignore, period=period))


def part(recording: Recording, first: int, end: int | None = None) -> Recording:
    """Some rows of a recording, as if it had been recorded only then."""
    rows = slice(first, end)
    return replace(
        recording,
        stamps=recording.stamps[rows],
        times=recording.times[rows],
        values={name: values[rows] for name, values in recording.values.items()},
    )


def run(recording: Recording, learn: str | None) -> Run:
    outcome = backtest(recording, Learn.parse(learn))
    verdicts = outcome.verdicts
    return Run(
        outcome,
        recording.times[outcome.learned_rows :] / 1e9,
        np.array([verdict.score for verdict in verdicts]),
        np.array([verdict.anomalous for verdict in verdicts], dtype=bool),
        np.array([verdict.alert for verdict in verdicts], dtype=bool),
    )
