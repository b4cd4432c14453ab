"""What a Modbus request costs the agent, in CPU time; the device is another process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.measure import Measured, summary
from edge_agent import registry
from edge_agent.clock import Clock

_DEVICE = """\
import asyncio
from edge_agent_simulators.modbus_server import ModbusServer

async def main():
    async with ModbusServer({1: {"holding": {address: address for address in range(400)}}}) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
BLOCKS, SCANS = 16, 250
_TAGS = {
    f"t{block}_{n}": {"address": f"holding:{20 * block + n}"} for block in range(BLOCKS) for n in range(10)
}


def run(repeats: int) -> list[Measured]:
    """One question at a time, and eight."""
    with _device() as port:
        rounds = [{ahead: asyncio.run(_scans(port, ahead)) for ahead in (1, 8)} for _ in range(repeats)]
    return [
        summary(
            f"modbus, block of 10 registers, pipeline {ahead}", "µs/request", [one[ahead] for one in rounds]
        )
        for ahead in (1, 8)
    ]


@contextmanager
def _device() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", _DEVICE], stdout=subprocess.PIPE, text=True) as device:
        try:
            assert device.stdout is not None
            yield int(device.stdout.readline())
        finally:
            device.kill()


async def _scans(port: int, ahead: int) -> float:
    """CPU microseconds per request, decoding and all."""
    raw: dict[str, Any] = {"driver": "modbus", "url": f"tcp://127.0.0.1:{port}", "tags": _TAGS}
    settings = registry.driver_settings("modbus").model_validate(raw | {"comm": {"pipeline": ahead}})
    driver = registry.driver("modbus")("bench", settings, Clock())
    await driver.connect()
    try:
        await driver.read(driver.groups[0])
        before = time.process_time()
        for _ in range(SCANS):
            await driver.read(driver.groups[0])
        return (time.process_time() - before) / SCANS / BLOCKS * 1e6
    finally:
        await driver.close()
