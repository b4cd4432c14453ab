"""Listening to another master: one port for all machines behind it, and the last of what each tag was told.

Nothing here can send: a tty is opened for reading only, so that the kernel refuses to write to it, and of a
TCP connection only the way to hang up is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.endpoint import Endpoint
from edge_agent_drivers.modbus.faults import LineLost
from edge_agent_drivers.modbus.serial_port import Ear, opened, units_text
from edge_agent_drivers.modbus.tcp import connect
from edge_agent_drivers.modbus.traffic import Heard, Traffic

QUIET = 0.02
"""Seconds without a byte after which an unfinished frame is given up, at least: USB adapters pass bytes on
every 16 ms."""
SILENT = 30.0
"""Seconds without a byte after which whoever joins opens the line again: it may be broken unnoticed."""
_MOST_BLOCKS = 64

Where = tuple[int, Table, int, int]
"""Unit, table, address, count: what a tag is made of."""


class Image:
    """The last answer for each place that somebody wants."""

    def __init__(self) -> None:
        self._wanted: dict[tuple[int, Table], set[tuple[int, int]]] = {}
        self._values: dict[Where, Heard] = {}
        self._refused: dict[Where, Heard] = {}
        self.units: dict[int, float] = {}
        """When each unit last answered."""
        self._blocks: dict[int, dict[tuple[Table, int, int], None]] = {}

    def want(self, where: Where) -> None:
        """Keep what is heard of a place."""
        unit, table, address, count = where
        self._wanted.setdefault((unit, table), set()).add((address, count))

    def take(self, heard: Heard) -> None:
        """A question of the master was answered."""
        unit, table = heard.unit, heard.table
        self.units[unit] = heard.at
        blocks = self._blocks.setdefault(unit, {})
        if len(blocks) < _MOST_BLOCKS:
            blocks[table, heard.address, heard.quantity] = None
        kept = self._refused if heard.code else self._values
        for address, count in self._wanted.get((unit, table), ()):
            if heard.address <= address and address + count <= heard.address + heard.quantity:
                kept[unit, table, address, count] = heard

    def value(self, where: Where) -> Heard | None:
        """The last exchange that gave all of a place at once."""
        return self._values.get(where)

    def refusal(self, where: Where) -> Heard | None:
        """The last exchange in which the device refused it."""
        return self._refused.get(where)

    def describe(self, unit: int) -> str:
        """What was heard of a unit, for people; empty where nothing was."""
        names = [f"{table}:{a}..{a + n - 1}" for table, a, n in sorted(self._blocks.get(unit, {}))]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return ", ".join(names[:8]) + more


class Ears(asyncio.BufferedProtocol):
    """One listening port, opened by the first machine that joins and closed by the last that leaves."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.image = Image()
        self._traffic = Traffic()
        self._members: set[object] = set()
        self._opening = asyncio.Lock()
        self._hang_up: Callable[[], None] | None = None
        self._view = memoryview(bytearray(512))
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()
        self.lost = ""
        """Why the line was lost."""

    @property
    def usable(self) -> bool:
        """Whether the port is open."""
        return self._hang_up is not None

    async def join(self, member: object) -> None:
        """Listen. LineLost or Taken where the port cannot be opened."""
        self._members.add(member)
        try:
            async with self._opening:
                if self.usable and asyncio.get_running_loop().time() - self._heard_at > SILENT:
                    self._drop()
                if not self.usable:
                    await self._open()
        except BaseException:
            self.leave(member)
            raise

    def leave(self, member: object) -> None:
        """Listen no more; the last one closes the port."""
        self._members.discard(member)
        if not self._members:
            self._drop()

    async def heard(self, unit: int, since: float) -> None:
        """Wait until the unit has answered later than `since`, or the line is lost."""
        while self.usable and self.image.units.get(unit, 0.0) <= since:
            self._news.clear()
            await self._news.wait()

    def around(self) -> str:
        """What is said on the line, for people."""
        traffic = self._traffic
        if units := sorted({*traffic.asked, *traffic.answered}):
            return f"{units_text(units)} {'was' if len(units) == 1 else 'were'} heard"
        if traffic.noise:
            return f"{traffic.noise} bytes were heard that are no Modbus RTU: check baudrate and parity"
        return "nothing was heard at all"

    async def _open(self) -> None:
        self._traffic = Traffic()
        self._heard_at = asyncio.get_running_loop().time()
        self.lost = ""
        if self._endpoint.serial:
            ear = Ear(str(self._endpoint), await opened(self._endpoint, read_only=True))
            ear.attach(self)
            self._hang_up = ear.close
        else:
            await connect(lambda: self, self._drop, self._endpoint.host, self._endpoint.port)
            if self._hang_up is None:
                raise LineLost(f"{self._endpoint} closed the connection at once")

    def _drop(self) -> None:
        hang_up, self._hang_up = self._hang_up, None
        if hang_up is not None:
            hang_up()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio once connected. The way to write is not kept."""
        if isinstance(transport, asyncio.Transport):
            self._hang_up = transport.abort

    def connection_lost(self, exc: Exception | None) -> None:
        """Called once the line is gone."""
        if self._hang_up is not None:
            self.lost = f"{self._endpoint} is lost: {exc or 'it closed the connection'}"
        self._drop()
        self._news.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where what comes next is put; never empty."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Called when `nbytes` have come."""
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        self._take(self._traffic.feed(self._view[:nbytes], self._heard_at))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(max(QUIET, self._endpoint.silence), self._quiet)

    def _quiet(self) -> None:
        self._timer = None
        self._take(self._traffic.quiet(self._heard_at))

    def _take(self, exchanges: list[Heard]) -> None:
        for heard in exchanges:
            self.image.take(heard)
        if exchanges:
            self._news.set()


_ears: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Endpoint, Ears]] = WeakKeyDictionary()


def ears_at(endpoint: Endpoint) -> Ears:
    """The listening port that all machines at this endpoint share; opens nothing yet."""
    return _ears.setdefault(asyncio.get_running_loop(), {}).setdefault(endpoint, Ears(endpoint))
