"""What the agent takes on the Pi it shares with a broker and a database."""

from __future__ import annotations

import pytest

from benchmarks import footprint

LIMIT = 60.0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_one_modbus_machine_with_health_stays_small() -> None:
    """Resident memory of an agent with one Modbus machine under health: below 60 MiB."""
    measured = footprint.memory(seconds=14).median
    assert measured < LIMIT, f"{measured:.1f} MiB"
