"""Modbus over UDP and over TLS: the same answers, and what can go wrong only there."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.clock import Clock
from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent.types import Reason
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.modbus.settings import ModbusMachine
from edge_agent_simulators.modbus_server import ModbusServer
from tests.drivers.stage import good, honest, missing, reply_to, scan

TAGS = {"a": {"address": "holding:0"}, "b": {"address": "holding:30"}}
BOTH = {"a": good(1000), "b": good(1030)}


@contextlib.asynccontextmanager
async def reading(url: str, **keys: Any) -> AsyncIterator[ModbusDriver]:
    """A driver for a URL, connected."""
    comm = {"timeout": "150ms", **keys.pop("comm", {})}
    raw = {"driver": "modbus", "url": url, "tags": TAGS, "comm": comm, **keys}
    driver = ModbusDriver("pump-1", ModbusMachine.model_validate(raw), Clock())
    try:
        await driver.connect()
        yield driver
    finally:
        await driver.close()


Datagrams = Callable[[bytes], list[bytes]]


class UdpDevice(asyncio.DatagramProtocol):
    """A device that answers each datagram with those that `reply` makes of it; a context manager."""

    def __init__(self, reply: Datagrams) -> None:
        self.reply = reply
        self.peers: set[tuple[str, int]] = set()
        self.requests = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> UdpDevice:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._transport is not None
        self._transport.close()

    @property
    def url(self) -> str:
        assert self._transport is not None
        return f"udp://127.0.0.1:{self._transport.get_extra_info('sockname')[1]}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        self.requests += 1
        self.peers.add(addr)
        for piece in self.reply(data):
            self._transport.sendto(piece, addr)


async def test_udp_answers_are_read() -> None:
    """One datagram asks, one answers, over one socket."""
    async with UdpDevice(lambda frame: [honest(frame)]) as device, reading(device.url) as driver:
        for _ in range(3):
            assert await scan(driver) == BOTH
        assert (device.requests, len(device.peers)) == (6, 1)


async def test_a_lost_datagram_is_asked_for_again() -> None:
    """`retries` makes up for what a network loses."""
    lost = iter([True, False, False, True, False])

    def lossy(frame: bytes) -> list[bytes]:
        return [] if next(lost, False) else [honest(frame)]

    async with (
        UdpDevice(lossy) as device,
        reading(device.url, comm={"retries": 1, "timeout": "50ms"}) as driver,
    ):
        for _ in range(2):
            assert await scan(driver) == BOTH
        assert device.requests == 6


ODD_DATAGRAMS: list[Datagrams] = [
    lambda frame: [honest(frame)[:-1]],
    lambda frame: [honest(frame) + b"\0"],
    lambda _: [b"", b"\0", bytes(600)],
    lambda frame: [b"\0\0" + honest(frame)[2:]],
    lambda frame: [honest(frame)[:6] + b"\x09" + honest(frame)[7:]],
    lambda frame: [reply_to(frame, b"\x03\x04\0\1\0\2")],
]


@pytest.mark.parametrize("odd", ODD_DATAGRAMS)
async def test_a_datagram_that_answers_nothing_is_no_value(odd: Datagrams) -> None:
    """Cut, padded, empty, of another transaction or unit, too long: bad, and the block beside it is read."""

    def reply(frame: bytes) -> list[bytes]:
        return honest_b(frame) or odd(frame)

    def honest_b(frame: bytes) -> list[bytes]:
        return [honest(frame)] if frame[9] == 30 else []

    async with UdpDevice(reply) as device, reading(device.url) as driver:
        assert await scan(driver) == {"a": missing(Reason.COMM_FAILURE), "b": good(1030)}


async def test_stray_and_doubled_datagrams_do_no_harm() -> None:
    """Noise before the answer, and the answer twice: the value is the right one, again and again."""
    noise = [b"hello", bytes(8)]
    twice = UdpDevice(lambda frame: [*noise, honest(frame), honest(frame)])
    async with twice as device, reading(device.url) as driver:
        for _ in range(10):
            assert await scan(driver) == BOTH


async def test_a_late_datagram_answers_nothing() -> None:
    """What comes after its timeout, with the next question under way, is dropped."""
    held: list[bytes] = []

    def late(frame: bytes) -> list[bytes]:
        if frame[9] == 0:
            held.append(honest(frame, lambda _: 7))
            return []
        return [*held, honest(frame)]

    async with UdpDevice(late) as device, reading(device.url, comm={"timeout": "40ms"}) as driver:
        for _ in range(5):
            assert await scan(driver) == {"a": missing(Reason.TIMEOUT), "b": good(1030)}


async def test_nobody_at_the_udp_port_is_unreachable_at_once() -> None:
    """The network's own "nobody there" is believed; no timeout is waited for."""
    async with UdpDevice(lambda _: []) as device:
        url = device.url
    began = time.monotonic()
    async with reading(url, comm={"timeout": "3s"}) as driver:
        with pytest.raises(DeviceUnreachable, match="nobody at"):
            await scan(driver)
    assert time.monotonic() - began < 1


