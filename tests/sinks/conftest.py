from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_agent.buffer import Delivery, Journal, forward
from edge_agent.clock import Clock
from edge_agent.mqtt import client as client_module
from edge_agent.settings.models import Configuration
from edge_agent.sinks import MqttSink
from edge_agent.types import Record
from tests.support.mosquitto import Mosquitto


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_FIRST", 0.1)
    monkeypatch.setattr(client_module, "BACKOFF_LAST", 0.3)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    server = Mosquitto(tmp_path / "mosquitto")
    server.start()
    yield server
    server.stop()


def configuration(folder: Path, url: str, **more: Any) -> Configuration:
    """A small plant: one press on a line of its own."""
    return Configuration.model_validate(
        {
            "enterprise": "fjord-parts",
            "site": "ulsteinvik",
            "agent": "pi-01",
            "state": str(folder),
            "mqtt": {"url": url, "payload": "both"},
            "buffer": {"commit_interval": "50ms"},
            **more,
        }
    )


class Agent:
    """The sending half of an agent: journal, delivery loop, MQTT sink."""

    def __init__(self, folder: Path, settings: Configuration, **more: Any) -> None:
        self.journal = Journal(folder / "agent" / "journal.db", Clock(), settings.buffer)
        self.sink = MqttSink(settings, Clock(), **more)
        self.delivery = Delivery(self.sink.name)
        self.on_delivered: Callable[[Sequence[Record]], None] = lambda _records: None

    @property
    def unconfirmed(self) -> int:
        """Rows that have not left the journal."""
        stats = self.journal.stats()
        return stats.rows + stats.waiting_bytes

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        await self.journal.open()
        self.sink.start()
        delivering = forward(
            self.journal, self.journal.reader(), self.sink, self.delivery, on_delivered=self.on_delivered
        )
        loop = asyncio.create_task(delivering)
        try:
            yield self
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
            await self.sink.close()
            await self.journal.close()
