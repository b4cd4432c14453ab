"""The delivery loop, with a sink that does what the test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from edge_agent.buffer import Delivery, Journal, forward
from edge_agent.buffer import forward as forward_function
from edge_agent.contracts.plugs import Sink
from edge_agent.errors import SinkRejected, SinkUnavailable
from edge_agent.types import Record

Make = Callable[..., Journal]


class Recorder(Sink):
    """Keeps what it is given; raises what is put into `trouble` first."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, bool]] = []
        self.trouble: list[Exception] = []
        self.tries = 0

    @property
    def name(self) -> str:
        return "recorder"

    async def deliver(self, records: Sequence[Record], *, backlog: bool) -> None:
        self.tries += 1
        if self.trouble:
            raise self.trouble.pop(0)
        bad = [record.seq for record in records if b"bad" in record.lines]
        self.got += [(record.lines, backlog) for record in records if record.seq not in bad]
        if bad:
            raise SinkRejected("it is bad", bad)


@contextlib.asynccontextmanager
async def running(journal: Journal, sink: Sink) -> AsyncIterator[Delivery]:
    delivery = Delivery(sink.name)
    task = asyncio.create_task(forward(journal, journal.reader(), sink, delivery))
    try:
        yield delivery
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # the condition is anything
            await asyncio.sleep(0.01)


async def test_it_delivers_and_acknowledges(make: Make) -> None:
    """Records go to the sink in order and leave the journal; what was there before is backlog."""
    sink = Recorder()
    async with make() as journal:
        await journal.append("m", b"a 1", urgent=True)
        await journal.append("m", b"a 2", urgent=True)
        async with running(journal, sink) as delivery:
            await until(lambda: len(sink.got) == 2)
            await journal.append("m", b"a 3")
            await until(lambda: len(sink.got) == 3)
            assert sink.got == [(b"a 1", True), (b"a 2", True), (b"a 3", False)]
            await until(lambda: journal.stats().rows == 0)
            assert (delivery.delivered_records, delivery.failures, delivery.error) == (3, 0, None)
            assert delivery.last_success is not None


async def test_a_sink_that_is_away_gets_everything_later_as_backlog(make: Make) -> None:
    """Nothing is lost, the wait is respected, what came meanwhile is backlog, then it is live again."""
    sink = Recorder()
    async with make() as journal, _live(journal, sink) as delivery:
        sink.trouble = [SinkUnavailable("gone", retry_after=0.05), SinkUnavailable("gone", retry_after=0.3)]
        await journal.append("m", b"a 1", urgent=True)
        await until(lambda: delivery.failures == 2)
        assert (delivery.state, delivery.error) == ("waiting", "gone")
        assert delivery.next_try is not None
        await journal.append("m", b"a 2", urgent=True)
        tries = sink.tries
        await asyncio.sleep(0.1)
        assert sink.tries == tries, "no try before retry_after"
        await until(lambda: len(sink.got) == 3)
        await journal.append("m", b"a 3", urgent=True)
        await until(lambda: len(sink.got) == 4)
    assert sink.got[1:] == [(b"a 1", True), (b"a 2", True), (b"a 3", False)]


@contextlib.asynccontextmanager
async def _live(journal: Journal, sink: Recorder) -> AsyncIterator[Delivery]:
    async with running(journal, sink) as delivery:
        await journal.append("m", b"a 0", urgent=True)
        await until(lambda: len(sink.got) == 1)
        yield delivery


async def test_refused_records_go_to_quarantine_and_the_rest_goes_on(make: Make) -> None:
    """One bad record among good ones: the good are delivered, the bad one is kept with the reason."""
    sink = Recorder()
    async with make() as journal:
        for lines in (b"a 1", b"bad 2", b"a 3"):
            await journal.append("m", lines, urgent=True)
        async with running(journal, sink) as delivery:
            await until(lambda: delivery.delivered_records == 2)
            await until(lambda: journal.stats().rows == 0)
        assert [lines for lines, _ in sink.got] == [b"a 1", b"a 3"]
        (kept,) = await journal.quarantined()
        assert (kept.lines, kept.reason) == (b"bad 2", "it is bad")


async def test_the_wait_grows_and_is_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the sink's own wish the pauses double, with jitter."""
    module = __import__("sys").modules[forward_function.__module__]
    monkeypatch.setattr(module, "BACKOFF_FIRST", 0.02)
    monkeypatch.setattr(module, "BACKOFF_LAST", 0.1)
    sink = Recorder()
    sink.trouble = [SinkUnavailable(f"gone {n}") for n in range(6)]
    async with make() as journal:
        await journal.append("m", b"a 1")
        async with running(journal, sink):
            start = asyncio.get_running_loop().time()
            await until(lambda: len(sink.got) == 1)
            assert 0.15 < asyncio.get_running_loop().time() - start < 1
