"""One scan of one read group: ask block by block, isolate what is refused, remember it.

- Exception 2 on a block of several values: the block is halved until the refused values are found, once.
  They are quarantined (bad, illegal_address), the others are joined again, and one quarantined value per scan
  is tried again when its time has come. Where no single value is to blame, the pieces stay apart until then.
- Exception 3 on a block: the device's maximum is halved and remembered for the machine.
- A block that stays silent, or whose answers have the wrong length, while the others answer, is left alone
  for a while after three scans, so that it does not cost every scan a timeout.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from edge_agent.types import Status
from edge_agent.units import format_duration
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.columns import GroupPlan
from edge_agent_drivers.modbus.derive import Derivations
from edge_agent_drivers.modbus.faults import (
    BEHIND_GATEWAY,
    ILLEGAL_ADDRESS,
    TOO_MANY,
    LineFault,
    LineLost,
    Refused,
    WrongCount,
)
from edge_agent_drivers.modbus.plan import Block, Span, coalesce, halves, make_block
from edge_agent_drivers.modbus.row import SEARCH_BUDGET, Device, Row

log = logging.getLogger(__name__)

Key = tuple[Table, int, int]
"""What identifies a request: table, address, count."""

STRIKES = 3
"""Scans in a row in which a block fails alone before it is left alone for a while."""
_FIRST_REST = 30.0


@dataclass(slots=True)
class _Quarantined:
    status: Status
    until: float


@dataclass(slots=True)
class _Strikes:
    status: Status
    count: int = 0
    rest: float = _FIRST_REST
    until: float = 0.0


class GroupScan:
    """Reads one group again and again, and remembers what the device refused."""

    def __init__(self, plan: GroupPlan, device: Device) -> None:
        self._plan, self._device = plan, device
        self._derived = Derivations(device.machine, plan.steps, device.known) if plan.steps else None
        self._quarantine: dict[Span, _Quarantined] = {}
        self._cuts: set[tuple[Table, int]] = set()
        self._cuts_until = 0.0
        self._strikes: dict[Key, _Strikes] = {}
        self._said: dict[Key, str] = {}
        self._found = False
        self._limits = device.limits
        self.blocks: list[Block] = []
        self._rebuild()

    @property
    def quarantined(self) -> list[Span]:
        """The values that are left out because the device refuses them."""
        return list(self._quarantine)

    def forgive(self) -> None:
        """Ask silent blocks again at once: the connection is new. What was refused stays in quarantine."""
        self._strikes.clear()
        if self._derived is not None:
            self._derived.forget()

    async def run(self, at: int, *, raw: bool = False) -> Row:
        """Ask for every block once; `at` is when, in ns of a clock that nobody sets.

        Raises the LineFault where nothing answers at all: after two questions, not after all of them.
        """
        width = len(self._plan.group.tags)
        row = Row([None] * width, raw=[""] * width if raw else None)
        now = time.monotonic()
        self._begin(row, now)
        await self._retest(row, now)
        for block in list(self.blocks):
            await self._read(block, row)
            if row.failure is not None and not row.answered and (row.gone or row.unanswered >= 2):
                raise row.failure
        if row.failure is not None and not row.answered:
            raise row.failure
        self._settle(row)
        if self._derived is not None:
            self._derived.apply(row, at)
        return row

    def _begin(self, row: Row, now: float) -> None:
        self._found = False
        if self._cuts and now >= self._cuts_until:
            self._cuts.clear()
            self._rebuild()
        elif self._limits is not self._device.limits:
            self._rebuild()
        for span, entry in self._quarantine.items():
            row.statuses[span.column] = entry.status

    def _rebuild(self) -> None:
        self._limits = self._device.limits
        wanted = [span for span in self._plan.spans if span not in self._quarantine]
        self.blocks = coalesce(wanted, self._limits, frozenset(self._cuts), list(self._quarantine))
        keys = {block.key for block in self.blocks}
        self._strikes = {key: strikes for key, strikes in self._strikes.items() if key in keys}
        self._said = {key: said for key, said in self._said.items() if key in keys}

    async def _retest(self, row: Row, now: float) -> None:
        due = next((span for span, entry in self._quarantine.items() if now >= entry.until), None)
        if due is None:
            return
        self._quarantine[due].until = now + self._device.retest
        if await self._read(make_block([due], self._limits), row, searching=True):
            del self._quarantine[due]
            log.info("%s: %s answers again", self._device.machine, due)
            self._rebuild()

    async def _read(self, block: Block, row: Row, *, searching: bool = False) -> bool:
        """Ask for one block and, where it is refused, for its parts; True where all of it came."""
        strikes = self._strikes.get(block.key)
        if row.gone or (strikes is not None and time.monotonic() < strikes.until):
            row.fail(block.spans, strikes.status if strikes else LineLost.status)
            return False
        try:
            payload = await self._ask(block, row)
        except Refused as refused:
            await self._refused(block, refused, row)
        except WrongCount as fault:
            row.answered = True
            if searching or (strikes is not None and strikes.count + 1 >= STRIKES):
                await self._search(block, fault.status, str(fault), row)
            else:
                self._strike(block, fault, row)
        except LineFault as fault:
            row.unanswered += 1
            row.failure = fault
            self._strike(block, fault, row)
        else:
            row.take(block, payload)
            self._recovered(block)
            return True
        return False

    async def _ask(self, block: Block, row: Row) -> bytes:
        device = self._device
        if not device.line.connected:
            # Dropped by us after a silent block, or by the device while idle: one try, no waiting.
            try:
                await device.line.open()
            except LineLost:
                row.gone = True
                raise
        return await device.line.ask(device.unit, block.table, block.address, block.count)

    def _strike(self, block: Block, fault: LineFault, row: Row) -> None:
        row.fail(block.spans, fault.status)
        strikes = self._strikes.setdefault(block.key, _Strikes(fault.status))
        strikes.count += 1
        strikes.status = fault.status
        row.notes.append((block, str(fault)))

    async def _refused(self, block: Block, refused: Refused, row: Row) -> None:
        if refused.code in BEHIND_GATEWAY:
            row.unanswered += 1
            row.failure = refused
        else:
            row.answered = True
        if refused.code == TOO_MANY and self._lowered(block):
            await self._pieces(coalesce(block.spans, self._device.limits), refused.status, row)
        elif refused.code in (ILLEGAL_ADDRESS, TOO_MANY):
            await self._search(block, refused.status, str(refused), row)
        else:
            row.fail(block.spans, refused.status)
            row.notes.append((block, str(refused)))

    def _lowered(self, block: Block) -> bool:
        """Halve the device's maximum after exception 3; False where a value cannot be read in fewer."""
        limits = self._device.limits
        extents = [limits.extent(span.table, span.address, span.count) for span in block.spans]
        most = max(block.count // 2, *(extent.end - extent.start for extent in extents), 1)
        if most >= block.count:
            return False
        self._device.lower(block.table, most)
        return True

    async def _search(self, block: Block, status: Status, why: str, row: Row) -> None:
        """Halve a refused block, or put away what cannot be read in parts."""
        pieces = halves(block, self._device.limits)
        if not pieces:
            for span in block.spans:
                self._put_away(span, status, why)
            row.fail(block.spans, status)
            return
        self._cuts.add((block.table, pieces[1].spans[0].address))
        self._cuts_until = time.monotonic() + self._device.retest
        await self._pieces(pieces, status, row)

    async def _pieces(self, pieces: list[Block], status: Status, row: Row) -> None:
        for piece in pieces:
            if row.budget <= 0:
                row.fail(piece.spans, status)
                continue
            row.budget -= 1
            await self._read(piece, row, searching=True)

    def _put_away(self, span: Span, status: Status, why: str) -> None:
        if span not in self._quarantine:
            self._found = True
            log.warning(
                "%s: %s is refused: %s; left out and tried again every %s",
                self._device.machine, span, why, format_duration(self._device.retest),
            )  # fmt: skip
        self._quarantine[span] = _Quarantined(status, time.monotonic() + self._device.retest)

    def _settle(self, row: Row) -> None:
        """After a scan: join what was cut to find a refused value; let blocks rest that fail alone."""
        if self._found and row.budget > 0:
            self._cuts.clear()
        if row.budget < SEARCH_BUDGET or self._found or self._limits is not self._device.limits:
            self._rebuild()
        if not row.answered:
            return
        for block, what in row.notes:
            self._say(block, what)
        now = time.monotonic()
        for (table, address, _), strikes in self._strikes.items():
            if strikes.count >= STRIKES and now >= strikes.until:
                strikes.until = now + strikes.rest
                log.warning(
                    "%s: %s:%d gives no usable answer while others do: tried again in %s",
                    self._device.machine, table, address, format_duration(strikes.rest),
                )  # fmt: skip
                strikes.rest = min(2 * strikes.rest, self._device.retest)

    def _say(self, block: Block, what: str) -> None:
        if self._said.get(block.key) != what:
            self._said[block.key] = what
            log.warning("%s: %s: %s", self._device.machine, block, what)

    def _recovered(self, block: Block) -> None:
        self._strikes.pop(block.key, None)
        if self._said.pop(block.key, None):
            log.info("%s: %s answers again", self._device.machine, block)
