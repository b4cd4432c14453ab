from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.buffer import Journal
from edge_agent.clock import Clock
from edge_agent.settings.models import BufferSettings


class HeldClock(Clock):
    """A clock that stands until it is moved."""

    def __init__(self, now: int = 1_795_000_000_000_000_000) -> None:
        self.time = now

    def now(self) -> int:
        return self.time


def settings(**values: Any) -> BufferSettings:
    return BufferSettings.model_validate({"commit_interval": "50ms", **values})


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
async def make(tmp_path: Path, clock: HeldClock) -> AsyncIterator[Callable[..., Journal]]:
    """Makes journals on `journal.db` of the test's folder, and closes them."""
    made = []

    def build(readers: tuple[str, ...] = ("sink",), *, eager: bool = True, **values: Any) -> Journal:
        path = tmp_path / "journal.db"
        journal = Journal(path, clock, settings(**values), readers=readers, eager=eager)
        made.append(journal)
        return journal

    yield build
    for journal in made:
        await journal.close()
