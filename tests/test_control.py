"""The control socket between commands and the running agent."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_agent import control
from edge_agent.errors import EdgeAgentError


async def echo(request: Mapping[str, Any]) -> Any:
    return {"heard": request["word"]}


async def refuse(request: Mapping[str, Any]) -> Any:
    raise EdgeAgentError("pump-1 is away")


COMMANDS = {"echo": echo, "refuse": refuse}


async def test_a_command_is_answered(tmp_path: Path) -> None:
    """A request reaches the agent and its answer comes back; only the owner may use the socket."""
    path = control.socket_path(tmp_path)
    async with control.serve(path, COMMANDS):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        answer = await asyncio.to_thread(
            control.ask, control.socket_path(tmp_path), {"command": "echo", "word": "a"}
        )
    assert answer == {"heard": "a"}
    assert not path.exists()


async def test_refusals_and_unknown_commands_are_said(tmp_path: Path) -> None:
    """What the agent refuses comes back in its own words; an unknown command names the known ones."""
    async with control.serve(control.socket_path(tmp_path), COMMANDS):
        with pytest.raises(EdgeAgentError, match="pump-1 is away"):
            await asyncio.to_thread(control.ask, control.socket_path(tmp_path), {"command": "refuse"})
        with pytest.raises(EdgeAgentError, match="echo, refuse"):
            await asyncio.to_thread(control.ask, control.socket_path(tmp_path), {"command": "write"})


async def test_without_an_agent_there_is_no_answer(tmp_path: Path) -> None:
    """No socket, or one left behind by a killed agent, means that no agent runs."""
    assert await asyncio.to_thread(control.ask, control.socket_path(tmp_path), {"command": "echo"}) is None
    server = await asyncio.start_unix_server(lambda _r, _w: None, control.socket_path(tmp_path))
    server.close()
    await server.wait_closed()
    assert await asyncio.to_thread(control.ask, control.socket_path(tmp_path), {"command": "echo"}) is None
