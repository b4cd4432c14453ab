"""The lives of units, as one table: whose row it is, when it was, and what the tags said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_agent.errors import ModelError
from edge_agent_models.rul.features import Floats

LEAST_UNITS = 5


@dataclass(frozen=True, slots=True)
class Lives:
    """Rows of several units; `time` in whatever unit the answer is wanted in."""

    tags: tuple[str, ...]
    unit: npt.NDArray[np.str_]
    time: Floats
    rows: Floats
    """(n, tags), NaN where a value is missing."""

    def __post_init__(self) -> None:
        if not len(self.unit) == len(self.time) == len(self.rows):
            raise ModelError("units, times and rows are not equally many")
        if np.isnan(self.time).any():
            raise ModelError("a row has no time")

    @property
    def units(self) -> list[str]:
        """The units, in the order in which they first appear."""
        return list(dict.fromkeys(self.unit.tolist()))

    def each(self) -> Iterator[tuple[str, Floats, Floats]]:
        """Every unit with its times and rows, in order of time whatever the order in the file."""
        for unit in self.units:
            mine = np.flatnonzero(self.unit == unit)
            order = mine[np.argsort(self.time[mine], kind="stable")]
            yield unit, self.time[order], self.rows[order]

    def only(self, tags: Sequence[str]) -> Lives:
        """The same with these tags, in this order. ModelError that names the missing ones."""
        if missing := [tag for tag in tags if tag not in self.tags]:
            raise ModelError(f"it was trained with tags that are not there: {', '.join(missing)}")
        places = [self.tags.index(tag) for tag in tags]
        return Lives(tuple(tags), self.unit, self.time, self.rows[:, places])


def lives_of(unit: Sequence[str], time: Floats, values: Mapping[str, Floats]) -> Lives:
    """The lives in a table's columns."""
    rows = np.column_stack(list(values.values())) if values else np.empty((len(time), 0))
    return Lives(tuple(values), np.array(unit, dtype=np.str_), np.asarray(time, dtype=np.float64), rows)


def teaching(lives: Lives) -> Lives:
    """The lives without tags that never change, which would only cost time.

    ModelError where there are too few units, nothing changes, or time stands still.
    """
    if len(lives.units) < LEAST_UNITS:
        raise ModelError(f"{len(lives.units)} units ran to failure here; at least {LEAST_UNITS} are needed")
    if all(times[0] == times[-1] for _, times, _ in lives.each()):
        raise ModelError("no unit has rows at different times: is that the time column?")
    changing = [tag for tag, column in zip(lives.tags, lives.rows.T, strict=True) if _changes(column)]
    if not changing:
        raise ModelError("no column changes: there is nothing to learn from")
    return lives.only(changing)


def _changes(column: Floats) -> bool:
    known = column[~np.isnan(column)]
    return bool(len(known) and (known != known[0]).any())
