"""The watchdog: systemd is fed only while every stage moves, or tries, on schedule (DECISIONS 5).

A machine or a sink that is away is a state and not a stall: its stage goes on trying within its backoff, and
says so by `tick`. What is not forgiven is a stage that neither moves nor tries any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from edge_agent.vitals.notify import watchdog_seconds

logger = logging.getLogger(__name__)

UNWATCHED = 30.0
"""The interval systemd is taken to have where it does not watch, so that STATUS and /healthz stay fresh."""


class Progress:
    """One stage's word that it moves or tries on schedule. Times are seconds of the monotonic clock.

    `allowance` is how long the stage may be silent just now; it is asked each time, so that a sampler's may
    follow its backoff. A stage that has nothing to do says `idle` and is not late until `begin` or `tick`.
    """

    def __init__(
        self, name: str, allowance: Callable[[], float], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._allowance = allowance
        self._monotonic = monotonic
        self._since: float | None = monotonic()

    def tick(self) -> None:
        """The stage has moved, or tried: its time starts anew."""
        self._since = self._monotonic()

    def begin(self) -> None:
        """Work has come to an idle stage: its time starts, unless it is running already."""
        if self._since is None:
            self._since = self._monotonic()

    def idle(self) -> None:
        """Nothing is waiting to be done."""
        self._since = None

    @property
    def late(self) -> float:
        """Seconds beyond the allowance; 0 where it is on schedule."""
        if self._since is None:
            return 0.0
        return max(0.0, self._monotonic() - self._since - self._allowance())


class Watchdog:
    """All stages, and the task that feeds systemd."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._stages: list[Progress] = []
        self._told: frozenset[str] = frozenset()

    def stage(self, name: str, allowance: float | Callable[[], float]) -> Progress:
        """Register a stage that may be silent for `allowance` seconds; its time starts now."""
        ask = allowance if callable(allowance) else (lambda: allowance)
        progress = Progress(name, ask, self._monotonic)
        self._stages.append(progress)
        return progress

    def forget(self, progress: Progress) -> None:
        """The stage has ended for good; harmless where it is not registered."""
        self._stages = [stage for stage in self._stages if stage is not progress]

    def late(self) -> dict[str, float]:
        """The stages that are behind, with the seconds they are over; empty where all is well."""
        return {stage.name: late for stage in self._stages if (late := stage.late) > 0}

    async def run(self, notify: Callable[[str], object], status: Callable[[], str] | None = None) -> None:
        """Feed systemd at a third of its interval while no stage is late, until cancelled.

        That this coroutine runs at all shows that the loop is alive. With `status` its text is sent along.
        """
        interval = (watchdog_seconds() or UNWATCHED) / 3
        while True:
            self.feed(notify, status)
            await asyncio.sleep(interval)

    def feed(self, notify: Callable[[str], object], status: Callable[[], str] | None = None) -> bool:
        """One look at all stages; True where systemd was fed."""
        late = self.late()
        self._tell(late)
        said = [f"STATUS={_one_line(status())}"] if status is not None else []
        if late:
            said = [f"STATUS=stalled: {_one_line(', '.join(late))}"]
        else:
            said.append("WATCHDOG=1")
        notify("\n".join(said))
        return not late

    def _tell(self, late: dict[str, float]) -> None:
        names = frozenset(late)
        for name in sorted(names - self._told):
            logger.critical("%s has neither moved nor tried on schedule, %.1f s over", name, late[name])
        for name in sorted(self._told - names):
            logger.warning("%s moves again", name)
        self._told = names


def _one_line(text: str) -> str:
    return " ".join(text.split())
