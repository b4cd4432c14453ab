"""Physics of a 63 t hydraulic press: 22 kW, 45 cm3/rev at 1480 1/min, HLP 46 oil, 250 l tank.

The oil is a thermal mass moved by the exact exponential; a stroke is solved in closed form from the oil and
the wear at that time, so that a step may be 0.1 s or a minute and the values of the last stroke are there
either way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

RATED_FLOW = 66.6
"""l/min of the pump."""
_OIL_CAPACITY = 413_000.0  # J/K
_WALLS, _COOLER = 25.0, 140.0  # W/K
_MOTOR_IDLE = 1.2  # kW
_UNLOADED = 1.26  # kW, circulating at 10 bar
_WARM = 42.0  # cSt at 43 °C, where the nominal times are true
_LEAK = 3.0  # l/min at 180 bar and 46 cSt
_GAP_EXPONENT = 0.65  # of the gap flow's dependence on viscosity
_APPROACH, _PRESS, _DECOMPRESS, _RETRACT = 2.72, 2.26, 1.0, 2.72
_STROKE = 250.0  # mm


@dataclass(slots=True)
class PressParameters:
    """What wear, dirt and people change; the defaults are a healthy press."""

    leakage: float = 1.0
    """k_L, factor on the pump's internal leakage."""
    filter: float = 1.0
    """Kf, factor on the return filter's resistance."""
    cooler: float = 1.0
    """Factor on the cooler's UA."""
    piston_bypass: float = 0.0
    """Leak past the piston seal as a share of 3 l/min."""


@dataclass(slots=True)
class PressInputs:
    """What the hall and the shift ask of the press: °C, peak pressure in bar, seconds from part to part."""

    ambient: float = 22.0
    pressure: float = 180.0
    cycle: float = 30.0
    hold: float = 8.0
    powered: bool = True
    cycling: bool = True


class Stroke(NamedTuple):
    """One working stroke: times in s, decay of the hold in bar, leak in l/min, mean power in kW."""

    approach: float
    press: float
    retract: float
    active: float
    peak: float
    decay: float
    leak: float
    power: float


def viscosity(celsius: float) -> float:
    """Of HLP 46, in cSt."""
    return 46.0 * math.exp(-0.032 * (celsius - 40.0))


def stroke(parameters: PressParameters, inputs: PressInputs, oil: float) -> Stroke:
    """What one stroke is like with this wear and oil temperature."""
    thin = math.pow(_WARM / viscosity(oil), _GAP_EXPONENT)
    load = inputs.pressure / 180.0
    leak = _LEAK * (46.0 / _WARM) * thin * parameters.leakage  # l/min at 180 bar
    nominal = _LEAK * (46.0 / _WARM)

    def duration(normal: float, bar: float) -> float:
        """`normal` seconds, longer by what leaks away at that pressure instead of moving the ram."""
        share = bar / 180.0
        return normal * (RATED_FLOW - nominal * share) / max(5.0, RATED_FLOW - leak * share)

    approach, retract = duration(_APPROACH, 40.0), duration(_RETRACT, 60.0)
    press = duration(_PRESS, 170.0 * load)
    active = approach + press + inputs.hold + _DECOMPRESS + retract
    decay = (0.9 * thin * load + 21.1 * parameters.piston_bypass * load) * inputs.hold / 8.0
    # kJ: moving at 40 and 60 bar, pressing (with what leaks at full pressure on top), the rest unloaded.
    work = 5.05 * approach + 7.57 * retract + 36.5 * load + 21.4 * load * (press - _PRESS)
    work += _UNLOADED * (inputs.hold + _DECOMPRESS) + 4.0 * parameters.piston_bypass
    idle = max(0.0, inputs.cycle - active)
    power = _MOTOR_IDLE + (work + _UNLOADED * idle) / max(inputs.cycle, active)
    return Stroke(approach, press, retract, active, inputs.pressure, decay, leak * 0.3 * load, power)


