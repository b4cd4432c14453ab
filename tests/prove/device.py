"""A Modbus device as a process, whose every answer can be proved genuine, with a log of what it answered.

`python -m tests.prove.device LOG MACHINE...` prints a port for each machine and serves until its input ends.
A line `MACHINE MODE` on its input changes how a machine behaves. Value = f(machine, tag, sequence), and the
sequence goes up with each answer: a stored value tells which answer it came in, and neighbours look
unrelated.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

TAGS = 6
"""uint32 tags `t0` ... in one block of holding registers from 0 on."""
_FACTOR = 0x9E3779B1
_INVERSE = pow(_FACTOR, -1, 2**32)
_READS = (1, 2, 3, 4)
MODES = ("honest", "short", "wrong-id", "late", "refuse", "garbage", "silent")
LATE = 0.7
"""Seconds; longer than the agent waits."""


def value(machine: str, tag: int, sequence: int) -> int:
    """What `machine` answers for a tag in its answer number `sequence`."""
    return (sequence * _FACTOR + _key(machine, tag)) % 2**32


def sequence_of(machine: str, tag: int, found: float) -> int:
    """The only answer that `found` can have come in; a made-up value gives a number far from all others."""
    return (int(found) - _key(machine, tag)) * _INVERSE % 2**32


def _key(machine: str, tag: int) -> int:
    return zlib.crc32(f"{machine}/{tag}".encode())


class Device:
    """One machine. Its log has a line for each answer, written before the answer is sent."""

    def __init__(self, machine: str, log: TextIO) -> None:
        self.machine = machine
        self.mode = "honest"
        self._log = log
        self._sequence = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                header = await reader.readexactly(6)
                frame = header + await reader.readexactly(int.from_bytes(header[4:6], "big"))
                writer.write(await self._answer(frame))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the agent, or the network, hung up
        finally:
            writer.close()

    async def _answer(self, frame: bytes) -> bytes:
        transaction, unit, function, address, quantity = struct.unpack(">HxxxxBBHH", frame[:12])
        if function not in _READS:
            self._note("W", function)
        if self.mode == "silent":
            return b""
        if self.mode == "garbage":
            return frame[::-1]
        if self.mode == "refuse":
            return struct.pack(">HHHBBB", transaction, 0, 3, unit, function | 0x80, 4)
        if self.mode == "late":
            await asyncio.sleep(LATE)
        if self.mode == "short":
            quantity -= 1
        if self.mode == "wrong-id":
            transaction ^= 0x5555
        self._sequence += 1
        content = self._words(address, quantity)
        # What the agent must not take is no answer to it: only the honest ones are promised to arrive.
        self._note("A" if self.mode == "honest" else "a", self._sequence)
        return (
            struct.pack(">HHHBBB", transaction, 0, len(content) + 3, unit, function, len(content)) + content
        )

    def _words(self, address: int, quantity: int) -> bytes:
        tags = range(address // 2, (address + quantity + 1) // 2)
        whole = b"".join(value(self.machine, tag, self._sequence).to_bytes(4, "big") for tag in tags)
        start = 2 * (address % 2)
        return whole[start : start + 2 * quantity]

    def _note(self, what: str, number: int) -> None:
        self._log.write(f"{what} {self.machine} {number} {time.time_ns()}\n")
        self._log.flush()


def served(log: Path) -> Iterator[tuple[str, str, int, int]]:
    """(A, a or W, machine, sequence or function, UTC ns) of each whole line of a device's log."""
    return entries(log.read_text())


def entries(content: str) -> Iterator[tuple[str, str, int, int]]:
    """The same of a log's text."""
    for text in content.splitlines():
        what, machine, number, ns = text.split()
        yield what, machine, int(number), int(ns)


async def _listen(devices: Mapping[str, Device]) -> None:
    ports = []
    for device in devices.values():
        server = await asyncio.start_server(device.serve, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
    print(*ports, flush=True)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    while text := (await commands.readline()).decode().split():
        devices[text[0]].mode = text[1]


def main(log: str, *machines: str) -> None:
    """Serve `machines` until standard input ends."""
    with Path(log).open("a") as file:
        asyncio.run(_listen({machine: Device(machine, file) for machine in machines}))


if __name__ == "__main__":
    main(*sys.argv[1:])
