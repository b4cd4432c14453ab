"""One session with one server, opened once, never reopened by itself.

Subscriptions are made through the raw services, with our own list of items.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaError

from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent_drivers.opcua.access import Access
from edge_agent_drivers.opcua.channel import Channel
from edge_agent_drivers.opcua.nodeid import NodeRef
from edge_agent_drivers.opcua.requests import Wanted, monitored_item, subscription
from edge_agent_drivers.opcua.variants import to_ns

NodeId = ua.NodeId

_NAMESPACES, _TIME, _MOST_PER_READ, _MOST_PER_CALL = (
    ua.NodeId(ua.Int32(number)) for number in (2255, 2258, 11705, 11714)
)
_DEFAULT_BATCH = 500
_KINDS: dict[str, tuple[ua.NodeIdType, Callable[[str], Any]]] = {
    "i": (ua.NodeIdType.Numeric, int),
    "s": (ua.NodeIdType.String, str),
    "g": (ua.NodeIdType.Guid, uuid.UUID),
    "b": (ua.NodeIdType.ByteString, base64.b64decode),
}


class Session:
    """One session with one server, from `open` to `close`; afterwards a new one is made."""

    def __init__(self, machine: str, url: str, access: Access, timeout: float) -> None:
        self._machine, self._url, self._timeout = machine, url, timeout
        self._channel = Channel(machine, url, access, timeout)
        self._upkeep: asyncio.Task[None] | None = None
        self._namespaces: list[str] = []
        self.server_time: int | None = None
        """The server's clock when we connected, UTC ns; None where it did not tell."""
        self._reads, self._items = _DEFAULT_BATCH, _DEFAULT_BATCH
        self._heard = 0.0
        self._silence = float("inf")
        self._ended = ""
        self._subscription = 0

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
        """Read the namespaces, the server's clock, and how much one request may ask for."""
        answers = await self._read_raw([_NAMESPACES, _TIME, _MOST_PER_READ, _MOST_PER_CALL])
        spaces, now, reads, items = (answer.Value.Value if answer.Value else None for answer in answers)
        self._namespaces = [str(space) for space in spaces] if isinstance(spaces, list) else []
        self.server_time = to_ns(now) if isinstance(now, datetime) else None
        self._reads = int(reads or 0) or _DEFAULT_BATCH
        self._items = int(items or 0) or _DEFAULT_BATCH

    async def close(self) -> None:
        """End the session as far as the server still listens; harmless where there is none."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
            self._upkeep = None
        await self._channel.close()

    def check(self) -> None:
        """DeviceUnreachable where the session or the subscription has ended or gone silent."""
        if self._ended:
            raise DeviceUnreachable(f"machine {self._machine}: {self._ended}")
        if not self._channel.connected:
            raise DeviceUnreachable(f"machine {self._machine}: {self._url} closed the connection")
        silent = asyncio.get_running_loop().time() - self._heard
        if silent > self._silence:
            raise DeviceUnreachable(
                f"machine {self._machine}: nothing from {self._url} for {silent:.1f} s, not even a keep-alive"
            )

    def resolve(self, ref: NodeRef) -> NodeId | None:
        """The node id on this server; None where it has no such namespace."""
        if ref.uri is None:
            space = ref.namespace
        elif ref.uri in self._namespaces:
            space = self._namespaces.index(ref.uri)
        else:
            return None
        kind, convert = _KINDS[ref.kind]
        return ua.NodeId(convert(ref.identifier), ua.Int16(space), kind)

    async def read(self, nodes: Sequence[NodeId]) -> list[Any]:
        """The DataValue of each node. DeviceUnreachable where the service fails as a whole."""
        try:
            found: list[Any] = []
            for start in range(0, len(nodes), self._reads):
                found += await self._read_raw(nodes[start : start + self._reads])
        except Exception as failure:
            raise self._channel.translated(failure) from failure
        return found

    async def _read_raw(self, nodes: Iterable[NodeId]) -> list[Any]:
        wanted = [ua.ReadValueId(node, AttributeIds.Value) for node in nodes]
        parameters = ua.ReadParameters(0, ua.TimestampsToReturn.Both, wanted)
        found = await self._channel.services.read(parameters)
        if len(found) != len(wanted):
            raise UaError(f"{len(found)} answers to {len(wanted)} questions")
        return list(found)

    async def subscribe(
        self, every: float, wanted: Sequence[Wanted], notify: Callable[[int, Any], None]
    ) -> list[int]:
        """Subscribe to all of `wanted`; the status code of each, 0 where it is monitored.

        `notify(handle, DataValue)` is called in the event loop for every value. Afterwards `check` watches
        the keep-alives. DeviceUnreachable where the services fail as a whole.
        """
        try:
            made = await self._channel.services.create_subscription(
                subscription(every), lambda result: self._published(result, notify)
            )
            interval = made.RevisedPublishingInterval / 1000 * max(1, made.RevisedMaxKeepAliveCount)
            self._silence = max(3 * interval, self._timeout)
            self._heard = asyncio.get_running_loop().time()
            codes: list[int] = []
            for start in range(0, len(wanted), self._items):
                codes += await self._monitor(made.SubscriptionId, wanted[start : start + self._items])
        except Exception as failure:
            raise self._channel.translated(failure) from failure
        self._subscription = made.SubscriptionId
        return codes

    async def monitor(self, wanted: Sequence[Wanted]) -> list[int]:
        """Add items to the subscription, as `subscribe` does."""
        try:
            return await self._monitor(self._subscription, wanted)
        except Exception as failure:
            raise self._channel.translated(failure) from failure

    async def _monitor(self, subscription: int, wanted: Sequence[Wanted]) -> list[int]:
        parameters = ua.CreateMonitoredItemsParameters()
        parameters.SubscriptionId = subscription
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        parameters.ItemsToCreate = [monitored_item(one) for one in wanted]
        results = await self._channel.services.create_monitored_items(parameters)
        if len(results) != len(wanted):
            raise UaError(f"{len(results)} answers to {len(wanted)} items")
        return [int(result.StatusCode.value) for result in results]

    def _published(self, result: Any, notify: Callable[[int, Any], None]) -> None:
        self._heard = asyncio.get_running_loop().time()
        for notification in result.NotificationMessage.NotificationData or ():
            if isinstance(notification, ua.DataChangeNotification):
                for item in notification.MonitoredItems:
                    notify(int(item.ClientHandle), item.Value)
            elif isinstance(notification, ua.StatusChangeNotification):
                self._ended = f"{self._url} ended the subscription ({notification.Status.name})"

    async def _keep_up(self) -> None:
        """Renew the channel's keys before they expire, and keep a session alive that reads rarely."""
        while True:
            await asyncio.sleep(self._channel.upkeep)
            try:
                await self._channel.renew()
                await self._read_raw([_TIME])
            except (OSError, TimeoutError, UaError, DeviceRefused) as failure:
                self._ended = f"{self._url} did not renew the secure channel ({failure!r})"
                return
