"""What one request may cover: how long it may be, where it may lie, what is read only as a whole. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from edge_agent_drivers.modbus.address import Table

MOST_BITS = 2000
"""Most coils or discrete inputs of one request, by the specification."""


class Stretch(NamedTuple):
    """The addresses of `table` from `start` up to, not including, `end`; zero-based as on the wire."""

    table: Table
    start: int
    end: int

    def covers(self, table: Table, start: int, end: int) -> bool:
        """Whether all of start to end lies in it."""
        return self.table is table and self.start <= start and end <= self.end

    def meets(self, table: Table, start: int, end: int) -> bool:
        """Whether any of start to end lies in it."""
        return self.table is table and start < self.end and self.start < end


class Extent(NamedTuple):
    """What is read for one value."""

    start: int
    end: int
    whole: bool
    """Read as it is: nothing is joined to it."""


@dataclass(frozen=True)
class Limits:
    """What one request may cover. Not slotted: it keeps its blocks in order."""

    registers: int
    bits: int
    gap: int
    block: str = "joined"
    """joined, exact, aligned or single; see `ModbusMachine.block`."""
    size: int = 1
    """Registers of an aligned block."""
    blocks: tuple[Stretch, ...] = ()
    """Read whole; they do not overlap."""
    readable: tuple[Stretch, ...] = ()
    holes: tuple[Stretch, ...] = ()

    def of(self, table: Table) -> int:
        """Most addresses of `table` in one request."""
        return self.bits if table.bits else self.registers

    def extent(self, table: Table, start: int, count: int) -> Extent:
        """The addresses that are read for a value: its own, or those of the whole block around it."""
        block = self._block_around(table, start, start + count)
        if block is not None:
            return Extent(block.start, block.end, whole=True)
        if self.block == "aligned" and not table.bits:
            end = -(-(start + count) // self.size) * self.size
            return Extent(start // self.size * self.size, end, whole=False)
        return Extent(start, start + count, whole=self.block in ("exact", "single"))

    def region(self, table: Table, start: int, end: int) -> int:
        """Which readable stretch the addresses lie in; -1 where they are in none, or none was named."""
        covering = (i for i, stretch in enumerate(self.readable) if stretch.covers(table, start, end))
        return next(covering, -1)

    def barriers(self) -> Iterator[Stretch]:
        """What no request that is joined may touch."""
        yield from self.holes
        yield from self.blocks

    def _block_around(self, table: Table, start: int, end: int) -> Stretch | None:
        index = bisect_right(self._ordered, (table, start, 65537)) - 1
        if index >= 0 and self._ordered[index].covers(table, start, end):
            return self._ordered[index]
        return None

    @cached_property
    def _ordered(self) -> list[Stretch]:
        return sorted(self.blocks)


class Barriers:
    """Stretches that no request may read across; asked once for each value of a plan."""

    def __init__(self, stretches: Iterable[Stretch]) -> None:
        self._starts: dict[Table, list[int]] = {}
        self._ends: dict[Table, list[int]] = {}
        for table, start, end in sorted(stretches):
            starts, ends = self._starts.setdefault(table, []), self._ends.setdefault(table, [])
            starts.append(start)
            # The furthest end of this and all before it.
            ends.append(max(end, ends[-1] if ends else 0))

    def between(self, table: Table, end: int, start: int) -> bool:
        """Whether one begins before `start` and goes on behind `end`."""
        index = bisect_right(self._starts.get(table, []), start - 1) - 1
        return index >= 0 and self._ends[table][index] > end
