"""Watchers of live samples: bounded, counted, and none the wiser of each other."""

from __future__ import annotations

import asyncio

from edge_agent.pipeline.tap import Taps
from edge_agent.types import Reason, SampleBatch, Tag, bad

TAGS = {"pump-1": [Tag("speed", unit="1/min")]}


def batch(number: int, machine: str = "pump-1") -> SampleBatch:
    return SampleBatch(machine, ("speed",), number * 1_000_000, [float(number)])


async def test_a_watcher_sees_its_machines_from_now_on() -> None:
    """Batches before it came and those of other machines are not shown."""
    taps = Taps()
    taps.batch(batch(1))
    watching = taps.watch(TAGS)
    first = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0)
    taps.batch(batch(2, "press-2"))
    taps.batch(SampleBatch("pump-1", ("speed",), 3_000_000, [None], {0: bad(Reason.TIMEOUT)}))
    assert await first == {
        "machine": "pump-1",
        "t": 3,
        "ns": "3000000",
        "tags": {"speed": {"value": None, "unit": "1/min", "quality": "bad", "reason": "timeout"}},
        "dropped": 0,
    }
    await watching.aclose()
    assert not taps._open


async def test_a_slow_watcher_loses_the_oldest_and_is_told() -> None:
    """The queue is bounded; what fell out is counted; a quick watcher beside it loses nothing."""
    taps = Taps()
    slow, quick = taps.watch(TAGS, waiting=10), taps.watch(TAGS)
    waiting = [asyncio.ensure_future(anext(one)) for one in (slow, quick)]
    await asyncio.sleep(0)
    for number in range(1, 101):
        taps.batch(batch(number))
    shown = [await one for one in waiting]
    assert [one["tags"]["speed"]["value"] for one in shown] == [91.0, 1.0]
    assert [one["dropped"] for one in shown] == [90, 0]
    rest = [await anext(slow) for _ in range(9)]
    assert rest[-1]["tags"]["speed"]["value"] == 100.0
    for one in (slow, quick):
        await one.aclose()
