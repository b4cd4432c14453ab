"""A trained model of remaining life: prediction with numpy alone, and the file it is kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.modelfile import read_model, write_model
from edge_agent_models.rul.features import LARGEST_WINDOW, LEAST_WINDOW, Floats, features, width
from edge_agent_models.rul.interval import Interval
from edge_agent_models.rul.lives import Lives
from edge_agent_models.rul.trees import Trees

KIND = "rul"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is left of a unit at its last row, in the unit of the time column; 90 % lie in low to high."""

    unit: str
    rul: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RulModel:
    """Trees over features of a unit's life so far, with an interval."""

    tags: tuple[str, ...]
    window: int
    cap: float
    """More is never predicted; early in life nothing tells how much more there is."""
    trees: Trees
    interval: Interval

    def at_each_row(self, rows: Floats) -> Floats:
        """What is left at each of one unit's rows, in order of time; columns as in `tags`."""
        return np.clip(self.trees.predict(features(rows, self.window)), 0.0, self.cap)

    def predict(self, lives: Lives) -> list[Prediction]:
        """What is left of every unit at its last row. ModelError where a tag is missing."""
        found = []
        for unit, _times, rows in lives.only(self.tags).each():
            last = np.clip(self.trees.predict(features(rows, self.window)[-1:]), 0.0, self.cap)
            low, high = self.interval.around(last)
            found.append(Prediction(unit, float(last[0]), float(low[0]), float(high[0])))
        return found

    def save(self, path: Path, manifest: Mapping[str, Any]) -> None:
        """Write the model; `manifest` says how it was trained, for people. OSError where that fails."""
        about = {
            "kind": KIND,
            "schema": SCHEMA,
            "tags": list(self.tags),
            "window": self.window,
            "cap": self.cap,
        }
        write_model(path, {**self.trees.arrays(), **self.interval.arrays()}, {**about, **manifest})

    @classmethod
    def load(cls, path: Path) -> RulModel:
        """The model in a file. ModelError with the reason where it cannot be used."""
        arrays, manifest = read_model(path, KIND, SCHEMA)
        try:
            tags, window, cap = manifest["tags"], manifest["window"], manifest["cap"]
            if not (isinstance(tags, list) and tags and all(isinstance(tag, str) for tag in tags)):
                raise ModelError("its tags are no list of names")
            if not (isinstance(window, int) and LEAST_WINDOW <= window <= LARGEST_WINDOW and float(cap) > 0):
                raise ModelError("its window or its cap is impossible")
            trees = Trees.of(arrays, width(len(tags)))
            return cls(tuple(tags), window, float(cap), trees, Interval.of(arrays))
        except (ModelError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} cannot be used: {error}") from error
