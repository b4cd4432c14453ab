"""Our own subscriptions over one session: items spread over them, publishing, sequence gaps, signs of life.

asyncua's publish loop is left out: it retries every second what cannot come back, drops what it cannot parse
without a word, and does not look at sequence numbers. Here every end and every gap is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from asyncua import ua
from asyncua.client.ua_session import UaSession
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaStatusCodeError, UaStructParsingError

from edge_agent_drivers.opcua.limits import Limits
from edge_agent_drivers.opcua.requests import Granted, Wanted, monitored_item, subscription

_FULL = frozenset({StatusCodes.BadTooManyMonitoredItems, StatusCodes.BadTooManySubscriptions})
_MOST_REPUBLISHED = 100
"""Messages asked for again after a gap; a longer one is made good by reading."""
_MOST_WAITING = 10
"""Publish requests the server holds at a time."""
_LAST_NUMBER = 2**32 - 1


class Listener(Protocol):
    """Who is told what the subscriptions bring; called in the event loop, must not raise."""

    def changed(self, handle: int, sent: Any) -> None:
        """A DataValue came for the item with this handle."""

    def lost(self, handles: Iterable[int]) -> None:
        """A notification is gone for good: these items may have changed."""

    def happened(self, handle: int, fields: Sequence[Any]) -> None:
        """An event came, with the values of the fields that were selected."""


@dataclass(slots=True)
class Counts:
    """What happened to the notifications of one connection."""

    gaps: int = 0
    """Messages whose number was skipped."""
    republished: int = 0
    """Of them, those the server sent again; the rest is made good by reading."""


@dataclass(slots=True)
class _Subscription:
    number: int
    interval: float
    """Seconds between publishings, as revised."""
    keep_alive: float
    """Seconds between signs of life, as revised."""
    heard: float
    expected: int = 1
    handles: dict[int, int] = field(default_factory=dict)
    """The server's number of each item, and its handle."""
    full: bool = False
    filled: range = range(0)
    """The numbers of the last gap, which may still come late."""


