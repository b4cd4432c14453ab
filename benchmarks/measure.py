"""Repeats and their median."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Measured:
    """A figure with its spread."""

    what: str
    unit: str
    median: float
    low: float
    high: float


def summary(what: str, unit: str, values: list[float]) -> Measured:
    """The median and the ends of some repeats."""
    return Measured(what, unit, statistics.median(values), min(values), max(values))


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this process for `work`."""
    before = time.process_time()
    work()
    return time.process_time() - before
