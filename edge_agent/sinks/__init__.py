"""Where the agent's records go."""

from edge_agent.sinks.mqtt import MqttSink

__all__ = ["MqttSink"]
