"""An OPC UA server that behaves badly at random: sessions and subscriptions end, answers become errors.

For tests of clients and for `simulate --chaos`. The same seed gives the same sequence of misdeeds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any, Literal

from asyncua import ua
from asyncua.server.server import Server
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.status_codes import StatusCodes

Misdeed = Literal["close sessions", "delete subscriptions", "end subscriptions", "inject an error"]
MISDEEDS: tuple[Misdeed, ...] = (
    "close sessions", "delete subscriptions", "end subscriptions", "inject an error", "inject an error",
)  # fmt: skip
"""Subscriptions are deleted without a word, and ended with a notification."""
CODES: tuple[str, ...] = (
    *8 * ("BadSessionIdInvalid",),
    "BadSecureChannelClosed", "BadSecureChannelIdInvalid", "BadTooManySessions", "BadServerHalted",
    "BadSessionClosed", "BadSessionNotActivated", "BadSubscriptionIdInvalid", "BadNoSubscription",
    "BadTimeout", "BadInternalError", "BadOutOfMemory", "BadResourceUnavailable", "BadCommunicationError",
    "BadTooManyOperations", "BadTooManyPublishRequests", "BadUnknownResponse", "BadShutdown",
    "BadServiceUnsupported", "BadNothingToDo", "BadUnexpectedError",
)  # fmt: skip
"""What an answer may become, as often as it is listed."""
_LATEST = 10


class Chaos:
    """Does something bad to all clients of an asyncua server now and then."""

    def __init__(
        self, server: Server, every: float, seed: int, tell: Callable[[str], None] = lambda _text: None
    ) -> None:
        self._server, self._every, self._tell = server, every, tell
        self._random = random.Random(seed)
        self.done: list[str] = []
        """What was done, oldest first."""

    async def run(self) -> None:
        """Go on until cancelled, at `every` seconds give or take half of it."""
        while True:
            await asyncio.sleep(self._every * self._random.uniform(0.5, 1.5))
            await self.act(self._random.choice(MISDEEDS))

    async def act(self, misdeed: Misdeed) -> None:
        """Do one thing now."""
        said: str = misdeed
        if misdeed == "close sessions":
            await self._close_sessions()
        elif misdeed == "inject an error":
            code, after = self._random.choice(CODES), self._random.randint(1, _LATEST)
            said = f"{code} as answer {after}"
            for processor in self._processors():
                _spoil(processor, code, after)
        else:
            await self._end_subscriptions(notify=misdeed == "end subscriptions")
        self.done.append(said)
        self._tell(f"chaos: {said}")

    def _processors(self) -> Iterator[UaProcessor]:
        """The connections of clients."""
        clients = self._server.bserver.clients if self._server.bserver is not None else []
        for client in clients:
            if client.processor is not None:
                yield client.processor

    async def _close_sessions(self) -> None:
        """What a server does that lost its sessions: whatever is asked, it does not know who asks."""
        for processor in list(self._processors()):
            session = processor.session
            if session is None:
                continue
            await session.close_session(True)
            _spoil(processor, "BadSessionIdInvalid", 1, for_ever=True)
            while processor._publish_requests:
                waiting = processor._publish_requests.popleft()
                spoiled: Callable[..., None] = processor.send_response
                spoiled(waiting.requesthdr.RequestHandle, waiting.seqhdr, ua.ServiceFault())

    async def _end_subscriptions(self, *, notify: bool) -> None:
        service = self._server.iserver.subscription_service
        for number, subscription in list(service.subscriptions.items()):
            if subscription.pub_request_callback is None:
                # The server's own.
                continue
            if notify:
                await subscription.enqueue_statuschange(ua.StatusCode(ua.UInt32(StatusCodes.BadTimeout)))
                # As if it were new, it publishes at once and not with the next keep-alive.
                subscription._startup = True
                await subscription.publish_results()
            await service.delete_subscriptions([number])


def _spoil(processor: UaProcessor, code: str, after: int, *, for_ever: bool = False) -> None:
    """Let an answer from now on be an error instead: the one with number `after`, or all from then on."""
    honest: Callable[..., None] = processor.send_response
    fault = ua.StatusCode(ua.UInt32(getattr(StatusCodes, code)))
    sent = 0

    def send(handle: int, sequence: Any, answer: Any, kind: Any = ua.MessageType.SecureMessage) -> None:
        nonlocal sent
        # The opening of the channel stays honest.
        sent += kind == ua.MessageType.SecureMessage
        if kind == ua.MessageType.SecureMessage and (sent >= after if for_ever else sent == after):
            answer = ua.ServiceFault()
            answer.ResponseHeader.ServiceResult = fault
        honest(handle, sequence, answer, kind)

    processor.send_response = send  # type: ignore[method-assign]
