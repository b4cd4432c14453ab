"""Group commit: many appends, one sync; when it happens, what it resolves, and what happens when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edge_agent.buffer.rows import Commit, Outcome, RowKey
from edge_agent.buffer.store import Store
from edge_agent.clock import Clock
from edge_agent.errors import StoreError
from edge_agent.failpoints import reached
from edge_agent.types import Priority, Record

log = logging.getLogger(__name__)

MEMORY_LIMIT = 16 * 1024**2
"""Most bytes of lines that wait for a commit; what comes above that is lost and counted."""
RETRY_FIRST, RETRY_LAST = 1.0, 5.0
"""Seconds between tries to commit to a disk that fails; once it is well again, what waits is soon safe."""

T = TypeVar("T")


class Worker:
    """The one thread that may touch the store."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Run `function` in the thread and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def stop(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False)


class GroupCommit:
    """Collects what waits for the medium and commits it: at once, or an interval after the last commit.

    `eager`: the first lines after idle time commit at once (DECISIONS 4). `committed` is called in the loop
    after each commit.
    """

    def __init__(
        self,
        store: Store,
        worker: Worker,
        clock: Clock,
        interval: float,
        *,
        eager: bool,
        committed: Callable[[Outcome], None],
    ) -> None:
        self.error: str | None = None
        """Why commits fail at the moment."""
        self.waiting_since: float | None = None
        """Loop time of the oldest lines that are not committed yet."""
        self._store = store
        self._worker = worker
        self._clock = clock
        self._interval = interval
        self._eager = eager
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._next = Commit()
        self._futures: dict[Priority | None, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._last = float("-inf")
        self._inflight = 0
        self._inflight_drops: Counter[str] = Counter()
        self._stop = asyncio.Event()

    # --- taking things in

    def lines(self, key: RowKey, lines: bytes, *, at_once: bool) -> asyncio.Future[None]:
        """Take lines; the future resolves with their commit and fails with StoreError where they are lost."""
        waiting = self._next
        size = len(lines) + 1
        if waiting.size + self._inflight + size > MEMORY_LIMIT:
            waiting.dropped["memory_full"] += lines.count(b"\n") + 1
            reason = self.error or "it is too slow"
            return failed(f"the journal cannot be written ({reason}) and memory is full")
        pieces = waiting.pieces.get(key)
        if pieces is None:
            pieces = waiting.pieces[key] = []
        pieces.append(lines)
        waiting.size += size
        if self.waiting_since is None:
            self.waiting_since = self._loop.time()
        self._schedule(at_once=at_once, patient=not self._eager)
        reached("journal-appended")
        return self._future(key.priority)

    def acknowledged(self, reader: str, seqs: list[int]) -> asyncio.Future[None]:
        """Take acknowledgements; they wait for lines to share a sync with."""
        self._next.acks.setdefault(reader, []).extend(seqs)
        self._schedule(at_once=False, patient=True)
        return self._future(None)

    def set_apart(self, record: Record, lines: bytes, reason: str) -> asyncio.Future[None]:
        """Take lines for quarantine."""
        self._next.quarantine.append((record, lines, reason))
        self._schedule(at_once=False, patient=True)
        return self._future(None)

    def count_loss(self, reason: str, lines: int) -> None:
        """Count lines lost before they came here."""
        self._next.dropped[reason] += lines

    @property
    def waiting_bytes(self) -> int:
        """Bytes of lines that are not committed yet."""
        return self._next.size + self._inflight

    @property
    def waiting_drops(self) -> Counter[str]:
        """Lines lost since the last commit, by reason."""
        return self._next.dropped + self._inflight_drops

    def _future(self, kind: Priority | None) -> asyncio.Future[None]:
        future = self._futures.get(kind)
        if future is None:
            future = self._futures[kind] = self._loop.create_future()
        return future

    # --- when

    def _schedule(self, *, at_once: bool, patient: bool = False) -> None:
        if self._task is not None:
            self._again = self._again or at_once
            return
        now = self._loop.time()
        due = now if at_once else self._last + self._interval
        if patient and not at_once:
            due = max(due, now + self._interval)
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(max(due, now), self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._task is None:
            self._again = False
            self._last = self._loop.time()
            self._task = self._loop.create_task(self._run(), name="journal commit")
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.error = f"{type(error).__name__}: {error}"
            log.critical("the journal's commit failed unexpectedly", exc_info=error)
        if not self._stop.is_set() and self._next.worth_it:
            self._schedule(at_once=self._again, patient=not self._next.pieces)

    async def flush(self) -> None:
        """Commit what waits now; returns when it is on the medium, or at the first failure."""
        while self._task is not None or self._next.worth_it:
            if self._task is None:
                self._schedule(at_once=True)
                await asyncio.sleep(0)
            else:
                await asyncio.wait([self._task], timeout=0.05)
                if self.error is not None:
                    return

    async def close(self) -> None:
        """Commit what waits, once; what the disk refuses then is lost and said."""
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._next.worth_it:
            await self._run()

    # --- committing

    async def _run(self) -> None:
        commit, self._next = self._next, Commit()
        futures, self._futures = self._futures, {}
        commit.created = self._clock.now()
        self._inflight, self._inflight_drops = commit.size, commit.dropped
        try:
            outcome = await self._persist(commit)
        finally:
            self._inflight, self._inflight_drops = 0, Counter()
        self.waiting_since = self._loop.time() if self._next.pieces else None
        for kind, future in futures.items():
            if outcome is None or (outcome.rejected and kind is Priority.TELEMETRY):
                fail(future, "the journal's disk fails" if outcome is None else "the journal is full")
            elif not future.done():
                future.set_result(None)
        if outcome is not None:
            self._committed(outcome)

    async def _persist(self, commit: Commit) -> Outcome | None:
        """Commit until it succeeds, each time on a fresh file handle; None where closing cuts that short."""
        wait = RETRY_FIRST
        while True:
            try:
                outcome = await self._worker.call(self._store.commit, commit)
            except (sqlite3.Error, OSError, StoreError) as error:
                if self.error is None:
                    log.error(
                        "the journal %s cannot be written: %s; keeping lines in memory",
                        self._store.path,
                        error,
                    )
                self.error = str(error)
            else:
                if self.error is not None:
                    log.warning("the journal %s can be written again", self._store.path)
                self.error = None
                return outcome
            if self._stop.is_set():
                lines = sum(piece.count(b"\n") + 1 for pieces in commit.pieces.values() for piece in pieces)
                log.error("%d lines are lost: the journal could not be written before the stop", lines)
                return None
            await self._pause(wait)
            wait = min(wait * 2, RETRY_LAST)
            await self._reopen()

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than the agent runs."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _reopen(self) -> None:
        try:
            await self._worker.call(self._store.reopen, self._clock.now())
        except (sqlite3.Error, OSError, StoreError) as error:
            self.error = str(error)


def failed(message: str) -> asyncio.Future[None]:
    """A future that has failed with StoreError; silent where nobody awaits it."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    fail(future, message)
    return future


def fail(future: asyncio.Future[None], message: str) -> None:
    """Fail a future with StoreError, without a complaint where nobody awaits it: the loss is counted."""
    if not future.done():
        future.set_exception(StoreError(message))
        future.exception()
