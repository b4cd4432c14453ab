"""One condition per machine for "it does not answer", fed by the sampler."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from edge_agent.alarms.states import Condition, Delays
from edge_agent.alarms.texts import lasting, spoken
from edge_agent.types import AlarmKind, AlarmPriority, AlarmState, Alert

ID = "communication"
_NAMED = 3
_USER = re.compile(r"//[^/@]*@")
"""User and password of a URL have no place in a message."""


class Communication:
    """Raised after `scans` failed scans in a row, cleared by the first that succeeds.

    Counted in scans and not in seconds, so that it means the same for a fast and a slow machine, and in the
    demo's fast time. `tags` are the names that are without value meanwhile; they raise no alarm of their own.
    """

    def __init__(
        self,
        machine: str,
        url: str,
        tags: Sequence[str] = (),
        *,
        label: str | None = None,
        scans: int = 3,
        priority: AlarmPriority = AlarmPriority.MEDIUM,
    ) -> None:
        self.machine = machine
        self.url = _USER.sub("//", url)
        self.label = label or machine
        self._tags = tuple(tags)
        self._priority = priority
        self._condition = Condition(Delays(on_rows=scans))
        self._message = ""

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all conditions: one."""
        return frozenset({ID})

    def failed(self, reason: str, ns: int) -> list[Alert]:
        """A scan failed at `ns`, and why; the transition, if this was one too many."""
        if not self._condition.observe(True, ns):
            return []
        since = spoken(self._condition.since or ns)
        self._message = f"{self.label} has not answered since {since}: {reason}{self._without()}"
        return [self._alert()]

    def recovered(self, ns: int) -> list[Alert]:
        """A scan succeeded at `ns`; the transition, if the condition was raised. Cheap where it was not."""
        condition = self._condition
        if condition.quiet or not condition.observe(False, ns):
            return []
        silent = lasting(ns - (condition.since or ns))
        self._message = f"{self.label} answers again since {spoken(ns)}, after {silent} of silence"
        return [self._alert()]

    def acknowledge(self, identity: str) -> list[Alert]:
        """Somebody has seen the condition; its new state, or nothing where that changed nothing."""
        return [self._alert()] if identity == ID and self._condition.acknowledge() else []

    def current(self) -> list[Alert]:
        """The condition's state where it is not simply normal."""
        return [] if self._condition.state is AlarmState.NORMAL else [self._alert()]

    def restore(self, alerts: Iterable[Alert]) -> None:
        """Take over the stored state."""
        for alert in alerts:
            if alert.machine == self.machine and alert.id == ID:
                self._condition.restore(alert)
                self._message = alert.message

    def _without(self) -> str:
        if not self._tags:
            return ""
        named = ", ".join(self._tags[:_NAMED])
        more = f" and {len(self._tags) - _NAMED} more" if len(self._tags) > _NAMED else ""
        return f"; without value: {named}{more}"

    def _alert(self) -> Alert:
        condition = self._condition
        return Alert(
            machine=self.machine,
            id=ID,
            kind=AlarmKind.COMMUNICATION,
            priority=self._priority,
            state=condition.state,
            occurrence=condition.occurrence,
            raised_at=condition.raised_at,
            cleared_at=condition.cleared_at,
            message=self._message,
            action=f"Check power, cable and network of {self.label} ({self.url})",
            since=condition.since,
        )
