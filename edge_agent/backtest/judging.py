"""A recorded machine, judged as the agent would have judged it: same detector, same alarms, row by row."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_agent import registry
from edge_agent.alarms.health import HealthAlarms, Notice
from edge_agent.alarms.rows import AnomalousRows
from edge_agent.backtest.recording import Learn, Recording
from edge_agent.backtest.table import BadRecording
from edge_agent.contracts.settings import HealthSettings
from edge_agent.errors import ModelError
from edge_agent.expressions import Expression, parse
from edge_agent.pipeline.features import Row
from edge_agent.pipeline.machine import health_columns
from edge_agent.pipeline.scoring import scores_of
from edge_agent.types import AlarmKind, Alert, HealthState, Score, Tag
from edge_agent.units import format_duration

_NEVER = 1e12
"""Seconds of `learn` after which no detector ends learning by itself: `--learn` says when."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a configuration says of the recorded machine; by default every column is a measurement."""

    name: str | None = None
    label: str | None = None
    health: HealthSettings = field(default_factory=HealthSettings)
    tags: Sequence[Tag] | None = None
    """Its tags; None: none are configured, and each column is a measurement."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a row after the learning part was; `score` is NaN where it was not judged."""

    score: float
    anomalous: bool
    alert: bool
    """Whether a maintenance alert was open."""


@dataclass(slots=True)
class Opening:
    """A maintenance alert from when it opened to when it closed; rows are those of the file."""

    raised: int
    alert: Alert
    """As it last was while it was open."""
    cleared: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A notice, a sensor that looks wrong, or a doubt about the recording; `row` None: about all of it."""

    row: int | None
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would have been done on one file."""

    recording: Recording
    learned_rows: int
    state: str
    """established; provisional where warm-up would have waited longer; learning where nothing was learned."""
    row_us: float
    verdicts: Sequence[Verdict]
    """One for each row after the learning part."""
    openings: Sequence[Opening]
    notices: Sequence[Told]


def backtest(recording: Recording, learn: Learn, machine: Machine | None = None) -> Outcome:
    """Learn on the first part of a recording, and judge the rest row by row, seeing only the past.

    BadRecording where nothing is left to judge after the learning part, or the machine's tags are not in the
    file.
    """
    return _Backtest(recording, machine or Machine()).run(learn)


class _Backtest:
    def __init__(self, recording: Recording, machine: Machine) -> None:
        self._recording = recording
        self._health = machine.health
        self._notices = [Told(None, "recording", note) for note in recording.notes]
        tags = self._tags(machine)
        health = _present(machine.health, {tag.name for tag in tags})
        self._columns = health_columns(health, tuple(tags))
        if not any(not column.context for column in self._columns):
            raise BadRecording(f"{recording.path}: none of the columns is a measurement that is judged")
        self._running_when = self._expression(health)
        self._detector = registry.detector(health.detector)(
            self._columns, health.model_copy(update={"learn": _NEVER})
        )
        name = machine.name or recording.path.name.split(".")[0]
        self._alarms = HealthAlarms(name, machine.label, health, {tag.name: tag.unit for tag in tags})
        self._anomalous = AnomalousRows()
        self._openings: list[Opening] = []

    def run(self, learn: Learn) -> Outcome:
        recording = self._recording
        count = len(recording.times)
        end = learn.end(recording.times)
        if end >= count:
            raise BadRecording(
                f"{recording.path}: the learning part ({learn}) is as long as the file ({count} rows): "
                "nothing is left to judge; say a shorter --learn"
            )
        rows = self._rows()
        for row, score in enumerate(scores_of(self._detector, rows[:end]) if end else []):
            self._observe(row, score)
        state = self._finish_learning(end)
        verdicts, spent = [], []
        for row in range(end, count):
            began = time.thread_time_ns()
            (score,) = scores_of(self._detector, rows[row : row + 1])
            verdicts.append(self._observe(row, score))
            spent.append(time.thread_time_ns() - began)
        row_us = statistics.median(spent) / 1000
        return Outcome(recording, end, state, row_us, verdicts, self._openings, self._notices)

    def _tags(self, machine: Machine) -> list[Tag]:
        names = list(self._recording.values)
        if machine.tags is None:
            return [Tag(name) for name in names]
        known = {tag.name: tag for tag in machine.tags}
        if extra := [name for name in names if name not in known]:
            self._notices.append(
                Told(None, "recording", f"left out, no tags of {machine.name}: {', '.join(extra)}")
            )
        if missing := [name for name in known if name not in self._recording.values]:
            text = f"tags of {machine.name} that are not in the file: {', '.join(missing)}"
            self._notices.append(Told(None, "recording", text))
        return [tag for name, tag in known.items() if name in self._recording.values]

    def _expression(self, health: HealthSettings) -> Expression | None:
        if health.running_when is None:
            return None
        expression = parse(health.running_when)
        if missing := [name for name in sorted(expression.tags) if name not in self._recording.values]:
            raise BadRecording(
                f"{self._recording.path}: running_when ({health.running_when}) needs a column "
                f"{', '.join(missing)}"
            )
        return expression

    def _rows(self) -> list[Row]:
        values = self._recording.values
        table = zip(*(values[column.name].tolist() for column in self._columns), strict=True)
        times = self._recording.times.tolist()
        return [
            Row(time, row, self._running(index))
            for index, (time, row) in enumerate(zip(times, table, strict=True))
        ]

    def _running(self, index: int) -> int:
        if self._running_when is None:
            return -1
        values = self._recording.values
        known = self._running_when.evaluate(
            {tag: float(values[tag][index]) for tag in self._running_when.tags}
        )
        return -1 if known is None else int(known)

    def _finish_learning(self, end: int) -> str:
        """Ends learning; the state, which is what warm-up would have thought of the learning part."""
        try:
            self._detector.finish_learning()
        except ModelError as reason:
            self._notices.append(Told(end, "warm_up", f"nothing could be learned: {reason}"))
            return HealthState.LEARNING.value
        times = self._recording.times
        seconds = float(times[end - 1] - times[0]) / 1e9
        if seconds < self._health.learn:
            doubt = (
                f"the learning part lasts {format_duration(round(seconds))}; "
                f"`learn` asks for {format_duration(self._health.learn)}"
            )
            self._notices.append(Told(end, "warm_up", doubt))
            return HealthState.PROVISIONAL.value
        return "established"

    def _observe(self, row: int, score: Score) -> Verdict:
        for alert in self._alarms.observe([score]):
            self._note(row, alert)
        self._notices += [_told(row, notice) for notice in self._alarms.take_notices()]
        return Verdict(score.value, self._anomalous.observe(score), self._alarms.open)

    def _note(self, row: int, alert: Alert) -> None:
        if alert.kind is not AlarmKind.HEALTH:
            self._notices.append(Told(row, alert.kind.value, alert.message))
            return
        is_open = bool(self._openings) and self._openings[-1].cleared is None
        if alert.active and is_open:
            self._openings[-1].alert = alert  # it has become worse
        elif alert.active:
            self._openings.append(Opening(row, alert))
        elif is_open:
            self._openings[-1].cleared = row


def _present(health: HealthSettings, names: set[str]) -> HealthSettings:
    """The settings without tags that the recording does not have."""
    tags = None if health.tags is None else [name for name in health.tags if name in names]
    return health.model_copy(
        update={"tags": tags, "context": [name for name in health.context if name in names]}
    )


def _told(row: int, notice: Notice) -> Told:
    return Told(row, notice.kind, notice.message)
