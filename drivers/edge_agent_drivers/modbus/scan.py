"""One scan of one read group: ask block by block, isolate what is refused, remember it.

- Exception 2 on a block of several values: the block is halved until the refused values are found, once.
  They are quarantined (bad, illegal_address), the others are joined again, and one quarantined value per scan
  is tried again when its time has come. Where no single value is to blame, the pieces stay apart until then.
- Exception 3 on a block: the device's maximum is halved and remembered for the machine. Where a single value
  is refused like that, the value is to blame: it is quarantined, and the maximum is as before.
- A block that stays silent, loses the connection or whose answers have the wrong length, while others answer:
  after three scans in a row it is halved like after exception 2, which is the only way to read a device that
  answers nothing at all for a register it does not have. Silence is dear, so one scan looks on for three
  timeouts only, and one search for twenty-four; what then remains is left alone for a while.
"""

from __future__ import annotations

import time

from edge_agent.types import Status
from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.asking import Key, Questions
from edge_agent_drivers.modbus.columns import GroupPlan
from edge_agent_drivers.modbus.derive import Derivations
from edge_agent_drivers.modbus.faults import (
    BEHIND_GATEWAY,
    ILLEGAL_ADDRESS,
    TOO_MANY,
    LineFault,
    LineLost,
    NoAnswer,
    Refused,
    Resting,
    WrongCount,
)
from edge_agent_drivers.modbus.notices import Notices
from edge_agent_drivers.modbus.plan import Block, Span, coalesce, halves, make_block
from edge_agent_drivers.modbus.row import (
    FIRST_REST,
    SEARCH_BUDGET,
    STRIKES,
    Device,
    Quarantined,
    Row,
    Strikes,
)

IN_A_ROW = 4
"""Questions in a row without an answer after which a scan asks no more, lest each block cost a timeout.

The next scan begins with those that were not asked."""
SEARCH_SILENCES = 24
"""Most timeouts that one search for silent registers costs altogether; the next search is a retest away."""


