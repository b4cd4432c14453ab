"""How far a detector is: learning, provisional, established; and how long the machine has been running."""

from __future__ import annotations

import math
from enum import IntEnum

from edge_agent_models import words
from edge_agent_models.arrays import Arrays, fields_of, restore
from edge_agent_models.rhythm import GAP

MIN_ROWS = 200
"""Learning does not end by itself with fewer rows, however long they took."""
PROVISIONAL_SHARE = 0.5
"""The baseline is established after this share of the learning time has been seen once more."""
_QUIET = 0.05
"""The baseline is fitted again on the provisional time too if no more than this share of it was unusual."""
_AGAIN = 1.25
"""After a failed fit, learning goes on until there are this many times the rows."""
_FORGOTTEN = 600.0
_MOST_UNSURE = 3600.0
_FIELDS = ("phase", "seconds", "rows", "least", "since", "unsure", "unusual", "doubted")


class Phase(IntEnum):
    """How far the detector is."""

    LEARNING = 0
    PROVISIONAL = 1
    ESTABLISHED = 2


class Course:
    """Counts what has been seen, against `learn` seconds of running machine."""

    def __init__(self, learn: float) -> None:
        self.learn = learn
        self.phase = Phase.LEARNING
        self.seconds = 0.0
        """Running time learned from, provisional time included."""
        self.rows = 0
        self.least = MIN_ROWS
        self.since = math.inf
        """Seconds since the machine was last switched on; infinite where that was not seen."""
        self.unsure = 0.0
        """Seconds until what context was in a gap no longer matters."""
        self.unusual = 0
        self.doubted = 0
        self.trouble = ""
        """Why the last attempt to learn failed."""

    def note(self, seconds: float, running: int, gap: bool) -> None:
        """A row came `seconds` after the one before, with the machine running (1, 0, or -1: unknown).

        After a gap nobody knows what context did meanwhile; it is forgotten in as much time, and an hour.
        """
        self.since = 0.0 if running == 0 else self.since + seconds
        self.unsure = max(0.0, self.unsure - seconds)
        if gap and seconds > _FORGOTTEN:
            self.unsure = min(seconds, _MOST_UNSURE)

    def learned(self, seconds: float, period: float) -> None:
        """A row was learned from; what lies in a gap before it was not seen, and does not count."""
        self.seconds += min(seconds, GAP * period)
        self.rows += 1

    def begin(self, phase: Phase) -> None:
        """The next phase."""
        self.phase = phase
        self.unusual = self.doubted = 0
        self.trouble = ""

    def failed(self, reason: str) -> None:
        """Learning could not end: it goes on."""
        self.trouble = reason
        self.least = math.ceil(self.rows * _AGAIN)

    @property
    def enough(self) -> bool:
        """Whether learning may end."""
        return self.seconds >= self.learn and self.rows >= self.least

    @property
    def proven(self) -> bool:
        """Whether the provisional time is over."""
        return self.seconds >= (1.0 + PROVISIONAL_SHARE) * self.learn

    @property
    def quiet(self) -> bool:
        """Whether the provisional time was so usual that it, too, may be learned from."""
        return self.unusual <= _QUIET * self.doubted

    @property
    def progress(self) -> float:
        """Of learning, 0 to 1."""
        if self.phase is not Phase.LEARNING:
            return 1.0
        part = self.seconds / self.learn if self.learn > 0 else 1.0
        return min(1.0, part, self.rows / self.least)

    def words(self) -> str:
        """How far learning is, in a sentence."""
        return self.trouble or words.learning(self.seconds, self.learn, self.rows, self.least)

    def save(self) -> Arrays:
        """The streaming state."""
        return fields_of(self, _FIELDS)

    def load(self, arrays: Arrays) -> None:
        """Go on from `save`."""
        restore(self, _FIELDS, arrays)
