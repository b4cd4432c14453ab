"""Certificates that end, change or do not fit, on real servers, and clocks that are wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from edge_agent.errors import DeviceRefused
from edge_agent_drivers.opcua import access
from edge_agent_drivers.opcua.access import Access
from edge_agent_drivers.opcua.certificate import examine, keep, own_credential, read_certificate
from edge_agent_drivers.opcua.channel import Channel
from edge_agent_drivers.opcua.security import SecuritySettings, pin_path
from edge_agent_simulators.opcua_server import OpcuaServer
from tests.drivers.stage import NODES, OpcuaFactory, Press, Stage, good, node, scan
from tests.support import certificates
from tests.support.nodeopcua import NodeOpcuaServer

TAGS = {"temperature": node("Temperature")}
ON_NODE = {"temperature": {"node": "nsu=urn:plant:node;s=Press.Temperature"}}
SECURE: dict[str, object] = {"policy": "Basic256Sha256"}
LOGIN: dict[str, object] = {"username": "edge", "password": "right"}
POLICIES = {
    "Basic256Sha256": "Basic256Sha256",
    "Aes128_Sha256_RsaOaep": "Aes128Sha256RsaOaep",
    "Aes256_Sha256_RsaPss": "Aes256Sha256RsaPss",
}
"""Our name -> asyncua's."""
URL = "opc.tcp://192.0.2.1:4840"
YEARS = 365 * 86400.0


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Certificates of several ages, with their keys."""
    folder = tmp_path_factory.mktemp("papers")
    ages = {"valid": (-1, 365), "expired": (-30, -1), "future": (400, 800), "soon": (-1, 20.5)}
    return {
        name: certificates.make(folder, name, begins=begins, ends=ends)
        for name, (begins, ends) in ages.items()
    }


@pytest.fixture(scope="module")
def outdated(stage: Stage, papers: dict[str, tuple[Path, Path]]) -> Iterator[OpcuaServer]:
    """Our simulator with an expired certificate, for a user with a password only."""
    server = OpcuaServer(
        NODES, username="edge", password="right", anonymous=False, certificate=papers["expired"],
        policies=("Basic256Sha256_SignAndEncrypt", "Aes256Sha256RsaPss_Sign"),
    )  # fmt: skip
    stage.run(server.start())
    yield server
    stage.run(server.stop())
    assert server.write_requests == 0


@pytest.fixture(scope="module")
def secured(stage: Stage) -> Iterator[OpcuaServer]:
    """Our simulator with every policy and mode, for everybody and for a user."""
    policies = [f"{policy}_{mode}" for policy in POLICIES.values() for mode in ("Sign", "SignAndEncrypt")]
    server = OpcuaServer(NODES, username="edge", password="right", policies=policies)
    stage.run(server.start())
    stage.run(server.write({"press.Temperature": 20.5}, time.time_ns()))
    yield server
    stage.run(server.stop())
    assert server.write_requests == 0


@pytest.mark.parametrize("login", [{}, LOGIN], ids=["anonymous", "password"])
@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_every_policy_mode_and_login_reads_an_asyncua_server(
    policy: str,
    mode: str,
    login: dict[str, object],
    secured: OpcuaServer,
    opcua: OpcuaFactory,
    tmp_path: Path,
) -> None:
    """A second server implementation, all current policies."""
    security = {"policy": policy, "mode": mode, "trust": "first_use"} | login
    driver = opcua(secured.url, TAGS, state=tmp_path, security=security, timeout="4s", timestamp="agent")
    await driver.connect()
    assert await scan(driver) == {"temperature": good(20.5)}


async def test_a_server_whose_certificate_has_expired_is_refused(
    outdated: OpcuaServer, opcua: OpcuaFactory, papers: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    """Fails closed, pinned or not, says when it ended and what to do; nothing is logged in or read."""
    for trust in ({"server_certificate": str(papers["expired"][0])}, {"trust": "first_use"}):
        driver = opcua(outdated.url, TAGS, state=tmp_path, security=SECURE | LOGIN | trust)
        with pytest.raises(
            DeviceRefused, match=r"has expired on .*UTC; renew it on the server, then run edge-"
        ):
            await driver.connect()
    assert not pin_path(tmp_path, "press-2").exists()


async def test_the_same_server_is_read_while_its_certificate_is_valid(
    outdated: OpcuaServer, opcua: OpcuaFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock decides; when it passes the end in a running session, that ends with the next renewal."""
    long_ago = datetime.now(UTC) - timedelta(days=10)
    monkeypatch.setattr(access, "now", lambda: long_ago)
    security = {"policy": "Aes256_Sha256_RsaPss", "mode": "Sign", "trust": "first_use"} | LOGIN
    driver = opcua(outdated.url, TAGS, state=tmp_path, security=security)
    await driver.connect()
    assert set(await scan(driver)) == {"temperature"}
    monkeypatch.undo()
    assert driver._session is not None
    with pytest.raises(DeviceRefused, match="has expired"):
        await driver._session._channel.renew()


