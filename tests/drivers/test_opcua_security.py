"""Security of the OPC UA driver against node-opcua: policies, modes, logins, trust both ways, renewal."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from edge_agent.errors import DeviceRefused
from edge_agent.types import Value
from edge_agent_drivers.opcua import channel
from edge_agent_drivers.opcua.driver import OpcuaDriver
from edge_agent_drivers.opcua.security import pin_path
from tests.drivers.stage import OpcuaFactory, by_name, good, scan
from tests.support import certificates
from tests.support.nodeopcua import PASSWORD, USERNAME, NodeOpcuaServer

TAGS = {
    "temperature": {"node": "nsu=urn:plant:node;s=Press.Temperature"},
    "order": {"node": "nsu=urn:plant:node;s=Press.Order", "type": "string"},
}
FIRST = {"temperature": good(20.5), "order": good("A-4711")}
LOGIN = {"username": USERNAME, "password": PASSWORD}
SECURE = {"policy": "Basic256Sha256", "trust": "first_use"}
POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
WITHDRAWN = ("Basic256", "Basic128Rsa15")


@pytest.fixture(autouse=True)
async def _as_at_first(node_opcua: NodeOpcuaServer) -> None:
    await asyncio.to_thread(node_opcua.set, "Temperature", 20.5)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, node_opcua: NodeOpcuaServer) -> dict[str, str]:
    """A user whom the server knows by certificate."""
    certificate, key = certificates.make(tmp_path_factory.mktemp("user"), "user", uri="urn:user")
    node_opcua.accept_user(certificate.read_bytes())
    return {"user_certificate": str(certificate), "user_key": str(key)}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which the server is pinned by the first test that connects."""
    return tmp_path_factory.mktemp("state")


@pytest.mark.parametrize("login", ["anonymous", "password", "certificate"])
@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
@pytest.mark.parametrize("policy", [*POLICIES, *WITHDRAWN])
async def test_every_policy_mode_and_login_reads(
    policy: str,
    mode: str,
    login: str,
    node_opcua: NodeOpcuaServer,
    opcua: OpcuaFactory,
    user: dict[str, str],
    known: Path,
    said: Callable[[], list[str]],
) -> None:
    """Thirty ways in, all with the same values; a withdrawn policy is warned of."""
    who: dict[str, str] = {"anonymous": {}, "password": LOGIN, "certificate": user}[login]
    security: dict[str, str | bool] = {"policy": policy, "mode": mode, "trust": "first_use", **who}
    if policy in WITHDRAWN:
        security["allow_deprecated"] = True
    driver = opcua(node_opcua.url, TAGS, state=known, security=security, timeout="4s")
    await driver.connect()
    assert await scan(driver) == FIRST
    assert any("is broken and withdrawn" in line for line in said()) == (policy in WITHDRAWN)


@pytest.mark.parametrize("login", ["anonymous", "password", "certificate"])
async def test_without_a_policy_every_login_reads(
    login: str, node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, user: dict[str, str]
) -> None:
    """Policy None; the user's key and the password are used as the server asks."""
    security: dict[str, str] = {"anonymous": {}, "password": LOGIN, "certificate": user}[login]
    driver = opcua(node_opcua.url, TAGS, security=security)
    await driver.connect()
    assert await scan(driver) == FIRST


@pytest.mark.parametrize("security", [LOGIN, SECURE | LOGIN], ids=["none", "encrypted"])
async def test_a_wrong_password_is_refused_with_advice(
    security: dict[str, str], node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, known: Path
) -> None:
    """A server that says no is refused, not unreachable: trying often will not help."""
    driver = opcua(node_opcua.url, TAGS, state=known, security=security | {"password": "wrong"})
    with pytest.raises(DeviceRefused, match="check security"):
        await driver.connect()


