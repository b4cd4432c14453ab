"""Searching a Modbus line: one question at a time, slowly, until the end or the first sign of harm."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent.contracts.plugs import Ask
from edge_agent.errors import DeviceUnreachable
from edge_agent_drivers import terminal
from edge_agent_drivers.modbus.address import Address, Table

PACE = 0.2
"""Seconds between two questions."""
RECOVERY = 1.0
"""Seconds that a device gets after a question it was silent about: libmodbus, for one, sleeps for half a
second when it meets a function it does not know, and then throws away what came meanwhile."""
_TROUBLED = frozenset({4, 5, 6})
"""Exceptions of a device that cannot cope: failure, acknowledge, busy."""
_MOST_TROUBLE = 3
_ABSENT = frozenset({10, 11})
"""Exceptions of a gateway behind which nobody answers."""


@dataclass(frozen=True, slots=True)
class Span:
    """Addresses of one table, both ends included."""

    table: Table
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.table}:{self.first}-{self.last}"

    @property
    def addresses(self) -> range:
        """Each of them."""
        return range(self.first, self.last + 1)


@dataclass(slots=True)
class Unit:
    """A unit id that answered."""

    unit_id: int
    said: str
    """What it answered to the first question."""
    identification: Mapping[str, str] = field(default_factory=dict)
    found: dict[Address, int] = field(default_factory=dict)
    refused: int = 0
    silent: int = 0


class Harm(Exception):
    """A sign that going on would harm the device."""


class Search:
    """One scan: what was asked, what was found."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._alive: dict[int, Address] = {}
        """By unit an address that was answered, to see whether it still is."""
        self._trouble = 0
        self.asked = 0
        self.found: list[Unit] = []

    async def run(self, units: Sequence[int], spans: Sequence[Span]) -> str:
        """Search until the end or the first sign of harm; what made it stop, empty for nothing.

        DeviceUnreachable where there is no connection to begin with.
        """
        try:
            for unit_id in units:
                terminal.progress(f"unit {unit_id} ...")
                await self._look(unit_id)
            for unit in self.found:
                await self._identify(unit)
                for span in spans:
                    await self._walk(unit, span)
        except Harm as harm:
            return f"Stopped: {harm}. Nothing more was asked."
        except DeviceUnreachable as gone:
            if not self.found:
                raise
            return f"Stopped: the connection could not be opened again ({gone}). Nothing more was asked."
        return ""

    async def _look(self, unit_id: int) -> None:
        first = Address(Table.HOLDING, 0)
        reply = await self._read(unit_id, first)
        if "words" in reply:
            self._alive[unit_id] = first
            self.found.append(Unit(unit_id, "is there"))
        elif "exception" in reply and reply["exception"] not in _ABSENT:
            self._alive[unit_id] = first
            # Some gateways answer exception 4 for units that do not exist.
            there = "may be there" if reply["exception"] in _TROUBLED else "is there"
            self.found.append(Unit(unit_id, f"{there} ({first}: exception {reply['exception']})"))
        elif reply.get("fault") == "garbled":
            self.found.append(Unit(unit_id, f"sends nothing usable: {reply['why']}"))

    async def _identify(self, unit: Unit) -> None:
        """Ask who the device is; many do not know the question."""
        reply = await self._put({"do": "identify", "unit_id": unit.unit_id})
        unit.identification = reply.get("objects", {})
        if reply.get("fault") == "lost":
            raise Harm(f"the connection was closed when unit {unit.unit_id} was asked who it is")
        if reply.get("fault") == "silent":
            await self._check(unit.unit_id, "asked who it is")

    async def _walk(self, unit: Unit, span: Span) -> None:
        for number in span.addresses:
            address = Address(span.table, number)
            terminal.progress(f"unit {unit.unit_id}, {address} of {span} ...")
            reply = await self._read(unit.unit_id, address)
            if "words" in reply:
                unit.found[address] = reply["words"][0]
                self._alive[unit.unit_id] = address
            elif "exception" in reply:
                unit.refused += 1
            else:
                unit.silent += 1
            self._count_trouble(unit, address, reply)

    def _count_trouble(self, unit: Unit, address: Address, reply: Mapping[str, Any]) -> None:
        self._trouble = self._trouble + 1 if reply.get("exception") in _TROUBLED else 0
        if self._trouble >= _MOST_TROUBLE:
            raise Harm(
                f"unit {unit.unit_id} answers {reply['why']} {self._trouble} times in a row, at {address}"
            )

    async def _read(self, unit_id: int, address: Address) -> Mapping[str, Any]:
        question = {"do": "read", "unit_id": unit_id, "table": str(address.table)}
        reply = await self._put({**question, "address": address.number, "count": 1})
        if reply.get("fault") == "lost":
            raise Harm(f"the connection was closed when unit {unit_id} was asked for {address}")
        if reply.get("fault") == "silent":
            await self._check(unit_id, f"asked for {address}")
        return reply

    async def _check(self, unit_id: int, what: str) -> None:
        """After silence: does what answered before still answer? The unit itself, else any other one."""
        known = unit_id if unit_id in self._alive else next(iter(self._alive), None)
        if known is None:
            return
        await asyncio.sleep(RECOVERY)
        address = self._alive[known]
        question = {"do": "read", "unit_id": known, "table": str(address.table)}
        reply = await self._put({**question, "address": address.number, "count": 1})
        if "fault" in reply:
            raise Harm(
                f"unit {unit_id} was {what} and said nothing, and since then unit {known} is silent too"
            )

    async def _put(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.asked:
            await asyncio.sleep(PACE)
        self.asked += 1
        reply: Mapping[str, Any] = await self._ask(question)
        return reply
