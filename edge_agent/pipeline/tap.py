"""Watching samples as they come (`edge-agent tap`): a bounded queue for each watcher."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Any

from edge_agent.pipeline.observer import Observer
from edge_agent.types import SampleBatch, Tag

WAITING = 1000
"""Batches that wait for a watcher who reads slowly; beyond them the oldest are dropped and counted."""


class Taps(Observer):
    """Passes each batch to whoever watches; costs next to nothing while nobody does."""

    def __init__(self) -> None:
        self._open: set[_Tap] = set()

    def batch(self, batch: SampleBatch) -> None:
        """A batch came from a driver."""
        for tap in self._open:
            tap.put(batch)

    async def watch(
        self, tags: Mapping[str, Sequence[Tag]], waiting: int = WAITING
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The batches of these machines from now on, as JSON; ends only by being closed."""
        units = {name: {tag.name: tag.unit for tag in listed} for name, listed in tags.items()}
        tap = _Tap(tags.keys(), waiting)
        self._open.add(tap)
        try:
            while True:
                batch, dropped = await tap.next()
                yield _shown(batch, units[batch.machine], dropped)
        finally:
            self._open.discard(tap)


class _Tap:
    """One watcher's queue."""

    def __init__(self, machines: Collection[str], waiting: int) -> None:
        self._machines = machines
        self._queue: deque[SampleBatch] = deque(maxlen=waiting)
        self._dropped = 0
        self._filled = asyncio.Event()

    def put(self, batch: SampleBatch) -> None:
        if batch.machine not in self._machines:
            return
        if len(self._queue) == self._queue.maxlen:
            self._dropped += 1
        self._queue.append(batch)
        self._filled.set()

    async def next(self) -> tuple[SampleBatch, int]:
        """The oldest waiting batch, and how many were dropped so far."""
        await self._filled.wait()
        batch = self._queue.popleft()
        if not self._queue:
            self._filled.clear()
        return batch, self._dropped


def _shown(batch: SampleBatch, units: Mapping[str, str | None], dropped: int) -> dict[str, Any]:
    tags = {}
    for column, name in enumerate(batch.names):
        status = batch.status(column)
        tags[name] = {
            "value": batch.values[column],
            "unit": units.get(name),
            "quality": status.quality.word,
            "reason": status.reason.value or None,
        }
    moment = {"t": batch.timestamp // 1_000_000, "ns": str(batch.timestamp)}
    return {"machine": batch.machine, **moment, "tags": tags, "dropped": dropped}
