"""`mode: listen`: a machine whose values are those that another master asks for. Sends nothing.

A tag gets a value when the master's question covers it whole, with the time at which the answer was heard.
Not heard for three of its scans (at least ten seconds) it is bad: `timeout` where it was heard before,
`not_connected` where the master never asks for it, the device's own reason where it refuses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from edge_agent.clock import SECOND, Clock
from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent.types import ReadGroup, Reason, SampleBatch, Status, bad
from edge_agent_drivers.modbus.columns import GroupPlan
from edge_agent_drivers.modbus.derive import Derivations, Known
from edge_agent_drivers.modbus.ears import Ears, Where, ears_at
from edge_agent_drivers.modbus.faults import LineFault, NoAnswer, Refused, Taken, Unplugged
from edge_agent_drivers.modbus.plan import Span, make_block
from edge_agent_drivers.modbus.row import Row
from edge_agent_drivers.modbus.settings import ModbusMachine
from edge_agent_drivers.modbus.traffic import Heard

log = logging.getLogger(__name__)

SCANS, LEAST = 3, 10.0
"""A tag is fresh for so many of its scans, and at least so many seconds."""


class Listener:
    """One machine behind another master."""

    def __init__(
        self, machine: str, settings: ModbusMachine, plans: Sequence[GroupPlan], clock: Clock
    ) -> None:
        self._machine, self._clock = machine, clock
        self._unit = settings.unit_id
        self._endpoint, self._timeout = settings.endpoint, settings.answer_timeout
        known: Known = {}
        self._groups = {
            plan.group.every: _Group(plan, Derivations(machine, plan.steps, known)) for plan in plans
        }
        self._patience = max((group.patience for group in self._groups.values()), default=LEAST)
        self._ears: Ears | None = None
        self._since = 0.0
        self._said: set[str] = set()

    async def connect(self) -> None:
        """Listen until the unit has answered the master once.

        DeviceUnreachable where it does not, DeviceRefused where the port is somebody else's.
        """
        ears = ears_at(self._endpoint)
        for group in self._groups.values():
            for span in group.plan.spans:
                ears.image.want(self._where(span))
        try:
            async with asyncio.timeout(self._timeout):
                await ears.join(self)
        except Taken as fault:
            raise DeviceRefused(f"machine {self._machine}: {fault}") from fault
        except Unplugged as fault:
            raise DeviceUnreachable(f"machine {self._machine}: {fault}", fault.retry_within) from fault
        except (LineFault, TimeoutError) as fault:
            raise DeviceUnreachable(f"machine {self._machine}: {str(fault) or 'no connection'}") from fault
        self._ears = ears
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._patience):
                await ears.heard(self._unit, now - self._patience)
        except TimeoutError:
            raise self._unheard(ears) from None
        self._since = max(self._since, now)
        for group in self._groups.values():
            group.derived.forget()

    async def read(self, group: ReadGroup, *, raw: bool) -> list[SampleBatch]:
        """What was heard since the last call, one batch for each answer; with `raw` all that is known."""
        ears = self._ears
        if ears is None or not ears.usable:
            why = ears.lost if ears else f"not connected to {self._endpoint}"
            raise DeviceUnreachable(f"machine {self._machine}: {why}")
        if raw:
            await self._round(group, ears)
        now = asyncio.get_running_loop().time()
        if now - ears.image.units.get(self._unit, 0.0) > self._patience:
            raise self._unheard(ears)
        return self._batches(self._groups[group.every], ears, now, raw)

    async def _round(self, group: ReadGroup, ears: Ears) -> None:
        """Give the master the time to ask for all of a group once, where listening has only begun."""
        spans = self._groups[group.every].plan.spans
        with contextlib.suppress(TimeoutError):  # What was not heard by then is shown as such.
            async with asyncio.timeout_at(self._since + self._patience):
                while ears.usable and any(ears.image.value(self._where(span)) is None for span in spans):
                    await ears.heard(self._unit, ears.image.units.get(self._unit, 0.0))

    def close(self) -> None:
        """Listen no more."""
        ears, self._ears = self._ears, None
        if ears is not None:
            ears.leave(self)

    def _unheard(self, ears: Ears) -> DeviceUnreachable:
        return DeviceUnreachable(
            f"machine {self._machine}: unit {self._unit} did not answer the other master on {self._endpoint} "
            f"for {self._patience:g} s: {ears.around()}"
        )

    def _where(self, span: Span) -> Where:
        return self._unit, span.table, span.address, span.count

    def _batches(self, group: _Group, ears: Ears, now: float, raw: bool) -> list[SampleBatch]:
        width = len(group.plan.group.tags)
        rows: dict[float, Row] = {}
        for span in group.plan.spans:
            heard = ears.image.value(self._where(span))
            if heard is None or now - heard.at > group.patience:
                if now - self._since > group.patience:
                    row = rows.setdefault(now, _row(width, raw))
                    row.fail((span,), self._missing(span, heard, ears, now - group.patience))
            elif raw or heard.at > group.given.get(span.column, 0.0):
                rows.setdefault(heard.at, _row(width, raw)).take(make_block([span]), _cut(heard, span))
                self._said.discard(span.name)
                if not raw:
                    group.given[span.column] = heard.at
        rate = self._clock.rate * SECOND
        return [self._batch(group, rows[at], now - at, int(at * rate)) for at in sorted(rows)]

    def _missing(self, span: Span, heard: Heard | None, ears: Ears, fresh: float) -> Status:
        refusal = ears.image.refusal(self._where(span))
        if refusal is not None and refusal.at >= fresh:
            self._say(span, f"is refused: {Refused(refusal.code)}")
            return Refused(refusal.code).status
        if heard is not None:
            self._say(span, "is not asked for any more, or not answered")
            return NoAnswer.status
        self._say(span, f"is never asked for by the other master: {ears.image.describe(self._unit)} are")
        return bad(Reason.NOT_CONNECTED)

    def _say(self, span: Span, what: str) -> None:
        if span.name not in self._said:
            self._said.add(span.name)
            log.warning("%s: %s %s", self._machine, span, what)

    def _batch(self, group: _Group, row: Row, age: float, heard: int) -> SampleBatch:
        group.derived.apply(row, heard)
        names = group.plan.group.names
        there = [i for i in range(len(names)) if row.values[i] is not None or i in row.statuses]
        group.last = max(self._clock.now() - int(age * self._clock.rate * SECOND), group.last + 1)
        return SampleBatch(
            self._machine,
            tuple(names[i] for i in there),
            group.last,
            [row.values[i] for i in there],
            {at: row.statuses[i] for at, i in enumerate(there) if i in row.statuses},
            [row.raw[i] for i in there] if row.raw is not None else None,
        )


class _Group:
    """What is known of a read group."""

    def __init__(self, plan: GroupPlan, derived: Derivations) -> None:
        self.plan, self.derived = plan, derived
        self.patience = max(SCANS * plan.group.every, LEAST)
        self.given: dict[int, float] = {}
        """Column -> when the value was heard that was passed on last."""
        self.last = 0
        """The last timestamp."""


def _row(width: int, raw: bool) -> Row:
    return Row([None] * width, raw=[""] * width if raw else None)


def _cut(heard: Heard, span: Span) -> bytes:
    """The part of an answer that belongs to a span, as the answer to a question for it alone."""
    first = span.address - heard.address
    if span.table.bits:
        return bytes((heard.payload[first // 8] >> first % 8 & 1,))
    return heard.payload[2 * first : 2 * (first + span.count)]
