"""The alarms a machine's own controller reports: mirrored, never judged or acknowledged by us.

The controller owns the state, so there are no delays, and an acknowledgement is given at its panel: a word to
the controller would be a write.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Iterable
from dataclasses import replace

from edge_agent.types import AlarmKind, AlarmPriority, AlarmState, Alert, ConditionReport, ReportedCondition

log = logging.getLogger(__name__)

PREFIX = "plc."
"""What the ids of these conditions begin with, so that they never meet one of the agent's own."""
SOURCE = "plc"
MOST = 1000
"""Conditions kept of one machine; a controller that invents names must not fill the memory."""
_ACTION = "See the machine's panel; acknowledge it there"
_PRIORITIES = (
    (250, AlarmPriority.LOW),
    (500, AlarmPriority.MEDIUM),
    (750, AlarmPriority.HIGH),
    (1000, AlarmPriority.CRITICAL),
)
"""Highest severity (1 to 1000, OPC UA Part 5, 6.4.2) of each priority."""
_STATES = {
    (True, False): AlarmState.UNACKNOWLEDGED,
    (True, True): AlarmState.ACKNOWLEDGED,
    (False, False): AlarmState.RETURNED_UNACKNOWLEDGED,
    (False, True): AlarmState.NORMAL,
}
"""(active, acknowledged) -> state."""


class PlcAlarms:
    """The reported conditions of one machine."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self._known: dict[str, Alert] = {}
        self._said_full = False

    def claims(self, identity: str) -> bool:
        """Whether the condition of that id is one of these."""
        return identity in self._known

    def observe(self, report: ConditionReport, ns: int) -> list[Alert]:
        """Take a report at `ns`; the transitions it makes."""
        alerts = [alert for one in report.conditions if (alert := self._changed(one))]
        if report.complete:
            reported = {condition_id(one.name) for one in report.conditions}
            over = [alert for identity, alert in self._known.items() if identity not in reported]
            alerts += [self._over(alert, ns) for alert in over if alert.state is not AlarmState.NORMAL]
        return alerts

    def current(self) -> list[Alert]:
        """The state of every condition that is not simply normal."""
        return [alert for alert in self._known.values() if alert.state is not AlarmState.NORMAL]

    def restore(self, alerts: Iterable[Alert]) -> None:
        """Take over the stored states of this machine's reported conditions; others are left alone."""
        for alert in alerts:
            if alert.machine == self.machine and alert.source == SOURCE:
                self._known[alert.id] = alert

    def _changed(self, reported: ReportedCondition) -> Alert | None:
        identity = condition_id(reported.name)
        before = self._known.get(identity)
        alert = self._alert(identity, reported, before)
        if before is None and (alert.state is AlarmState.NORMAL or not self._room(reported.name)):
            return None
        if before is not None and _same(before, alert):
            return None
        self._known[identity] = alert
        return alert

    def _alert(self, identity: str, reported: ReportedCondition, before: Alert | None) -> Alert:
        fresh = reported.active and (before is None or not before.active)
        occurrence = before.occurrence if before is not None else 0
        raised_at = before.raised_at if before is not None and not fresh else reported.time
        return Alert(
            machine=self.machine,
            id=identity,
            kind=AlarmKind.DISCRETE,
            priority=_priority(reported.severity),
            state=_STATES[reported.active, reported.acknowledged],
            occurrence=occurrence + 1 if fresh or not occurrence else occurrence,
            raised_at=raised_at,
            cleared_at=None if reported.active else reported.time,
            message=f"{reported.name}: {reported.message}" if reported.message else reported.name,
            action=_ACTION,
            since=raised_at,
            source=SOURCE,
        )

    def _over(self, alert: Alert, ns: int) -> Alert:
        cleared = ns if alert.cleared_at is None else alert.cleared_at
        gone = self._known[alert.id] = replace(alert, state=AlarmState.NORMAL, cleared_at=cleared)
        return gone

    def _room(self, name: str) -> bool:
        if len(self._known) >= MOST:
            for identity in [i for i, alert in self._known.items() if alert.state is AlarmState.NORMAL]:
                del self._known[identity]
        if len(self._known) < MOST:
            return True
        if not self._said_full:
            log.warning(
                "%s: more than %d alarms of the controller; '%s' is left out", self.machine, MOST, name
            )
            self._said_full = True
        return False


def condition_id(name: str) -> str:
    """The id of a reported condition: safe as a level of a topic, and another one for every name."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:150]
    return f"{PREFIX}{safe}" if safe == name else f"{PREFIX}{safe}-{zlib.crc32(name.encode()):08x}"


def _priority(severity: int) -> AlarmPriority:
    return next((priority for most, priority in _PRIORITIES if severity <= most), AlarmPriority.CRITICAL)


def _same(before: Alert, after: Alert) -> bool:
    """Whether nothing changed that anybody would want to hear of."""
    return (before.state, before.priority, before.message) == (after.state, after.priority, after.message)
