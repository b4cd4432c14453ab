"""One machine's fan-out: each batch goes to the journal, the alarms, the health rows and the live states.

Called by the sampler in the event loop for every scan, so nothing here waits and nothing is kept per sample.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence

from edge_agent.alarms.limits import LimitAlarms
from edge_agent.expressions import Expression
from edge_agent.lineprotocol import BatchEncoder, quality_line
from edge_agent.pipeline.alerts import AlertPublisher
from edge_agent.pipeline.deadband import Deadband
from edge_agent.pipeline.features import FeatureRows, Latest, Row
from edge_agent.pipeline.outlets import Journalling, Place
from edge_agent.pipeline.quality import QualityChanges
from edge_agent.pipeline.tagtopics import TagTopics
from edge_agent.types import Priority, Quality, SampleBatch, Tag

MOST_SHAPES = 256
"""Subscriptions bring batches of changing tags; this many shapes keep their encoder."""

Committed = Callable[[SampleBatch], None]


class Fanout:
    """What happens to each batch of one machine."""

    def __init__(
        self,
        place: Place,
        tags: Sequence[Tag],
        measurement: str,
        journal: Journalling,
        *,
        limits: LimitAlarms,
        alerts: AlertPublisher,
        topics: TagTopics | None = None,
        rows: FeatureRows | None = None,
        running_when: Expression | None = None,
        on_row: Callable[[Row], None] = lambda _row: None,
        on_batch: Callable[[SampleBatch], None] = lambda _batch: None,
        on_committed: Committed | None = None,
    ) -> None:
        self.latest = Latest()
        self.quality = QualityChanges()
        self._place = place
        self._tags = {tag.name: tag for tag in tags}
        self._measurement = measurement
        self._journal = journal
        self._limits = limits
        self._alerts = alerts
        self._topics = topics
        self._rows = rows
        self._running_when = running_when
        self._on_row = on_row
        self._on_batch = on_batch
        self._on_committed = on_committed
        self._deadband = Deadband(tags)
        self._encoders: dict[tuple[str, ...], BatchEncoder] = {}

    def __call__(self, batch: SampleBatch) -> None:
        """Pass one batch on to everyone who wants it."""
        self.latest.take(batch)
        self._on_batch(batch)
        self._write(batch)
        self._write_quality(batch)
        self._alerts.publish(self._limits.observe(batch), batch.timestamp)
        if self._topics is not None:
            self._topics.take(batch)
        if self._rows is not None and (row := self._rows.take(batch, self._running())):
            self._on_row(row)

    def _running(self) -> bool | None:
        if self._running_when is None:
            return True
        return self._running_when.evaluate(self.latest.values)

    def _write(self, batch: SampleBatch) -> None:
        passed = self._deadband.take(batch)
        line = self._encoder(batch.names).encode(passed)
        if not line:
            return
        future = self._journal.append(self._place.machine, line)
        if self._on_committed is not None:
            future.add_done_callback(lambda done: self._committed(done, passed))

    def _committed(self, done: Future[None], batch: SampleBatch) -> None:
        if self._on_committed is not None and not done.cancelled() and done.exception() is None:
            self._on_committed(batch)

    def _encoder(self, names: tuple[str, ...]) -> BatchEncoder:
        encoder = self._encoders.get(names)
        if encoder is None:
            if len(self._encoders) >= MOST_SHAPES:
                self._encoders.clear()
            tags = [self._tags[name] for name in names]
            encoder = BatchEncoder(self._place.machine, dict(self._place.levels), self._measurement, tags)
            self._encoders[names] = encoder
        return encoder

    def _write_quality(self, batch: SampleBatch) -> None:
        changes = self.quality.take(batch)
        if not changes:
            return
        lines = b"\n".join(
            quality_line(self._place.levels, self._place.machine, change.tag, change.status, change.time)
            for change in changes
        )
        # The first word on a tag that is good is no change a person waits for.
        urgent = any(not change.repeat and change.status.quality is not Quality.GOOD for change in changes)
        self._journal.append(self._place.machine, lines, Priority.TELEMETRY, urgent=urgent)
