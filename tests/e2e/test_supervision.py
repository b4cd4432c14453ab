"""The whole agent as a process, under faults of its broker and its host; rows of the fault catalogue."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import resource
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import Clock
from edge_agent.historian import Historian
from edge_agent.mqtt import Message, MqttClient
from edge_agent.settings.models import Configuration
from tests.support.counting import AgentProcess, CountingMachine, configuration, stored
from tests.support.mosquitto import Mosquitto, eventually, free_port

STATUS = "hall/_agents/pi-01/status"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    server = Mosquitto(tmp_path / "mosquitto")
    server.start()
    yield server
    server.stop()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
        return json.loads(answer.read())


async def everything_stored(machine: CountingMachine, agent: AgentProcess, folder: Path) -> None:
    """Stop the agent; whatever was served is stored, once and in order, but for the scan the stop cut off."""
    await asyncio.sleep(1.5)
    assert await agent.stop() == 0, "\n".join(agent.log)
    found = await asyncio.to_thread(stored, folder)
    assert found == sorted(set(found))
    missing = set(machine.served) - set(found)
    assert missing <= set(machine.served[-1:]), f"LOST {sorted(missing)}"


async def test_a2_the_broker_is_down_at_boot(broker: Mosquitto, tmp_path: Path) -> None:
    """Ready within 5 s, reading and keeping; freshness says how far each tag has come; nothing is lost; the
    retained status tells the agent's state."""
    broker.stop()
    got: list[Message] = []
    async with CountingMachine() as machine:
        web = f"127.0.0.1:{free_port()}"
        settings = configuration(tmp_path, broker.url, machine.server.port, web={"listen": web})
        started = time.monotonic()
        async with AgentProcess(tmp_path, settings).running() as agent:
            await agent.ready()
            assert agent.heard("READY=1")[0] - started <= 5.0
            await eventually(lambda: len(machine.served) > 10)
            tags = (await asyncio.to_thread(get, f"http://{web}/api/v1/freshness"))["machines"]["pump-1"]
            assert set(tags) == {"count", "level"}
            assert tags["count"]["read"] >= tags["count"]["committed"] > "2000"
            assert tags["count"]["acknowledged"] is None
            broker.start()
            async with MqttClient(broker.settings(), "listener") as listener:
                listener.subscribe(STATUS, got.append)
                await eventually(lambda: any(b'"tags":2' in one.payload for one in got), 30)

                def acknowledged() -> str:
                    return str(
                        get(f"http://{web}/api/v1/freshness")["machines"]["pump-1"]["count"]["acknowledged"]
                    )

                for _ in range(100):
                    if (await asyncio.to_thread(acknowledged)) > "2000":
                        break
                    await asyncio.sleep(0.2)
                assert (await asyncio.to_thread(acknowledged)) > "2000"
            status = json.loads(next(one.payload for one in got if b'"tags":2' in one.payload))
            assert (status["state"], status["tags"], status["machines_away"]) == ("online", 2, [])
            assert set(status["sinks"]) == {"mqtt", "embedded"}
            await everything_stored(machine, agent, tmp_path)


async def test_c14_a_blocked_loop_feeds_no_watchdog(broker: Mosquitto, tmp_path: Path) -> None:
    """The loop really blocks for 3 s: not one WATCHDOG=1 meanwhile, and fed again afterwards."""
    program = (
        "import asyncio, pathlib, sys, time\n"
        "from edge_agent.agent import Agent\n"
        "from edge_agent.settings.load import require\n"
        "async def main():\n"
        "    asyncio.get_running_loop().call_later(2, time.sleep, 3)\n"
        "    await Agent(require(pathlib.Path(sys.argv[1]))).run(asyncio.Event())\n"
        "asyncio.run(main())\n"
    )
    async with CountingMachine() as machine:
        settings = configuration(tmp_path, broker.url, machine.server.port)
        async with AgentProcess(tmp_path, settings, program).running(watchdog=0.9) as agent:
            await agent.ready()
            await eventually(lambda: machine.worst_gap() > 2.5, 20, "the loop was not blocked")
            await eventually(lambda: len(agent.heard("WATCHDOG=1")) > 8)
            fed = agent.heard("WATCHDOG=1")
            silent = max(later - earlier for earlier, later in itertools.pairwise(fed))
            assert silent > 2.5, "systemd, with 0.9 s, would have ended it"


