"""Which columns are judged, which explain, and which are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.contracts.plugs import Column
from edge_agent.contracts.settings import HealthSettings
from edge_agent.errors import ConfigError
from edge_agent.types import Kind
from edge_agent_models.arrays import Floats, Ints


@dataclass(frozen=True)
class Roles:
    """Positions of columns in a row, and what is needed to speak of them."""

    judged: Ints
    context: Ints
    names: tuple[str, ...]
    """Names of the judged tags."""
    context_names: tuple[str, ...]
    ranges: Floats
    """(judged, 2) engineering ranges, infinite where a tag has none."""


def roles(columns: Sequence[Column], settings: HealthSettings) -> Roles:
    """Sort columns: context and setpoints explain, measurements (or those of `health.tags`) are judged.

    ConfigError where nothing is left to judge.
    """
    explains = [_explains(column, settings) for column in columns]
    judged = [
        index
        for index, column in enumerate(columns)
        if not explains[index]
        and (column.kind is Kind.MEASUREMENT if settings.tags is None else column.name in settings.tags)
    ]
    if not judged:
        raise ConfigError(["health: there is no tag to judge; name measurements in `health.tags`"])
    context = [index for index, said in enumerate(explains) if said]
    unbounded = (-np.inf, np.inf)
    return Roles(
        np.array(judged, dtype=np.int64),
        np.array(context, dtype=np.int64),
        tuple(columns[index].name for index in judged),
        tuple(columns[index].name for index in context),
        np.array([columns[index].range or unbounded for index in judged], dtype=np.float64),
    )


def _explains(column: Column, settings: HealthSettings) -> bool:
    named = settings.tags is not None and column.name in settings.tags
    return column.context or column.name in settings.context or (column.kind is Kind.SETPOINT and not named)
