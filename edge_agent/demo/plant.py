"""The simulated machines: a child process with real Modbus TCP and OPC UA servers, sharing our clock."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from edge_agent.clock import SimulatedClock
from edge_agent.errors import EdgeAgentError

ROUGH_SPEED = 40_000
"""Tells the simulators how coarse their steps may be; the exact speed comes with `go`."""
START_SECONDS = 45.0
STOP_SECONDS = 5.0


@dataclass(slots=True)
class Plant:
    """The running simulators; time stands still in them until `go`."""

    process: asyncio.subprocess.Process
    modbus_port: int
    opcua_url: str

    def go(self, clock: SimulatedClock) -> None:
        """Let simulated time run, on the same clock as ours."""
        if self.process.stdin is not None:
            self.process.stdin.write(f"{clock.epoch} {clock.origin} {clock.rate}\n".encode())

    async def stop(self) -> None:
        """End the simulators; harmless where they have ended."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def start(scenario: str, seed: int, truth: Path, served: Path | None) -> Plant:
    """Start the simulators of a scenario and wait until they listen. EdgeAgentError with their own words."""
    command = [
        sys.executable, "-m", "edge_agent", "simulate", scenario, "--wait", "--json", "--seed", str(seed),
        "--speed", str(ROUGH_SPEED),
        "--port-modbus", "0", "--port-opcua", "0", "--truth", str(truth),
    ]  # fmt: skip
    if served is not None:
        command += ["--served", str(served)]
    # A file and not a pipe: nobody would read a pipe, and a full one would stop the machines.
    words = truth.with_suffix(".stderr")
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=words.open("wb"),
        start_new_session=True,  # a Ctrl-C in our terminal is ours to answer
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await _stream(process.stdout).readline()
        ready = json.loads(line)
    except (TimeoutError, ValueError) as error:
        raise EdgeAgentError(f"the simulators did not start: {await _last_words(process, words)}") from error
    return Plant(process, int(ready["modbus"]), str(ready["opcua"]))


def _stream(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    if stream is None:
        raise EdgeAgentError("the simulators were started without an output")
    return stream


async def _last_words(process: asyncio.subprocess.Process, words: Path) -> str:
    if process.returncode is None:
        process.kill()
    await process.wait()
    said = await asyncio.to_thread(words.read_text, errors="replace")
    return said.strip()[-2000:] or "they said nothing"
