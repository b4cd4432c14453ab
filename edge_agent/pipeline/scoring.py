"""One machine's health: rows -> detector (in a worker thread) -> score -> alert logic and published state.

What was learned is written now and then (DECISIONS 29), so that a restart goes on learning.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edge_agent.alarms.health import HealthAlarms
from edge_agent.clock import iso
from edge_agent.contracts.plugs import Detector
from edge_agent.lineprotocol import health_line
from edge_agent.modelfile import read_model, write_model
from edge_agent.pipeline.alerts import AlertPublisher
from edge_agent.pipeline.features import Row
from edge_agent.pipeline.outlets import Board, Journalling, Place
from edge_agent.types import HealthState, Score

log = logging.getLogger(__name__)

MOST_WAITING = 5_000
"""Rows that may wait for the detector; at one row a second more than an hour."""
MOST_AT_ONCE = 500
SAVE_EVERY = 60.0
KIND = "health"
SCHEMA = 1
"""Of the file; what a detector keeps in it has a version of its own."""

T = TypeVar("T")


class Scoring:
    """Feeds one detector and publishes what it says."""

    def __init__(
        self,
        place: Place,
        detector: Detector,
        alarms: HealthAlarms,
        alerts: AlertPublisher,
        journal: Journalling,
        board: Board,
        folder: Path,
        worker: Executor,
        on_score: Callable[[Score], None] = lambda _score: None,
        on_drop: Callable[[], None] = lambda: None,
    ) -> None:
        self._place = place
        self._detector = detector
        self._alarms = alarms
        self._alerts = alerts
        self._journal = journal
        self._board = board
        self._file = folder / place.machine / "state.npz"
        # One thread for all detectors: updates and saves of one model never overlap.
        self._worker = worker
        self._on_score = on_score
        self._on_drop = on_drop
        self._waiting: deque[Row] = deque()
        self._news = asyncio.Event()
        self._notices: deque[str] = deque(maxlen=5)
        self._unsaved = False
        self._broken = ""
        self._shown: HealthState | None = None
        self._shown_at = 0.0
        self.last: Score | None = None

    @property
    def waiting(self) -> int:
        """Rows that the detector has not seen yet."""
        return len(self._waiting)

    def take(self, row: Row) -> None:
        """Queue a row; the oldest is dropped, and counted, where the detector cannot keep up."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._on_drop()
        self._waiting.append(row)
        self._news.set()

    async def run(self) -> None:
        """Score what comes, save what was learned every minute and at the end."""
        await self._restore()
        save_at = asyncio.get_running_loop().time() + SAVE_EVERY
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await self._score_waiting()
                if asyncio.get_running_loop().time() >= save_at:
                    await self._off_loop(self._save)
                    save_at = asyncio.get_running_loop().time() + SAVE_EVERY
        finally:
            await self._off_loop(self._save)

    async def _off_loop(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    def _save(self) -> None:
        """Keep what was learned; a full or read-only card costs that, and nothing else."""
        try:
            write_model(self._file, self._detector.save(), {"kind": KIND, "schema": SCHEMA})
        except OSError as error:
            if not self._unsaved:
                log.error(
                    "%s: what was learned cannot be kept in %s: %s", self._place.machine, self._file, error
                )
            self._unsaved = True
        else:
            self._unsaved = False

    async def _score_waiting(self) -> None:
        while self._waiting:
            rows = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
            for score in await self._off_loop(self._update, rows):
                self._publish(score)

    def _update(self, rows: Sequence[Row]) -> list[Score]:
        """The scores of some rows; a detector that fails costs its machine's health, never its readings."""
        try:
            scores = scores_of(self._detector, rows)
        except Exception as error:
            text = f"the health model failed: {type(error).__name__}: {error}"
            if text != self._broken:
                log.error("%s: %s", self._place.machine, text, exc_info=error)
            self._broken = text
            return [Score(rows[-1].time, math.nan, HealthState.PAUSED, note=text)]
        self._broken = ""
        return scores

    def _publish(self, score: Score) -> None:
        self.last = score
        self._on_score(score)
        self._alerts.publish(self._alarms.observe([score]), score.time)
        for notice in self._alarms.take_notices():
            log.info("%s: notice: %s", notice.machine, notice.message)
            self._notices.append(f"{iso(notice.time)} {notice.message}")
        self._journal_score(score)
        now = asyncio.get_running_loop().time()
        if score.state is not self._shown or now - self._shown_at >= 1.0:
            self._board.retain(f"{self._place.topic}/health", health_json(score, self._notices))
            self._shown, self._shown_at = score.state, now

    def _journal_score(self, score: Score) -> None:
        if not math.isnan(score.value) or score.state is not self._shown:
            line = health_line(self._place.levels, self._place.machine, score)
            self._journal.append(self._place.machine, line)

    async def _restore(self) -> None:
        await self._off_loop(self._take_up)

    def _take_up(self) -> None:
        if not self._file.exists():
            return
        try:
            self._detector.load(read_model(self._file, KIND, SCHEMA)[0])
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, it must not stop a start
            aside = self._file.with_suffix(".refused.npz")
            self._file.replace(aside)
            log.warning(
                "%s: what was learned does not fit any more (%s); learning anew, the old file is %s",
                self._place.machine,
                error,
                aside,
            )


def scores_of(detector: Detector, rows: Sequence[Row]) -> list[Score]:
    """What the detector says of some rows: the one way in, live and for recorded data."""
    return detector.update(
        np.array([row.time for row in rows], dtype=np.int64),
        np.array([row.values for row in rows], dtype=np.float64),
        np.array([row.running for row in rows], dtype=np.int8),
    )


def health_json(score: Score, notices: Iterable[str] = ()) -> dict[str, Any]:
    """The retained health state of a machine (INTERFACE.md, MQTT), with the last notices in words."""
    return {
        "t": score.time // 1_000_000,
        "state": score.state.value,
        "score": None if math.isnan(score.value) else round(score.value, 4),
        "progress": round(score.progress, 4),
        "contributions": [
            {"tag": tag, "share": round(share, 4)}
            for tag, share in sorted(score.contributions.items(), key=lambda item: -item[1])
        ],
        "note": score.note,
        "notices": list(notices),
    }
