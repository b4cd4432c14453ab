"""Scoring: what a failing model, a full card or a damaged file may cost, and what it may not."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_agent.alarms.health import HealthAlarms
from edge_agent.buffer import Journal
from edge_agent.clock import SECOND, Clock
from edge_agent.contracts.plugs import Column, Detector
from edge_agent.contracts.settings import HealthSettings
from edge_agent.errors import ModelError
from edge_agent.modelfile import read_model, write_model
from edge_agent.pipeline.alerts import AlertPublisher
from edge_agent.pipeline.features import Row
from edge_agent.pipeline.outlets import Place
from edge_agent.pipeline.scoring import KIND, SCHEMA, Scoring
from edge_agent.settings.models import BufferSettings
from edge_agent.types import HealthState, Score
from tests.pipeline.test_fanout import KeptBoard

PLACE = Place("pump-1", {"site": "hall"})


class Counting(Detector):
    """Scores every row 0.5, remembers how many it saw, and fails when told to."""

    def __init__(self, columns: Sequence[Column], settings: HealthSettings) -> None:
        super().__init__(columns, settings)
        self.rows = 0
        self.broken = False

    def update(
        self, times: npt.NDArray[np.int64], rows: npt.NDArray[np.float64], running: npt.NDArray[np.int8]
    ) -> list[Score]:
        if self.broken:
            raise FloatingPointError("a singular matrix")
        self.rows += len(times)
        return [Score(int(time), 0.5, HealthState.NORMAL) for time in times]

    def finish_learning(self, *, provisional: bool = False) -> None:
        raise ModelError("it learns nothing")

    def save(self) -> Mapping[str, npt.NDArray[np.generic]]:
        return {"rows": np.array(self.rows)}

    def load(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self.rows = int(arrays["rows"].item())


class Health:
    """A scoring with its worker, over a real journal."""

    def __init__(self, journal: Journal, worker: ThreadPoolExecutor, folder: Path) -> None:
        settings = HealthSettings()
        self.file = folder / "pump-1" / "state.npz"
        self.detector = Counting([Column("a")], settings)
        self.scores: list[Score] = []
        board = KeptBoard()
        self.scoring = Scoring(
            PLACE,
            self.detector,
            HealthAlarms("pump-1", None, settings, {"a": None}),
            AlertPublisher(PLACE, journal, board, lambda _alerts, _at: None),
            journal,
            board,
            folder,
            worker,
            on_score=self.scores.append,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.scoring.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def take(self, number: int) -> Score:
        before = len(self.scores)
        self.scoring.take(Row(number * SECOND, (1.0,), 1))
        async with asyncio.timeout(5):
            while len(self.scores) == before:
                await asyncio.sleep(0.005)
        return self.scores[-1]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Any]:
    with ThreadPoolExecutor(1) as worker:
        async with Journal(tmp_path / "journal.db", Clock(), BufferSettings()) as journal:
            yield lambda: Health(journal, worker, tmp_path / "models")


async def test_what_was_learned_survives_a_restart(make: Any) -> None:
    """The state is written at the end and taken up again at the next start."""
    first = make()
    async with first.running():
        await first.take(1)
        await first.take(2)
    second = make()
    async with second.running():
        await second.take(3)
    assert second.detector.rows == 3


async def test_a_failing_model_costs_its_health_and_nothing_else(make: Any) -> None:
    """The score says why it is not judged, scoring goes on, and judges again when the model does."""
    health = make()
    async with health.running():
        health.detector.broken = True
        score = await health.take(1)
        assert math.isnan(score.value)
        assert "singular matrix" in score.note
        health.detector.broken = False
        assert (await health.take(2)).value == 0.5


async def test_a_card_that_cannot_be_written_does_not_end_scoring(make: Any, caplog: Any) -> None:
    """What was learned is lost at a restart, which is said; readings and scores go on."""
    health = make()
    health.file.parent.mkdir(parents=True)
    (health.file.parent / "state.npz.new").mkdir()  # an OSError for whoever opens it
    async with health.running():
        await health.take(1)
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not really", None])
async def test_a_damaged_file_is_set_aside_and_learning_starts_anew(make: Any, damage: bytes | None) -> None:
    """Empty, foreign or cut in half: never a crash loop, and the old file is still there to look at."""
    health = make()
    await asyncio.to_thread(
        write_model, health.file, {"rows": np.arange(1000.0)}, {"kind": KIND, "schema": SCHEMA}
    )
    content = health.file.read_bytes()
    health.file.write_bytes(content[: len(content) // 2] if damage is None else damage)
    async with health.running():
        await health.take(1)
    assert health.detector.rows == 1
    assert health.file.with_suffix(".refused.npz").exists()
    assert (await asyncio.to_thread(read_model, health.file, KIND, SCHEMA))[0]["rows"] == 1
