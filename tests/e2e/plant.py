"""A whole plant of real processes for the end-to-end tests: simulators, mosquitto, influxd, the agent."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.influx import Influxd
from tests.support.mosquitto import Mosquitto

DATABASE = "plant"


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when the condition holds; fail, saying what did not happen, after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


@dataclass
class Simulators:
    """A scenario served by a child process, at the speed of the real world."""

    process: subprocess.Popen[str]
    ready: Mapping[str, Any]
    log: Path

    @classmethod
    def start(cls, scenario: str, served: Path) -> Simulators:
        command = [sys.executable, "-m", "edge_agent", "simulate", scenario, "--wait", "--json"]
        command += ["--port-modbus", "0", "--port-opcua", "0", "--served", str(served)]
        with served.with_suffix(".log").open("w") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert process.stdout is not None
        assert process.stdin is not None
        ready = json.loads(process.stdout.readline())
        process.stdin.write(f"{time.time_ns()} {time.monotonic_ns()}\n")
        process.stdin.flush()
        return cls(process, ready, served.with_suffix(".log"))

    def kill(self) -> None:
        """End it at once, whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def stop(self) -> None:
        """End it; its logs are complete afterwards."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert "asked to write" not in self.log.read_text()


class AgentProcess:
    """`edge-agent run` as a child process."""

    def __init__(self, configuration: Path) -> None:
        self.log = configuration.with_suffix(".log")
        self._command = [sys.executable, "-m", "edge_agent", "run", "-c", str(configuration)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stderr=log, stdout=log)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(how)
        return process.wait(30)


def points(influx: Influxd, machine: str) -> dict[str, list[tuple[int, Any]]]:
    """field -> (ns, value) in order of time, of every reading of a machine."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for series in influx.query(f"SELECT * FROM readings WHERE machine = '{machine}'", DATABASE):  # noqa: S608
        for row in series["values"]:
            for name, value in zip(series["columns"][1:], row[1:], strict=True):
                if value is not None:
                    found.setdefault(name, []).append((row[0], value))
    return found


def metric(url: str, name: str) -> float:
    """One unlabelled value of /metrics."""
    import urllib3

    text = urllib3.request("GET", f"{url}/metrics", timeout=5).data.decode()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, f"{name} is not in /metrics"
    return float(found[1])


__all__ = ["AgentProcess", "Influxd", "Mosquitto", "Simulators", "metric", "points", "wait_until"]
