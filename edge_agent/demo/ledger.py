"""What was committed against what the historian holds: `readings` and `lost` of the demo (DECISIONS 17)."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable

from edge_agent.pipeline.observer import Observer
from edge_agent.types import Quality, SampleBatch

IdentitiesOf = Callable[[str], Iterable[tuple[str, int]]]
"""machine -> (tag, ns) of every value the historian holds."""


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

    def lost(self, identities_of: IdentitiesOf) -> int:
        """How many of the noted values the historian does not hold."""
        held = {
            machine: set(identities_of(machine)) for machine in {machine for machine, _tag in self._times}
        }
        return sum(
            (tag, time) not in held[machine]
            for (machine, tag), times in self._times.items()
            for time in set(times)
        )
