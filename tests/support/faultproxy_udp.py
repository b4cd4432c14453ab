"""The same bad network for datagrams: what `Faults` says of delay, loss, bit errors, doubles and order."""

from __future__ import annotations

import asyncio
import random
from types import TracebackType
from typing import Any, Self

from tests.support.faultproxy import Faults, Mangler, Tally

Address = tuple[str | Any, int]
_OVERTAKE = 0.05


class _Listening(asyncio.DatagramProtocol):
    def __init__(self, proxy: UdpFaultProxy) -> None:
        self._proxy = proxy

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._proxy.from_client(data, addr)


class _Far(asyncio.DatagramProtocol):
    """The proxy's own socket towards the server, one for each client."""

    def __init__(self, proxy: UdpFaultProxy, client: Address) -> None:
        self._proxy, self._client = proxy, client

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._proxy.from_server(data, self._client)

    def error_received(self, exc: Exception) -> None:
        """The server's port is closed; the client hears nothing, as over a real network."""
        self._proxy.tally.dropped += 1


class UdpFaultProxy:
    """Takes datagrams on a free port of loopback and passes them on; an async context manager."""

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self.to_client, self.to_server = Faults(), Faults()
        self.tally = Tally()
        self.port = 0
        self._target = (host, port)
        rng = random.Random(seed)
        self._up, self._down = (
            Mangler(faults, self.tally, rng) for faults in (self.to_server, self.to_client)
        )
        self._near: asyncio.DatagramTransport | None = None
        self._far: dict[Address, asyncio.Task[asyncio.DatagramTransport]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def clear(self) -> None:
        """No faults in either direction from now on."""
        self.to_client.clear()
        self.to_server.clear()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        near, _ = await loop.create_datagram_endpoint(lambda: _Listening(self), ("127.0.0.1", 0))
        self._near = near
        self.port = near.get_extra_info("sockname")[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        for opened in self._far.values():
            (await opened).abort()
        if self._near is not None:
            self._near.abort()

    def from_client(self, data: bytes, client: Address) -> None:
        """Called for each datagram of a client."""
        if client not in self._far:
            self.tally.accepted += 1
            self._far[client] = asyncio.ensure_future(self._open(client))

        async def send(segment: bytes) -> None:
            (await self._far[client]).sendto(segment)

        self._pass_on(self._up, data, send)

    def from_server(self, data: bytes, client: Address) -> None:
        """Called for each datagram of the server to `client`."""

        async def send(segment: bytes) -> None:
            if self._near is not None:
                self._near.sendto(segment, client)

        self._pass_on(self._down, data, send)

    async def _open(self, client: Address) -> asyncio.DatagramTransport:
        loop = asyncio.get_running_loop()
        far, _ = await loop.create_datagram_endpoint(lambda: _Far(self, client), remote_addr=self._target)
        return far

    def _pass_on(self, mangler: Mangler, data: bytes, send: Any) -> None:
        for segment in mangler.segments(data):
            wait = mangler.wait()
            if mangler.strikes(mangler.faults.reorder):
                self.tally.reordered += 1
                wait += _OVERTAKE

            async def later(segment: bytes = segment, wait: float = wait) -> None:
                if wait:
                    await asyncio.sleep(wait)
                await send(segment)
                self.tally.passed += len(segment)

            task = asyncio.ensure_future(later())
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
