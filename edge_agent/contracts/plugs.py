"""Driver, Detector, Sink: the three things one may plug in, named in the registry or by entry points.

The stages between them own retrying, queueing, alarms and storage; a plug does its one thing and says
plainly when it cannot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.clock import Clock
from edge_agent.contracts.settings import HealthSettings, MachineSettings
from edge_agent.errors import DeviceRefused
from edge_agent.types import ConditionReport, Kind, ReadGroup, Record, SampleBatch, Score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


Ask = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Puts a question to a device, over whichever connection there is: `Driver.ask` of somebody's driver.

DeviceUnreachable or DeviceRefused where there is no answer.
"""


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request that a driver sends every `every` seconds, for people."""

    every: float
    what: str
    """What it asks for, as holding:100-105."""
    tags: tuple[str, ...]
    """The tags whose values lie in it."""
    addresses: int
    """How many registers (or bits) it reads."""
    wasted: int
    """How many of them belong to no tag."""
    seconds: float | None = None
    """How long it takes on the line, where the line's speed is known."""


class Driver(ABC):
    """Reads one machine; never writes to it.

    A driver never retries and never reconnects by itself: the sampler is the one owner of that, and calls
    `connect` again after `close`. Every method is called from one task at a time.
    """

    def __init__(
        self, machine: str, settings: MachineSettings, clock: Clock, state: Path | None = None
    ) -> None:
        """Plan the reads; no network, no protocol traffic. ConfigError where the plan is impossible.

        `state` is a folder for what should outlive a restart, such as certificates; None where there is none.
        """

    @property
    @abstractmethod
    def groups(self) -> tuple[ReadGroup, ...]:
        """The read groups, one per scan rate, in the order of the configuration."""

    @abstractmethod
    async def connect(self) -> None:
        """Open the connection. DeviceUnreachable or DeviceRefused where that fails within the timeout."""

    @abstractmethod
    async def read(self, group: ReadGroup, *, raw: bool = False) -> list[SampleBatch]:
        """One scan of `group`: usually one batch; for subscriptions, all that came since the last call.

        What the device refuses or garbles tag by tag comes back as bad with its reason. DeviceUnreachable
        where the connection is gone or nothing answered at all. With `raw` the batches say what the device
        sent.
        """

    async def ask(self, question: Mapping[str, Any]) -> Any:
        """Answer a question about the device itself, for commands such as `probe`; reads only.

        Asked over the open connection between two scans, so it must be as short as a scan. What may be asked
        is the driver's own; questions and answers are JSON. What goes wrong with the question alone is an
        answer, not an error: DeviceRefused where it is no question for this driver, DeviceUnreachable only
        where the connection is gone and no scan would succeed either.
        """
        raise DeviceRefused(f"this driver answers no questions ({question.get('do')})")

    def conditions(self) -> ConditionReport | None:
        """What the controller's own alarms have become since the last call; None where nothing is new.

        Called after each scan. A driver whose machine has no alarms of its own leaves this as it is.
        """
        return None

    @abstractmethod
    async def close(self) -> None:
        """Close the connection; harmless where there is none."""

    def requests(self) -> tuple[PlannedRequest, ...]:
        """What is asked for in each cycle, known without a connection; empty where nothing is planned."""
        return ()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the rows a detector sees."""

    name: str
    kind: Kind = Kind.MEASUREMENT
    context: bool = False
    """True: explains the others (load, ambient, product) and is not judged itself."""
    unit: str | None = None
    range: tuple[float, float] | None = None


class Detector(ABC):
    """Learns what is normal for one machine and scores row by row, seeing only the past.

    Called from one worker thread at a time, never from the event loop.
    """

    def __init__(self, columns: Sequence[Column], settings: HealthSettings) -> None:
        """Start with nothing learned; memory is bounded from here on."""

    @abstractmethod
    def update(
        self,
        times: npt.NDArray[np.int64],
        rows: npt.NDArray[np.float64],
        running: npt.NDArray[np.int8],
    ) -> list[Score]:
        """Take n rows in order of time and return n scores.

        `times`: (n,) UTC ns. `rows`: (n, columns), NaN where missing. `running`: (n,) 1 running, 0 not,
        -1 unknown. Feeding rows one at a time or many at once gives the same scores.
        """

    @abstractmethod
    def finish_learning(self, *, provisional: bool = False) -> None:
        """End learning at this row with what was seen, for recorded data whose learning part is given.

        From the next row on the baseline counts as established, with `provisional` as provisional. ModelError
        where that is not possible: learning is over already, or far too little was seen.
        """

    @abstractmethod
    def save(self) -> Mapping[str, npt.NDArray[np.generic]]:
        """Everything learned and all streaming state, as arrays without objects."""

    @abstractmethod
    def load(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Go on from what `save` gave. ModelError where it does not fit the columns or the version."""


class Sink(ABC):
    """Takes journal records to where they are wanted."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the sink is called in logs, metrics and /readyz, e.g. `mqtt`."""

    @abstractmethod
    async def deliver(self, records: Sequence[Record], *, backlog: bool) -> None:
        """Return once every record is where the sink promises to keep it.

        SinkUnavailable: keep them all and try again (what did arrive may arrive twice, harmlessly).
        SinkRejected: those records will never be taken; the others of the call are delivered.
        """

    async def close(self) -> None:
        """Let go of connections."""
