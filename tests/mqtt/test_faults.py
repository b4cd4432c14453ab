"""Faults between the client and its broker; each test bears the name of its row in the fault catalogue."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.mqtt import MqttClient, MqttUnavailable, PublishRefused
from edge_agent.mqtt import client as client_module
from edge_agent.mqtt import pauses as pauses_module
from edge_agent.mqtt.liveness import Liveness
from edge_agent.settings.models import MqttSettings
from tests.support.faultproxy import FaultProxy
from tests.support.mosquitto import Mosquitto, eventually
from tests.support.namespace import namespace

PAYLOAD = b"readings,machine=pump-1 secret_recipe=1 1"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_FIRST", 0.1)
    monkeypatch.setattr(client_module, "BACKOFF_LAST", 0.4)


def now() -> float:
    return asyncio.get_running_loop().time()


def through(proxy: FaultProxy, **more: object) -> MqttSettings:
    return MqttSettings.model_validate({"url": f"mqtt://127.0.0.1:{proxy.port}", **more})


@contextlib.asynccontextmanager
async def connected(settings: MqttSettings, name: str, keepalive: int = 15) -> AsyncIterator[MqttClient]:
    async with MqttClient(settings, name, keepalive=keepalive) as client:
        await client.wait_connected(10)
        yield client


# --- A3


async def test_a3_a_broker_that_flaps(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six flaps: never two connections within a wait, and what comes twice is at most what was in flight."""
    monkeypatch.setattr(pauses_module, "ROOM", 0.4)
    window = 50
    got: list[bytes] = []
    attempts: list[float] = []
    answers: list[asyncio.Future[None]] = []
    async with FaultProxy("127.0.0.1", broker.port) as proxy:
        async with connected(broker.settings(), "listener") as listener:
            listener.subscribe("t", lambda message: got.append(message.payload))
            client = MqttClient(through(proxy), "flapping")
            client.on_connect(lambda: attempts.append(now()))
            async with client:
                numbers = iter(range(1_000_000))
                for _ in range(6):
                    await client.wait_connected(10)
                    sending = [await _acknowledged(client, next(numbers)) for _ in range(20)]
                    answers += [client.publish("t", b"%d" % next(numbers)) for _ in range(window)]
                    proxy.cut()
                    await eventually(lambda: not client.connected.is_set())
                    assert all(sending)
                await client.wait_connected(10)
            await asyncio.gather(*answers, return_exceptions=True)
            broken = [one for one in answers if one.exception() is not None]
            assert all(isinstance(one.exception(), MqttUnavailable) for one in broken)
        assert proxy.tally.accepted <= 8, "one attempt a flap"
    gaps = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert min(gaps) >= 0.05, "a jittered wait is at least half of the first"
    # The client repeats nothing itself: whoever published sends again what failed, at most a window a flap.
    assert len(got) == len(set(got))
    assert len(broken) <= 6 * window


async def _acknowledged(client: MqttClient, number: int) -> bool:
    await client.publish("t", b"%d" % number)
    return True


def test_a3_the_waits_double_with_jitter_up_to_their_last() -> None:
    """1 to 15 s, each between half and all of it; a connection that lasted begins anew."""
    random.seed(4)
    pauses = pauses_module.Pauses("x")
    waits = [pauses.after(None, None, first=1.0, last=15.0) for _ in range(8)]
    for wait, full in zip(waits, (1, 2, 4, 8, 15, 15, 15, 15), strict=True):
        assert full / 2 <= wait <= full
    assert len(set(waits[4:])) == 4
    assert pauses.after(None, 3.0, first=1.0, last=15.0) > 7, "a flap begins nothing anew"
    assert pauses.after(None, 11.0, first=1.0, last=15.0) <= 1.0


# --- A4, A5


async def test_a4_a_half_open_connection_is_noticed(broker: Mosquitto) -> None:
    """The peer vanishes without a FIN: noticed within 1.5 keepalives, and healed once it is back."""
    keepalive = 2
    async with (
        FaultProxy("127.0.0.1", broker.port) as proxy,
        connected(through(proxy), "a", keepalive=keepalive) as client,
    ):
        await client.publish("t", b"x")
        proxy.to_client.swallow = proxy.to_server.swallow = True
        started = now()
        with pytest.raises(MqttUnavailable, match="nothing was heard from the broker for 3 s"):
            await client.publish("t", b"y")
        assert now() - started <= 1.5 * keepalive + 1.0
        proxy.clear()
        proxy.cut()
        await eventually(lambda: client.connections == 2, 15)
        await client.publish("t", b"z")


