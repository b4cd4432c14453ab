"""The OPC UA server, seen by a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_agent.types import Value
from edge_agent_simulators.opcua_server import OpcuaNode, OpcuaServer
from tests.support.nodeopcua import read_with_client

# One server and one loop for the module: building the address space takes seconds.
pytestmark = pytest.mark.asyncio(loop_scope="module")

NODES = (
    OpcuaNode("press-2.OilTemperature", unit="°C", range=(-20.0, 120.0), label="Oil temperature"),
    OpcuaNode("press-2.Running", type="bool"),
    OpcuaNode("press-2.Parts", type="uint32", unit="pcs"),
    OpcuaNode("press-2.Product", type="string"),
    OpcuaNode("press-2.Unwritten"),
    OpcuaNode("press-3.Setpoint", writable=True),
)
POLICIES = {
    "Basic256Sha256": "Basic256Sha256",
    "Aes128Sha256RsaOaep": "Aes128_Sha256_RsaOaep",
    "Aes256Sha256RsaPss": "Aes256_Sha256_RsaPss",
}
"""asyncua's name -> node-opcua's and everybody else's."""
MOMENT = datetime(2026, 3, 2, 6, 0, 0, 123456, tzinfo=UTC)
MOMENT_NS = int(MOMENT.timestamp()) * 1_000_000_000 + 123_456_789


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opcua() -> AsyncIterator[OpcuaServer]:
    policies = [f"{policy}_{mode}" for policy in POLICIES for mode in ("Sign", "SignAndEncrypt")]
    async with OpcuaServer(NODES, username="edge", policies=policies, source_is_server_time=True) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(opcua: OpcuaServer) -> AsyncIterator[Client]:
    async with Client(opcua.url) as connected:
        yield connected


async def value_of(client: Client, node: str) -> ua.DataValue:
    return await client.get_node(f"ns=1;s={node}").read_data_value(raise_on_bad_status=False)


async def test_browses_as_folders_with_units_and_ranges(client: Client) -> None:
    """Each machine is a folder of variables; an analog one has its range and its unit's UNECE code."""
    assert await client.get_namespace_index("urn:edge-agent:simulator") == 1
    names = [(await child.read_browse_name()).Name for child in await client.nodes.objects.get_children()]
    assert {"press-2", "press-3"} <= set(names)
    folder = client.get_node("ns=1;s=press-2")
    assert [(await child.read_browse_name()).Name for child in await folder.get_children()] == [
        "OilTemperature", "Running", "Parts", "Product", "Unwritten",
    ]  # fmt: skip
    oil = client.get_node("ns=1;s=press-2.OilTemperature")
    properties = {
        str((await p.read_browse_name()).Name): await p.read_value() for p in await oil.get_properties()
    }
    assert (properties["EURange"].Low, properties["EURange"].High) == (-20.0, 120.0)
    assert properties["EngineeringUnits"].DisplayName.Text == "°C"
    assert properties["EngineeringUnits"].UnitId == 4408652
    assert await oil.read_type_definition() == ua.NodeId(ua.Int32(ObjectIds.AnalogItemType))
    assert (await oil.read_description()).Text == "Oil temperature"


