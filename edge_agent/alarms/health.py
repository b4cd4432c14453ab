"""From scores to one maintenance alert per machine, and to "check the sensor" where that is what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_agent.alarms.case import Case, CaseRules
from edge_agent.alarms.states import Condition, Delays
from edge_agent.alarms.texts import lasting, spoken
from edge_agent.contracts.settings import HealthSettings
from edge_agent.types import AlarmKind, AlarmPriority, AlarmState, Alert, HealthState, Score

QUALITY = ".quality"
"""What the id of a data-quality condition ends with, after the tag."""

MAX_NOTICES = 100
"""Notices nobody takes are forgotten, the oldest first."""

_HELD = frozenset({HealthState.PAUSED, HealthState.MAINTENANCE})


@dataclass(frozen=True, slots=True)
class Notice:
    """Something worth knowing that is no alert: it asks nobody to do anything now."""

    machine: str
    time: int
    kind: str
    """unknown_regime or provisional."""
    message: str


class _Sensor:
    """The data-quality condition of one tag."""

    def __init__(self, tag: str, delays: Delays) -> None:
        self.tag = tag
        self.condition = Condition(delays)
        self.message = ""
        self.what = ""

    def observe(self, fault: str | None, ns: int) -> bool:
        """One row: what is wrong with the sensor, or None; True where there is a transition to tell."""
        self.what = fault or self.what
        if not self.condition.observe(fault is not None, ns):
            return False
        since = self.condition.since or ns
        if self.condition.raised:
            self.message = (
                f"The sensor {self.tag} looks wrong since {spoken(since)} ({self.what}): "
                "check the sensor, not the machine"
            )
        else:
            lasted = lasting(ns - since)
            self.message = f"The sensor {self.tag} looks right again after {lasted} ({self.what})"
        return True

    def alert(self, machine: str) -> Alert:
        """The condition's full state."""
        condition = self.condition
        return Alert(
            machine=machine,
            id=self.tag + QUALITY,
            kind=AlarmKind.DATA_QUALITY,
            priority=AlarmPriority.LOW,
            state=condition.state,
            occurrence=condition.occurrence,
            raised_at=condition.raised_at,
            cleared_at=condition.cleared_at,
            message=self.message,
            action=f"Check the sensor {self.tag}, its wiring and its supply",
            since=condition.since,
        )


class HealthAlarms:
    """The health case and the sensors of one machine.

    `units` are the tags' engineering units, for the messages. Rows that are not judged (paused, maintenance,
    learning, unknown regime, NaN) neither raise nor clear. Provisional rows raise notices only.
    """

    def __init__(
        self,
        machine: str,
        label: str | None,
        settings: HealthSettings,
        units: Mapping[str, str | None],
        rules: CaseRules | None = None,
    ) -> None:
        rules = rules or CaseRules()
        self.machine = machine
        self._label = label or machine
        self._case = Case(machine, self._label, settings.action, units, rules)
        self._tags = frozenset(units)
        self._sensors: dict[str, _Sensor] = {}
        self._delays = rules.delays
        self._tentative = Condition(rules.delays)
        self._regime = Condition(rules.delays)
        self._rules = rules
        self._notices: list[Notice] = []

    def claims(self, identity: str) -> bool:
        """Whether a stored condition of that id belongs here."""
        tag = identity.removesuffix(QUALITY)
        return identity == Case.ID or (tag != identity and tag in self._tags)

    def observe(self, scores: Iterable[Score]) -> list[Alert]:
        """Judge rows in order of time; the transitions, mostly none."""
        alerts: list[Alert] = []
        for score in scores:
            self._observe_sensors(score, alerts)
            self._observe_notices(score)
            if self._case.observe(score):
                alerts.append(self._case.alert())
        return alerts

    def take_notices(self) -> list[Notice]:
        """The notices since the last call."""
        notices, self._notices = self._notices, []
        return notices

    @property
    def open(self) -> bool:
        """Whether the maintenance alert is open."""
        return self._case.condition.raised

    def acknowledge(self, identity: str) -> list[Alert]:
        """Somebody has seen the condition; its new state, or nothing where that changed nothing."""
        if identity == Case.ID:
            return [self._case.alert()] if self._case.condition.acknowledge() else []
        sensor = self._sensors.get(identity.removesuffix(QUALITY))
        return [sensor.alert(self.machine)] if sensor and sensor.condition.acknowledge() else []

    def current(self) -> list[Alert]:
        """The state of every condition that is not simply normal."""
        found = [self._case.alert(), *(sensor.alert(self.machine) for sensor in self._sensors.values())]
        return [alert for alert in found if alert.state is not AlarmState.NORMAL]

    def restore(self, alerts: Iterable[Alert]) -> None:
        """Take over the stored states of this machine's conditions; others are left alone."""
        for alert in alerts:
            if alert.machine != self.machine or not self.claims(alert.id):
                continue
            if alert.id == Case.ID:
                self._case.restore(alert)
                continue
            sensor = self._sensor(alert.id.removesuffix(QUALITY))
            sensor.condition.restore(alert)
            sensor.message = alert.message

    def _sensor(self, tag: str) -> _Sensor:
        if tag not in self._sensors:
            self._sensors[tag] = _Sensor(tag, self._delays)
        return self._sensors[tag]

    def _observe_sensors(self, score: Score, alerts: list[Alert]) -> None:
        for tag in score.faults:
            self._sensor(tag)
        for tag, sensor in self._sensors.items():
            fault = score.faults.get(tag)
            if fault is None and score.state in _HELD:
                continue  # a machine that stands still says nothing about its sensors
            if sensor.observe(fault, score.time):
                alerts.append(sensor.alert(self.machine))

    def _observe_notices(self, score: Score) -> None:
        rules, ns, state = self._rules, score.time, score.state
        judged = state is HealthState.PROVISIONAL and not math.isnan(score.value)
        above = score.value > rules.on if judged else None
        if self._tentative.observe(above, ns) and self._tentative.raised:
            self._note("provisional", ns, f"{self._label} looks unusual, but is still being learned", score)
        unseen = None if state in _HELD else state is HealthState.UNKNOWN_REGIME
        if self._regime.observe(unseen, ns) and self._regime.raised:
            self._note("unknown_regime", ns, f"{self._label} runs as it has not been seen to run", score)

    def _note(self, kind: str, ns: int, message: str, score: Score) -> None:
        note = f": {score.note}" if score.note else ""
        self._notices.append(Notice(self.machine, ns, kind, f"{message}{note}"))
        del self._notices[:-MAX_NOTICES]
