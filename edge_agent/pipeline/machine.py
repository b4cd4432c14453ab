"""One machine put together: driver -> sampler -> fan-out -> (journal | alarms | rows -> scoring)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent import registry
from edge_agent.alarms.communication import Communication
from edge_agent.alarms.health import HealthAlarms
from edge_agent.alarms.limits import LimitAlarms
from edge_agent.alarms.plc import PlcAlarms
from edge_agent.clock import Clock
from edge_agent.contracts.plugs import Column, Driver
from edge_agent.contracts.settings import HealthSettings, MachineSettings
from edge_agent.expressions import parse
from edge_agent.pipeline.alerts import AlertPublisher, Record
from edge_agent.pipeline.clockgate import ClockGate, ClockTrust
from edge_agent.pipeline.fanout import Fanout
from edge_agent.pipeline.features import FeatureRows
from edge_agent.pipeline.observer import Observer
from edge_agent.pipeline.outlets import Board, Journalling, Place
from edge_agent.pipeline.readout import Readout, missing, tabulate
from edge_agent.pipeline.sampler import Sampler
from edge_agent.pipeline.scoring import Scoring
from edge_agent.pipeline.tagtopics import TagTopics
from edge_agent.types import Alert, ConditionReport, Kind, Store, Tag


@dataclass(frozen=True, slots=True)
class Shared:
    """What all machines of an agent share."""

    clock: Clock
    journal: Journalling
    board: Board
    record: Record
    worker: Executor
    models: Path
    observer: Observer
    tag_topics: bool
    trust: ClockTrust
    hold: bool
    """Whether readings wait until the clock is set."""


class MachineLine:
    """One machine's whole line; `run` until cancelled."""

    def __init__(self, name: str, settings: MachineSettings, place: Place, shared: Shared) -> None:
        self.name = name
        self.settings = settings
        self._points = settings.points
        self.place = place
        self.driver: Driver = registry.driver(settings.driver)(
            name, settings, shared.clock, shared.models.parent
        )
        self.tags: tuple[Tag, ...] = tuple(tag for group in self.driver.groups for tag in group.tags)
        self._clock = shared.clock
        self._board = shared.board
        observer = shared.observer
        self.alerts = AlertPublisher(place, shared.journal, shared.board, shared.record, observer.alert)
        self.limits = LimitAlarms(name, settings.points)
        self.communication = Communication(
            name, settings.url, [tag.name for tag in self.tags], label=settings.label
        )
        self.plc_alarms = PlcAlarms(name)
        self.health_alarms: HealthAlarms | None = None
        self.scoring = self._scoring(shared)
        self.fanout = self._fanout(shared)
        self.sampler = Sampler(
            name,
            self.driver,
            ClockGate(
                shared.trust,
                shared.clock,
                self.fanout,
                hold=shared.hold,
                on_drop=lambda count: observer.dropped("clock_unset", count),
            ),
            shared.clock,
            on_failure=self._failed,
            on_recovery=self._recovered,
            on_scan=lambda seconds: observer.scan(name, seconds),
            on_conditions=self._reported,
        )

    async def run(self) -> None:
        """Sample and score until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.sampler.run(), name=f"sampler:{self.name}")
            if self.scoring is not None:
                group.create_task(self.scoring.run(), name=f"scoring:{self.name}")

    def restore(self, stored: list[Alert]) -> None:
        """Take over the alarm states from before the restart, and show them again."""
        self.limits.restore(stored)
        self.communication.restore(stored)
        self.plc_alarms.restore(stored)
        if self.health_alarms is not None:
            self.health_alarms.restore(stored)
        for source in (self.limits, self.communication, self.plc_alarms, self.health_alarms):
            for alert in source.current() if source is not None else ():
                self.alerts.show(alert)

    def claims(self, identity: str) -> bool:
        """Whether the machine still has a condition of that id."""
        known = identity in self.limits.ids or identity in self.communication.ids
        known = known or self.plc_alarms.claims(identity)
        return known or (self.health_alarms is not None and self.health_alarms.claims(identity))

    async def read_once(self) -> Readout:
        """One extra scan through the running connection."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        batches = await self.sampler.read_once()
        return tabulate(batches, self.tags, (loop.time() - started) * 1000)

    async def ask(self, question: Mapping[str, Any]) -> Any:
        """A question to the device through the running connection, between two scans."""
        return await self.sampler.ask(question)

    def unread(self) -> Readout:
        """Every tag as not connected."""
        return missing(self.tags)

    def meta(self, configuration_hash: str) -> Mapping[str, Any]:
        """The retained description of the machine (INTERFACE.md, `meta`)."""
        return {
            "machine": self.name,
            "label": self.settings.label,
            "location": self.settings.location,
            "asset_id": self.settings.asset_id,
            "description": self.settings.description,
            "criticality": self.settings.criticality,
            "profile": getattr(self.settings, "profile", None),  # only some drivers know profiles
            "configuration": configuration_hash,
            "tags": {tag.name: self._tag_meta(tag) for tag in self.tags},
        }

    def _tag_meta(self, tag: Tag) -> Mapping[str, Any]:
        settings = self._points.get(tag.name)
        limits = {}
        if settings is not None and settings.limits is not None:
            found = {name: getattr(settings.limits, name) for name in settings.limits.NAMES}
            limits = {name: limit.value for name, limit in found.items() if limit is not None}
        return {
            "type": tag.type,
            "kind": tag.kind.value,
            "unit": tag.unit,
            "range": tag.range,
            "label": tag.label,
            "limits": limits,
            "enum": dict(tag.names) or None,
        }

    def _failed(self, reason: str) -> None:
        now = self._clock.now()
        self.limits.hold(now)
        self.alerts.publish(self.communication.failed(reason, now), now)

    def _recovered(self) -> None:
        now = self._clock.now()
        self.alerts.publish(self.communication.recovered(now), now)

    def _reported(self, report: ConditionReport) -> None:
        now = self._clock.now()
        self.alerts.publish(self.plc_alarms.observe(report, now), now)

    def _scoring(self, shared: Shared) -> Scoring | None:
        health = self.settings.health
        if not isinstance(health, HealthSettings):
            return None
        columns = health_columns(health, self.tags)
        if not any(not column.context for column in columns):
            return None
        units = {tag.name: tag.unit for tag in self.tags}
        self.health_alarms = HealthAlarms(self.name, self.settings.label, health, units)
        return Scoring(
            self.place,
            registry.detector(health.detector)(columns, health),
            self.health_alarms,
            self.alerts,
            shared.journal,
            shared.board,
            shared.models,
            shared.worker,
            on_score=lambda score: shared.observer.score(self.name, score),
            on_drop=lambda: shared.observer.dropped("health_queue_full"),
        )

    def _fanout(self, shared: Shared) -> Fanout:
        health = self.settings.health
        rows = running_when = None
        if self.scoring is not None and isinstance(health, HealthSettings):
            rows = self._rows(health_columns(health, self.tags))
            running_when = parse(health.running_when) if health.running_when else None
        return Fanout(
            self.place,
            self.tags,
            self.settings.measurement,
            shared.journal,
            limits=self.limits,
            alerts=self.alerts,
            topics=TagTopics(self.place, self.tags, shared.board) if shared.tag_topics else None,
            rows=rows,
            running_when=running_when,
            on_row=self.scoring.take if self.scoring is not None else lambda _row: None,
            on_batch=shared.observer.batch,
            on_committed=shared.observer.committed,
        )

    def _rows(self, columns: tuple[Column, ...]) -> FeatureRows:
        """Rows at the pace of the fastest judged group; a value holds for three scans of its own group."""
        wanted = {column.name for column in columns}
        groups = [group for group in self.driver.groups if wanted.intersection(group.names)]
        fastest = min(group.every for group in groups)
        slowest = max(group.every for group in groups)
        silent = [tag for group in groups if group.by_exception for tag in group.tags]
        held = max((tag.max_interval for tag in silent), default=0.0)
        rate = self._clock.rate
        return FeatureRows(columns, fastest * rate, 3 * slowest * rate + held)


def health_columns(health: HealthSettings, tags: tuple[Tag, ...]) -> tuple[Column, ...]:
    """The columns of a machine's health rows: what is judged, then what explains it.

    Without `tags:` every measurement is judged; setpoints and `context:` explain and are not judged.
    """
    numeric = {tag.name: tag for tag in tags if tag.store is not Store.STRING}
    context = [name for name in health.context if name in numeric]
    judged = health.tags
    if judged is None:
        judged = [
            name for name, tag in numeric.items() if tag.kind is Kind.MEASUREMENT and name not in context
        ]
        context += [
            name for name, tag in numeric.items() if tag.kind is Kind.SETPOINT and name not in context
        ]
    return tuple(
        Column(name, numeric[name].kind, name in context, numeric[name].unit, numeric[name].range)
        for name in [*judged, *(name for name in context if name not in judged)]
    )
