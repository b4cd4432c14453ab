"""What is said of a machine's registers in the log: once, not at each scan."""

from __future__ import annotations

import logging
import time
from collections.abc import Set

from edge_agent.types import Status
from edge_agent.units import format_duration
from edge_agent_drivers.modbus.asking import Key
from edge_agent_drivers.modbus.faults import LineFault
from edge_agent_drivers.modbus.limits import Limits
from edge_agent_drivers.modbus.plan import Block, Span

log = logging.getLogger(__name__)


class Notices:
    """What was said already; `retest` is in seconds."""

    def __init__(self, machine: str, retest: float) -> None:
        self._machine, self._retest = machine, retest
        self._said: dict[Key, Status] = {}
        self._quiet: dict[tuple[Key, Status], float] = {}
        """Until when it is not said again: what comes and goes is not to fill the journal."""

    def keep(self, keys: Set[Key]) -> None:
        """Forget what was said of blocks that there are no more."""
        self._said = {key: said for key, said in self._said.items() if key in keys}
        self._quiet = {what: until for what, until in self._quiet.items() if what[0] in keys}

    def say(self, block: Block, fault: LineFault) -> None:
        """Why a block is bad."""
        what = block.key, fault.status
        if self._said.get(block.key) == fault.status or time.monotonic() < self._quiet.get(what, 0.0):
            return
        self._said[block.key] = fault.status
        self._quiet[what] = time.monotonic() + self._retest
        log.warning("%s: %s: %s", self._machine, block, fault)

    def recovered(self, block: Block) -> None:
        """It was answered: worth saying where it was said that it is bad."""
        if self._said.pop(block.key, None):
            log.info("%s: %s answers again", self._machine, block)

    def put_away(self, span: Span, why: str) -> None:
        """A value is left out from now on."""
        log.warning(
            "%s: %s is refused: %s; left out and tried again every %s",
            self._machine, span, why, format_duration(self._retest),
        )  # fmt: skip

    def back(self, span: Span) -> None:
        """A value that was left out answers again."""
        log.info("%s: %s answers again", self._machine, span)

    def searching(self, block: Block, fault: LineFault) -> None:
        """A silent block is taken apart."""
        log.warning(
            "%s: %s: %s, while others answer: looking for the registers it is silent about",
            self._machine, block, fault,
        )  # fmt: skip

    def lowered(self, most: Limits) -> None:
        """The device takes fewer registers at once than was configured."""
        log.warning(
            "%s: the device refuses requests over %d registers or %d bits (exception 3): "
            "set max_registers: %d",
            self._machine, most.registers, most.bits, min(most.registers, max(1, most.bits // 16)),
        )  # fmt: skip

    def left_alone(self, key: Key, rest: float) -> None:
        """A block is not asked for a while."""
        log.warning(
            "%s: %s:%d gives no usable answer while others do: tried again in %s",
            self._machine, key[0], key[1], format_duration(rest),
        )  # fmt: skip
