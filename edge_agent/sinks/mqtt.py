"""Journal records as MQTT messages, confirmed by the historian or by the broker (DECISIONS 1 and 3)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent.clock import Clock
from edge_agent.contracts.plugs import Sink
from edge_agent.errors import SinkRejected, SinkUnavailable
from edge_agent.lineprotocol import header
from edge_agent.mqtt import Message, MqttClient, MqttUnavailable, PublishRefused, Will
from edge_agent.settings.models import Configuration, MqttSettings
from edge_agent.sinks.board import RetainedBoard
from edge_agent.types import Record

log = logging.getLogger(__name__)

CONFIRM_TIMEOUT = 30.0
"""Seconds after which unconfirmed records are sent again."""
KEEPALIVE = 15
"""Seconds of silence after which the broker is asked whether it is still there."""
CONNECT_PATIENCE = 5.0
"""Seconds a delivery waits for a connection before it reports the sink as away."""
LARGEST = 1024 * 1024
"""Most bytes of a message that a historian takes (an agent's are 128 KiB, unless a single line is longer)."""
_SOON = 0.2
"""Seconds until the next try where the wait for the connection is itself the pause."""


class MqttSink(Sink):
    """Publishes each record as one message on `ROOT/MACHINE/readings`, and keeps the retained topics.

    With `confirm: historian` a delivery is done when the historian has said on `ROOT/_agents/AGENT/stored`
    that it has the record on its own medium; with `broker`, at the broker's acknowledgement.
    """

    def __init__(
        self,
        configuration: Configuration,
        clock: Clock,
        *,
        mqtt: MqttSettings | None = None,
        confirm_timeout: float = CONFIRM_TIMEOUT,
        keepalive: int = KEEPALIVE,
    ) -> None:
        self.agent = configuration.agent
        self.confirm = configuration.confirm
        self.root = configuration.root()
        self.status_topic = f"{self.root}/_agents/{self.agent}/status"
        self.confirmed_records = 0
        self.ignored = 0
        """Messages on our own topic that are no confirmation: somebody else's, or hostile."""
        self._clock = clock
        self._confirm_timeout = confirm_timeout
        self._roots = {machine: configuration.root(machine) for machine in configuration.machines}
        self._awaited: set[int] = set()
        self._confirmed: set[int] = set()
        self._refused: dict[int, str] = {}
        self._news = asyncio.Event()
        self._historian_came = False
        will = Will(self.status_topic, _json({"state": "offline", "reason": "connection lost"}))
        self.client = MqttClient(mqtt or configuration.mqtt, self.agent, will=will, keepalive=keepalive)
        self.board = RetainedBoard(self.client)
        if self.confirm == "historian":
            for root in sorted({self.root, *self._roots.values()}):
                self.client.subscribe(f"{root}/_agents/{self.agent}/stored", self._stored)
            plant = "/".join(level for level in (configuration.enterprise, configuration.site) if level)
            self.client.subscribe(f"{plant}/_agents/+/status", self._somebody_came)

    @property
    def name(self) -> str:
        """`mqtt`."""
        return "mqtt"

    def start(self) -> None:
        """Connect, for ever, and say that the agent is online."""
        self.retain(self.status_topic, {"state": "online", "t": self._clock.now() // 1_000_000})
        self.board.start()
        self.client.start()

    def tell(self, summary: Mapping[str, Any]) -> None:
        """Have the retained status say how the agent is doing."""
        self.retain(self.status_topic, {"state": "online", "t": self._clock.now() // 1_000_000, **summary})

    async def close(self) -> None:
        """Say that the agent goes offline, and disconnect."""
        goodbye = {"state": "offline", "reason": "stopped", "t": self._clock.now() // 1_000_000}
        self.retain(self.status_topic, goodbye)
        if self.client.connected.is_set():
            await self.board.flush(2.0)
        await self.board.stop()
        await self.client.stop()

    def topic(self, machine: str, *levels: str) -> str:
        """A machine's topic, e.g. `topic("pump-1", "tags", "pressure")`."""
        return "/".join((self._roots.get(machine, self.root), machine, *levels))

    def retain(
        self, topic: str, payload: bytes | Mapping[str, Any] | None, *, expiry: float | None = None
    ) -> None:
        """Have the broker keep the latest payload of `topic` (a mapping becomes JSON; None clears the topic).

        Sent again after each connect, never journalled. `expiry` in seconds needs MQTT 5.
        """
        text = payload if isinstance(payload, bytes) else b"" if payload is None else _json(payload)
        self.board.put(topic, text, expiry=None if expiry is None else max(1, round(expiry)))

    # --- records

    async def deliver(self, records: Sequence[Record], *, backlog: bool) -> None:
        """Publish and wait for the confirmations; see `Sink.deliver`."""
        try:
            await self.client.wait_connected(CONNECT_PATIENCE)
        except MqttUnavailable as error:
            raise SinkUnavailable(str(error), retry_after=_SOON) from error
        wanted = {record.seq for record in records}
        self._confirmed &= wanted
        self._awaited = wanted - self._confirmed
        lost = asyncio.ensure_future(self.client.lost())
        self._refused.clear()
        refused = self._refused
        try:
            while True:
                self._historian_came = False
                todo = [record for record in records if record.seq in self._awaited]
                refused |= await self._publish(todo, backlog=backlog)
                self._awaited.difference_update(refused)
                if self.confirm == "broker" or await self._confirmations(lost):
                    break
        finally:
            lost.cancel()
        self._confirmed.clear()
        self.confirmed_records += len(records) - len(refused)
        if refused:
            raise SinkRejected(next(iter(refused.values())), list(refused))

    async def _publish(self, records: Sequence[Record], *, backlog: bool) -> dict[int, str]:
        """Publish, and return what the broker will never take: sequence number -> why."""
        answers = await asyncio.gather(
            *(self._send(record, backlog=backlog) for record in records), return_exceptions=True
        )
        refused = {}
        for record, answer in zip(records, answers, strict=True):
            if isinstance(answer, PublishRefused) and answer.permanent:
                refused[record.seq] = str(answer)
            elif isinstance(answer, PublishRefused):
                raise SinkUnavailable(str(answer), retry_after=answer.retry_after) from answer
            elif isinstance(answer, MqttUnavailable):
                raise SinkUnavailable(str(answer), retry_after=_SOON) from answer
            elif isinstance(answer, BaseException):
                raise answer
        return refused

    def _send(self, record: Record, *, backlog: bool) -> asyncio.Future[None]:
        first = header(self.agent, record.seq, backlog=backlog)
        properties = {"agent": self.agent, "seq": str(record.seq)}
        if backlog:
            properties["replayed"] = "true"
        topic = self.topic(record.machine, "readings")
        payload = first + b"\n" + record.lines
        if len(payload) > LARGEST:
            return _too_large(topic, len(payload))
        return self.client.publish(topic, payload, properties=properties)

    async def _confirmations(self, lost: asyncio.Future[str]) -> bool:
        """Wait until everything is confirmed: True; False where a historian came and wants it again."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._confirm_timeout
        while self._awaited and not self._historian_came:
            self._news.clear()
            news = asyncio.ensure_future(self._news.wait())
            either: list[asyncio.Future[Any]] = [news, lost]
            try:
                await asyncio.wait(either, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            if not self._awaited:
                break
            if lost.done():
                raise SinkUnavailable(f"{lost.result()}; sending again", retry_after=_SOON)
            if loop.time() >= end:
                raise SinkUnavailable(
                    f"the historian did not confirm {len(self._awaited)} records within "
                    f"{self._confirm_timeout:g} s: is it running, and on the same broker?",
                    retry_after=0.0,
                )
        return not self._awaited

    def _somebody_came(self, message: Message) -> None:
        """A historian has just subscribed: what was published before that it has never seen."""
        if not message.retain and b'"role":"historian"' in message.payload and b'"online"' in message.payload:
            self._historian_came = True
            self._news.set()

    def _stored(self, message: Message) -> None:
        """The historian's word: `seqs` are on its medium, `refused` will never be, for `reason`."""
        try:
            word = json.loads(message.payload)
            refused = {int(seq): str(word["reason"]) for seq in word.get("refused", ())}
            seqs = {int(seq) for seq in word.get("seqs", ())}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if not self.ignored:
                log.warning(
                    "a confirmation on %s that is none was ignored (said once; counted): %r",
                    message.topic,
                    error,
                )
            self.ignored += 1
            return
        self._refused |= {seq: why for seq, why in refused.items() if seq in self._awaited}
        self._confirmed |= seqs & self._awaited
        self._awaited -= seqs | refused.keys()
        self._news.set()


def _too_large(topic: str, size: int) -> asyncio.Future[None]:
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    text = f"a message on {topic} has {size} bytes, more than the {LARGEST} any historian takes"
    refused.set_exception(PublishRefused(text, permanent=True))
    return refused


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
