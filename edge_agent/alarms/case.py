"""The one open health case of a machine: when it opens, how grave it is, what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.alarms.states import Condition, Delays, Persistence
from edge_agent.alarms.texts import joined, lasting, measured, number, spoken
from edge_agent.clock import SECOND
from edge_agent.types import AlarmKind, AlarmPriority, Alert, Band, HealthState, Score

_TOP = 3
_JUDGED = frozenset({HealthState.NORMAL, HealthState.ANOMALOUS})


@dataclass(frozen=True, slots=True)
class CaseRules:
    """When a case opens, closes and worsens; scores are ratios to the limit, times in seconds."""

    on: float = 1.0
    """Above it a row is evidence for the case."""
    off: float = 0.6
    """Below it a row is evidence against; between the two it is neither."""
    rows: int = 3
    seconds: float = 30.0
    """Evidence must last both so many rows and so long, to open, to close and to worsen."""
    grave: float = 2.0
    """From here on the severity is high."""
    merge: float = 6 * 3600.0
    """What comes back within it is the same occurrence."""
    latch: float = 7200.0
    """So long without a row above `on` counts as evidence against, even if it never falls below `off`."""

    @property
    def delays(self) -> Delays:
        """The persistence and the merging, for a Condition."""
        return Delays.seconds(self.seconds, self.seconds, self.rows, self.rows, self.merge)


class Case:
    """The condition `health` of one machine, with the evidence of its strongest row."""

    ID = "health"

    def __init__(
        self, machine: str, label: str, action: str, units: Mapping[str, str | None], rules: CaseRules
    ) -> None:
        self.machine = machine
        self.label = label
        self.condition = Condition(rules.delays)
        self.priority = AlarmPriority.MEDIUM
        self.message = ""
        self._action = action
        self._units = units
        self._rules = rules
        self._lull = Persistence()
        self._grave = Persistence()
        self._strongest: Score | None = None
        self._candidate: Score | None = None

    def observe(self, score: Score) -> bool:
        """One row; True where there is a transition to tell."""
        ns, condition = score.time, self.condition
        if score.state not in _JUDGED or math.isnan(score.value):
            self._pause(ns)
            return False
        if score.value > self._rules.on:
            self._remember(score)
        occurrence = condition.occurrence
        changed = condition.observe(self._holds(score.value, ns), ns)
        if changed and condition.raised:
            self._open(new=condition.occurrence != occurrence)
        worse = self._worsened(score.value, ns)
        if changed or worse:
            self.message = self._opened_text() if condition.raised else self._closed_text(ns)
        return changed or worse

    def alert(self) -> Alert:
        """The condition's full state."""
        condition, evidence = self.condition, self._strongest
        return Alert(
            machine=self.machine,
            id=self.ID,
            kind=AlarmKind.HEALTH,
            priority=self.priority,
            state=condition.state,
            occurrence=condition.occurrence,
            raised_at=condition.raised_at,
            cleared_at=condition.cleared_at,
            message=self.message,
            action=self._what_to_do(),
            value=evidence.value if evidence else None,
            contributions=evidence.contributions if evidence else {},
            bands=evidence.bands if evidence else {},
            since=condition.since,
            first_mover=evidence.first_mover if evidence else None,
            maintenance=True,
        )

    def restore(self, alert: Alert) -> None:
        """Go on from a stored state, its evidence included."""
        self.condition.restore(alert)
        self.priority, self.message = alert.priority, alert.message
        if alert.occurrence:
            self._strongest = Score(
                time=alert.raised_at,
                value=math.nan if alert.value is None else alert.value,
                state=HealthState.ANOMALOUS,
                contributions=alert.contributions,
                bands=alert.bands,
                first_mover=alert.first_mover,
            )

    def _pause(self, ns: int) -> None:
        self.condition.observe(None, ns)
        self._lull.pause(ns)
        self._grave.pause(ns)

    def _holds(self, value: float, ns: int) -> bool | None:
        rules = self._rules
        if value > rules.on:
            self._lull.reset()
            return True
        self._lull.add(ns)
        if value < rules.off:
            return False
        patience = rules.latch if self.condition.raised else rules.seconds
        return False if self._lull.met(ns, rules.rows, round(patience * SECOND)) else None

    def _remember(self, score: Score) -> None:
        if self.condition.raised:
            self._strongest = _stronger(self._strongest, score)
        else:
            self._candidate = _stronger(self._candidate if self.condition.pending else None, score)

    def _open(self, *, new: bool) -> None:
        if new:
            self._strongest, self.priority = self._candidate, AlarmPriority.MEDIUM
        elif self._candidate is not None:
            self._strongest = _stronger(self._strongest, self._candidate)

    def _worsened(self, value: float, ns: int) -> bool:
        rules = self._rules
        if value < rules.grave:
            self._grave.reset()
            return False
        self._grave.add(ns)
        lasting_enough = self._grave.met(ns, rules.rows, round(rules.seconds * SECOND))
        if not (self.condition.raised and lasting_enough) or self.priority is AlarmPriority.HIGH:
            return False
        self.priority = AlarmPriority.HIGH
        self.condition.worsen()
        return True

    def _opened_text(self) -> str:
        since = spoken(self.condition.since or self.condition.raised_at)
        text = f"{self.label} has not been normal since {since}"
        evidence = self._strongest
        if evidence is None:
            return f"{text}. {self._what_to_do()}"
        if tags := _ranked(evidence.contributions)[:_TOP]:
            text += ": " + "; ".join(self._moved(tag, evidence) for tag in tags)
        if evidence.first_mover:
            text += f". Moved first: {evidence.first_mover}"
        return f"{text}. {_how_sure(evidence.value)}. {self._what_to_do()}"

    def _closed_text(self, ns: int) -> str:
        lasted = lasting(ns - self.condition.raised_at)
        text = f"{self.label} is back within what was learned as normal, after {lasted}"
        tags = _ranked(self._strongest.contributions)[:_TOP] if self._strongest else []
        return f"{text}; it was about {joined(tags)}" if tags else text

    def _moved(self, tag: str, evidence: Score) -> str:
        share = f"({evidence.contributions[tag]:.0%} of the evidence)"
        band, unit = evidence.bands.get(tag), self._units.get(tag)
        if band is None:
            return f"{tag} {share}"
        return f"{tag} {measured(band.value, unit)}, {_distance(band, unit)} {share}"

    def _what_to_do(self) -> str:
        if self._action:
            return self._action
        tags = _ranked(self._strongest.contributions)[:_TOP] if self._strongest else []
        what = f", first what {joined(tags)} stand{'s' if len(tags) == 1 else ''} for" if tags else ""
        return f"Plan an inspection of {self.label}{what}"


def _stronger(known: Score | None, score: Score) -> Score:
    """The row with the higher score; a row that explains itself before one that doesn't."""
    if known is None or math.isnan(known.value):
        return score
    if bool(known.contributions) != bool(score.contributions):
        return known if known.contributions else score
    return score if score.value > known.value else known


def _ranked(contributions: Mapping[str, float]) -> list[str]:
    return sorted(contributions, key=lambda tag: -contributions[tag])


def _distance(band: Band, unit: str | None) -> str:
    normal = f"normal {number(band.low)} to {measured(band.high, unit)}"
    if band.value > band.high:
        return f"{measured(band.value - band.high, unit)} above its {normal}"
    if band.value < band.low:
        return f"{measured(band.low - band.value, unit)} below its {normal}"
    return f"within its {normal}, but not as the other tags say"


def _how_sure(ratio: float) -> str:
    if ratio < 1.5:
        word = "fairly sure"
    elif ratio < 3:
        word = "sure"
    else:
        word = "very sure"
    return f"Confidence: {word}, {number(ratio)} times the limit at the most"
