"""An OPC UA server for simulated machines: folders, analog items, source timestamps, status codes.

    async with OpcuaServer([OpcuaNode("press-2.OilTemperature", unit="°C", range=(0, 120))]) as server:
        await server.write({"press-2.OilTemperature": 41.5}, source_time=time.time_ns())

The only module of the simulators that knows asyncua.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asyncua import ua
from asyncua.common.callback import CallbackType
from asyncua.common.node import Node
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_agent.types import Value
from edge_agent_simulators.machine_yaml import NAMESPACE

log = logging.getLogger(__name__)

_EPOCH = ua.DateTime(1970, 1, 1, tzinfo=UTC)
_VARIANTS = {
    "bool": ua.VariantType.Boolean,
    "int16": ua.VariantType.Int16,
    "uint16": ua.VariantType.UInt16,
    "int32": ua.VariantType.Int32,
    "uint32": ua.VariantType.UInt32,
    "float32": ua.VariantType.Float,
    "float64": ua.VariantType.Double,
    "string": ua.VariantType.String,
}
_UNITS = {
    "°C": "CEL", "bar": "BAR", "l/min": "L2", "mm": "MMT", "kW": "KWT", "kWh": "KWH", "%": "P1", "s": "SEC",
    "h": "HUR", "mm/s": "C16", "m3/h": "MQH", "A": "AMP", "g": "K40", "1/min": "RPM", "pcs": "H87",
}  # fmt: skip
"""UNECE Recommendation 20 common codes, which EngineeringUnits are identified by."""


@dataclass(frozen=True, slots=True)
class OpcuaNode:
    """One variable; its node id is `ns=1;s=ID` in the namespace `urn:edge-agent:simulator`.

    The part of `id` before the first dot is the folder. With a `range` it is an AnalogItem.
    """

    id: str
    type: str = "float64"
    unit: str | None = None
    range: tuple[float, float] | None = None
    label: str = ""
    writable: bool = False
    """Whether the server would let a client write it: so that a client that must not can be caught."""


class _OneUser(UserManager):
    """Lets in whoever knows the name and the password, and the anonymous where they are wanted."""

    def __init__(self, username: str | None, password: str, anonymous: bool) -> None:
        self._username = username
        self._password = password
        self._anonymous = anonymous

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        if username is None:
            return User(role=UserRole.User) if self._anonymous else None
        right = hmac.compare_digest(str(password).encode(), self._password.encode())
        if username == self._username and right:
            return User(role=UserRole.User, name=username)
        return None


class OpcuaServer:
    """Serves variables; an async context manager.

    With `username` there are also secured endpoints, of `policies` in the words of asyncua; `password` is
    then the given one or random. Without `anonymous` there are only those. They use `certificate` and its
    key, or ones made for this run. `source_is_server_time` stamps the server's time like the source's, for
    a server that lives in simulated time.
    """

    def __init__(
        self,
        nodes: Iterable[OpcuaNode],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        username: str | None = None,
        password: str | None = None,
        anonymous: bool = True,
        policies: Iterable[str] = ("Basic256Sha256_SignAndEncrypt",),
        certificate: tuple[Path, Path] | None = None,
        source_is_server_time: bool = False,
    ) -> None:
        self.nodes = {node.id: node for node in nodes}
        self.host = host
        self.port = port
        self.username = username
        self.password = password or secrets.token_urlsafe(16)
        self.anonymous = anonymous
        self._policies = tuple(policies)
        self._certificate = certificate
        self.write_requests = 0
        """Write requests of clients; every test suite expects 0."""
        self.on_write: Callable[[str, Value | None, int], None] | None = None
        """Called for each value put into a node, with its id and its source time in ns."""
        self._source_is_server_time = source_is_server_time
        self._server: Server | None = None
        self._places: dict[str, tuple[ua.NodeId, ua.VariantType]] = {}

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"opc.tcp://{self.host}:{self.port}"

    @property
    def running(self) -> Server:
        """asyncua's server. RuntimeError before it is started."""
        if self._server is None:
            raise RuntimeError("the OPC UA server is not started")
        return self._server

    async def start(self) -> None:
        """Build the address space and listen; takes about five seconds. OSError where the port is taken."""
        port = self.port or _free_port(self.host)
        server = Server(user_manager=_OneUser(self.username, self.password, self.anonymous))
        # The standard address space is seconds of computing: in a thread, other servers of this loop live on.
        await asyncio.to_thread(asyncio.run, server.init())
        await server.set_application_uri(NAMESPACE)
        server.set_server_name("edge-agent simulator")
        server.set_endpoint(f"opc.tcp://{self.host}:{port}")
        server.set_force_server_timestamp(not self._source_is_server_time)
        await self._secure(server)
        await self._add_nodes(server)
        server.subscribe_server_callback(CallbackType.PreWrite, self._count_write)
        logger = logging.getLogger("asyncua.server.server")
        before = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            # What goes wrong here is raised to us; asyncua's own traceback on top helps nobody.
            await server.start()
        finally:
            logger.setLevel(before)
        self._server, self.port = server, port

    async def _secure(self, server: Server) -> None:
        policies = [ua.SecurityPolicyType.NoSecurity] if self.anonymous else []
        tokens: list[type] = [ua.AnonymousIdentityToken] if self.anonymous else []
        if self.username is not None:
            policies += [ua.SecurityPolicyType[policy] for policy in self._policies]
            tokens.append(ua.UserNameIdentityToken)
            if self._certificate is not None:
                await server.load_certificate(self._certificate[0])
                await server.load_private_key(self._certificate[1])
            else:
                await self._make_certificate(server)
        server.set_security_policy(policies)
        server.set_identity_tokens(tokens)

    @staticmethod
    async def _make_certificate(server: Server) -> None:
        with tempfile.TemporaryDirectory(prefix="edge-agent-opcua-") as folder:
            key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.der")
            await setup_self_signed_certificate(
                key, certificate, NAMESPACE, socket.gethostname(), [ExtendedKeyUsageOID.SERVER_AUTH],
                {"commonName": "edge-agent simulator"},
            )  # fmt: skip
            await server.load_certificate(certificate)
            await server.load_private_key(key)

    async def _add_nodes(self, server: Server) -> None:
        space = await server.get_namespace_index(NAMESPACE)
        folders: dict[str, Node] = {}
        for node in self.nodes.values():
            folder, _, name = node.id.partition(".")
            if folder not in folders:
                folders[folder] = await server.nodes.objects.add_folder(
                    _id(folder, space), ua.QualifiedName(folder, space)
                )
            variable = await _add_variable(server, folders[folder], space, name, node)
            if node.writable:
                await variable.set_writable()
            self._places[node.id] = variable.nodeid, _VARIANTS[node.type]

    async def _count_write(self, event: Any, _service: Any) -> None:
        if event.is_external:
            self.write_requests += 1
            log.warning("the OPC UA server was asked to write")

    async def write(
        self,
        values: Mapping[str, Value | None],
        source_time: int,
        statuses: Mapping[str, str] | None = None,
    ) -> None:
        """Put values into their nodes, all with one source time (UTC ns, kept to a microsecond).

        None gives BadSensorFailure. `statuses` names another status for some nodes, as OPC UA does:
        `{"press-2.OilTemperature": "UncertainSensorNotAccurate"}`.
        """
        server = self.running
        moment = _EPOCH + timedelta(microseconds=source_time // 1000)
        server_time = moment if self._source_is_server_time else None
        for name, value in values.items():
            status = (statuses or {}).get(name, "Good" if value is not None else "BadSensorFailure")
            node_id, kind = self._places[name]
            if value is not None and kind not in (ua.VariantType.String, ua.VariantType.Boolean):
                value = float(value) if kind in _FLOATS else int(value)
            reading = ua.DataValue(
                Value=ua.Variant(value, kind if value is not None else ua.VariantType.Null),
                StatusCode=ua.StatusCode(ua.UInt32(getattr(StatusCodes, status))),
                SourceTimestamp=moment,
                ServerTimestamp=server_time,
            )
            await server.write_attribute_value(node_id, reading)
            if self.on_write is not None:
                self.on_write(name, value, source_time // 1000 * 1000)

    async def stop(self) -> None:
        """Close the port and every connection; harmless where nothing listens."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


_FLOATS = (ua.VariantType.Double, ua.VariantType.Float)


def _free_port(host: str) -> int:
    """A port nobody listens on: asyncua's endpoints are made before it knows which one port 0 became."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _id(text: str, space: int) -> ua.NodeId:
    return ua.NodeId(ua.String(text), ua.Int16(space))


def _standard(number: int) -> ua.NodeId:
    return ua.NodeId(ua.Int32(number))


async def _add_variable(server: Server, folder: Node, space: int, name: str, node: OpcuaNode) -> Node:
    kind = _VARIANTS[node.type]
    waiting = ua.DataValue(
        Value=ua.Variant(_nothing(kind), kind),
        StatusCode=ua.StatusCode(ua.UInt32(StatusCodes.BadWaitingForInitialData)),
    )
    item = ua.AddNodesItem()
    item.RequestedNewNodeId = _id(node.id, space)
    item.BrowseName = ua.QualifiedName(name, space)
    item.NodeClass = ua.NodeClass.Variable
    item.ParentNodeId = folder.nodeid
    item.ReferenceTypeId = _standard(ObjectIds.HasComponent)
    type_ = ObjectIds.AnalogItemType if node.range is not None else ObjectIds.BaseDataVariableType
    item.TypeDefinition = _standard(type_)
    item.NodeAttributes = ua.VariableAttributes(
        DisplayName=ua.LocalizedText(name),
        Description=ua.LocalizedText(node.label or name),
        DataType=_standard(kind.value),
        Value=waiting.Value,
        ValueRank=ua.ValueRank.Scalar,
        AccessLevel=ua.AccessLevel.CurrentRead.mask,
        UserAccessLevel=ua.AccessLevel.CurrentRead.mask,
    )
    (result,) = await server.iserver.isession.add_nodes([item])
    result.StatusCode.check()
    variable = server.get_node(result.AddedNodeId)
    await server.write_attribute_value(variable.nodeid, waiting)
    await _describe(variable, space, node)
    return variable


async def _describe(variable: Node, space: int, node: OpcuaNode) -> None:
    """The properties of an AnalogItem: the range, and the unit in two ways."""
    if node.range is not None:
        await variable.add_property(
            _id(f"{node.id}.EURange", space), "0:EURange", ua.Range(node.range[0], node.range[1])
        )
    if node.unit:
        code = _UNITS.get(node.unit, "")
        unit = ua.EUInformation(
            NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
            UnitId=int.from_bytes(code.encode("ascii"), "big") if code else -1,
            DisplayName=ua.LocalizedText(node.unit),
            Description=ua.LocalizedText(node.unit),
        )
        await variable.add_property(_id(f"{node.id}.EngineeringUnits", space), "0:EngineeringUnits", unit)


def _nothing(kind: ua.VariantType) -> Value:
    """A value to begin with, of the right type."""
    if kind is ua.VariantType.String:
        return ""
    if kind is ua.VariantType.Boolean:
        return False
    return 0.0 if kind in _FLOATS else 0
