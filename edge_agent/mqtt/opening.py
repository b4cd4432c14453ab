"""Opening a connection with paho-mqtt: the client object, TLS, and the blocking part, for a thread."""

from __future__ import annotations

import socket
import ssl
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.mqtt.message import Will
from edge_agent.settings.models import MqttSettings

CONNECT_TIMEOUT = 5.0
"""Seconds for the TCP and TLS handshake, and as many for the broker's answer."""
FOR_EVER = 3600
"""From this session expiry on (seconds) MQTT 3.1.1, which has none, keeps the session too: for ever."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who connects and how; seconds."""

    client_id: str
    will: Will | None = None
    session_expiry: int = 0
    keepalive: int = 15
    receive_maximum: int = 100


def make_client(settings: MqttSettings, identity: Identity, *, version5: bool) -> paho.Client:
    """A client that does not reconnect by itself and acknowledges nothing by itself."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=identity.client_id,
        clean_session=None if version5 else identity.session_expiry < FOR_EVER,
        protocol=MQTTProtocolVersion.MQTTv5 if version5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = CONNECT_TIMEOUT
    client.max_inflight_messages = 0  # the outbox keeps the window
    client.username = settings.username
    client.password = settings.password.get_secret_value() if settings.password else None
    if (will := identity.will) is not None:
        client.will_set(will.topic, will.payload, will.qos, will.retain)
    return client


def connect(client: paho.Client, settings: MqttSettings, identity: Identity, *, version5: bool) -> None:
    """Names, TCP, TLS and the CONNECT packet; blocks. OSError (ssl.SSLError among them) where that fails."""
    url = urlsplit(settings.url)
    tls = url.scheme == "mqtts"
    if tls:
        client.tls_set_context(_tls_context(settings))
    properties = None
    if version5:
        properties = make_properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = identity.session_expiry
        properties.ReceiveMaximum = identity.receive_maximum
    try:
        client.connect(
            url.hostname or "127.0.0.1",
            url.port or (8883 if tls else 1883),
            identity.keepalive,
            clean_start=not identity.session_expiry if version5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=properties,
        )
    except OSError as error:
        _close_sockets(error)
        raise


def make_properties(packet: int) -> Properties:
    """Empty MQTT 5 properties for a type of packet."""
    return Properties(packet)  # type: ignore[no-untyped-call]


def publish_properties(user: Mapping[str, str], expiry: int | None) -> Properties | None:
    """User properties and message expiry (seconds) of a publish; None where there are none."""
    if not user and expiry is None:
        return None
    properties = make_properties(PacketTypes.PUBLISH)
    if user:
        properties.UserProperty = list(user.items())
    if expiry is not None:
        properties.MessageExpiryInterval = expiry
    return properties


def _tls_context(settings: MqttSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


def _close_sockets(error: BaseException) -> None:
    """paho forgets the socket of a failed TLS handshake; only the traceback still knows it."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if isinstance(value, socket.socket):
                value.close()