@pytest.mark.parametrize("load", [1, 20])
async def test_c13_sigterm_ends_it_cleanly(broker: Mosquitto, tmp_path: Path, load: int) -> None:
    """Under load, within 5 s, exit 0, nothing left behind in the journal."""
    async with CountingMachine() as machine:
        settings = configuration(tmp_path, broker.url, machine.server.port)
        pump = settings["machines"]["pump-1"]
        settings["machines"] |= {f"pump-{n}": pump for n in range(2, load + 1)}
        async with AgentProcess(tmp_path, settings).running() as agent:
            await agent.ready()
            await eventually(lambda: len(machine.served) > 20 * load, 20)
            started = time.monotonic()
            assert await agent.stop() == 0
            assert time.monotonic() - started <= 5.0
            assert agent.said("not delivered yet") == 0
            assert agent.said("Traceback") == 0


async def test_h3_descriptors_run_out(broker: Mosquitto, tmp_path: Path) -> None:
    """64 descriptors and 200 silent visitors of the web server: reading goes on, machine and broker are
    reconnected, the web server answers again within 10 s, nothing is lost."""
    limit = 64
    async with CountingMachine() as machine:
        web = ("127.0.0.1", free_port())
        settings = configuration(
            tmp_path, broker.url, machine.server.port, web={"listen": f"127.0.0.1:{web[1]}"}
        )
        limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # noqa: E731
        async with AgentProcess(tmp_path, settings).running(limits=limits) as agent:
            await agent.ready()
            assert (await asyncio.to_thread(get, f"http://127.0.0.1:{web[1]}/healthz"))["alive"]
            with ExitStack() as visitors:
                for _ in range(200):
                    visitor = visitors.enter_context(socket.socket())
                    visitor.setblocking(False)
                    visitor.connect_ex(web)
                await asyncio.sleep(0.5)
                machine.server.drop_connections()
                broker.stop()
                broker.start()
                before = len(machine.served)
                await eventually(
                    lambda: len(machine.served) > before + 10, 10, "the machine was not reconnected"
                )
            started = time.monotonic()
            while True:
                try:
                    await asyncio.to_thread(get, f"http://127.0.0.1:{web[1]}/healthz")
                    break
                except OSError:
                    assert time.monotonic() - started < 10
                    await asyncio.sleep(0.2)
            await eventually(lambda: agent.said("connected to") >= 3, 20)
            await asyncio.sleep(3)
            await everything_stored(machine, agent, tmp_path)
            assert agent.said("Traceback") == 0


async def test_c10_c7_the_state_folder_cannot_be_written(broker: Mosquitto, tmp_path: Path) -> None:
    """Every write of the agent fails for 8 s: it reads on time, alarms and tag topics go out, it is said
    once; once it may write again, what came meanwhile is stored."""
    got: dict[str, list[Message]] = {"tags": [], "alarms": []}
    async with CountingMachine() as machine, MqttClient(broker.settings(), "listener") as listener:
        listener.subscribe("hall/pump-1/tags/count", got["tags"].append)
        listener.subscribe("hall/pump-1/alarms/+", got["alarms"].append)
        await listener.wait_connected(5)
        elsewhere = {"kind": "embedded", "where": "elsewhere"}
        settings = configuration(tmp_path, broker.url, machine.server.port, historian=elsewhere)
        async with AgentProcess(tmp_path, settings).running() as agent, historian(tmp_path, broker) as store:
            await agent.ready()
            await eventually(lambda: len(machine.served) > 20, 10)
            assert agent.process is not None
            _, hard = resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (0, hard))
            await eventually(lambda: agent.said("cannot be written") > 0, 10)
            failing = time.monotonic()
            before = len(got["alarms"])
            machine.image.set_words("holding", 2, [99])
            await asyncio.sleep(8)
            assert machine.worst_gap(failing) < 2.0
            assert len(got["alarms"]) > before, "the alarm was not shown"
            shown = json.loads(got["tags"][-1].payload)["v"]
            assert shown >= machine.served[-1] - 5, "the tag's topic was not kept up to date"
            assert agent.said("keeping lines in memory") == 1
            assert agent.process.returncode is None
            resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            await eventually(lambda: agent.said("can be written again") > 0, 40)
            await asyncio.sleep(3)
            await everything_stored(machine, agent, store)


@contextlib.asynccontextmanager
async def historian(folder: Path, broker: Mosquitto) -> AsyncIterator[Path]:
    """A historian on another disk, in this process; gives the folder its state is in."""
    settings = Configuration.model_validate(
        {"site": "hall", "agent": "elsewhere", "mqtt": {"url": broker.url}, "historian": {"kind": "embedded"}}
    )
    running = Historian(settings, Clock(), folder / "elsewhere" / "state")
    task = asyncio.create_task(running.run())
    try:
        await eventually(running.ready.is_set)
        yield folder / "elsewhere"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
