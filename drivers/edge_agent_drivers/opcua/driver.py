"""The OPC UA driver: one server, by subscription or by polling, read only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.clock import Clock, Stamp
from edge_agent.contracts.plugs import Driver
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import ConfigError, DeviceUnreachable
from edge_agent.types import ReadGroup, Reason, SampleBatch, bad
from edge_agent_drivers.opcua.access import Access
from edge_agent_drivers.opcua.items import Batches, Item, Pending, Timing
from edge_agent_drivers.opcua.requests import Wanted
from edge_agent_drivers.opcua.session import Session
from edge_agent_drivers.opcua.settings import OpcuaMachine
from edge_agent_drivers.opcua.status import FILTER_REFUSED, status_of
from edge_agent_drivers.opcua.variants import describe, interpret

log = logging.getLogger(__name__)

RETEST = 600.0
"""Seconds after which a node the server did not know is tried again."""
_SLOWEST_PUBLISHING = 5.0
"""Seconds between signs of life where tags are sampled more slowly than this."""
_OVERFLOW = 0x480
"""Info bits of a status code: the server's queue overflowed."""


class OpcuaDriver(Driver):
    """Reads one OPC UA server with its own list of items.

    `connect` always builds a new session and subscribes every item again; nothing reconnects by itself.
    """

    def __init__(
        self, machine: str, settings: MachineSettings, clock: Clock, state: Path | None = None
    ) -> None:
        if not isinstance(settings, OpcuaMachine):
            raise ConfigError([f"machine {machine}: these are not the settings of an opcua machine"])
        super().__init__(machine, settings, clock, state)
        self._machine, self._settings, self._clock = machine, settings, clock
        self._access = Access(machine, settings.url, settings.security, state)
        self._stamp = Stamp(clock)
        self._timing = Timing(clock, settings.timestamp, settings.max_skew)
        self._groups, self._items = _plan(settings)
        self._pending = {group.every: Pending() for group in self._groups}
        # A notification carries a handle: the position in this list.
        self._flat = [(item, group) for group in self._groups for item in self._items[group.every]]
        self._session: Session | None = None
        self._subscribing = settings.mode == "subscribe"
        self._awaited: set[str] = set()
        self._all_heard = asyncio.Event()
        self._retest_at = 0.0

    @property
    def groups(self) -> tuple[ReadGroup, ...]:
        """The read groups, one per scan rate, in the order of the configuration."""
        return self._groups

    async def connect(self) -> None:
        """Open a session and subscribe. DeviceUnreachable or DeviceRefused where that fails."""
        await self.close()
        settings = self._settings
        session = Session(self._machine, settings.url, self._access, settings.timeout)
        await session.open()
        self._session = session
        self._timing.set_server_time(session.server_time)
        try:
            for item, _ in self._flat:
                self._resolve(item, session)
            if self._subscribing:
                await self._subscribe(session)
        except BaseException:
            await self.close()
            raise

    def _resolve(self, item: Item, session: Session) -> None:
        item.forget()
        item.node = session.resolve(item.ref)
        if item.node is None:
            item.trouble = bad(Reason.CONFIG_ERROR)
            self._say(item, f"the server has no namespace {item.ref.uri}")

    async def _subscribe(self, session: Session) -> None:
        known = self._wanted(lambda item: item.node is not None)
        self._awaited = set()
        self._all_heard.clear()
        self._retest_at = time.monotonic() + RETEST
        if not known:
            return
        every = min(_SLOWEST_PUBLISHING, *(group.every for group in self._groups))
        self._awaited = {item.tag.name for item, _ in known}
        codes = await session.subscribe(every, [wanted for _, wanted in known], self._notify)
        await self._accept(session, known, codes)

    def _wanted(self, which: Callable[[Item], bool]) -> list[tuple[Item, Wanted]]:
        return [
            (item, Wanted(handle, item.node, group.every, item.tag.deadband))
            for handle, (item, group) in enumerate(self._flat)
            if which(item)
        ]

    async def _accept(self, session: Session, asked: list[tuple[Item, Wanted]], codes: list[int]) -> None:
        """Take note of which items the server monitors; ask again without deadband where it cannot filter."""
        again: list[tuple[Item, Wanted]] = []
        for (item, wanted), code in zip(asked, codes, strict=True):
            if code & 0xFFFF0000 in FILTER_REFUSED and wanted.deadband:
                again.append((item, Wanted(wanted.handle, wanted.node, wanted.sampling, 0.0)))
                self._say(item, "the server cannot filter it by deadband; it sends every change")
            elif code & 0x80000000:
                item.trouble = status_of(code)
                self._awaited.discard(item.tag.name)
                self._say(item, f"the server refuses to monitor it: 0x{code:08X}, {item.trouble.reason}")
            else:
                item.trouble = None
        if again:
            await self._accept(session, again, await session.monitor([wanted for _, wanted in again]))
        if not self._awaited:
            self._all_heard.set()

    def _notify(self, handle: int, sent: Any) -> None:
        if handle >= len(self._flat):
            return
        item, group = self._flat[handle]
        self._pending[group.every].put(item, sent)
        self._awaited.discard(item.tag.name)
        if not self._awaited:
            self._all_heard.set()

    async def read(self, group: ReadGroup, *, raw: bool = False) -> list[SampleBatch]:
        """By polling one scan; by subscription all that came since the last call, and what is held.

        With `raw` the nodes are always polled. DeviceUnreachable where session or subscription is dead.
        """
        if self._session is None:
            raise DeviceUnreachable(f"machine {self._machine}: not connected to {self._settings.url}")
        batches = Batches(self._machine, group, self._stamp, raw)
        if raw or not self._subscribing:
            await self._poll(self._session, group, batches)
        else:
            await self._drain(self._session, group, batches)
        return batches.made()

    async def _poll(self, session: Session, group: ReadGroup, batches: Batches) -> None:
        session.check()
        items = self._items[group.every]
        asked = [item for item in items if item.node is not None]
        for item in items:
            if item.node is None and item.trouble is not None:
                batches.add(item.column, None, None, item.trouble)
        for item, sent in zip(asked, await session.read([item.node for item in asked]), strict=True):
            self._take(item, sent, batches)

    async def _drain(self, session: Session, group: ReadGroup, batches: Batches) -> None:
        pending = self._pending[group.every]
        if not pending:
            # What came before the connection broke is passed on first; the break is told next time.
            session.check()
        if not self._all_heard.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.timeout):
                    await self._all_heard.wait()
            # Only the first read waits; a node that has nothing to say must not slow the others down.
            self._all_heard.set()
        await self._retest(session)
        await self._confirm(session, group, batches)
        for item, sent in pending.take():
            self._take(item, sent, batches)
        if pending.dropped:
            log.warning("%s: %d notifications dropped: nobody read them", self._machine, pending.dropped)
            pending.dropped = 0

    async def _confirm(self, session: Session, group: ReadGroup, batches: Batches) -> None:
        """Pass held values on again every max_interval.

        They are read for that, not remembered: a notification may have been lost, and there are servers
        (asyncua's) that compare with the last write instead of the last report, so that a slow drift never
        leaves the deadband.
        """
        now = self._clock.now()
        pending = self._pending[group.every]
        due = [item for item in self._items[group.every] if item.due(now) and not pending.has(item)]
        held = [item for item in due if item.trouble is None and item.node is not None]
        for item in due:
            if item.trouble is not None:
                item.emitted = now
                batches.add(item.column, None, None, item.trouble)
        if held:
            for item, sent in zip(held, await session.read([item.node for item in held]), strict=True):
                self._take(item, sent, batches)

    def _take(self, item: Item, sent: Any, batches: Batches) -> None:
        reading = interpret(sent, item.tag.type, item.tag.range)
        moment, status = self._timing.choose(item, reading)
        if not batches.raw:
            # A scan for a person to look at is an extra one: it must not pass for the one that is stored.
            item.heard(status, self._timing.theirs(reading), self._clock.now())
        if reading.note:
            self._say(item, reading.note)
        elif sent.StatusCode is not None and sent.StatusCode.value & _OVERFLOW == _OVERFLOW:
            self._say(item, "the server's queue overflowed and lost values: read faster, or set a deadband")
        batches.add(item.column, moment, reading.value, status, describe(sent) if batches.raw else "")

    async def _retest(self, session: Session) -> None:
        if time.monotonic() < self._retest_at:
            return
        self._retest_at = time.monotonic() + RETEST
        refused = self._wanted(lambda item: item.node is not None and item.trouble is not None)
        if refused:
            await self._accept(session, refused, await session.monitor([wanted for _, wanted in refused]))

    async def close(self) -> None:
        """End the session; harmless where there is none."""
        session, self._session = self._session, None
        for pending in self._pending.values():
            pending.take()
        if session is not None:
            await session.close()

    def _say(self, item: Item, what: str) -> None:
        if item.said != what:
            item.said = what
            log.warning("%s: %s (%s): %s", self._machine, item.tag.name, item.ref, what)


def _plan(settings: OpcuaMachine) -> tuple[tuple[ReadGroup, ...], dict[float, list[Item]]]:
    """The read groups by scan rate, in the order of the configuration, and their items."""
    items: dict[float, list[Item]] = {}
    for name, tag in settings.tags.items():
        group = items.setdefault(settings.rate_of(tag), [])
        group.append(Item(tag.runtime(name), tag.node, len(group)))
    by_exception = settings.mode == "subscribe"
    groups = tuple(
        ReadGroup(tuple(item.tag for item in group), every, by_exception) for every, group in items.items()
    )
    return groups, items
