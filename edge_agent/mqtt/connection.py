"""One connection to a broker through paho-mqtt, on the event loop's own sockets.

A connection is made, used and thrown away: nothing of it is taken over into the next one. What was in flight
fails, and whoever published it sends it again.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.mqtt.errors import (
    BAD_CREDENTIALS,
    NOT_AUTHORIZED,
    PACKET_TOO_LARGE,
    UNSUPPORTED_VERSION,
    ConnectionRefused,
    MqttUnavailable,
    explain,
    refusal,
)
from edge_agent.mqtt.liveness import Liveness, unsent_bytes
from edge_agent.mqtt.message import Message
from edge_agent.mqtt.opening import (
    CONNECT_TIMEOUT,
    Identity,
    connect,
    make_client,
    make_properties,
    publish_properties,
)
from edge_agent.mqtt.outbox import WINDOW, Outbox, Outgoing, fail
from edge_agent.mqtt.tls import unreachable
from edge_agent.settings.models import MqttSettings

log = logging.getLogger(__name__)

_OVERHEAD = 256
"""Room for topic length, properties and headers when a payload is held against the broker's packet limit."""


class Connection:
    """Opens in `open`, lives until `lost` is done (its result says why), and is then of no use."""

    def __init__(
        self,
        settings: MqttSettings,
        identity: Identity,
        *,
        version5: bool,
        received: Callable[[Message], None],
    ) -> None:
        self.version5 = version5
        self.session_present = False
        self.answered = False
        """Whether the broker has answered at all."""
        self._settings = settings
        self._identity = identity
        self._received = received
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._subscribing: dict[int, asyncio.Future[None]] = {}
        self._outbox = Outbox(self._send)
        self._largest: int | None = None
        self.farewell: int | None = None
        """The reason code with which the broker ended the connection, if it said one."""
        self._user = settings.username or "anonymous"
        self._socket: Any = None
        self._ticker: asyncio.TimerHandle | None = None
        self._every = min(1.0, identity.keepalive / 8)
        self._liveness = Liveness(identity.keepalive, self._loop.time())
        self._client = make_client(settings, identity, version5=version5)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    # --- opening

    async def open(self) -> None:
        """Connect and wait for the broker's answer.

        MqttUnavailable where nobody listens or answers in time, ConnectionRefused where the broker says no.
        """
        where = self._settings.url
        step = partial(connect, self._client, self._settings, self._identity, version5=self.version5)
        connecting = self._loop.run_in_executor(None, step)
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(self._too_late)
            raise
        except OSError as error:
            host = urlsplit(where).hostname or where
            raise MqttUnavailable(unreachable(where, host, error)) from error
        self._attach()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.shield(self._accepted)
        except TimeoutError as error:
            raise MqttUnavailable(f"{where} took the connection but did not answer in time") from error
        finally:
            if not self._accepted.done() or self._accepted.cancelled() or self._accepted.exception():
                self.close("not accepted")

    def _too_late(self, connecting: asyncio.Future[None]) -> None:
        """The attempt was cancelled while the thread was at it: let go of what it got."""
        connecting.exception()
        self._drop_socket()

    def _attach(self) -> None:
        client, loop = self._client, self._loop
        self._socket = client.socket()
        client.on_socket_register_write = lambda *_: loop.add_writer(self._socket, self._writable)
        client.on_socket_unregister_write = lambda *_: self._no_writer()
        client.on_socket_close = lambda *_: self._detach()
        loop.add_reader(self._socket, self._readable)
        if client.want_write():
            loop.add_writer(self._socket, self._writable)
        self._liveness = Liveness(self._identity.keepalive, loop.time())
        self._ticker = loop.call_later(self._every, self._tick)

    # --- the socket

    def _readable(self) -> None:
        self._liveness.heard(self._loop.time())
        self._guard(self._client.loop_read)
        # TLS may hold more than the socket shows
        while self._socket is not None and isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            self._guard(self._client.loop_read)

    def _writable(self) -> None:
        self._guard(self._client.loop_write)

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(self._every, self._tick)
        self._guard(self._client.loop_misc)
        if self._socket is None:
            return
        pending, unsent = self._outbox.pending, unsent_bytes(self._socket.fileno())
        if why := self._liveness.look(self._loop.time(), pending=pending, unsent=unsent):
            self.close(why)

    def _guard(self, step: Callable[[], Any]) -> None:
        """Whatever a broker sends, it costs no more than this connection."""
        try:
            step()
        except Exception as error:  # noqa: BLE001
            log.warning("%s sent something that is not MQTT: %r", self._settings.url, error)
            self.close(f"protocol error: {error}")

    def _detach(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket = None
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def _no_writer(self) -> None:
        if self._socket is not None:
            self._loop.remove_writer(self._socket)

    def _drop_socket(self) -> None:
        if (left := self._client.socket()) is not None:
            left.close()

    async def disconnect(self, *, end_session: bool) -> None:
        """Say goodbye (the will is not published) and close; with `end_session` the broker forgets us."""
        if self._socket is not None:
            properties = None
            if self.version5 and end_session:
                properties = make_properties(PacketTypes.DISCONNECT)
                properties.SessionExpiryInterval = 0
            self._client.disconnect(properties=properties)
            for _ in range(100):
                if not self._client.want_write():
                    break
                await asyncio.sleep(0.01)
        self.close("closed")

    def close(self, why: str) -> None:
        """Drop the connection; everything in flight fails."""
        self._detach()
        self._drop_socket()
        self._end(why)

    def _end(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)
        if not self._accepted.done():
            self._accepted.set_exception(
                MqttUnavailable(f"{self._settings.url} closed the connection: {why}")
            )
            self._accepted.exception()
        error = MqttUnavailable(f"the connection to {self._settings.url} broke: {why}")
        self._outbox.close(error)
        for future in self._subscribing.values():
            fail(future, error)
        self._subscribing.clear()

    # --- what paho calls, in the loop

    def _on_connect(self, _c: Any, _u: Any, flags: paho.ConnectFlags, reason: ReasonCode, got: Any) -> None:
        self.answered = True
        if reason.is_failure:
            # some brokers (mosquitto 2.0) call a wrong password "not authorized"
            code = BAD_CREDENTIALS if reason.value == NOT_AUTHORIZED else reason.value
            said = explain(reason.value, str(reason), advise=code)
            text = f"{self._settings.url} refused {self._identity.client_id} (user {self._user}): {said}"
            if not self._accepted.done():
                self._accepted.set_exception(ConnectionRefused(reason.value, text))
            return
        self.session_present = flags.session_present
        self._outbox.window = min(WINDOW, getattr(got, "ReceiveMaximum", WINDOW))
        self._largest = getattr(got, "MaximumPacketSize", None)
        if not self._accepted.done():
            self._accepted.set_result(None)

    def _on_disconnect(self, _c: Any, _u: Any, flags: Any, reason: ReasonCode, _p: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self.farewell = reason.value
            self.close(f"the broker ended it: {explain(reason.value, str(reason))}")
            return
        self._detach()
        self._end(str(reason).lower())

    def _on_publish(self, _c: Any, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        failure = None
        if reason is not None and reason.is_failure:
            failure = partial(refusal, reason.value, str(reason), self._user)
        self._liveness.answered(self._loop.time())
        self._outbox.answered(mid, failure)

    def _on_subscribe(self, _c: Any, _u: Any, mid: int, reasons: list[ReasonCode], _p: Any) -> None:
        future = self._subscribing.pop(mid, None)
        if future is None or future.done():
            return
        refused = [reason for reason in reasons if reason.is_failure]
        if refused:
            said = explain(refused[0].value, str(refused[0]))
            future.set_exception(ConnectionRefused(refused[0].value, said))
        else:
            future.set_result(None)

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        properties = dict(getattr(message.properties, "UserProperty", ()) or ())
        mid, qos = message.mid, message.qos
        try:
            topic = message.topic
        except UnicodeDecodeError:
            log.warning("a message with a topic that is not UTF-8 is dropped")
            self._acknowledge(mid, qos)
            return
        payload = bytes(message.payload)
        self._received(
            Message(topic, payload, qos, message.retain, properties, lambda: self._acknowledge(mid, qos))
        )

    def _acknowledge(self, mid: int, qos: int) -> None:
        if qos and not self.lost.done():
            self._client.ack(mid, qos)

    # --- what the client does with it

    def subscribe(self, pattern: str, qos: int) -> asyncio.Future[None]:
        """Ask for messages; the future fails with MqttUnavailable where the broker refuses."""
        future: asyncio.Future[None] = self._loop.create_future()
        code, mid = self._client.subscribe(pattern, qos)
        if mid is None or code != paho.MQTT_ERR_SUCCESS:
            future.set_exception(MqttUnavailable(paho.error_string(code)))
        else:
            self._subscribing[mid] = future
        return future

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        properties: Mapping[str, str],
        expiry: int | None,
    ) -> asyncio.Future[None]:
        """Send a message; the future resolves with the broker's acknowledgement (QoS 0: at once)."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._largest is not None and len(payload) + len(topic) + _OVERHEAD > self._largest:
            fail(future, refusal(PACKET_TOO_LARGE, "packet too large", self._user, topic))
            return future
        extra = publish_properties(properties, expiry) if self.version5 else None
        self._outbox.put(Outgoing(topic, payload, qos, retain, extra, future))
        return future

    def _send(self, one: Outgoing) -> int:
        if self._socket is None:
            raise MqttUnavailable(f"the connection to {self._settings.url} is gone")
        info = self._client.publish(one.topic, one.payload, one.qos, one.retain, one.properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise MqttUnavailable(paho.error_string(info.rc))
        return info.mid


def speaks_other_version(error: MqttUnavailable, connection: Connection) -> bool:
    """Whether a failed attempt with MQTT 5 looks as if the broker only knows 3.1.1."""
    if isinstance(error, ConnectionRefused):
        return error.code == UNSUPPORTED_VERSION
    return connection.version5 and connection.lost.done() and not connection.answered
