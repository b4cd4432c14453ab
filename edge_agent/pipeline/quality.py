"""Changes of quality as their own series, so that "was it bad at 14:00?" has an answer years later."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.clock import SECOND
from edge_agent.types import GOOD, SampleBatch, Status

REPEAT = 86_400 * SECOND


@dataclass(frozen=True, slots=True)
class QualityChange:
    """One tag's quality as of `time` (UTC ns); `repeat` is the daily reminder of an unchanged one."""

    tag: str
    status: Status
    time: int
    repeat: bool


class QualityChanges:
    """Finds the changes of quality in the batches of one machine; the current state is repeated daily."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Status, int]] = {}

    def take(self, batch: SampleBatch) -> list[QualityChange]:
        """The changes that `batch` brings; at the first sight of a tag its quality is a change."""
        changes = []
        for index, name in enumerate(batch.names):
            status = batch.statuses.get(index, GOOD)
            known = self._known.get(name)
            if known is not None and known[0] == status and batch.timestamp - known[1] < REPEAT:
                continue
            self._known[name] = (status, batch.timestamp)
            changes.append(
                QualityChange(name, status, batch.timestamp, known is not None and known[0] == status)
            )
        return changes

    def counts(self) -> tuple[int, int]:
        """How many tags are good now, and how many there are."""
        good = sum(1 for status, _at in self._known.values() if status.quality == GOOD.quality)
        return good, len(self._known)
