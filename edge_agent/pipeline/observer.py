"""Who wants to watch the pipeline without being part of it: vitals, the demo's screen and ledger, tests."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.types import Alert, SampleBatch, Score


class Observer:
    """Does nothing; override what you want to see. Called in the event loop: be quick, never raise."""

    def batch(self, batch: SampleBatch) -> None:
        """A batch came from a driver."""

    def committed(self, batch: SampleBatch) -> None:
        """The values of this batch are committed on the medium."""

    def scan(self, machine: str, seconds: float) -> None:
        """A scan took this long."""

    def score(self, machine: str, score: Score) -> None:
        """A row was scored."""

    def alert(self, alert: Alert) -> None:
        """A condition changed its state."""

    def dropped(self, reason: str, count: int = 1) -> None:
        """So much was dropped, for this reason."""


class Observers(Observer):
    """Passes everything on to several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def batch(self, batch: SampleBatch) -> None:
        """A batch came from a driver."""
        for observer in self._observers:
            observer.batch(batch)

    def committed(self, batch: SampleBatch) -> None:
        """The values of this batch are committed on the medium."""
        for observer in self._observers:
            observer.committed(batch)

    def scan(self, machine: str, seconds: float) -> None:
        """A scan took this long."""
        for observer in self._observers:
            observer.scan(machine, seconds)

    def score(self, machine: str, score: Score) -> None:
        """A row was scored."""
        for observer in self._observers:
            observer.score(machine, score)

    def alert(self, alert: Alert) -> None:
        """A condition changed its state."""
        for observer in self._observers:
            observer.alert(alert)

    def dropped(self, reason: str, count: int = 1) -> None:
        """So much was dropped, for this reason."""
        for observer in self._observers:
            observer.dropped(reason, count)
