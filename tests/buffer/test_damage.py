"""Damaged, foreign and future files: set aside and said, never a crash loop, never a made-up line."""

from __future__ import annotations

import logging
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.buffer import Journal
from edge_agent.buffer.database import PAGE_SIZE
from tests.buffer.test_journal import empty, fetch

Make = Callable[..., Journal]


async def fill(make: Make, rows: int = 200) -> set[bytes]:
    lines = {b"readings,machine=m v=%d %d" % (number * 7, number) for number in range(rows)}
    async with make() as journal:
        for line in sorted(lines):
            journal.append(line.decode().split("=")[2].split()[0], line)
        await journal.flush()
    return lines


async def survivors(make: Make) -> tuple[set[bytes], Journal]:
    async with make() as journal:
        await journal.append("m", b"new")
        records = await fetch(journal, max_bytes=10**9, max_records=10**6)
        assert (await make_again_refused(journal)) is False
        return {record.lines for record in records} - {b"new"}, journal


async def make_again_refused(journal: Journal) -> bool:
    return journal.stats().error is not None


def aside(folder: Path, kind: str) -> list[Path]:
    return [file for file in folder.iterdir() if f".{kind}-" in file.name and not file.name.endswith("-wal")]


async def test_a_flipped_bit_costs_at_most_its_row(make: Make, tmp_path: Path) -> None:
    """Wherever a bit flips, what is read was written; at most a few rows are lost, and counted."""
    lines = await fill(make)
    path = tmp_path / "journal.db"
    sound = path.read_bytes()
    random.seed(11)
    for _ in range(60):
        broken = bytearray(sound)
        # the first page is the schema: a flip there may cost the file, see the test below
        broken[random.randrange(PAGE_SIZE, len(broken))] ^= 1 << random.randrange(8)
        path.write_bytes(broken)
        kept, journal = await survivors(make)
        assert kept <= lines, "nothing is made up"
        assert len(kept) > 100
        if kept != lines:
            assert sum(journal.stats().dropped.values()) > 0
        empty(tmp_path)


async def test_a_damaged_page_and_a_torn_file(make: Make, tmp_path: Path) -> None:
    """Overwritten and cut-off files: the rows around the damage are saved, the file is kept for people."""
    lines = await fill(make, 2000)
    path = tmp_path / "journal.db"
    sound = path.read_bytes()
    for broken in (
        sound[:20_000] + b"\xff" * 4096 + sound[24_096:],
        sound[: len(sound) // 2],
        sound[:100] + bytes(1948) + sound[2048:],
    ):
        path.write_bytes(broken)
        kept, _ = await survivors(make)
        assert kept <= lines
        empty(tmp_path)


@pytest.mark.parametrize(
    "content", [b"hello, this is not SQLite at all" * 40, bytes(4096), b"SQLite format 3\0"]
)
async def test_a_file_that_is_no_database(
    make: Make, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside with a message, and the agent goes on."""
    (tmp_path / "journal.db").write_bytes(content)
    with caplog.at_level(logging.ERROR):
        kept, _ = await survivors(make)
    assert kept == set()
    (kept_file,) = aside(tmp_path, "damaged")
    assert kept_file.read_bytes() == content
    assert "set aside" in caplog.text


async def test_an_empty_file_is_a_new_journal(make: Make, tmp_path: Path) -> None:
    """A power cut may leave a name without content."""
    (tmp_path / "journal.db").touch()
    kept, journal = await survivors(make)
    assert (kept, dict(journal.stats().dropped)) == (set(), {})


async def test_someone_elses_database_is_left_alone(make: Make, tmp_path: Path) -> None:
    """A foreign database is set aside whole."""
    with sqlite3.connect(tmp_path / "journal.db") as other:
        other.execute("CREATE TABLE theirs(x)")
    other.close()
    await survivors(make)
    (kept_file,) = aside(tmp_path, "foreign")
    assert sqlite3.connect(kept_file).execute("SELECT count(*) FROM theirs").fetchone() == (0,)


async def test_a_newer_versions_file_is_set_aside_whole(make: Make, tmp_path: Path) -> None:
    """A downgrade never touches what the newer program wrote."""
    await fill(make, 20)
    with sqlite3.connect(tmp_path / "journal.db") as file:
        file.execute("PRAGMA user_version=99")
    file.close()
    await survivors(make)
    (kept_file,) = aside(tmp_path, "newer")
    assert sqlite3.connect(kept_file).execute("SELECT count(*) FROM records").fetchone() == (20,)
