"""The steps between wire and journal, and the health model, each for itself, in CPU time."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import Measured, cpu, summary
from edge_agent import registry
from edge_agent.buffer import Journal
from edge_agent.clock import SECOND, Clock
from edge_agent.contracts.plugs import Column
from edge_agent.contracts.settings import HealthSettings
from edge_agent.lineprotocol import BatchEncoder
from edge_agent.settings.models import BufferSettings
from edge_agent.types import SampleBatch, Tag
from edge_agent_drivers.codec import Field, RegisterDecoder

TAGS = tuple(Tag(f"tag_{number}") for number in range(100))
NAMES = tuple(tag.name for tag in TAGS)


def run(repeats: int) -> list[Measured]:
    """Each step's cost."""
    return [
        *decoding(repeats),
        encoding(repeats),
        journal(repeats),
        *(detector(repeats, columns) for columns in (10, 30)),
    ]


def batches(count: int) -> list[SampleBatch]:
    """Scans of 100 float values."""
    noise = random.Random(1)
    return [
        SampleBatch("m", NAMES, i * SECOND, [noise.uniform(0, 100) for _ in NAMES])
        for i in range(1, count + 1)
    ]


def decoding(repeats: int) -> list[Measured]:
    """Registers of one block to values."""
    return [
        _decoding(repeats, "decoding 125 uint16", [(at, Field("uint16")) for at in range(125)]),
        _decoding(repeats, "decoding 60 float32", [(2 * at, Field("float32")) for at in range(60)]),
        _decoding(
            repeats,
            "decoding 60 float32, words swapped, with a range",
            [(2 * at, Field("float32", order="CDAB", range=(-1e9, 1e9))) for at in range(60)],
        ),
    ]


def _decoding(repeats: int, what: str, fields: list[tuple[int, Field]]) -> Measured:
    decoder = RegisterDecoder(fields)
    payload = random.Random(1).randbytes(2 * sum(field.registers for _, field in fields))
    times = [cpu(lambda: [decoder.decode(payload) for _ in range(2000)]) for _ in range(repeats)]
    return summary(what, "ns/value", [t / 2000 / len(fields) * 1e9 for t in times])


def encoding(repeats: int) -> Measured:
    """Line protocol of a wide scan."""
    encoder = BatchEncoder("m", {"site": "s"}, "readings", TAGS)
    scans = batches(1000)
    times = [cpu(lambda: [encoder.encode(scan) for scan in scans]) for _ in range(repeats)]
    return summary("line protocol, 100 tags a scan", "ns/value", [t / len(scans) / 100 * 1e9 for t in times])


def journal(repeats: int) -> Measured:
    """Append and commit, FULL, 50 machines' scans a commit."""
    encoder = BatchEncoder("m", {"site": "s"}, "readings", TAGS)
    lines = [encoder.encode(scan) for scan in batches(500)]

    async def work(folder: str) -> None:
        async with Journal(Path(folder) / "j.db", Clock(), BufferSettings()) as store:
            for index, line in enumerate(lines):
                store.append(f"m{index % 50}", line)
            await store.flush()

    def once() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return cpu(lambda: asyncio.run(work(folder)))

    return summary(
        "journal, 500 scans of 100 values in a commit",
        "µs/value",
        [once() / 50_000 * 1e6 for _ in range(repeats)],
    )


def detector(repeats: int, width: int) -> Measured:
    """One row of an established detector."""
    rng = np.random.default_rng(1)
    settings = HealthSettings.model_validate({"learn": "30m"})
    columns = [Column(f"c{i}") for i in range(width)]
    model = registry.detector("ensemble")(columns, settings)
    total = 6000
    times = np.arange(total, dtype=np.int64) * SECOND
    rows = rng.normal(size=(total, width)).cumsum(axis=0) * 0.01 + rng.normal(size=(total, width))
    running = np.ones(total, dtype=np.int8)
    model.update(times[:5000], rows[:5000], running[:5000])
    spans = [(5000 + i * 1000 // repeats, 5000 + (i + 1) * 1000 // repeats) for i in range(repeats)]

    def scored(a: int, b: int) -> float:
        def work() -> None:
            for i in range(a, b):
                model.update(times[i : i + 1], rows[i : i + 1], running[i : i + 1])

        return cpu(work) / (b - a) * 1e6

    return summary(f"health model, one row of {width} tags", "µs/row", [scored(a, b) for a, b in spans])
