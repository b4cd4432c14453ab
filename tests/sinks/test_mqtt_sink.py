"""The MQTT sink against a real mosquitto: payloads, confirmations, retained topics, the last will."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent import lineprotocol as lp
from edge_agent.mqtt import Message, MqttClient
from edge_agent.mqtt import client as client_module
from edge_agent.sinks import mqtt as sink_module
from edge_agent.types import Priority
from tests.sinks.conftest import Agent, configuration
from tests.support.mosquitto import Mosquitto, eventually

READINGS = "fjord-parts/ulsteinvik/pump-1/readings"


@contextlib.asynccontextmanager
async def listening(broker: Mosquitto, *patterns: str) -> AsyncIterator[list[Message]]:
    got: list[Message] = []
    client = MqttClient(broker.settings(), "listener")
    for pattern in patterns:
        client.subscribe(pattern, got.append)
    async with client:
        await client.wait_connected(5)
        yield got


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_record_is_a_message(broker: Mosquitto, tmp_path: Path, version: str) -> None:
    """Header line, lines, topic, user properties; QoS 1; backlog is marked as such."""
    (client_module.SPEAK_311.add if version == "3.1.1" else client_module.SPEAK_311.discard)(broker.url)
    plant = configuration(tmp_path, broker.url, historian={"kind": "none"})
    agent = Agent(tmp_path, plant)
    await agent.journal.open()
    await agent.journal.append("pump-1", b"readings,machine=pump-1 a=1 1", urgent=True)
    await agent.journal.close()
    agent = Agent(tmp_path, plant)
    async with listening(broker, "#") as got, agent.running():
        await eventually(lambda: agent.unconfirmed == 0)
        await agent.journal.append("pump-1", b"readings,machine=pump-1 a=2 2")
        await agent.journal.append("pump-1", b"alarms,machine=pump-1 a=2 2", Priority.ALARM)
        await eventually(lambda: len([one for one in got if one.topic == READINGS]) == 3)
    replayed, live, _ = [one for one in got if one.topic == READINGS]
    first = lp.split_header(replayed.payload)
    assert first == (lp.Header("pi-01", agent.journal.newest - 2, True), b"readings,machine=pump-1 a=1 1")
    assert lp.split_header(live.payload)[0] == lp.Header("pi-01", agent.journal.newest - 1, False)
    assert (replayed.qos, replayed.retain) == (1, False)
    if version == "5":
        assert replayed.properties["replayed"] == "true"
        assert live.properties == {"agent": "pi-01", "seq": str(agent.journal.newest - 1)}


async def test_only_the_historians_word_lets_a_record_go(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unconfirmed records are sent again and stay; a wrong or hostile confirmation changes nothing."""
    agent = Agent(tmp_path, configuration(tmp_path, broker.url), confirm_timeout=0.3)
    async with listening(broker, READINGS) as got, agent.running():
        speaker = MqttClient(broker.settings(), "historian")
        async with speaker:
            await speaker.wait_connected(5)
            stored = "fjord-parts/ulsteinvik/_agents/pi-01/stored"
            await agent.journal.append("pump-1", b"readings,machine=pump-1 a=1 1")
            await eventually(lambda: len(got) >= 2)
            assert agent.unconfirmed == 1
            assert "did not confirm" in str(agent.delivery.error)
            for wrong in (b"", b"[]", b'{"seqs": 5}', b'{"seqs": ["x"]}', b'{"seqs": [1, 2]}', b"\xff"):
                await speaker.publish(stored, wrong)
            before = len(got)
            await eventually(lambda: len(got) > before)
            assert agent.unconfirmed == 1
            await speaker.publish(stored, json.dumps({"seqs": [agent.journal.newest]}).encode())
            await eventually(lambda: agent.unconfirmed == 0)


