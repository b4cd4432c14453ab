"""Modbus TCP's frames over UDP: one datagram asks, one answers."""

from __future__ import annotations

import asyncio
from typing import cast

from edge_agent_drivers.modbus.channel import Dial
from edge_agent_drivers.modbus.faults import BadReply, LineFault, LineLost
from edge_agent_drivers.modbus.mbap import (
    FLOOD,
    HEAD,
    LONGEST,
    SHORTEST,
    UNCOUNTED,
    MbapQuestions,
    frame,
)
from edge_agent_drivers.modbus.pdu import Asked


class MbapDatagrams(MbapQuestions, asyncio.DatagramProtocol):
    """A UDP socket that knows one peer. A datagram that is no reply is only noted: the next may be one."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._transport: asyncio.DatagramTransport | None = None
        self._received = 0

    @property
    def usable(self) -> bool:
        """Whether the socket is open; what there is at the other end only an answer tells."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, question: Asked) -> asyncio.Future[bytes | LineFault]:
        """Send a question; what becomes of it is the result of the future."""
        self._received = 0
        answer = self._expect(question)
        if self._transport is not None:
            self._transport.sendto(frame(question))
        return answer

    def close(self, fault: LineFault | None = None) -> None:
        """Close the socket; open questions get `fault`, else LineLost."""
        self._settle_all(fault or LineLost(f"the connection to {self._name} was closed"))
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio once there is a socket."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio once the socket is closed."""
        self._transport = None
        self._settle_all(LineLost(f"the connection to {self._name} was closed"))

    def error_received(self, exc: Exception) -> None:
        """Called by asyncio where the network says that nobody is there."""
        self._settle_all(LineLost(f"nobody at {self._name}: {getattr(exc, 'strerror', None) or exc}"))

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Called by asyncio with what came, whole or not at all."""
        self._received += len(data)
        if self._received > FLOOD:
            self.close(BadReply(f"{self._name} sends without end"))
            return
        if len(data) >= HEAD.size:
            transaction, protocol, length, unit, function = HEAD.unpack_from(data)
            if protocol == 0 and SHORTEST <= length <= LONGEST and len(data) == UNCOUNTED + length:
                self._replied(transaction, unit, function, data[HEAD.size :])
                return
        self.skipped = "sent bytes that are no Modbus"


def udp_dial(host: str, port: int) -> Dial:
    """Opens a UDP socket for `host`; nothing is sent before the first question."""

    async def dial() -> MbapDatagrams:
        name = f"{host}:{port}"
        channel = MbapDatagrams(name)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_datagram_endpoint(lambda: channel, remote_addr=(host, port))
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that can be no name at all
            raise LineLost(f"no way to {name}: {error}") from error
        return channel

    return dial
