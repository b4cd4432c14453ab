"""What an MQTT broker can answer besides yes, in words that say what to do."""

from __future__ import annotations

from edge_agent.errors import EdgeAgentError, TemporaryError

UNSUPPORTED_VERSION = 0x84
BAD_CREDENTIALS = 0x86
NOT_AUTHORIZED = 0x87
BANNED = 0x8A
TAKEN_OVER = 0x8E
PACKET_TOO_LARGE = 0x95
QUOTA_EXCEEDED = 0x97

_PATIENCE = {
    BAD_CREDENTIALS: 60.0,
    NOT_AUTHORIZED: 60.0,
    BANNED: 60.0,
    QUOTA_EXCEEDED: 60.0,
    TAKEN_OVER: 30.0,
}

_ADVICE = {
    0x83: "the broker gives no reason; look into its log",
    UNSUPPORTED_VERSION: "the broker does not speak this version of MQTT",
    0x85: "the broker does not accept the client id; set `agent:` to another name",
    BAD_CREDENTIALS: "check mqtt.username and mqtt.password",
    NOT_AUTHORIZED: "the broker's access list does not allow this; check mqtt.username and the broker's ACL",
    0x88: "the broker is not available at the moment",
    0x89: "the broker is busy",
    BANNED: "the broker has banned this client; ask its administrator",
    0x8B: "the broker is shutting down",
    0x8D: "the broker heard nothing for too long",
    TAKEN_OVER: "another client uses the same client id; give each agent its own `agent:` name",
    0x90: "the broker does not accept the topic; check its rules for topics",
    0x93: "more messages at once than the broker allows",
    PACKET_TOO_LARGE: "the message is larger than the broker takes; raise its message_size_limit",
    0x97: "a quota of the broker is used up",
    0x99: "the broker does not accept the payload",
    0x9A: "the broker keeps no retained messages; they are needed for the latest values",
}
_PERMANENT = frozenset({0x90, PACKET_TOO_LARGE, 0x99})
"""Refusals of a publish that sending it again cannot change."""


class MqttUnavailable(TemporaryError):
    """There is no connection to the broker, or it broke before the broker answered."""


class ConnectionRefused(MqttUnavailable):
    """The broker answered no; `code` is MQTT 5's reason code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class PublishRefused(EdgeAgentError):
    """The broker refused a message; `permanent` says that it will never take this one.

    `retry_after` is how long (seconds) to leave it alone where only a person can change the answer.
    """

    def __init__(self, message: str, *, permanent: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after = retry_after


def patience(code: int | None) -> float:
    """Seconds to wait at least after a refusal that hammering makes worse or does not change; else 0."""
    return _PATIENCE.get(code or 0, 0.0)


def explain(code: int, name: str, *, advise: int | None = None) -> str:
    """A reason code of the broker with its name and what to do about it (about `advise` where given)."""
    advice = _ADVICE.get(advise or code)
    return f"{name.lower()} (0x{code:02x})" + (f": {advice}" if advice else "")


def refusal(code: int, name: str, user: str, topic: str) -> PublishRefused:
    """The error for a refused publish, naming topic and user."""
    return PublishRefused(
        f"the broker refused a message on {topic} from {user}: {explain(code, name)}",
        permanent=code in _PERMANENT,
        retry_after=patience(code) or None,
    )
