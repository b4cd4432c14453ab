"""One session with one server, opened once, never reopened by itself: its services, in our words."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.client.ua_session import UaSession
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError

from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent_drivers.opcua import limits
from edge_agent_drivers.opcua.access import Access
from edge_agent_drivers.opcua.bounds import bound_decoding
from edge_agent_drivers.opcua.browse import Child
from edge_agent_drivers.opcua.channel import Channel
from edge_agent_drivers.opcua.limits import Limits
from edge_agent_drivers.opcua.nodeid import NodeRef
from edge_agent_drivers.opcua.requests import Granted, Wanted
from edge_agent_drivers.opcua.subscription import Listener, Subscriptions
from edge_agent_drivers.opcua.variants import to_ns

NodeId = ua.NodeId

bound_decoding()

_KINDS: dict[str, tuple[ua.NodeIdType, Callable[[str], Any]]] = {
    "i": (ua.NodeIdType.Numeric, int),
    "s": (ua.NodeIdType.String, str),
    "g": (ua.NodeIdType.Guid, uuid.UUID),
    "b": (ua.NodeIdType.ByteString, base64.b64decode),
}
_OBJECTS_AND_VARIABLES = 3
_BUILT_IN = range(1, 26)
_DEEPEST_TYPE = 10


def _standard(number: int) -> NodeId:
    return ua.NodeId(ua.Int32(number))


_TIME = _standard(ObjectIds.Server_ServerStatus_CurrentTime)
_LEARNED = (_standard(ObjectIds.Server_NamespaceArray), _TIME, *limits.NODES)


class Session:
    """One session with one server, from `open` to `close`; afterwards a new one is made."""

    def __init__(self, machine: str, url: str, access: Access, timeout: float) -> None:
        self._machine, self._url, self._timeout = machine, url, timeout
        self._channel = Channel(machine, url, access, timeout)
        self._upkeep: asyncio.Task[None] | None = None
        self._ended = ""
        self.namespaces: list[str] = []
        """The namespace URIs, by index."""
        self.server_time: int | None = None
        """The server's clock when we connected, UTC ns; None where it did not tell."""
        self.limits = Limits()
        self.subscriptions: Subscriptions | None = None

    @property
    def _services(self) -> UaSession:
        return self._channel.services.session

    async def open(self) -> None:
        """Connect, secure, log in. DeviceUnreachable or DeviceRefused where that fails."""
        try:
            async with asyncio.timeout(3 * self._timeout):
                await self._channel.open()
                await self._learn()
        except BaseException as failure:
            await self.close()
            if isinstance(failure, Exception):
                raise self._channel.translated(failure) from failure
            raise
        self._upkeep = asyncio.create_task(self._keep_up(), name=f"opcua upkeep {self._machine}")

    async def _learn(self) -> None:
        """Read the namespaces, the server's clock, and how much it takes at most."""
        answers = await self.limits.reads.each(_LEARNED, self._read)
        spaces, now, *most = (answer.Value.Value if answer.Value else None for answer in answers)
        self.namespaces = [str(space) for space in spaces] if isinstance(spaces, list) else []
        self.server_time = to_ns(now) if isinstance(now, datetime) else None
        self.limits = Limits.of(most)

    async def close(self) -> None:
        """End the session as far as the server still listens; harmless where there is none."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
            self._upkeep = None
        if self.subscriptions is not None:
            await self.subscriptions.close()
        await self._channel.close()

    def check(self) -> None:
        """DeviceUnreachable where the session or a subscription has ended or gone silent."""
        ended = self._ended
        if not ended and self.subscriptions is not None:
            ended = self.subscriptions.check()
        if not self._channel.connected:
            ended = "it closed the connection"
        if ended:
            raise DeviceUnreachable(f"machine {self._machine}: {self._url}: {ended}")

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Whatever asyncua raises, and it raises anything on garbled bytes, is DeviceUnreachable."""
        try:
            yield
        except Exception as failure:
            raise self._channel.translated(failure) from failure

    def resolve(self, ref: NodeRef) -> NodeId | None:
        """The node id on this server; None where it has no such namespace."""
        if ref.uri is None:
            space = ref.namespace
        elif ref.uri in self.namespaces:
            space = self.namespaces.index(ref.uri)
        else:
            return None
        kind, convert = _KINDS[ref.kind]
        return ua.NodeId(convert(ref.identifier), ua.Int16(space), kind)

    def start(self, root: bool) -> NodeId:
        """The node id of the root, or of the Objects folder."""
        return _standard(ObjectIds.RootFolder if root else ObjectIds.ObjectsFolder)

    async def read(self, nodes: Sequence[NodeId], attribute: int = AttributeIds.Value) -> list[Any]:
        """The DataValue of each node. DeviceUnreachable where the service fails as a whole."""
        async with self._asking():
            return await self.limits.reads.each(nodes, lambda some: self._read(some, attribute), _undecodable)

    async def _read(self, nodes: Sequence[NodeId], attribute: int = AttributeIds.Value) -> list[Any]:
        wanted = [ua.ReadValueId(node, AttributeIds(attribute)) for node in nodes]
        parameters = ua.ReadParameters(0, ua.TimestampsToReturn.Both, wanted)
        return list(await self._services.read(parameters))

    async def translate(
        self, paths: Sequence[tuple[NodeId, Sequence[tuple[int, str]]]]
    ) -> list[list[NodeId]]:
        """The nodes at the end of each path of (namespace, name) from a node; none where it ends nowhere."""
        async with self._asking():
            return await self.limits.translations.each(paths, self._translate)

    async def _translate(
        self, paths: Sequence[tuple[NodeId, Sequence[tuple[int, str]]]]
    ) -> list[list[NodeId]]:
        asked = [
            ua.BrowsePath(start, ua.RelativePath([_element(space, name) for space, name in steps]))
            for start, steps in paths
        ]
        answers = await self._services.translate_browsepaths_to_nodeids(asked)
        return [
            [_local(target.TargetId) for target in answer.Targets or () if target.RemainingPathIndex > 2**31]
            for answer in answers
        ]

    async def children(self, nodes: Sequence[NodeId]) -> list[list[Child]]:
        """The objects and variables hierarchically below each node."""
        async with self._asking():
            return await self.limits.browses.each(nodes, self._children)

    async def _children(self, nodes: Sequence[NodeId]) -> list[list[Child]]:
        parameters = ua.BrowseParameters()
        parameters.NodesToBrowse = [
            ua.BrowseDescription(
                node,
                ua.BrowseDirection.Forward,
                _standard(ObjectIds.HierarchicalReferences),
                True,
                _OBJECTS_AND_VARIABLES,
                ua.BrowseResultMask.All,
            )
            for node in nodes
        ]
        answers = await self._services.browse(parameters)
        return [await self._all(answer) for answer in answers]

    async def _all(self, answer: ua.BrowseResult) -> list[Child]:
        """The children in an answer, and those it has kept back for the next one."""
        found: dict[NodeId, Child] = {}
        while True:
            for reference in answer.References or ():
                child = _local(reference.NodeId)
                name = reference.BrowseName
                found[child] = Child(
                    child, str(name.Name), int(name.NamespaceIndex), int(reference.NodeClass)
                )
            if not answer.ContinuationPoint:
                return list(found.values())
            more = ua.BrowseNextParameters(False, [answer.ContinuationPoint])
            [answer] = await self._services.browse_next(more)

    async def built_in_of(self, data_type: NodeId) -> int:
        """The number of the built-in type that a data type is a kind of; 0 where that cannot be told."""
        async with self._asking():
            for _ in range(_DEEPEST_TYPE):
                if not data_type.NamespaceIndex and data_type.Identifier in _BUILT_IN:
                    return int(data_type.Identifier)
                parameters = ua.BrowseParameters()
                parameters.NodesToBrowse = [
                    ua.BrowseDescription(
                        data_type, ua.BrowseDirection.Inverse, _standard(ObjectIds.HasSubtype), True, 0,
                        ua.BrowseResultMask.All,
                    )
                ]  # fmt: skip
                [answer] = await self._services.browse(parameters)
                if not answer.References:
                    break
                data_type = _local(answer.References[0].NodeId)
        return 0

    def listen(self, every: float, listener: Listener) -> None:
        """Say who is told of changes, and how often they are published, in seconds."""
        self.subscriptions = Subscriptions(self._services, self.limits, every, self._timeout, listener)

    async def monitor(self, wanted: Sequence[Wanted]) -> list[Granted]:
        """Subscribe to each of `wanted`. DeviceUnreachable where the services fail as a whole."""
        if self.subscriptions is None:
            raise RuntimeError("nobody listens")
        async with self._asking():
            return await self.subscriptions.add(wanted)

    async def call(self, object_: NodeId, method: NodeId, arguments: Sequence[Any]) -> int:
        """Call a method that changes nothing (ConditionRefresh is the only one we know); its status code."""
        async with self._asking():
            [answer] = await self._services.call([ua.CallMethodRequest(object_, method, list(arguments))])
            return int(answer.StatusCode.value)

    async def release(self, granted: Sequence[Granted]) -> None:
        """Stop monitoring. DeviceUnreachable where the service fails as a whole."""
        if self.subscriptions is not None:
            async with self._asking():
                await self.subscriptions.remove(granted)

    async def _keep_up(self) -> None:
        """Renew the channel's keys before they expire, and keep a session alive that reads rarely."""
        while True:
            await asyncio.sleep(self._channel.upkeep)
            try:
                await self._channel.renew()
                await self._read([_TIME])
            except (OSError, TimeoutError, UaError, DeviceRefused) as failure:
                self._ended = f"it did not renew the secure channel ({failure!r})"
                return


def _undecodable() -> ua.DataValue:
    return ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(StatusCodes.BadDecodingError)))


def _element(space: int, name: str) -> ua.RelativePathElement:
    element = ua.RelativePathElement(_standard(ObjectIds.HierarchicalReferences))
    element.IsInverse = False  # type: ignore[assignment]  # asyncua has a class for bools, and means bool
    element.TargetName = ua.QualifiedName(name, ua.UInt16(space))
    return element


def _local(node: Any) -> NodeId:
    """An ExpandedNodeId of this server as the NodeId that the other services take."""
    return ua.NodeId(node.Identifier, node.NamespaceIndex, node.NodeIdType)