@pytest.mark.parametrize(("which", "words"), [("expired", "has expired on"), ("future", "is valid from")])
async def test_our_own_certificate_must_be_valid(
    which: str,
    words: str,
    node_opcua: NodeOpcuaServer,
    opcua: OpcuaFactory,
    papers: dict[str, tuple[Path, Path]],
    tmp_path: Path,
) -> None:
    """Refused before the server sees it, with our clock and what to do."""
    certificate, key = papers[which]
    own = {"certificate": str(certificate), "private_key": str(key), "trust": "first_use"}
    driver = opcua(node_opcua.url, ON_NODE, state=tmp_path, security=SECURE | own)
    with pytest.raises(DeviceRefused, match=f"our certificate {words} .* this machine's clock says 20"):
        await driver.connect()


async def test_our_clock_in_1999_is_named(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Pi that woke up without network time: both clocks in the message, not `bad certificate`."""
    await opcua(node_opcua.url, ON_NODE, state=tmp_path, security=SECURE | {"trust": "first_use"}).connect()
    monkeypatch.setattr(access, "now", lambda: datetime(1999, 12, 31, 23, 59, tzinfo=UTC))
    driver = opcua(node_opcua.url, ON_NODE, state=tmp_path, security=SECURE)
    with pytest.raises(DeviceRefused) as refused:
        await driver.connect()
    assert "this machine's clock says 1999-12-31 23:59 UTC, the server's 20" in str(refused.value)
    assert str(refused.value).endswith("set the one that is wrong")


@pytest.mark.parametrize("years", [-20, 20])
async def test_a_server_whose_clock_is_years_off_is_named(
    years: int, crooked: NodeOpcuaServer, opcua: OpcuaFactory, tmp_path: Path
) -> None:
    """The server refuses our certificate by its own clock: the message names both clocks."""
    await asyncio.to_thread(own_credential, "press-2", crooked.url, tmp_path)
    ours = (tmp_path / "opcua" / "press-2.der").read_bytes()
    await asyncio.to_thread(crooked.accept, ours)
    crooked.put_clock_off(years * YEARS)
    with crooked.distrustful():
        driver = opcua(crooked.url, ON_NODE, state=tmp_path, security=SECURE | {"trust": "first_use"})
        with pytest.raises(DeviceRefused) as refused:
            await driver.connect()
    told = str(refused.value)
    assert f"the server's {(datetime.now(UTC) + timedelta(seconds=years * YEARS)).year}" in told
    assert told.endswith("set the one that is wrong")


async def test_a_password_in_clear_text_is_said(
    secured: OpcuaServer,
    opcua: OpcuaFactory,
    said: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that takes the password as it is: once in the log, however often we connect."""
    plain = "http://opcfoundation.org/UA/SecurityPolicy#None"
    endpoints = await secured.running.get_endpoints()
    for token in next(one for one in endpoints if one.SecurityPolicyUri == plain).UserIdentityTokens:
        monkeypatch.setattr(token, "SecurityPolicyUri", plain)
    driver = opcua(secured.url, TAGS, security=LOGIN)
    for _ in range(2):
        await driver.connect()
    assert len([line for line in said() if "the password crosses the network in clear text" in line]) == 1


async def test_a_clock_code_names_both_clocks(tmp_path: Path) -> None:
    """BadInvalidTimestamp of any service: what our clock says, and the question whether it is right."""
    channel = Channel("p", URL, Access("p", URL, SecuritySettings(), tmp_path), 1)
    told = str(channel.translated(UaStatusCodeError(StatusCodes.BadInvalidTimestamp)))  # type: ignore[no-untyped-call]
    assert "our requests are from another time, and this machine's clock says 20" in told
    assert told.endswith("is that right?")


async def test_what_the_server_does_not_offer_is_said(
    outdated: OpcuaServer, press: Press, opcua: OpcuaFactory, tmp_path: Path
) -> None:
    """A policy or a login the server lacks is refused with what it offers instead."""
    trusting = {"trust": "first_use"}
    driver = opcua(press.url, TAGS, state=tmp_path, security=SECURE | trusting)
    with pytest.raises(
        DeviceRefused, match="not offer policy Basic256Sha256 SignAndEncrypt; it offers None None"
    ):
        await driver.connect()
    driver = opcua(press.url, TAGS, security=LOGIN)
    with pytest.raises(
        DeviceRefused, match="no login by user and password: check security; it has anonymous"
    ):
        await driver.connect()


def test_the_end_of_certificates_is_said_at_60_30_and_7_days(
    papers: dict[str, tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    said: Callable[[], list[str]],
) -> None:  # fmt: skip
    """Once per threshold, for ours and the server's, however often it is looked at; then they are refused."""
    end = read_certificate(papers["valid"][0]).valid_until
    certificate, key = map(str, papers["valid"])
    security = SecuritySettings.model_validate(
        SECURE | {"certificate": certificate, "private_key": key, "server_certificate": certificate}
    )
    ours = Access("press-2", URL, security, tmp_path)
    found: dict[int, list[str]] = {}
    for days in (100, 61, 59, 45, 29, 8, 6, 1):
        monkeypatch.setattr(access, "now", lambda days=days: end - timedelta(days=days, hours=-1))
        for _ in range(2):
            ours.papers()
            ours.judge(read_certificate(papers["valid"][0]), None)
        found[days] = said()
    assert {days: len(lines) for days, lines in found.items() if lines} == {59: 2, 29: 2, 6: 2}
    assert "our certificate expires on" in found[59][0]
    assert "in 58 days: make a new one with edge-agent opcua enrol --renew" in found[59][0]
    assert "the server's certificate expires on" in found[59][1]
    monkeypatch.setattr(access, "now", lambda: end + timedelta(seconds=1))
    with pytest.raises(DeviceRefused, match="our certificate has expired"):
        ours.review()


def test_a_weak_key_of_the_server_is_said_and_one_of_another_kind_refused(
    papers: dict[str, tuple[Path, Path]], tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    """1024 bits still work, with a warning; elliptic curves have policies that are not known here."""
    weak = read_certificate(certificates.make(tmp_path, "weak", bits=1024)[0])
    keep(pin_path(tmp_path, "p"), weak.der, 0o644)
    ours = Access("p", URL, SecuritySettings.model_validate(SECURE), tmp_path)
    for _ in range(2):
        ours.judge(weak, None)
    assert [line for line in said() if "only 1024 bits" in line] == [
        "p: the server's key has only 1024 bits: let it make a certificate with 2048"
    ]
    with pytest.raises(DeviceRefused, match="no RSA key"):
        ours.judge(replace(weak, bits=0), None)


def doubts(security: dict[str, object], state: Path | None = None) -> list[tuple[str, str]]:
    settings = SecuritySettings.model_validate(security)
    return [
        (doubt.code, f"{doubt.path[0]}: {doubt.message}; {doubt.hint}")
        for doubt in settings.doubts("p", state)
    ]


def test_check_looks_at_the_files(papers: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    """Missing files, keys for everyone, pairs that are none, ends that are near: warned of at their keys."""
    (certificate, key), (soon, soon_key), (expired, _) = (papers[n] for n in ("valid", "soon", "expired"))
    ours: dict[str, object] = SECURE | {"certificate": certificate, "private_key": key}
    assert doubts(ours) == []
    assert doubts(ours | {"private_key": tmp_path / "none.pem"}) == [
        ("W322", f"private_key: {tmp_path}/none.pem cannot be read: No such file or directory;"
                 " the agent reads it when it connects")
    ]  # fmt: skip
    [(code, text)] = doubts(SECURE | {"certificate": soon, "private_key": soon_key})
    assert code == "W325"
    assert "certificate: our certificate expires on" in text
    [(code, text)] = doubts(SECURE | {"server_certificate": expired})
    assert (code, "server_certificate: the server's certificate has expired" in text) == ("W325", True)
    _, other = certificates.make(tmp_path, "other", key=1)
    user: dict[str, object] = {"user_certificate": certificate, "user_key": other}
    [(code, text)] = doubts(user)
    assert (code, "do not belong together" in text) == ("W322", True)
    other.chmod(0o644)
    assert [code for code, _ in doubts(user)] == ["W323", "W322"]
    other.write_text("no key")
    [_, (_, text)] = doubts(user)
    assert f"{other} is not a private key" in text


def test_check_warns_of_what_others_could_read(tmp_path: Path) -> None:
    """A password without a policy, a withdrawn policy, and a server nobody has pinned."""
    assert [code for code, _ in doubts({"username": "edge", "password": "x"})] == ["W321"]
    assert [code for code, _ in doubts({"policy": "Basic256", "allow_deprecated": True})] == ["W321"]
    assert doubts(SECURE, tmp_path / "nowhere") == []
    [(code, text)] = doubts(SECURE, tmp_path)
    assert (code, "run edge-agent opcua enrol -c FILE --machine p" in text) == ("W324", True)
    keep(pin_path(tmp_path, "p"), b"anything", 0o644)
    assert doubts(SECURE, tmp_path) == []


def test_of_a_chain_the_first_certificate_counts(papers: dict[str, tuple[Path, Path]]) -> None:
    """Servers send their certificate with its issuers behind it."""
    first, second = (papers[name][0].read_bytes() for name in ("valid", "soon"))
    assert examine(first + second) == examine(first)
    for garbage in (b"", b"\x30\x82", b"\x30\x82\xff\xff" + first, b"-----BEGIN nothing"):
        with pytest.raises(ValueError):
            examine(garbage)


async def test_files_are_written_whole_and_for_us_only(tmp_path: Path) -> None:
    """No moment at which a key can be read by others, and nothing unfinished is left."""
    path = tmp_path / "a" / "b" / "key.pem"
    await asyncio.to_thread(keep, path, b"1", 0o600)
    await asyncio.to_thread(keep, path, b"2", 0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"2", 0o600)
    assert [each.name for each in path.parent.iterdir()] == ["key.pem"]
