"""The broker configuration that is shipped, started for real with paths of the test's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_agent.mqtt import Message, MqttClient, PublishRefused
from tests.support.mosquitto import Mosquitto, eventually

SHIPPED = Path(__file__).parents[2] / "deploy/mosquitto/edge-agent.conf"


@pytest.fixture
def shipped(tmp_path: Path) -> Mosquitto:
    broker = Mosquitto(tmp_path, users={"edge-01": "pw"})
    ours = (tmp_path / "mosquitto.conf").read_text().splitlines()
    user = [line for line in ours if line.startswith("user ")]
    text = SHIPPED.read_text().replace("listener 1883", f"listener {broker.port}")
    text = text.replace("/etc/mosquitto/edge-agent.passwords", str(tmp_path / "passwords"))
    text = text.replace("/var/lib/mosquitto/", f"{tmp_path}/")
    (tmp_path / "mosquitto.conf").write_text("\n".join([*user, text]))
    return broker


async def test_the_shipped_configuration_avoids_the_silent_limits(shipped: Mosquitto) -> None:
    """It wants a password, keeps 3,000 messages for an absent subscriber, refuses what is too large."""
    shipped.start()
    got: list[Message] = []
    settings = shipped.settings(username="edge-01", password="pw")
    try:
        absent = MqttClient(settings, "absent", keep_session=3600)
        absent.subscribe("t", got.append)
        absent.start()
        await absent.wait_connected(5)
        await absent.stop()
        async with MqttClient(settings, "pi-01") as agent:
            await agent.wait_connected(5)
            await asyncio.gather(*(agent.publish("t", b"%d" % n) for n in range(3000)))
            await agent.publish("t", b"x" * 128 * 1024)
            with pytest.raises(PublishRefused):
                await agent.publish("t", b"x" * 2**20)
        absent.start()
        await eventually(lambda: len(got) == 3001)
        await absent.stop()
        anonymous = MqttClient(shipped.settings(), "x")
        async with anonymous:
            await eventually(lambda: anonymous.next_try is not None)
            assert "mqtt.password" in str(anonymous.error)
    finally:
        shipped.stop()


async def test_what_the_shipped_broker_holds_survives_its_restart(shipped: Mosquitto) -> None:
    """Retained values and an absent subscriber's queue, 50 MB of the largest messages, are there again."""
    shipped.start()
    got: list[Message] = []
    settings = shipped.settings(username="edge-01", password="pw")
    try:
        absent = MqttClient(settings, "absent", keep_session=3600)
        absent.subscribe("t/#", got.append)
        absent.start()
        await absent.wait_connected(5)
        await absent.stop()
        async with MqttClient(settings, "pi-01") as agent:
            await agent.wait_connected(5)
            await agent.publish("t/kept", b"latest", retain=True)
            for n in range(20):
                await asyncio.gather(*(agent.publish("t/n", bytes([n]) * 128 * 1024) for _ in range(20)))
        shipped.stop()
        shipped.start()
        absent.start()
        await eventually(lambda: sum(one.topic == "t/n" for one in got) == 400, 20)
        assert b"latest" in {one.payload for one in got if one.topic == "t/kept"}
        await absent.stop()
    finally:
        shipped.stop()


async def test_a_subscriber_of_the_shipped_broker_may_hold_a_hundred_back(shipped: Mosquitto) -> None:
    """The historian acknowledges once a commit: the broker's default window of 20 would slow it down."""
    shipped.start()
    got: list[Message] = []
    settings = shipped.settings(username="edge-01", password="pw")
    try:
        async with MqttClient(settings, "slow") as slow, MqttClient(settings, "pi-01") as agent:
            slow.subscribe("t", got.append, manual_ack=True)
            await slow.wait_connected(5)
            await agent.wait_connected(5)
            await asyncio.gather(*(agent.publish("t", b"%d" % n) for n in range(150)))
            await eventually(lambda: len(got) == 100)
            for one in got[:100]:
                one.ack()
            await eventually(lambda: len(got) == 150)
    finally:
        shipped.stop()
