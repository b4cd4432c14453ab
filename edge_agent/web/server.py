"""uvicorn inside our own event loop: no signal handlers, no banner, no logging set-up of its own."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge_agent.errors import TemporaryError

MOST_CONNECTIONS = 32
"""Connections at a time, or a quarter of the descriptors this process may have: machines and broker come
first. What comes above that is closed at once."""
AT_ONCE = 4
"""Connections taken in one turn of the loop: asyncio takes as many as its backlog before one of them can be
closed, and says so thousands of times where that uses up the descriptors."""
SILENCE = 10.0
"""Seconds until a connection must have sent its first request."""
GRACE = 2
"""Seconds that requests under way may take to end once the agent stops."""


async def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve until cancelled. TemporaryError (exit 75) where the port is taken or the address is not ours."""
    await serve_on(app, listen(host, port))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a taken port is known before anything else starts; port 0: any free one.

    TemporaryError where the port is taken, not allowed, or the address is not of this computer.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )[0]
        channel = socket.socket(family, kind)
    except OSError as problem:
        raise TemporaryError(f"web.listen {where} is not an address here: {problem.strerror}") from problem
    try:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        channel.bind(address)
        channel.listen(128)
        channel.setblocking(False)
    except OSError as problem:
        channel.close()
        raise TemporaryError(_why(problem, where, port)) from problem
    return channel


async def serve_on(app: ASGIApp, channel: socket.socket) -> None:
    """Serve on a socket from `listen` until cancelled; then requests under way may end, and it is closed."""
    server = _Server(
        uvicorn.Config(
            app,
            http=_Bounded,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=AT_ONCE,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=GRACE,
        )
    )
    serving = asyncio.create_task(server.serve([channel]), name="web")
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving
        channel.close()


class _Bounded(H11Protocol):
    """Keeps few connections, none of them silent from the beginning."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection, or close it where there are enough."""
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
            transport.abort()
        else:
            self.loop.call_later(SILENCE, self._expect_a_request)

    def _expect_a_request(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.abort()


def _most_connections() -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if descriptors < 0 else min(MOST_CONNECTIONS, descriptors // 4)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone: they are the agent's."""
        yield


def _why(problem: OSError, where: str, port: int) -> str:
    if problem.errno == errno.EADDRINUSE:
        return f"port {port} is taken by another program ({where}): end that one, or change web.listen"
    if problem.errno == errno.EACCES:
        return f"port {port} needs privileges ({where}): change web.listen to a port above 1023"
    return f"cannot listen on {where}: {problem.strerror}: change web.listen"
