"""Which registers are read in which request. Pure: the same settings always give the same plan.

One greedy pass over the values in order of address: a value joins the block before it when the gap is not
over `max_gap`, the block stays within the device's maximum and within one readable stretch, and nothing
between them was refused or is a hole. A value is never cut. Where the device wants whole blocks (`block`,
`blocks`), those take the place of the value's own registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edge_agent_drivers.codec import BitDecoder, Field, RegisterDecoder
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.limits import Barriers, Extent, Limits, Stretch


@dataclass(frozen=True, slots=True)
class Span:
    """Where one value lies: `count` registers (or one bit) from `address` of `table`, for `column`."""

    name: str
    column: int
    table: Table
    address: int
    count: int
    field: Field | None
    """How registers are decoded; None for a bit."""

    def __str__(self) -> str:
        return f"{self.table}:{self.address} ({self.name})"


@dataclass(frozen=True, slots=True)
class Block:
    """One request: `count` addresses from `address` of `table`, with the values that lie in it."""

    table: Table
    address: int
    count: int
    spans: tuple[Span, ...]
    decoder: RegisterDecoder | BitDecoder = field(compare=False, repr=False)
    whole: bool = False
    """Never cut and never joined: a block that the device gives only as it is."""

    @property
    def payload_bytes(self) -> int:
        """How many bytes the answer must have."""
        return (self.count + 7) // 8 if self.table.bits else 2 * self.count

    @property
    def key(self) -> tuple[Table, int, int]:
        """What identifies the request."""
        return self.table, self.address, self.count

    @property
    def where(self) -> str:
        """The addresses as they go over the wire, like holding:100-105."""
        last = self.address + self.count - 1
        return f"{self.table}:{self.address}" + (f"-{last}" if self.count > 1 else "")

    def __str__(self) -> str:
        what = "bits" if self.table.bits else "registers"
        last = self.address + self.count - 1
        return f"{self.table}:{self.address}..{last} ({self.count} {what}, {len(self.spans)} values)"

    def words(self, span: Span, payload: bytes) -> str:
        """What the device sent for `span`: its registers in hex, or 0 or 1."""
        start = span.address - self.address
        if self.table.bits:
            return str(payload[start // 8] >> start % 8 & 1)
        return payload[2 * start : 2 * (start + span.count)].hex(" ", 2).upper()


Cuts = frozenset[tuple[Table, int]]
"""Addresses at which no block may go on."""
_RANKS = {table: rank for rank, table in enumerate(Table)}


def coalesce(
    spans: Iterable[Span],
    limits: Limits,
    cuts: Cuts = frozenset(),
    refused: Sequence[Span] = (),
) -> list[Block]:
    """The blocks that read `spans`, in order of table and address.

    A block never begins before a cut and goes on behind it, and never reads across a refused span or a hole,
    however wide a gap the limits allow.
    """
    return [block.closed() for block in _gather(spans, limits, cuts, refused)]


def weigh(spans: Iterable[Span], limits: Limits) -> tuple[int, int]:
    """How many requests read `spans`, and how many bytes of values come back."""
    blocks = _gather(spans, limits)
    counts = ((block.table, block.end - block.start) for block in blocks)
    return len(blocks), sum((count + 7) // 8 if table.bits else 2 * count for table, count in counts)


def _gather(
    spans: Iterable[Span],
    limits: Limits,
    cuts: Cuts = frozenset(),
    refused: Sequence[Span] = (),
) -> list[_Open]:
    placed = [(span, limits.extent(span.table, span.address, span.count)) for span in spans]
    placed.sort(key=_place)
    barriers = Barriers(
        [*limits.barriers(), *(Stretch(s.table, s.address, s.address + s.count) for s in refused)]
    )
    blocks: list[_Open] = []
    for span, extent in placed:
        if not (blocks and blocks[-1].takes(span, extent, limits, cuts, barriers)):
            blocks.append(_Open(span, extent, limits))
    return blocks


def _place(one: tuple[Span, Extent]) -> tuple[int, ...]:
    span, extent = one
    return _RANKS[span.table], extent.start, -extent.end, span.address, -span.count


class _Open:
    """A block that may still grow."""

    __slots__ = ("end", "region", "spans", "start", "table", "whole")

    def __init__(self, span: Span, extent: Extent, limits: Limits) -> None:
        self.table, self.spans = span.table, [span]
        self.start, self.end, self.whole = extent
        self.region = limits.region(span.table, self.start, self.end)

    def takes(
        self,
        span: Span,
        extent: Extent,
        limits: Limits,
        cuts: Cuts,
        barriers: Barriers,
    ) -> bool:
        """Add the value where that is allowed."""
        if span.table is not self.table:
            return False
        if self.whole or extent.whole:
            if extent != (self.start, self.end, self.whole):
                return False
        elif not self._joins(span, extent, limits, cuts, barriers):
            return False
        self.end = max(self.end, extent.end)
        self.spans.append(span)
        return True

    def _joins(
        self,
        span: Span,
        extent: Extent,
        limits: Limits,
        cuts: Cuts,
        barriers: Barriers,
    ) -> bool:
        end = max(self.end, extent.end)
        return (
            (span.table, span.address) not in cuts
            and extent.start <= self.end + limits.gap
            and end - self.start <= limits.of(span.table)
            and not barriers.between(span.table, self.end, extent.start)
            and (not limits.readable or limits.region(span.table, extent.start, extent.end) == self.region)
        )

    def closed(self) -> Block:
        return _block(self.spans, Extent(self.start, self.end, self.whole))


def make_block(spans: Sequence[Span], limits: Limits | None = None) -> Block:
    """One block that covers `spans`, which are of one table and in ascending order of address.

    With `limits` it covers the whole blocks that they lie in.
    """
    extents = [
        limits.extent(span.table, span.address, span.count)
        if limits
        else Extent(span.address, span.address + span.count, whole=False)
        for span in spans
    ]
    start, end = min(extent.start for extent in extents), max(extent.end for extent in extents)
    return _block(spans, Extent(start, end, any(extent.whole for extent in extents)))


def halves(block: Block, limits: Limits) -> list[Block]:
    """The block in two, to find what the device refuses; nothing where it cannot be read in parts."""
    spans = block.spans
    if block.whole or len(spans) < 2:
        return []
    middle = len(spans) // 2
    # Values in the same whole block stay together: the nearest place where one ends.
    order = sorted(range(1, len(spans)), key=lambda at: abs(at - middle))
    for at in order:
        pieces = [make_block(spans[:at], limits), make_block(spans[at:], limits)]
        if limits.block != "aligned" or pieces[0].address + pieces[0].count <= pieces[1].address:
            return pieces
    return []


def _block(spans: Sequence[Span], extent: Extent) -> Block:
    table, start = spans[0].table, extent.start
    decoder: RegisterDecoder | BitDecoder
    if table.bits:
        decoder = BitDecoder([span.address - start for span in spans])
    else:
        decoder = RegisterDecoder([(span.address - start, span.field) for span in spans if span.field])
    return Block(table, start, extent.end - start, tuple(spans), decoder, extent.whole)
