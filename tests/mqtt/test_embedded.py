"""The embedded broker: credentials, loopback, the fallback to MQTT 3.1.1."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from edge_agent.errors import TemporaryError
from edge_agent.mqtt import Message, MqttClient
from edge_agent.mqtt.client import SPEAK_311
from edge_agent.mqtt.embedded import EmbeddedBroker
from edge_agent.settings.models import MqttSettings
from tests.support.mosquitto import eventually, free_port


@pytest.fixture
async def broker() -> AsyncIterator[EmbeddedBroker]:
    server = EmbeddedBroker()
    await server.start()
    yield server
    await server.stop()


async def test_messages_through_the_embedded_broker(broker: EmbeddedBroker) -> None:
    """QoS 1 and retained messages on MQTT 3.1.1."""
    got: list[Message] = []
    settings = broker.settings(MqttSettings(url="embedded"))
    async with MqttClient(settings, "a") as one, MqttClient(settings, "b") as two:
        await one.wait_connected(5)
        await one.publish("t/kept", b"old", retain=True)
        await two.wait_connected(5)
        two.subscribe("t/+", got.append)
        await eventually(lambda: len(got) == 1)
        await asyncio.gather(*(one.publish("t/x", b"%d" % n) for n in range(50)))
        await eventually(lambda: len(got) == 51)
        assert (one.protocol, got[0].payload, got[0].retain) == ("3.1.1", b"old", True)


# amqtt leaves the connection it refuses unclosed on Python before 3.11.4, which is not ours to mend.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_fallback_to_3_1_1_is_automatic_and_remembered(broker: EmbeddedBroker) -> None:
    """Without a hint MQTT 5 is tried first, then 3.1.1, which stays."""
    plain = broker.settings(MqttSettings())
    SPEAK_311.discard(plain.url)
    async with MqttClient(plain, "a") as client:
        await client.wait_connected(10)
        assert client.protocol == "3.1.1"
        assert plain.url in SPEAK_311


async def test_only_with_the_credentials_of_this_start(broker: EmbeddedBroker) -> None:
    """Anonymous and wrong passwords are refused; each start has its own."""
    for more in ({}, {"username": broker.settings(MqttSettings()).username, "password": "x"}):
        client = MqttClient(MqttSettings.model_validate({"url": broker.url, **more}), "a")
        async with client:
            await eventually(lambda client=client: client.next_try is not None, 10)
            assert not client.connected.is_set()
            assert "mqtt.password" in str(client.error)
    assert EmbeddedBroker().settings(MqttSettings()).password != broker.settings(MqttSettings()).password


async def test_a_taken_port_is_named() -> None:
    """The message says which port."""
    port = free_port()
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", port)
    async with server:
        with pytest.raises(TemporaryError, match=f"port {port}"):
            await EmbeddedBroker(port).start()


async def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback, but the command that mends it."""
    monkeypatch.setitem(sys.modules, "edge_agent.mqtt.amqtt_broker", None)
    with pytest.raises(TemporaryError, match=r"pip install 'edge-agent\[demo\]'"):
        await EmbeddedBroker().start()
