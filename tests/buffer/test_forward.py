"""The delivery loop, with a sink that does what the test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

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
async def running(journal: Journal, sink: Sink, **limits: Any) -> AsyncIterator[Delivery]:
    delivery = Delivery(sink.name)
    task = asyncio.create_task(forward(journal, journal.reader(), sink, delivery, **limits))
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


async def test_what_is_in_quarantine_can_be_tried_again_or_given_up(make: Make) -> None:
    """Tried again it is delivered like anything new; given up it is counted."""
    sink = Recorder()
    async with make() as journal, running(journal, sink):
        for lines in (b"bad 1", b"bad 2"):
            await journal.append("m", lines, urgent=True)
        await until(lambda: journal.stats().quarantined == 2 and journal.stats().rows == 0)
        second, first = await journal.quarantined()
        await journal.drop_quarantined([first])
        assert (journal.stats().quarantined, journal.stats().dropped) == (1, {"quarantine_dropped": 1})

        async def takes_all(records: Sequence[Record], *, backlog: bool) -> None:
            sink.got += [(record.lines, backlog) for record in records]

        sink.deliver = takes_all  # type: ignore[method-assign]
        await journal.retry_quarantined([second])
        await until(lambda: (b"bad 2", False) in sink.got)
        assert journal.stats().quarantined == 0
        assert await journal.quarantined() == []


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


class Slow(Recorder):
    """Takes a moment for each delivery."""

    async def deliver(self, records: Sequence[Record], *, backlog: bool) -> None:
        await asyncio.sleep(0.01)
        await super().deliver(records, backlog=backlog)


async def test_what_is_new_does_not_wait_behind_the_backlog(make: Make) -> None:
    """Of 400 old rows and 20 new ones each new one is delivered within a few batches, both in order."""
    sink = Slow()
    async with make() as journal:
        for number in range(400):
            journal.append("m", b"old %d" % number)
            await journal.flush()
        async with running(journal, sink, max_records=10):
            late: list[int] = []
            for number in range(20):
                await journal.append("m", b"new %d" % number, urgent=True)
                before = len(sink.got)
                await until(partial(sink.got.__contains__, (b"new %d" % number, False)))
                late.append(len(sink.got) - before)
            assert len(sink.got) < 420, "the backlog is still on its way"
            assert max(late) <= 30, "one batch under way, one begun, one's own"
            await until(lambda: journal.stats().rows == 0)
    assert [lines for lines, backlog in sink.got if backlog] == [b"old %d" % n for n in range(400)]
    assert [lines for lines, backlog in sink.got if not backlog] == [b"new %d" % n for n in range(20)]


async def test_an_outage_in_the_middle_of_a_backlog_loses_and_repeats_nothing(make: Make) -> None:
    """Failures at random: every row arrives once, and in order within live and backlog."""
    sink = Slow()
    sent = 0
    async with make() as journal, running(journal, sink, max_records=7) as delivery:
        for turn in range(30):
            for _ in range(5):
                journal.append("m", b"row %d" % sent)
                sent += 1
                await journal.flush()
            if turn % 3 == 1:
                sink.trouble = [SinkUnavailable("gone", retry_after=0.01)]
        await until(lambda: len(sink.got) == sent)
        await until(lambda: journal.stats().rows == 0)
        assert delivery.failed_tries > 0
    assert sorted(lines for lines, _ in sink.got) == sorted(b"row %d" % n for n in range(sent))
    live = [int(lines.split()[1]) for lines, backlog in sink.got if not backlog]
    assert live == sorted(live)


async def test_the_backlog_keeps_to_its_rate_and_the_rest_does_not(make: Make) -> None:
    """At 4 KiB a second 2 KiB of old rows take about half a second; a new row goes at once."""
    sink = Recorder()
    async with make() as journal:
        for number in range(16):
            journal.append("m", b"%-128d" % number)
            await journal.flush()
        loop = asyncio.get_running_loop()
        async with running(journal, sink, backlog_rate=4096):
            start = loop.time()
            await until(lambda: len(sink.got) > 0)
            await journal.append("m", b"new", urgent=True)
            await until(lambda: (b"new", False) in sink.got)
            assert loop.time() - start < 0.3
            await until(lambda: len(sink.got) == 17)
            assert 0.2 < loop.time() - start < 1.5
