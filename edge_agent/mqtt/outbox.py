"""Publishes on their way: no more in flight than the broker allows, each with the future of its answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_agent.mqtt.errors import MqttUnavailable

WINDOW = 500
"""Most publishes in flight; fewer where the broker says so."""


@dataclass(slots=True)
class Outgoing:
    """A message to be published; `properties` are the library's own."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Any
    future: asyncio.Future[None]


class Outbox:
    """Hands messages to `send` in order; `send` returns the packet id, MqttUnavailable where it cannot."""

    def __init__(self, send: Callable[[Outgoing], int]) -> None:
        self.window = WINDOW
        self._send = send
        self._queue: deque[Outgoing] = deque()
        self._pending: dict[int, Outgoing] = {}

    @property
    def pending(self) -> bool:
        """Whether messages wait for their acknowledgement."""
        return bool(self._pending)

    def put(self, message: Outgoing) -> None:
        """Send now, or when there is room."""
        self._queue.append(message)
        self._pump()

    def answered(self, packet: int, refusal: Callable[[str], Exception] | None) -> None:
        """The broker has acknowledged a message, or refused it: `refusal` makes the error from its topic."""
        message = self._pending.pop(packet, None)
        self._pump()
        if message is None or message.future.done():
            return
        if refusal is None:
            message.future.set_result(None)
        else:
            fail(message.future, refusal(message.topic))

    def close(self, why: Exception) -> None:
        """Fail everything that is not answered."""
        messages = [*self._pending.values(), *self._queue]
        self._pending.clear()
        self._queue.clear()
        for message in messages:
            fail(message.future, why)

    def _pump(self) -> None:
        while self._queue and len(self._pending) < self.window:
            message = self._queue.popleft()
            try:
                packet = self._send(message)
            except MqttUnavailable as error:
                fail(message.future, error)
                continue
            if message.qos == 0:
                message.future.set_result(None)
            else:
                self._pending[packet] = message


def fail(future: asyncio.Future[None], error: Exception) -> None:
    """Fail a future without a complaint where nobody awaits it."""
    if not future.done():
        future.set_exception(error)
        future.exception()
