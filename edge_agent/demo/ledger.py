"""What was committed against what the historian holds: `readings` and `lost` of the demo (DECISIONS 17)."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable

from edge_agent.pipeline.observer import Observer
from edge_agent.types import Quality, SampleBatch

TimesOf = Callable[[str, str], Iterable[int]]
"""(machine, tag) -> the ns timestamps of the points the historian holds."""


class Ledger(Observer):
    """Notes the identity of every good value that was committed."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], array[int]] = defaultdict(lambda: array("q"))
        self.readings = 0

    def committed(self, batch: SampleBatch) -> None:
        """Note the good values of a committed batch."""
        for index, name in enumerate(batch.names):
            if batch.values[index] is not None and batch.status(index).quality is Quality.GOOD:
                self._times[batch.machine, name].append(batch.timestamp)
                self.readings += 1

    def lost(self, times_of: TimesOf) -> int:
        """How many of the noted values the historian does not hold."""
        return sum(len(set(times) - set(times_of(*series))) for series, times in self._times.items())
