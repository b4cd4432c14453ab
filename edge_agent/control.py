"""The local control socket (DECISIONS 28): commands that touch a device go through the running agent.

A request is one line of JSON, `{"command": NAME, ...}`; so is the answer, `{"ok": ...}` or
`{"error": TEXT, "temporary": BOOL}`. A stream answers with many such lines, until the asker hangs up.
The socket is mode 0600: who may write to the agent's folder may ask it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_agent.errors import DeviceUnreachable, EdgeAgentError, TemporaryError

log = logging.getLogger(__name__)

LONGEST_PATH = 107
LONGEST_REQUEST = 64 * 1024
LONGEST_ANSWER = 16 * 1024 * 1024

SERVICE = Path("/run/edge-agent/agent.sock")
"""Where the packaged service listens: its RuntimeDirectory (deploy/edge-agent.service)."""

Command = Callable[[Mapping[str, Any]], Awaitable[Any]]
Stream = Callable[[Mapping[str, Any]], AsyncGenerator[Any, None]]


def socket_path(state: Path) -> Path:
    """Where the agent with this state folder listens: in $RUNTIME_DIRECTORY, else in the folder itself."""
    runtime = os.environ.get("RUNTIME_DIRECTORY")
    return (Path(runtime.split(":")[0]) if runtime else state) / "agent.sock"


def sockets(state: Path) -> list[Path]:
    """Every place where an agent may listen that concerns who uses this state folder; the nearest first."""
    return list(dict.fromkeys([socket_path(state), state / "agent.sock", SERVICE]))


@contextlib.asynccontextmanager
async def serve(
    path: Path, commands: Mapping[str, Command], streams: Mapping[str, Stream] | None = None
) -> AsyncIterator[None]:
    """Answer requests for as long as the context lasts."""
    if _too_long(path):
        log.warning("no control socket: %s is longer than a socket's name may be; shorten `state`", path)
        yield
        return
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    askers = _Askers(commands, streams or {})
    before = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(askers.serve, path, limit=LONGEST_REQUEST)
    finally:
        os.umask(before)
    try:
        yield
    finally:
        server.close()
        await askers.end()
        path.unlink(missing_ok=True)


def _too_long(path: Path) -> bool:
    """Whether the system would refuse the path as a socket's name (sun_path has 108 bytes)."""
    return len(os.fsencode(path)) > LONGEST_PATH


class _Askers:
    """Whoever is connected to the socket, and what is done for them."""

    def __init__(self, commands: Mapping[str, Command], streams: Mapping[str, Stream]) -> None:
        self._commands, self._streams = commands, streams
        self._serving: set[asyncio.Task[None]] = set()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def end(self) -> None:
        """Hang up on everybody."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answering = asyncio.ensure_future(self._answer(await reader.readline(), writer))
            leaving = asyncio.ensure_future(_left(reader))
            try:
                # Who hangs up wants no answer any more, and a device should not be asked in vain.
                await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                answering.cancel()
                await asyncio.gather(answering, leaving, return_exceptions=True)
        except (ConnectionError, ValueError, asyncio.LimitOverrunError) as error:
            log.debug("control socket: %s", error)
        finally:
            writer.close()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        request = _parsed(line)
        name = str(request.get("command"))
        try:
            if name in self._commands:
                await _send(writer, {"ok": await self._commands[name](request)})
            elif name in self._streams:
                async with contextlib.aclosing(self._streams[name](request)) as items:
                    async for item in items:
                        await _send(writer, {"ok": item})
            else:
                names = ", ".join(sorted([*self._commands, *self._streams]))
                await _send(writer, {"error": f"not a request this agent knows; it knows {names}"})
        except EdgeAgentError as error:
            temporary = isinstance(error, TemporaryError | DeviceUnreachable)
            await _send(writer, {"error": str(error), "temporary": temporary})
        except ConnectionError as error:
            log.debug("control socket: %s", error)
        except Exception as error:
            log.exception("a request on the control socket failed")
            await _send(writer, {"error": f"the agent cannot answer that: {error!r}"})


def _parsed(line: bytes) -> dict[str, Any]:
    """The request; empty where it is none."""
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return {}


async def _left(reader: asyncio.StreamReader) -> None:
    """Return when the asker hangs up; what it says after its request is ignored."""
    while await reader.read(1024):
        pass


async def _send(writer: asyncio.StreamWriter, reply: Mapping[str, Any]) -> None:
    writer.write(json.dumps(reply).encode() + b"\n")
    await writer.drain()


def ask(path: Path, request: Mapping[str, Any], timeout: float = 30.0) -> Any | None:
    """Ask the agent that listens at `path`; None where none does.

    EdgeAgentError with the agent's own words where it refuses, TemporaryError where that may change or where
    it does not answer.
    """
    connection = _connected(path, timeout)
    if connection is None:
        return None
    with connection:
        try:
            connection.sendall(json.dumps(dict(request)).encode() + b"\n")
            reply = next(_replies(connection))
        except (OSError, StopIteration) as error:
            why = str(error) or "it hung up"
            raise TemporaryError(f"the running agent does not answer on {path}: {why}") from error
    return _content(reply)


def watch(path: Path, request: Mapping[str, Any], seconds: float | None = None) -> Iterator[Any] | None:
    """What the agent at `path` streams, for `seconds` or until it ends; None where no agent listens.

    EdgeAgentError while iterating where the agent refuses.
    """
    connection = _connected(path, seconds)
    return None if connection is None else _watched(connection, request, seconds)


def _watched(connection: socket.socket, request: Mapping[str, Any], seconds: float | None) -> Iterator[Any]:
    end = None if seconds is None else time.monotonic() + seconds
    # A killed agent resets the connection: for a watcher that is its end like any other.
    with connection, contextlib.suppress(TimeoutError, ConnectionError):
        connection.sendall(json.dumps(dict(request)).encode() + b"\n")
        for reply in _replies(connection, end):
            yield _content(reply)


def _connected(path: Path, timeout: float | None) -> socket.socket | None:
    if _too_long(path):
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(str(path))
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        connection.close()
        return None
    except PermissionError as error:
        connection.close()
        if not os.access(path.parent, os.X_OK, effective_ids=True):
            raise TemporaryError(
                f"user {os.geteuid()} may not look into {path.parent}: use sudo, or be the agent's user"
            ) from error
        raise TemporaryError(
            f"an agent listens on {path}, and only its user and root may ask it: use sudo, or stop it first"
        ) from error
    except OSError as error:
        connection.close()
        raise TemporaryError(f"the agent's socket {path} cannot be used: {error}") from error
    return connection


def _replies(connection: socket.socket, end: float | None = None) -> Iterator[dict[str, Any]]:
    """The lines that come, until the other side hangs up or `end` (monotonic) has come: TimeoutError."""
    received = bytearray()
    while True:
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            yield dict(json.loads(line))
        if len(received) > LONGEST_ANSWER:
            raise OSError("the answer has no end")
        if end is not None:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        if not (chunk := connection.recv(65_536)):
            return
        received += chunk


def _content(reply: Mapping[str, Any]) -> Any:
    if "error" in reply:
        kind = TemporaryError if reply.get("temporary") else EdgeAgentError
        raise kind(str(reply["error"]))
    return reply["ok"]