class GroupScan:
    """Reads one group again and again, and remembers what the device refused."""

    def __init__(self, plan: GroupPlan, device: Device) -> None:
        self._plan, self._device = plan, device
        self._derived = Derivations(device.machine, plan.steps, device.known) if plan.steps else None
        self._quarantine: dict[Span, Quarantined] = {}
        self._cuts: set[tuple[Table, int]] = set()
        self._cuts_until = 0.0
        self._strikes: dict[Key, Strikes] = {}
        self._notices = Notices(device.machine, device.retest)
        self._found = False
        self._unfinished = False
        self._limits = self._limits_before = device.limits
        self._questions = Questions(device)
        self._silences = SEARCH_SILENCES
        self._silences_until = 0.0
        self._spoke = False
        """Whether a block of this group was answered since connecting."""
        self._guess = 0
        self.blocks: list[Block] = []
        self._rebuild()

    @property
    def quarantined(self) -> list[Span]:
        """The values that are left out because the device refuses them."""
        return list(self._quarantine)

    def forgive(self) -> None:
        """Ask silent blocks again: the connection is new. What was refused stays in quarantine."""
        self._spoke = False
        for strikes in self._strikes.values():
            strikes.count, strikes.rest, strikes.until = min(strikes.count, STRIKES - 1), FIRST_REST, 0.0
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
        blocks = list(self.blocks)
        if self._strikes:
            # What failed before comes last: something must answer, or the device is taken for dead.
            blocks.sort(key=lambda block: block.key in self._strikes)
            if not self._spoke and blocks[0].key in self._strikes:
                await self._try_a_part(row)
        ahead = self._device.line.pipeline
        for start in range(0, len(blocks), ahead):
            several = blocks[start : start + ahead]
            if ahead > 1:
                await self._questions.send_ahead([block for block in several if not self._rests(block, now)])
            for block in several:
                await self._read(block, row)
                if row.failure is not None and not row.answered and (row.gone or row.unanswered >= 2):
                    raise self._dead(row, row.failure)
        if row.failure is not None and not row.answered:
            raise self._dead(row, row.failure)
        await self._retest(row, now)
        self._settle(row)
        if self._derived is not None:
            self._derived.apply(row, at)
        return row

    def _dead(self, row: Row, failure: LineFault) -> LineFault:
        """Nothing answered, which says something of the device, and nothing of the blocks that were asked."""
        for block, _ in row.notes:
            if (strikes := self._strikes.get(block.key)) is not None:
                strikes.count = max(0, strikes.count - 1)
        return failure

    def _begin(self, row: Row, now: float) -> None:
        self._found = False
        self._limits_before = self._device.limits
        self._questions.forget()
        if now >= self._silences_until:
            self._silences, self._silences_until = SEARCH_SILENCES, now + self._device.retest
        if self._cuts and now >= self._cuts_until and not self._unfinished:
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
        self._notices.keep(keys)

    async def _retest(self, row: Row, now: float) -> None:
        due = next((span for span, entry in self._quarantine.items() if now >= entry.until), None)
        if due is None:
            return
        self._quarantine[due].until = now + self._device.retest
        if await self._read(make_block([due], self._limits), row, searching=True):
            del self._quarantine[due]
            self._notices.back(due)
            self._rebuild()

    async def _try_a_part(self, row: Row) -> None:
        """Where no block gets an answer: one value alone, each time another, lest a register that the
        device does not answer for makes all of it look dead."""
        blocks = [block for block in self.blocks if len(block.spans) > 1 and not block.whole]
        spans = [span for block in blocks for span in block.spans]
        if spans:
            self._guess = (self._guess + 1) % len(spans)
            await self._read(make_block([spans[self._guess]], self._limits), row, searching=True)

    def _rests(self, block: Block, now: float) -> bool:
        strikes = self._strikes.get(block.key)
        return strikes is not None and now < strikes.until

    async def _read(self, block: Block, row: Row, *, searching: bool = False) -> bool:
        """Ask for one block and, where it is refused, for its parts; True where all of it came."""
        strikes = self._strikes.get(block.key)
        if row.in_a_row >= IN_A_ROW and row.failure is not None and not self._questions.known(block):
            row.fail(block.spans, row.failure.status)
            row.unfinished = row.unfinished or searching
            return False
        if row.gone or (strikes is not None and self._left_alone(strikes, row)):
            row.fail(block.spans, strikes.status if strikes else LineLost.status)
            return False
        outcome = await self._questions.ask(block, row, again=not searching and strikes is None)
        if isinstance(outcome, bytes):
            self._spoke = self._spoke or not searching
            row.take(block, outcome)
            self._recovered(block)
            return True
        struck = searching or (strikes is not None and strikes.count + 1 >= STRIKES)
        if isinstance(outcome, Refused):
            await self._refused(block, outcome, row)
        elif isinstance(outcome, WrongCount):
            row.answer()
            if struck:
                await self._search(block, outcome.status, str(outcome), row)
            else:
                self._strike(block, outcome, row)
        else:
            row.no_answer(outcome)
            row.gone = row.gone or isinstance(outcome, Resting)
            if struck and row.answered and isinstance(outcome, NoAnswer | LineLost) and not row.gone:
                await self._search_silent(block, outcome, row, searching=searching)
            else:
                self._strike(block, outcome, row)
        return False

    def _strike(self, block: Block, fault: LineFault, row: Row) -> None:
        row.fail(block.spans, fault.status)
        strikes = self._strikes.setdefault(block.key, Strikes(fault.status))
        strikes.count += 1
        strikes.status = fault.status
        row.notes.append((block, fault))

    async def _refused(self, block: Block, refused: Refused, row: Row) -> None:
        if refused.code in BEHIND_GATEWAY:
            row.no_answer(refused)
        else:
            row.answer()
        if refused.code == TOO_MANY and self._lowered(block):
            await self._pieces(coalesce(block.spans, self._device.limits), refused.status, row)
        elif refused.code in (ILLEGAL_ADDRESS, TOO_MANY):
            if refused.code == TOO_MANY:
                self._device.limits = self._limits_before
            await self._search(block, refused.status, str(refused), row)
        else:
            row.fail(block.spans, refused.status)
            row.notes.append((block, refused))

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

    async def _search_silent(self, block: Block, fault: LineFault, row: Row, *, searching: bool) -> None:
        """Halve a block that stays silent while others answer, for as long as that is worth its time."""
        parts = halves(block, self._device.limits)
        if not parts and not searching:
            self._strike(block, fault, row)
            return
        row.silences -= 1
        self._silences -= 1
        if parts and (row.silences <= 0 or self._silences <= 0):
            self._postpone(block, fault.status, row)
            return
        if not searching:
            self._notices.searching(block, fault)
        await self._search(block, fault.status, str(fault), row)

    def _postpone(self, piece: Block, status: Status, row: Row) -> None:
        """Go on with a part of a silent block in the next scan or, once the search has cost enough, later."""
        strikes = self._strikes.get(piece.key) or Strikes(status)
        strikes.count, strikes.sought = STRIKES - 1, True
        if self._silences <= 0:
            strikes.until = time.monotonic() + strikes.rest
            strikes.rest = min(2 * strikes.rest, self._device.retest)
        self._strikes[piece.key] = strikes
        row.unfinished = True
        row.fail(piece.spans, status)

    def _left_alone(self, strikes: Strikes, row: Row) -> bool:
        """Whether a block that failed before is not asked in this scan."""
        if strikes.sought and row.silences <= 0:
            row.unfinished = True
            return True
        return time.monotonic() < strikes.until

    async def _pieces(self, pieces: list[Block], status: Status, row: Row) -> None:
        for piece in pieces:
            if row.budget <= 0:
                row.fail(piece.spans, status)
            elif row.silences <= 0:
                self._postpone(piece, status, row)
            else:
                row.budget -= 1
                await self._read(piece, row, searching=True)

    def _put_away(self, span: Span, status: Status, why: str) -> None:
        if span not in self._quarantine:
            self._found = True
            self._notices.put_away(span, why)
        self._quarantine[span] = Quarantined(status, time.monotonic() + self._device.retest)

    def _settle(self, row: Row) -> None:
        """After a scan: join what was cut to find a refused value; let blocks rest that fail alone."""
        self._unfinished = row.unfinished
        if self._found and row.budget > 0 and not row.unfinished:
            self._cuts.clear()
        if self._device.limits != self._limits_before:
            self._notices.lowered(self._device.limits)
        if row.budget < SEARCH_BUDGET or self._found or self._limits is not self._device.limits:
            self._rebuild()
        if not row.answered:
            return
        for block, fault in row.notes:
            self._notices.say(block, fault)
        now = time.monotonic()
        for key, strikes in self._strikes.items():
            if strikes.count >= STRIKES and now >= strikes.until:
                strikes.until = now + strikes.rest
                if strikes.rest == FIRST_REST:
                    self._notices.left_alone(key, strikes.rest)
                strikes.rest = min(2 * strikes.rest, self._device.retest)

    def _recovered(self, block: Block) -> None:
        self._strikes.pop(block.key, None)
        self._notices.recovered(block)
