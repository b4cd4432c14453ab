"""What the agent takes on the Pi it shares with a broker and a database."""

from __future__ import annotations

import pytest

from benchmarks import footprint

LIMIT = 60.0


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_one_modbus_machine_with_health_stays_small() -> None:
    """Resident memory of an agent with one Modbus machine that has been learned: under 60 MB (10^6 bytes)."""
    measured = footprint.memory(seconds=20)
    assert measured.median < LIMIT, f"{measured.median:.1f} MB"
