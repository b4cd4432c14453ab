"""A machine in its plant: physics, instruments, calendar, maintenance and faults, moved on a fixed grid.

The grid is in simulated time and starts at the scenario's start, so that the values at an instant do not
depend on when, or how often, anybody looked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from edge_agent_simulators.faults import SENSOR_FAULTS, FaultPlan, Law, RunningFault
from edge_agent_simulators.instruments import Instrument, Reading, Signal
from edge_agent_simulators.plant import Ambient, Calendar, HotDay
from edge_agent_simulators.randomness import Stream

RUN_IN = 8 * 3600.0
"""Seconds before the start that are simulated unseen, so that a machine at work begins warm."""
RUN_IN_STEP = 60.0


@dataclass(frozen=True, slots=True)
class Product:
    """What is made in a shift: `values` are the settings of the model, `weight` how often it is chosen."""

    name: str
    weight: float
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class MachinePlan:
    """A machine as a scenario asks for it."""

    name: str
    calendar: Calendar
    label: str = ""
    ambient: float = 22.0
    hot_days: tuple[HotDay, ...] = ()
    products: tuple[Product, ...] = ()
    faults: tuple[FaultPlan, ...] = ()
    settings: dict[str, float] = field(default_factory=dict)
    """Settings of the model that hold for the whole scenario, such as `suction_level`."""


@dataclass(frozen=True, slots=True)
class Incident:
    """A line of the truth log; `t` is seconds since the scenario's start."""

    t: float
    machine: str
    fault: str
    event: str
    tags: tuple[str, ...]


class Machine(ABC):
    """One simulated machine; the subclasses bring the physics.

    After `advance` the tags' values are in `values`, in the order of `names`, all of the same instant.
    """

    model: ClassVar[str]
    signals: ClassVar[tuple[Signal, ...]]
    states: ClassVar[tuple[Signal, ...]]
    laws: ClassVar[dict[str, Law]]
    products: ClassVar[tuple[Product, ...]]

    def __init__(self, plan: MachinePlan, seed: int) -> None:
        self.plan = plan
        self.name = plan.name
        self.instruments = {signal.name: Instrument(signal, seed, plan.name) for signal in self.signals}
        self.names = tuple(signal.name for signal in (*self.signals, *self.states))
        self.values: Sequence[Reading] = ()
        self.tripped = False
        self.trip_reason = ""
        self.ambient = Ambient(seed, "hall", plan.ambient, plan.hot_days)
        self.chance = Stream(seed, f"{plan.name}/process")
        self._readers = tuple(self.instruments.values())
        self._choices = plan.products or self.products
        self._chosen: tuple[int, Product] | None = None
        self._serial = seed * 7919 % 90_000 + 10_000
        self.faults = [self._fault(fault, seed) for fault in plan.faults]
        self.incidents: Callable[[Incident], None] | None = None
        """Called with every onset and breakdown when it is reached."""
        self._run_in()

    def _fault(self, plan: FaultPlan, seed: int) -> RunningFault:
        law = None if plan.kind in SENSOR_FAULTS else self.laws[plan.kind]
        working = self.plan.calendar.working_seconds(plan.onset, plan.breakdown) if plan.breakdown else 0.0
        return RunningFault(plan, law, working, Stream(seed, f"{self.name}/{plan.kind}"))

    def _run_in(self) -> None:
        steps = int(RUN_IN / RUN_IN_STEP)
        for index in range(steps):
            self._move((index - steps) * RUN_IN_STEP, RUN_IN_STEP)
        self._measure(0.0, RUN_IN_STEP)

    def advance(self, t: float, dt: float, *, measure: bool = True) -> None:
        """Move from `t - dt` to `t`; `dt` at most a minute. Without `measure` `values` stays as it was."""
        self._move(t, dt)
        if measure:
            self._measure(t, dt)

    def reading(self, tag: str) -> Reading:
        """What a tag shows now. ValueError where the machine has no such tag."""
        return self.values[self.names.index(tag)]

    def _move(self, t: float, dt: float) -> None:
        working = self.plan.calendar.working(t) and not self.tripped
        self._prepare(t)
        for fault in self.faults:
            if t >= fault.plan.onset:
                self._suffer(fault, t, dt, working)
        self._step(t, dt, working)
        reason = self._protection() if working else ""
        if reason:
            self._break_down(t, reason)

    def _suffer(self, fault: RunningFault, t: float, dt: float, working: bool) -> None:
        if not fault.begun:
            fault.begun = True
            self._report(t, fault, "onset")
        if fault.law is None:
            self._mislead(fault, t)
            return
        fault.act(self._parameters(), t, dt, working)
        if working and fault.due(t, working):
            self._break_down(t, fault.law.ending)

    def _mislead(self, fault: RunningFault, t: float) -> None:
        instrument = self.instruments[fault.plan.tag or ""]
        if fault.plan.kind == "sensor_stuck":
            instrument.stuck = True
        elif fault.plan.kind == "sensor_failed":
            instrument.failed = True
        else:
            instrument.drift = fault.drift(t)

    def _break_down(self, t: float, reason: str) -> None:
        self.tripped = True
        self.trip_reason = self.trip_reason or reason
        for fault in self.faults:
            if fault.begun and fault.law is not None and not fault.ended:
                fault.ended = True
                self._report(t, fault, "breakdown")

    def _report(self, t: float, fault: RunningFault, event: str) -> None:
        if self.incidents is not None:
            self.incidents(Incident(t, self.name, fault.plan.kind, event, fault.tags))

    def _measure(self, t: float, dt: float) -> None:
        truths, agitation = self._truths()
        events = float(self._events())
        shown: list[Reading] = [
            instrument.read(events, truth, 1.0)
            if instrument.signal.per_event
            else instrument.read(t, truth, dt, agitation)
            for instrument, truth in zip(self._readers, truths, strict=True)
        ]
        shown.extend(self._states())
        self.values = shown

    def product(self, shift: int) -> Product:
        """What is made in a shift: chosen by chance, the same for the same seed."""
        if self._chosen is None or self._chosen[0] != shift:
            self._chosen = shift, self._pick(shift)
        return self._chosen[1]

    def _pick(self, shift: int) -> Product:
        total = sum(product.weight for product in self._choices)
        share = self.chance.uniform(shift) * total
        for product in self._choices:
            share -= product.weight
            if share < 0:
                return product
        return self._choices[-1]

    @abstractmethod
    def _prepare(self, t: float) -> None:
        """Set the parameters as they are without any fault: settings, dirt and maintenance."""

    @abstractmethod
    def _parameters(self) -> object:
        """The parameters that faults change."""

    @abstractmethod
    def _step(self, t: float, dt: float, working: bool) -> None:
        """Move the physics."""

    @abstractmethod
    def _protection(self) -> str:
        """Why the machine's own protection stops it now; empty where it does not."""

    @abstractmethod
    def _truths(self) -> tuple[tuple[float, ...], float]:
        """The physical values in the order of `signals`, and how agitated the medium is (1: calm)."""

    def _events(self) -> int:
        """How many strokes there were; a machine without any has none."""
        return 0

    @abstractmethod
    def _states(self) -> tuple[Reading, ...]:
        """The values that need no instrument, in the order of `states`."""
