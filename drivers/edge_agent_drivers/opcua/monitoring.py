"""What a machine's subscriptions bring: notifications by group, refusals, gaps, overflows, revised wishes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge_agent.types import ReadGroup, Reason
from edge_agent_drivers.opcua.conditions import Conditions
from edge_agent_drivers.opcua.items import Item, Pending, complain
from edge_agent_drivers.opcua.lookup import look_up
from edge_agent_drivers.opcua.requests import Granted, Wanted, named
from edge_agent_drivers.opcua.session import Session
from edge_agent_drivers.opcua.status import FILTER_REFUSED, FULL, status_of
from edge_agent_drivers.opcua.structures import Types

log = logging.getLogger(__name__)

RETEST = 600.0
"""Seconds after which a node the server did not know is looked for again."""
_SLOWEST_PUBLISHING = 5.0
"""Seconds between signs of life where tags are sampled more slowly than this."""


class Monitoring:
    """The items of one machine over one session after the other. Is told by `Subscriptions` what comes."""

    def __init__(
        self,
        machine: str,
        groups: Sequence[ReadGroup],
        items: Mapping[float, Sequence[Item]],
        types: Types,
        conditions: Conditions | None = None,
    ) -> None:
        self.conditions = conditions
        self._machine, self._groups, self._types = machine, groups, types
        # A notification carries a handle: the position in this list.
        self._flat = [(item, group) for group in groups for item in items[group.every]]
        self.pending = {group.every: Pending() for group in groups}
        self.every = min([_SLOWEST_PUBLISHING, *(group.every for group in groups)])
        self._awaited: set[int] = set()
        self._all_heard = asyncio.Event()
        self._retest_at = 0.0
        self._said_revised = ""
        self._said_lost = False

    async def begin(self, session: Session) -> None:
        """Subscribe to every item that was found. DeviceUnreachable where that fails as a whole."""
        self._said_lost = False
        self._awaited = {handle for handle, (item, _) in enumerate(self._flat) if item.node is not None}
        self._all_heard.clear()
        await self._monitor(session, sorted(self._awaited))
        self._say_revised(session)

    def wait_to_retest(self) -> None:
        """From now on, until what the server does not know is looked for again."""
        self._retest_at = time.monotonic() + RETEST

    def end(self) -> None:
        """Forget what nobody has read."""
        for pending in self.pending.values():
            pending.take()

    async def _monitor(self, session: Session, handles: Sequence[int], *, filtered: bool = True) -> None:
        """Ask the server to monitor items; again without deadband those it cannot filter."""
        wanted = [self._wanted(session, handle, filtered) for handle in handles]
        unfiltered: list[int] = []
        for one, granted in zip(wanted, await session.monitor(wanted), strict=True):
            item = self._flat[one.handle][0]
            item.granted = granted
            if granted.code & 0xFFFF0000 in FILTER_REFUSED and one.deadband:
                unfiltered.append(one.handle)
                complain(
                    self._machine, item, "the server cannot filter it by deadband; it sends every change"
                )
            elif granted.refused:
                self._refused(item, one.handle, granted)
            else:
                item.trouble = None
        if unfiltered:
            await self._monitor(session, unfiltered, filtered=False)
        if not self._awaited:
            self._all_heard.set()

    def _wanted(self, session: Session, handle: int, filtered: bool) -> Wanted:
        item, _ = self._flat[handle]
        wish = item.wish
        deadband = (wish.percent or wish.deadband) if filtered else 0.0
        queue = min(wish.queue, session.limits.queue) if session.limits.queue else wish.queue
        return Wanted(handle, item.node, wish.sampling, deadband, wish.percent is not None, queue)

    def _refused(self, item: Item, handle: int, granted: Granted) -> None:
        item.trouble = status_of(granted.code)
        self._awaited.discard(handle)
        what = f"the server refuses to monitor it: {named(granted.code)}, {item.trouble.reason}"
        if item.trouble.reason is Reason.ILLEGAL_ADDRESS:
            what = f"the server has no such node ({named(granted.code)}): edge-agent browse opcua shows them"
        if granted.code & 0xFFFF0000 in FULL:
            what = "the server monitors no more items: read fewer tags, or write mode: poll for the machine"
        complain(self._machine, item, what)

    def changed(self, handle: int, sent: Any) -> None:
        """A DataValue came for the item with this handle."""
        if handle >= len(self._flat):
            return
        item, group = self._flat[handle]
        self.pending[group.every].put(item, sent)
        self._awaited.discard(handle)
        if not self._awaited:
            self._all_heard.set()

    def lost(self, handles: Iterable[int]) -> None:
        """A notification is gone for good: these items are read again."""
        for handle in handles:
            if handle < len(self._flat):
                self._flat[handle][0].emitted = 0
            elif self.conditions is not None:
                self.conditions.missed()
        if not self._said_lost:
            self._said_lost = True
            log.warning(
                "%s: a notification was lost or cannot be decoded; the values are read again", self._machine
            )

    def happened(self, handle: int, fields: Sequence[Any]) -> None:
        """An event came."""
        if self.conditions is not None and handle == self.conditions.handle:
            self.conditions.happened(fields)

    async def first_values(self, timeout: float) -> None:
        """Wait for the first value of every item, once for each connection."""
        if self._all_heard.is_set():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._all_heard.wait()
        # Only the first read waits; a node that has nothing to say must not slow the others down.
        self._all_heard.set()

    async def retest(self, session: Session, *, subscribing: bool) -> None:
        """Now and then look again for what the server did not know. DeviceUnreachable where that fails."""
        if time.monotonic() < self._retest_at:
            return
        self.wait_to_retest()
        handles = [handle for handle, (item, _) in enumerate(self._flat) if item.gone]
        if not handles:
            return
        items = [self._flat[handle][0] for handle in handles]
        await session.release([item.granted for item in items if item.granted is not None])
        for item in items:
            item.granted = None
        await look_up(self._machine, session, items, self._types)
        if subscribing:
            found = [handle for handle in handles if self._flat[handle][0].node is not None]
            await self._monitor(session, found)

    def _say_revised(self, session: Session) -> None:
        """Log once what the server made of the wishes, where it is not what was asked for."""
        told = [*self._revised_publishing(session), *self._revised_items()]
        text = "; ".join(told)
        if text and text != self._said_revised:
            log.info("%s: revised by the server: %s", self._machine, text)
        self._said_revised = text

    def _revised_publishing(self, session: Session) -> list[str]:
        made = session.subscriptions.intervals if session.subscriptions is not None else []
        slowest = max((interval for interval, _ in made), default=self.every)
        if abs(slowest - self.every) < 0.001:
            return []
        return [f"publishing every {slowest:g} s, not {self.every:g} s"]

    def _revised_items(self) -> list[str]:
        slower: dict[tuple[float, float], int] = {}
        shorter: dict[tuple[int, int], int] = {}
        for item, _ in self._flat:
            if item.granted is None or item.granted.refused:
                continue
            sampling = round(item.granted.sampling, 4)
            if sampling > item.wish.sampling + 0.001:
                pair = (item.wish.sampling, sampling)
                slower[pair] = slower.get(pair, 0) + 1
            if 0 < item.granted.queue < item.wish.queue:
                sizes = (item.wish.queue, item.granted.queue)
                shorter[sizes] = shorter.get(sizes, 0) + 1
        return [
            *(
                f"{count} tags sampled every {got:g} s, not {asked:g} s"
                for (asked, got), count in slower.items()
            ),
            *(f"queues of {got}, not {asked}, for {count} tags" for (asked, got), count in shorter.items()),
        ]

    def describe(self, session: Session | None) -> list[str]:
        """The subscriptions, line by line: what was asked for, and what the server made of it."""
        lines = [f"publishing every {self.every:g} s asked for"]
        made = session.subscriptions if session is not None else None
        if session is None or made is None:
            return lines
        for interval, keep_alive in made.intervals:
            lines.append(f"subscription: publishes every {interval:g} s, sign of life every {keep_alive:g} s")
        lines.append(f"gaps: {made.counts.gaps} messages, {made.counts.republished} of them sent again")
        for name, most in session.limits.said.items():
            lines.append(f"server takes at most: {name.replace('_', ' ')} {most}")
        return lines
