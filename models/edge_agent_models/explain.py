"""What a score shows besides its value: shares, and values beside their normal bands."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_agent.types import Band
from edge_agent_models.arrays import Floats
from edge_agent_models.baseline import Baseline
from edge_agent_models.judge import Verdict

_LEAST_SHARE = 0.01
_TOP = 3
_BAND = 3.0


def contributions(names: tuple[str, ...], shares: Floats) -> Mapping[str, float]:
    """Tag -> share, largest first, adding up to 1; what is below a hundredth is left out and made up for."""
    order = np.argsort(-shares, kind="stable")
    kept = [index for index in order if shares[index] >= _LEAST_SHARE]
    total = sum(float(shares[index]) for index in kept)
    return {names[index]: float(shares[index]) / total for index in kept} if total > 0 else {}


def bands(
    names: tuple[str, ...], baseline: Baseline, verdict: Verdict, explained: Floats, deviations: Floats
) -> Mapping[str, Band]:
    """Band of each of the three most contributing tags, in engineering units, for the present context.

    `deviations`: (tags,) the standard deviation of a row now, engineering units. The value is the mean of the
    smoothing window carried to the present context; the band is what is normal for such a mean, three
    standard deviations either way.
    """
    level = baseline.level
    found: dict[str, Band] = {}
    for index in np.argsort(-verdict.shares, kind="stable")[:_TOP]:
        deviation = verdict.deviations[index]
        if verdict.shares[index] < _LEAST_SHARE or not np.isfinite(deviation):
            continue
        center = baseline.middle[index] + explained[index] + level.mean[index] * deviations[index]
        unit = level.spread[index] * deviations[index]
        half = _BAND * unit
        found[names[index]] = Band(
            float(center + deviation * unit), float(center - half), float(center + half)
        )
    return found
