"""amqtt behind the embedded broker; the only module that imports it."""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass
from typing import Any

from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin

from edge_agent.errors import TemporaryError

MAX_CONNECTIONS = 100

logging.getLogger("amqtt").setLevel(logging.ERROR)
logging.getLogger("transitions").setLevel(logging.ERROR)


class OneUser(BaseAuthPlugin):  # type: ignore[misc]  # amqtt is not typed for us
    """Lets in who gives the one name and password of this start."""

    @dataclass
    class Config:
        """What amqtt fills in from the broker's configuration."""

        username: str = ""
        password: str = ""

    async def authenticate(self, *, session: Any) -> bool:
        """Whether the client may connect."""
        given = f"{session.username or ''}\n{session.password or ''}"
        wanted = f"{self.config.username}\n{self.config.password}"
        return bool(self.config.password) and hmac.compare_digest(given.encode(), wanted.encode())


class AmqttBroker:
    """An amqtt broker at `bind` (host:port) for one user."""

    def __init__(self, bind: str, username: str, password: str) -> None:
        self._bind = bind
        self._broker: Any = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": bind, "max_connections": MAX_CONNECTIONS}},
                "plugins": {
                    f"{__name__}.{OneUser.__name__}": {"username": username, "password": password},
                },
            }
        )

    async def start(self) -> None:
        """Listen. TemporaryError where that fails."""
        try:
            await self._broker.start()
        except Exception as error:
            raise TemporaryError(f"the embedded broker did not start on {self._bind}: {error}") from error

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        await self._broker.shutdown()
