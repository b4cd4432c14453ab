"""Where the tags of a machine lie: within what may be read, in whole blocks, on each other's registers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_agent.contracts.doubt import Doubt
from edge_agent_drivers.modbus.limits import Limits
from edge_agent_drivers.modbus.ranges import AddressRange

if TYPE_CHECKING:
    from edge_agent_drivers.modbus.settings import ModbusMachine
    from edge_agent_drivers.modbus.tags import ModbusTag

Problem = tuple[tuple[str, ...], str]


def problems(machine: ModbusMachine) -> Iterator[Problem]:
    """What makes reading the tags as the machine says impossible."""
    if (machine.block == "aligned") != (machine.block_size is not None):
        if machine.block_size is None:
            yield ("block",), "aligned blocks need their size: add block_size: 2, or as the manual says"
        else:
            yield (
                ("block_size",),
                f"it has no effect with block: {machine.block}; write block: aligned",
            )
        return
    if (machine.block_size or 0) > machine.max_registers:
        yield (
            ("block_size",),
            f"a block of {machine.block_size} registers cannot be read: max_registers is "
            f"{machine.max_registers}; raise it if the device allows it",
        )
        return
    if machine.block == "single" and machine.blocks:
        yield ("blocks",), "with block: single each value is read alone; write block: exact for whole blocks"
        return
    found = [*_range_problems(machine), *_block_problems(machine)]
    yield from found
    particular = machine.block_size or machine.blocks or machine.readable or machine.holes
    if particular and not found:
        limits = machine.limits
        for name, tag in machine.tags.items():
            yield from _place_problems(machine, limits, name, tag)


def _range_problems(machine: ModbusMachine) -> Iterator[Problem]:
    for key in ("readable", "holes", "blocks"):
        for index, stretch in enumerate(getattr(machine, key)):
            first, end = stretch.on_wire(machine.address_base)
            if first < 0 or end > 65536:
                low = machine.address_base
                yield (
                    (key, str(index)),
                    f"{stretch} does not exist: addresses go from {low} to {65535 + low}",
                )


def _block_problems(machine: ModbusMachine) -> Iterator[Problem]:
    for index, block in enumerate(machine.blocks):
        first, end = block.on_wire(machine.address_base)
        most = machine.max_registers * (16 if block.table.bits else 1)
        if end - first > most:
            yield (
                ("blocks", str(index)),
                f"{block} is {end - first} long, and max_registers is {machine.max_registers}: a block is "
                "read whole; raise max_registers if the device allows it",
            )
        for other in machine.blocks[:index]:
            if _touch(block, other, machine.address_base):
                yield ("blocks", str(index)), f"{block} and {other} share addresses; blocks lie side by side"
        for hole in machine.holes:
            if _touch(block, hole, machine.address_base):
                yield (
                    ("blocks", str(index)),
                    f"{block} is read whole, and {hole} is a hole; correct one",
                )


def _touch(one: AddressRange, other: AddressRange, base: int) -> bool:
    (first, end), (other_first, other_end) = one.on_wire(base), other.on_wire(base)
    return one.table is other.table and first < other_end and other_first < end


def _place_problems(machine: ModbusMachine, limits: Limits, name: str, tag: ModbusTag) -> Iterator[Problem]:
    place = ("tags", name, "address")
    base, table = machine.address_base, tag.address.table
    first = tag.address.on_wire(base)
    low, high, whole = limits.extent(table, first, tag.count)
    read = f"{table}:{low + base}-{high - 1 + base}" if high - low > 1 else str(tag.address)
    for block, written in zip(limits.blocks, machine.blocks, strict=True):
        if block.meets(table, low, high) and not (whole and (low, high) == (block.start, block.end)):
            yield (
                place,
                f"{read} lies partly in the block {written}, which is read whole; correct one",
            )
            return
    for hole, written in zip(limits.holes, machine.never_read, strict=True):
        if hole.meets(table, low, high):
            what = "is one of the holes" if written in machine.holes else "arms the communication watchdog"
            yield place, f"{read} would be read, and {written} {what}; correct one"
            return
    if limits.readable and limits.region(table, low, high) < 0:
        yield place, f"{read} is not within one stretch of readable; add it there if the device has it"
    elif high - low > limits.of(table):
        yield (
            place,
            f"the value lies in {high - low} registers of whole blocks, and max_registers is "
            f"{machine.max_registers}; raise it if the device allows it",
        )


def overlaps(machine: ModbusMachine) -> Iterator[Doubt]:
    """Tags on registers that another tag reads differently; the same value twice is fine."""
    placed = sorted(
        (
            (str(tag.address.table), tag.address.on_wire(machine.address_base), tag.count, index, name, tag)
            for index, (name, tag) in enumerate(machine.tags.items())
            if not tag.address.table.bits
        ),
        key=lambda one: one[:4],
    )
    table, end, holder = "", -1, ""
    before: ModbusTag | None = None
    for where, first, count, _, name, tag in placed:
        if where == table and first < end and before is not None and not _same(machine, before, tag):
            yield Doubt(
                ("tags", name, "address"),
                "W308",
                f"{tag.address} is read as {tag.wire_type} here and is part of '{holder}', which is "
                f"{before.wire_type}",
                "for several things in one word, name its bits: {0: ready}, else correct one",
            )
        if where != table or first + count > end:
            table, end, holder, before = where, first + count, name, tag


def _same(machine: ModbusMachine, one: ModbusTag, other: ModbusTag) -> bool:
    base = machine.address_base
    here, there = (
        (tag.address.on_wire(base), tag.wire_type, tag.count, machine.order_of(tag)) for tag in (one, other)
    )
    return here == there
