"""Which registers are read in which request. Pure: the same settings always give the same plan.

One greedy pass over the values in order of address: a value joins the block before it when the gap is not
over `max_gap`, the block stays within the device's maximum, and nothing between them was refused. A value is
never cut. The result can be printed (`describe`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edge_agent.types import Kind, ReadGroup, Tag
from edge_agent.units import format_duration
from edge_agent_drivers.codec import BitDecoder, Field, RegisterDecoder
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.settings import ModbusMachine, ModbusTag, tag_fields

MOST_BITS = 2000
"""Most coils or discrete inputs of one request, by the specification."""


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
class Bit:
    """One named bit: bit `bit` of the value in column `word` goes to `column`."""

    word: int
    bit: int
    column: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cover."""

    registers: int
    bits: int
    gap: int

    def of(self, table: Table) -> int:
        """Most addresses of `table` in one request."""
        return self.bits if table.bits else self.registers


@dataclass(frozen=True, slots=True)
class Block:
    """One request: `count` addresses from `address` of `table`, with the values that lie in it."""

    table: Table
    address: int
    count: int
    spans: tuple[Span, ...]
    decoder: RegisterDecoder | BitDecoder = field(compare=False, repr=False)

    @property
    def payload_bytes(self) -> int:
        """How many bytes the answer must have."""
        return (self.count + 7) // 8 if self.table.bits else 2 * self.count

    @property
    def key(self) -> tuple[Table, int, int]:
        """What identifies the request."""
        return self.table, self.address, self.count

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


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """One read group with where its columns come from."""

    group: ReadGroup
    spans: tuple[Span, ...]
    bits: tuple[Bit, ...]


def plan_groups(settings: ModbusMachine) -> tuple[GroupPlan, ...]:
    """The read groups of a machine, one per scan rate, in the order of the configuration."""
    by_rate: dict[float, list[tuple[str, ModbusTag]]] = {}
    for name, tag in settings.tags.items():
        by_rate.setdefault(settings.rate_of(tag), []).append((name, tag))
    return tuple(_group(settings, every, tags) for every, tags in by_rate.items())


def _group(settings: ModbusMachine, every: float, tags: Iterable[tuple[str, ModbusTag]]) -> GroupPlan:
    columns: list[Tag] = []
    spans: list[Span] = []
    bits: list[Bit] = []
    for name, tag in tags:
        table, word = tag.address.table, len(columns)
        address = tag.address.on_wire(settings.address_base)
        how = None if table.bits else tag_fields(settings, tag)
        spans.append(Span(name, word, table, address, tag.count, how))
        columns.append(_word_tag(name, tag))
        for bit, bit_name in tag.bits.items():
            bits.append(Bit(word, bit - tag.bit_base, len(columns)))
            columns.append(Tag(f"{name}.{bit_name}", Kind.STATE, "bool", max_interval=tag.max_interval))
    return GroupPlan(ReadGroup(tuple(columns), every), tuple(spans), tuple(bits))


def _word_tag(name: str, tag: ModbusTag) -> Tag:
    made = tag.tag(name, tag.wire_type)
    if not tag.bits or tag.kind is not None:
        return made
    # A word of named bits is a state; as a measurement it would go into the health model.
    return tag.model_copy(update={"kind": Kind.STATE}).tag(name, tag.wire_type)


def limits_of(settings: ModbusMachine) -> Limits:
    """The limits the settings give."""
    return Limits(
        registers=settings.max_registers,
        bits=min(16 * settings.max_registers, MOST_BITS),
        gap=settings.max_gap,
    )


def coalesce(
    spans: Iterable[Span],
    limits: Limits,
    cuts: frozenset[tuple[Table, int]] = frozenset(),
    refused: Sequence[Span] = (),
) -> list[Block]:
    """The blocks that read `spans`, in order of table and address.

    A block never begins before a cut and goes on behind it, and never reads across a refused span, however
    wide a gap the limits allow.
    """
    tables = list(Table)
    ordered = sorted(spans, key=lambda span: (tables.index(span.table), span.address, -span.count))
    blocks: list[list[Span]] = []
    end = 0
    for span in ordered:
        last = blocks[-1] if blocks else None
        if last is not None and _joins(last[0], end, span, limits, cuts, refused):
            last.append(span)
            end = max(end, span.address + span.count)
        else:
            blocks.append([span])
            end = span.address + span.count
    return [make_block(block) for block in blocks]


def _joins(
    first: Span,
    end: int,
    span: Span,
    limits: Limits,
    cuts: frozenset[tuple[Table, int]],
    refused: Sequence[Span],
) -> bool:
    if span.table is not first.table or (span.table, span.address) in cuts:
        return False
    if span.address > end + limits.gap:
        return False
    if max(end, span.address + span.count) - first.address > limits.of(span.table):
        return False
    return not any(
        hole.table is span.table and hole.address < span.address and hole.address + hole.count > end
        for hole in refused
    )


def make_block(spans: Sequence[Span]) -> Block:
    """One block that covers `spans`, which are of one table and in ascending order of address."""
    table, start = spans[0].table, spans[0].address
    count = max(span.address + span.count for span in spans) - start
    decoder: RegisterDecoder | BitDecoder
    if table.bits:
        decoder = BitDecoder([span.address - start for span in spans])
    else:
        decoder = RegisterDecoder([(span.address - start, span.field) for span in spans if span.field])
    return Block(table, start, count, tuple(spans), decoder)


def describe(groups: Sequence[GroupPlan], limits: Limits) -> str:
    """The plan as people read it: per group its requests, and what they cost."""
    lines: list[str] = []
    for plan in groups:
        blocks = coalesce(plan.spans, limits)
        wanted = len({(s.table, s.address + i) for s in plan.spans for i in range(s.count)})
        wasted = sum(block.count for block in blocks) - wanted
        lines.append(
            f"every {format_duration(plan.group.every)}: {len(blocks)} requests, "
            f"{len(plan.group.tags)} tags, {wasted} addresses read that nobody asked for"
        )
        lines += [f"  {block}" for block in blocks]
    return "\n".join(lines)