async def test_values_carry_source_time_and_status(opcua: OpcuaServer, client: Client) -> None:
    """Values come with the time they were given, to the microsecond, and their types and statuses."""
    heard: list[tuple[str, Any, int]] = []
    opcua.on_write = lambda *told: heard.append(told)
    written: dict[str, Value | None] = {
        "press-2.OilTemperature": 41.5,
        "press-2.Running": True,
        "press-2.Parts": 7,
        "press-2.Product": "A",
    }
    await opcua.write(written, MOMENT_NS, {"press-2.Parts": "UncertainLastUsableValue"})
    opcua.on_write = None
    for name, value in written.items():
        reading = await value_of(client, name)
        assert reading.Value is not None
        assert reading.Value.Value == value
        assert reading.SourceTimestamp == reading.ServerTimestamp == MOMENT
    status = (await value_of(client, "press-2.Parts")).StatusCode
    assert status is not None
    assert status.name == "UncertainLastUsableValue"
    assert heard[0] == ("press-2.OilTemperature", 41.5, MOMENT_NS // 1000 * 1000)


async def test_a_failed_sensor_is_bad_without_a_value(opcua: OpcuaServer, client: Client) -> None:
    """None is BadSensorFailure, what was never written waits for its first value, and both heal."""
    await opcua.write({"press-2.OilTemperature": None}, MOMENT_NS)
    failed = await value_of(client, "press-2.OilTemperature")
    assert failed.StatusCode is not None
    assert failed.StatusCode.name == "BadSensorFailure"
    assert failed.Value is None or failed.Value.Value is None
    unwritten = await value_of(client, "press-2.Unwritten")
    assert unwritten.StatusCode is not None
    assert unwritten.StatusCode.name == "BadWaitingForInitialData"
    await opcua.write({"press-2.OilTemperature": 40.0}, MOMENT_NS)
    healed = await value_of(client, "press-2.OilTemperature")
    assert healed.StatusCode is not None
    assert healed.StatusCode.is_good()


async def test_subscriptions_see_every_change(opcua: OpcuaServer, client: Client) -> None:
    """A monitored item with a queue gets each value with its own source time."""
    seen: list[tuple[float, datetime]] = []
    enough = asyncio.Event()

    class Listener:
        def datachange_notification(self, node: Any, value: float, notification: Any) -> None:
            seen.append((value, notification.monitored_item.Value.SourceTimestamp))
            if value == 104.0:
                enough.set()

    await opcua.write({"press-2.OilTemperature": 99.0}, MOMENT_NS)
    subscription = await client.create_subscription(50, Listener())
    await subscription.subscribe_data_change(
        client.get_node("ns=1;s=press-2.OilTemperature"), queuesize=10, sampling_interval=ua.Double(0.0)
    )
    for step in range(5):
        await opcua.write({"press-2.OilTemperature": 100.0 + step}, MOMENT_NS + (step + 1) * 1_000_000_000)
    async with asyncio.timeout(5):
        await enough.wait()
    await subscription.delete()
    assert seen[-5:] == [(100.0 + step, MOMENT + timedelta(seconds=step + 1)) for step in range(5)]


@pytest.mark.writes_on_purpose
async def test_counts_writes_and_refuses_them(opcua: OpcuaServer, client: Client) -> None:
    """A client's write is refused and counted, and counted as well where the node would take it."""
    before = opcua.write_requests
    with pytest.raises(UaStatusCodeError, match="BadUserAccessDenied"):
        await client.get_node("ns=1;s=press-2.OilTemperature").write_value(1.0)
    await client.get_node("ns=1;s=press-3.Setpoint").write_value(1.0)
    assert opcua.write_requests == before + 2


async def test_own_values_are_no_write_requests(opcua: OpcuaServer) -> None:
    """What the simulator itself puts in is not counted."""
    before = opcua.write_requests
    await opcua.write({"press-2.OilTemperature": 50.0}, MOMENT_NS)
    assert opcua.write_requests == before


async def secure(url: str, folder: Path, password: str) -> Client:
    client = Client(url)
    client.set_user("edge")
    client.set_password(password)
    key, certificate = folder / "key.pem", folder / "certificate.der"
    await setup_self_signed_certificate(
        key, certificate, client.application_uri, "localhost", [ExtendedKeyUsageOID.CLIENT_AUTH],
        {"commonName": "test"},
    )  # fmt: skip
    await client.set_security(
        SecurityPolicyBasic256Sha256, certificate, key, mode=ua.MessageSecurityMode.SignAndEncrypt
    )
    return client


async def test_signs_and_encrypts_for_who_knows_the_password(opcua: OpcuaServer, tmp_path: Path) -> None:
    """Basic256Sha256 with the right password reads; with a wrong one it is refused."""
    async with await secure(opcua.url, tmp_path, opcua.password) as client:
        assert isinstance(await client.get_node("ns=1;s=press-2.OilTemperature").read_value(), float)
    with pytest.raises(UaStatusCodeError):
        async with await secure(opcua.url, tmp_path, "wrong"):
            pass


async def test_node_opcua_reads_in_every_way_that_is_offered(opcua: OpcuaServer, tmp_path: Path) -> None:
    """Another's client: every policy and mode, anonymous and with a user; a wrong password gets nothing."""
    await opcua.write({"press-2.OilTemperature": 41.5}, MOMENT_NS)
    ways = [
        {"policy": policy, "mode": mode} | user
        for policy, modes in [
            ("None", ["None"]),
            *((each, ["Sign", "SignAndEncrypt"]) for each in POLICIES.values()),
        ]
        for mode in modes
        for user in ({}, {"user": {"name": "edge", "password": opcua.password}})
    ]
    wrong = {"policy": "Basic256Sha256", "mode": "Sign", "user": {"name": "edge", "password": "wrong"}}
    answers = await asyncio.to_thread(
        read_with_client, tmp_path, opcua.url, "ns=1;s=press-2.OilTemperature", [*ways, wrong]
    )
    for way, answer in zip(ways, answers, strict=False):
        assert answer == {"status": "Good", "value": 41.5}, way
    assert "error" in answers[-1]
    assert len(answers) == len(ways) + 1 == 15


async def test_passwords_are_random_unless_given() -> None:
    """No two servers share a password that nobody chose."""
    first, second = OpcuaServer(NODES, username="edge"), OpcuaServer(NODES, username="edge")
    assert first.password != second.password
    assert len(first.password) > 16
    assert OpcuaServer(NODES, username="edge", password="given").password == "given"


async def test_writing_before_the_start_is_an_error() -> None:
    """A server that is not started says so."""
    with pytest.raises(RuntimeError, match="not started"):
        await OpcuaServer(NODES).write({"press-2.Parts": 1}, MOMENT_NS)


@pytest.mark.slow
async def test_secure_only_and_taken_port(opcua: OpcuaServer, tmp_path: Path) -> None:
    """Without anonymous only the secure endpoint is there, and a taken port is an OSError."""
    async with OpcuaServer(NODES, username="edge", anonymous=False) as closed:
        with pytest.raises(UaError):
            async with Client(closed.url):
                pass
        async with await secure(closed.url, tmp_path, closed.password) as client:
            await client.get_node("ns=1;s=press-2.Running").read_browse_name()
    with pytest.raises(OSError, match="in use"):
        await OpcuaServer(NODES, port=opcua.port).start()
