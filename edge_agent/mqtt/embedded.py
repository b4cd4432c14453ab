"""A broker inside the process, for the demo and for trials on one box (the `demo` extra)."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING

from pydantic import SecretStr

from edge_agent.errors import TemporaryError
from edge_agent.mqtt.client import SPEAK_311
from edge_agent.settings.models import MqttSettings

if TYPE_CHECKING:
    from edge_agent.mqtt.amqtt_broker import AmqttBroker


class EmbeddedBroker:
    """An MQTT 3.1.1 broker on loopback with new credentials at each start; it keeps nothing on disk.

    Good for a demo: it restarts empty and makes no promise about messages in flight. A plant uses mosquitto.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._username = f"edge-{secrets.token_hex(4)}"
        self._password = secrets.token_urlsafe(24)
        self._broker: AmqttBroker | None = None

    async def start(self) -> None:
        """Listen on 127.0.0.1. TemporaryError where the `demo` extra is missing or the port is taken."""
        try:
            from edge_agent.mqtt.amqtt_broker import AmqttBroker
        except ModuleNotFoundError as missing:
            raise TemporaryError(
                "the embedded broker is not installed: pip install 'edge-agent[demo]', "
                "or install mosquitto and set mqtt.url to it"
            ) from missing
        self._port = _free_port(self._port)
        self._broker = AmqttBroker(f"127.0.0.1:{self._port}", self._username, self._password)
        await self._broker.start()
        # it does not answer an attempt with MQTT 5 at all
        SPEAK_311.add(self.url)

    async def stop(self) -> None:
        """Drop every connection and stop listening; harmless where it does not run."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await broker.stop()

    @property
    def url(self) -> str:
        """Where it listens, once it was started."""
        return f"mqtt://127.0.0.1:{self._port}"

    def settings(self, base: MqttSettings) -> MqttSettings:
        """`base` with this broker's address and credentials in place of `embedded`."""
        return base.model_copy(
            update={"url": self.url, "username": self._username, "password": SecretStr(self._password)}
        )


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise TemporaryError(f"port {port} for the embedded broker is taken: {error.strerror}") from error
        return int(probe.getsockname()[1])
