"""What is watched on one tag: a limit or a state, judged value by value, with its words."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from edge_agent.alarms.states import Condition, Delays
from edge_agent.alarms.texts import lasting, measured, spoken
from edge_agent.contracts.settings import DiscreteAlarmSettings, LimitSettings, LimitsSettings
from edge_agent.expressions import Expression
from edge_agent.types import AlarmKind, AlarmPriority, AlarmState, Alert, Value


class Watched(ABC):
    """One condition on one tag: judges a value, and says in words what has changed."""

    kind: AlarmKind
    safe: tuple[float, float]
    """Values from the first to the second do not meet the condition while it is not raised."""

    def __init__(
        self,
        identity: str,
        what: str,
        priority: AlarmPriority,
        action: str,
        delays: Delays,
        active_when: Expression | None,
    ) -> None:
        self.id = identity
        self.what = what
        self.priority = priority
        self.action = action
        self.active_when = active_when
        self.condition = Condition(delays)
        self.message = ""
        self.value: float | None = None
        self._trouble = ""

    @abstractmethod
    def holds(self, value: float) -> bool:
        """Whether a known value meets the condition."""

    @abstractmethod
    def raised_text(self, value: float) -> str:
        """What is wrong, without the time."""

    def observe(self, value: Value | None, ns: int, allowed: bool | None) -> bool:
        """One value, or None where it is not known; True where there is a transition to tell."""
        known = None if value is None or isinstance(value, str) or value != value else float(value)
        holds = None if known is None else self.holds(known)
        changed = self.condition.observe(holds, ns, allowed)
        if changed:
            self.value = known
            self.message = self._text(known, ns, allowed)
        return changed

    def _text(self, value: float | None, ns: int, allowed: bool | None) -> str:
        condition = self.condition
        since = spoken(condition.since) if condition.since is not None else ""
        if allowed is False:
            unwatched = f"not watched while {self.active_when} is false, since {spoken(ns)}"
            if condition.state is AlarmState.RETURNED_UNACKNOWLEDGED:
                return f"{self._trouble}; {unwatched}"
            return f"{self.what} is {unwatched}"
        if condition.raised and value is not None:
            self._trouble = f"{self.raised_text(value)}, since {since}"
            return self._trouble
        if condition.cleared_at == ns and value is not None:
            return f"{self.returned_text(value)} after {lasting(ns - condition.raised_at)}; it began {since}"
        return f"{self.what} is watched again since {spoken(ns)}"

    @abstractmethod
    def returned_text(self, value: float) -> str:
        """That it is over, without the times."""

    def alert(self, machine: str) -> Alert:
        """The condition's full state."""
        condition = self.condition
        return Alert(
            machine=machine,
            id=self.id,
            kind=self.kind,
            priority=self.priority,
            state=condition.state,
            occurrence=condition.occurrence,
            raised_at=condition.raised_at,
            cleared_at=condition.cleared_at,
            message=self.message,
            action=self.action,
            value=self.value,
            since=condition.since,
        )

    def restore(self, alert: Alert) -> None:
        """Go on from a stored state."""
        self.condition.restore(alert)
        self.message = self._trouble = alert.message
        self.value = alert.value


class WatchedLimit(Watched):
    """A value beyond a limit; once raised it must come back by the hysteresis."""

    kind = AlarmKind.LIMIT

    def __init__(
        self,
        tag: str,
        name: str,
        settings: LimitSettings,
        shared: LimitsSettings,
        label: str,
        unit: str | None,
        active_when: Expression | None,
    ) -> None:
        on = shared.on_delay if settings.on_delay is None else settings.on_delay
        off = shared.off_delay if settings.off_delay is None else settings.off_delay
        delays = Delays.seconds(on, off)
        super().__init__(f"{tag}.{name}", label, settings.priority, settings.action, delays, active_when)
        hysteresis = shared.hysteresis if settings.hysteresis is None else settings.hysteresis
        self.limit = settings.value
        self.unit = unit
        self.name = name.replace("_", "-")
        self.above = name.startswith("high")
        self.safe = (-math.inf, self.limit) if self.above else (self.limit, math.inf)
        self._back = self.limit - hysteresis if self.above else self.limit + hysteresis

    def holds(self, value: float) -> bool:
        """Beyond the limit; beyond limit and hysteresis once it is raised."""
        edge = self._back if self.condition.raised else self.limit
        return value > edge if self.above else value < edge

    def raised_text(self, value: float) -> str:
        """`bearing_vibration is 4.71 mm/s, above its high-high limit of 4.5 mm/s`."""
        side = "above" if self.above else "below"
        limit = measured(self.limit, self.unit)
        return f"{self.what} is {measured(value, self.unit)}, {side} its {self.name} limit of {limit}"

    def returned_text(self, value: float) -> str:
        """`bearing_vibration is back at 3.9 mm/s (high limit 4.5 mm/s)`."""
        limit = measured(self.limit, self.unit)
        return f"{self.what} is back at {measured(value, self.unit)} ({self.name} limit {limit})"


class WatchedState(Watched):
    """A tag that has the value that means trouble."""

    kind = AlarmKind.DISCRETE

    def __init__(
        self, tag: str, settings: DiscreteAlarmSettings, label: str, active_when: Expression | None
    ) -> None:
        delays = Delays.seconds(settings.on_delay, settings.off_delay)
        super().__init__(
            tag, settings.message or label, settings.priority, settings.action, delays, active_when
        )
        self.when = float(settings.when)
        self.truth = isinstance(settings.when, bool)
        self.safe = (0.0, 0.0) if settings.when is True else (math.inf, -math.inf)

    def holds(self, value: float) -> bool:
        """Whether the tag has the value."""
        # `when: true` means "not zero", as in expressions: coils, bits and words alike.
        return (value != 0) == bool(self.when) if self.truth else value == self.when

    def raised_text(self, value: float) -> str:
        """What the configuration calls it."""
        return self.what if self.truth else f"{self.what} ({measured(value, None)})"

    def returned_text(self, value: float) -> str:
        """That it is over."""
        return f"{self.what}: over"