async def test_a5_an_acknowledgement_that_never_comes(broker: Mosquitto) -> None:
    """PUBACKs swallowed while pings are answered: the publish fails, and goes through on a new connection."""
    got: list[bytes] = []
    async with connected(broker.settings(), "listener") as listener:
        listener.subscribe("t", lambda message: got.append(message.payload))
        async with _PubackEater(broker.port) as eater:
            settings = MqttSettings(url=f"mqtt://127.0.0.1:{eater.port}")
            async with connected(settings, "a", keepalive=1) as client:
                await client.publish("t", b"before")
                eater.hungry = True
                with pytest.raises(MqttUnavailable, match="the broker acknowledged nothing for 2 s"):
                    await client.publish("t", b"once more")
                assert eater.eaten == 1
                eater.hungry = False
                await eventually(lambda: client.connections == 2)
                await client.publish("t", b"once more")
        await eventually(lambda: len(got) == 3)
    # Twice on the wire: the same sequence number, so that the store has it once (tests/sinks).
    assert got == [b"before", b"once more", b"once more"]


class _PubackEater:
    """Passes MQTT on, whole packets from the broker at a time, and swallows PUBACKs while it is hungry."""

    def __init__(self, port: int) -> None:
        self.hungry = False
        self.eaten = 0
        self.port = 0
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> _PubackEater:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.ensure_future(self._relay(reader, writer)))

    async def _relay(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection("127.0.0.1", self._target)
        up = asyncio.ensure_future(self._upwards(near, to_far))
        try:
            while head := await far.read(1):
                packet = await self._packet(head, far)
                if self.hungry and head[0] >> 4 == 4:
                    self.eaten += 1
                else:
                    to_near.write(packet)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side is gone; the other hears of it below
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            to_near.close()
            to_far.close()

    @staticmethod
    async def _packet(head: bytes, far: asyncio.StreamReader) -> bytes:
        packet, length, shift = bytearray(head), 0, 0
        while True:
            byte = (await far.readexactly(1))[0]
            packet.append(byte)
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return bytes(packet + await far.readexactly(length))

    @staticmethod
    async def _upwards(near: asyncio.StreamReader, to_far: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await near.read(65536):
                to_far.write(data)
        to_far.close()


def test_a11_bytes_that_move_slowly_are_a_sign_of_life() -> None:
    """A long message on a slow line is not a dead broker; one whose bytes stand still is."""
    life = Liveness(10.0, 0.0)
    for second in range(1, 200):
        assert life.look(float(second), pending=True, unsent=1_000_000 - second) is None
    assert (
        life.look(215.0, pending=True, unsent=1_000_000 - 199) == "nothing was heard from the broker for 16 s"
    )
    life.heard(216.0)
    assert life.look(217.0, pending=True, unsent=0) is None
    life.heard(221.0)
    assert life.look(221.0, pending=True, unsent=0) == "the broker acknowledged nothing for 22 s"


# --- A6


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker with a user who may use `plant/#` only."""
    acl = "user edge-01\ntopic readwrite plant/#\n"
    server = Mosquitto(
        tmp_path / "guarded", users={"edge-01": "right"}, acl=acl, extra="max_packet_size 10000"
    )
    server.start()
    yield server
    server.stop()


async def test_a6_refusals_are_told_apart_and_not_hammered(guarded: Mosquitto) -> None:
    """Credentials, access list, size: each in its words, with user or topic, and at most a try a minute."""
    wrong = guarded.settings(username="edge-01", password="wrong")
    async with MqttClient(wrong, "pi-01") as client:
        await eventually(lambda: client.next_try is not None)
        assert "refused pi-01 (user edge-01)" in str(client.error)
        assert "check mqtt.username and mqtt.password" in str(client.error)
        assert client.next_try is not None
        assert client.next_try - now() > 59
    right = guarded.settings(username="edge-01", password="right")
    async with connected(right, "pi-01") as client:
        with pytest.raises(PublishRefused, match=r"other/topic from edge-01.*ACL") as refused:
            await client.publish("other/topic", b"x")
        assert (refused.value.permanent, refused.value.retry_after) == (False, 60.0)
        with pytest.raises(
            PublishRefused, match=r"plant/big from edge-01.*larger than the broker takes"
        ) as large:
            await client.publish("plant/big", b"x" * 10_001)
        assert large.value.permanent


@contextlib.asynccontextmanager
async def answering(connack: int = 0, puback: int = 0, farewell: int = 0) -> AsyncIterator[MqttSettings]:
    """An MQTT 5 broker that gives these reasons, byte by byte: what mosquitto cannot be made to say."""

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.read(1):
                body = await reader.readexactly((await reader.readexactly(1))[0])
                if head[0] >> 4 == 1:
                    writer.write(b"\x20\x03\x00" + bytes((connack, 0)))
                    writer.write(b"\xe0\x02" + bytes((farewell, 0)) if farewell else b"")
                elif head[0] >> 4 == 3:
                    topic = int.from_bytes(body[:2], "big")
                    writer.write(b"\x40\x04" + body[2 + topic : 4 + topic] + bytes((puback, 0)))
        writer.close()

    server = await asyncio.start_server(broker, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield MqttSettings(url=f"mqtt://127.0.0.1:{port}", username="edge-01")


@pytest.mark.parametrize(
    ("reason", "words", "least", "permanent"),
    [
        (0x87, "the broker's access list", 60.0, False),
        (0x97, "a quota of the broker is used up", 60.0, False),
        (0x83, "look into its log", 0.0, False),
        (0x90, "does not accept the topic", 0.0, True),
        (0x99, "does not accept the payload", 0.0, True),
    ],
)
async def test_a6_reasons_for_refusing_a_message(
    reason: int, words: str, least: float, permanent: bool
) -> None:
    """Each in its words, with user and topic; what only a person can change is left alone for a minute."""
    async with answering(puback=reason) as settings, connected(settings, "pi-01") as client:
        with pytest.raises(PublishRefused, match=rf"on t from edge-01: .*{words}") as refused:
            await client.publish("t", b"x")
        assert refused.value.permanent is permanent
        assert (refused.value.retry_after or 0.0) == least


@pytest.mark.parametrize(
    ("reason", "words", "least"),
    [
        (0x85, "set `agent:` to another name", 0.0),
        (0x86, "check mqtt.username and mqtt.password", 60.0),
        (0x8A, "ask its administrator", 60.0),
        (0x89, "the broker is busy", 0.0),
        (0x97, "a quota", 60.0),
    ],
)
async def test_a6_reasons_for_refusing_a_connection(reason: int, words: str, least: float) -> None:
    """Each in its words, with client and user."""
    async with answering(connack=reason) as settings, MqttClient(settings, "pi-01") as client:
        await eventually(lambda: client.next_try is not None)
        assert "refused pi-01 (user edge-01)" in str(client.error)
        assert words in str(client.error)
        assert (client.next_try or 0.0) - now() >= least - 1.0


# --- A7


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a7_two_clients_of_one_name_leave_each_other_room(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture, version: str
) -> None:
    """Recognised by the pattern where the broker says nothing, named; then a reconnect in 30 s."""
    (client_module.SPEAK_311.add if version == "3.1.1" else client_module.SPEAK_311.discard)(broker.url)
    with caplog.at_level(logging.WARNING):
        async with (
            MqttClient(broker.settings(), "pi-01") as one,
            MqttClient(broker.settings(), "pi-01") as two,
        ):
            await eventually(
                lambda: any(each.next_try and each.next_try - now() > 25 for each in (one, two)), 20
            )
            before = one.connections + two.connections
            await asyncio.sleep(1.0)
            assert one.connections + two.connections <= before + 1
    assert "another client uses the same client id" in caplog.text
    assert "pi-01" in caplog.text


async def test_a7_a_broker_that_says_so_is_believed_at_once() -> None:
    """Reason 0x8e: the first takeover is recognised, the client named, and 30 s are left."""
    async with answering(farewell=0x8E) as settings, MqttClient(settings, "pi-01") as client:
        await eventually(lambda: client.next_try is not None)
        assert "the connection of pi-01 to" in str(client.error)
        assert "another client uses the same client id; give each agent its own `agent:` name" in str(
            client.error
        )
        assert (client.next_try or 0.0) - now() >= 29.0
        assert client.connections == 1


# --- A10


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Authority:
    """Signs certificates for the broker of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plant authority")])
        certificate = (
            self._builder(self._name, self._key.public_key(), 0, 365)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, first: int, last: int
    ) -> x509.CertificateBuilder:
        today = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(today + timedelta(days=first - 1))
            .not_valid_after(today + timedelta(days=last))
        )

    def sign(
        self, name: str, *, host: str = "localhost", first: int = 0, last: int = 30
    ) -> tuple[Path, Path]:
        """Certificate and key of a server `host`, valid from `first` to `last` days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = (
            self._builder(subject, key.public_key(), first, last)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        files[1].write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        )
        return files


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("expired", "has expired: renew it, unless this machine's clock"),
        ("not yet", "is not valid yet"),
        ("wrong host", "is for another name than localhost: check mqtt.url"),
        ("unknown authority", "signed by nobody known here.*set mqtt.ca_file"),
        ("TLS 1.1", "(offers no TLS 1.2 or newer|ended the handshake.*none newer than 1.1)"),
        ("no TLS", "(does not speak TLS there|ended the handshake.*no TLS on that port)"),
    ],
)
async def test_a10_tls_fails_closed_and_says_which(authority: Authority, trouble: str, words: str) -> None:
    """The trouble is told apart, and no byte of the application reaches the server, nor the wire in clear."""
    cert, key = authority.sign(
        trouble.replace(" ", "-"),
        host="broker.elsewhere" if trouble == "wrong host" else "localhost",
        first=5 if trouble == "not yet" else -20,
        last=-2 if trouble == "expired" else 30,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if trouble == "TLS 1.1":
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
    seen = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            seen.extend(await reader.read(65536))
        writer.close()

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # the server's side of a failed handshake
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if trouble == "no TLS" else context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        settings = MqttSettings.model_validate(
            {
                "url": f"mqtts://localhost:{port}",
                "ca_file": None if trouble == "unknown authority" else authority.ca,
                "username": "edge-01",
                "password": "for-this-test",
            }
        )
        async with MqttClient(settings, "pi-01") as client:
            await eventually(lambda: client.next_try is not None)
            with pytest.raises(MqttUnavailable, match=words):
                await client.wait_connected(0.01)
            assert isinstance(client.publish("t", PAYLOAD).exception(), MqttUnavailable)
            await eventually(lambda: client.last_try is not None and client.next_try is not None)
    assert PAYLOAD not in seen
    assert b"edge-01" not in seen
    if trouble != "no TLS":
        assert not seen, "the handshake was never completed"


# --- A12


async def test_a12_a_broker_that_moves_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are resolved again at each connection: no name, then another address, within a wait or two."""
    first, second = Mosquitto(tmp_path / "one"), Mosquitto(tmp_path / "two")
    text = (second.folder / "mosquitto.conf").read_text()
    moved = text.replace(f"listener {second.port} 127.0.0.1", f"listener {first.port} 127.0.0.2")
    (second.folder / "mosquitto.conf").write_text(moved + f"\nlistener {second.port} 127.0.0.1\n")
    answers: list[str | None] = ["127.0.0.1"]
    system = socket.getaddrinfo

    def resolve(host: object, *more: object, **named: object) -> object:
        if host != "broker.test":
            return system(host, *more, **named)  # type: ignore[arg-type]
        if answers[0] is None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return system(answers[0], *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    first.start()
    second.start()
    try:
        async with connected(MqttSettings(url=f"mqtt://broker.test:{first.port}"), "a") as client:
            answers[0] = None
            first.stop()
            await eventually(lambda: "the name broker.test cannot be resolved" in str(client.error))
            answers[0] = "127.0.0.2"
            started = now()
            await client.wait_connected(5)
            assert now() - started < 2 * client_module.BACKOFF_LAST + 1.0
            await client.publish("t", b"x")
    finally:
        first.stop()
        second.stop()


# --- A13


async def test_a13_a_cable_that_is_pulled_and_plugged_again(tmp_path: Path) -> None:
    """The link goes down without a word: noticed, and a publish goes through within 30 s of its return."""
    with namespace() as network:
        broker = Mosquitto(tmp_path / "there", host=network.host, command=network.command)
        broker.start()
        try:
            async with connected(broker.settings(), "a", keepalive=2) as client:
                await client.publish("t", b"1")
                network.set_link(up=False)
                with pytest.raises(MqttUnavailable):
                    await client.publish("t", b"2")
                await asyncio.sleep(1)
                network.set_link(up=True)
                started = now()
                await eventually(lambda: client.connections == 2, 30)
                await client.publish("t", b"2")
                assert now() - started < 30
        finally:
            broker.stop()
