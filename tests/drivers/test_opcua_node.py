"""The OPC UA driver against node-opcua: security, logins, deadband, and a server that stops answering."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent.types import Reason, Value
from edge_agent_drivers.opcua.driver import OpcuaDriver
from tests.drivers.stage import OpcuaFactory, by_name, good, missing, scan
from tests.support.nodeopcua import PASSWORD, USERNAME, NodeOpcuaServer


def node(name: str) -> dict[str, Any]:
    return {"node": f"nsu=urn:plant:node;s=Press.{name}"}


TAGS = {
    "temperature": node("Temperature"),
    "pressure": node("Pressure"),
    "count": node("Count"),
    "offset": node("Offset"),
    "running": node("Running"),
    "order": node("Order") | {"type": "string"},
    "profile": node("Profile"),
    "nowhere": node("Nowhere"),
}
FIRST = {
    "temperature": good(20.5),
    "pressure": good(1.5),
    "count": good(7),
    "offset": good(-3),
    "running": good(True),
    "order": good("A-4711"),
    "profile": missing(Reason.CONFIG_ERROR),
    "nowhere": missing(Reason.ILLEGAL_ADDRESS),
}
LOGIN = {"username": USERNAME, "password": PASSWORD}
SECURE = {"policy": "Basic256Sha256"}


@pytest.fixture(autouse=True)
async def _as_at_first(node_opcua: NodeOpcuaServer) -> None:
    await asyncio.to_thread(node_opcua.set, "Temperature", 20.5)


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
@pytest.mark.parametrize(
    "security",
    [
        {},
        LOGIN,
        SECURE | {"mode": "Sign"},
        SECURE | {"mode": "SignAndEncrypt"},
        SECURE | {"mode": "Sign"} | LOGIN,
        SECURE | LOGIN,
    ],
    ids=lambda security: "-".join(map(str, security.values())) or "none",
)
async def test_every_way_in_reads_the_same(
    security: dict[str, str], mode: str, node_opcua: NodeOpcuaServer, opcua: OpcuaFactory
) -> None:
    """None, Sign and SignAndEncrypt, anonymous and with a user: the same values, bad nodes isolated."""
    driver = opcua(node_opcua.url, TAGS, security=security, mode=mode)
    await driver.connect()
    assert await scan(driver) == FIRST


@pytest.mark.parametrize("security", [LOGIN, SECURE | LOGIN], ids=["none", "encrypted"])
async def test_a_wrong_password_is_refused_with_advice(
    security: dict[str, str], node_opcua: NodeOpcuaServer, opcua: OpcuaFactory
) -> None:
    """A server that says no is refused, not unreachable: trying often will not help."""
    driver = opcua(node_opcua.url, TAGS, security=security | {"password": "wrong"})
    with pytest.raises(DeviceRefused, match="check security"):
        await driver.connect()


async def test_our_certificate_is_kept_where_there_is_a_state_folder(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tmp_path: Path
) -> None:
    """It is made once, names our application URI, and its key is for our eyes only."""
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


async def test_a_configured_certificate_is_used(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tmp_path: Path
) -> None:
    """A certificate of the plant's own brings its application URI; a missing one is refused by its name."""
    first = opcua(node_opcua.url, TAGS, state=tmp_path, security=SECURE)
    await first.connect()
    own = {
        "certificate": str(tmp_path / "opcua" / "press-2.der"),
        "private_key": str(tmp_path / "opcua" / "press-2.pem"),
    }
    driver = opcua(node_opcua.url, TAGS, security=SECURE | own)
    await driver.connect()
    assert await scan(driver) == FIRST
    gone = opcua(node_opcua.url, TAGS, security=SECURE | own | {"certificate": str(tmp_path / "gone.der")})
    with pytest.raises(DeviceRefused, match=r"gone\.der"):
        await gone.connect()


async def test_without_a_state_folder_nothing_is_left_behind(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate made for one run goes with the driver."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    driver = opcua(node_opcua.url, TAGS, security=SECURE)
    await driver.connect()
    assert os.listdir(tmp_path)
    await driver.close()
    assert not os.listdir(tmp_path)


async def changes(driver: OpcuaDriver, seconds: float) -> list[Value | None]:
    """The values of a single tag that come within some seconds."""
    end = time.monotonic() + seconds
    found: list[Value | None] = []
    while time.monotonic() < end:
        found += [batch.values[0] for batch in await driver.read(driver.groups[0])]
        await asyncio.sleep(0.05)
    return found


async def test_a_deadband_is_kept_by_the_server(node_opcua: NodeOpcuaServer, opcua: OpcuaFactory) -> None:
    """Changes within the deadband are not sent at all."""
    driver = opcua(node_opcua.url, {"temperature": TAGS["temperature"] | {"deadband": 1.0}})
    await driver.connect()
    await driver.read(driver.groups[0])
    found: list[Value | None] = []
    for value in (21.0, 21.3, 22.0, 22.5):
        await asyncio.to_thread(node_opcua.set, "Temperature", value)
        found += await changes(driver, 0.3)
    assert found == [22.0]


async def test_bad_and_uncertain_come_through(node_opcua: NodeOpcuaServer, opcua: OpcuaFactory) -> None:
    """node-opcua's status codes give quality and reason."""
    driver = opcua(node_opcua.url, {"temperature": TAGS["temperature"]})
    await driver.connect()
    await driver.read(driver.groups[0])
    for status, expected in (
        ("BadOutOfService", missing(Reason.OUT_OF_SERVICE)),
        ("UncertainSubstituteValue", (20.6, Reason.SUBSTITUTE)),
    ):
        await asyncio.to_thread(node_opcua.set, "Temperature", 20.6, status)
        await asyncio.sleep(0.3)
        assert by_name(await driver.read(driver.groups[0])) == {"temperature": expected}


async def test_a_server_that_stops_answering_is_noticed_and_comes_back(
    node_opcua: NodeOpcuaServer, opcua: OpcuaFactory
) -> None:
    """Half-open: no keep-alive is DeviceUnreachable, closing does not hang, and reconnecting reads again."""
    driver = opcua(node_opcua.url, TAGS, timeout="800ms")
    await driver.connect()
    assert await scan(driver) == FIRST
    with node_opcua.frozen():
        began = time.monotonic()
        with pytest.raises(DeviceUnreachable, match="not even a keep-alive"):
            await changes(driver, 10)
        assert time.monotonic() - began < 4.5
        began = time.monotonic()
        await driver.close()
        assert time.monotonic() - began < 1.2
        with pytest.raises(DeviceUnreachable):
            await driver.connect()
    await driver.connect()
    assert await scan(driver) == FIRST
