"""The example files in config/."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.settings.check import check
from edge_agent.settings.load import require

CONFIG = Path(__file__).parents[2] / "config"
EXAMPLES = sorted(path.name for path in CONFIG.glob("*.yaml"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_passes(name: str) -> None:
    """Every example passes `check --strict` as it is, so that a newcomer can begin with it."""
    result = check([CONFIG / name], strict=True, env={})
    assert [str(problem) for problem in result.problems] == []
    assert result.exit_code == 0


def test_full_example_means_what_it_says() -> None:
    """The values of the full example arrive where they belong."""
    configuration = require(CONFIG / "agent.yaml", env={})
    pump = configuration.machines["pump-1"]
    assert configuration.root("pump-1") == "fjord-parts/ulsteinvik/machining/line-1"
    assert pump.rate_of(pump.tags["bearing_vibration"]) == 1.0
    assert pump.rate_of(pump.tags["ambient_temperature"]) == 60.0
    assert pump.tags["energy"].every == 60.0
    assert pump.health
    assert pump.health.running_when == "motor_current > 12.0 and not tripped"
    assert configuration.machines["press-2"].driver == "opcua"


def test_there_are_examples() -> None:
    """The examples that the README names exist."""
    assert {"agent.yaml", "agent.minimal.yaml", "opcua.yaml"} <= set(EXAMPLES)
