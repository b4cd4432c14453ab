"""The delivery loop: journal to sink, at least once, in order; what a sink refuses goes to quarantine."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_agent.buffer.journal import Journal
from edge_agent.buffer.reader import Reader
from edge_agent.contracts.plugs import Sink
from edge_agent.errors import SinkRejected, SinkUnavailable
from edge_agent.failpoints import reached
from edge_agent.types import Record

log = logging.getLogger(__name__)

BACKOFF_FIRST, BACKOFF_LAST = 1.0, 15.0
"""Seconds between tries while a sink is away; each wait is drawn between half and all of it."""


@dataclass(slots=True)
class Delivery:
    """How the delivery to one sink is doing; times are the loop's (seconds, monotonic)."""

    sink: str
    state: str = "starting"
    """starting, delivering, idle, or waiting (the sink is away)."""
    last_try: float | None = None
    last_success: float | None = None
    next_try: float | None = None
    """When it tries again; None while it is not waiting."""
    error: str | None = None
    """Why the last try failed; None after a success."""
    failures: int = 0
    """Failed tries in a row."""
    failed_tries: int = 0
    """Failed tries since the start."""
    delivered_records: int = 0
    quarantined_records: int = 0
    backlog_until: int = 0
    """Records up to this sequence number are backlog: marked so, and sent after what is new."""


async def forward(
    journal: Journal,
    reader: Reader,
    sink: Sink,
    delivery: Delivery | None = None,
    *,
    on_delivered: Callable[[Sequence[Record]], None] = lambda _records: None,
    max_bytes: int = 1024 * 1024,
    max_records: int = 256,
    backlog_rate: int | None = None,
) -> None:
    """Deliver what `reader` gives to `sink` until cancelled, and acknowledge it; the sink is not closed.

    Alarms go first, then what is new, then the backlog, of which no more than `backlog_rate` bytes of lines
    go in a second (None: as fast as the sink takes it). `on_delivered` hears of records once the sink has
    them; it must not raise.
    """
    delivery = delivery or Delivery(sink.name)
    loop = asyncio.get_running_loop()
    pace = _Pace(backlog_rate)
    # what is there before the first delivery was committed before the sink could have been connected
    _fall_behind(reader, delivery)
    while True:
        delivery.state = "idle" if not delivery.failures else delivery.state
        records = await reader.fetch(min(max_bytes, pace.burst), max_records, backlog_from=pace.free_at)
        delivery.state = "delivering"
        delivery.last_try = loop.time()
        try:
            for backlog, group in itertools.groupby(records, lambda one: one.seq <= delivery.backlog_until):
                delivered = list(group)
                await _deliver(journal, reader, sink, delivered, delivery, backlog=backlog)
                on_delivered(delivered)
                if backlog:
                    pace.spend(sum(len(record.lines) for record in delivered))
        except SinkUnavailable as away:
            await _wait(away, delivery, loop)
            _fall_behind(reader, delivery)
            continue
        if delivery.failures:
            log.warning("%s takes records again after %d failed tries", sink.name, delivery.failures)
        delivery.failures, delivery.error, delivery.last_success = 0, None, loop.time()


def _fall_behind(reader: Reader, delivery: Delivery) -> None:
    reader.fall_behind()
    delivery.backlog_until = reader.backlog_until


class _Pace:
    """When the next part of the backlog may go, at `rate` bytes a second."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self.free_at = 0.0
        """Loop time from which on it may."""
        self.burst = max(1, rate // 4) if rate else 2**31
        """Most bytes at a time: a quarter of a second's, so that the line has room for what is new."""

    def spend(self, size: int) -> None:
        """Note that `size` bytes of backlog went."""
        if self._rate:
            now = asyncio.get_running_loop().time()
            self.free_at = max(now, self.free_at) + size / self._rate


async def _deliver(
    journal: Journal,
    reader: Reader,
    sink: Sink,
    records: Sequence[Record],
    delivery: Delivery,
    *,
    backlog: bool,
) -> None:
    reached("sink-before")
    try:
        await sink.deliver(records, backlog=backlog)
    except SinkRejected as refusal:
        refused = set(refusal.seqs)
        for record in records:
            if record.seq in refused:
                journal.quarantine(record, record.lines, str(refusal))
        log.error("%s refused %d records for good: %s", sink.name, len(refused), refusal)
        delivery.quarantined_records += len(refused)
        delivery.delivered_records -= len(refused)
    reached("sink-delivered")
    reader.ack(record.seq for record in records)
    delivery.delivered_records += len(records)


async def _wait(away: SinkUnavailable, delivery: Delivery, loop: asyncio.AbstractEventLoop) -> None:
    delivery.failures += 1
    delivery.failed_tries += 1
    if delivery.failures == 1 or str(away) != delivery.error:
        log.warning("%s is away: %s; records are kept", delivery.sink, away)
    delivery.error, delivery.state = str(away), "waiting"
    if away.retry_after is not None:
        pause = away.retry_after
    else:
        longest = min(BACKOFF_LAST, BACKOFF_FIRST * 2 ** min(delivery.failures - 1, 10))
        pause = random.uniform(longest / 2, longest)
    delivery.next_try = loop.time() + pause
    await asyncio.sleep(pause)
    delivery.next_try = None
