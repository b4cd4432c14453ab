"""Scenarios: which machines, what happens to them and when; read from YAML beside this module.

for time_ns, machines in rows("demo", seed=1, step_seconds=600):
    machines["pump-1"]["bearing_vibration"]
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from edge_agent.clock import SECOND, parse_iso
from edge_agent.contracts.settings import StrictModel
from edge_agent.errors import ConfigError
from edge_agent.units import Duration
from edge_agent_simulators.faults import SENSOR_FAULTS, FaultPlan
from edge_agent_simulators.instruments import Reading
from edge_agent_simulators.machine import Incident, Machine, MachinePlan, Product
from edge_agent_simulators.plant import CALENDARS, HotDay
from edge_agent_simulators.press_line import PressLine
from edge_agent_simulators.pump_set import PumpSet

MODELS: dict[str, type[PumpSet] | type[PressLine]] = {"pump": PumpSet, "press": PressLine}
LONGEST_STEP = 60.0
"""Seconds; longer steps would blur starts, breaks and cold oil."""


class HotDaySettings(StrictModel):
    """A day (0 is the scenario's first) on which the hall reaches `peak` °C."""

    day: int
    peak: float


class ProductSettings(StrictModel):
    """How often a product is made, and the settings of the machine for it."""

    weight: float = 1.0
    values: dict[str, float]


class FaultSettings(StrictModel):
    """A fault with its times since the scenario's start."""

    kind: str
    onset: Duration
    breakdown: Duration | None = None
    tag: str | None = None
    rate: float = 0.0


class ScenarioMachine(StrictModel):
    """One machine: its model, where it is served and what happens to it."""

    model: Literal["pump", "press"]
    serve: Literal["modbus", "opcua"]
    unit_id: int = 1
    label: str = ""
    calendar: str = "continuous"
    ambient: float = 22.0
    hot_days: list[HotDaySettings] = []
    products: dict[str, ProductSettings] = {}
    settings: dict[str, float] = {}
    faults: list[FaultSettings] = []

    @field_validator("calendar")
    @classmethod
    def _known_calendar(cls, name: str) -> str:
        if name not in CALENDARS:
            raise ValueError(f"there is no calendar '{name}'; there are {', '.join(CALENDARS)}")
        return name

    def plan(self, name: str) -> MachinePlan:
        """The machine as its model wants it. ConfigError where a fault does not fit the model."""
        for fault in self.faults:
            _check_fault(fault, MODELS[self.model], name)
        return MachinePlan(
            name=name,
            calendar=CALENDARS[self.calendar],
            label=self.label,
            ambient=self.ambient,
            hot_days=tuple(HotDay(hot.day, hot.peak) for hot in self.hot_days),
            products=tuple(Product(key, item.weight, item.values) for key, item in self.products.items()),
            faults=tuple(
                FaultPlan(fault.kind, fault.onset, fault.breakdown, fault.tag, fault.rate)
                for fault in self.faults
            ),
            settings=self.settings,
        )


class Scenario(StrictModel):
    """A whole scenario. `start` is `now` (the calendar week that is running) or a Monday 00:00 UTC."""

    name: str = ""
    about: str
    start: str = "2026-03-02T00:00:00Z"
    days: float | None = None
    """How long the story is; None: endless."""
    machines: dict[str, ScenarioMachine]

    @field_validator("start", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        # YAML reads an unquoted date as one.
        return value.isoformat() if isinstance(value, datetime) else value

    def start_ns(self, now: int) -> int:
        """UTC ns of the scenario's time zero; `now` is the present."""
        if self.start != "now":
            return parse_iso(self.start)
        week = 7 * 86_400 * SECOND
        monday = 4 * 86_400 * SECOND  # 1970-01-05
        return (now - monday) // week * week + monday


def _check_fault(fault: FaultSettings, model: type[PumpSet] | type[PressLine], machine: str) -> None:
    if fault.kind in SENSOR_FAULTS:
        names = [signal.name for signal in model.signals]
        if fault.tag not in names:
            raise ConfigError([f"{machine}: {fault.kind} needs `tag`, one of {', '.join(names)}"])
    elif fault.kind not in model.laws:
        known = ", ".join([*model.laws, *SENSOR_FAULTS])
        raise ConfigError([f"{machine}: a {model.model} has no fault '{fault.kind}'; it has {known}"])
    elif fault.breakdown is None or fault.breakdown <= fault.onset:
        raise ConfigError([f"{machine}: {fault.kind} needs a `breakdown` after its onset"])


def _folder() -> resources.abc.Traversable:
    return resources.files("edge_agent_simulators") / "scenarios"


def scenario_names() -> list[str]:
    """The bundled scenarios."""
    return sorted(item.name[:-5] for item in _folder().iterdir() if item.name.endswith(".yaml"))


def load_scenario(name: str) -> Scenario:
    """A bundled scenario by name, or a YAML file. ConfigError with a suggestion where there is none."""
    if name.endswith((".yaml", ".yml")):
        return _parse(Path(name).stem, _read_file(Path(name)))
    if name not in scenario_names():
        close = difflib.get_close_matches(name, scenario_names(), n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ConfigError([f"there is no scenario '{name}'; {hint}there are: {', '.join(scenario_names())}"])
    return _parse(name, (_folder() / f"{name}.yaml").read_text(encoding="utf-8"))


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"the scenario {path} cannot be read: {error.strerror}"]) from error


def _parse(name: str, text: str) -> Scenario:
    try:
        return Scenario.model_validate({**YAML(typ="safe", pure=True).load(text), "name": name})
    except (YAMLError, TypeError) as error:
        raise ConfigError([f"scenario {name}: {error}"]) from error
    except ValidationError as error:
        raise ConfigError(
            [f"scenario {name}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        ) from error


class Plant:
    """All machines of a scenario, moved together on one grid of simulated time."""

    def __init__(self, scenario: Scenario, seed: int, step: float = LONGEST_STEP) -> None:
        self.step = step
        self.index = 0
        self._base = 0.0
        self.machines: list[Machine] = [
            MODELS[item.model](item.plan(name), seed) for name, item in scenario.machines.items()
        ]

    @property
    def t(self) -> float:
        """Seconds since the scenario's start at which all values were taken."""
        return self._base + self.index * self.step

    def watch(self, incidents: Callable[[Incident], None]) -> None:
        """Have every onset and breakdown reported."""
        for machine in self.machines:
            machine.incidents = incidents

    def advance(self, t: float, most: int = 1_000_000) -> bool:
        """Move to the last grid point not after `t`, at most `most` steps; whether anything moved."""
        target = min(math.floor((t - self._base) / self.step + 1e-9), self.index + most)
        moved = target > self.index
        while self.index < target:
            self.index += 1
            for machine in self.machines:
                machine.advance(self.t, self.step)
        return moved

    def skip(self, t: float) -> None:
        """Move to `t` (to the minute below it) in the longest steps, then go on with the grid from there."""
        step, self.step = self.step, LONGEST_STEP
        self.advance(t)
        self._base, self.index, self.step = self.t, 0, step


def grid_step(speed: float) -> float:
    """Seconds of the grid for a speed: 0.2 s in real time, a minute at most."""
    return min(LONGEST_STEP, max(0.2, 0.2 * speed))


def rows(
    scenario: str | Scenario, seed: int = 1, step_seconds: float = 600.0, days: float | None = None
) -> Iterator[tuple[int, dict[str, dict[str, Reading]]]]:
    """What an agent would read every `step_seconds`: (UTC ns, {machine: {tag: value}}), without any server.

    `days` defaults to the scenario's length (an endless one: 28). A value is None where its instrument has
    failed. Steps longer than a minute are simulated in parts.
    """
    scenario = load_scenario(scenario) if isinstance(scenario, str) else scenario
    parts = math.ceil(step_seconds / LONGEST_STEP)
    plant = Plant(scenario, seed, step_seconds / parts)
    start = parse_iso("2026-03-02T00:00:00Z") if scenario.start == "now" else scenario.start_ns(0)
    for index in range(int((days or scenario.days or 28.0) * 86_400 / step_seconds)):
        plant.advance(index * step_seconds)
        yield (
            start + int(index * step_seconds * SECOND),
            {m.name: dict(zip(m.names, m.values, strict=True)) for m in plant.machines},
        )
