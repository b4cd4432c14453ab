"""Commands that touch a device while an agent runs: through its connection, never by a second one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edge_agent.agent import Agent
from edge_agent.pipeline import sampler
from edge_agent.settings.load import require
from edge_agent_simulators.modbus_server import ModbusServer
from edge_agent_simulators.opcua_server import OpcuaNode, OpcuaServer
from tests.support.doorman import Doorman

MODBUS = """\
site: hall
agent: through-test
state: {state}
mqtt: {{url: mqtt://127.0.0.1:1}}
historian: {{kind: none}}
web: off
machines:
  pump-1:
    driver: modbus
    url: tcp://127.0.0.1:{port}
    unit_id: {unit}
    every: 100ms
    timeout: 300ms
    health: off
    tags:
      speed: {{address: "holding:100", unit: 1/min}}
"""
OPCUA = """\
site: hall
agent: through-test
state: {state}
mqtt: {{url: mqtt://127.0.0.1:1}}
historian: {{kind: none}}
web: off
machines:
  press-2:
    driver: opcua
    url: opc.tcp://127.0.0.1:{port}
    every: 200ms
    health: off
    tags:
      temperature: {{node: "nsu=urn:edge-agent:simulator;s=press.Temperature", unit: °C}}
"""


class Outcome(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


async def edge_agent(*arguments: str, folder: Path) -> Outcome:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge_agent", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
        cwd=folder,
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), err.decode())


@contextlib.asynccontextmanager
async def running(path: Path, text: str) -> AsyncIterator[Agent]:
    """An agent with this configuration, listening."""
    await asyncio.to_thread(path.write_text, text)
    agent, stop = Agent(await asyncio.to_thread(require, path), drain=0.0), asyncio.Event()
    task = asyncio.create_task(agent.run(stop))
    try:
        while not (path.parent / "agent.sock").exists():
            assert not task.done(), task
            await asyncio.sleep(0.02)
        yield agent
    finally:
        stop.set()
        await task


async def connected(agent: Agent) -> None:
    """Wait until every machine was read."""
    while not all(line.sampler.state.connected for line in agent.lines.values()):
        await asyncio.sleep(0.02)


@pytest.fixture
async def device() -> AsyncIterator[ModbusServer]:
    """Units 1 and 3; holding:100 to 103."""
    image = {"holding": {100: 1450, 101: 0, 102: 16403, 103: 55050}}
    async with ModbusServer({1: image, 3: image}) as server:
        yield server
        assert server.write_requests == 0


async def test_no_command_opens_a_second_connection(device: ModbusServer, tmp_path: Path) -> None:
    """read, check --connect, probe and scan, by whatever name of the host: only the agent's connection."""
    path = tmp_path / "agent.yaml"
    async with Doorman(device.port) as door:
        async with running(path, MODBUS.format(state=tmp_path, port=door.port, unit=1)) as agent:
            await connected(agent)
            config, url = ("-c", str(path), "--json"), f"127.0.0.1:{door.port}"
            read, check, probe, scan = await asyncio.gather(
                edge_agent("read", *config, folder=tmp_path),
                edge_agent("check", str(path), "--connect", "--json", folder=tmp_path),
                edge_agent("probe", url, "holding:102", *config, folder=tmp_path),
                edge_agent(
                    "scan", "modbus", f"localhost:{door.port}", "--unit-ids", "1-3", *config, folder=tmp_path
                ),
            )
            assert (read.code, read.document["pump-1"]["speed"]["value"]) == (0, 1450), read
            machine = next(one for one in check.document["connections"] if "pump-1" in one["what"])
            assert machine == {"what": "pump-1 (through the running agent)", "error": None}
            assert probe.code == 0, probe
            assert "through the running agent, which reads it as pump-1" in probe.err
            assert probe.document["candidates"][0]["type"] == "float32"
            assert [unit["unit_id"] for unit in scan.document["units"]] == [1, 3], scan
        assert (door.admitted, door.turned_away) == (1, 0)


async def test_the_agent_is_found_without_its_file(
    device: ModbusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder an agent was started in, and where $STATE_DIRECTORY says, no -c is needed."""
    state = tmp_path / "edge-agent-state"
    state.mkdir()
    async with Doorman(device.port) as door:
        text = MODBUS.format(state=state, port=door.port, unit=1)
        async with running(state / "agent.yaml", text) as agent:
            await connected(agent)
            url = f"tcp://127.0.0.1:{door.port}"
            for folder in (tmp_path, tmp_path / "edge-agent-state"):
                probe = await edge_agent("probe", url, "holding:100", "--count", "1", folder=folder)
                assert probe.code == 0
                assert "as pump-1" in probe.err
                monkeypatch.setenv("STATE_DIRECTORY", str(state))
        assert (door.admitted, door.turned_away) == (1, 0)


async def test_a_device_nobody_reads_is_asked_directly(device: ModbusServer, tmp_path: Path) -> None:
    """An agent runs, and reads another port: the command connects by itself, and hangs up."""
    path = tmp_path / "agent.yaml"
    async with Doorman(device.port) as door, Doorman(device.port) as other:
        async with running(path, MODBUS.format(state=tmp_path, port=door.port, unit=1)) as agent:
            await connected(agent)
            url = f"tcp://127.0.0.1:{other.port}"
            probe = await edge_agent("probe", url, "holding:100", "-c", str(path), folder=tmp_path)
            assert probe.code == 0
            assert "running agent" not in probe.err
        assert (other.admitted, door.admitted) == (1, 1)


async def test_a_wrong_unit_id_can_be_found_out_through_the_agent(
    device: ModbusServer, tmp_path: Path
) -> None:
    """The agent never gets an answer, as its unit id is wrong; a scan through it finds the right one."""
    path = tmp_path / "agent.yaml"
    async with Doorman(device.port) as door:
        async with running(path, MODBUS.format(state=tmp_path, port=door.port, unit=9)) as agent:
            while not agent.lines["pump-1"].sampler.state.failures:
                await asyncio.sleep(0.02)
            scan = await edge_agent(
                "scan", "modbus", f"127.0.0.1:{door.port}", "--unit-ids", "1-4", "-c", str(path), "--json",
                folder=tmp_path,
            )  # fmt: skip
            assert [unit["unit_id"] for unit in scan.document["units"]] == [1, 3], scan
        assert door.turned_away == 0


async def test_another_machine_of_the_same_device_is_not_read_past_the_agent(
    device: ModbusServer, tmp_path: Path
) -> None:
    """A new machine behind the agent's connection: refused with what to do, and no second connection."""
    path, edited = tmp_path / "agent.yaml", tmp_path / "edited.yaml"
    async with Doorman(device.port) as door:
        text = MODBUS.format(state=tmp_path, port=door.port, unit=1)
        edited.write_text(text.replace("pump-1:", "pump-2:"))
        async with running(path, text) as agent:
            await connected(agent)
            read = await edge_agent("read", "-c", str(edited), "--json", folder=tmp_path)
            assert (read.code, read.document) == (75, {"pump-2": {}})
            assert "for pump-1: restart it with this file" in read.err
        assert (door.admitted, door.turned_away) == (1, 0)


async def test_browse_goes_through_the_agents_session(tmp_path: Path) -> None:
    """The address space, seen through the session that the agent has, while its samples go on."""
    path = tmp_path / "agent.yaml"
    async with OpcuaServer([OpcuaNode("press.Temperature"), OpcuaNode("press.Count", "uint32")]) as server:
        await server.write({"press.Temperature": 20.5, "press.Count": 7}, 1_700_000_000_000_000_000)
        async with Doorman(server.port) as door:
            async with running(path, OPCUA.format(state=tmp_path, port=door.port)) as agent:
                await connected(agent)
                browse = await edge_agent(
                    "browse", "opcua", "-c", str(path), "--machine", "press-2", "--values", "--json",
                    folder=tmp_path,
                )  # fmt: skip
                assert browse.code == 0, browse
                assert "which reads it as press-2" in browse.err
                found = {one["path"]: one["value"] for one in browse.document["variables"]}
                assert found == {"press/Temperature": 20.5, "press/Count": 7}
            assert (door.admitted, door.turned_away) == (1, 0)
        assert server.write_requests == 0


async def test_tap_shows_what_the_agent_reads(device: ModbusServer, tmp_path: Path) -> None:
    """One JSON line a scan, in lines for people otherwise; an unknown machine is named; nothing is asked."""
    path = tmp_path / "agent.yaml"
    async with Doorman(device.port) as door:
        async with running(path, MODBUS.format(state=tmp_path, port=door.port, unit=1)) as agent:
            await connected(agent)
            tap = ("tap", "-c", str(path), "--seconds", "1")
            found = await edge_agent(*tap, "--json", folder=tmp_path)
            batches = [json.loads(line) for line in found.out.splitlines()]
            assert found.code == 0
            assert 5 <= len(batches) <= 11
            assert batches[0]["machine"] == "pump-1"
            assert batches[0]["tags"]["speed"] == {
                "value": 1450, "unit": "1/min", "quality": "good", "reason": None,
            }  # fmt: skip
            assert int(batches[0]["ns"]) // 1_000_000 == batches[0]["t"]
            for_people = await edge_agent(*tap, "pump-1", folder=tmp_path)
            assert "pump-1  speed=1450 1/min" in for_people.out
            unknown = await edge_agent(*tap, "pump-7", folder=tmp_path)
            assert unknown.code == 1
            assert "it reads pump-1" in unknown.err
        assert (door.admitted, door.turned_away) == (1, 0)


async def test_tap_without_an_agent_is_75(tmp_path: Path) -> None:
    """Says that no agent runs there, and how to start one."""
    path = tmp_path / "agent.yaml"
    path.write_text(MODBUS.format(state=tmp_path, port=1, unit=1))
    found = await edge_agent("tap", "-c", str(path), folder=tmp_path)
    assert found.code == 75
    assert "no agent runs" in found.err
    assert "edge-agent run -c" in found.err


async def test_enrolling_lets_a_running_agent_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent refuses a server nobody has pinned; after `opcua enrol` it reads, and is left alone then."""
    monkeypatch.setattr(sampler, "LONGEST_RETRY", 0.5)
    nodes = [OpcuaNode("press.Temperature")]
    async with OpcuaServer(nodes, username="edge", password="right", anonymous=False) as server:
        security = "    security: {policy: Basic256Sha256, username: edge, password: right}\n"
        text = OPCUA.format(state=tmp_path, port=server.port).replace("    every", security + "    every")
        path = tmp_path / "agent.yaml"
        enrol = ("opcua", "enrol", "-c", str(path), "--machine", "press-2", "--json")
        async with running(path, text) as agent:
            state = agent.lines["press-2"].sampler.state
            while not state.error:
                await asyncio.sleep(0.02)
            assert "its certificate is not pinned" in state.error
            first = await edge_agent(*enrol, "--yes", folder=tmp_path)
            assert (first.code, first.document["connection"]["ok"]) == (0, True), first
            await connected(agent)
            again = await edge_agent(*enrol, folder=tmp_path)
            assert (again.code, again.document["connection"]["ok"]) == (0, None), again
        assert server.write_requests == 0
