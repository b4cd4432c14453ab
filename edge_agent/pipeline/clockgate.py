"""Readings from before the clock is set: flagged and sent, or held until their time is known.

A Raspberry Pi without a battery clock starts with the time of its last shutdown, and is right only once it
has heard from a time server.
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge_agent.clock import SECOND, Clock
from edge_agent.types import Quality, Reason, SampleBatch, uncertain
from edge_agent.units import format_duration

log = logging.getLogger(__name__)

MOST_HELD = 200_000
"""Values of a machine that are held at most; the oldest are dropped beyond it, and counted."""
FLAGGED = uncertain(Reason.CLOCK_SKEW)
_LOOK = SECOND
"""How often the system is asked, in ns."""
_BACK = 60 * SECOND
"""So far behind a file of its own past a clock is wrong."""
_LEAP = 2.0
"""Seconds: a clock that leaps forward by more was set; a running one is only slewed."""
_TIME_ERROR = 5
"""What adjtimex returns for a clock that no time server keeps right."""

Emit = Callable[[SampleBatch], None]


class ClockTrust:
    """Whether the system's clock has been set, as far as one can tell.

    It has once a time server keeps it or it has leapt forward, or where a battery clock has kept it: every PC
    has one, and a board (which has a device tree) where the kernel knows one. `past` is a file the agent
    wrote in an earlier life: a clock behind it is wrong, battery or not.
    """

    def __init__(self, clock: Clock, past: Path, *, root: Path = Path("/")) -> None:
        self._clock = clock
        self._root = root
        self._set = type(clock) is not Clock
        self._looked = -_LOOK
        self._floor = past.stat().st_mtime_ns - _BACK if past.exists() else 0
        board = (root / "sys/firmware/devicetree/base").exists()
        self._kept = not board or any((root / "sys/class/rtc").glob("rtc*"))
        self._began = self._offset()

    def is_set(self) -> bool:
        """True from the first moment on at which the clock can be believed; cheap."""
        if self._set:
            return True
        moment = time.monotonic_ns()
        if moment - self._looked >= _LOOK:
            self._looked = moment
            step = (self._offset() - self._began) / SECOND
            kept = self._kept and self._clock.now() >= self._floor
            self._set = kept or step > _LEAP or synchronised(self._root)
            if self._set and abs(step) > _LEAP:
                sign = "back" if step < 0 else "forward"
                log.warning("the clock has been set %s by %s", sign, format_duration(abs(step)))
        return self._set

    def _offset(self) -> int:
        return self._clock.now() - self._clock.elapsed()


def synchronised(root: Path = Path("/")) -> bool:
    """Whether a time server keeps the system's clock right, as systemd or the kernel says.

    The kernel may refuse to tell (the service's own system call filter does): systemd's word is then all.
    """
    if (root / "run/systemd/timesync/synchronized").exists():
        return True
    # The buffer is larger than any struct timex; all zero means: only tell.
    return bool(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) not in (_TIME_ERROR, -1))


class ClockGate:
    """Stands before the fan-out of one machine, and out of the way once the clock is set."""

    def __init__(
        self, trust: ClockTrust, clock: Clock, emit: Emit, *, hold: bool, on_drop: Callable[[int], None]
    ) -> None:
        self._trust, self._clock, self._emit = trust, clock, emit
        self._hold = hold
        self._on_drop = on_drop
        self._held: deque[tuple[int, SampleBatch]] = deque()
        self._values = 0
        self._open = False

    def __call__(self, batch: SampleBatch) -> None:
        """Pass a batch on, flagged or later."""
        if self._open:
            self._emit(batch)
        elif self._trust.is_set():
            self._open = True
            self._release()
            self._emit(batch)
        elif self._hold:
            self._keep(batch)
        else:
            self._emit(_flagged(batch))

    def _keep(self, batch: SampleBatch) -> None:
        self._held.append((self._clock.elapsed(), batch))
        self._values += len(batch.names)
        while self._values > MOST_HELD:
            _, oldest = self._held.popleft()
            self._values -= len(oldest.names)
            self._on_drop(len(oldest.names))

    def _release(self) -> None:
        """Give each held batch the time at which it came, which is known now."""
        offset = self._clock.now() - self._clock.elapsed()
        last = 0
        while self._held:
            elapsed, batch = self._held.popleft()
            last = max(last + 1, offset + elapsed)
            self._emit(replace(batch, timestamp=last))
        self._values = 0


def _flagged(batch: SampleBatch) -> SampleBatch:
    statuses = {
        column: FLAGGED if (status := batch.status(column)).quality is Quality.GOOD else status
        for column in range(len(batch.names))
    }
    return replace(batch, statuses=statuses)
