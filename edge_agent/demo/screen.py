"""The demo's terminal: machines with values and sparklines, health, alerts, and where the readings are."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge_agent.clock import SECOND, Clock, iso
from edge_agent.contracts.settings import MachineSettings
from edge_agent.pipeline.observer import Observer
from edge_agent.types import AlarmKind, AlarmState, Alert, HealthState, Kind, Quality, SampleBatch, Score, Tag

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 16
SPARK_EVERY = 12 * 3600 * SECOND
"""One spark is the mean of half a simulated day, so that the screen shows the last week."""
MOST_TAGS = 12
FEWEST_SPARKS = 6
_FRAME, _VALUE, _UNIT = 4, 6, 5
"""Columns that a machine's border takes, and a value and its unit at the least."""

STYLES: Mapping[HealthState, tuple[str, str]] = {
    HealthState.LEARNING: ("learning what is normal", "cyan"),
    HealthState.PROVISIONAL: ("provisional", "cyan"),
    HealthState.NORMAL: ("normal", "green"),
    HealthState.ANOMALOUS: ("outside normal", "bold red"),
    HealthState.UNKNOWN_REGIME: ("in a regime not seen before", "yellow"),
    HealthState.PAUSED: ("stopped", "dim"),
    HealthState.MAINTENANCE: ("maintenance", "yellow"),
}


@dataclass(slots=True)
class _Trend:
    """A tag's newest value and the means of its past."""

    value: float | None = None
    total: float = 0.0
    count: int = 0
    since: int = 0
    past: deque[float] = field(default_factory=lambda: deque(maxlen=SPARK_WIDTH))

    def take(self, value: float, at: int) -> None:
        self.value = value
        self.total += value
        self.count += 1
        self.since = self.since or at
        if at - self.since >= SPARK_EVERY:
            self.past.append(self.total / self.count)
            self.total, self.count, self.since = 0.0, 0, at

    def sparks(self) -> str:
        if not self.past:
            return ""
        low, high = min(self.past), max(self.past)
        span = (high - low) or 1.0
        return "".join(SPARKS[int((value - low) / span * (len(SPARKS) - 1))] for value in self.past)


@dataclass(slots=True)
class _View:
    """What the screen knows of one machine."""

    settings: MachineSettings
    tags: Sequence[Tag]
    trends: dict[str, _Trend]
    bad: set[str] = field(default_factory=set)
    score: Score | None = None
    worst: float = 0.0


