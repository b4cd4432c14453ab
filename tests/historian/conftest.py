from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import Clock
from edge_agent.historian import Historian
from edge_agent.mqtt import client as client_module
from edge_agent.settings.models import Configuration
from tests.support.influx import Influxd, VictoriaMetrics
from tests.support.mosquitto import Mosquitto, eventually


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


@pytest.fixture(scope="session")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """One InfluxDB for the session: each test has a database of its own."""
    server = Influxd(tmp_path_factory.mktemp("influxd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaMetrics]:
    server = VictoriaMetrics(tmp_path_factory.mktemp("victoria"))
    server.start()
    yield server
    server.stop()


@contextlib.asynccontextmanager
async def historian(settings: Configuration, state: Path, **more: Any) -> AsyncIterator[Historian]:
    """A historian that receives."""
    one = Historian(settings, Clock(), state, **more)
    task = asyncio.create_task(one.run())
    try:
        await eventually(lambda: one.ready.is_set() or task.done())
        if task.done():
            task.result()
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
