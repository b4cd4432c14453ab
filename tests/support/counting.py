"""A machine that counts its scans, and an agent process that reads it: what was served can be told from what
is stored, value by value."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from edge_agent.historian.history import History
from edge_agent_simulators.image import RegisterImage
from edge_agent_simulators.modbus_server import ModbusServer
from tests.support.mosquitto import eventually


class CountingMachine:
    """A Modbus server whose register pair 0 counts the reads; `served` are the answers, in order."""

    def __init__(self) -> None:
        self.served: list[int] = []
        self.times: list[float] = []
        self.image = RegisterImage({"holding": {0: 0, 1: 0, 2: 0}})
        self.server = ModbusServer({1: self.image})
        self._count = 0

    async def __aenter__(self) -> CountingMachine:
        self.server.before_read = self._next
        self.server.on_read = self._answered
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()

    def _next(self) -> None:
        self._count += 1
        self.image.set_words("holding", 0, [self._count >> 16, self._count & 0xFFFF])

    def _answered(self, _unit: int, _function: int, _address: int, raw: bytes) -> None:
        self.served.append(struct.unpack(">I", raw[:4])[0])
        self.times.append(time.monotonic())

    def worst_gap(self, since: float = 0.0) -> float:
        """The longest time (s) between two reads from monotonic time `since` on."""
        times = [moment for moment in self.times if moment >= since]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


def configuration(folder: Path, broker: str, machine: int, **more: Any) -> dict[str, Any]:
    """Settings of an agent `pi-01` that reads the counting machine ten times a second."""
    tags = {
        "count": {"address": "holding:0", "type": "uint32"},
        "level": {"address": "holding:2", "limits": {"high": {"value": 50, "action": "look"}}},
    }
    return {
        "site": "hall",
        "agent": "pi-01",
        "state": str(folder / "state"),
        "mqtt": {"url": broker, "payload": "both"},
        "buffer": {"commit_interval": "100ms"},
        "historian": {"kind": "embedded"},
        "web": "off",
        "machines": {
            "pump-1": {
                "driver": "modbus",
                "url": f"tcp://127.0.0.1:{machine}",
                "every": "100ms",
                "tags": tags,
            }
        },
        **more,
    }


def stored(folder: Path) -> list[int]:
    """The counts in the embedded store, in the order of their times."""
    with History(folder / "state" / "historian" / "history.db") as history:
        return [int(value) for _time, value in history.range("pump-1", "count")]


class AgentProcess:
    """`edge-agent run` as a child process whose words are collected; `program` runs instead where given."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], program: str | None = None) -> None:
        self.log: list[str] = []
        self.notified: list[tuple[float, str]] = []
        self.process: asyncio.subprocess.Process | None = None
        path = folder / "agent.yaml"
        path.write_text(json.dumps(settings))
        what = ["-c", program, str(path)] if program else ["-m", "edge_agent", "run", "-c", str(path)]
        self._command = [sys.executable, *what]
        self._socket = str(folder / "notify")

    @contextlib.asynccontextmanager
    async def running(
        self, watchdog: float = 30.0, limits: Callable[[], None] | None = None
    ) -> AsyncIterator[AgentProcess]:
        """Run it for as long as the context lasts; systemd's socket is ours."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.bind(self._socket)
            channel.setblocking(False)
            asyncio.get_running_loop().add_reader(channel, self._notified, channel)
            self.process = await asyncio.create_subprocess_exec(
                *self._command,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "NOTIFY_SOCKET": self._socket, "WATCHDOG_USEC": str(int(watchdog * 1e6))},
                preexec_fn=limits,
            )
            collecting = asyncio.create_task(self._collect(self.process))
            try:
                yield self
            finally:
                await self.stop(signal.SIGKILL)
                await collecting
                asyncio.get_running_loop().remove_reader(channel)
                Path(self._socket).unlink()

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; its exit code. Harmless where it has ended."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        async with asyncio.timeout(30):
            return await self.process.wait()

    def said(self, word: str) -> int:
        """How many of its lines hold a word."""
        return sum(word in line for line in self.log)

    async def ready(self, seconds: float = 20) -> None:
        """Wait until it has told systemd that it is ready."""
        process = self.process
        assert process is not None
        await eventually(lambda: self.heard("READY=1") or process.returncode is not None, seconds)
        assert process.returncode is None, "\n".join(self.log)

    def heard(self, word: str) -> list[float]:
        """When (monotonic) it told systemd so."""
        return [moment for moment, text in self.notified if word in text]

    def _notified(self, channel: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.notified.append((time.monotonic(), channel.recv(4096).decode()))

    async def _collect(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            self.log.append(line.decode(errors="replace").rstrip())
