"""The items of one read group: what was heard of each, with whose time, and the batches made of it. Pure."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from edge_agent.clock import SECOND, Clock, Stamp
from edge_agent.types import GOOD, ReadGroup, Reason, SampleBatch, Status, Tag, Value, uncertain
from edge_agent_drivers.opcua.nodeid import NodeRef
from edge_agent_drivers.opcua.path import BrowsePath
from edge_agent_drivers.opcua.variants import Part, Reading

log = logging.getLogger(__name__)

SKEWED = uncertain(Reason.CLOCK_SKEW)
MOST_PENDING = 50_000
"""Notifications kept between two reads; more than that means nobody reads."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How a node is to be monitored."""

    sampling: float = 1.0
    """Seconds."""
    queue: int = 10
    deadband: float = 0.0
    """In engineering units, as far as the agent knows them."""
    percent: float | None = None
    """Instead, of the range the node has on the server."""


@dataclass(slots=True)
class Item:
    """One configured node and what is known of it."""

    tags: tuple[Tag, ...]
    """One, or one for each element or field that is wanted."""
    parts: tuple[Part, ...]
    """What of the value each tag is."""
    ref: NodeRef | BrowsePath
    column: int
    """Of the first tag; the others follow."""
    wish: Wish = field(default_factory=Wish)
    node: Any = None
    """The node id on this server, once it is resolved."""
    granted: Any = None
    """What the server made of the wish to monitor it."""
    trouble: Status | None = None
    """Why it is not read at all: no such namespace, no such node."""
    said: str = ""
    """What was last logged about it."""
    status: Status | None = None
    """Of the last reading as it was passed on; None before the first of this connection."""
    theirs: int | None = None
    """The time the server gave for the last reading, to tell a new value from a held one."""
    emitted: int = 0
    """When it was last passed on, by the agent's clock (ns); 0 where it must be read again."""
    overflows: int = 0
    """How often the server's queue for it overflowed."""

    @property
    def name(self) -> str:
        """Its first tag."""
        return self.tags[0].name

    @property
    def gone(self) -> bool:
        """Whether the server does not know the node, and may do so later."""
        return self.trouble is not None or (
            self.status is not None and self.status.reason is Reason.ILLEGAL_ADDRESS
        )

    def remarks(self) -> str:
        """What the server does otherwise than asked, for people, to be appended; or nothing."""
        granted = self.granted
        slower = granted is not None and not granted.refused and granted.sampling > self.wish.sampling + 0.001
        sampled = f"; sampled every {granted.sampling:g} s, not {self.wish.sampling:g} s" if slower else ""
        return sampled + (f"; queue overflowed {self.overflows} times" if self.overflows else "")

    def forget(self) -> None:
        """Start over with a new connection."""
        self.node = self.granted = self.trouble = self.status = self.theirs = None
        self.emitted = 0

    def heard(self, status: Status, theirs: int | None, now: int) -> None:
        """Remember a reading, which is passed on now."""
        self.status, self.trouble = status, None
        self.theirs = theirs if theirs is not None else self.theirs
        self.emitted = now

    def due(self, now: int) -> bool:
        """Whether a held value, or a standing trouble, is to be passed on again."""
        if self.status is None and self.trouble is None:
            return False
        return not self.emitted or now - self.emitted >= self.tags[0].max_interval * SECOND


@dataclass(slots=True)
class Timing:
    """Whose time a value gets (INTERFACE.md, `timestamp` and `max_skew`)."""

    clock: Clock
    whose: str
    """source, server or agent."""
    max_skew: float
    """Seconds of real time; a simulated clock that runs faster is allowed as much more."""
    server_right: bool = True
    """Whether the server's own clock was right when we connected, as far as it tells."""

    def set_server_time(self, theirs: int | None) -> None:
        """Compare the server's own clock (UTC ns, now) with ours."""
        self.server_right = theirs is None or self._near(theirs, self.clock.now())

    def theirs(self, reading: Reading) -> int | None:
        """The time the server gives for `reading`; None where ours is wanted or it gives none."""
        if self.whose == "agent":
            return None
        if self.whose == "source" and reading.source is not None:
            return reading.source
        return reading.server

    def choose(self, item: Item, reading: Reading) -> tuple[int | None, Status]:
        """The time of `reading` (None: the agent's) and its status.

        A time that is old because the value has not changed since is no skew: the value is current now. It
        is taken for that where it is the same as before, or the first of a connection to a server whose
        clock is right. (The server time of a value does not tell: servers keep it with the value.)
        """
        theirs = self.theirs(reading)
        if theirs is None:
            return None, reading.status
        if theirs == item.theirs:
            # As wrong as it was: quality must not flap between a change and its confirmation.
            return None, SKEWED if item.status == SKEWED and reading.status is GOOD else reading.status
        now = self.clock.now()
        if self._near(theirs, now):
            return theirs, reading.status
        if item.theirs is None and theirs < now and self.server_right:
            return None, reading.status
        return None, SKEWED if reading.status is GOOD else reading.status

    def _near(self, theirs: int, now: int) -> bool:
        return abs(theirs - now) <= self.max_skew * self.clock.rate * SECOND


def complain(machine: str, item: Item, what: str) -> None:
    """Log something about an item, unless it was the last thing said of it."""
    if item.said != what:
        item.said = what
        log.warning("%s: %s (%s): %s", machine, item.name, item.ref, what)


Cell = tuple[Value | None, Status, str]


@dataclass(slots=True)
class Batches:
    """Readings of one group, gathered into one batch per timestamp."""

    machine: str
    group: ReadGroup
    stamp: Stamp
    raw: bool = False
    _rows: dict[int, dict[int, Cell]] = field(default_factory=dict)
    _ours: list[int] = field(default_factory=list)

    def add(self, column: int, time: int | None, value: Value | None, status: Status, raw: str = "") -> None:
        """Add one reading; without a time it gets the agent's, one for all of them."""
        if time is None:
            time = next((ours for ours in self._ours if column not in self._rows[ours]), None)
        if time is None:
            time = self.stamp.next()
            self._ours.append(time)
        self._rows.setdefault(time, {})[column] = (value, status, raw)

    def made(self) -> list[SampleBatch]:
        """The batches, oldest first."""
        return [self._batch(time, self._rows[time]) for time in sorted(self._rows)]

    def _batch(self, time: int, row: dict[int, Cell]) -> SampleBatch:
        columns = sorted(row)
        complete = len(columns) == len(self.group.tags)
        names = self.group.names if complete else tuple(self.group.tags[column].name for column in columns)
        cells = [row[column] for column in columns]
        return SampleBatch(
            self.machine,
            names,
            time,
            [value for value, _, _ in cells],
            {i: status for i, (_, status, _) in enumerate(cells) if status != GOOD},
            [raw for _, _, raw in cells] if self.raw else None,
        )


class Pending:
    """Notifications between two reads, bounded; what does not fit is counted."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Item, Any]] = deque()
        self.dropped = 0

    def put(self, item: Item, sent: Any) -> None:
        """Keep one notification; the oldest goes where there is no room."""
        if len(self._waiting) >= MOST_PENDING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append((item, sent))

    def take(self) -> list[tuple[Item, Any]]:
        """All notifications, oldest first, and forget them."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def columns(self) -> set[int]:
        """The columns of the items that notifications are waiting for."""
        return {item.column for item, _ in self._waiting}

    def __bool__(self) -> bool:
        return bool(self._waiting)
