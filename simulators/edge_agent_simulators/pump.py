"""Physics of a motor-driven centrifugal pump set: 15 kW, 2 poles, inverter, 60 m3/h at 50 m.

Faults change `PumpParameters`; everything measured follows. Flow is solved algebraically and the thermal
masses are moved by the exact exponential of their equation, so a step may be 0.1 s or a minute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

RATED_FLOW = 60.0
"""m3/h at full speed."""
RATED_SPEED = 2950.0
"""1/min."""
_SHUT_OFF_HEAD = 62.0
_STATIC_HEAD = 15.0
_PUMP_SLOPE = 12.0 / 3600.0
_SYSTEM_SLOPE = 35.0 / 3600.0
_SUCTION_SLOPE = 0.5 / 3600.0
_BAR_PER_METRE = 998.0 * 9.81 / 1e5
_ATMOSPHERE = 1.013
_NO_LOAD_CURRENT = 11.0
_SQRT3_400V = math.sqrt(3.0) * 0.4
_WINDING_RESISTANCE = 0.04  # K/W, winding to frame; frame to air is the same with the fan at full speed
_FRAME_RESISTANCE = 0.04
_BEARING_FRICTION = 68.0  # W at full speed, healthy; contained in the shaft power
_BEARING_TO_FRAME = 0.617  # K/W
_BEARING_TO_AIR = 0.332
_WINDING_TAU, _FRAME_TAU, _BEARING_TAU, _SEAL_TAU = 420.0, 3000.0, 1200.0, 900.0
_SEAL_POT = 10.0  # litres
_RESONANCE, _RESONANCE_WIDTH = 0.90, 0.035
_CAVITATION_PEAK = 1.07


@dataclass(slots=True)
class PumpParameters:
    """What wear, dirt and people change; the defaults are a healthy pump on flooded suction."""

    bearing_damage: float = 0.0
    """D of the drive-end bearing, 0 to 1."""
    bearing_friction: float = 1.0
    """Factor on friction; fresh grease raises it for hours."""
    bearing_grease: float = 1.0
    """Factor on the high-frequency level; fresh grease lowers it for hours."""
    strainer: float = 1.0
    """Ks, factor on the suction loss."""
    suction_level: float = 1.0
    """m of liquid above the pump (negative: suction lift)."""
    discharge: float = 1.0
    """Factor on the system's resistance: a clogged discharge filter."""
    impeller: float = 1.0
    """Factor on the shut-off head."""
    recirculation: float = 0.0
    """m3/h that flow back through the wear ring."""
    cooling: float = 1.0
    """Rfa, factor on the thermal resistance from frame to air."""
    seal_leak: float = 0.01
    """l/h out of the seal pot."""
    unbalance: float = 1.0
    """Factor on the vibration at running speed."""


@dataclass(slots=True)
class PumpInputs:
    """What the process and the hall ask of the pump: speed as a share of the rated, valve resistance, °C."""

    speed: float = 1.0
    valve: float = 1.0
    liquid: float = 20.0
    ambient: float = 25.0


def vapour_pressure(celsius: float) -> float:
    """Of water, in bar (Magnus)."""
    return 0.006112 * math.exp(17.62 * celsius / (243.12 + celsius))


def head_loss(sigma: float) -> float:
    """Share of the head lost to cavitation at NPSHa/NPSHr = `sigma`; 3 % at 1 by definition."""
    return min(0.7, 0.03 * math.exp((1.0 - sigma) / 0.075)) if sigma < 1.7 else 0.0


