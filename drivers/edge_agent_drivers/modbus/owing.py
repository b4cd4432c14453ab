"""Answers that nobody waits for any more, in a framing that does not say what a reply answers."""

from __future__ import annotations

import time

from edge_agent_drivers.modbus.pdu import EXCEPTION, Asked

LATE = 1.0
"""Seconds, at least, for which a unit that did not answer is left alone."""


class Owing:
    """Which units may still send an answer that nobody waits for any more.

    Belongs to the line and not to one connection: a gateway sends a late reply to whoever is there now.
    """

    def __init__(self, late: float = LATE) -> None:
        self._late = late
        self._units: dict[int, tuple[float, int]] = {}
        """Until when, and which function was asked for."""

    def left(self, unit: int) -> float:
        """Seconds until `unit` may be asked again; 0 or less where it owes nothing."""
        entry = self._units.get(unit)
        return entry[0] - time.monotonic() if entry else 0.0

    def gave_up(self, question: Asked, waited: float) -> None:
        """Nobody waits for the answer to `question` any more, after `waited` seconds."""
        until = time.monotonic() + max(self._late, waited)
        self._units[question.unit] = until, question.pdu[0]

    def over(self, unit: int) -> bool:
        """Forget what `unit` owed; whether there was anything."""
        return self._units.pop(unit, None) is not None

    def heard(self, unit: int, function: int) -> None:
        """A reply came that nobody waited for."""
        entry = self._units.get(unit)
        if entry is not None and entry[1] == function & ~EXCEPTION:
            del self._units[unit]
