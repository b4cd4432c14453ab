"""The control socket between commands and the running agent."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_agent import control
from edge_agent.errors import DeviceUnreachable, EdgeAgentError, TemporaryError


async def echo(request: Mapping[str, Any]) -> Any:
    return {"heard": request["word"]}


async def refuse(request: Mapping[str, Any]) -> Any:
    raise EdgeAgentError("pump-1 is away")


async def away(request: Mapping[str, Any]) -> Any:
    raise DeviceUnreachable("no route to host")


async def broken(request: Mapping[str, Any]) -> Any:
    raise RuntimeError("a mistake of ours")


COMMANDS = {"echo": echo, "refuse": refuse, "away": away, "broken": broken}


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
        with pytest.raises(EdgeAgentError, match="away, broken, echo, refuse"):
            await asyncio.to_thread(control.ask, control.socket_path(tmp_path), {"command": "write"})


async def test_without_an_agent_there_is_no_answer(tmp_path: Path) -> None:
    """No socket, or one left behind by a killed agent, means that no agent runs."""
    assert await asyncio.to_thread(control.ask, control.socket_path(tmp_path), {"command": "echo"}) is None
    server = await asyncio.start_unix_server(lambda _r, _w: None, control.socket_path(tmp_path))
    server.close()
    await server.wait_closed()
    assert await asyncio.to_thread(control.ask, control.socket_path(tmp_path), {"command": "echo"}) is None


async def test_what_may_pass_is_told_from_what_may_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that is away is temporary (75); a mistake of ours is logged, answered and ends nothing."""
    path = control.socket_path(tmp_path)
    async with control.serve(path, COMMANDS):
        with pytest.raises(TemporaryError, match="no route"):
            await asyncio.to_thread(control.ask, path, {"command": "away"})
        with pytest.raises(EdgeAgentError, match="a mistake of ours"):
            await asyncio.to_thread(control.ask, path, {"command": "broken"})
        assert "request on the control socket failed" in caplog.text
        assert await asyncio.to_thread(control.ask, path, {"command": "echo", "word": "a"}) is not None


class Counting:
    """A stream of numbers that knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def count(self, request: Mapping[str, Any]) -> AsyncGenerator[int, None]:
        if request["from"] < 0:
            raise EdgeAgentError("counts from 0 on")
        number = request["from"]
        try:
            while True:
                yield number
                number += 1
                await asyncio.sleep(0.01)
        finally:
            self.closed.set()


async def test_a_stream_ends_when_its_watcher_leaves(tmp_path: Path) -> None:
    """Items come until the watcher has seen enough; the agent then stops making them; refusals are said."""
    path, counting = control.socket_path(tmp_path), Counting()

    def first(count: int, start: int) -> list[Any]:
        items = control.watch(path, {"command": "count", "from": start})
        assert items is not None
        return [item for item, _ in zip(items, range(count), strict=False)]

    def for_a_while() -> list[Any]:
        return list(control.watch(path, {"command": "count", "from": 0}, seconds=0.2) or ())

    async with control.serve(path, {}, {"count": counting.count}):
        assert await asyncio.to_thread(first, 3, 7) == [7, 8, 9]
        async with asyncio.timeout(5):
            await counting.closed.wait()
        assert len(await asyncio.to_thread(for_a_while)) >= 2
        with pytest.raises(EdgeAgentError, match="from 0 on"):
            await asyncio.to_thread(first, 1, -1)
    assert await asyncio.to_thread(control.watch, path, {"command": "count"}) is None


async def test_an_agent_that_ends_hangs_up(tmp_path: Path) -> None:
    """A watcher is not left waiting for an agent that stops."""
    path, counting = control.socket_path(tmp_path), Counting()
    async with control.serve(path, {}, {"count": counting.count}):
        items = await asyncio.to_thread(control.watch, path, {"command": "count", "from": 0})
        assert items is not None
        assert await asyncio.to_thread(next, items) == 0
    rest = await asyncio.to_thread(list, items)
    assert len(rest) < 50


async def test_the_packaged_service_is_asked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent under systemd listens in its runtime directory, which no shell's environment names."""
    service = tmp_path / "run" / "agent.sock"
    monkeypatch.setattr(control, "SERVICE", service)
    assert control.sockets(tmp_path / "state") == [tmp_path / "state" / "agent.sock", service]
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "mine"))
    assert control.sockets(tmp_path / "state")[0] == tmp_path / "mine" / "agent.sock"


async def test_a_socket_of_somebody_else_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an agent listens that this user may not ask, nobody goes past it: 75, and what to do."""

    def refuse_connect(self: object, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.socket.connect", refuse_connect)
    with pytest.raises(TemporaryError, match="sudo"):
        control.ask(tmp_path / "agent.sock", {"command": "echo"})
