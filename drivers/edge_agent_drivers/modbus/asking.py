"""Asking a device for blocks: several at once where it allows that, and once more where that may help."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.faults import (
    BUSY,
    LineFault,
    LineLost,
    NoAnswer,
    NotConnected,
    Refused,
    Resting,
    Untrusted,
    WrongCount,
)
from edge_agent_drivers.modbus.plan import Block
from edge_agent_drivers.modbus.row import Device, Row

Key = tuple[Table, int, int]
"""What identifies a request: table, address, count."""

BUSY_WAIT = 0.2
"""Seconds between a "busy" and asking again, where `comm.retries` allows it."""


class Questions:
    """The questions of one scan."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._ahead: dict[Key, bytes | LineFault] = {}
        """What came back to the questions that were sent ahead."""

    def forget(self) -> None:
        """A new scan begins."""
        self._ahead.clear()

    def known(self, block: Block) -> bool:
        """Whether the outcome is there already."""
        return block.key in self._ahead

    async def send_ahead(self, blocks: Sequence[Block]) -> None:
        """Ask for several blocks at once; `ask` then has the outcomes."""
        line, wanted = self._device.line, [block.key for block in blocks]
        while len(wanted) > 1 and line.connected:
            try:
                outcomes = await line.ask_ahead(self._device.unit, wanted)
            except LineFault:
                return  # The blocks will find out for themselves.
            self._ahead |= zip(wanted, outcomes, strict=False)
            wanted = wanted[len(outcomes) :]
            if all(isinstance(outcome, NoAnswer | LineLost) for outcome in outcomes):
                return

    async def ask(self, block: Block, row: Row, *, again: bool) -> bytes | LineFault:
        """What came of asking for a block; with `again` up to `comm.retries` times more, where that helps,
        and once more anyhow where a connection broke that had been answered over."""
        outcome = self._ahead.pop(block.key, None) or await self._once(block, row)
        left = self._device.retries if again else 0
        if again and type(outcome) is LineLost and self._device.line.answered:
            # It costs no timeout, and a device that hangs up on each n-th question never gets to the same
            # block for ever.
            left = max(left, 1)
        while left > 0 and not row.gone and _worth_asking_again(outcome):
            left -= 1
            if isinstance(outcome, Refused):
                await asyncio.sleep(BUSY_WAIT)
            outcome = await self._once(block, row)
        return outcome

    async def _once(self, block: Block, row: Row) -> bytes | LineFault:
        device = self._device
        try:
            return await device.line.ask(device.unit, block.table, block.address, block.count)
        except NotConnected:
            pass  # Dropped by us after a silent block, or by the device while idle: one try, no waiting.
        except LineFault as fault:
            return fault
        try:
            await device.line.open()
        except LineFault as fault:
            row.gone = True
            return fault
        try:
            return await device.line.ask(device.unit, block.table, block.address, block.count)
        except LineFault as fault:
            return fault


def _worth_asking_again(outcome: bytes | LineFault) -> bool:
    """Whether asking again at once may bring another answer."""
    if isinstance(outcome, Refused):
        return outcome.code in BUSY
    return not isinstance(outcome, bytes | WrongCount | Resting | Untrusted)
