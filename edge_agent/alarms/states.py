"""The states of one condition after ISA-18.2 / IEC 62682: pure, time is handed in as ns.

    normal -> unacknowledged -> acknowledged -> normal
              unacknowledged -> returned_unacknowledged -> normal
    normal, acknowledged -> suppressed -> normal

Every move is in TRANSITIONS. Suppression by design (`active_when` is false) never hides an occurrence nobody
has acknowledged, it only returns it: the pump that trips on vibration also stops running, and the alarm that
explains the trip must still be there at 06:10.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.clock import SECOND
from edge_agent.types import AlarmState, Alert


class Input(enum.Enum):
    """What can happen to a condition."""

    RAISE = "raise"
    RESUME = "resume"
    """It is back so soon that it is still the same occurrence."""
    RETURN = "return"
    ACKNOWLEDGE = "acknowledge"
    SUPPRESS = "suppress"
    RELEASE = "release"


_S = AlarmState
TRANSITIONS: Mapping[tuple[AlarmState, Input], AlarmState] = {
    (_S.NORMAL, Input.RAISE): _S.UNACKNOWLEDGED,
    # Normal so soon after a return means that somebody had acknowledged it: no need to announce it twice.
    (_S.NORMAL, Input.RESUME): _S.ACKNOWLEDGED,
    (_S.NORMAL, Input.SUPPRESS): _S.SUPPRESSED,
    (_S.UNACKNOWLEDGED, Input.ACKNOWLEDGE): _S.ACKNOWLEDGED,
    (_S.UNACKNOWLEDGED, Input.RETURN): _S.RETURNED_UNACKNOWLEDGED,
    (_S.UNACKNOWLEDGED, Input.SUPPRESS): _S.RETURNED_UNACKNOWLEDGED,
    (_S.ACKNOWLEDGED, Input.RETURN): _S.NORMAL,
    (_S.ACKNOWLEDGED, Input.SUPPRESS): _S.SUPPRESSED,
    # What has become worse since it was acknowledged is announced again.
    (_S.ACKNOWLEDGED, Input.RAISE): _S.UNACKNOWLEDGED,
    (_S.RETURNED_UNACKNOWLEDGED, Input.RAISE): _S.UNACKNOWLEDGED,
    (_S.RETURNED_UNACKNOWLEDGED, Input.RESUME): _S.UNACKNOWLEDGED,
    (_S.RETURNED_UNACKNOWLEDGED, Input.ACKNOWLEDGE): _S.NORMAL,
    (_S.SUPPRESSED, Input.RELEASE): _S.NORMAL,
}
"""Every move there is; what is not listed leaves the state as it is."""

RAISED = frozenset({_S.UNACKNOWLEDGED, _S.ACKNOWLEDGED})
"""The states in which the condition holds now."""


def step(state: AlarmState, happened: Input) -> AlarmState:
    """The state after `happened`; the same one where it changes nothing."""
    return TRANSITIONS.get((state, happened), state)


@dataclass(slots=True)
class Persistence:
    """How long something has been so without a break, in rows and in time.

    Time during which it was unknown does not count, neither for nor against.
    """

    began: int | None = None
    rows: int = 0
    _paused: int | None = None
    _lost: int = 0

    def add(self, ns: int) -> None:
        """One more row that says so, at `ns`."""
        if self.began is None or ns < self.began:
            # A clock that steps back starts the wait again instead of waiting for the time to come round.
            self.began, self.rows, self._lost, self._paused = ns, 0, 0, None
        if self._paused is not None:
            self._lost += max(0, ns - self._paused)
            self._paused = None
        self.rows += 1

    def pause(self, ns: int) -> None:
        """From `ns` on it is unknown, until the next `add`."""
        if self.began is not None and self._paused is None:
            self._paused = ns

    def reset(self) -> None:
        """It is not so (any more)."""
        self.began, self.rows, self._paused, self._lost = None, 0, None, 0

    def met(self, ns: int, rows: int, delay: int) -> bool:
        """Whether at `ns` it has been so for at least `rows` rows and `delay` ns."""
        return self.began is not None and self.rows >= rows and ns - self.began - self._lost >= delay


@dataclass(frozen=True, slots=True)
class Delays:
    """How long a condition must hold before it is raised, and be gone before it returns."""

    on: int = 0
    """ns"""
    off: int = 0
    """ns"""
    on_rows: int = 1
    off_rows: int = 1
    merge: int = 0
    """ns after a return during which it comes back as the same occurrence, not as a new one."""

    @classmethod
    def seconds(
        cls, on: float = 0.0, off: float = 0.0, on_rows: int = 1, off_rows: int = 1, merge: float = 0.0
    ) -> Delays:
        """The same from seconds."""
        return cls(round(on * SECOND), round(off * SECOND), on_rows, off_rows, round(merge * SECOND))


class Condition:
    """The state of one condition, its occurrence counter and its delays."""

    __slots__ = ("_run", "cleared_at", "delays", "occurrence", "raised_at", "since", "state")

    def __init__(self, delays: Delays | None = None) -> None:
        self.delays = delays or Delays()
        self.state = AlarmState.NORMAL
        self.occurrence = 0
        self.raised_at = 0
        """0: never raised."""
        self.cleared_at: int | None = None
        self.since: int | None = None
        self._run = Persistence()

    @property
    def raised(self) -> bool:
        """Whether the condition holds now."""
        return self.state in RAISED

    @property
    def pending(self) -> bool:
        """Whether a raise or a return is on its way."""
        return self._run.began is not None

    @property
    def quiet(self) -> bool:
        """Nothing raised and nothing on its way: a False would change nothing."""
        return self.state is AlarmState.NORMAL and not self.pending

    def observe(self, holds: bool | None, ns: int, allowed: bool | None = True) -> bool:
        """One look at the condition at `ns`; True where its state changed.

        `holds` None (unknown value) keeps everything as it is. `allowed` is `active_when`: False suppresses,
        None (unknown) keeps.
        """
        if allowed is False:
            return self._suppress(ns)
        if allowed is None:
            self._run.pause(ns)
            return False
        released = self._move(Input.RELEASE)
        if holds is None:
            self._run.pause(ns)
            return released
        if holds == self.raised:
            self._run.reset()
            return released
        self._run.add(ns)
        return self._settle(ns) or released

    def acknowledge(self) -> bool:
        """Somebody has seen it; True where that changed the state."""
        return self._move(Input.ACKNOWLEDGE)

    def worsen(self) -> bool:
        """It holds and has become worse: announced again where it was acknowledged; True where it was."""
        return self.raised and self._move(Input.RAISE)

    def restore(self, alert: Alert) -> None:
        """Go on from what was stored; delays that were running start again."""
        self.state = alert.state
        self.occurrence = alert.occurrence
        self.raised_at = alert.raised_at
        self.cleared_at = alert.cleared_at
        self.since = alert.since
        self._run.reset()

    def _settle(self, ns: int) -> bool:
        delays, raised = self.delays, self.raised
        rows, delay = (delays.off_rows, delays.off) if raised else (delays.on_rows, delays.on)
        if not self._run.met(ns, rows, delay):
            return False
        began = self._run.began
        self._run.reset()
        if raised:
            self.cleared_at = ns
            return self._move(Input.RETURN)
        if self.cleared_at is not None and 0 <= ns - self.cleared_at < delays.merge:
            self.cleared_at = None
            return self._move(Input.RESUME)
        self.occurrence += 1
        self.raised_at, self.cleared_at, self.since = ns, None, began
        return self._move(Input.RAISE)

    def _suppress(self, ns: int) -> bool:
        self._run.reset()
        if self.cleared_at is None:
            # Also where it was never raised: what is suppressed must not look as if it held now.
            self.cleared_at = ns
        return self._move(Input.SUPPRESS)

    def _move(self, happened: Input) -> bool:
        before, self.state = self.state, step(self.state, happened)
        return self.state is not before
