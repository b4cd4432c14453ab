"""The hydraulic press in its plant: shifts, products, maintenance, protection, and the tags of its PLC."""

from __future__ import annotations

from typing import ClassVar

from edge_agent.types import Kind
from edge_agent_simulators.faults import PRESS_LAWS, Law
from edge_agent_simulators.instruments import Reading, Signal
from edge_agent_simulators.machine import Machine, MachinePlan, Product
from edge_agent_simulators.plant import HOUR, WEEK, shift_number
from edge_agent_simulators.press import Press, PressInputs, PressParameters

_OIL_TRIP = 70.0
_FILTER_CHANGE_EVERY, _FIRST_FILTER_CHANGE = 8 * WEEK, 2 * HOUR
_PRESSURE_LOST = 20.0  # bar in the hold


def _tag(
    name: str, unit: str, low: float, high: float, label: str, quantum: float, noise: float, lag: float = 0.0,
    relative: bool = False, accuracy: float = 0.0, per_event: bool = False,
) -> Signal:  # fmt: skip
    return Signal(
        name, unit, (low, high), Kind.MEASUREMENT, label, "float64", lag, noise, relative, quantum,
        accuracy=accuracy, per_event=per_event,
    )  # fmt: skip


def _per_cycle(
    name: str, unit: str, high: float, label: str, quantum: float, noise: float, accuracy: float = 0.0
) -> Signal:
    """A value the PLC works out once a stroke; its scatter is new with each."""
    return _tag(name, unit, 0, high, label, quantum, noise, 0.0, True, accuracy, True)


class PressLine(Machine):
    """A press that works in strokes; its PLC publishes what it measures now and values of the last stroke."""

    model = "press"
    laws: ClassVar[dict[str, Law]] = PRESS_LAWS
    products = (
        Product("A", 5.0, {"pressure": 180.0, "cycle": 31.3}),
        Product("B", 3.0, {"pressure": 165.0, "cycle": 28.7}),
        Product("C", 2.0, {"pressure": 150.0, "cycle": 34.9}),
    )
    signals = (
        _tag("oil_temperature", "°C", -20, 120, "Oil temperature", 0.1, 0.1, 30.0),
        _tag("system_pressure", "bar", 0, 250, "System pressure", 0.1, 0.004, 0.1, True, 0.002),
        _tag("pump_flow", "l/min", 0, 100, "Pump flow", 0.05, 0.004, 0.5, True, 0.003),
        _tag("ram_position", "mm", 0, 300, "Ram position", 0.1, 0.05),
        _tag("motor_power", "kW", 0, 40, "Motor power", 0.01, 0.008, 0.3, True, 0.004),
        _tag("filter_dp", "bar", 0, 6, "Return filter differential pressure", 0.01, 0.015, 1.0, True),
        _tag("case_drain_flow", "l/min", 0, 20, "Pump case drain flow", 0.01, 0.02, 2.0, True, 0.005),
        _tag("tank_level", "%", 0, 100, "Tank level", 0.1, 0.1, 5.0),
        _tag("ambient_temperature", "°C", -30, 70, "Hall temperature", 0.1, 0.1, 60.0),
        _per_cycle("cycle_time", "s", 120, "Active time of the last cycle", 0.01, 0.002),
        _per_cycle("approach_time", "s", 30, "Approach time of the last cycle", 0.01, 0.005),
        _per_cycle("press_time", "s", 30, "Pressing time of the last cycle", 0.01, 0.006),
        _per_cycle("peak_pressure", "bar", 250, "Peak pressure of the last cycle", 0.1, 0.002, 0.002),
        _per_cycle("hold_decay", "bar", 100, "Pressure lost in the last hold", 0.01, 0.04),
        _per_cycle("cycle_power", "kW", 40, "Mean power of the last cycle", 0.01, 0.008, 0.004),
    )
    states = (
        Signal("pressure_setpoint", "bar", (0, 250), Kind.SETPOINT, "Peak pressure asked", "float64"),
        Signal("running", kind=Kind.STATE, label="Motor running", type="bool"),
        Signal("cycling", kind=Kind.STATE, label="In automatic cycle", type="bool"),
        Signal("tripped", kind=Kind.STATE, label="Tripped", type="bool"),
        Signal("product_name", kind=Kind.CONFIG, label="Product", type="string"),
        Signal("parts", "pcs", kind=Kind.COUNTER, label="Parts made", type="uint32"),
        Signal("energy", "kWh", kind=Kind.COUNTER, label="Energy", type="float64"),
        Signal("running_hours", "h", kind=Kind.COUNTER, label="Running hours", type="float64"),
    )

    def __init__(self, plan: MachinePlan, seed: int) -> None:
        self.press = Press(plan.ambient)
        self.press.energy, self.press.hours, self.press.parts = 18_233.0, 4_051.0, 391_204
        self.inputs = PressInputs()
        self._product = "A"
        super().__init__(plan, seed)

    def _parameters(self) -> PressParameters:
        return self.press.parameters

    def _prepare(self, t: float) -> None:
        p = self.press.parameters
        # Filter elements last about eight weeks.
        used = ((t - _FIRST_FILTER_CHANGE) % _FILTER_CHANGE_EVERY) / _FILTER_CHANGE_EVERY
        p.filter = 1.0 / (1.0 - 0.25 * used) ** 2

    def _step(self, t: float, dt: float, working: bool) -> None:
        inputs = self.inputs
        product = self.product(shift_number(t))
        self._product = product.name
        inputs.ambient = self.ambient.at(t)
        inputs.pressure = product.values["pressure"]
        # Loading takes people longer at times.
        inputs.cycle = product.values["cycle"] * (1.0 + 0.03 * self.chance.smooth(t, 0.4 * HOUR))
        inputs.powered = working
        inputs.cycling = working and not self.plan.calendar.pausing(t)
        self.press.step(dt, inputs)

    def _protection(self) -> str:
        if self.press.oil > _OIL_TRIP:
            return "the oil was too hot"
        return "the press no longer held its pressure" if self.press.last.decay > _PRESSURE_LOST else ""

    def _truths(self) -> tuple[tuple[float, ...], float]:
        p = self.press
        last = p.last
        return (
            p.oil, p.pressure, p.flow, p.position, p.power, p.filter_dp, p.leak, p.tank_level,
            self.inputs.ambient, last.active, last.approach, last.press, last.peak, last.decay, last.power,
        ), 1.0  # fmt: skip

    def _events(self) -> int:
        return self.press.parts

    def _states(self) -> tuple[Reading, ...]:
        press, inputs = self.press, self.inputs
        return (
            inputs.pressure, inputs.powered, inputs.cycling, self.tripped, self._product, press.parts,
            round(press.energy, 1), round(press.hours, 2),
        )  # fmt: skip
