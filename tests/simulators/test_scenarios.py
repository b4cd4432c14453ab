"""Scenarios: they load, repeat, tell the truth, and their faults move what they should and nothing else."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import parse_iso
from edge_agent.errors import ConfigError
from edge_agent_simulators.instruments import Reading
from edge_agent_simulators.machine import Incident
from edge_agent_simulators.plant import DAY, HOUR
from edge_agent_simulators.scenario import Plant, Scenario, grid_step, load_scenario, rows, scenario_names

START = parse_iso("2026-03-02T00:00:00Z")


def scenario(model: str, faults: list[dict[str, Any]], **machine: Any) -> Scenario:
    serve = "modbus" if model == "pump" else "opcua"
    settings = {"model": model, "serve": serve, "calendar": "always", "faults": faults, **machine}
    return Scenario.model_validate({"about": "test", "machines": {"m": settings}})


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_loads_and_runs(name: str) -> None:
    """Each bundled scenario gives finite numbers for every tag from its first row."""
    chosen = load_scenario(name)
    for _, machines in rows(name, step_seconds=3600, days=0.5):
        assert set(machines) == set(chosen.machines)
        for values in machines.values():
            assert all(value is not None and value == value for value in values.values())


def test_every_fault_has_a_scenario() -> None:
    """For each kind of fault of each model there is a bundled scenario that shows it."""
    shown = {
        (machine.model, fault.kind)
        for name in scenario_names()
        for machine in load_scenario(name).machines.values()
        for fault in machine.faults
    }
    from edge_agent_simulators.faults import PRESS_LAWS, PUMP_LAWS, SENSOR_FAULTS

    assert {("pump", kind) for kind in (*PUMP_LAWS, *SENSOR_FAULTS)} <= shown
    assert {("press", kind) for kind in PRESS_LAWS} <= shown


def test_same_seed_same_values() -> None:
    """Two runs of one seed are equal to the last bit, and another seed is different."""
    first, second, other = (list(rows("demo", seed, 3600, 2)) for seed in (7, 7, 8))
    assert first == second
    assert first != other


def test_values_do_not_depend_on_how_often_one_looks() -> None:
    """A plant moved in jumps shows the same at an instant as one moved grid point by grid point."""
    chosen = load_scenario("demo")
    steady, jumpy = Plant(chosen, 3), Plant(chosen, 3)
    for minute in range(1, 601):
        steady.advance(minute * 60.0)
    for t in (17.0, 59.9, 4000.0, 4001.0, 35_999.0, 36_000.0):
        jumpy.advance(t)
    assert [machine.values for machine in steady.machines] == [machine.values for machine in jumpy.machines]


def test_grid_is_fine_in_real_time_and_capped_at_a_minute() -> None:
    """Real time is integrated at 0.2 s; the demo's speed at no more than a minute."""
    assert grid_step(1.0) == 0.2
    assert grid_step(43_200.0) == 60.0


def test_demo_tells_the_truth() -> None:
    """The demo's pump bearing begins to wear on day 9 and seizes on day 19.5; a press sensor sticks."""
    plant = Plant(load_scenario("demo"), 1)
    told: list[Incident] = []
    plant.watch(told.append)
    plant.advance(20 * DAY)
    assert [(i.machine, i.fault, i.event) for i in told] == [
        ("pump-1", "bearing_wear", "onset"),
        ("press-2", "sensor_stuck", "onset"),
        ("pump-1", "bearing_wear", "breakdown"),
    ]
    assert [i.t / DAY for i in told] == pytest.approx([9.0, 11.4, 19.5])
    pump, press = plant.machines
    assert told[0].tags == (
        "bearing_acceleration", "bearing_crest", "bearing_vibration", "bearing_temperature",
    )  # fmt: skip
    assert pump.reading("tripped") is True
    assert pump.reading("running") is False
    assert press.reading("tripped") is False


