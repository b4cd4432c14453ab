"""Report by exception: changes within a tag's deadband are not passed on; a held value is, now and then."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from edge_agent.clock import SECOND
from edge_agent.types import SampleBatch, Tag, Value


@dataclass(slots=True)
class _Passed:
    value: Value | None
    at: int


class Deadband:
    """Takes the samples of one machine and blanks those that say nothing new."""

    def __init__(self, tags: Iterable[Tag]) -> None:
        self._tags = {tag.name: tag for tag in tags if tag.deadband > 0}
        self._passed: dict[str, _Passed] = {}

    def take(self, batch: SampleBatch) -> SampleBatch:
        """The batch with None where nothing is to be passed on; the same object where nothing is blanked."""
        if not self._tags:
            return batch
        blank = [index for index, name in enumerate(batch.names) if self._holds(name, batch, index)]
        if not blank:
            return batch
        values = list(batch.values)
        for index in blank:
            values[index] = None
        return replace(batch, values=values)

    def _holds(self, name: str, batch: SampleBatch, index: int) -> bool:
        tag = self._tags.get(name)
        if tag is None:
            return False
        value = batch.values[index]
        passed = self._passed.get(name)
        if passed is not None and self._within(tag, passed, value, batch.timestamp):
            return True
        self._passed[name] = _Passed(value, batch.timestamp)
        return False

    @staticmethod
    def _within(tag: Tag, passed: _Passed, value: Value | None, now: int) -> bool:
        if not isinstance(value, int | float) or not isinstance(passed.value, int | float):
            return False
        return abs(value - passed.value) < tag.deadband and now - passed.at < tag.max_interval * SECOND
