"""A serial line in the event loop, and how it is opened: listening before the first byte.

A serial line has one master. After opening, and after every loss of the line, what is said on it is listened
to for `listen` seconds; where another master talks, the line is refused. A connection that is dropped (by the
sampler's reconnecting) leaves the port open and locked, and what comes meanwhile is looked at before the next
connection uses it: the line has been ours all the time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import cast

from edge_agent_drivers.modbus.endpoint import Endpoint
from edge_agent_drivers.modbus.faults import LineLost, Taken
from edge_agent_drivers.modbus.owing import Owing
from edge_agent_drivers.modbus.rtu import RtuConnection
from edge_agent_drivers.modbus.traffic import Traffic
from edge_agent_drivers.modbus.tty import Tty, open_tty

LISTEN = 3.0
"""Seconds for which a line is listened to, at least, before the first byte."""
SETTLE = 0.05
"""Seconds of silence after which a reply is over, at least: USB adapters pass bytes on every 16 ms."""
_KEPT = 4096
_STRAY = 3
"""Bytes without a frame that are taken for a disturbance and not for somebody who talks."""


class Ear:
    """Reads a tty as bytes come, for the protocol that is attached; has no way to write."""

    def __init__(self, name: str, tty: Tty) -> None:
        self.name = name
        self._tty = tty
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.BufferedProtocol | None = None
        self._scratch = bytearray(512)
        self.overheard = bytearray()
        """The last of what came while no protocol was attached."""
        self.lost = False
        """Whether the line is gone: unplugged, or closed by us."""
        self._loop.add_reader(tty.descriptor, self._readable)

    def attach(self, protocol: asyncio.BufferedProtocol) -> None:
        """From now on `protocol` gets what comes, and `connection_lost` when the line is gone."""
        self._protocol = protocol
        self.overheard.clear()

    def detach(self) -> None:
        """Nobody gets what comes."""
        self._protocol = None

    def close(self) -> None:
        """Let go of the tty; harmless twice."""
        self._lose(None)

    def _readable(self) -> None:
        protocol = self._protocol
        view = self._scratch if protocol is None else cast(bytearray, protocol.get_buffer(-1))
        try:
            count = os.readv(self._tty.descriptor, [view])
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if count == 0:
            self._lose(OSError("it was unplugged"))
        elif protocol is None:
            self.overheard += view[:count]
            del self.overheard[:-_KEPT]
        else:
            protocol.buffer_updated(count)

    def _lose(self, error: OSError | None) -> None:
        if self.lost:
            return
        self.lost = True
        self._loop.remove_reader(self._tty.descriptor)
        # At once: while it is open, an adapter that is plugged in again gets another name.
        self._tty.close()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self._loop.call_soon(protocol.connection_lost, error)


class SerialPort(Ear):
    """A tty that can be written to."""

    def __init__(self, name: str, tty: Tty) -> None:
        super().__init__(name, tty)
        self._unsent = b""

    def write(self, content: bytes) -> None:
        """Send, without waiting for it. A line that has not taken the last frame yet is given up."""
        if self._unsent:
            self._lose(OSError("it takes no more bytes"))
        elif not self.lost:
            self._unsent = content
            self._writable()

    def _writable(self) -> None:
        try:
            sent = os.write(self._tty.descriptor, self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(error)
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.add_writer(self._tty.descriptor, self._writable)
        else:
            self._loop.remove_writer(self._tty.descriptor)

    def _lose(self, error: OSError | None) -> None:
        if not self.lost:
            self._loop.remove_writer(self._tty.descriptor)
        super()._lose(error)


class _Hold(asyncio.Transport):
    """What one connection has of the port: letting go of it leaves the port open."""

    def __init__(self, port: SerialPort, connection: RtuConnection) -> None:
        super().__init__()
        self._port, self._connection = port, connection
        self._let_go = False
        port.attach(connection)
        connection.connection_made(self)

    def is_closing(self) -> bool:
        return self._let_go or self._port.lost

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing():
            self._port.write(bytes(data))

    def close(self) -> None:
        # Somebody else talks: the next connection listens first.
        self._port.close()

    def abort(self) -> None:
        if not self.is_closing():
            self._let_go = True
            self._port.detach()
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)


class SerialDial:
    """Opens connections over a serial line, one at a time."""

    def __init__(self, endpoint: Endpoint, listen: float) -> None:
        self._endpoint, self._listen = endpoint, listen
        self._owing = Owing()
        self._port: SerialPort | None = None

    async def __call__(self) -> RtuConnection:
        """A connection. LineLost where there is no such line, Taken where it is not ours to talk on."""
        port = self._port
        if port is not None and not port.lost and another_master(port.overheard):
            port.close()
        if port is None or port.lost:
            port = self._port = await self._opened()
        settle = max(SETTLE, self._endpoint.silence)
        gap = self._endpoint.silence
        connection = RtuConnection(str(self._endpoint), self._owing, gap=gap, settle=settle)
        _Hold(port, connection)
        return connection

    def close(self) -> None:
        """Let go of the port, for other programs."""
        if self._port is not None:
            self._port.close()

    async def _opened(self) -> SerialPort:
        """The port, once it was listened to."""
        port = SerialPort(str(self._endpoint), await opened(self._endpoint))
        try:
            await asyncio.sleep(self._listen)
            if port.lost:
                raise LineLost(f"{self._endpoint} went away while it was listened to")
            if complaint := _complaint(self._endpoint, port.overheard, self._listen):
                raise Taken(complaint)
        except BaseException:
            port.close()
            raise
        return port


async def opened(endpoint: Endpoint, *, read_only: bool = False) -> Tty:
    """An open tty. A thread opens it, since some adapters take their time."""
    opening = asyncio.ensure_future(asyncio.to_thread(open_tty, endpoint, read_only=read_only))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_discard)
        raise


def _discard(opening: asyncio.Future[Tty]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _traffic(overheard: bytes | bytearray) -> Traffic:
    traffic = Traffic()
    traffic.feed(bytes(overheard), 0.0)
    traffic.quiet(0.0)
    return traffic


def another_master(overheard: bytes | bytearray) -> list[int]:
    """The units that somebody asks, or that answer; one answer alone is to what we asked ourselves before."""
    traffic = _traffic(overheard)
    if traffic.asked or traffic.answered.total() > 1:
        return sorted({*traffic.asked, *traffic.answered})
    return []


def _complaint(endpoint: Endpoint, overheard: bytearray, listened: float) -> str:
    """Why a line is not ours to talk on; empty where nobody talks there."""
    if units := another_master(overheard):
        return (
            f"another master is polling {units_text(units)} on {endpoint}: a serial line has one master. "
            "Stop it, or write mode: listen, which reads along and sends nothing"
        )
    traffic = _traffic(overheard)
    if traffic.noise > _STRAY:
        return (
            f"somebody talks on {endpoint}, but not Modbus RTU at {endpoint.format} ({traffic.noise} bytes "
            f"in {listened:g} s): another master, at another speed or parity? A serial line has one master"
        )
    return ""


def units_text(units: Sequence[int]) -> str:
    """`unit 1`, `units 1, 3 and 7`."""
    names = [str(unit) for unit in units]
    if len(names) == 1:
        return f"unit {names[0]}"
    return f"units {', '.join(names[:-1])} and {names[-1]}"
