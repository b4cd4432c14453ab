"""What is counted: F1, FAR and MAR by row, alerts that start inside an event, how sure the figures are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

LASTS = 30.0
"""Seconds that an alert must last to count, as a find or as a false one."""


@dataclass(frozen=True)
class Judged:
    """One file after its learning part: what was found, and what its label says."""

    name: str
    seconds: Floats
    """Time of each row."""
    anomalous: Flags
    alert: Flags
    truth: Flags


@dataclass(frozen=True)
class Counts:
    """Rows by verdict and label."""

    hit: int = 0
    wrong: int = 0
    missed: int = 0
    quiet: int = 0

    @classmethod
    def of(cls, found: Flags, truth: Flags) -> Counts:
        return cls(
            int((found & truth).sum()),
            int((found & ~truth).sum()),
            int((~found & truth).sum()),
            int((~found & ~truth).sum()),
        )

    @property
    def f1(self) -> float:
        return 2 * self.hit / max(1, 2 * self.hit + self.wrong + self.missed)

    @property
    def far(self) -> float:
        """Percent of the normal rows."""
        return 100 * self.wrong / max(1, self.wrong + self.quiet)

    @property
    def mar(self) -> float:
        """Percent of the anomalous rows."""
        return 100 * self.missed / max(1, self.hit + self.missed)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.hit + other.hit,
            self.wrong + other.wrong,
            self.missed + other.missed,
            self.quiet + other.quiet,
        )


def pooled(counts: Sequence[Counts]) -> Counts:
    return sum(counts, Counts())


def runs(flags: Flags) -> list[tuple[int, int]]:
    """First and last row of every unbroken stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [(int(first), int(last) - 1) for first, last in edges.reshape(-1, 2)]


@dataclass(frozen=True)
class Events:
    """Labelled events and alerts, counted strictly: an alert counts where it starts, and lasts `LASTS`."""

    events: int = 0
    found: int = 0
    false: int = 0
    normal_hours: float = 0.0
    latencies: tuple[float, ...] = ()

    def __add__(self, other: Events) -> Events:
        return Events(
            self.events + other.events,
            self.found + other.found,
            self.false + other.false,
            self.normal_hours + other.normal_hours,
            self.latencies + other.latencies,
        )

    @property
    def false_per_hour(self) -> float:
        return self.false / self.normal_hours if self.normal_hours else 0.0

    @property
    def false_per_week(self) -> float:
        return 168 * self.false_per_hour

    @property
    def median_latency(self) -> float | None:
        return float(np.median(self.latencies)) if self.latencies else None


def strict(seconds: Floats, alert: Flags, truth: Flags) -> Events:
    """Which events an alert starts in, and how many alerts start in none."""
    starts = [first for first, last in runs(alert) if _lasts(seconds, first, last)]
    events = runs(truth)
    latencies = []
    for first, last in events:
        inside = [start for start in starts if first <= start <= last]
        if inside:
            latencies.append(float(seconds[inside[0]] - seconds[first]))
    false = sum(not truth[start] for start in starts)
    step = np.diff(seconds, append=seconds[-1])
    normal = float(np.minimum(step, 5 * np.median(step))[~truth].sum()) / 3600
    return Events(len(events), len(latencies), false, normal, tuple(latencies))


def _lasts(seconds: Floats, first: int, last: int) -> bool:
    # Up to the row after it, if there is one: an alert of 30 rows at 1 Hz lasts 30 seconds.
    return bool(seconds[min(last + 1, len(seconds) - 1)] - seconds[first] >= LASTS)


def bootstrap(counts: Sequence[Counts], times: int = 2000) -> dict[str, tuple[float, float]]:
    """95 % intervals of the pooled figures, the files drawn with replacement."""
    random = np.random.default_rng(1)
    table = np.array([(c.hit, c.wrong, c.missed, c.quiet) for c in counts])
    drawn = table[random.integers(len(table), size=(times, len(table)))].sum(axis=1)
    found = [Counts(*map(int, row)) for row in drawn]
    return {
        name: (
            float(np.quantile([getattr(c, name) for c in found], 0.025)),
            float(np.quantile([getattr(c, name) for c in found], 0.975)),
        )
        for name in ("f1", "far", "mar")
    }


def controls(rows: int, learned: int) -> Iterator[tuple[str, Flags]]:
    """Detectors that look at no sensor. A figure they do well in says nothing."""
    yield "control: always on", np.ones(rows, dtype=bool)
    place = np.arange(rows) + learned
    yield "control: clock, rows 570-970", (place >= 570) & (place <= 970)
    yield "control: metronome, 30 of every 60 rows", np.arange(rows) % 60 < 30


def late(truth: Flags, rows: int) -> Flags:
    """The label itself, `rows` late at both ends: what no causal detector does much better than."""
    return np.concatenate((np.zeros(rows, dtype=bool), truth))[: len(truth)]
