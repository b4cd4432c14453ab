"""A message as it comes from the broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the client vanishes without a goodbye."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """One received message; `properties` are MQTT 5 user properties (empty on 3.1.1)."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    acknowledge: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    def ack(self) -> None:
        """Tell the broker that it need not send the message again; harmless on a connection that is gone."""
        self.acknowledge()


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic fits a filter with `+` and `#` (4.7 of the MQTT specification)."""
    if topic.startswith("$") and pattern[:1] in {"+", "#"}:
        return False
    wanted, given = pattern.split("/"), topic.split("/")
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place >= len(given) or level not in {"+", given[place]}:
            return False
    return len(wanted) == len(given)
