"""The physics settle where field.md's tables say."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest

from edge_agent_simulators.press import Press, PressInputs
from edge_agent_simulators.pump import Pump, PumpInputs, head_loss


class PumpRow(NamedTuple):
    flow: float
    discharge: float
    suction: float
    power: float
    current: float
    winding: float
    bearing: float
    vibration: float
    acceleration: float


LIFT = {"suction_level": -2.5}
HEALTHY = PumpRow(60.0, 4.94, 0.05, 12.3, 20.9, 90, 54, 1.3, 0.5)
PUMP_TABLE: dict[str, tuple[dict[str, float], dict[str, float], PumpRow]] = {
    "healthy": ({}, {}, HEALTHY),
    "80 % speed": ({"speed": 0.8}, {}, PumpRow(43.5, 3.34, 0.07, 6.2, 15.7, 65, 48, 0.85, 0.32)),
    "throttled": ({"valve": 3.0}, {}, PumpRow(38.0, 5.68, 0.08, 10.3, 18.5, 76, 52, 1.5, 0.5)),
    "bearing 0.3": ({}, {"bearing_damage": 0.3}, PumpRow(60, 4.94, 0.05, 12.3, 20.9, 90, 56, 1.4, 3.4)),
    "bearing 0.7": ({}, {"bearing_damage": 0.7}, PumpRow(60, 4.94, 0.05, 12.4, 21.0, 91, 75, 3.7, 5.3)),
    "bearing 1": ({}, {"bearing_damage": 1.0}, PumpRow(60, 4.94, 0.05, 12.6, 21.3, 92, 115, 7.1, 6.5)),
    "strainer x4": ({}, {"strainer": 4}, PumpRow(59.1, 4.84, -0.09, 12.25, 20.8, 89, 54, 1.3, 0.5)),
    "strainer x10": ({}, {"strainer": 10}, PumpRow(57.3, 4.65, -0.35, 12.1, 20.6, 88, 54, 1.3, 0.5)),
    "strainer x16": ({}, {"strainer": 16}, PumpRow(55.7, 4.48, -0.58, 11.9, 20.4, 87, 54, 1.3, 0.5)),
    "lift x6": ({}, {**LIFT, "strainer": 6}, PumpRow(58.5, 4.43, -0.52, 12.2, 20.8, 89, 54, 1.3, 0.5)),
    "lift x9": ({}, {**LIFT, "strainer": 9}, PumpRow(57.6, 4.33, -0.65, 12.1, 20.6, 88, 54, 1.3, 1.4)),
    "lift x11": ({}, {**LIFT, "strainer": 11}, PumpRow(56.5, 4.21, -0.72, 11.9, 20.4, 86, 54, 2.4, 4.4)),
    "lift x12": ({}, {**LIFT, "strainer": 12}, PumpRow(55.4, 4.10, -0.74, 11.6, 20.1, 85, 54, 2.8, 3.5)),
    "wear ring": (
        {},
        {"impeller": 0.9, "recirculation": 4.0},
        PumpRow(55.9, 4.49, 0.05, 12.3, 20.9, 90, 54, 1.3, 0.5),
    ),
    "cooling x2": ({}, {"cooling": 2.0}, HEALTHY._replace(winding=131, bearing=69)),
    "cooling x3": ({}, {"cooling": 3.0}, HEALTHY._replace(winding=173, bearing=83)),
    "hot hall": ({"ambient": 38.0}, {}, HEALTHY._replace(winding=103, bearing=67)),
}


def settled_pump(inputs: dict[str, float], parameters: dict[str, float], dt: float = 60.0) -> PumpRow:
    pump = Pump()
    for name, value in parameters.items():
        setattr(pump.parameters, name, value)
    asked = PumpInputs(**inputs)
    for _ in range(int(8 * 3600 / dt)):
        pump.step(dt, asked)
    return PumpRow(
        pump.flow, pump.discharge_pressure, pump.suction_pressure, pump.power, pump.current, pump.winding,
        pump.bearing, pump.vibration, pump.acceleration,
    )  # fmt: skip


@pytest.mark.parametrize("case", PUMP_TABLE)
def test_pump_steady_state(case: str) -> None:
    """Every row of the pump's table is met within 4 % (pressures within 0.02 bar, currents within 1 %)."""
    inputs, parameters, expected = PUMP_TABLE[case]
    found = settled_pump(inputs, parameters)
    assert found.flow == pytest.approx(expected.flow, rel=0.005)
    assert found.discharge == pytest.approx(expected.discharge, abs=0.02)
    assert found.suction == pytest.approx(expected.suction, abs=0.02)
    assert found.power == pytest.approx(expected.power, rel=0.01)
    assert found.current == pytest.approx(expected.current, rel=0.01)
    assert found.winding == pytest.approx(expected.winding, rel=0.02)
    assert found.bearing == pytest.approx(expected.bearing, rel=0.03)
    assert found.vibration == pytest.approx(expected.vibration, rel=0.04, abs=0.03)
    assert found.acceleration == pytest.approx(expected.acceleration, rel=0.05, abs=0.03)


