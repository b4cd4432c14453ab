"""SIGKILL at random moments: a journal is written by child after child, and looked at after each death.

Run as a program it is the parent of the children: it has imported everything, so that a life costs a fork
and not a start of Python.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from edge_agent.buffer import Journal
from edge_agent.clock import Clock
from edge_agent.settings.models import BufferSettings
from edge_agent.types import Priority
from tests.prove.power import Tally, line, numbers_in

LIFE = (0.005, 0.12)
"""Seconds a child lives, from to."""


async def write(folder: Path, first: int, told: int) -> None:
    """Journal numbered lines for ever; each acknowledgement, and each end of a row, is told to `told`."""
    settings = BufferSettings.model_validate({"commit_interval": "3ms"})
    journal = Journal(folder / "journal.db", Clock(), settings)
    await journal.open()
    reader = journal.reader()
    number = first
    while True:
        fresh = list(range(number + 1, number + random.randint(1, 60)))
        number += len(fresh)
        futures = [journal.append(f"m{n % 5}", line(n), _class_of(n)) for n in fresh]
        await asyncio.gather(*futures)
        os.write(told, _said("+", fresh))
        if random.random() < 0.3 and fresh:
            records = await reader.fetch(max_records=20)
            lines = [text for record in records for text in record.lines.split(b"\n")]
            # Told before it is done: whoever reads this must expect either.
            os.write(
                told, _said("-", [int(text.rsplit(b" ", 1)[1]) - 1_795_000_000_000_000_000 for text in lines])
            )
            await reader.ack(record.seq for record in records)


def _class_of(number: int) -> Priority:
    return Priority.ALARM if number % 37 == 0 else Priority.TELEMETRY


def _said(what: str, numbers: list[int]) -> bytes:
    return (what + ",".join(map(str, numbers)) + "\n").encode()


def one_life(folder: Path, first: int, seconds: float) -> tuple[set[int], set[int]]:
    """Fork a writer and kill it after a while: the numbers it said are acknowledged, and may have ended."""
    reading, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        random.seed(first)
        asyncio.run(write(folder, first, told))
        os._exit(0)
    os.close(told)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as said:
        texts = said.read().decode().split("\n")[:-1]
    numbers: dict[str, set[int]] = {"+": set(), "-": set()}
    for text in texts:
        numbers[text[0]].update(int(n) for n in text[1:].split(",") if n)
    return numbers["+"], numbers["-"]


def run(folder: Path, kills: int, seed: int) -> Tally:
    """`kills` lives on one journal; after each, what was acknowledged and has not ended is there."""
    rng = random.Random(seed)
    tally = Tally()
    kept: set[int] = set()
    maybe: set[int] = set()
    began = time.monotonic()
    for life in range(kills):
        first = life * 100_000
        fresh, ended = one_life(folder, first, rng.uniform(*LIFE))
        kept = (kept | fresh) - ended
        tally.acknowledged += len(fresh)
        maybe |= ended | set(range(first, first + 100_000))
        _look(folder, kept, maybe, tally, seed + life)
    tally.seconds = time.monotonic() - began
    return tally


def _look(folder: Path, kept: set[int], maybe: set[int], tally: Tally, seed: int) -> None:
    left = numbers_in(folder / "journal.db")
    there = {number for number in left if number is not None}
    lost = len(kept - there)
    fake = len(left) - len(there) + len(there - kept - maybe)
    tally.cuts += 1
    tally.lost += lost
    tally.fake += fake
    if lost or fake:
        tally.seeds.append(seed)


def campaign(folder: Path, kills: int, seed: int) -> Tally:
    """`run` in a process of its own, which forks (a process with threads must not)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.prove.kills", str(folder), str(kills), str(seed)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        timeout=60 + kills,
        check=True,
    )
    return Tally(**json.loads(done.stdout))


if __name__ == "__main__":
    print(json.dumps(asdict(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))))
