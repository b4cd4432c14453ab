"""Faults that grow: each is a law from progress (0 at onset, 1 at breakdown) to parameters of the physics.

Progress counts working time only: a machine that stands still does not wear. Faults of sensors act on the
instrument and never stop the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_agent_simulators.plant import DAY, HOUR
from edge_agent_simulators.press import PressParameters
from edge_agent_simulators.pump import PumpParameters
from edge_agent_simulators.randomness import Stream

SENSOR_FAULTS = ("sensor_stuck", "sensor_drift", "sensor_failed")

_WEAR_TAU = 0.12  # of the degradation time
_SPALLS = 5


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """A fault as a scenario asks for it; times in seconds since the scenario's start.

    `breakdown` is None for faults of sensors; those name their `tag`, and `rate` is the drift in units of
    the tag per day.
    """

    kind: str
    onset: float
    breakdown: float | None = None
    tag: str | None = None
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a fault stands: `progress` 0 to 1, `t` seconds since start, chance of its own."""

    progress: float
    t: float
    stream: Stream


@dataclass(frozen=True, slots=True)
class Law:
    """How a kind of fault acts on a machine's parameters, and which tags it moves."""

    tags: tuple[str, ...]
    apply: Callable[[Any, Moment], None]
    ending: str
    """What stops the machine in the end."""


def wear(progress: float, stream: Stream) -> float:
    """Bearing damage D: an exponential with plateaus, and steps of 5 to 15 % where a flake breaks out."""
    healing = 0.011 * math.sin(2 * math.pi * (7 * progress + stream.uniform(0)))
    damage = math.exp((progress - 1.0 + healing * (1.0 - progress)) / _WEAR_TAU)
    for index in range(1, _SPALLS + 1):
        if progress < 0.35 + 0.6 * stream.uniform(index):
            damage /= 1.05 + 0.1 * stream.uniform(index + 100)
    return min(1.0, damage)


def _bearing(parameters: PumpParameters, moment: Moment) -> None:
    parameters.bearing_damage = wear(moment.progress, moment.stream)


def _strainer(parameters: PumpParameters, moment: Moment) -> None:
    parameters.strainer = max(parameters.strainer, 1.0 / (1.0 - 0.8 * moment.progress) ** 2)


def _cavitation(parameters: PumpParameters, moment: Moment) -> None:
    # The level in the well sinks from week to week, and comes and goes within hours.
    swing = 0.75 + 0.25 * math.sin(2 * math.pi * moment.t / (5.3 * HOUR))
    parameters.suction_level -= 8.6 * moment.progress**0.6 * swing


def _pump_cooling(parameters: PumpParameters, moment: Moment) -> None:
    parameters.cooling = 1.0 + 1.75 * moment.progress**1.3


def _mechanical_seal(parameters: PumpParameters, moment: Moment) -> None:
    parameters.seal_leak = 0.01 * 500.0**moment.progress
    # Air drawn in past the faces lowers the head.
    parameters.impeller *= 1.0 - 0.05 * moment.progress**3


def _impeller(parameters: PumpParameters, moment: Moment) -> None:
    parameters.impeller *= 1.0 - 0.18 * moment.progress**1.5
    parameters.recirculation = 8.0 * moment.progress**1.5


def _filter(parameters: PressParameters, moment: Moment) -> None:
    parameters.filter = max(parameters.filter, 1.0 / (1.0 - 0.72 * moment.progress) ** 2)


def _press_cooling(parameters: PressParameters, moment: Moment) -> None:
    parameters.cooler = 1.0 - 0.78 * moment.progress


def _piston_seal(parameters: PressParameters, moment: Moment) -> None:
    parameters.piston_bypass = moment.progress**2


def _press_pump(parameters: PressParameters, moment: Moment) -> None:
    parameters.leakage = 1.0 + 7.0 * moment.progress**1.7


PUMP_LAWS: dict[str, Law] = {
    "bearing_wear": Law(
        ("bearing_acceleration", "bearing_crest", "bearing_vibration", "bearing_temperature"),
        _bearing,
        "the drive-end bearing seized",
    ),
    "clogged_strainer": Law(
        ("suction_pressure", "flow", "discharge_pressure", "bearing_acceleration"),
        _strainer,
        "low flow",
    ),
    "cavitation": Law(
        ("suction_pressure", "bearing_acceleration", "bearing_vibration", "flow", "discharge_pressure"),
        _cavitation,
        "loss of prime",
    ),
    "cooling_loss": Law(
        ("motor_temperature", "bearing_temperature"), _pump_cooling, "the motor's thermistors tripped"
    ),
    "seal_leak": Law(
        ("seal_level", "seal_temperature", "leak", "discharge_pressure", "flow"),
        _mechanical_seal,
        "the mechanical seal ran dry",
    ),
    "pump_wear": Law(("discharge_pressure", "flow"), _impeller, "low flow"),
}
PRESS_LAWS: dict[str, Law] = {
    "clogged_filter": Law(("filter_dp",), _filter, "the return filter's bypass opened"),
    "cooling_loss": Law(
        ("oil_temperature", "hold_decay", "filter_dp", "case_drain_flow"),
        _press_cooling,
        "the oil was too hot",
    ),
    "seal_leak": Law(("hold_decay",), _piston_seal, "the press no longer held its pressure"),
    "pump_wear": Law(
        ("case_drain_flow", "press_time", "approach_time", "cycle_time", "cycle_power"),
        _press_pump,
        "the pump no longer reached pressure",
    ),
}


class RunningFault:
    """A planned fault of one machine on its way from onset to breakdown."""

    __slots__ = ("_stream", "_total", "begun", "ended", "law", "plan", "progress")

    def __init__(self, plan: FaultPlan, law: Law | None, working: float, stream: Stream) -> None:
        self.plan = plan
        self.law = law
        self.progress = 0.0
        self.begun = self.ended = False
        self._total = max(working, 1.0)
        self._stream = stream

    @property
    def tags(self) -> tuple[str, ...]:
        """The names of the tags that the fault moves."""
        if self.law is None:
            return (self.plan.tag or "",)
        return self.law.tags

    def act(self, parameters: object, t: float, dt: float, working: bool) -> None:
        """Move on by `dt` seconds and change the parameters."""
        if self.law is None:
            return
        if working and not self.ended:
            self.progress = min(1.0, self.progress + dt / self._total)
        self.law.apply(parameters, Moment(self.progress, t, self._stream))

    def due(self, t: float, working: bool) -> bool:
        """Whether the machine breaks down now."""
        breakdown = self.plan.breakdown
        return self.law is not None and breakdown is not None and t >= breakdown and working

    def drift(self, t: float) -> float:
        """What a drifting sensor has added by `t`, in the tag's units."""
        return self.plan.rate * (t - self.plan.onset) / DAY
