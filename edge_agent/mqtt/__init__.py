"""MQTT: one asyncio client with one owner of reconnecting, and a broker inside the process for trials."""

from edge_agent.mqtt.client import MqttClient
from edge_agent.mqtt.errors import MqttUnavailable, PublishRefused
from edge_agent.mqtt.message import Message, Will

__all__ = ["Message", "MqttClient", "MqttUnavailable", "PublishRefused", "Will"]