class Subscriptions:
    """The subscriptions of one session. Every method but `check` raises what asyncua raises."""

    def __init__(
        self, services: UaSession, limits: Limits, every: float, timeout: float, listener: Listener
    ) -> None:
        self._services, self._limits, self._every, self._timeout = services, limits, every, timeout
        self._listener = listener
        self._made: dict[int, _Subscription] = {}
        self._publishing: asyncio.Task[None] | None = None
        self._depth = 2
        self._ended = ""
        self.counts = Counts()

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """Seconds between publishings and between signs of life, of each subscription, as revised."""
        return [(made.interval, made.keep_alive) for made in self._made.values()]

    async def add(self, wanted: Sequence[Wanted]) -> list[Granted]:
        """Monitor each of `wanted`, in as many subscriptions as the server needs for them."""
        found: dict[int, Granted] = {}
        rest = list(wanted)
        while rest:
            home = await self._home()
            if home is None:
                found |= {one.handle: Granted(StatusCodes.BadTooManyMonitoredItems) for one in rest}
                break
            part = rest[: self._room(home)]
            answers = await self._limits.items.each(part, partial(self._create, home))
            rest = rest[len(part) :]
            over = [one for one, granted in zip(part, answers, strict=True) if granted.code in _FULL]
            if over:
                home.full = True
                # A subscription that takes nothing at all says that no other one would either.
                rest = [*over, *rest] if home.handles else rest
            found |= {one.handle: granted for one, granted in zip(part, answers, strict=True)}
        return [found[one.handle] for one in wanted]

    def _room(self, home: _Subscription) -> int:
        most = self._limits.items_per_subscription
        return most - len(home.handles) if most else len(home.handles) + 1_000_000

    async def _home(self) -> _Subscription | None:
        """A subscription with room, an old or a new one; None where the server has no more."""
        for made in self._made.values():
            if not made.full and self._room(made) > 0:
                return made
        if self._limits.subscriptions and len(self._made) >= self._limits.subscriptions:
            return None
        try:
            return await self._new()
        except UaStatusCodeError as failure:
            if failure.code in _FULL and self._made:
                return None
            raise

    async def _new(self) -> _Subscription:
        request = ua.CreateSubscriptionRequest()
        request.Parameters = subscription(self._every)
        # Not UaSession.create_subscription, which starts asyncua's own publishing as well.
        answer = struct_from_binary(
            ua.CreateSubscriptionResponse, await self._services._send_request(request)
        )
        answer.ResponseHeader.ServiceResult.check()
        made = answer.Parameters
        interval = made.RevisedPublishingInterval / 1000
        keep_alive = interval * max(1, made.RevisedMaxKeepAliveCount)
        new = _Subscription(int(made.SubscriptionId), interval, keep_alive, _now())
        self._made[new.number] = new
        self._depth = min(len(self._made) + 1, _MOST_WAITING)
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._publish(), name="opcua publishing")
        return new

    async def _create(self, home: _Subscription, wanted: Sequence[Wanted]) -> list[Granted]:
        parameters = ua.CreateMonitoredItemsParameters()
        parameters.SubscriptionId = home.number
        parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        parameters.ItemsToCreate = [monitored_item(one) for one in wanted]
        answers = []
        for one, made in zip(wanted, await self._services.create_monitored_items(parameters), strict=True):
            code = int(made.StatusCode.value)
            granted = Granted(
                code,
                home.number,
                int(made.MonitoredItemId),
                made.RevisedSamplingInterval / 1000,
                int(made.RevisedQueueSize),
            )
            if not granted.refused:
                home.handles[granted.item] = one.handle
            answers.append(granted)
        return answers

    async def remove(self, granted: Iterable[Granted]) -> None:
        """Stop monitoring items; those that are gone already are no fault."""
        for one in granted:
            home = self._made.get(one.subscription)
            if home is not None and home.handles.pop(one.item, None) is not None:
                home.full = False
                await self._services.delete_monitored_items(
                    ua.DeleteMonitoredItemsParameters(home.number, [one.item])
                )

    def check(self) -> str:
        """Why nothing more can be expected, as a clause; empty while all subscriptions live."""
        if self._ended:
            return self._ended
        for made in self._made.values():
            silent = _now() - made.heard
            if silent > max(3 * made.keep_alive, self._timeout):
                return f"nothing for {silent:.1f} s, not even a keep-alive"
        return ""

    async def close(self) -> None:
        """Stop publishing; the session's end takes the subscriptions with it."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)
            self._publishing = None

    async def _publish(self) -> None:
        """Keep publish requests at the server and take what it answers, in order, until something ends it."""
        waiting: list[asyncio.Task[ua.PublishResponse]] = []
        acknowledged: list[ua.SubscriptionAcknowledgement] = []
        try:
            while not self._ended:
                while len(waiting) < self._depth:
                    waiting.append(asyncio.create_task(self._services.publish(acknowledged)))
                    acknowledged = []
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in waiting if task.done()]:
                    waiting.remove(task)
                    acknowledged += await self._answered(task)
        except Exception as failure:  # noqa: BLE001 (asyncua raises anything)
            # Whatever it is, nothing more will come; `check` says so, and the sampler connects anew.
            self._ended = f"it ended the publishing ({str(failure) or type(failure).__name__})"
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _answered(self, task: asyncio.Task[ua.PublishResponse]) -> list[ua.SubscriptionAcknowledgement]:
        """Take one answer to a publish request; what is to be acknowledged."""
        try:
            answer = task.result()
            answer.ResponseHeader.ServiceResult.check()
        except UaStructParsingError:
            # What it brought is missing, which the next sequence number tells.
            return []
        except UaStatusCodeError as failure:
            if failure.code == StatusCodes.BadTooManyPublishRequests and self._depth > 1:
                self._depth -= 1
            elif failure.code != StatusCodes.BadTimeout:
                raise
            return []
        made = self._made.get(int(answer.Parameters.SubscriptionId))
        message = answer.Parameters.NotificationMessage
        if made is None or message is None:
            return []
        made.heard = _now()
        number = int(message.SequenceNumber)
        await self._fill_gap(made, number)
        if not message.NotificationData:
            return []
        if number not in made.filled:
            made.expected = _after(number)
            self._deliver(message)
        return [ua.SubscriptionAcknowledgement(made.number, number)]

    async def _fill_gap(self, made: _Subscription, number: int) -> None:
        """Ask again for the messages between the last one and `number`; a keep-alive tells of them, too."""
        missing = number - made.expected
        if missing <= 0:
            return
        again = 0
        if missing <= _MOST_REPUBLISHED:
            for lost in range(made.expected, number):
                again += await self._republish(made, lost)
        made.filled, made.expected = range(made.expected, number), number
        self.counts.gaps += missing
        self.counts.republished += again
        if again < missing:
            self._listener.lost(made.handles.values())

    async def _republish(self, made: _Subscription, number: int) -> bool:
        """Whether the server still had the message."""
        try:
            message = await self._services.republish(made.number, number)
        except UaStatusCodeError:
            # It has forgotten it, or never keeps any: small servers do not. Worse ends the next publishing.
            return False
        except (OSError, TimeoutError):
            raise
        except Exception:  # noqa: BLE001 (asyncua raises anything on bytes it cannot parse: the values are read)
            return False
        if int(message.SequenceNumber) != number or not message.NotificationData:
            return False
        self._deliver(message)
        return True

    def _deliver(self, message: ua.NotificationMessage) -> None:
        for notification in message.NotificationData or ():
            if isinstance(notification, ua.DataChangeNotification):
                for item in notification.MonitoredItems:
                    self._listener.changed(int(item.ClientHandle), item.Value)
            elif isinstance(notification, ua.EventNotificationList):
                for event in notification.Events:
                    fields = [field.Value for field in event.EventFields]
                    self._listener.happened(int(event.ClientHandle), fields)
            elif isinstance(notification, ua.StatusChangeNotification):
                self._ended = f"it ended the subscription ({notification.Status.name})"


def _after(number: int) -> int:
    """Sequence numbers begin at 1 again after the last one (Part 4, 7.6)."""
    return 1 if number >= _LAST_NUMBER else number + 1


def _now() -> float:
    return asyncio.get_running_loop().time()
