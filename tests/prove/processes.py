"""What a site is made of: processes that are killed and started again, and a loop for the fault proxy."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]


class Child:
    """A process that can be started again; its output goes to `log`."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        self.ends = 0
        """Sudden ends so far."""
        self.stops = 0
        """Times it was frozen."""
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command

    def start(self, **environment: str) -> None:
        """Start it, with more in its environment."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **environment}
            )

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.died(5)

    def died(self, seconds: float) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        code = self.process.wait(seconds)
        self.ends += 1
        return code

    def freeze(self, *, frozen: bool) -> None:
        """SIGSTOP or SIGCONT."""
        assert self.process is not None
        self.stops += frozen
        self.process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def end(self) -> int:
        """SIGTERM, and the exit code; that of an end of its own where it had one."""
        if self.process is None:
            return 0
        if self.process.poll() is not None:
            return self.process.returncode
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def patiently(start: Callable[[], object]) -> None:
    """Start a server again on its port, which a passing connection of somebody else may have for a moment."""
    for _ in range(40):
        try:
            start()
        except (AssertionError, OSError):
            time.sleep(0.25)
        else:
            return
    start()


class Loop:
    """An event loop in a thread, for the fault proxy."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faults", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end there, from here."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def call(self, function: Callable[[], object]) -> None:
        """Call there."""
        self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
