"""The requests of a subscription, as asyncua's structures."""

from __future__ import annotations

from dataclasses import dataclass

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import get_name_and_doc


@dataclass(frozen=True, slots=True)
class Wanted:
    """One monitored item: `handle` comes back with every notification."""

    handle: int
    node: ua.NodeId
    sampling: float
    """Seconds; 0 is every change, where the server can."""
    deadband: float = 0.0
    """0 for none."""
    percent: bool = False
    """Whether `deadband` is in percent of the node's EURange, else in its units."""
    queue: int = 10
    """Values the server keeps between two publishings."""
    events: ua.EventFilter | None = None
    """For events of the node instead of its value: which, and what of them."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What the server made of one wanted item."""

    code: int
    """Its status code; 0 where it is monitored."""
    subscription: int = 0
    item: int = 0
    """The server's number of the item."""
    sampling: float = 0.0
    """Seconds, as revised by the server."""
    queue: int = 0

    @property
    def refused(self) -> bool:
        """Whether the server does not monitor it."""
        return bool(self.code & 0x80000000)


def subscription(every: float) -> ua.CreateSubscriptionParameters:
    """A subscription that publishes at `every` seconds and gives a sign of life about every second."""
    keep_alive = max(1, round(1.0 / every))
    return ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=1000 * every,
        RequestedLifetimeCount=max(10 * keep_alive, round(60 / every), 3),
        RequestedMaxKeepAliveCount=keep_alive,
        MaxNotificationsPerPublish=0,
        PublishingEnabled=True,
        Priority=0,
    )


def monitored_item(wanted: Wanted) -> ua.MonitoredItemCreateRequest:
    """The request to monitor one node's value, with a deadband where one is wanted, or its events."""
    parameters = ua.MonitoringParameters()
    parameters.ClientHandle = wanted.handle
    parameters.SamplingInterval = 1000 * wanted.sampling
    parameters.QueueSize = wanted.queue
    parameters.DiscardOldest = True
    if wanted.deadband > 0:
        kind = ua.DeadbandType.Percent if wanted.percent else ua.DeadbandType.Absolute
        parameters.Filter = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, int(kind), wanted.deadband)
    attribute = AttributeIds.Value
    if wanted.events is not None:
        parameters.Filter, attribute = wanted.events, AttributeIds.EventNotifier
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor = ua.ReadValueId(wanted.node, attribute)
    request.MonitoringMode = ua.MonitoringMode.Reporting
    request.RequestedParameters = parameters
    return request


def named(code: int) -> str:
    """A status code as manuals of servers write it: BadNodeIdUnknown; as a number where it has no name."""
    name, meaning = get_name_and_doc(code & 0xFFFF0000)
    return f"0x{code:08X}" if meaning.startswith("Unknown") else str(name)
