"""Real time series servers on free loopback ports: InfluxDB 1.6.7 and VictoriaMetrics, by process."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from tests.support import tools
from tests.support.mosquitto import free_port, wait_for_port


class _Server:
    """One process that listens on `port`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str | Path]:
        """How it is started."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=tools.environment(), stdout=log, stderr=log, cwd=self.folder
            )
        wait_for_port(self.port, self.process)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it (SIGKILL for a crash); harmless where it does not run."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def get(self, path: str, **parameters: str) -> bytes:
        """The body of a GET."""
        reply = urllib3.request("GET", self.url + path, fields=parameters, timeout=10)
        assert reply.status < 300, reply.data
        return reply.data


class Influxd(_Server):
    """InfluxDB 1.6.7 as Debian packages it; with `users` it asks for names and passwords."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        super().__init__(folder)
        (folder / "influxdb.conf").write_text(
            f"""
reporting-disabled = true
bind-address = "127.0.0.1:{free_port()}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
query-log-enabled = false
[http]
bind-address = "127.0.0.1:{self.port}"
log-enabled = false
{extra}
"""
        )

    def command(self) -> list[str | Path]:
        """influxd with the folder's configuration."""
        return [tools.binary("influxd"), "run", "-config", self.folder / "influxdb.conf"]

    def create(self, database: str) -> None:
        """Make a database."""
        self.ask(f"CREATE DATABASE {database}")

    def ask(self, question: str, **parameters: str) -> None:
        """Put a question that changes something."""
        fields = {"q": question, **parameters}
        reply = urllib3.request("POST", f"{self.url}/query?{urlencode(fields)}", timeout=10)
        assert reply.status == 200, reply.data

    def query(self, question: str, database: str = "edge_agent") -> list[dict[str, Any]]:
        """The series of an InfluxQL answer."""
        body = self.get("/query", q=question, db=database, epoch="ns")
        # numbers as text: 64-bit integers do not survive a float
        content = json.loads(body)
        assert "error" not in content["results"][0], content
        series: list[dict[str, Any]] = content["results"][0].get("series", [])
        return series

    def write(self, lines: bytes, database: str = "edge_agent") -> tuple[int, str]:
        """Status and message of a plain write."""
        url = f"{self.url}/write?db={database}&precision=ns"
        reply = urllib3.request("POST", url, body=lines, timeout=10)
        return reply.status, reply.data.decode()


class VictoriaMetrics(_Server):
    """A single-node VictoriaMetrics: another parser, /api/v2/write, milliseconds only."""

    def command(self) -> list[str | Path]:
        """victoria-metrics with its files in the folder."""
        return [
            tools.binary("victoria-metrics"),
            f"-storageDataPath={self.folder / 'storage'}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-retentionPeriod=100y",
            "-search.latencyOffset=0s",
            "-selfScrapeInterval=0s",
        ]

    def export(self, match: str, count: int, seconds: float = 10) -> list[dict[str, Any]]:
        """Every series that matches, once the first has `count` values."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.get("/internal/force_flush")
            body = self.get("/api/v1/export", **{"match[]": match})
            found = [json.loads(line) for line in body.splitlines()]
            if found and len(found[0]["values"]) >= count:
                return found
            time.sleep(0.1)
        raise AssertionError(f"no series {match} within {seconds} s")
