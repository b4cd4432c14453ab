"""The one module that knows asyncua's client: one session, opened once, never reopened by itself.

asyncua's own reconnecting, its supervisor and its stale-subscription watchdog are left out (`Client.connect`
is not called): they may re-create a subscription without its items, and a connection has one owner, the
sampler. Subscriptions are made through the raw services, with our own list of items.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UaClientState
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent_drivers.opcua.certificate import Identity, identity
from edge_agent_drivers.opcua.nodeid import NodeRef
from edge_agent_drivers.opcua.requests import Wanted, monitored_item, subscription
from edge_agent_drivers.opcua.settings import SecuritySettings
from edge_agent_drivers.opcua.variants import to_ns

log = logging.getLogger(__name__)

# asyncua logs every lost request with its traceback; the driver and the sampler say it once.
if logging.getLogger("asyncua").level == logging.NOTSET:
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)

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
_REFUSALS = {
    StatusCodes.BadUserAccessDenied: "it does not accept the user or password: check security",
    StatusCodes.BadIdentityTokenRejected: "it does not accept the user or password: check security",
    StatusCodes.BadIdentityTokenInvalid: "it does not take this kind of login: check security.username",
    StatusCodes.BadSecurityChecksFailed: "it does not trust our certificate: accept it on the server",
    StatusCodes.BadCertificateUntrusted: "it does not trust our certificate: accept it on the server",
    StatusCodes.BadCertificateInvalid: "it refuses our certificate",
    StatusCodes.BadCertificateTimeInvalid: "our certificate is not valid at its time: check both clocks",
    StatusCodes.BadCertificateUriInvalid: "the application URI is not the one in our certificate",
    StatusCodes.BadCertificateUseNotAllowed: "our certificate may not be used for this",
    StatusCodes.BadSecurityPolicyRejected: "it does not offer this security policy",
    StatusCodes.BadSecurityModeRejected: "it does not offer this security mode",
}


class Session:
    """One session with one server, from `open` to `close`; afterwards a new one is made."""

    def __init__(
        self, machine: str, url: str, security: SecuritySettings, timeout: float, state: Path | None
    ) -> None:
        self._state = state
        self._machine, self._url, self._security, self._timeout = machine, url, security, timeout
        self._client = Client(url, timeout=timeout)
        self._client.name = self._client.description = "edge-agent"
        self._identity: Identity | None = None
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
                await self._establish()
                await self._learn()
        except BaseException as failure:
            await self.close()
            if isinstance(failure, Exception):
                raise self._translated(failure) from failure
            raise
        self._upkeep = asyncio.create_task(self._keep_up(), name=f"opcua upkeep {self._machine}")

    async def _establish(self) -> None:
        client, security = self._client, self._security
        if security.username is not None and security.password is not None:
            client.set_user(security.username)
            client.set_password(security.password.get_secret_value())
        if security.policy != "None":
            await self._secure(security)
        await client.connect_socket()
        await client.send_hello()
        await client.open_secure_channel()
        await client.create_session()
        await client.activate_session(
            username=security.username,
            password=security.password.get_secret_value() if security.password else None,
        )

    async def _secure(self, security: SecuritySettings) -> None:
        own = await asyncio.to_thread(
            identity, self._machine, security.certificate, security.private_key, self._state
        )
        self._identity = own
        self._client.application_uri = own.uri
        await self._client.set_security(
            SecurityPolicyBasic256Sha256,
            own.certificate,
            own.private_key,
            mode=ua.MessageSecurityMode[security.mode or "SignAndEncrypt"],
        )

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
        protocol = self._client.uaclient.protocol
        publishing = self._client.uaclient.session._publish_task
        try:
            async with asyncio.timeout(self._timeout):
                await self._client.disconnect()
        except TimeoutError:
            log.debug("%s: %s did not confirm the end of the session", self._machine, self._url)
        if publishing is not None:
            # asyncua leaves it sleeping where the connection was already lost.
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()
        if self._identity is not None:
            await asyncio.to_thread(self._identity.discard)
            self._identity = None

    def check(self) -> None:
        """DeviceUnreachable where the session or the subscription has ended or gone silent."""
        if self._ended:
            raise DeviceUnreachable(f"machine {self._machine}: {self._ended}")
        if self._client.uaclient.state is not UaClientState.CONNECTED:
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
            raise self._translated(failure) from failure
        return found

    async def _read_raw(self, nodes: Iterable[NodeId]) -> list[Any]:
        wanted = [ua.ReadValueId(node, AttributeIds.Value) for node in nodes]
        parameters = ua.ReadParameters(0, ua.TimestampsToReturn.Both, wanted)
        found = await self._client.uaclient.read(parameters)
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
            made = await self._client.uaclient.create_subscription(
                subscription(every), lambda result: self._published(result, notify)
            )
            interval = made.RevisedPublishingInterval / 1000 * max(1, made.RevisedMaxKeepAliveCount)
            self._silence = max(3 * interval, self._timeout)
            self._heard = asyncio.get_running_loop().time()
            codes: list[int] = []
            for start in range(0, len(wanted), self._items):
                codes += await self._monitor(made.SubscriptionId, wanted[start : start + self._items])
        except Exception as failure:
            raise self._translated(failure) from failure
        self._subscription = made.SubscriptionId
        return codes

    async def monitor(self, wanted: Sequence[Wanted]) -> list[int]:
        """Add items to the subscription, as `subscribe` does."""
        try:
            return await self._monitor(self._subscription, wanted)
        except Exception as failure:
            raise self._translated(failure) from failure

    async def _monitor(self, subscription: int, wanted: Sequence[Wanted]) -> list[int]:
        parameters = ua.CreateMonitoredItemsParameters()
        parameters.SubscriptionId = subscription
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        parameters.ItemsToCreate = [monitored_item(one) for one in wanted]
        results = await self._client.uaclient.create_monitored_items(parameters)
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
        client = self._client
        while True:
            await asyncio.sleep(min(0.75 * client.secure_channel_timeout, client.session_timeout / 3) / 1000)
            try:
                await client.open_secure_channel(renew=True)
                client.uaclient.revolve_security_token()
                await self._read_raw([_TIME])
            except (OSError, TimeoutError, UaError) as failure:
                self._ended = f"{self._url} did not renew the secure channel ({failure!r})"
                return

    def _translated(self, failure: Exception) -> DeviceUnreachable | DeviceRefused:
        """Everything asyncua raises, and it raises anything on garbled bytes, in our words."""
        if isinstance(failure, DeviceUnreachable | DeviceRefused):
            return failure
        start = f"machine {self._machine}: {self._url}"
        if isinstance(failure, UaStatusCodeError):
            if failure.code in _REFUSALS:
                return DeviceRefused(f"{start} refuses us ({failure}): {_REFUSALS[failure.code]}")
            return DeviceUnreachable(f"{start} answered {failure}")
        if isinstance(failure, UaError) and "No matching endpoints" in str(failure):
            return DeviceRefused(
                f"{start} does not offer policy {self._security.policy}"
                f" {self._security.mode or ''}: check security".replace(" :", ":")
            )
        if isinstance(failure, TimeoutError):
            return DeviceUnreachable(f"{start} did not answer within {self._timeout:g} s")
        if (
            self._identity is None
            and self._security.certificate
            and isinstance(failure, OSError | ValueError)
        ):
            return DeviceRefused(f"{start}: our certificate or key cannot be used: {failure}")
        return DeviceUnreachable(f"{start}: {failure}: check power, network and address")
