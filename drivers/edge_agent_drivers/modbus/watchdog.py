"""Registers that arm a device's communication watchdog, as soon as they are read: they never are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from edge_agent.contracts.settings import CommWatchdog
from edge_agent_drivers.modbus.address import Address, Table, parse_address

if TYPE_CHECKING:
    from edge_agent_drivers.modbus.settings import ModbusTag


class Stretch(NamedTuple):
    """Addresses of one table, first and last included, numbered as the manual numbers them."""

    first: Address
    last: Address

    @property
    def table(self) -> Table:
        """The table both lie in."""
        return self.first.table

    def on_wire(self, base: int) -> range:
        """The zero-based addresses as they go over the wire."""
        return range(self.first.on_wire(base), self.last.on_wire(base) + 1)

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last.number}"


def parse_stretch(written: object) -> Stretch:
    """`holding:100` or `holding:100-109`. ValueError with the fix otherwise."""
    if isinstance(written, Stretch):
        return written
    match = re.fullmatch(r"\s*(.+?)\s*-\s*(\d+|0[xX][0-9A-Fa-f]+)\s*", str(written))
    first = parse_address(match[1] if match else written)
    if match is None:
        return Stretch(first, first)
    last = Address(first.table, int(match[2], 0), first.modicon)
    if first.modicon:
        last = parse_address(match[2])
    if last.table is not first.table or last.number < first.number:
        raise ValueError(f"'{written}' goes backwards: write holding:100-109, the lower number first")
    return Stretch(first, last)


StretchField = Annotated[
    Stretch,
    BeforeValidator(parse_stretch),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["holding:100", "holding:100-109"]}),
]
"""One address, or several in a row."""


class ModbusWatchdog(CommWatchdog):
    """A communication watchdog that may be armed by reading."""

    armed_by: list[StretchField] = []
    """Registers whose reading arms it: they are refused in `tags`, and never read to join two blocks."""

    @property
    def harmed_by_silence(self) -> bool:
        """False where reading certain registers arms it: those are never read."""
        return not self.armed_by


def armed_tags(
    watchdog: ModbusWatchdog | None, tags: Mapping[str, ModbusTag], base: int
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where a tag lies in registers that arm the watchdog, and why it is refused."""
    for stretch in watchdog.armed_by if watchdog else []:
        armed = stretch.on_wire(base)
        for name, tag in tags.items():
            first = tag.address.on_wire(base)
            if tag.address.table is stretch.table and first < armed.stop and first + tag.count > armed.start:
                yield (
                    ("tags", name, "address"),
                    f"reading {tag.address} arms the device's communication watchdog, and it trips when the "
                    "agent is silent; read another register, or switch the watchdog off in the device and "
                    "write comm_watchdog: off",
                )