def test_demo_has_a_hot_monday_the_press_survives() -> None:
    """On day 14 the hall passes 35 °C and the oil is 12 K hotter than on the Monday before."""
    hot, mild = [0.0], [0.0]
    hall = [0.0]
    for time_ns, machines in rows("demo", 1, 1800, 15):
        day, hour = divmod((time_ns - START) / 1e9 / HOUR, 24)
        press = machines["press-2"]
        oil, ambient = press["oil_temperature"], press["ambient_temperature"]
        assert isinstance(oil, float)
        assert isinstance(ambient, float)
        if 13 <= hour < 18 and day == 14:
            hot.append(oil)
            hall.append(ambient)
        if 13 <= hour < 18 and day == 7:
            mild.append(oil)
    assert 35.0 < max(hall) < 38.0
    assert max(hot) > max(mild) + 10.0
    assert max(hot) < 65.0


def mean_of_last(
    chosen: Scenario, until: float, tags: tuple[str, ...], hours: float = 3.0
) -> dict[str, float]:
    plant = Plant(chosen, 5)
    plant.advance(until - hours * HOUR)
    seen: dict[str, list[float]] = {tag: [] for tag in tags}
    while plant.t < until:
        plant.advance(plant.t + 120.0)
        for tag in tags:
            value = plant.machines[0].reading(tag)
            assert isinstance(value, int | float), tag
            seen[tag].append(float(value))
    return {tag: statistics.fmean(values) for tag, values in seen.items()}


# fault -> how far along one looks, tags that must move (factor or difference sign), tags that must not
PUMP_SIGNATURES: dict[str, tuple[float, dict[str, float], tuple[str, ...]]] = {
    "bearing_wear": (
        0.97,
        {
            "bearing_acceleration": 3.0,
            "bearing_vibration": 1.0,
            "bearing_temperature": 10.0,
            "bearing_crest": 1.2,
        },
        ("flow", "discharge_pressure", "suction_pressure", "seal_level", "motor_current"),
    ),
    "clogged_strainer": (
        0.9,
        {"suction_pressure": -0.25, "flow": -2.0, "discharge_pressure": -0.2, "motor_current": -0.2},
        ("bearing_temperature", "seal_level", "speed"),
    ),
    "cooling_loss": (
        0.7,
        {"motor_temperature": 25.0, "bearing_temperature": 8.0},
        ("flow", "motor_current", "bearing_vibration", "bearing_acceleration", "seal_temperature"),
    ),
    "seal_leak": (
        0.5,
        {"seal_level": -5.0},
        ("motor_current", "bearing_vibration", "bearing_acceleration", "motor_temperature"),
    ),
    "pump_wear": (
        0.8,
        {"flow": -3.0, "discharge_pressure": -0.3},
        ("bearing_acceleration", "bearing_temperature", "suction_pressure", "seal_level"),
    ),
}
PRESS_SIGNATURES: dict[str, tuple[float, dict[str, float], tuple[str, ...]]] = {
    "clogged_filter": (
        0.8,
        {"filter_dp": 1.0},
        ("oil_temperature", "hold_decay", "case_drain_flow", "cycle_time", "tank_level"),
    ),
    "cooling_loss": (
        0.8,
        {"oil_temperature": 10.0, "hold_decay": 0.3, "filter_dp": -0.08, "case_drain_flow": 0.25},
        ("ambient_temperature", "peak_pressure"),
    ),
    "seal_leak": (
        0.7,
        {"hold_decay": 5.0},
        ("case_drain_flow", "filter_dp", "cycle_time", "peak_pressure", "oil_temperature"),
    ),
    "pump_wear": (
        0.8,
        {"case_drain_flow": 2.0, "press_time": 0.3, "cycle_time": 0.3, "cycle_power": 0.15},
        ("peak_pressure", "ambient_temperature"),
    ),
}
SIGNATURES = [
    pytest.param(model, kind, *row, id=f"{model}-{kind}")
    for model, table in (("pump", PUMP_SIGNATURES), ("press", PRESS_SIGNATURES))
    for kind, row in table.items()
]


