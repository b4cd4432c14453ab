"""`edge-agent read --plan`: the requests that reading takes, without a device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WIDE = {**os.environ, "COLUMNS": "120"}
AGENT = """\
site: hall
agent: plan-test
machines:
  pump-1:
    driver: modbus
    url: tcp://192.0.2.1:502
    max_gap: 2
    tags:
      vibration: {address: "holding:100", type: float32}
      current:   {address: "holding:103", type: float32}
      serial:    {address: "holding:200", type: string, length: 16, every: 1m}
  meter-3:
    driver: modbus
    url: rtu:///dev/no-such-line?baudrate=9600
    tags:
      power: {address: "input:12", type: float32}
  press-2:
    driver: opcua
    url: opc.tcp://192.0.2.2:4840
    tags:
      force: {node: "ns=2;s=Force"}
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = folder / "agent.yaml"
    path.write_text(AGENT, encoding="utf-8")
    command = [sys.executable, "-m", "edge_agent", "read", "-c", str(path), "--plan", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=WIDE)


@pytest.mark.timeout(60)
def test_the_plan_of_a_machine_is_told_without_touching_it(tmp_path: Path) -> None:
    """As JSON: requests per cycle and second, what is read and wasted, and what lies in each request."""
    result = run(tmp_path, "pump-1", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    plan = json.loads(result.stdout)["pump-1"]
    assert (plan["requests_per_second"], plan["line_busy"]) == (pytest.approx(1 + 1 / 60), None)
    assert (plan["wasted_per_second"], plan["addresses_per_second"]) == (1, pytest.approx(5 + 8 / 60))
    [second, minute] = plan["cycles"]
    assert (second["every"], second["requests"], second["addresses"], second["wasted"]) == (1, 1, 5, 1)
    [block] = second["blocks"]
    assert (block["request"], block["tags"]) == ("holding:100-104", ["vibration", "current"])
    assert [block["request"] for block in minute["blocks"]] == ["holding:200-207"]


@pytest.mark.timeout(60)
def test_the_plan_as_a_table(tmp_path: Path) -> None:
    """As text: a line for each request, the sums, and a word where there is nothing to plan."""
    result = run(tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "1s holding:100-104 5 1 - vibration, current" in lines
    assert "every 1s: 1 requests, 5 addresses, 1 of them wasted" in lines
    # 8 + 9 characters of 11 bits, and two pauses of 3.5.
    assert "1s input:12-13 2 0 27.5 power" in lines
    assert any(line.startswith("a second: 1 requests") and "the line is 3% busy" in line for line in lines)
    assert any(line.startswith("press-2: nothing to plan") for line in lines)
