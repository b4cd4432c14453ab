"""`edge-agent read`, alone and beside a running agent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.control import socket_path
from tests.e2e.plant import AgentProcess, Simulators, wait_until

AGENT = """\
site: hall
agent: read-test
state: {state}
mqtt: {{url: mqtt://127.0.0.1:1}}
historian: {{kind: none}}
web: off
machines:
  pump-1:
    driver: modbus
    url: tcp://127.0.0.1:{port}
    every: 200ms
    tags:
      speed: {{address: "holding:{address}", unit: 1/min}}
"""


@pytest.fixture
def simulators(tmp_path: Path) -> Iterator[Simulators]:
    started = Simulators.start("pump", tmp_path / "served.jsonl")
    yield started
    started.stop()


def read(path: Path) -> tuple[int, dict[str, object], str]:
    command = [sys.executable, "-m", "edge_agent", "read", "-c", str(path), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return result.returncode, json.loads(result.stdout)["pump-1"]["speed"], result.stderr


@pytest.mark.timeout(60)
def test_read_never_shows_what_other_settings_read(simulators: Simulators, tmp_path: Path) -> None:
    """Through the agent with its own file; refused, not answered, where the file was edited meanwhile."""
    good, edited = tmp_path / "agent.yaml", tmp_path / "edited.yaml"
    good.write_text(AGENT.format(state=tmp_path, port=simulators.ready["modbus"], address=120))
    edited.write_text(AGENT.format(state=tmp_path, port=simulators.ready["modbus"], address=117))
    code, cell, _ = read(edited)
    assert (code, cell["quality"], cell["reason"]) == (1, "bad", "illegal_address")
    agent = AgentProcess(good)
    agent.start()
    try:
        wait_until(lambda: socket_path(tmp_path).exists(), 20, "the agent listens")
        code, cell, said = read(good)
        assert (code, cell["quality"]) == (0, "good"), said
        assert "through the running agent" in said
        code, cell, said = read(edited)
        assert (code, cell["value"]) == (75, None)
        assert "other settings" in said
    finally:
        assert agent.stop() == 0
