"""Several ratios to several limits become one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_agent_models.arrays import Floats

WEIGHTS = np.array([0.25, 0.5, 0.25])
"""Level, innovation, novelty: two see where the tags are, one how they move; each view has one voice."""
_LEAST = 1e-3


def fuse(ratios: Floats) -> Floats:
    """Weighted geometric mean over the last axis: all must agree a little, and one alone must shout."""
    fused: Floats = np.exp(np.log(np.maximum(ratios, _LEAST)) @ WEIGHTS)
    return fused


def fuse_shares(ratios: Floats, shares: Sequence[Floats]) -> Floats:
    """(tags,) shares of the fused score: each score speaks with the square of its ratio."""
    weight = np.minimum(ratios, 1e3) ** 2
    total = float(weight.sum())
    blended: Floats = sum((w * share for w, share in zip(weight, shares, strict=True)), np.zeros(1))
    return blended / total if total > 0 else blended
