"""Full journals, old rows, failing disks: bounded, and every lost line counted."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.buffer import Journal, commits
from edge_agent.buffer import journal as journal_module
from edge_agent.clock import SECOND, Clock
from edge_agent.errors import StoreError
from edge_agent.settings.models import BufferSettings
from edge_agent.types import Priority
from tests.buffer.conftest import HeldClock
from tests.buffer.test_journal import fetch
from tests.support.users import plain_user

Make = Callable[..., Journal]
random.seed(4)


def folder_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def noise(number: int, size: int = 4000) -> bytes:
    return b"%08d " % number + random.randbytes(size // 2).hex().encode()


async def test_the_oldest_telemetry_goes_first_and_is_counted(make: Make, tmp_path: Path) -> None:
    """At max_size old rows make room, alarms stay, the file stays below it, lost + kept = written."""
    async with make(max_size="1MiB") as journal:
        await journal.append("m", b"alarm", Priority.ALARM)
        for number in range(600):
            await journal.append("m", noise(number), urgent=True)
            size = folder_size(tmp_path)
            assert size <= 1024**2
        dropped = journal.stats().dropped
        kept = await fetch(journal, max_bytes=10**9, max_records=10**6)
    assert set(dropped) == {"full_oldest"}
    assert kept[0].lines == b"alarm"
    assert [int(record.lines[:8]) for record in kept[1:]] == list(range(dropped["full_oldest"], 600))
    assert 100 < len(kept) < 600
    async with make(max_size="1MiB") as journal:
        assert journal.stats().dropped == dropped, "counters outlive a restart"


async def test_reject_new_keeps_what_there_is(make: Make) -> None:
    """With reject_new the newest telemetry is refused in its future and counted; alarms still find room."""
    async with make(max_size="1MiB", on_full="reject_new") as journal:
        kept = refused = 0
        for number in range(400):
            try:
                await journal.append("m", noise(number), urgent=True)
                kept += 1
            except StoreError:
                refused += 1
        await journal.append("m", b"alarm", Priority.ALARM)
        assert journal.stats().dropped == {"full_rejected": refused}
        assert refused > 50
        records = await fetch(journal, max_bytes=10**9, max_records=10**6)
        assert [int(record.lines[:8]) for record in records[1:]] == list(range(kept))
        await journal.reader().ack(record.seq for record in records)
        await journal.append("m", noise(1), urgent=True)


async def test_acknowledged_room_is_used_again(make: Make, tmp_path: Path) -> None:
    """A journal that is emptied as it is filled does not grow."""
    async with make(max_size="8MiB") as journal:
        for number in range(300):
            await journal.append("m", noise(number), urgent=True)
            journal.reader().ack(record.seq for record in await fetch(journal))
        await journal.flush()
        assert journal.stats().bytes < 100_000
    assert (tmp_path / "journal.db").stat().st_size < 200_000


async def test_old_rows_are_dropped(make: Make, clock: HeldClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows over max_age go, counted; younger ones stay."""
    monkeypatch.setattr(journal_module, "AGE_CHECK", 0.0)
    async with make(max_age="1h") as journal:
        await journal.append("m", b"old\nlines", urgent=True)
        for _ in range(4):
            clock.time += 1000 * SECOND
            await journal.append("m", b"young", urgent=True)
        await asyncio.sleep(0.1)
        assert journal.stats().dropped == {"too_old": 2}
        assert len(await fetch(journal)) == 4


async def test_a_clock_that_is_set_drops_nothing(
    make: Make, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Pi without a clock wakes up in the past; when it is set the rows are not too old."""
    monkeypatch.setattr(journal_module, "AGE_CHECK", 0.0)
    async with make(max_age="1h") as journal:
        await journal.append("m", b"early", urgent=True)
        clock.time += 10 * 365 * 86_400 * SECOND
        for _ in range(3):
            await journal.append("m", b"late", urgent=True)
            await asyncio.sleep(0.02)
        assert journal.stats().dropped == {}
        assert len(await fetch(journal)) == 4


async def test_memory_is_bounded_while_the_disk_fails_and_it_heals(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk without room: lines wait in bounded memory, the rest is counted, and it heals."""
    monkeypatch.setattr(commits, "MEMORY_LIMIT", 100_000)
    monkeypatch.setattr(commits, "RETRY_FIRST", 0.05)
    async with make() as journal:
        await journal.append("m", b"before")
        journal._store._sql.execute("PRAGMA max_page_count=16")
        full = journal._store.reopen

        def still_full(now: int) -> None:
            full(now)
            journal._store._sql.execute("PRAGMA max_page_count=16")

        monkeypatch.setattr(journal._store, "reopen", still_full)
        waiting = [journal.append("m", noise(number), urgent=True) for number in range(40)]
        await asyncio.sleep(0.3)
        stats = journal.stats()
        assert stats.error is not None
        assert "full" in stats.error
        assert stats.waiting_bytes <= 100_000
        assert stats.waiting_since is not None
        lost = stats.dropped["memory_full"]
        assert lost == sum(1 for future in waiting if future.done())
        monkeypatch.setattr(journal._store, "reopen", full)
        await asyncio.wait(waiting, timeout=5)
        assert sum(1 for future in waiting if future.exception() is None) == 40 - lost
        assert journal.stats().error is None
        await journal.flush()
        assert journal.stats().dropped == {"memory_full": lost}
        records = await fetch(journal, max_bytes=10**9)
        lines = [line for record in records for line in record.lines.split(b"\n")]
        assert len(lines) == len(set(lines)) == 41 - lost
    assert sqlite3.connect(tmp_path / "journal.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_folder_that_cannot_be_written() -> None:
    """The message names the path, the user and the fix."""
    with plain_user() as folder:
        os.chmod(folder, 0o500)
        with pytest.raises(StoreError, match=f"uid {os.getuid()}"):
            await Journal(folder / "journal.db", Clock(), BufferSettings()).open()