class Press:
    """The press: state, and what follows from it after each `step`."""

    __slots__ = (
        "_on", "cooler_valve", "energy", "filter_dp", "flow", "hours", "last", "leak", "oil", "parameters",
        "parts", "position", "power", "pressure", "progress", "starts", "tank_level",
    )  # fmt: skip

    def __init__(self, oil: float = 22.0) -> None:
        self.parameters = PressParameters()
        self.oil = oil
        self.energy = self.hours = self.progress = 0.0
        self.parts = self.starts = 0
        self.cooler_valve = self.filter_dp = self.flow = self.leak = 0.0
        self.position = self.power = self.pressure = 0.0
        self.tank_level = 82.0
        self.last = stroke(self.parameters, PressInputs(), 43.0)
        self._on = False

    def step(self, dt: float, inputs: PressInputs) -> None:
        """Move everything `dt` seconds on under constant inputs."""
        mean = 0.0
        if inputs.powered:
            self.starts += not self._on
            self.hours += dt / 3600.0
            mean = _MOTOR_IDLE + _UNLOADED
            if inputs.cycling:
                now = stroke(self.parameters, inputs, self.oil)
                mean = now.power
                self._count(dt, inputs, now)
        self._on = inputs.powered
        self._warm(dt, inputs, mean)
        self.energy += mean * dt / 3600.0
        self._instant(inputs)
        # 0.07 % of the volume per K, and the rod when it is out.
        self.tank_level = 82.0 + 0.07 * (self.oil - 40.0) - 1.2 * self.position / _STROKE

    def _count(self, dt: float, inputs: PressInputs, now: Stroke) -> None:
        before = int(self.progress)
        self.progress += dt / max(inputs.cycle, now.active)
        self.parts += int(self.progress) - before
        if int(self.progress) != before:
            self.last = now

    def _warm(self, dt: float, inputs: PressInputs, mean: float) -> None:
        # Everything but the motor's own losses ends up in the oil.
        heat = max(0.0, mean - 1.1) * 1000.0 if mean else 0.0
        self.cooler_valve = max(0.0, min(1.0, (self.oil - 40.0) / 2.0)) if mean else 0.0
        conductance = _WALLS + _COOLER * self.parameters.cooler * self.cooler_valve
        settled = inputs.ambient + heat / conductance
        self.oil = settled + (self.oil - settled) * math.exp(-dt * conductance / _OIL_CAPACITY)

    def _instant(self, inputs: PressInputs) -> None:
        """Pressure, flow, position and power at this moment of the cycle."""
        if not inputs.powered:
            self.pressure = self.flow = self.power = self.position = self.filter_dp = self.leak = 0.0
            return
        self.flow = RATED_FLOW
        self.leak = 0.05
        self.power, self.pressure, self.position = _MOTOR_IDLE + _UNLOADED, 10.0, 0.0
        if inputs.cycling:
            self._phase(inputs, (self.progress % 1.0) * max(inputs.cycle, self.last.active))
            self.leak = self.last.leak
        raw = 0.4 * self.parameters.filter * viscosity(self.oil) / 46.0 * self.flow / RATED_FLOW
        # The bypass valve opens at 3.5 bar and takes what is above it, not quite sharply.
        self.filter_dp = raw if raw < 3.5 else 3.5 + 0.5 * (1.0 - math.exp((3.5 - raw) / 0.5))

    def _phase(self, inputs: PressInputs, moment: float) -> None:
        last = self.last
        ends = last.approach, last.press, inputs.hold, _DECOMPRESS, last.retract
        phase = 0
        while phase < 5 and moment >= ends[phase]:
            moment -= ends[phase]
            phase += 1
        if phase == 5:
            return
        share = moment / ends[phase]
        peak = inputs.pressure
        pressure, position = (
            (40.0, 0.9 * share),
            (40.0 + (peak - 40.0) * share, 0.9 + 0.1 * share),
            (peak - last.decay * share, 1.0),
            (peak * (1.0 - share), 1.0),
            (60.0, 1.0 - share),
        )[phase]
        self.pressure, self.position = pressure, position * _STROKE
        if phase in (0, 1, 4):
            self.power = _MOTOR_IDLE + pressure * RATED_FLOW / (600.0 * 0.88)
            self.flow = RATED_FLOW - last.leak / 0.3 * pressure / 180.0
