"""Time that stands still while anything can be done, and then jumps.

What a test shows with short timeouts then does not depend on how busy the machine is.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class _Selector(selectors.DefaultSelector):
    """Never waits: `advance` is told how long it would have been."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout is None:
            raise RuntimeError("nothing will ever happen in this loop")
        if not events and timeout:
            self._advance(timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock only its timers move. For what has neither sockets nor threads."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Selector(self.go_on))

    def time(self) -> float:
        """Seconds since the loop was made, without those in which the machine was busy."""
        return self._now

    def go_on(self, seconds: float) -> None:
        """Let time pass without anything being done in it, as on a busy machine."""
        self._now += seconds


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a coroutine test in virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