@pytest.mark.parametrize(("model", "kind", "along", "moved", "still"), SIGNATURES)
def test_fault_signature(
    model: str, kind: str, along: float, moved: dict[str, float], still: tuple[str, ...]
) -> None:
    """A fault moves its tags in the right direction and far enough, and leaves the others where they were."""
    fault = {"kind": kind, "onset": "4h", "breakdown": "52h"}
    until = (4 + 48 * along) * HOUR
    tags = (*moved, *still)
    sick = mean_of_last(scenario(model, [fault]), until, tags)
    well = mean_of_last(scenario(model, []), until, tags)
    for tag, least in moved.items():
        difference = sick[tag] - well[tag]
        assert difference * least > 0, f"{tag} went the wrong way: {difference:.3f}"
        assert abs(difference) >= abs(least), f"{tag} moved only {difference:.3f}"
    for tag in still:
        assert sick[tag] == pytest.approx(well[tag], rel=0.02, abs=0.03), tag


def test_cavitation_agitates_and_lowers_suction() -> None:
    """On suction lift a sinking well lowers the suction pressure, makes flow restless and the pump loud."""

    def seen(faults: list[dict[str, Any]]) -> tuple[list[float], list[float], list[float]]:
        plant = Plant(scenario("pump", faults, settings={"suction_level": -2.5}), 5)
        taken: tuple[list[float], list[float], list[float]] = ([], [], [])
        plant.advance(24 * HOUR)
        while plant.t < 40 * HOUR:
            plant.advance(plant.t + 60.0)
            for values, tag in zip(taken, ("suction_pressure", "bearing_acceleration", "flow"), strict=True):
                value = plant.machines[0].reading(tag)
                assert isinstance(value, float)
                values.append(value)
        return taken

    fault = {"kind": "cavitation", "onset": "4h", "breakdown": "52h"}
    suction, loudness, flow = seen([fault])
    calm_suction, calm_loudness, calm_flow = seen([])
    jitter = [b - a for a, b in itertools.pairwise(flow)]
    calm_jitter = [b - a for a, b in itertools.pairwise(calm_flow)]
    assert min(suction) < min(calm_suction) - 0.2
    assert max(loudness) > 3.0 * max(calm_loudness)
    assert statistics.pstdev(jitter) > 1.5 * statistics.pstdev(calm_jitter)


BREAKDOWNS = [
    (model, kind)
    for model, table in (("pump", PUMP_SIGNATURES), ("press", PRESS_SIGNATURES))
    for kind in table
]


@pytest.mark.parametrize(("model", "kind"), [*BREAKDOWNS, ("pump", "cavitation")])
def test_every_machine_fault_ends_in_a_breakdown(model: str, kind: str) -> None:
    """The machine trips at the planned time or when its own protection is first, and stays stopped."""
    settings = {"suction_level": -2.5} if kind == "cavitation" else {}
    plant = Plant(scenario(model, [{"kind": kind, "onset": "4h", "breakdown": "52h"}], settings=settings), 2)
    told: list[Incident] = []
    plant.watch(told.append)
    plant.advance(60 * HOUR)
    assert [incident.event for incident in told] == ["onset", "breakdown"]
    assert told[0].t == pytest.approx(4 * HOUR, abs=60)
    assert 24 * HOUR < told[1].t <= 52 * HOUR + 60
    machine = plant.machines[0]
    assert machine.reading("tripped") is True
    assert machine.reading("running") is False
    assert machine.trip_reason


def test_sensor_faults_touch_one_tag_only() -> None:
    """A stuck, a drifting and a broken sensor change their own tag; the others read as without the fault."""
    faults: list[dict[str, Any]] = [
        {"kind": "sensor_stuck", "onset": "5h", "tag": "flow"},
        {"kind": "sensor_drift", "onset": "5h", "tag": "discharge_pressure", "rate": 0.5},
        {"kind": "sensor_failed", "onset": "5h", "tag": "seal_temperature"},
    ]
    sick, well = Plant(scenario("pump", faults), 4), Plant(scenario("pump", []), 4)
    shown: set[Reading] = set()
    for minute in range(5 * 60 + 1, 30 * 60):
        for plant in (sick, well):
            plant.advance(minute * 60.0)
        shown.add(sick.machines[0].reading("flow"))
    pairs = dict(
        zip(
            sick.machines[0].names,
            zip(sick.machines[0].values, well.machines[0].values, strict=True),
            strict=True,
        )
    )
    assert len(shown) == 1
    assert pairs["seal_temperature"][0] is None
    drifted, true = pairs["discharge_pressure"]
    assert isinstance(drifted, float)
    assert isinstance(true, float)
    assert drifted - true == pytest.approx(0.5, abs=0.03)
    for tag, (bent, straight) in pairs.items():
        if tag not in ("flow", "discharge_pressure", "seal_temperature"):
            assert bent == straight, tag


