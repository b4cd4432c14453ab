"""Somebody who listens to everything on the broker, and keeps what the oracle asks about.

It connects again within a moment, long before the agent does after an outage, so that it misses nothing.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.lineprotocol import split_header

AGAIN = 0.02
"""Seconds between tries to connect."""


class Seen(NamedTuple):
    """One `readings` message of an agent."""

    at: float
    machine: str
    alarm: bool
    seq: int
    backlog: bool


class Observer:
    """Listens from `start` to `stop`, in a thread of its own."""

    def __init__(self, port: int) -> None:
        self.records: list[Seen] = []
        self.newest: dict[str, tuple[float, bytes]] = {}
        """Topic -> when (monotonic) and what came last on it."""
        self._port = port
        self._ended = threading.Event()
        self._listening = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "observer", protocol=paho.MQTTv5)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._listening.set()
        self._client.on_message = self._received
        self._thread = threading.Thread(target=self._listen, name="observer", daemon=True)

    def start(self) -> None:
        """Listen; returns when subscribed."""
        self._thread.start()
        assert self._listening.wait(10), "the observer is not subscribed"

    def stop(self) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                self._client.connect("127.0.0.1", self._port, keepalive=5)
                while not self._ended.is_set() and self._client.loop(0.1) == paho.MQTT_ERR_SUCCESS:
                    pass
            except OSError:
                pass  # the broker is away, which is what is being tried
            time.sleep(AGAIN)
        self._client.disconnect()
        self._client.loop(0.1)

    def _connected(self, *_: object) -> None:
        self._client.subscribe("#", qos=1)

    def _received(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        now, payload = time.monotonic(), bytes(message.payload)
        if not message.topic.endswith("/readings"):
            self.newest[message.topic] = now, payload
            return
        header, lines = split_header(payload)
        assert header is not None, payload
        machine = message.topic.split("/")[-2]
        self.records.append(Seen(now, machine, lines.startswith(b"alarms,"), header.seq, header.backlog))


def disordered(records: list[Seen]) -> int:
    """Records that came before an older one of the same machine, live and backlog apart; repeats are none."""
    newest: dict[tuple[str, bool, bool], int] = defaultdict(int)
    known: set[int] = set()
    wrong = 0
    for one in records:
        if one.seq in known:
            continue
        known.add(one.seq)
        key = one.machine, one.alarm, one.backlog
        wrong += one.seq < newest[key]
        newest[key] = max(newest[key], one.seq)
    return wrong


def repeats(records: list[Seen]) -> int:
    """Messages that had come before."""
    return len(records) - len({one.seq for one in records})
