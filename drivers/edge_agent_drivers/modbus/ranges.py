"""Stretches of a device's address space, as `readable`, `holes` and `blocks` name them: `holding:0-199`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from edge_agent_drivers.modbus.address import Address, Table, parse_address


@dataclass(frozen=True, slots=True)
class AddressRange:
    """All addresses from `first` to `last`, both included, of one table."""

    first: Address
    last: Address

    @property
    def table(self) -> Table:
        """The table they are in."""
        return self.first.table

    def on_wire(self, base: int) -> tuple[int, int]:
        """The zero-based first address, and the one after the last."""
        return self.first.on_wire(base), self.last.on_wire(base) + 1

    def __str__(self) -> str:
        if self.first == self.last:
            return str(self.first)
        return f"{self.first}-{self.last.number if not self.last.modicon else self.last}"


_ADVICE = "write holding:0-199, holding:7, or [holding:0, holding:199]"


def parse_range(written: object) -> AddressRange:
    """The range somebody wrote, as one text or as first and last. ValueError with the fix otherwise."""
    if isinstance(written, AddressRange):
        return written
    if isinstance(written, list | tuple):
        if len(written) != 2:
            raise ValueError(f"a range has a first and a last address: {_ADVICE}")
        first, last = (parse_address(end) for end in written)
    elif isinstance(written, str):
        first, last = _ends(written.strip())
    else:
        raise ValueError(f"'{written}' is no range of addresses: {_ADVICE}")
    if first.table is not last.table:
        raise ValueError(f"a range lies in one table, not from {first} to {last}")
    if last.number < first.number or first.modicon is not last.modicon:
        raise ValueError(f"a range goes from the lower address to the higher, not from {first} to {last}")
    return AddressRange(first, last)


def _ends(text: str) -> tuple[Address, Address]:
    start, dash, end = (part.strip() for part in text.partition("-"))
    if not dash:
        first = parse_address(start)
        return first, first
    if not start or not end:
        raise ValueError(f"'{text}' is no range of addresses: {_ADVICE}")
    if re.fullmatch(r"\d+|0[xX][0-9A-Fa-f]+", end) and ":" in start:
        end = f"{start.partition(':')[0]}:{end}"
    return parse_address(start), parse_address(end)


AddressRangeField = Annotated[
    AddressRange,
    BeforeValidator(parse_range),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": ["string", "integer"]}, "minItems": 2, "maxItems": 2},
            ],
            "examples": ["holding:0-199", ["holding:0", "holding:199"]],
        }
    ),
]
"""A range in the notations of `parse_range`."""
