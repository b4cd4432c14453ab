"""The asyncio MQTT client: the one owner of reconnecting, subscribing again and falling back to 3.1.1."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from edge_agent.errors import EdgeAgentError
from edge_agent.mqtt.errors import ConnectionRefused, MqttUnavailable
from edge_agent.mqtt.message import Message, Will, matches
from edge_agent.mqtt.pauses import Pauses
from edge_agent.settings.models import MqttSettings

if TYPE_CHECKING:
    from edge_agent.mqtt.connection import Connection

log = logging.getLogger(__name__)

BACKOFF_FIRST, BACKOFF_LAST = 1.0, 15.0
"""Seconds between attempts to connect; each wait is drawn between half and all of it."""
SPEAK_311: set[str] = set()
"""Addresses of brokers that are known to speak MQTT 3.1.1 only: remembered for all clients of the process."""


@dataclass(frozen=True, slots=True)
class _Subscription:
    pattern: str
    qos: int
    callback: Callable[[Message], None]
    manual_ack: bool
    group: str | None

    def filter(self, *, version5: bool) -> str:
        return f"$share/{self.group}/{self.pattern}" if self.group and version5 else self.pattern


class MqttClient:
    """A connection to the broker of `settings` that heals by itself, under the name `client_id`.

    `keep_session` keeps subscriptions and undelivered messages at the broker for that many seconds while the
    client is away (MQTT 3.1.1 knows no time: for ever from an hour on, else not). `receive_maximum` is how
    many unacknowledged messages the broker may send (MQTT 5).
    """

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        *,
        will: Will | None = None,
        keep_session: int = 0,
        keepalive: int = 15,
        receive_maximum: int = 100,
    ) -> None:
        self.settings = settings
        self.client_id = client_id
        self.connected = asyncio.Event()
        self.error: str | None = "not connected yet"
        """Why there is no connection; None while there is one."""
        self.protocol: Literal["5", "3.1.1"] | None = None
        """The version in use; None before the first connection."""
        self.connections = 0
        """How often a connection was made."""
        self.last_try: float | None = None
        """Loop time (seconds, monotonic) of the last attempt to connect."""
        self.next_try: float | None = None
        """Loop time of the next attempt; None while connected or connecting."""
        self.unrouted = 0
        """Messages that no subscription wanted (left over from an earlier configuration)."""
        self._will = will
        self._keep_session = keep_session
        self._keepalive = keepalive
        self._receive_maximum = receive_maximum
        self._subscriptions: list[_Subscription] = []
        self._hooks: list[Callable[[], None]] = []
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    # --- life

    def start(self) -> None:
        """Begin to connect, for ever, in a task of its own."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"mqtt {self.client_id}")

    async def stop(self, *, end_session: bool = False) -> None:
        """Say goodbye (the will stays unpublished) and end; `end_session` gives up what the broker keeps."""
        task, self._task = self._task, None
        if self._connection is not None:
            await self._connection.disconnect(end_session=end_session)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.connected.clear()

    async def __aenter__(self) -> MqttClient:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def wait_connected(self, timeout: float) -> None:
        """Return when there is a connection. MqttUnavailable, with the reason, where that takes longer."""
        try:
            async with asyncio.timeout(timeout):
                await self.connected.wait()
        except TimeoutError as error:
            raise MqttUnavailable(self.error or "not connected") from error

    @property
    def alive(self) -> bool:
        """Whether the task that owns the connection runs."""
        return self._task is not None and not self._task.done()

    def on_connect(self, hook: Callable[[], None]) -> None:
        """Call `hook` after each (re)connection, subscriptions included."""
        self._hooks.append(hook)

    async def lost(self) -> str:
        """Wait until the present connection ends, and say why; returns at once where there is none."""
        if self._connection is None:
            return self.error or "not connected"
        return await asyncio.shield(self._connection.lost)

    # --- reconnecting

    async def _run(self) -> None:
        pauses = Pauses(self.client_id)
        loop = asyncio.get_running_loop()
        while True:
            self.last_try, self.next_try = loop.time(), None
            code = await self._supervised_session()
            lasted = loop.time() - self.last_try if self.connected.is_set() else None
            self.connected.clear()
            pause = pauses.after(code, lasted, first=BACKOFF_FIRST, last=BACKOFF_LAST)
            self.next_try = loop.time() + pause
            await asyncio.sleep(pause)

    async def _supervised_session(self) -> int | None:
        """One connection and its reason code; a fault of our own ends this connection, not the client."""
        try:
            return await self._session()
        except Exception as error:
            text = f"{self.client_id}: the connection to {self.settings.url} failed unexpectedly: {error!r}"
            if text != self.error:
                log.exception("%s", text)
            self.error = text
            return None

    async def _session(self) -> int | None:
        """One connection from beginning to end; returns the broker's reason code, if it gave one."""
        try:
            connection = await self._open()
        except ConnectionRefused as refused:
            self._say(str(refused))
            return refused.code
        except (EdgeAgentError, OSError, ValueError) as error:
            self._say(str(error))
            return None
        self._connection = connection
        refused_with = None
        try:
            await self._greet(connection)
            why = await asyncio.shield(connection.lost)
        except MqttUnavailable as error:
            connection.close(str(error))
            why = str(error)
            refused_with = getattr(error, "code", None)
        finally:
            self._connection = None
            connection.close("closed")
        if self._task is None:
            return None
        self._say(f"the connection of {self.client_id} to {self.settings.url} ended: {why}")
        return connection.farewell or refused_with

    def _say(self, why: str) -> None:
        if why != self.error:
            log.warning("%s", why)
        self.error = why

    async def _open(self) -> Connection:
        from edge_agent.mqtt.connection import Connection, speaks_other_version
        from edge_agent.mqtt.opening import Identity

        identity = Identity(
            self.client_id,
            self._will,
            session_expiry=self._keep_session,
            keepalive=self._keepalive,
            receive_maximum=self._receive_maximum,
        )
        only_311 = self.settings.url in SPEAK_311
        connection = Connection(self.settings, identity, version5=not only_311, received=self._route)
        try:
            await connection.open()
        except MqttUnavailable as error:
            if only_311 or not speaks_other_version(error, connection):
                raise
            connection = Connection(self.settings, identity, version5=False, received=self._route)
            await connection.open()
            log.info("%s speaks MQTT 3.1.1 only; it is used from now on", self.settings.url)
            SPEAK_311.add(self.settings.url)
        return connection

    async def _greet(self, connection: Connection) -> None:
        """Subscribe to everything, whatever the broker says it remembers, and let the world know."""
        self.protocol = "5" if connection.version5 else "3.1.1"
        for subscription in self._subscriptions:
            await self._ask(connection, subscription)
        self.connections += 1
        self.error = None
        log.info("connected to %s with MQTT %s as %s", self.settings.url, self.protocol, self.client_id)
        self.connected.set()
        for hook in self._hooks:
            hook()

    async def _ask(self, connection: Connection, subscription: _Subscription) -> None:
        pattern = subscription.filter(version5=connection.version5)
        try:
            async with asyncio.timeout(self._keepalive):
                await connection.subscribe(pattern, subscription.qos)
        except TimeoutError as error:
            raise MqttUnavailable(f"no answer to the subscription of {pattern}") from error
        except ConnectionRefused as error:
            user = self.settings.username or "anonymous"
            text = f"the subscription of {pattern} by {user} was refused: {error}"
            raise ConnectionRefused(error.code, text) from error
        except MqttUnavailable as error:
            raise MqttUnavailable(f"the subscription of {pattern} failed: {error}") from error

    # --- messages

    def subscribe(
        self,
        pattern: str,
        callback: Callable[[Message], None],
        *,
        qos: int = 1,
        manual_ack: bool = False,
        group: str | None = None,
    ) -> None:
        """Have `callback` called in the loop for each message on topics that fit `pattern`, for ever.

        With `manual_ack` the callback sees to `message.ack()`, else that is done when it returns. `group`
        shares the messages among clients that name the same group (MQTT 5; each gets all on 3.1.1).
        """
        subscription = _Subscription(pattern, qos, callback, manual_ack, group)
        self._subscriptions.append(subscription)
        if self._connection is not None and self.connected.is_set():
            wanted = subscription.filter(version5=self._connection.version5)
            self._connection.subscribe(wanted, qos).add_done_callback(self._subscribed)

    def _subscribed(self, answer: asyncio.Future[None]) -> None:
        if not answer.cancelled() and (error := answer.exception()) is not None:
            log.error("%s refused a subscription: %s", self.settings.url, error)

    def _route(self, message: Message) -> None:
        wanted = [one for one in self._subscriptions if matches(one.pattern, message.topic)]
        if not wanted:
            self.unrouted += 1
        for subscription in wanted:
            try:
                subscription.callback(message)
            except Exception:
                log.exception("a message on %s was dropped", message.topic)
                message.ack()
        if not any(subscription.manual_ack for subscription in wanted):
            message.ack()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, str] | None = None,
        expiry: int | None = None,
    ) -> asyncio.Future[None]:
        """Publish; the order of calls is the order on the wire.

        The future resolves with the broker's acknowledgement (at once for QoS 0), and fails with
        MqttUnavailable where there is no connection or it breaks before that, or PublishRefused where the
        broker says no (seen with MQTT 5 only). `properties` are user properties, `expiry` is in seconds; both
        are left out on 3.1.1.
        """
        if self._connection is None or not self.connected.is_set():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(MqttUnavailable(self.error or "not connected"))
            future.exception()
            return future
        return self._connection.publish(
            topic, payload, qos=qos, retain=retain, properties=properties or {}, expiry=expiry
        )
