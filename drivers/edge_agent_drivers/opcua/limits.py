"""What a server takes at most: read when connecting, kept to, and learned where it does not say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

_DEFAULT = 500
"""Where a server does not say: the reply still fits a common message of 64 KiB."""
_TOO_MUCH = frozenset(
    {
        StatusCodes.BadTooManyOperations,
        StatusCodes.BadRequestTooLarge,
        StatusCodes.BadResponseTooLarge,
        StatusCodes.BadEncodingLimitsExceeded,
    }
)


@dataclass(slots=True)
class Batching:
    """How many things go into one request of a kind; shrinks where the server says it was too much."""

    size: int = _DEFAULT

    async def each(
        self,
        things: Sequence[Asked],
        ask: Callable[[Sequence[Asked]], Awaitable[Sequence[Answered]]],
        garbled: Callable[[], Answered] | None = None,
    ) -> list[Answered]:
        """One answer for each thing, asked in batches. UaError where a reply has another number of them.

        With `garbled` an answer that cannot be parsed is asked for in ever smaller batches, until it is known
        which thing it is about; that one gets what `garbled` gives.
        """
        found: list[Answered] = []
        size = self.size
        while len(found) < len(things):
            part = things[len(found) : len(found) + size]
            try:
                answers = await ask(part)
            except UaStatusCodeError as failure:
                if failure.code not in _TOO_MUCH or len(part) == 1:
                    raise
                size = self.size = len(part) // 2
                continue
            except (OSError, TimeoutError):
                raise
            except Exception:
                if garbled is None:
                    raise
                if len(part) > 1:
                    size = len(part) // 2
                    continue
                answers = [garbled()]
            if len(answers) != len(part):
                raise UaError(f"{len(answers)} answers to {len(part)} questions")
            found += answers
            size = self.size
        return found


_CAPABILITIES = {
    "reads": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    "browses": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
    "translations": 11712,  # ..._OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds
    "items": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    "items_per_subscription": ObjectIds.Server_ServerCapabilities_MaxMonitoredItemsPerSubscription,
    "subscriptions": ObjectIds.Server_ServerCapabilities_MaxSubscriptionsPerSession,
    "queue": ObjectIds.Server_ServerCapabilities_MaxMonitoredItemsQueueSize,
}
NODES: tuple[ua.NodeId, ...] = tuple(ua.NodeId(ua.Int32(number)) for number in _CAPABILITIES.values())
"""The nodes to read for `Limits.of`."""


@dataclass(slots=True)
class Limits:
    """What one server takes at most. 0 where it does not say."""

    reads: Batching = field(default_factory=Batching)
    browses: Batching = field(default_factory=Batching)
    translations: Batching = field(default_factory=Batching)
    items: Batching = field(default_factory=Batching)
    items_per_subscription: int = 0
    subscriptions: int = 0
    queue: int = 0
    said: dict[str, int] = field(default_factory=dict)
    """What the server said, for people."""

    @classmethod
    def of(cls, values: Sequence[Any]) -> Limits:
        """The limits from the values of `NODES`; None and 0 are no limit."""
        said = {
            name: value
            for name, value in zip(_CAPABILITIES, values, strict=True)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0
        }

        def batching(name: str) -> Batching:
            return Batching(min(said.get(name, _DEFAULT), 10 * _DEFAULT))

        return cls(
            batching("reads"),
            batching("browses"),
            batching("translations"),
            batching("items"),
            said.get("items_per_subscription", 0),
            said.get("subscriptions", 0),
            said.get("queue", 0),
            said,
        )
