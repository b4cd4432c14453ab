"""A Modbus client that sends exactly the bytes it is told to, for tests of the server."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """One answer, with its header taken apart."""

    transaction: int
    unit: int
    pdu: bytes

    @property
    def words(self) -> list[int]:
        """The registers of a read's answer."""
        return list(struct.unpack(f">{len(self.pdu[2:]) // 2}H", self.pdu[2:]))


class Wire:
    """A connection: raw frames out, frames in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, pdu: bytes, *, transaction: int = 1, unit: int = 1) -> None:
        """Send one request."""
        self.writer.write(struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu)

    async def receive(self, seconds: float = 2.0) -> Reply:
        """The next answer; TimeoutError where none comes."""
        async with asyncio.timeout(seconds):
            transaction, _, length, unit = struct.unpack(">HHHB", await self.reader.readexactly(7))
            return Reply(transaction, unit, await self.reader.readexactly(length - 1))

    async def ask(self, pdu: bytes, *, unit: int = 1) -> bytes:
        """Send one request and return the answer's PDU."""
        self.send(pdu, unit=unit)
        return (await self.receive()).pdu


def read(function: int, address: int, count: int) -> bytes:
    """A read request."""
    return struct.pack(">BHH", function, address, count)


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Wire]:
    """A connection to a server on this machine, closed at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            return
