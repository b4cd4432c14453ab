"""A retained JSON state per tag, for everyone who is not our historian (`mqtt.payload: json | both`)."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.clock import SECOND
from edge_agent.pipeline.outlets import Board, Place
from edge_agent.types import SampleBatch, Status, Tag, Value

EXPIRY = 3
"""Intervals without news after which the broker may forget a tag's state."""


class TagTopics:
    """Publishes a tag when its value or quality changes, and every `max_interval` at the latest."""

    def __init__(self, place: Place, tags: Sequence[Tag], board: Board) -> None:
        self._topic = f"{place.topic}/tags/"
        self._tags = {tag.name: tag for tag in tags}
        self._board = board
        self._shown: dict[str, tuple[Value | None, Status, int]] = {}

    def take(self, batch: SampleBatch) -> None:
        """Show what is new in a batch."""
        for index, name in enumerate(batch.names):
            value, status, tag = batch.values[index], batch.status(index), self._tags[name]
            shown = self._shown.get(name)
            if shown and not self._is_news(shown, value, status, batch.timestamp, tag):
                continue
            self._shown[name] = (value, status, batch.timestamp)
            payload = self._payload(tag, value, status, batch.timestamp)
            # With MQTT 5 the state of a tag nobody publishes any more vanishes by itself.
            self._board.retain(self._topic + name, payload, expiry=EXPIRY * tag.max_interval)

    @staticmethod
    def _is_news(
        shown: tuple[Value | None, Status, int], value: Value | None, status: Status, now: int, tag: Tag
    ) -> bool:
        before, quality, at = shown
        if status != quality or now - at >= tag.max_interval * SECOND:
            return True
        if tag.deadband and isinstance(value, int | float) and isinstance(before, int | float):
            return abs(value - before) >= tag.deadband
        return value != before

    @staticmethod
    def _payload(tag: Tag, value: Value | None, status: Status, timestamp: int) -> dict[str, object]:
        payload: dict[str, object] = {
            "t": timestamp // 1_000_000,
            "ns": str(timestamp),
            "v": value,
            "q": status.quality.word,
            "qc": int(status.quality),
        }
        if status.reason:
            payload["reason"] = status.reason.value
        if tag.unit:
            payload["u"] = tag.unit
        return payload
