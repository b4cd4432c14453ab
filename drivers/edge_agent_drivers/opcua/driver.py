"""The OPC UA driver: one server, by subscription or by polling, read only."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.clock import Clock, Stamp
from edge_agent.contracts.plugs import Driver
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import ConfigError, DeviceUnreachable
from edge_agent.types import ConditionReport, ReadGroup, SampleBatch
from edge_agent_drivers.opcua.access import Access
from edge_agent_drivers.opcua.conditions import Conditions
from edge_agent_drivers.opcua.inquiry import answer
from edge_agent_drivers.opcua.items import Batches, Item, Timing, Wish, complain
from edge_agent_drivers.opcua.lookup import look_up
from edge_agent_drivers.opcua.monitoring import Monitoring
from edge_agent_drivers.opcua.session import Session
from edge_agent_drivers.opcua.settings import OpcuaMachine, OpcuaTag
from edge_agent_drivers.opcua.structures import Types
from edge_agent_drivers.opcua.variants import Part, describe, interpret

log = logging.getLogger(__name__)

_OVERFLOW = 0x480
"""Info bits of a status code: the server's queue overflowed."""
_SHORTEST_QUEUE = 10
_QUEUE_OF_EVERY_CHANGE = 100


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
        self._types = Types()
        count = sum(len(items) for items in self._items.values())
        self._conditions = Conditions(machine, count, clock) if settings.conditions else None
        self._monitoring = Monitoring(machine, self._groups, self._items, self._types, self._conditions)
        self._session: Session | None = None
        self._subscribing = settings.mode == "subscribe"

    @property
    def groups(self) -> tuple[ReadGroup, ...]:
        """The read groups, one per scan rate, in the order of the configuration."""
        return self._groups

    def describe(self) -> str:
        """How the server is read, for people: what was asked for, and what the server made of it."""
        lines = self._monitoring.describe(self._session) if self._subscribing else []
        for item in (item for items in self._items.values() for item in items):
            lines.append(_line(item) if self._subscribing else f"{item.name} ({item.ref}): polled")
        return "\n".join(lines)

    async def connect(self) -> None:
        """Open a session and subscribe. DeviceUnreachable or DeviceRefused where that fails."""
        await self.close()
        settings = self._settings
        session = Session(self._machine, settings.url, self._access, settings.timeout)
        await session.open()
        self._session = session
        self._timing.set_server_time(session.server_time)
        try:
            items = [item for group in self._items.values() for item in group]
            for item in items:
                item.forget()
            self._types.forget()
            await look_up(self._machine, session, items, self._types)
            self._monitoring.wait_to_retest()
            session.listen(self._monitoring.every, self._monitoring)
            if self._subscribing:
                await self._monitoring.begin(session)
            if self._conditions is not None:
                await self._conditions.begin(session)
        except BaseException:
            await self.close()
            raise

    async def read(self, group: ReadGroup, *, raw: bool = False) -> list[SampleBatch]:
        """By polling one scan; by subscription all that came since the last call, and what is held.

        With `raw` the nodes are always polled. DeviceUnreachable where session or subscription is dead.
        """
        if self._session is None:
            raise DeviceUnreachable(f"machine {self._machine}: not connected to {self._settings.url}")
        if self._conditions is not None:
            await self._conditions.keep_up(self._session)
        batches = Batches(self._machine, group, self._stamp, raw)
        if raw or not self._subscribing:
            await self._poll(self._session, group, batches)
        else:
            await self._drain(self._session, group, batches)
        return batches.made()

    def conditions(self) -> ConditionReport | None:
        """What the server's own alarms have become since the last call; None where nothing is new."""
        return self._conditions.report() if self._conditions is not None else None

    async def _poll(self, session: Session, group: ReadGroup, batches: Batches) -> None:
        session.check()
        if not self._subscribing:
            await self._monitoring.retest(session, subscribing=False)
        items = self._items[group.every]
        asked = [item for item in items if item.node is not None]
        for item in items:
            if item.node is None:
                _pass_on_trouble(item, batches)
        for item, sent in zip(asked, await session.read([item.node for item in asked]), strict=True):
            self._take(item, sent, batches)

    async def _drain(self, session: Session, group: ReadGroup, batches: Batches) -> None:
        pending = self._monitoring.pending[group.every]
        if not pending:
            # What came before the connection broke is passed on first; the break is told next time.
            session.check()
        await self._monitoring.first_values(self._settings.timeout)
        await self._monitoring.retest(session, subscribing=True)
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
        due = [item for item in self._items[group.every] if item.due(now)]
        if due:
            waiting = self._monitoring.pending[group.every].columns()
            due = [item for item in due if item.column not in waiting]
        held = [item for item in due if item.trouble is None and item.node is not None]
        for item in due:
            if item.trouble is not None:
                item.emitted = now
                _pass_on_trouble(item, batches)
        if held:
            for item, sent in zip(held, await session.read([item.node for item in held]), strict=True):
                self._take(item, sent, batches)

    def _take(self, item: Item, sent: Any, batches: Batches) -> None:
        raw = describe(sent) + item.remarks() if batches.raw else ""
        readings = [interpret(sent, part, self._types.decode) for part in item.parts]
        chosen = [self._timing.choose(item, reading) for reading in readings]
        if not batches.raw:
            # A scan for a person to look at is an extra one: it must not pass for the one that is stored.
            item.heard(chosen[0][1], self._timing.theirs(readings[0]), self._clock.now())
        self._remark(item, sent, [reading.note for reading in readings if reading.note])
        for offset, (reading, (moment, status)) in enumerate(zip(readings, chosen, strict=True)):
            batches.add(item.column + offset, moment, reading.value, status, raw)

    def _remark(self, item: Item, sent: Any, notes: list[str]) -> None:
        if sent.StatusCode is not None and sent.StatusCode.value & _OVERFLOW == _OVERFLOW:
            item.overflows += 1
            if item.overflows == 1:
                log.warning(
                    "%s: %s (%s): the server's queue overflowed and lost values: read faster, or set a"
                    " deadband or a longer queue_size",
                    self._machine, item.name, item.ref,
                )  # fmt: skip
        if notes:
            complain(self._machine, item, notes[0])

    async def ask(self, question: Mapping[str, Any]) -> Any:
        """Look at the address space for `browse` (inquiry.py)."""
        if self._session is None:
            raise DeviceUnreachable(f"machine {self._machine}: not connected to {self._settings.url}")
        return await answer(self._session, question)

    async def close(self) -> None:
        """End the session; harmless where there is none."""
        session, self._session = self._session, None
        self._monitoring.end()
        if session is not None:
            await session.close()


