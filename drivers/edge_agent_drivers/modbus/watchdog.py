"""Registers that arm a device's communication watchdog, as soon as they are read: they never are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from edge_agent.contracts.settings import CommWatchdog
from edge_agent_drivers.modbus.ranges import AddressRangeField

if TYPE_CHECKING:
    from edge_agent_drivers.modbus.tags import ModbusTag


class ModbusWatchdog(CommWatchdog):
    """A communication watchdog that may be armed by reading."""

    armed_by: list[AddressRangeField] = []
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
        start, end = stretch.on_wire(base)
        for name, tag in tags.items():
            first = tag.address.on_wire(base)
            if tag.address.table is stretch.table and first < end and first + tag.count > start:
                yield (
                    ("tags", name, "address"),
                    f"reading {tag.address} arms the device's communication watchdog, and it trips when the "
                    "agent is silent; read another register, or switch the watchdog off in the device and "
                    "write comm_watchdog: off",
                )
