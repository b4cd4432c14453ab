"""Retained topics: only the latest payload of each matters; the broker gets it again after each connect."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from edge_agent.mqtt import MqttClient, MqttUnavailable, PublishRefused

log = logging.getLogger(__name__)

_AT_ONCE = 100
"""Publishes in flight; while they are, newer payloads of a topic replace older ones."""
_BARRED = 600.0
"""Seconds in which topics beside a refused one are left alone: access lists go by prefix, and mosquitto
2.0.11 ends the connection at each refusal, which must not keep the readings from going out."""
_PAUSE = 1.0
"""Seconds to wait where the broker refuses or the connection breaks."""


@dataclass(frozen=True, slots=True)
class _Note:
    payload: bytes
    expiry: int | None


class RetainedBoard:
    """Keeps the latest payload of each topic at the broker; nothing here is journalled."""

    def __init__(self, client: MqttClient) -> None:
        self._client = client
        self._notes: dict[str, _Note] = {}
        self._due: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._barred: dict[str, float] = {}
        self.refused = 0
        """Publishes the broker refused."""
        client.on_connect(self._again)

    def start(self) -> None:
        """Begin to publish."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="retained topics")

    async def stop(self) -> None:
        """Stop publishing; what is retained at the broker stays there."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def put(self, topic: str, payload: bytes, *, expiry: int | None = None) -> None:
        """Have the broker keep `payload` for `topic`, for `expiry` seconds (MQTT 5) or until replaced.

        An empty payload removes the topic from the broker. The same payload again is sent again only where it
        has an expiry.
        """
        note = _Note(payload, expiry)
        if expiry is None and self._notes.get(topic) == note:
            return
        self._notes[topic] = note
        self._mark(topic)

    async def flush(self, timeout: float) -> bool:
        """Wait until the broker has everything; False where that takes longer than `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _bar(self, topic: str, why: str) -> None:
        """Leave the topics beside this one alone for a while; said when it begins."""
        parent = topic.rpartition("/")[0]
        if parent not in self._barred:
            log.warning("%s; retained topics of %s/ are not published for now", why, parent)
        self._barred[parent] = time.monotonic() + _BARRED
        for due in [due for due in self._due if due.rpartition("/")[0] == parent]:
            del self._due[due]

    def _is_barred(self, topic: str) -> bool:
        until = self._barred.get(topic.rpartition("/")[0]) if self._barred else None
        return until is not None and time.monotonic() < until

    def _mark(self, topic: str) -> None:
        if self._is_barred(topic):
            return
        self._due[topic] = None
        self._idle.clear()
        self._wake.set()

    def _again(self) -> None:
        for topic in self._notes:
            self._mark(topic)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await self._client.connected.wait()
            batch = list(self._due)[:_AT_ONCE]
            for topic in batch:
                del self._due[topic]
            if batch and not await self._supervised_send(batch):
                await asyncio.sleep(_PAUSE)
            if not self._due:
                self._wake.clear()
                self._idle.set()

    async def _supervised_send(self, topics: list[str]) -> bool:
        """A fault of our own is said and tried again: nobody would miss this task."""
        try:
            return await self._send(topics)
        except Exception:
            log.exception("retained topics could not be published; trying again")
            for topic in topics:
                self._mark(topic)
            return False

    async def _send(self, topics: list[str]) -> bool:
        sent = {topic: self._notes[topic] for topic in topics}
        answers = await asyncio.gather(
            *(
                self._client.publish(topic, note.payload, retain=True, expiry=note.expiry)
                for topic, note in sent.items()
            ),
            return_exceptions=True,
        )
        good = True
        for (topic, note), answer in zip(sent.items(), answers, strict=True):
            good = self._settle(topic, note, answer) and good
        return good

    def _settle(self, topic: str, note: _Note, answer: BaseException | None) -> bool:
        if answer is None:
            if not note.payload and self._notes.get(topic) == note:
                del self._notes[topic]
            return True
        if isinstance(answer, PublishRefused):
            self.refused += 1
            if answer.retry_after is None:
                log.warning("%s", answer)
            else:
                self._bar(topic, str(answer))
            return False
        if isinstance(answer, MqttUnavailable):
            self._mark(topic)
            return False
        raise answer
