"""What the whole agent takes: memory with one Modbus machine and health, and the time to say --help."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Measured, summary

AGENT = """\
site: bench
agent: bench
state: {state}
mqtt: {{url: mqtt://127.0.0.1:1}}
historian: {{kind: none}}
web: off
machines:
  pump-1:
    driver: modbus
    url: tcp://127.0.0.1:{port}
    every: 100ms
    tags:
      bearing_vibration: {{address: "holding:100", type: float32}}
      bearing_acceleration: {{address: "holding:102", type: float32}}
      motor_current: {{address: "holding:106", type: float32}}
      flow: {{address: "holding:110", type: float32, byte_order: CDAB}}
      bearing_temperature: {{address: "input:13", type: int16, scale: 0.1}}
    health: {{learn: 10s}}
"""


def run(repeats: int) -> list[Measured]:
    """Help time and memory."""
    return [help_time(repeats), memory()]


def help_time(repeats: int) -> Measured:
    """Wall seconds of `edge-agent --help`."""

    def once() -> float:
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "edge_agent", "--help"], check=True, capture_output=True)
        return time.monotonic() - started

    return summary("edge-agent --help", "s", [once() for _ in range(repeats)])


def memory(seconds: float = 20.0) -> Measured:
    """Resident MiB of an agent that reads one simulated pump ten times a second and has learned it."""
    with tempfile.TemporaryDirectory() as folder:
        simulator = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "simulate", "pump", "--wait", "--json"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert simulator.stdout is not None
        assert simulator.stdin is not None
        port = json.loads(simulator.stdout.readline())["modbus"]
        simulator.stdin.write(f"{time.time_ns()} {time.monotonic_ns()}\n")
        simulator.stdin.flush()
        path = Path(folder) / "agent.yaml"
        path.write_text(AGENT.format(state=folder, port=port))
        agent = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "run", "-c", str(path)], stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(seconds)
            return summary("memory, one Modbus machine with health, web off", "MiB", [resident(agent.pid)])
        finally:
            for process in (agent, simulator):
                process.send_signal(signal.SIGTERM)
                process.wait(20)
            simulator.stdin.close()
            simulator.stdout.close()


def resident(pid: int) -> float:
    """VmRSS of a process in MiB, as ps, top and systemd show it."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None, os.strerror(3)
    return int(found[1]) / 1024