def test_pump_does_not_depend_on_the_step() -> None:
    """A second and a minute a step end in the same steady state."""
    for small, large in zip(settled_pump({}, {}, 5.0), settled_pump({}, {}, 60.0), strict=True):
        assert small == pytest.approx(large, rel=1e-3)


def test_pump_warms_up_alike_at_any_step() -> None:
    """Half an hour after a cold start the temperatures agree within 1.5 K between 1 s and 60 s steps."""
    fine, coarse = Pump(), Pump()
    for _ in range(1800):
        fine.step(1.0, PumpInputs())
    for _ in range(30):
        coarse.step(60.0, PumpInputs())
    assert fine.winding == pytest.approx(coarse.winding, abs=1.5)
    assert fine.bearing == pytest.approx(coarse.bearing, abs=1.0)
    assert fine.energy == pytest.approx(coarse.energy, rel=0.02)


def test_pump_at_rest() -> None:
    """A pump that stands still draws nothing, moves nothing and cools down to the hall."""
    pump = Pump(60.0)
    for _ in range(24 * 60):
        pump.step(60.0, PumpInputs(speed=0.0, ambient=20.0))
    assert (pump.flow, pump.current, pump.power, pump.vibration) == (0.0, 0.0, 0.0, 0.0)
    assert pump.winding == pytest.approx(20.0, abs=0.1)


def test_head_loss_is_three_percent_by_definition() -> None:
    """At NPSHa = NPSHr the head has dropped 3 %, and without shortage nothing."""
    assert head_loss(1.0) == pytest.approx(0.03)
    assert head_loss(2.0) == 0.0


def test_resonance_lies_between_the_speeds_in_use() -> None:
    """At 90 % speed the vibration is far above that at 100 %: a naive model alarms there."""
    assert settled_pump({"speed": 0.9}, {}).vibration > 1.7 * settled_pump({"speed": 0.8}, {}).vibration


class PressRow(NamedTuple):
    oil: float
    filter_dp: float
    active: float
    decay: float
    power: float