class Screen(Observer):
    """Collects what the pipeline shows it and renders it when asked."""

    def __init__(self, clock: Clock, started: int, footer: Callable[[], str]) -> None:
        self._clock = clock
        self._started = started
        self._footer = footer
        self._machines: dict[str, _View] = {}
        self._alerts: dict[tuple[str, str], tuple[int, Alert]] = {}
        self._past = ""

    def add(self, name: str, settings: MachineSettings, tags: Sequence[Tag]) -> None:
        """Show a machine; its measurements first."""
        shown = [tag for tag in tags if tag.kind in (Kind.MEASUREMENT, Kind.SETPOINT)][:MOST_TAGS]
        self._machines[name] = _View(settings, shown, {tag.name: _Trend() for tag in shown})

    def batch(self, batch: SampleBatch) -> None:
        """Note the newest values."""
        view = self._machines.get(batch.machine)
        if view is None:
            return
        for index, name in enumerate(batch.names):
            value, trend = batch.values[index], view.trends.get(name)
            if trend is None:
                continue
            if batch.status(index).quality is Quality.BAD:
                view.bad.add(name)
            elif isinstance(value, int | float):
                view.bad.discard(name)
                trend.take(float(value), batch.timestamp)

    def score(self, machine: str, score: Score) -> None:
        """Note the newest score."""
        if (view := self._machines.get(machine)) is not None:
            view.score = score
            if not math.isnan(score.value):
                view.worst = max(view.worst, score.value)

    def alert(self, alert: Alert) -> None:
        """Note what was raised or is back to normal; not what is suppressed by design."""
        if alert.occurrence and alert.state is not AlarmState.SUPPRESSED:
            self._alerts.pop((alert.machine, alert.id), None)
            self._alerts[alert.machine, alert.id] = (self._clock.now(), alert)

    def render(self, width: int) -> RenderableType:
        """The whole screen, for a terminal of so many columns."""
        inside = width // max(1, len(self._machines)) - _FRAME
        layout = Layout()
        layout.split_column(
            Layout(self._header(), size=3),
            Layout(name="machines", size=MOST_TAGS + 4),
            Layout(self._alert_panel(), name="alerts", minimum_size=6),
            Layout(Panel(Text(self._footer(), style="dim"), border_style="dim"), size=3),
        )
        layout["machines"].split_row(
            *(Layout(self._machine(n, v, inside)) for n, v in self._machines.items())
        )
        return layout

    def _header(self) -> RenderableType:
        now = self._clock.now()
        days = max(0.0, (now - self._started) / SECOND / 86_400)
        speed = self._clock.rate / 3600
        text = Text.assemble(
            ("edge-agent demo", "bold"), "   ", (iso(now)[:16].replace("T", " "), "bold cyan"),
            f"   day {days:.1f}   {speed:.0f} simulated hours a second",
        )  # fmt: skip
        return Panel(text, border_style="cyan")

    def _machine(self, name: str, view: _View, width: int) -> RenderableType:
        table = Table(box=None, expand=True, pad_edge=False, show_header=False)
        # The value is what everybody looks at: where there is no room, sparks and then the name are cut.
        longest = max((len(tag.name) for tag in view.tags), default=0)
        sparks = min(SPARK_WIDTH, max(FEWEST_SPARKS, width - longest - _VALUE - _UNIT - 3))
        table.add_column(ratio=1, overflow="ellipsis", no_wrap=True)
        table.add_column(min_width=_VALUE, justify="right", no_wrap=True)
        table.add_column(min_width=_UNIT, no_wrap=True)
        table.add_column(min_width=sparks, max_width=sparks, no_wrap=True)
        shares = view.score.contributions if view.score else {}
        faults = view.score.faults if view.score else {}
        for tag in view.tags:
            trend = view.trends[tag.name]
            style = "red" if shares.get(tag.name, 0.0) > 0.2 and self._outside(view) else ""
            if tag.name in faults or tag.name in view.bad:
                style = "yellow"
            value = "bad" if tag.name in view.bad else _number(trend.value)
            note = trend.sparks()[-sparks:]
            if tag.name in faults:
                note = f"sensor {faults[tag.name]}" if sparks == SPARK_WIDTH else f"{faults[tag.name]}"
            table.add_row(tag.name, value, tag.unit or "", note, style=style)
        outside = self._outside(view)
        title = f"[bold]{name}[/bold] {view.settings.label or ''} · {view.settings.driver}"
        return Panel(
            Group(self._health(view), table), title=title, border_style="red" if outside else "green"
        )

    @staticmethod
    def _outside(view: _View) -> bool:
        return view.score is not None and view.score.state is HealthState.ANOMALOUS

    @staticmethod
    def _health(view: _View) -> RenderableType:
        score = view.score
        if score is None:
            return Text("health: waiting for readings\n", style="dim")
        words, style = STYLES[score.state]
        if score.state is HealthState.LEARNING:
            return Text(f"health: {words} {score.progress:.0%}\n", style=style)
        if math.isnan(score.value):
            return Text(f"health: {words}\n", style=style)
        filled = min(12, int(score.value * 6))
        bar = "█" * filled + "░" * (12 - filled)
        return Text(f"health: {words}  {bar} {score.value:.2f} x\n", style=style)

    def _alert_panel(self) -> RenderableType:
        if not self._alerts:
            return Panel(Text("nothing to report", style="dim"), title="alerts", border_style="dim")
        lines = [self._alert(at, alert) for at, alert in reversed(self._alerts.values())]
        return Panel(Group(*lines), title="alerts", border_style="yellow")

    @staticmethod
    def _alert(at: int, alert: Alert) -> Text:
        style = "bold red" if alert.kind is AlarmKind.HEALTH and alert.active else "yellow"
        when = iso(at)[5:16].replace("T", " ")
        return Text.assemble(
            (f"{when} ", "dim"),
            (f"{alert.machine} ", "bold"),
            (alert.message, style if alert.active else "dim"),
        )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
