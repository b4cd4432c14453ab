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
    """Records up to this sequence number are marked as backlog."""


async def forward(
    journal: Journal,
    reader: Reader,
    sink: Sink,
    delivery: Delivery | None = None,
    *,
    on_delivered: Callable[[Sequence[Record]], None] = lambda _records: None,
    max_bytes: int = 1024 * 1024,
    max_records: int = 256,
) -> None:
    """Deliver what `reader` gives to `sink` until cancelled, and acknowledge it; the sink is not closed.

    `on_delivered` hears of records once the sink has them; it must not raise.
    """
    delivery = delivery or Delivery(sink.name)
    loop = asyncio.get_running_loop()
    # what is there before the first delivery was committed before the sink could have been connected
    delivery.backlog_until = reader.newest
    reader.rewind()
    while True:
        delivery.state = "idle" if not delivery.failures else delivery.state
        records = await reader.fetch(max_bytes, max_records)
        delivery.state = "delivering"
        delivery.last_try = loop.time()
        try:
            for backlog, group in itertools.groupby(records, lambda record: _is_backlog(record, delivery)):
                delivered = list(group)
                await _deliver(journal, reader, sink, delivered, delivery, backlog=backlog)
                on_delivered(delivered)
        except SinkUnavailable as away:
            await _wait(away, delivery, loop)
            reader.rewind()
            continue
        if delivery.failures:
            log.warning("%s takes records again after %d failed tries", sink.name, delivery.failures)
            delivery.backlog_until = reader.newest
        delivery.failures, delivery.error, delivery.last_success = 0, None, loop.time()


def _is_backlog(record: Record, delivery: Delivery) -> bool:
    return delivery.failures > 0 or record.seq <= delivery.backlog_until


async def _deliver(
    journal: Journal,
    reader: Reader,
    sink: Sink,
    records: Sequence[Record],
    delivery: Delivery,
    *,
    backlog: bool,
) -> None:
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