class Pump:
    """The pump set: state, and what follows from it after each `step`."""

    __slots__ = (
        "acceleration", "agitation", "bearing", "crest", "current", "discharge_pressure", "energy", "flow",
        "frame", "hours", "leaking", "level", "load", "parameters", "power", "seal", "sigma", "speed",
        "starts", "suction_pressure", "vibration", "winding",
    )  # fmt: skip

    def __init__(self, ambient: float = 25.0) -> None:
        self.parameters = PumpParameters()
        self.winding = self.frame = self.bearing = self.seal = ambient
        self.level = 85.0
        self.energy = self.hours = 0.0
        self.starts = 0
        self.speed = self.flow = self.power = self.current = self.load = 0.0
        self.suction_pressure = self.discharge_pressure = 0.0
        self.vibration = self.acceleration = 0.0
        self.crest = 3.5
        self.sigma = 9.9
        self.agitation = 1.0
        self.leaking = False

    def step(self, dt: float, inputs: PumpInputs) -> None:
        """Move everything `dt` seconds on under constant inputs."""
        if self.speed == 0.0 and inputs.speed > 0.0:
            self.starts += 1
        # The inverter ramps at 5 % a second.
        ramp = 0.05 * dt
        accelerating = inputs.speed - self.speed > ramp
        self.speed += max(-ramp, min(ramp, inputs.speed - self.speed))
        self._hydraulics(inputs)
        self._electrics(accelerating)
        self._warm(dt, inputs)
        self._vibrate()
        self._seal_pot(dt)
        self.energy += self.power * dt / 3600.0
        if self.speed > 0.0:
            self.hours += dt / 3600.0

    def _hydraulics(self, inputs: PumpInputs) -> None:
        p = self.parameters
        s = self.speed
        self.sigma = 9.9
        self.agitation = 1.0
        shut_off = _SHUT_OFF_HEAD * p.impeller * s * s
        # Healthy suction loss and static heights are part of the system curve; only what is extra counts.
        resistance = (
            _PUMP_SLOPE + _SYSTEM_SLOPE * inputs.valve * p.discharge + _SUCTION_SLOPE * (p.strainer - 1.0)
        )
        square = (shut_off - _STATIC_HEAD) / resistance
        if square <= 0.0:
            self.flow = 0.0
            # The check valve is shut; the gauge sees the casing alone.
            self.suction_pressure = p.suction_level * _BAR_PER_METRE
            self.discharge_pressure = self.suction_pressure + shut_off * _BAR_PER_METRE
            return
        loss = 0.0
        sigma = self._sigma(square, inputs.liquid)
        if sigma < 1.6:
            loss = self._cavitating_loss(shut_off, resistance, inputs.liquid)
            square = max(0.0, (shut_off * (1.0 - loss) - _STATIC_HEAD) / resistance)
            sigma = self._sigma(square, inputs.liquid)
            self.agitation = 1.0 + 8.0 * self._bubbles(sigma)
        self.sigma = sigma
        self.flow = math.sqrt(square)
        head = shut_off * (1.0 - loss) - _PUMP_SLOPE * square
        suction = p.suction_level - _SUCTION_SLOPE * p.strainer * square
        self.suction_pressure = max(suction * _BAR_PER_METRE, vapour_pressure(inputs.liquid) - _ATMOSPHERE)
        self.discharge_pressure = self.suction_pressure + head * _BAR_PER_METRE

    def _sigma(self, square: float, liquid: float) -> float:
        """NPSHa/NPSHr at a flow whose square is given."""
        p = self.parameters
        available = (
            (_ATMOSPHERE - vapour_pressure(liquid)) / _BAR_PER_METRE
            + p.suction_level
            - _SUCTION_SLOPE * p.strainer * square
        )
        required = 2.8 * (0.4 * self.speed * self.speed + 0.6 * square / 3600.0)
        return max(0.0, available) / required

    def _cavitating_loss(self, shut_off: float, resistance: float, liquid: float) -> float:
        """The head loss that agrees with the flow it leaves: a falling function, so bisection finds it."""
        low, high = 0.0, 0.7
        for _ in range(18):
            loss = 0.5 * (low + high)
            square = max(0.0, (shut_off * (1.0 - loss) - _STATIC_HEAD) / resistance)
            if head_loss(self._sigma(square, liquid)) > loss:
                low = loss
            else:
                high = loss
        return 0.5 * (low + high)

    @staticmethod
    def _bubbles(sigma: float) -> float:
        """Violence of the cavitation, 0 to 1: worst near 1.07, lower when it is fully developed."""
        bell = math.exp(-(((sigma - _CAVITATION_PEAK) / 0.185) ** 2))
        return max(bell, 0.35) if sigma < 1.0 else bell

    def _electrics(self, accelerating: bool) -> None:
        s = self.speed
        if s < 0.02:
            self.power = self.current = self.load = 0.0
            return
        p = self.parameters
        shaft = s**3 * (6.2 + 0.085 * (self.flow + p.recirculation) / s)
        shaft += 0.001 * self._friction() - 0.001 * _BEARING_FRICTION * s
        if self.sigma < 1.6:
            # Vapour in the impeller moves less: current falls with the head.
            shaft *= 1.0 - 0.8 * head_loss(self.sigma)
        self.load = shaft / (15.0 * s)
        self.power = shaft + 0.45 + 1.03 * self.load**2
        self.current = math.hypot(_NO_LOAD_CURRENT, self.power / s / _SQRT3_400V)
        if accelerating:
            self.current *= 1.35

    def _friction(self) -> float:
        """W in the drive-end bearing."""
        p = self.parameters
        return _BEARING_FRICTION * self.speed * (1.0 + 4.0 * p.bearing_damage**3) * p.bearing_friction

    def _warm(self, dt: float, inputs: PumpInputs) -> None:
        s = self.speed
        copper = 1030.0 * self.load**2
        total = copper + 450.0 if self.power > 0.0 else 0.0
        frame = inputs.ambient + _FRAME_RESISTANCE * self.parameters.cooling / (0.3 + 0.7 * s) * total
        before = self.frame
        self.frame = frame + (before - frame) * math.exp(-dt / _FRAME_TAU)
        middle = 0.5 * (before + self.frame)
        winding = middle + _WINDING_RESISTANCE * copper
        self.winding = winding + (self.winding - winding) * math.exp(-dt / _WINDING_TAU)
        bearing = (self._friction() + middle / _BEARING_TO_FRAME + inputs.ambient / _BEARING_TO_AIR) / (
            1.0 / _BEARING_TO_FRAME + 1.0 / _BEARING_TO_AIR
        )
        self.bearing = bearing + (self.bearing - bearing) * math.exp(-dt / _BEARING_TAU)
        # A seal without barrier liquid runs dry and hot.
        dry = max(0.0, 1.0 - self.level / 30.0)
        seal = inputs.liquid + (12.0 * s + 22.0 * dry * s if s else 0.3 * (inputs.ambient - inputs.liquid))
        self.seal = seal + (self.seal - seal) * math.exp(-dt / _SEAL_TAU)

    def _vibrate(self) -> None:
        s = self.speed
        if s == 0.0:
            self.vibration = self.acceleration = 0.0
            self.crest = 3.0
            return
        p = self.parameters
        damage = p.bearing_damage
        resonance = 1.0 + 1.4 * math.exp(-(((s - _RESONANCE) / _RESONANCE_WIDTH) ** 2))
        unbalance = 1.3 * s * s * p.unbalance * resonance
        hydraulic = 2.2 * abs(self.flow / (RATED_FLOW * s) - 1.0) * s
        cavitation = boiling = 0.0
        if self.sigma < 1.6:
            cavitation = 2.6 / (1.0 + math.exp((self.sigma - 1.098) / 0.0423))
            boiling = 3.95 * self._bubbles(self.sigma)
        self.vibration = math.sqrt(unbalance**2 + hydraulic**2 + (7.0 * damage * damage) ** 2 + cavitation**2)
        grown = 1.0 + 12.0 * damage**0.6 if damage > 0.0 else 1.0
        self.acceleration = 0.5 * s * s * grown * p.bearing_grease + boiling
        # Single pits ring out of the noise first; when the whole race is rough the crest is low again.
        pitting = math.sqrt(damage / 0.12)
        self.crest = 3.5 + 3.6 * pitting * math.exp(1.0 - pitting)

    def _seal_pot(self, dt: float) -> None:
        self.level = max(0.0, self.level - self.parameters.seal_leak * dt / 3600.0 / _SEAL_POT * 100.0)
        self.leaking = self.parameters.seal_leak > 0.3