def test_healthy_month_does_not_trip() -> None:
    """Four healthy weeks, shifts, greasing, cleaning and refills included, bring no trip and no incident."""
    told: list[Incident] = []
    for name in ("pump", "press"):
        plant = Plant(load_scenario(name), 11)
        plant.watch(told.append)
        plant.advance(28 * DAY)
        assert plant.machines[0].tripped is False
    assert told == []


def test_relubrication_lowers_noise_and_warms_the_bearing() -> None:
    """For hours after greasing the high-frequency level is lower and the bearing 4 K or more warmer."""
    greased = 2 * DAY + 10 * HOUR

    def around(t: float) -> dict[str, float]:
        return mean_of_last(
            scenario("pump", [], products={"A": {"values": {"speed": 1.0, "valve": 80.0}}}),
            t,
            ("bearing_acceleration", "bearing_temperature"),
            1.0,
        )

    before, after = around(greased), around(greased + 2.0 * HOUR)
    assert after["bearing_acceleration"] < 0.9 * before["bearing_acceleration"]
    assert after["bearing_temperature"] > before["bearing_temperature"] + 4.0


def test_two_shift_press_stops_at_night_and_at_weekends() -> None:
    """The demo's press runs from 06 to 22 on working days, idles in breaks, and starts with cold oil."""
    oil: dict[float, float] = {}
    for time_ns, machines in rows("demo", 1, 900, 7):
        day, hour = divmod((time_ns - START) / 1e9 / HOUR, 24)
        press = machines["press-2"]
        assert press["running"] is (day < 5 and 6 <= hour < 22), (day, hour)
        if day < 5 and hour == 12.0:
            assert press["cycling"] is False
        value = press["oil_temperature"]
        assert isinstance(value, float)
        oil[day * 24 + hour] = value
    assert oil[24 + 6] < 32.0
    assert oil[24 + 14] > 40.0


def test_unknown_scenario_is_suggested() -> None:
    """A misspelt name says which one was probably meant."""
    with pytest.raises(ConfigError, match="did you mean 'demo'"):
        load_scenario("dmeo")


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        ("model: pump, serve: modbus, calendar: never", "no calendar 'never'"),
        ("model: pump, serve: modbus, colour: red", "colour"),
        ("[", "scenario own"),
        (
            "model: press, serve: opcua, faults: [{kind: bearing_wear, onset: 1h}]",
            "has no fault 'bearing_wear'",
        ),
        ("model: pump, serve: modbus, faults: [{kind: pump_wear, onset: 1h}]", "needs a `breakdown`"),
        ("model: pump, serve: modbus, faults: [{kind: sensor_stuck, onset: 1h}]", "needs `tag`"),
    ],
)
def test_a_scenario_of_ones_own_is_checked(tmp_path: Path, machine: str, message: str) -> None:
    """A scenario file of one's own is read, and what is wrong with it is said."""
    path = tmp_path / "own.yaml"
    path.write_text(f"about: x\nmachines: {{m: {{{machine}}}}}")
    with pytest.raises(ConfigError, match=message):
        Plant(load_scenario(str(path)), 1)


def test_a_missing_scenario_file_is_said(tmp_path: Path) -> None:
    """A scenario file that is not there is a configuration error."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_scenario(str(tmp_path / "none.yaml"))


def test_skipping_ahead_keeps_the_grid_fine() -> None:
    """An endless scenario joins the week that is running, quickly, and goes on in fine steps from there."""
    plant = Plant(load_scenario("pump"), 1, 0.2)
    plant.skip(3 * DAY + 30.0)
    assert plant.t == 3 * DAY
    plant.advance(3 * DAY + 30.0)
    assert plant.t == pytest.approx(3 * DAY + 30.0)
    assert plant.step == 0.2
