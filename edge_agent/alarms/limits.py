"""Limit and discrete alarms of one machine: a scan goes in, transitions come out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from edge_agent.alarms.plc import PREFIX as PLC_PREFIX
from edge_agent.alarms.watched import Watched, WatchedLimit, WatchedState
from edge_agent.contracts.settings import LimitsSettings, TagSettings
from edge_agent.errors import ConfigError
from edge_agent.expressions import Expression, parse
from edge_agent.types import AlarmState, Alert, SampleBatch, Value

RESERVED = frozenset({"communication", "health"})
"""Ids of conditions every machine has."""

MAX_PLANS = 256
"""Subscriptions bring ever other combinations of tags: so many are remembered."""


class _Point:
    """Conditions on one tag with one `active_when`, and the values that are sure to change none of them."""

    __slots__ = ("active_when", "calm", "high", "low", "watched")

    def __init__(self, watched: Sequence[Watched]) -> None:
        self.watched = watched
        self.active_when = watched[0].active_when
        self.low = max(one.safe[0] for one in watched)
        self.high = min(one.safe[1] for one in watched)
        self.calm = False
        """Nothing is raised or on its way: a value between `low` and `high` need not be judged."""

    def judge(self, value: Value | None, ns: int, allowed: bool | None) -> list[Watched]:
        """The conditions that have changed."""
        changed = [one for one in self.watched if one.observe(value, ns, allowed)]
        self.calm = all(one.condition.quiet for one in self.watched)
        return changed


class _Plan(NamedTuple):
    """How the scans of one combination of tags are judged."""

    points: list[tuple[int, _Point, int]]
    """Column, point, and which of the permits is its: 0 for always."""
    expressions: list[Expression]
    """What the permits from 1 on are the values of."""
    wanted: list[tuple[int, str]]
    """Column and name of the tags that expressions refer to."""


class LimitAlarms:
    """The limit and discrete alarms of one machine.

    Scans of different read groups may come in any order;
    `active_when` sees the latest value of every tag. ConfigError where two conditions would share an id.
    """

    def __init__(self, machine: str, tags: Mapping[str, TagSettings]) -> None:
        self.machine = machine
        self._parsed: dict[str, Expression] = {}
        self._points = {name: found for name, tag in tags.items() if (found := self._pointed(name, tag))}
        self._conditions = self._indexed()
        self._wanted = frozenset().union(*(expression.tags for expression in self._parsed.values()))
        self._latest: dict[str, Value | None] = {}
        self._plans: dict[tuple[str, ...], _Plan] = {}

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all conditions."""
        return frozenset(self._conditions)

    def observe(self, batch: SampleBatch) -> list[Alert]:
        """Judge one scan; the transitions, mostly none. Bad and missing values change nothing."""
        plan = self._plans.get(batch.names) or self._plan(batch.names)
        values, ns, latest = batch.values, batch.timestamp, self._latest
        for column, name in plan.wanted:
            latest[name] = values[column]
        permits = [True, *(expression.evaluate(latest) for expression in plan.expressions)]
        alerts: list[Alert] = []
        for column, point, permit in plan.points:
            value, allowed = values[column], permits[permit]
            if (
                point.calm
                and allowed is True
                and isinstance(value, float | int)
                and point.low <= value <= point.high
            ):
                continue
            alerts += [one.alert(self.machine) for one in point.judge(value, ns, allowed)]
        return alerts

    def hold(self, ns: int) -> None:
        """The machine does not answer: nothing is known from `ns` on, so delays stand still."""
        self._latest.clear()
        for watched in self._conditions.values():
            watched.condition.observe(None, ns, None)

    def acknowledge(self, identity: str) -> list[Alert]:
        """Somebody has seen the condition; its new state, or nothing where that changed nothing."""
        watched = self._conditions.get(identity)
        return [watched.alert(self.machine)] if watched and watched.condition.acknowledge() else []

    def current(self) -> list[Alert]:
        """The state of every condition that is not simply normal."""
        conditions = self._conditions.values()
        return [one.alert(self.machine) for one in conditions if one.condition.state is not AlarmState.NORMAL]

    def restore(self, alerts: Iterable[Alert]) -> None:
        """Take over the stored states of this machine's conditions; others are left alone."""
        for alert in alerts:
            if alert.machine == self.machine and alert.id in self._conditions:
                self._conditions[alert.id].restore(alert)
        for point in (point for points in self._points.values() for point in points):
            point.calm = False

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        expressions = list(self._parsed.values())
        points = [
            (column, point, expressions.index(point.active_when) + 1 if point.active_when else 0)
            for column, name in enumerate(names)
            for point in self._points.get(name, ())
        ]
        wanted = [(column, name) for column, name in enumerate(names) if name in self._wanted]
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        plan = self._plans[names] = _Plan(points, expressions if points else [], wanted)
        return plan

    def _pointed(self, name: str, tag: TagSettings) -> list[_Point]:
        what = tag.label or name
        found: list[_Point] = []
        if (limits := tag.limits) is not None:
            active_when = self._expression(limits.active_when)
            watched = [
                WatchedLimit(name, which, limit, limits, what, tag.unit, active_when)
                for which in LimitsSettings.NAMES
                if (limit := getattr(limits, which)) is not None
            ]
            found += [_Point(watched)] if watched else []
        if tag.alarm is not None:
            active_when = self._expression(tag.alarm.active_when)
            found.append(_Point([WatchedState(name, tag.alarm, what, active_when)]))
        return found

    def _expression(self, text: str | None) -> Expression | None:
        if text is None:
            return None
        if text not in self._parsed:
            self._parsed[text] = parse(text)
        return self._parsed[text]

    def _indexed(self) -> dict[str, Watched]:
        index: dict[str, Watched] = {}
        points = [point for points in self._points.values() for point in points]
        for watched in (one for point in points for one in point.watched):
            taken = watched.id in index or watched.id in RESERVED
            if taken or watched.id.endswith(".quality") or watched.id.startswith(PLC_PREFIX):
                raise ConfigError(
                    [f"{self.machine}: two alarms would be called {watched.id}: rename the tag"]
                )
            index[watched.id] = watched
        return index
