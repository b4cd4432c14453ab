"""What is not configured is not loaded: a Pi has memory for one of them at a time."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import edge_agent.historian", ["paho", "influxdb_client", "urllib3", "amqtt"]),
        ("import edge_agent.buffer, edge_agent.mqtt.embedded, edge_agent.sinks", ["paho", "amqtt"]),
    ],
)
def test_libraries_are_loaded_when_they_are_needed(statement: str, absent: list[str]) -> None:
    """Importing the packages loads no client library."""
    check = f"{statement}; import sys; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
