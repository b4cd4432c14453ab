"""What the benchmark finds on recorded data, where there is any: EDGE_AGENT_DATASETS names the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.health import lives, skab, wear

FOUND = os.environ.get("EDGE_AGENT_DATASETS", "")
ROOT = Path(FOUND or "no such folder")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not FOUND, reason="no recorded data: set EDGE_AGENT_DATASETS to its folder"),
]


def quiet(_what: str) -> None:
    """The benchmark's progress is not wanted here."""


def test_skab() -> None:
    """No worse than when the detector was first measured, and better than always on."""
    result = skab.measure(ROOT, quiet)
    if result is None:
        pytest.skip("no skab/ in EDGE_AGENT_DATASETS")
    always = next(row for row in result["controls"] if "always" in row["name"])
    assert result["pooled"]["f1"] > max(0.82, always["f1"])
    assert result["pooled"]["found"] / result["pooled"]["events"] > 0.8


def test_bearings_are_alerted_before_they_fail() -> None:
    """No life is missed, neither of FEMTO nor of IMS."""
    femto, ims = wear.femto(ROOT, quiet), wear.ims(ROOT, quiet)
    if femto is None or ims is None:
        pytest.skip("no femto-features/ or ims-features/ in EDGE_AGENT_DATASETS")
    assert all(life["starts"] for life in femto["lives"])
    assert all(run["starts"] and run["starts"][0] >= run["rows"] // 2 for run in ims["runs"])


def test_engines() -> None:
    """C-MAPSS by engine: RMSE, coverage of the interval, and alerts 10 to 60 cycles ahead."""
    result = lives.measure(ROOT, quiet)
    if result is None:
        pytest.skip("no cmapss/ in EDGE_AGENT_DATASETS")
    assert result["rmse"] <= 10.5
    assert 0.88 <= result["coverage"] <= 0.92
    assert result["in_band"] >= 0.98
    assert result["missed"] == 0
