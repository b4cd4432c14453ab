"""How the agent itself is doing: counters, freshness, the watchdog, and what systemd is told.

Health means machines in this house; what concerns the agent is called vitals.
"""

from edge_agent.vitals.counters import BufferLevel, MachineVitals, ScanVitals, SinkVitals, Vitals
from edge_agent.vitals.freshness import TagFreshness, TagTimes
from edge_agent.vitals.notify import sd_notify, watchdog_seconds
from edge_agent.vitals.watchdog import Progress, Watchdog

__all__ = [
    "BufferLevel",
    "MachineVitals",
    "Progress",
    "ScanVitals",
    "SinkVitals",
    "TagFreshness",
    "TagTimes",
    "Vitals",
    "Watchdog",
    "sd_notify",
    "watchdog_seconds",
]
