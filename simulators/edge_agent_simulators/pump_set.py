"""The pump set in its plant: process, maintenance, protection, and the tags its controller publishes."""

from __future__ import annotations

import math
from typing import ClassVar

from edge_agent.types import Kind
from edge_agent_simulators.faults import PUMP_LAWS, Law
from edge_agent_simulators.instruments import Reading, Signal
from edge_agent_simulators.machine import Machine, MachinePlan, Product
from edge_agent_simulators.plant import DAY, HOUR, WEEK, shift_number
from edge_agent_simulators.pump import RATED_SPEED, Pump, PumpInputs, PumpParameters

_OPEN_VALVE = 80.0
"""Valve position in % at which the system curve is the rated one."""
_CLEANING = 6 * DAY + 6.5 * HOUR  # Sunday 06:30
_GREASING_EVERY, _FIRST_GREASING = 10 * DAY, 2 * DAY + 10 * HOUR
_THERMISTOR = 150.0
_BEARING_LIMIT = 125.0


def _tag(
    name: str, unit: str, low: float, high: float, label: str, quantum: float, noise: float, lag: float = 0.0,
    period: float = 0.0, relative: bool = False, agitated: bool = False, accuracy: float = 0.0,
) -> Signal:  # fmt: skip
    return Signal(
        name, unit, (low, high), Kind.MEASUREMENT, label, "float32", lag, noise, relative, quantum, period,
        accuracy, agitated,
    )  # fmt: skip


