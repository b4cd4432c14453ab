"""Our simulated machines: weeks of healthy ones, and machines that break at random.

Each machine is a seed of its own: products, regimes, day and night, a hot day, starts. The detector gets the
context that an engineer would name; every other setting is the default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.backtest.judging import Machine, Outcome, backtest
from edge_agent.backtest.recording import Learn, Recording
from edge_agent.contracts.settings import HealthSettings
from edge_agent.types import Tag
from edge_agent_simulators.machine import Incident
from edge_agent_simulators.scenario import LONGEST_STEP, MODELS, Plant, Scenario

DAY = 86_400.0
LEARN_DAYS = 5.0
START = 1_772_409_600_000_000_000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Kind:
    """What an engineer would list for a kind of machine."""

    judged: tuple[str, ...]
    context: tuple[str, ...]
    running: str


KINDS = {
    "pump": Kind(
        ("flow", "suction_pressure", "discharge_pressure", "motor_current", "motor_power",
         "motor_temperature", "bearing_temperature", "bearing_vibration", "bearing_acceleration",
         "bearing_crest", "seal_temperature"),
        ("speed", "valve_position", "liquid_temperature", "ambient_temperature"),
        "running",
    ),
    "press": Kind(
        ("oil_temperature", "filter_dp", "case_drain_flow", "tank_level", "cycle_time", "approach_time",
         "press_time", "peak_pressure", "hold_decay", "cycle_power"),
        ("ambient_temperature", "pressure_setpoint"),
        "cycling",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Story:
    """One machine, and the fault that it gets, if any; days since the start."""

    kind: str
    seed: int
    days: float
    fault: str | None = None
    onset: float = 0.0
    breakdown: float = 0.0

    def scenario(self) -> Scenario:
        random = np.random.default_rng(self.seed)
        first = int(LEARN_DAYS) + 1
        hot = {"day": int(random.integers(first, max(first + 1, int(self.days)))), "peak": 34.0}
        machine: dict[str, Any] = {
            "model": self.kind, "serve": "modbus", "hot_days": [hot],
            "calendar": ("continuous", "three_shifts", "two_shifts")[int(random.integers(3))],
        }  # fmt: skip
        if self.fault is not None:
            machine["faults"] = [
                {"kind": self.fault, "onset": f"{self.onset:.3f}d", "breakdown": f"{self.breakdown:.3f}d"}
            ]
        return Scenario.model_validate({"about": "benchmark", "machines": {"m": machine}})


@dataclass(frozen=True)
class Played:
    """What became of a story; rows are those of the recording."""

    outcome: Outcome
    onset: int | None
    breakdown: int | None
    tags: tuple[str, ...]
    """The tags that the fault moves, as the truth log names them."""


def played(story: Story, step: float) -> Played:
    """The story through the backtest, learned on its first days; it ends with the breakdown."""
    kind = KINDS[story.kind]
    names = (*kind.judged, *kind.context, kind.running)
    parts = math.ceil(step / LONGEST_STEP)
    plant = Plant(story.scenario(), story.seed, step / parts)
    (machine,) = plant.machines
    incidents: dict[str, Incident] = {}

    def note(incident: Incident) -> None:
        incidents.setdefault(incident.event, incident)

    plant.watch(note)
    places = [machine.names.index(name) for name in names]
    count = int(story.days * DAY / step)
    table = np.full((count, len(names)), np.nan)
    for index in range(count):
        plant.advance(index * step)
        if "breakdown" in incidents:
            count = index
            break
        table[index] = [_number(machine.values[place]) for place in places]
    times = START + np.round(np.arange(count) * step * 1e9).astype(np.int64)
    stamps = [f"day {index * step / DAY:.2f}" for index in range(count)]
    columns = {name: table[:count, place] for place, name in enumerate(names)}
    recording = Recording(Path(f"{story.kind}-{story.seed}"), stamps, times, columns)
    health = HealthSettings(
        tags=list(kind.judged), context=list(kind.context), running_when=f"{kind.running} == 1"
    )
    asked = Machine(recording.path.name, None, health, [Tag(name) for name in names])
    onset, breakdown = incidents.get("onset"), incidents.get("breakdown")
    return Played(
        backtest(recording, Learn(seconds=LEARN_DAYS * DAY), asked),
        None if onset is None else round(onset.t / step),
        None if breakdown is None else round(breakdown.t / step),
        () if onset is None else onset.tags,
    )


def _number(reading: object) -> float:
    return float(reading) if isinstance(reading, int | float) else math.nan


def measure(_root: Path | None, say: Say) -> dict[str, Any] | None:
    """Both parts; they take a quarter of an hour on a quiet machine."""
    return {"healthy": healthy(say, 6, 4.0, 10.0), "faults": faults(say, 100, 60.0)}


def measure_some(_root: Path | None, say: Say) -> dict[str, Any] | None:
    """The same with few machines and a row a minute: a look, no evidence."""
    return {"healthy": healthy(say, 4, 2.0, 60.0), "faults": faults(say, 20, 60.0)}


def healthy(say: Say, machines: int, weeks: float, step: float) -> dict[str, Any]:
    """Alerts on machines that nothing is wrong with; what comes back within hours is one alert."""
    found, alerts = [], 0
    for number in range(1, machines + 1):
        story = Story(tuple(KINDS)[number % 2], 100 + number, 7 * weeks)
        outcome = played(story, step).outcome
        first = {opening.alert.occurrence: opening for opening in reversed(outcome.openings)}
        alerts += len(first)
        found.append({
            "kind": story.kind, "seed": story.seed, "alerts": len(first), "openings": len(outcome.openings),
            "messages": [opening.alert.message for _, opening in sorted(first.items())],
            "row_us": outcome.row_us,
        })  # fmt: skip
        say(f"healthy {story.kind} {story.seed}: {len(first)} alerts, opened {len(outcome.openings)} times")
    judged = machines * (weeks - LEARN_DAYS / 7)
    return {
        "machines": found, "step": step, "machine_weeks": judged, "alerts": alerts,
        "per_week": alerts / judged, "at_most_per_week": _at_most(alerts) / judged,
    }  # fmt: skip


def _at_most(count: int) -> float:
    """The highest mean that still gives so few events in one of twenty cases (Poisson, Wilson-Hilferty)."""
    more = count + 1
    return float(more * (1 - 1 / (9 * more) + 1.645 / (3 * more**0.5)) ** 3)


def faults(say: Say, number: int, step: float) -> dict[str, Any]:
    """Machines with one random fault each: kind, onset and how long it takes."""
    random = np.random.default_rng(7)
    found = []
    for seed in range(1000, 1000 + number):
        kind = tuple(KINDS)[seed % 2]
        laws = tuple(MODELS[kind].laws)
        onset = LEARN_DAYS + 0.5 + 3.5 * random.random()
        breakdown = onset + 1.0 + 7.0 * random.random()
        fault = laws[int(random.integers(len(laws)))]
        found.append(_judged(Story(kind, seed, breakdown + 2.0, fault, onset, breakdown), step))
        say(f"{kind} {seed} {fault}: {found[-1]['left']}")
    left = [one["left"] for one in found if one["left"] is not None]
    named = [one["named"] for one in found if one["left"] is not None]
    return {
        "faults": found, "step": step, "number": number, "alerted": len(left) / number,
        "median_left": float(np.median(left)) if left else 0.0,
        "named": float(np.mean(named)) if named else 0.0,
        "early": sum(one["early"] for one in found),
    }  # fmt: skip


def _judged(story: Story, step: float) -> dict[str, Any]:
    done = played(story, step)
    onset, end = done.onset or 0, done.breakdown or len(done.outcome.recording.times)
    openings = [opening for opening in done.outcome.openings if onset <= opening.raised < end]
    # An alert that opened before and is still open tells the technician nothing new.
    first = openings[0] if openings else None
    shares = first.alert.contributions if first else {}
    top = max(shares, key=lambda tag: shares[tag]) if shares else None
    return {
        "kind": story.kind, "seed": story.seed, "fault": story.fault,
        "left": None if first is None else round((end - first.raised) / (end - onset), 3),
        "top": top, "named": top in done.tags,
        "early": sum(opening.raised < onset for opening in done.outcome.openings),
    }  # fmt: skip


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result as text."""
    calm, broken = result["healthy"], result["faults"]
    yield (
        f"simulated, healthy: {calm['alerts']} alerts in {calm['machine_weeks']:.1f} machine-weeks of "
        f"{calm['step']:g} s rows: {calm['per_week']:.3f} a week, with 95 % at "
        f"most {calm['at_most_per_week']:.3f}"
    )
    for one in calm["machines"]:
        for message in one["messages"]:
            yield f"  {one['kind']} {one['seed']}: {message[:150]}"
    yield (
        f"simulated, {broken['number']} random faults: {broken['alerted']:.0%} alerted before the breakdown, "
        f"median {broken['median_left']:.0%} of the time left, {broken['early']} alerts before the onset; "
        f"top tag is one the fault moves: {broken['named']:.0%}"
    )
    for fault in sorted({(one["kind"], one["fault"]) for one in broken["faults"]}):
        mine = [one for one in broken["faults"] if (one["kind"], one["fault"]) == fault]
        left = [one["left"] for one in mine if one["left"] is not None]
        share = f"median left {np.median(left):.0%}" if left else "none in time"
        yield f"  {fault[0]:6} {fault[1]:18} {len(left)}/{len(mine)} alerted, {share}"
