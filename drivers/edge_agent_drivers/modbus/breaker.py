"""Dead units on a line that living ones share: asked rarely enough that they cost next to nothing.

A unit that does not answer costs everybody its timeout. Once that is known it rests, so long that all the
resting units of a line together cost at most `SHARE` of its time; then one question tries it again. Where
nobody on the line lives there is nobody to protect, and the samplers' own backoff is enough.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from edge_agent_drivers.modbus.faults import Resting

log = logging.getLogger(__name__)

SHARE = 0.05
"""Of a line's time, what its dead units may cost altogether."""
STRIKES = 4
"""Questions in a row without an answer after which a unit rests that did answer before; else one does."""
LONGEST_REST = 60.0
"""Seconds up to which a rest doubles, unless `SHARE` asks for more."""


@dataclass(slots=True)
class _Unit:
    answered: bool = False
    strikes: int = 0
    rest: float = 0.0
    """How long it rests; 0: it does not."""
    until: float = 0.0


class Units:
    """What is known of the units of one line. Times are on the loop's clock, `name` is the line's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._units: dict[int, _Unit] = {}

    def __len__(self) -> int:
        return len(self._units)

    def __contains__(self, unit: int) -> bool:
        return unit in self._units

    def meet(self, unit: int) -> None:
        """A unit that was never asked before."""
        self._units[unit] = _Unit()

    def lives(self, unit: int) -> bool:
        """Whether it answered last time."""
        state = self._units.get(unit)
        return state is not None and state.answered and not state.rest

    def check(self, unit: int, now: float, timeout: float) -> None:
        """Before a question. Resting where the unit has its rest."""
        state = self._units.get(unit)
        if state is None or not state.rest or not self._others_live(unit):
            return
        if now < state.until:
            raise Resting(f"unit {unit} on {self._name} does not answer: {_resting(state.until - now)}")
        # This is the one question that tries it again; nobody else waits for a second timeout beside it.
        state.until = now + timeout

    def answered(self, unit: int) -> None:
        """It answered, be it with a no."""
        state = self._units[unit]
        if state.rest:
            log.info("%s: unit %d answers again", self._name, unit)
        if not state.answered and not self._others_live(unit):
            # The line itself is back: what was found out about the others while it was dead counts no more.
            for other in self._units.values():
                other.rest = other.until = 0.0
        self._units[unit] = _Unit(answered=True)

    def clean(self, unit: int) -> bool:
        """Whether `answered` would change nothing."""
        state = self._units[unit]
        return state.answered and not state.strikes and not state.rest

    def away(self, unit: int, cost: float, now: float) -> None:
        """It did not answer, which took the line `cost` seconds."""
        state = self._units[unit]
        state.strikes += 1
        if state.answered and state.strikes < STRIKES:
            return
        state.answered = False
        first = not state.rest
        dead = sum(bool(other.rest) for other in self._units.values()) + first
        # What the others are owed for this attempt, for each of the dead.
        least = cost / SHARE * dead
        state.rest = max(least, min(2 * state.rest, LONGEST_REST))
        state.until = now + state.rest
        if first and self._others_live(unit):
            # Not a warning: whose machine it is warns, and `scan` asks units that nobody has.
            log.info(
                "%s: unit %d does not answer: %s, so that the others on the line keep their pace",
                self._name, unit, _resting(state.rest),
            )  # fmt: skip

    def _others_live(self, unit: int) -> bool:
        return any(number != unit and self.lives(number) for number in self._units)


def _resting(seconds: float) -> str:
    return f"resting, tried again in {max(seconds, 0.1):.{0 if seconds >= 10 else 1}f} s"
