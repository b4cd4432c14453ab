"""Several ratios to several limits become one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_agent_models.arrays import Floats

WEIGHTS = np.array([0.25, 0.5, 0.25])
"""Level, innovation, novelty: two see where the tags are, one how they move; each view has one voice."""
THIN_WEIGHTS = np.array([0.75, 0.0, 0.25])
"""Where rows are too few to learn how tags move, the plainest score has its voice."""
_LEAST = 1e-3


def fuse(ratios: Floats, weights: Floats) -> Floats:
    """Weighted geometric mean over the last axis: all must agree a little, and one alone must shout."""
    fused: Floats = np.exp(np.log(np.maximum(ratios, _LEAST)) @ weights)
    return fused


def fuse_shares(ratios: Floats, weights: Floats, shares: Sequence[Floats]) -> Floats:
    """(tags,) shares of the fused score: each score that counts speaks with the square of its ratio."""
    weight = np.where(weights > 0, np.minimum(ratios, 1e3) ** 2, 0.0)
    total = float(weight.sum())
    blended: Floats = sum((w * share for w, share in zip(weight, shares, strict=True)), np.zeros(1))
    return blended / total if total > 0 else blended
