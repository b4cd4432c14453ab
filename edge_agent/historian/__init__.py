"""The second small consumer: MQTT in, its own journal, then InfluxDB or a SQLite file."""

from edge_agent.historian.history import History
from edge_agent.historian.http import ping
from edge_agent.historian.service import Historian, instance_number

__all__ = ["Historian", "History", "instance_number", "ping"]
