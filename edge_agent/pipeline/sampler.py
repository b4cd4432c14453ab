"""One machine's scans: cadence on the monotonic clock, and the one owner of reconnecting.

A machine that is away costs nobody else anything: each sampler is a task of its own, tries again with a
jittered backoff, and says `not_connected` for every tag meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import random
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from edge_agent.clock import Clock, Stamp
from edge_agent.contracts.plugs import Driver
from edge_agent.errors import DeviceRefused, DeviceUnreachable, DriverError
from edge_agent.types import ConditionReport, ReadGroup, Reason, SampleBatch, bad

log = logging.getLogger(__name__)

FIRST_RETRY = 0.5
LONGEST_RETRY = 30.0
LONGEST_START = 1.0
"""Seconds over which the machines begin one after the other, at most; else over their fastest period."""

Emit = Callable[[SampleBatch], None]


@dataclass(slots=True)
class _Due:
    """When a read group is due next, on the loop's monotonic clock."""

    group: ReadGroup
    at: float

    def advance(self, now: float) -> int:
        """Move to the next slot after `now` on the fixed grid; the number of slots that were missed."""
        self.at += self.group.every
        missed = max(0, int((now - self.at) // self.group.every) + 1) if now > self.at else 0
        self.at += missed * self.group.every
        return missed


@dataclass(slots=True)
class SamplerState:
    """What a sampler is doing, for vitals and /readyz. Times are on the loop's monotonic clock."""

    machine: str
    connected: bool = False
    error: str = ""
    tried_at: float = 0.0
    read_at: float = 0.0
    next_try_at: float = 0.0
    scans: int = 0
    overruns: int = 0
    failures: int = 0
    slowest_period: float = field(default=1.0)


class Sampler:
    """Reads one machine for as long as the agent runs."""

    def __init__(
        self,
        machine: str,
        driver: Driver,
        emit: Emit,
        clock: Clock,
        *,
        on_failure: Callable[[str], None] = lambda _reason: None,
        on_recovery: Callable[[], None] = lambda: None,
        on_scan: Callable[[float], None] = lambda _seconds: None,
        on_conditions: Callable[[ConditionReport], None] = lambda _report: None,
    ) -> None:
        self._driver = driver
        self._emit = emit
        self._stamp = Stamp(clock)
        self._on_failure = on_failure
        self._on_recovery = on_recovery
        self._on_scan = on_scan
        self._on_conditions = on_conditions
        self.on_try: Callable[[], None] = lambda: None
        """Called at each attempt to connect or to scan and at its outcome: a sign of life."""
        self._retry = FIRST_RETRY
        self._said_down = False
        self._asked: deque[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = deque()
        self._wake = asyncio.Event()
        self.state = SamplerState(machine, slowest_period=max(group.every for group in driver.groups))

    async def run(self) -> None:
        """Connect, scan, and start over after every failure; ends only by being cancelled."""
        try:
            await asyncio.sleep(self._phase())
            while True:
                try:
                    await self._session()
                except DriverError as error:
                    self._failed(error)
                except Exception as error:
                    # A fault of our own in one driver must not take the other machines with it.
                    log.exception("%s: the driver failed unexpectedly", self.state.machine)
                    self._failed(error)
                finally:
                    self.state.connected = False
                    self._refuse_asked()
                    await self._driver.close()
                _insist_on_cancellation()
                await self._back_off()
        finally:
            self._emit_all_bad(self._driver.groups, Reason.NOT_CONNECTED)

    async def read_once(self) -> list[SampleBatch]:
        """One extra scan of every group with what the device sent, through the running connection.

        DeviceUnreachable where the machine is away at the moment.
        """
        if not self.state.connected:
            raise DeviceUnreachable(self.state.error or f"{self.state.machine} is not connected yet")
        return list(await self._queue(self._read_all))

    async def ask(self, question: Mapping[str, Any]) -> Any:
        """Put a question to the driver between two scans; a machine that is away is tried again for it.

        DeviceUnreachable where it is still away, DeviceRefused where the driver knows no such question.
        """
        return await self._queue(partial(self._put, question))

    def _queue(self, work: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append((work, answer))
        self._wake.set()
        return answer

    async def _read_all(self) -> list[SampleBatch]:
        return [batch for group in self._driver.groups for batch in await self._driver.read(group, raw=True)]

    async def _put(self, question: Mapping[str, Any]) -> Any:
        try:
            return await self._driver.ask(question)
        except DeviceRefused as refusal:
            # A no to a question is no reason to end the session.
            return refusal

    def _phase(self) -> float:
        """Seconds to wait before beginning, so that many machines do not scan at the same instants for ever.

        Made of the name: the same after each restart, and nothing to agree about.
        """
        fastest = min(group.every for group in self._driver.groups)
        return zlib.crc32(self.state.machine.encode()) / 2**32 * min(fastest, LONGEST_START)

    async def _session(self) -> None:
        """Scan until the driver says that the connection is gone."""
        self._tried()
        await self._driver.connect()
        _insist_on_cancellation()
        if self._asked:
            # Before the first scan, which may end the session: a wrong unit id is what one asks about.
            await self._answer()
        schedule = self._spread()
        while True:
            due = min(schedule, key=lambda entry: entry.at)
            if due.at > asyncio.get_running_loop().time() and await self._asked_before(due.at):
                await self._answer()
                continue
            await self._scan(due.group)
            _insist_on_cancellation()
            missed = due.advance(asyncio.get_running_loop().time())
            self.state.overruns += missed

    def _tried(self) -> float:
        """Note an attempt; the loop's time now."""
        self.state.tried_at = asyncio.get_running_loop().time()
        self.on_try()
        return self.state.tried_at

    def _spread(self) -> list[_Due]:
        """The first slots, spread a little so that groups do not all fall on the same instant."""
        now = asyncio.get_running_loop().time()
        step = min(group.every for group in self._driver.groups) / len(self._driver.groups)
        return [_Due(group, now + index * step) for index, group in enumerate(self._driver.groups)]

    async def _asked_before(self, at: float) -> bool:
        """Sleep until `at`; True at once where somebody asks for something meanwhile."""
        try:
            async with asyncio.timeout_at(at):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _answer(self) -> None:
        """Do the next thing somebody asked for."""
        work, answer = self._asked.popleft()
        if not self._asked:
            self._wake.clear()
        if answer.done():
            return  # whoever asked has gone away
        try:
            outcome = await work()
        except Exception as error:
            told = error if isinstance(error, DriverError) else DeviceUnreachable(f"driver failed: {error!r}")
            _settle(answer, told)
            raise
        _settle(answer, outcome)

    async def _scan(self, group: ReadGroup) -> None:
        loop = asyncio.get_running_loop()
        started = self._tried()
        batches = await self._driver.read(group)
        now = loop.time()
        self.state.scans += 1
        self.state.read_at = now
        if not self.state.connected:
            self._recovered()
        for batch in batches:
            self._emit(batch)
        if (report := self._driver.conditions()) is not None:
            self._on_conditions(report)
        self._on_scan(now - started)
        self.on_try()

    def _recovered(self) -> None:
        if self._said_down:
            log.info("%s: answers again", self.state.machine)
        self.state.connected = True
        self.state.error = ""
        self._said_down = False
        self._retry = FIRST_RETRY
        self._on_recovery()

    def _failed(self, error: Exception) -> None:
        self.state.failures += 1
        # Whoever shows it says whose it is.
        self.state.error = str(error).removeprefix(f"machine {self.state.machine}: ")
        if not self._said_down:
            log.warning("%s: %s; trying again until it answers", self.state.machine, self.state.error)
            self._said_down = True
            self._emit_all_bad(self._driver.groups, Reason.NOT_CONNECTED)
        if isinstance(error, DeviceRefused):
            self._retry = LONGEST_RETRY
        elif isinstance(error, DeviceUnreachable) and error.retry_within is not None:
            self._retry = min(self._retry, error.retry_within)
        self._on_failure(self.state.error)
        self.on_try()

    def _refuse_asked(self) -> None:
        self._wake.clear()
        while self._asked:
            _work, answer = self._asked.popleft()
            _settle(answer, DeviceUnreachable(self.state.error or "the connection is closed"))

    def _emit_all_bad(self, groups: Iterable[ReadGroup], reason: Reason) -> None:
        for group in groups:
            count = len(group.tags)
            statuses = dict.fromkeys(range(count), bad(reason))
            self._emit(
                SampleBatch(self.state.machine, group.names, self._stamp.next(), [None] * count, statuses)
            )

    async def _back_off(self) -> None:
        delay = self._retry * random.uniform(0.8, 1.2)
        self._retry = min(self._retry * 2, LONGEST_RETRY)
        self.state.next_try_at = asyncio.get_running_loop().time() + delay
        await self._asked_before(self.state.next_try_at)


def _insist_on_cancellation() -> None:
    """Raise the CancelledError that a library may have swallowed.

    asyncio.wait_for of Python 3.11, which libraries use to connect, loses a cancellation that comes in the
    same turn of the loop as its result; the agent would then wait for this sampler for ever at its end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _settle(answer: asyncio.Future[Any], outcome: Any) -> None:
    """Give the asker its answer, unless it has gone away meanwhile."""
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
