"""The requests of a subscription, as asyncua's structures."""

from __future__ import annotations

from dataclasses import dataclass

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds


@dataclass(frozen=True, slots=True)
class Wanted:
    """One monitored item: `handle` comes back with every notification."""

    handle: int
    node: ua.NodeId
    sampling: float
    """Seconds."""
    deadband: float
    """Absolute, in the node's units; 0 for none."""


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
    """The request to monitor one node's value, with a deadband where one is wanted."""
    parameters = ua.MonitoringParameters()
    parameters.ClientHandle = wanted.handle
    parameters.SamplingInterval = 1000 * wanted.sampling
    parameters.QueueSize = 10
    parameters.DiscardOldest = True
    if wanted.deadband > 0:
        parameters.Filter = ua.DataChangeFilter(
            ua.DataChangeTrigger.StatusValue, int(ua.DeadbandType.Absolute), wanted.deadband
        )
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor = ua.ReadValueId(wanted.node, AttributeIds.Value)
    request.MonitoringMode = ua.MonitoringMode.Reporting
    request.RequestedParameters = parameters
    return request
