"""A small synthetic machine whose truth the tests know: load, heat, vibrations that go together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge_agent.contracts.plugs import Column
from edge_agent.contracts.settings import HealthSettings
from edge_agent.types import Score
from edge_agent_models.ensemble import EnsembleDetector

TAGS = ("vibration", "acceleration", "current", "winding", "bearing", "pressure")
COLUMNS = (*(Column(tag) for tag in TAGS), Column("load", context=True), Column("ambient", context=True))
START = 1_772_409_600_000_000_000


@dataclass(frozen=True)
class Rows:
    """What a detector is given."""

    times: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float64]
    running: npt.NDArray[np.int8]

    def part(self, start: int, end: int) -> Rows:
        """Rows from `start` up to `end`."""
        cut = slice(start, end)
        return Rows(self.times[cut], self.rows[cut], self.running[cut])

    def change(self, tag: str, values: npt.NDArray[np.float64], start: int) -> Rows:
        """The same with one tag's values replaced from row `start` on."""
        rows = self.rows.copy()
        rows[start:, COLUMN[tag]] = values
        return replace(self, rows=rows)

    def add(self, tag: str, amount: float | npt.NDArray[np.float64], start: int) -> Rows:
        """The same with something added to one tag from row `start` on."""
        return self.change(tag, self.rows[start:, COLUMN[tag]] + amount, start)


COLUMN = {column.name: index for index, column in enumerate(COLUMNS)}


def settings(**changes: object) -> HealthSettings:
    """Health settings as YAML would give them; learning ends only when a test says so."""
    return HealthSettings.model_validate({"learn": "9999d", **changes})


def machine(
    count: int, *, period: float = 60.0, seed: int = 1, ambient_peak: float = 0.0, cooling: float = 1.0
) -> Rows:
    """`count` rows `period` seconds apart of a machine that runs all the time.

    `ambient_peak` K are added to the hall in the last third, `cooling` multiplies the winding's rise there.
    """
    random = np.random.default_rng(seed)
    seconds = np.arange(count) * period
    load = 0.8 + 0.2 * np.round(0.5 + 0.5 * np.sin(seconds / 1_300.0 + seed))
    late = seconds > seconds[-1] * 2 / 3
    ambient = 22 + 3 * np.sin(seconds / 3_100.0) + ambient_peak * late + 0.05 * random.normal(size=count)
    heat, winding = 40 * load[0] ** 2, np.empty(count)
    gain = 1 - np.exp(-period / 2700.0)
    for index in range(count):
        heat += (40 * load[index] ** 2 * (cooling if late[index] else 1.0) - heat) * gain
        winding[index] = ambient[index] + heat
    shake = np.convolve(random.normal(size=count + 3), [0.5, 0.3, 0.2], "valid")[:count]
    noise = random.normal(size=(count, 6))
    vibration = 1.2 * load + 0.05 * shake + 0.03 * noise[:, 0]
    columns = [
        vibration,
        0.4 * load + 0.03 * shake + 0.02 * noise[:, 1],
        20 * load + 0.1 * noise[:, 2],
        winding + 0.15 * noise[:, 3],
        ambient + 12 * load + 0.15 * noise[:, 4],
        5 - load + 0.02 * noise[:, 5],
        load,
        ambient,
    ]
    times = START + (seconds * 1e9).astype(np.int64)
    return Rows(times, np.column_stack(columns), np.ones(count, dtype=np.int8))


def trained(rows: Rows, learn: int, **changes: object) -> tuple[EnsembleDetector, list[Score]]:
    """A detector that learned on the first `learn` rows, and the scores of the others."""
    detector = EnsembleDetector(COLUMNS, settings(**changes))
    feed(detector, rows.part(0, learn))
    detector.finish_learning()
    return detector, feed(detector, rows.part(learn, len(rows.times)))


def feed(detector: EnsembleDetector, rows: Rows) -> list[Score]:
    """Give all rows at once."""
    return detector.update(rows.times, rows.rows, rows.running)


def values(scores: list[Score]) -> npt.NDArray[np.float64]:
    """The ratios to the limit."""
    return np.array([score.value for score in scores])