class PumpSet(Machine):
    """A feed pump whose demand, product and surroundings change, cleaned and greased as pumps are.

    Settings: `suction_level` (m, default 1: flooded), `liquid` (°C, default 20).
    """

    model = "pump"
    laws: ClassVar[dict[str, Law]] = PUMP_LAWS
    products = (
        Product("A", 5.0, {"speed": 1.0, "valve": 80.0}),
        Product("B", 3.0, {"speed": 0.95, "valve": 72.0}),
        Product("C", 2.0, {"speed": 0.8, "valve": 80.0}),
    )
    signals = (
        _tag("flow", "m3/h", 0, 100, "Flow", 0.05, 0.004, 1.0, relative=True, agitated=True, accuracy=0.003),
        _tag("suction_pressure", "bar", -1, 3, "Suction pressure", 0.001, 0.004, 0.1, agitated=True),
        _tag("discharge_pressure", "bar", 0, 10, "Discharge pressure", 10 / 4096, 0.012, 0.1, agitated=True,
             accuracy=0.002),
        _tag("motor_current", "A", 0, 160, "Motor current", 0.1, 0.006, 0.3, relative=True, agitated=True,
             accuracy=0.004),
        _tag("motor_power", "kW", 0, 40, "Motor power", 0.01, 0.006, 0.3, relative=True, agitated=True,
             accuracy=0.004),
        _tag("motor_temperature", "°C", -20, 200, "Winding temperature", 0.1, 0.15, 30.0),
        _tag("bearing_temperature", "°C", -20, 150, "Drive-end bearing temperature", 0.1, 0.12, 40.0),
        _tag("bearing_vibration", "mm/s", 0, 25, "Drive-end vibration velocity", 0.01, 0.06, 1.0, 2.0, True,
             accuracy=0.01),
        _tag("bearing_acceleration", "g", 0, 50, "Drive-end acceleration 1-5 kHz", 0.01, 0.07, 1.0, 2.0, True,
             accuracy=0.01),
        _tag("bearing_crest", "", 0, 20, "Drive-end crest factor", 0.05, 0.05, 0.0, 2.0, True),
        _tag("seal_level", "%", 0, 100, "Seal pot level", 0.1, 0.15, 5.0),
        _tag("seal_temperature", "°C", -20, 150, "Seal chamber temperature", 0.1, 0.12, 30.0),
        _tag("liquid_temperature", "°C", -20, 120, "Liquid temperature", 0.1, 0.1, 30.0),
        _tag("ambient_temperature", "°C", -30, 70, "Hall temperature", 0.1, 0.1, 60.0),
        Signal("speed", "1/min", (0, 3600), Kind.MEASUREMENT, "Speed", "uint16", 0.0, 0.6, False, 1.0),
    )  # fmt: skip
    states = (
        Signal("valve_position", "%", (0, 100), Kind.SETPOINT, "Discharge valve, position asked"),
        Signal("running", kind=Kind.STATE, label="Running", type="bool"),
        Signal("tripped", kind=Kind.STATE, label="Tripped", type="bool"),
        Signal("leak", kind=Kind.STATE, label="Seal leak switch", type="bool"),
        Signal("status", kind=Kind.STATE, label="Status word", type="uint16"),
        Signal("product", kind=Kind.STATE, label="Product number", type="uint16"),
        Signal("energy", "kWh", kind=Kind.COUNTER, label="Energy", type="uint32"),
        Signal("running_hours", "h", kind=Kind.COUNTER, label="Running hours", type="uint32"),
        Signal("starts", kind=Kind.COUNTER, label="Starts", type="uint16"),
        Signal("serial_number", kind=Kind.CONFIG, label="Serial number", type="string"),
    )

    def __init__(self, plan: MachinePlan, seed: int) -> None:
        self.pump = Pump(plan.ambient)
        self.pump.energy, self.pump.hours, self.pump.starts = 41_820.0, 6_214.0, 388
        self.inputs = PumpInputs()
        self._suction = plan.settings.get("suction_level", 1.0)
        self._liquid = plan.settings.get("liquid", 20.0)
        self._valve = _OPEN_VALVE
        self._product = 1
        super().__init__(plan, seed)

    def _parameters(self) -> PumpParameters:
        return self.pump.parameters

    def _prepare(self, t: float) -> None:
        p = self.pump.parameters
        p.suction_level = self._suction
        p.impeller = 1.0
        # Dirt collects in the strainer all week and is washed out on Sunday.
        p.strainer = 1.0 + 0.8 * (((t - _CLEANING) % WEEK) / WEEK) ** 1.5
        greased = (t - _FIRST_GREASING) % _GREASING_EVERY
        fresh = math.exp(-greased / (2.5 * HOUR)) if t >= _FIRST_GREASING and greased < DAY else 0.0
        p.bearing_friction = 1.0 + 0.6 * fresh
        p.bearing_grease = 1.0 - 0.35 * fresh
        # On the round in each shift the fitter fills the seal pot up, if it needs it.
        if self.pump.level < 60.0 and (t - 2 * HOUR) % (8 * HOUR) < 900.0:
            self.pump.level = 90.0

    def _step(self, t: float, dt: float, working: bool) -> None:
        inputs = self.inputs
        chance = self.chance
        product = self.product(shift_number(t))
        self._product = ord(product.name[0]) - 64
        inputs.ambient = self.ambient.at(t)
        inputs.liquid = self._liquid + product.values.get("liquid", 0.0) + 3.0 * chance.smooth(t, 1.3 * DAY)
        # Demand wanders: the level control trims the speed, people the valve.
        inputs.speed = product.values["speed"] * (1.0 + 0.006 * chance.smooth(t, 1500.0)) if working else 0.0
        self._valve = round(product.values["valve"] + 2.5 * chance.smooth(t + 3e8, 2.5 * HOUR), 1)
        inputs.valve = (_OPEN_VALVE / self._valve) ** 2
        self.pump.step(dt, inputs)
        if working and self.trip_reason.endswith("seized"):
            self.pump.current *= 5.5

    def _protection(self) -> str:
        pump = self.pump
        if pump.winding > _THERMISTOR:
            return "the motor's thermistors tripped"
        if pump.bearing > _BEARING_LIMIT:
            return "the drive-end bearing was too hot"
        return "the mechanical seal ran dry" if pump.level <= 0.0 else ""

    def _truths(self) -> tuple[tuple[float, ...], float]:
        p, i = self.pump, self.inputs
        return (
            p.flow, p.suction_pressure, p.discharge_pressure, p.current, p.power, p.winding, p.bearing,
            p.vibration, p.acceleration, p.crest, p.level, p.seal, i.liquid, i.ambient, p.speed * RATED_SPEED,
        ), p.agitation  # fmt: skip

    def _states(self) -> tuple[Reading, ...]:
        pump = self.pump
        running = pump.speed > 0.02
        status = (not self.tripped) | running << 1 | self.tripped << 3 | pump.leaking << 4 | 1 << 9
        return (
            self._valve, running, self.tripped, pump.leaking, status, self._product, float(int(pump.energy)),
            float(int(pump.hours)), pump.starts, f"EA-PUMP-{self._serial}",
        )  # fmt: skip
