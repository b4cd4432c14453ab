"""The server's own alarms and conditions (OPC UA Part 9): subscribed, refreshed, told as reports.

Every event of a condition brings its whole state. ConditionRefresh makes the server send those that are not
normal once more; it changes nothing on the server.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from edge_agent.clock import Clock
from edge_agent.types import ConditionReport, ReportedCondition
from edge_agent_drivers.opcua.events import (
    REFRESH_ENDS,
    REFRESH_NEEDED,
    REFRESH_STARTS,
    SELECTED,
    conditions_filter,
    refresh,
    server_object,
)
from edge_agent_drivers.opcua.requests import Granted, Wanted
from edge_agent_drivers.opcua.session import NodeId, Session
from edge_agent_drivers.opcua.variants import printable, to_ns

log = logging.getLogger(__name__)

_QUEUE = 1000
_MOST = 10_000
"""Changes kept until they are taken; more than that means nobody takes them."""


class Conditions:
    """The conditions of one machine's server, over one session after the other."""

    def __init__(self, machine: str, handle: int, clock: Clock) -> None:
        self._machine, self._clock = machine, clock
        self.handle = handle
        """What its events carry."""
        self._granted: Granted | None = None
        self._names: dict[str, str] = {}
        self._changed: dict[str, ReportedCondition] = {}
        self._refreshing: dict[str, ReportedCondition] | None = None
        self._complete: dict[str, ReportedCondition] | None = None
        self._stale = False
        self._said = ""

    async def begin(self, session: Session) -> None:
        """Subscribe and have all sent that is not normal. DeviceUnreachable where the server is gone."""
        self._granted, self._refreshing, self._complete = None, None, None
        self._changed.clear()
        code = 0
        for filtered in (True, False):
            wanted = Wanted(
                self.handle, server_object(), 0.0, queue=_QUEUE, events=conditions_filter(filtered)
            )
            [granted] = await session.monitor([wanted])
            code = granted.code
            if not granted.refused:
                self._granted = granted
                await self._refresh(session)
                return
        self._say(f"the server reports no conditions (0x{code:08X})")

    async def keep_up(self, session: Session) -> None:
        """Ask for all of them again where one may have been missed. DeviceUnreachable as `begin`."""
        if self._stale and self._granted is not None:
            await self._refresh(session)

    async def _refresh(self, session: Session) -> None:
        self._stale = False
        if self._granted is not None and (code := await refresh(session, self._granted.subscription)):
            self._say(f"the server does not tell which conditions stand (0x{code:08X}); changes are told")

    def missed(self) -> None:
        """An event may be lost: all of them are to be asked for."""
        self._stale = True

    def happened(self, fields: Sequence[Any]) -> None:
        """An event came, with the values that `conditions_filter` selects."""
        if len(fields) != SELECTED:
            return
        kind, condition = fields[0], fields[1]
        if kind == REFRESH_STARTS:
            self._refreshing = {}
        elif kind == REFRESH_ENDS:
            # A report of what stands, and what changed since belongs to it.
            self._complete, self._refreshing = self._refreshing, None
            self._changed.clear()
        elif kind == REFRESH_NEEDED:
            self._stale = True
        elif isinstance(condition, NodeId) and _is_null(fields[2]):
            self._take(self._condition(condition, fields))

    def _take(self, one: ReportedCondition) -> None:
        for known in (self._refreshing, self._complete):
            if known is not None:
                known[one.name] = one
        if len(self._changed) < _MOST:
            self._changed[one.name] = one

    def _condition(self, identity: Any, fields: Sequence[Any]) -> ReportedCondition:
        source, name, message, severity, time, active, acknowledged, retain, enabled = fields[3:]
        # Only conditions that are no alarms have no ActiveState; a disabled one tells what it was before.
        standing = enabled is not False and bool(retain if active is None else active)
        return ReportedCondition(
            self._name(identity.to_string(), source, name),
            standing,
            enabled is False or acknowledged is None or bool(acknowledged),
            min(max(int(severity), 1), 1000) if isinstance(severity, int) else 1,
            printable(str(getattr(message, "Text", None) or "")),
            (to_ns(time) if isinstance(time, datetime) else None) or self._clock.now(),
        )

    def _name(self, identity: str, source: Any, name: Any) -> str:
        """SourceName.ConditionName, the same at every report; with the node id where two share it."""
        # Servers (node-opcua) put the namespace index before the name, which may be another tomorrow.
        parts = [re.sub(r"^\d+:", "", printable(str(part))) for part in (source, name) if part]
        wanted = ".".join(parts) or identity
        owner = self._names.setdefault(wanted, identity) if len(self._names) < _MOST else identity
        return wanted if owner == identity else f"{wanted} {identity}"

    def report(self) -> ConditionReport | None:
        """What became of the conditions since the last call; None where nothing did."""
        if self._complete is not None:
            standing = [one for one in self._complete.values() if one.active or not one.acknowledged]
            self._complete = None
            self._changed.clear()
            return ConditionReport(standing, complete=True)
        if self._refreshing is not None or not self._changed:
            return None
        changed = list(self._changed.values())
        self._changed.clear()
        return ConditionReport(changed)

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            log.warning("%s: %s", self._machine, what)


def _is_null(branch: Any) -> bool:
    """An event of the condition itself: branches are its earlier states, waiting to be acknowledged."""
    return not isinstance(branch, NodeId) or bool(branch.is_null())