async def test_a_broker_outage_loses_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    """What is committed while the broker is away is delivered as backlog, in order, once it is back."""
    plant = configuration(tmp_path, broker.url, historian={"kind": "none"})
    agent = Agent(tmp_path, plant)
    sink_module_patience = sink_module.CONNECT_PATIENCE
    sink_module.CONNECT_PATIENCE = 0.2
    try:
        async with agent.running():
            await agent.journal.append("pump-1", b"readings,machine=pump-1 a=0 1")
            await eventually(lambda: agent.unconfirmed == 0)
            broker.stop()
            for n in range(1, 20):
                await agent.journal.append("pump-1", b"readings,machine=pump-1 a=%d 1" % n, urgent=True)
            await eventually(lambda: agent.delivery.failures > 0)
            assert agent.unconfirmed == 19
            broker.start()
            async with listening(broker, READINGS) as got:
                await eventually(lambda: agent.unconfirmed == 0)
                await eventually(lambda: len(got) == 19)
                assert [lp.split_header(one.payload)[1][-4:] for one in got[:3]] == [
                    b"=1 1",
                    b"=2 1",
                    b"=3 1",
                ]
                assert all(one.properties["replayed"] == "true" for one in got)
    finally:
        sink_module.CONNECT_PATIENCE = sink_module_patience


async def test_a_record_too_large_for_the_broker_goes_to_quarantine(tmp_path: Path) -> None:
    """It does not hold up the others, and is kept with the reason."""
    broker = Mosquitto(tmp_path / "m", extra="max_packet_size 20000")
    broker.start()
    try:
        plant = configuration(tmp_path, broker.url, historian={"kind": "none"})
        agent = Agent(tmp_path, plant)
        async with agent.running():
            await agent.journal.append("pump-1", b"x" * 30_000)
            await agent.journal.append("pump-1", b"readings,machine=pump-1 a=1 1")
            await eventually(lambda: agent.unconfirmed == 0)
            (kept,) = await agent.journal.quarantined()
        assert (len(kept.lines), "larger than the broker takes" in kept.reason) == (30_000, True)
    finally:
        broker.stop()


async def test_retained_topics_are_the_latest_and_come_back_after_an_outage(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """Latest wins, an empty payload clears, and a broker that forgot is told again."""
    agent = Agent(tmp_path, configuration(tmp_path, broker.url))
    topic = agent.sink.topic("pump-1", "tags", "pressure")
    assert topic == "fjord-parts/ulsteinvik/pump-1/tags/pressure"
    async with agent.running():
        for n in range(1000):
            agent.sink.retain(topic, {"v": n, "u": "bar"}, expiry=600)
        agent.sink.retain(agent.sink.topic("pump-1", "alarms", "pressure.high"), {"state": "unacknowledged"})
        assert await agent.sink.board.flush(5)
        for _ in range(2):
            async with listening(broker, "fjord-parts/#") as got:
                await eventually(lambda got=got: len(got) >= 3)
                latest = {one.topic: json.loads(one.payload) for one in got if one.payload}
            assert latest[topic] == {"v": 999, "u": "bar"}
            assert latest["fjord-parts/ulsteinvik/_agents/pi-01/status"]["state"] == "online"
            assert latest["fjord-parts/ulsteinvik/pump-1/alarms/pressure.high"]["state"] == "unacknowledged"
            broker.stop()
            broker.start()
            await agent.sink.client.wait_connected(5)
        agent.sink.retain(topic, None)
        assert await agent.sink.board.flush(5)
        async with listening(broker, "fjord-parts/#") as got:
            await asyncio.sleep(0.3)
            assert topic not in {one.topic for one in got}


async def test_the_status_tells_stopped_from_vanished(broker: Mosquitto, tmp_path: Path) -> None:
    """A clean stop says so; a killed agent's last will speaks for it."""
    status = "fjord-parts/ulsteinvik/_agents/pi-01/status"
    async with listening(broker, status) as got:
        async with Agent(tmp_path, configuration(tmp_path, broker.url)).running():
            await eventually(lambda: len(got) == 1)
        await eventually(lambda: len(got) == 2)
        states = [json.loads(one.payload) for one in got]
        assert (states[0]["state"], states[1]["state"], states[1]["reason"]) == (
            "online",
            "offline",
            "stopped",
        )
        async with Agent(tmp_path, configuration(tmp_path, broker.url)).running() as agent:
            await eventually(lambda: len(got) == 3)
            connection = agent.sink.client._connection
            assert connection is not None
            connection.close("pulled the plug")
            await eventually(lambda: len(got) >= 5)
        assert json.loads(got[3].payload) == {"state": "offline", "reason": "connection lost"}
        assert json.loads(got[4].payload)["state"] == "online"
