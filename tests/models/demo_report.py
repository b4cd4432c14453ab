"""Plays the bundled `demo` scenario to the detector, without servers: for a test and for the model card.

python -m tests.models.demo_report --seeds 16
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.contracts.plugs import Column
from edge_agent.contracts.settings import HealthSettings
from edge_agent.types import HealthState, Score
from edge_agent_models.ensemble import EnsembleDetector
from edge_agent_simulators.scenario import rows

DAY = 86_400 * 1_000_000_000
STEP = 840.0
MACHINES: dict[str, dict[str, Any]] = {
    "pump-1": {
        "tags": [
            "flow", "suction_pressure", "discharge_pressure", "motor_current", "motor_power",
            "motor_temperature", "bearing_temperature", "bearing_vibration", "bearing_acceleration",
            "bearing_crest", "seal_temperature",
        ],
        "context": ["speed", "valve_position", "liquid_temperature", "ambient_temperature"],
        "running_when": "running",
        "learn": "4d",
    },
    "press-2": {
        "tags": [
            "oil_temperature", "filter_dp", "case_drain_flow", "tank_level", "cycle_time", "approach_time",
            "press_time", "peak_pressure", "hold_decay", "cycle_power",
        ],
        "context": ["ambient_temperature", "pressure_setpoint"],
        "running_when": "cycling",
        "learn": "3d",
    },
}  # fmt: skip
"""The `health:` settings that were tested; `running_when` is the name of a state tag here."""


@dataclass(frozen=True)
class Outcome:
    """Scores of every machine over the scenario."""

    start: int
    scores: dict[str, list[Score]]

    def lasting(self, machine: str) -> list[float]:
        """Days at which an alert would be open: anomalous for the third row running."""
        scores = self.scores[machine]
        states = [score.state is HealthState.ANOMALOUS for score in scores]
        days = [(score.time - self.start) / DAY for score in scores]
        return [days[i] for i in range(2, len(states)) if all(states[i - 2 : i + 1])]


def play(seed: int, step: float = STEP) -> Outcome:
    """The demo with one seed, a row every `step` seconds."""
    told = list(rows("demo", seed=seed, step_seconds=step))
    times = np.array([time for time, _ in told], dtype=np.int64)
    scores = {}
    for name, asked in MACHINES.items():
        health = HealthSettings.model_validate(asked)
        names = [*asked["tags"], *asked["context"]]
        table = [[_number(machines[name][tag]) for tag in names] for _, machines in told]
        running = np.array(
            [bool(machines[name][asked["running_when"]]) for _, machines in told], dtype=np.int8
        )
        columns = [Column(tag, context=tag in asked["context"]) for tag in names]
        scores[name] = EnsembleDetector(columns, health).update(times, np.array(table), running)
    return Outcome(int(times[0]), scores)


def _number(reading: object) -> float:
    return float(reading) if isinstance(reading, int | float) else float("nan")


def main() -> None:
    """Print a line per seed and machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--step", type=float, default=STEP)
    asked = parser.parse_args()
    for seed in range(1, asked.seeds + 1):
        outcome = play(seed, asked.step)
        for name, scores in outcome.scores.items():
            days = outcome.lasting(name)
            first = next((s for s in scores if days and (s.time - outcome.start) / DAY >= days[0]), None)
            tag = next(iter(first.contributions)) if first else "-"
            faults = {f"{tag} {what}" for s in scores for tag, what in s.faults.items()}
            healthy = [s.value for s in scores if (s.time - outcome.start) / DAY < 9 and s.value == s.value]
            when = f"anomalous from day {days[0]:.2f}, {tag} first" if days else "never anomalous"
            print(
                f"seed {seed:2} {name:8} {when}; highest before day 9: {max(healthy):.2f}; {sorted(faults)}"
            )


if __name__ == "__main__":
    main()
