"""SIGKILL at random moments: what was acknowledged is there, and nothing else is made up."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.buffer import Journal
from tests.buffer.test_journal import fetch

KILLS = 25


def one_life(folder: Path, first: int, seconds: float) -> tuple[set[int], set[int]]:
    """Run the writer for a while, kill it, and return what it said is acknowledged, and delivered."""
    child = subprocess.Popen(
        [sys.executable, Path(__file__).parent / "writer.py", folder, str(first)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    with child.stdout as said:
        assert said.readline() == "open\n"
        time.sleep(seconds)
        child.kill()
        child.wait()
        lines = said.read().split("\n")[:-1]
    stored = {int(line[1:]) for line in lines if line[0] == "+"}
    delivered = {int(line[1:]) for line in lines if line[0] == "-"}
    return stored, delivered


async def test_sigkill_loses_nothing_acknowledged(make: Callable[..., Journal], tmp_path: Path) -> None:
    """25 kills of a writer at random moments, then every acknowledged line is there once, and checks pass."""
    random.seed(7)
    stored: set[int] = set()
    delivered: set[int] = set()
    for life in range(KILLS):
        fresh, gone = await asyncio.to_thread(one_life, tmp_path, life * 10**7, random.uniform(0.01, 0.25))
        stored |= fresh
        delivered |= gone
    async with make() as journal:
        records = await fetch(journal, max_bytes=10**10, max_records=10**9)
    assert sqlite3.connect(tmp_path / "journal.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
    found = [line for record in records for line in record.lines.split(b"\n")]
    numbers = [int(line.rsplit(b" ", 1)[1]) for line in found]
    assert len(numbers) == len(set(numbers)), "no line twice"
    assert stored - delivered <= set(numbers), "nothing acknowledged is lost"
    assert all(
        line == f"readings,machine=m{n % 7} v={n * 3} {n}".encode()
        for line, n in zip(found, numbers, strict=True)
    )
    assert len(stored) > 5000