class Authority:
    """Signs certificates and writes them into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = self._signed(subject, subject, self._key, authority=True)
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def _signed(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool,
        names: list[x509.GeneralName] | None = None, days: int = 1,
    ) -> x509.Certificate:  # fmt: skip
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, name: str, *names: x509.GeneralName, days: int = 1) -> tuple[Path, Path]:
        """A certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(
            subject, self._certificate.subject, key, authority=False, names=list(names), days=days
        )
        paths = self._folder / f"{self._name}-{name}.pem", self._folder / f"{self._name}-{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths


LOOPBACK = x509.IPAddress(ip_address("127.0.0.1"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The plant's own."""
    return Authority(tmp_path_factory.mktemp("tls"), "plant")


@contextlib.asynccontextmanager
async def tls_device(
    certificate: tuple[Path, Path], *, clients: Path | None = None, most: ssl.TLSVersion | None = None
) -> AsyncIterator[str]:
    """A device that speaks TLS and, with `clients`, wants a certificate of that authority; its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if most is not None:
        context.minimum_version = context.maximum_version = most
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    device = ModbusServer({1: {"holding": {n: 1000 + n for n in range(40)}}})
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(7)
                pdu = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
                if (answer := device.answer(head[6], pdu)) is not None:
                    writer.write(reply_to(head, answer))
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
    assert device.write_requests == 0


async def test_tls_with_certificates_on_both_sides(authority: Authority) -> None:
    """The device's certificate is verified, ours is shown, and the values are read, also sent ahead."""
    cert, key = authority.issue("agent")
    tls = {"ca_file": str(authority.file), "cert_file": str(cert), "key_file": str(key)}
    async with tls_device(authority.issue("device", LOOPBACK), clients=authority.file) as url:
        for ahead in (1, 4):
            keys = {"tls": tls, "comm": {"pipeline": ahead, "timeout": "2s"}}
            async with reading(url, **keys) as driver:
                for _ in range(2):
                    assert await scan(driver) == BOTH


async def refused(url: str, tls: dict[str, Any] | None) -> str:
    """What is said where no TLS connection comes about."""
    with pytest.raises(DeviceRefused) as refusal:
        async with reading(url, comm={"timeout": "2s"}, **({"tls": tls} if tls is not None else {})):
            pass
    return str(refusal.value)


def certificates(authority: Authority) -> Iterator[tuple[str, tuple[Path, Path], dict[str, Any] | None, str]]:
    """Certificates of the device that are not accepted, with the settings and what is said."""
    ca = {"ca_file": str(authority.file)}
    yield "unknown authority", authority.issue("d1", LOOPBACK), None, "unable to get local issuer"
    yield "other name", authority.issue("d2", x509.DNSName("plc")), ca, "IP address mismatch"
    yield "expired", authority.issue("d3", LOOPBACK, days=-1), ca, "certificate has expired"
    wrong = ca | {"server_name": "press"}
    yield "other server_name", authority.issue("d4", x509.DNSName("plc")), wrong, "Hostname mismatch"


async def test_a_bad_certificate_is_told_as_such(authority: Authority) -> None:
    """Unknown authority, another name, expired: no connection, and the reason in words."""
    for what, certificate, tls, text in certificates(authority):
        async with tls_device(certificate) as url:
            said = await refused(url, tls)
        assert "the certificate of 127.0.0.1" in said, what
        assert text in said, what
        assert said.endswith("check tls"), what


async def test_a_name_can_be_given_and_verifying_be_left_out(authority: Authority) -> None:
    """`server_name` is compared instead of the host in `url`; `insecure: true` takes any certificate."""
    async with tls_device(authority.issue("device", x509.DNSName("plc"))) as url:
        for tls in ({"ca_file": str(authority.file), "server_name": "plc"}, {"insecure": True}):
            async with reading(url, tls=tls, comm={"timeout": "2s"}) as driver:
                assert await scan(driver) == BOTH


async def test_a_device_that_wants_another_certificate_says_so(authority: Authority, tmp_path: Path) -> None:
    """Without a certificate of ours, or with a stranger's, the TLS alert of the device is in the message."""
    cert, key = Authority(tmp_path, "stranger").issue("agent")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("device", LOOPBACK))
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    ca = {"ca_file": str(authority.file)}

    def serve() -> None:
        """Blocking, because asyncio's server closes before it has sent the alert."""
        for _ in range(4):
            with contextlib.suppress(OSError), listener.accept()[0] as accepted:
                tls = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
                with tls:
                    with contextlib.suppress(ssl.SSLError):
                        tls.do_handshake()
                    time.sleep(0.1)  # A reset would overtake the alert.

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(2)
        device = threading.Thread(target=serve)
        device.start()
        url = f"tls://127.0.0.1:{listener.getsockname()[1]}"
        for tls in (ca, ca | {"cert_file": str(cert), "key_file": str(key)}):
            with pytest.raises(DeviceUnreachable, match=r"TLS, .*(CERTIFICATE_REQUIRED|UNKNOWN_CA)"):
                async with reading(url, tls=tls, comm={"timeout": "2s"}) as driver:
                    await scan(driver)
        listener.close()
        await asyncio.to_thread(device.join)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_and_no_tls_are_refused(authority: Authority) -> None:
    """TLS 1.1 is too old, and a plain Modbus TCP device is none that speaks TLS."""
    refusals = (DeviceRefused, DeviceUnreachable)
    said = r"no TLS with|hangs up when TLS begins"
    async with tls_device(authority.issue("old", LOOPBACK), most=ssl.TLSVersion.TLSv1_1) as url:
        with pytest.raises(refusals, match=said):
            async with reading(url, tls={"insecure": True}):
                pass
    async with ModbusServer({1: {"holding": {0: 1}}}) as plain:
        with pytest.raises(refusals, match=said):
            async with reading(f"tls://127.0.0.1:{plain.port}"):
                pass


async def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    """A file that is missing, or is no certificate, is told with its name; no connection is tried."""
    (tmp_path / "no.pem").write_text("no certificate")
    cert, _ = authority.issue("agent")
    for tls, text in (
        ({"ca_file": str(tmp_path / "none.pem")}, "none.pem cannot be used for TLS: No such file"),
        ({"ca_file": str(tmp_path / "no.pem")}, "no.pem cannot be used for TLS"),
        ({"cert_file": str(cert), "key_file": str(tmp_path / "no.pem")}, "cannot be used for TLS"),
    ):
        assert text in await refused("tls://127.0.0.1:9", tls)
