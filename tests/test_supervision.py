"""Tasks that die: said, and started anew or the end of the agent; never silent."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
from pathlib import Path

import pytest

from edge_agent.agent import _background
from edge_agent.errors import EdgeAgentError, told
from edge_agent.mqtt import MqttClient
from edge_agent.mqtt import client as client_module
from edge_agent.sinks.board import RetainedBoard
from tests.support.faultproxy import FaultProxy
from tests.support.mosquitto import Mosquitto, eventually


async def test_a_part_that_ends_by_itself_ends_the_agent_and_is_named() -> None:
    """Returning is no better than failing: nobody would notice."""

    async def gives_up() -> None:
        await asyncio.sleep(0)

    with pytest.raises(ExceptionGroup) as failures:
        async with asyncio.TaskGroup() as group, _background(group, gives_up(), "forward:mqtt"):
            await asyncio.sleep(5)
    reason = told(failures.value)
    assert isinstance(reason, EdgeAgentError)
    assert "forward:mqtt has ended by itself" in str(reason)


async def test_a_part_that_fails_ends_the_agent_with_its_reason() -> None:
    """The first error of ours is what is told."""

    async def fails() -> None:
        raise EdgeAgentError("the store is gone")

    with pytest.raises(ExceptionGroup) as failures:
        async with asyncio.TaskGroup() as group, _background(group, fails(), "historian"):
            await asyncio.sleep(5)
    assert str(told(failures.value)) == "the store is gone"


async def test_the_mqtt_client_outlives_a_fault_of_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook that raises costs one connection, is logged with its traceback, and the next one works."""
    monkeypatch.setattr(client_module, "BACKOFF_FIRST", 0.1)
    calls: list[int] = []

    def hook() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("mine")

    broker = Mosquitto(tmp_path)
    broker.start()
    try:
        client = MqttClient(broker.settings(), "a")
        client.on_connect(hook)
        async with client:
            await eventually(lambda: len(calls) == 2 and client.connected.is_set())
            await client.publish("t", b"x")
            assert client.alive
    finally:
        broker.stop()
    assert (
        len([one for one in caplog.records if "failed unexpectedly: RuntimeError('mine')" in one.message])
        == 1
    )


async def test_the_board_outlives_a_fault_of_our_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be published for a reason nobody foresaw is said and tried again."""
    broker = Mosquitto(tmp_path)
    broker.start()
    try:
        async with MqttClient(broker.settings(), "a") as client:
            board = RetainedBoard(client)
            await client.wait_connected(5)
            publish, client.publish = client.publish, None  # type: ignore[assignment, method-assign]
            board.start()
            board.put("t", b"1")
            await eventually(lambda: "trying again" in caplog.text)
            client.publish = publish  # type: ignore[method-assign]
            assert await board.flush(5)
            await board.stop()
    finally:
        broker.stop()
    assert [one.levelno for one in caplog.records if "trying again" in one.message] == [logging.ERROR]


def resident() -> int:
    """KiB of memory in use by this process."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])


async def test_h4_reconnecting_leaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory, descriptors and tasks are flat over 475 cut connections, each with messages in flight."""
    monkeypatch.setattr(client_module, "BACKOFF_FIRST", 0.002)
    monkeypatch.setattr(client_module, "BACKOFF_LAST", 0.002)
    monkeypatch.setattr("edge_agent.mqtt.pauses.ROOM", 0.0)
    # pytest keeps every record that is logged, which is what would grow
    caplog.set_level(logging.CRITICAL, logger="edge_agent")
    broker = Mosquitto(tmp_path)
    broker.start()
    try:
        async with FaultProxy("127.0.0.1", broker.port) as proxy:
            settings = broker.settings(url=f"mqtt://127.0.0.1:{proxy.port}")
            async with MqttClient(settings, "a") as client:
                client.subscribe("t", lambda _message: None)

                async def cut(times: int) -> tuple[int, int, int]:
                    for _ in range(times):
                        await client.wait_connected(10)
                        for _ in range(20):
                            client.publish("t", b"x" * 5000)
                        await asyncio.sleep(0)
                        made = client.connections
                        proxy.cut()
                        await eventually(lambda made=made: client.connections > made)
                    await client.wait_connected(10)
                    await asyncio.sleep(0.2)
                    gc.collect()
                    return resident(), len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())

                await cut(100)
                rounds = [await cut(75) for _ in range(5)]
    finally:
        broker.stop()
    # What leaks grows in every round; allocators and test tools grow in some.
    grown = [later[0] - earlier[0] for earlier, later in itertools.pairwise(rounds)]
    assert min(grown) <= 75, f"KiB of 75 reconnects: {grown}"
    before, after = rounds[0], rounds[-1]
    assert after[1] <= before[1] + 1
    assert after[2] <= before[2] + 1