async def test_an_unknown_user_certificate_is_refused(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, known: Path, tmp_path: Path
) -> None:
    """A user the server does not know is refused; so is a certificate with another one's key."""
    certificate, key = certificates.make(tmp_path, "stranger", uri="urn:stranger", key=1)
    _, other = certificates.make(tmp_path, "other", uri="urn:other")
    for files, words in (
        ((certificate, key), "check security"),
        ((certificate, other), "do not belong together"),
    ):
        who = {"user_certificate": str(files[0]), "user_key": str(files[1])}
        driver = opcua(node_opcua.url, TAGS, state=known, security=SECURE | who)
        with pytest.raises(DeviceRefused, match=words):
            await driver.connect()


async def test_a_server_that_is_not_pinned_is_refused(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tmp_path: Path
) -> None:
    """Nothing is read from a server nobody has looked at; the message says which command mends it."""
    driver = opcua(node_opcua.url, TAGS, state=tmp_path, security={"policy": "Basic256Sha256"})
    with pytest.raises(DeviceRefused, match="run edge-agent opcua enrol -c FILE --machine press-2"):
        await driver.connect()


async def test_first_use_pins_and_another_server_is_refused(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    """The first certificate is kept and said; a server with another one is refused."""
    driver = opcua(node_opcua.url, TAGS, state=tmp_path, security=SECURE)
    await driver.connect()
    await driver.close()
    pin = pin_path(tmp_path, "press-2")
    assert any("pinned the first certificate seen" in line for line in said())
    x509.load_der_x509_certificate(pin.read_bytes())
    again = opcua(node_opcua.url, TAGS, state=tmp_path, security={"policy": "Basic256Sha256"})
    await again.connect()
    assert await scan(again) == FIRST
    await again.close()
    other, _ = certificates.make(tmp_path, "other")
    pin.write_bytes(other.read_bytes())
    for security in (SECURE, {"policy": "Basic256Sha256"}):
        with pytest.raises(DeviceRefused, match="its certificate is not the pinned one"):
            await opcua(node_opcua.url, TAGS, state=tmp_path, security=security).connect()
    assert pin.read_bytes() == other.read_bytes()


async def test_a_pinned_server_may_be_named_in_the_configuration(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tmp_path: Path
) -> None:
    """`server_certificate` counts before the state folder; a file that is none is refused by name."""
    await opcua(node_opcua.url, TAGS, state=tmp_path, security=SECURE).connect()
    pin = pin_path(tmp_path, "press-2")
    path = pin.rename(tmp_path / "plc.der")
    named = {"policy": "Basic256Sha256", "server_certificate": str(path)}
    driver = opcua(node_opcua.url, TAGS, state=tmp_path, security=named)
    await driver.connect()
    assert await scan(driver) == FIRST
    for content, words in (
        (b"no certificate", r"plc\.der is not a certificate"),
        (None, r"plc\.der cannot be read"),
    ):
        path.write_bytes(content) if content else path.unlink()
        with pytest.raises(DeviceRefused, match=words):
            await opcua(node_opcua.url, TAGS, state=tmp_path, security=named).connect()


async def test_our_certificate_is_kept_and_right(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tmp_path: Path
) -> None:
    """Made once; names our application URI, host and address; its key is for our eyes only."""
    files = tmp_path / "opcua" / "press-2.der", tmp_path / "opcua" / "press-2.pem"
    content: list[list[bytes]] = []
    for _ in range(2):
        driver = opcua(node_opcua.url, TAGS, state=tmp_path, security=SECURE)
        await driver.connect()
        await driver.close()
        content.append([file.read_bytes() for file in files])
    assert content[0] == content[1]
    assert stat.S_IMODE(files[1].stat().st_mode) == 0o600
    certificate = x509.load_der_x509_certificate(content[0][0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier)[0].endswith(":edge-agent")
    assert names.get_values_for_type(x509.DNSName)
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


async def test_a_configured_certificate_is_used(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, known: Path, tmp_path: Path
) -> None:
    """A certificate of the plant's own brings its application URI; a missing one is refused by its name."""
    certificate, key = certificates.make(tmp_path, "ours", uri="urn:plant:own")
    own = {"certificate": str(certificate), "private_key": str(key)}
    driver = opcua(node_opcua.url, TAGS, state=known, security=SECURE | own)
    await driver.connect()
    assert await scan(driver) == FIRST
    gone = opcua(
        node_opcua.url, TAGS, state=known, security=SECURE | own | {"certificate": str(tmp_path / "gone")}
    )
    with pytest.raises(DeviceRefused, match="gone cannot be read: No such file"):
        await gone.connect()


async def test_a_server_that_does_not_trust_us_says_so_and_takes_us_later(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tmp_path: Path
) -> None:
    """Refused with the advice to accept our certificate on the server; once accepted, it reads."""
    with node_opcua.distrustful():
        driver = opcua(node_opcua.url, TAGS, state=tmp_path, security=SECURE)
        with pytest.raises(DeviceRefused, match="accept it on the server"):
            await driver.connect()
        assert not pin_path(tmp_path, "press-2").exists(), "a server that did not prove its key was pinned"
        await asyncio.to_thread(node_opcua.accept, (tmp_path / "opcua" / "press-2.der").read_bytes())
        await driver.connect()
        assert await scan(driver) == FIRST


@pytest.fixture
def short_keys(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Ask for channel keys that last as little as node-opcua allows; when each renewal was done."""
    renewed: list[float] = []
    renew = channel.Channel.renew

    async def counted(self: channel.Channel) -> None:
        await renew(self)
        renewed.append(time.monotonic())

    monkeypatch.setattr(channel, "LIFETIME", 0.5)
    monkeypatch.setattr(channel.Channel, "renew", counted)
    # Three quarters of node-opcua's 2.5 s would make the test long; renewing early is allowed.
    monkeypatch.setattr(channel.Channel, "upkeep", 0.2)
    return renewed


async def counting(driver: OpcuaDriver, server: NodeOpcuaServer, renewed: list[float]) -> list[Value | None]:
    """Let the server count as fast as it can until the keys were renewed ten times; what was notified."""
    found: list[Value | None] = []
    value = 100.0
    for _ in range(5000):
        value += 1
        await asyncio.to_thread(server.set, "Temperature", value)
        for batch in await driver.read(driver.groups[0]):
            found += [
                each for name, each in zip(batch.names, batch.values, strict=True) if name == "temperature"
            ]
        await driver.read(driver.groups[0], raw=True)
        if len(renewed) >= 10:
            return found
    raise AssertionError(f"{len(renewed)} renewals")


@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
async def test_renewing_the_keys_under_load_loses_nothing(
    mode: str, node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, known: Path, short_keys: list[float]
) -> None:
    """Ten renewals while everything is subscribed and read: it goes on, in order, to the last value."""
    security = SECURE | {"mode": mode}
    driver = opcua(
        node_opcua.url, TAGS, state=known, security=security, timestamp="agent", every="50ms", timeout="4s"
    )
    await driver.connect()
    await driver.read(driver.groups[0])
    found = await counting(driver, node_opcua, short_keys)
    assert len(found) > 10
    assert found == sorted(found, key=lambda value: float(value or 0))
    await asyncio.to_thread(node_opcua.set, "Temperature", 20.5)
    await asyncio.sleep(0.3)
    assert by_name(await driver.read(driver.groups[0]))["temperature"] == good(20.5)


@pytest.mark.parametrize("skew", [-7200.0, 7200.0])
async def test_keys_are_renewed_on_a_server_whose_clock_is_wrong(
    skew: float, crooked: NodeOpcuaServer, opcua: OpcuaFactory, tmp_path: Path
) -> None:
    """What the server sent with the old keys still counts after a renewal, two hours off or not."""
    crooked.put_clock_off(skew)
    driver = opcua(crooked.url, TAGS, state=tmp_path, security=SECURE, timestamp="agent", timeout="4s")
    await driver.connect()
    await driver.read(driver.groups[0])
    assert driver._session is not None
    await driver._session._channel.renew()
    # The server has not heard from us with the new keys yet, and sends the first with the old ones.
    for value in (31.0, 32.0, 33.0):
        await asyncio.to_thread(crooked.set, "Temperature", value)
        await asyncio.sleep(0.3)
        assert by_name(await driver.read(driver.groups[0])) == {"temperature": good(value)}
