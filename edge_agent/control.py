"""The local control socket (DECISIONS 28): commands that touch a device go through the running agent.

A request is one line of JSON, `{"command": NAME, ...}`; so is the answer, `{"ok": ...}` or `{"error": TEXT}`.
The socket is mode 0600: who may write to the agent's folder may ask it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from edge_agent.errors import EdgeAgentError, TemporaryError

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds until an asker must have asked: one that says nothing must not hold a descriptor for ever."""
LONGEST_PATH = 107
LONGEST_REQUEST = 64 * 1024
LONGEST_ANSWER = 16 * 1024 * 1024

Command = Callable[[Mapping[str, Any]], Awaitable[Any]]


def socket_path(state: Path) -> Path:
    """Where the agent with this state folder listens: in $RUNTIME_DIRECTORY, else in the folder itself."""
    runtime = os.environ.get("RUNTIME_DIRECTORY")
    return (Path(runtime.split(":")[0]) if runtime else state) / "agent.sock"


@contextlib.asynccontextmanager
async def serve(path: Path, commands: Mapping[str, Command]) -> AsyncIterator[None]:
    """Answer requests for as long as the context lasts."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                line = await reader.readline()
            reply = await _answer(line, commands)
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (ConnectionError, ValueError, TimeoutError) as error:
            log.debug("control socket: %s", error)
        finally:
            writer.close()

    if _too_long(path):
        log.warning("no control socket: %s is longer than a socket's name may be; shorten `state`", path)
        yield
        return
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(answer, path, limit=LONGEST_REQUEST)
    finally:
        os.umask(before)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


def _too_long(path: Path) -> bool:
    """Whether the system would refuse the path as a socket's name (sun_path has 108 bytes)."""
    return len(os.fsencode(path)) > LONGEST_PATH


async def _answer(line: bytes, commands: Mapping[str, Command]) -> dict[str, Any]:
    try:
        request = json.loads(line)
        command = commands[request["command"]]
    except (ValueError, KeyError, TypeError):
        return {"error": f"not a request this agent knows; it knows {', '.join(sorted(commands))}"}
    try:
        return {"ok": await command(request)}
    except EdgeAgentError as error:
        return {"error": str(error)}


def ask(state: Path, request: Mapping[str, Any], timeout: float = 30.0) -> Any | None:
    """Ask the running agent; None where no agent runs on this state folder.

    EdgeAgentError with the agent's own words where it refuses, TemporaryError where it does not answer.
    """
    path = socket_path(state)
    if _too_long(path):
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise TemporaryError(f"the agent's socket {path} cannot be used: {error}") from error
        try:
            connection.sendall(json.dumps(dict(request)).encode() + b"\n")
            reply = _read_line(connection)
        except OSError as error:
            raise TemporaryError(f"the running agent does not answer on {path}: {error}") from error
    if "error" in reply:
        raise EdgeAgentError(str(reply["error"]))
    return reply["ok"]


def _read_line(connection: socket.socket) -> dict[str, Any]:
    received = bytearray()
    while not received.endswith(b"\n") and len(received) < LONGEST_ANSWER:
        chunk = connection.recv(65_536)
        if not chunk:
            break
        received += chunk
    try:
        reply = json.loads(received)
    except ValueError as error:
        raise OSError("the answer broke off") from error
    return dict(reply)
