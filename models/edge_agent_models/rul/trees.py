"""Boosted trees as plain arrays: what scikit-learn grew, evaluated with numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_agent.errors import ModelError
from edge_agent_models.rul.features import Floats

Ints = npt.NDArray[np.int32]

MOST_STEPS = 64
"""No tree is deeper."""


@dataclass(frozen=True, slots=True)
class Trees:
    """Every node of every tree, one after the other; a leaf leads to itself."""

    roots: Ints
    """The first node of each tree."""
    feature: Ints
    threshold: Floats
    """At most so much goes left."""
    missing_left: npt.NDArray[np.bool_]
    left: Ints
    right: Ints
    value: Floats
    """What a leaf adds."""
    start: float
    """What is there before the first tree."""

    def predict(self, rows: Floats) -> Floats:
        """One number for each of the (n, features) rows."""
        at = np.broadcast_to(self.roots, (len(rows), len(self.roots))).copy()
        line = np.arange(len(rows))[:, None]
        for _ in range(MOST_STEPS):
            values = rows[line, self.feature[at]]
            goes_left = np.where(np.isnan(values), self.missing_left[at], values <= self.threshold[at])
            after = np.where(goes_left, self.left[at], self.right[at])
            if (after == at).all():
                break
            at = after
        total: Floats = self.start + self.value[at].sum(axis=1)
        return total

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays to save."""
        return {
            "tree_roots": self.roots,
            "tree_feature": self.feature,
            "tree_threshold": self.threshold,
            "tree_missing_left": self.missing_left,
            "tree_left": self.left,
            "tree_right": self.right,
            "tree_value": self.value,
            "tree_start": np.array(self.start),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[np.generic]], width: int) -> Trees:
        """The trees in saved arrays. ModelError where a node leads out of them, or asks for no feature."""
        trees = cls(
            arrays["tree_roots"].astype(np.int32),
            arrays["tree_feature"].astype(np.int32),
            arrays["tree_threshold"].astype(np.float64),
            arrays["tree_missing_left"].astype(bool),
            arrays["tree_left"].astype(np.int32),
            arrays["tree_right"].astype(np.int32),
            arrays["tree_value"].astype(np.float64),
            float(arrays["tree_start"].astype(np.float64)),
        )
        nodes = len(trees.value)
        of_nodes = (trees.feature, trees.threshold, trees.missing_left, trees.left, trees.right)
        if any(array.shape != (nodes,) for array in of_nodes) or trees.roots.ndim != 1 or not nodes:
            raise ModelError("its trees have arrays of different lengths")
        for targets, most in (
            (trees.roots, nodes),
            (trees.left, nodes),
            (trees.right, nodes),
            (trees.feature, width),
        ):
            if len(targets) and not (targets.min() >= 0 and targets.max() < most):
                raise ModelError("a node of its trees leads nowhere")
        return trees