PRESS_TABLE: dict[str, tuple[float, float, dict[str, float], dict[str, float], PressRow]] = {
    "healthy": (43, 10, {}, {}, PressRow(43, 0.36, 16.7, 0.9, 4.5)),
    "cold start": (5, 0.02, {}, {}, PressRow(5.5, 1.2, 16.6, 0.4, 4.5)),
    "filter x5": (43, 10, {}, {"filter": 5}, PressRow(43, 1.8, 16.7, 0.9, 4.5)),
    "filter x5 at 20 °C": (20, 0.02, {}, {"filter": 5}, PressRow(20.3, 3.8, 16.6, 0.56, 4.5)),
    "cooler 30 %": (43, 6, {}, {"cooler": 0.3}, PressRow(72, 0.14, 16.9, 1.6, 4.6)),
    "cooler 3 %": (43, 4, {}, {"cooler": 0.03}, PressRow(104, 0.05, 17.3, 3.4, 4.8)),
    "leakage x3": (43, 10, {}, {"leakage": 3}, PressRow(44, 0.35, 17.1, 0.9, 4.7)),
    "leakage x6": (43, 10, {}, {"leakage": 6}, PressRow(45, 0.32, 17.9, 0.95, 5.1)),
    "piston seal": (43, 10, {}, {"piston_bypass": 1}, PressRow(43, 0.36, 16.7, 22, 4.6)),
    "hall 35 °C": (43, 10, {"ambient": 35.0}, {}, PressRow(58, 0.22, 16.8, 1.2, 4.6)),
}


@pytest.mark.parametrize("case", PRESS_TABLE)
def test_press_steady_state(case: str) -> None:
    """Every row of the press's table is met within 4 % of the oil's rise, the times within 0.5 %."""
    start, hours, inputs, parameters, expected = PRESS_TABLE[case]
    press = Press(start)
    for name, value in parameters.items():
        setattr(press.parameters, name, value)
    asked = PressInputs(**inputs)  # type: ignore[arg-type] # all of them are numbers
    for _ in range(max(1, round(hours * 60))):
        press.step(60.0, asked)
    assert press.oil == pytest.approx(expected.oil, rel=0.04)
    assert press.filter_dp == pytest.approx(expected.filter_dp, rel=0.09, abs=0.012)
    assert press.last.active == pytest.approx(expected.active, rel=0.006)
    assert press.last.decay == pytest.approx(expected.decay, rel=0.07, abs=0.05)
    assert press.last.power == pytest.approx(expected.power, rel=0.025)


def test_press_counts_the_same_strokes_at_any_step() -> None:
    """An hour of 30 s cycles is 120 parts, in steps of 0.2 s as in steps of a minute."""
    for dt in (0.2, 60.0):
        press = Press(43.0)
        for _ in range(round(3600 / dt)):
            press.step(dt, PressInputs())
        assert press.parts == pytest.approx(120, abs=1)


def test_press_goes_through_its_phases() -> None:
    """Within a cycle the pressure rises to its peak, is held while it decays, and the ram returns."""
    press = Press(43.0)
    seen: list[tuple[float, float]] = []
    for _ in range(300):
        press.step(0.1, PressInputs())
        seen.append((press.pressure, press.position))
    pressures = [pressure for pressure, _ in seen]
    assert max(pressures) == pytest.approx(180.0, abs=3.0)
    assert sum(178.0 < pressure <= 180.0 for pressure in pressures) == pytest.approx(80, abs=5)
    assert max(position for _, position in seen) == pytest.approx(250.0)
    assert pressures[-1] == 10.0


def test_press_switched_off_is_cold_and_quiet() -> None:
    """Without power the oil cools to the hall with the walls alone, and nothing flows."""
    press = Press(60.0)
    hours = 5
    for _ in range(hours * 60):
        press.step(60.0, PressInputs(ambient=20.0, powered=False))
    assert press.oil == pytest.approx(20 + 40 * math.exp(-hours * 3600 * 25 / 413_000), abs=0.1)
    assert (press.flow, press.power, press.pressure) == (0.0, 0.0, 0.0)


def test_steps_are_cheap() -> None:
    """A step of either machine's physics takes far less than 100 µs (measured about 6)."""
    import time

    machines: list[tuple[Any, Any]] = [(Pump(), PumpInputs()), (Press(), PressInputs())]
    for machine, inputs in machines:
        begun = time.process_time()
        for _ in range(2000):
            machine.step(60.0, inputs)
        assert (time.process_time() - begun) / 2000 < 100e-6