def _pass_on_trouble(item: Item, batches: Batches) -> None:
    if item.trouble is not None:
        for offset in range(len(item.tags)):
            batches.add(item.column + offset, None, None, item.trouble)


def _line(item: Item) -> str:
    """One item, what was asked for and what the server made of it."""
    wish, granted = item.wish, item.granted
    asked = f"sampled every {wish.sampling:g} s, queue {wish.queue}"
    if wish.percent is not None:
        asked += f", deadband {wish.percent:g} % of the node's EURange"
    elif wish.deadband:
        asked += f", deadband {wish.deadband:g}"
    if granted is not None and not granted.refused:
        asked += f"; the server: {granted.sampling:g} s, queue {granted.queue}"
    elif item.trouble is not None:
        asked += f"; not read: {item.trouble.reason}"
    overflows = f"; overflowed {item.overflows} times" if item.overflows else ""
    return f"{item.name} ({item.ref}): {asked}{overflows}"


def _plan(settings: OpcuaMachine) -> tuple[tuple[ReadGroup, ...], dict[float, list[Item]]]:
    """The read groups by scan rate, in the order of the configuration, and their items."""
    items: dict[float, list[Item]] = {}
    for name, tag in settings.tags.items():
        every = settings.rate_of(tag)
        group = items.setdefault(every, [])
        column = group[-1].column + len(group[-1].tags) if group else 0
        group.append(_item(name, tag, column, every))
    by_exception = settings.mode == "subscribe"
    groups = tuple(
        ReadGroup(tuple(tag for item in group for tag in item.tags), every, by_exception)
        for every, group in items.items()
    )
    return groups, items


def _item(name: str, tag: OpcuaTag, column: int, every: float) -> Item:
    tags = tag.runtime(name)
    parts = tuple(Part(tag.value_type, tag.range, steps) for _, steps in tag.suffixes())
    sampling = every if tag.sampling is None else tag.sampling
    queue = _QUEUE_OF_EVERY_CHANGE if sampling == 0 else max(_SHORTEST_QUEUE, math.ceil(2 * every / sampling))
    # A structure changes with any of its fields: the agent filters those.
    structured = any(isinstance(step, str) for part in parts for step in part.steps)
    wish = Wish(sampling, tag.queue_size or queue, 0.0 if structured else tag.deadband_units, tag.percent)
    return Item(tags, parts, tag.place, column, wish)
