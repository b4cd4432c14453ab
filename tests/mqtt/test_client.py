"""The MQTT client against a real mosquitto: both versions, refusals, restarts, sessions."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest

from edge_agent.mqtt import Message, MqttClient, MqttUnavailable, PublishRefused, Will
from edge_agent.mqtt import client as client_module
from edge_agent.mqtt.message import matches
from edge_agent.settings.models import MqttSettings
from tests.support.mosquitto import Mosquitto, eventually, free_port


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_FIRST", 0.1)
    monkeypatch.setattr(client_module, "BACKOFF_LAST", 0.3)


def settings(broker: Mosquitto, version: str = "5", **more: object) -> MqttSettings:
    (client_module.SPEAK_311.add if version == "3.1.1" else client_module.SPEAK_311.discard)(broker.url)
    return broker.settings(**more)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_messages_go_there_and_back(broker: Mosquitto, version: str) -> None:
    """QoS 0 and 1, in order, user properties with MQTT 5, more than a window at once."""
    got: list[Message] = []
    async with MqttClient(settings(broker, version), "a") as one, MqttClient(one.settings, "b") as two:
        two.subscribe("plant/+/readings", got.append)
        await one.wait_connected(5)
        await two.wait_connected(5)
        assert one.protocol == version
        answers = [
            one.publish("plant/pump-1/readings", b"%d" % n, properties={"seq": str(n)}) for n in range(1200)
        ]
        await asyncio.gather(*answers)
        await one.publish("plant/pump-1/readings", b"last", qos=0)
        await eventually(lambda: len(got) == 1201)
    assert [message.payload for message in got] == [*(b"%d" % n for n in range(1200)), b"last"]
    assert got[7].properties == ({"seq": "7"} if version == "5" else {})


async def test_the_will_is_published_when_a_client_vanishes_and_not_after_a_goodbye(
    broker: Mosquitto,
) -> None:
    """A killed agent is offline for everyone, a stopped one says so itself."""
    got: list[Message] = []
    async with MqttClient(settings(broker), "watcher") as watcher:
        watcher.subscribe("agents/#", got.append)
        await watcher.wait_connected(5)
        polite = MqttClient(settings(broker), "x", will=Will("agents/x", b"offline"))
        polite.start()
        await polite.wait_connected(5)
        await polite.stop()
        rude = MqttClient(settings(broker), "y", will=Will("agents/y", b"offline"))
        rude.start()
        await rude.wait_connected(5)
        assert rude._connection is not None
        rude._connection.close("pulled the plug")
        await eventually(lambda: bool(got))
        await rude.stop()
    assert [(message.topic, message.payload) for message in got] == [("agents/y", b"offline")]


async def test_wrong_password_says_what_to_check(tmp_path: Path) -> None:
    """The message names user, client and setting, and the client stops hammering."""
    broker = Mosquitto(tmp_path / "m", users={"edge-01": "right"})
    broker.start()
    try:
        wrong = MqttClient(settings(broker, username="edge-01", password="wrong"), "pi-01")
        async with wrong:
            await eventually(lambda: wrong.next_try is not None)
            assert wrong.error is not None
            assert "pi-01" in wrong.error
            assert "user edge-01" in wrong.error
            assert "check mqtt.username and mqtt.password" in wrong.error
            assert wrong.next_try is not None
            assert wrong.next_try - asyncio.get_running_loop().time() > 50
            with pytest.raises(MqttUnavailable, match=r"mqtt\.password"):
                await wrong.wait_connected(0.1)
        async with MqttClient(settings(broker, username="edge-01", password="right"), "pi-01") as right:
            await right.wait_connected(5)
    finally:
        broker.stop()


async def test_refusals_by_the_access_list_and_for_size_are_told_apart(tmp_path: Path) -> None:
    """A refused publish names topic and user, and says whether trying again makes sense."""
    acl = "user edge-01\ntopic readwrite plant/#\n"
    broker = Mosquitto(tmp_path / "m", users={"edge-01": "pw"}, acl=acl, extra="max_packet_size 10000")
    broker.start()
    try:
        async with MqttClient(settings(broker, username="edge-01", password="pw"), "pi-01") as client:
            await client.wait_connected(5)
            await client.publish("plant/ok", b"x")
            with pytest.raises(PublishRefused, match=r"other/topic from edge-01.*ACL") as refused:
                await client.publish("other/topic", b"x")
            assert not refused.value.permanent
            with pytest.raises(PublishRefused, match="larger than the broker takes") as refused:
                await client.publish("plant/large", b"x" * 20_000)
            assert refused.value.permanent
            assert client.connections == 1
    finally:
        broker.stop()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_broker_that_restarts(broker: Mosquitto, how: signal.Signals) -> None:
    """What was in flight fails, publishing while away fails, and all subscriptions are back afterwards."""
    got: list[Message] = []
    async with MqttClient(settings(broker), "a") as client:
        client.subscribe("t", got.append)
        await client.wait_connected(5)
        broker.stop(how)
        await eventually(lambda: not client.connected.is_set())
        assert client.error is not None
        with pytest.raises(MqttUnavailable):
            await client.publish("t", b"1")
        broker.start()
        await client.wait_connected(5)
        await client.publish("t", b"2")
        await eventually(lambda: [message.payload for message in got] == [b"2"])
        assert client.connections == 2


async def test_a_broker_that_hangs_is_noticed(broker: Mosquitto) -> None:
    """A half-open connection ends within two keepalives, and publishes fail then."""
    async with MqttClient(settings(broker), "a", keepalive=1) as client:
        await client.wait_connected(5)
        broker.freeze(frozen=True)
        try:
            waiting = client.publish("t", b"x")
            with pytest.raises(MqttUnavailable):
                await asyncio.wait_for(waiting, 5)
        finally:
            broker.freeze(frozen=False)
        await client.wait_connected(10)


async def test_unacknowledged_messages_come_again(broker: Mosquitto) -> None:
    """With manual_ack and a kept session the broker sends again what was not acknowledged."""
    got: list[Message] = []
    subscriber = MqttClient(settings(broker), "keeper", keep_session=3600)
    subscriber.subscribe("t", got.append, manual_ack=True)
    subscriber.start()
    async with MqttClient(settings(broker), "a") as publisher:
        await subscriber.wait_connected(5)
        await publisher.wait_connected(5)
        for n in range(4):
            await publisher.publish("t", b"%d" % n)
        await eventually(lambda: len(got) == 4)
        got[0].ack()
        got[1].ack()
        await asyncio.sleep(0.05)
        await subscriber.stop()
        await publisher.publish("t", b"4")
    late = got[2]
    got.clear()
    subscriber.start()
    await eventually(lambda: len(got) == 3)
    assert [message.payload for message in got] == [b"2", b"3", b"4"]
    late.ack()  # of a connection that is gone: harmless
    await subscriber.stop()


async def test_a_shared_group_shares(broker: Mosquitto) -> None:
    """Two clients of one group get each message once between them."""
    got: list[bytes] = []
    async with MqttClient(settings(broker), "a") as one, MqttClient(settings(broker), "b") as two:
        for client in (one, two):
            client.subscribe("t/+", lambda message: got.append(message.payload), group="historian")
            await client.wait_connected(5)
        await eventually(lambda: one.connected.is_set() and two.connected.is_set())
        for n in range(20):
            await one.publish("t/x", b"%d" % n)
        await asyncio.sleep(0.3)
    assert sorted(got) == sorted(b"%d" % n for n in range(20))


async def test_nobody_listens() -> None:
    """The message names the address; the waits grow."""
    async with MqttClient(MqttSettings(url=f"mqtt://127.0.0.1:{free_port()}"), "a") as client:
        await eventually(lambda: client.next_try is not None)
        assert client.error is not None
        assert "Connection refused" in client.error
        assert client.settings.url in client.error


async def test_a_peer_that_is_no_broker() -> None:
    """Garbage instead of a CONNACK costs one attempt and says so; both versions are tried."""

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, MqttClient(MqttSettings(url=f"mqtt://127.0.0.1:{port}"), "a") as client:
        await eventually(lambda: client.error != "not connected yet")
        assert not client.connected.is_set()


async def test_a_bad_subscriber_does_not_stop_the_others(broker: Mosquitto) -> None:
    """A callback that raises is logged; the message is acknowledged and others get theirs."""
    got: list[bytes] = []

    def fails(message: Message) -> None:
        raise RuntimeError("mine")

    async with MqttClient(settings(broker), "a") as client:
        client.subscribe("t", fails)
        client.subscribe("t", lambda message: got.append(message.payload))
        await client.wait_connected(5)
        await client.publish("t", b"1")
        await client.publish("t", b"2")
        await eventually(lambda: got == [b"1", b"2"])


async def test_tls_needs_the_brokers_authority(tmp_path: Path) -> None:
    """With the CA it connects, without it or under another name it fails closed and says why."""
    ca, cert, key = _certificates(tmp_path)
    port = free_port()
    extra = f"listener {port} 127.0.0.1\ncafile {ca}\ncertfile {cert}\nkeyfile {key}"
    broker = Mosquitto(tmp_path / "m", extra=extra)
    broker.start()
    try:
        good = MqttSettings(url=f"mqtts://localhost:{port}", ca_file=ca)
        async with MqttClient(good, "a") as client:
            await client.wait_connected(5)
            await client.publish("t", b"x" * 200_000)
        unknown = MqttClient(MqttSettings(url=f"mqtts://localhost:{port}"), "b")
        async with unknown:
            await eventually(lambda: unknown.error != "not connected yet")
            assert "no trusted connection" in str(unknown.error)
    finally:
        broker.stop()


def _certificates(folder: Path) -> tuple[Path, Path, Path]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"]
    command += ["/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, cert, key


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("+/b", "a/b", True),
        ("#", "$SYS/x", False),
        ("a/+/readings", "a/pump-1/readings", True),
        ("a/+/readings", "a/x/pump-1/readings", False),
    ],
)
def test_filters(pattern: str, topic: str, fits: bool) -> None:
    """Wildcards as the specification has them."""
    assert matches(pattern, topic) is fits
