"""From MQTT into the historian's journal, and the word back to the agent that it is there."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edge_agent.buffer import Journal
from edge_agent.failpoints import reached
from edge_agent.historian.claims import Claim, Claims
from edge_agent.lineprotocol import Header, parse_head, split_head, split_header
from edge_agent.mqtt import Message, MqttClient
from edge_agent.types import Priority

log = logging.getLogger(__name__)

LEVELS = ("enterprise", "site", "area", "line")
MAX_PAYLOAD = 1024 * 1024
"""Larger messages are dropped; an agent sends at most 128 KiB of lines."""
QUIET = 0.025
"""Seconds without a message after which what waits is committed, so that the broker can send more."""
WINDOW = 8
"""From so many unacknowledged messages on, the quiet rule holds within the commit interval too: brokers send
no more than their window (20 by default) without an acknowledgement."""
RETRY = 5.0
"""Seconds until messages that the journal did not take are offered to it again."""
_KNOWN_HEADS = 10_000


class _Waiting(NamedTuple):
    message: Message
    machine: str
    root: str
    header: Header | None
    lines: bytes


class Refused(ValueError):
    """A message that is dropped whole; `reason` is the word it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Intake:
    """Takes `readings` messages of `prefix` (the enterprise and site) with machines at any depth below."""

    def __init__(
        self, client: MqttClient, journal: Journal, prefix: Sequence[str], commit_interval: float
    ) -> None:
        self.messages = 0
        self.dropped: Counter[str] = Counter()
        """Messages dropped, by reason."""
        self.unheaded = 0
        """Messages without a header: stored, and confirmed to nobody."""
        self._client = client
        self._journal = journal
        self._interval = commit_interval
        self._waiting: dict[asyncio.Future[None], list[_Waiting]] = {}
        self._heads: set[tuple[str, bytes]] = set()
        self._quiet: asyncio.TimerHandle | None = None
        self._flushed = float("-inf")
        self._flushing: asyncio.Task[None] | None = None
        start = "/".join(prefix)
        self.claims = Claims(client, start)
        for depth in range(3):
            pattern = "/".join([start, *["+"] * depth, "+", "readings"])
            client.subscribe(pattern, self._received, manual_ack=True, group="historian")

    @property
    def unacknowledged(self) -> int:
        """Messages that are not committed yet."""
        return sum(len(waiting) for waiting in self._waiting.values())

    def _received(self, message: Message) -> None:
        self.messages += 1
        try:
            waiting = self._examine(message)
        except Refused as refusal:
            self._drop(message, refusal)
            return
        if not waiting.lines:
            message.ack()
        elif self._claimed_by_another(waiting):
            self.dropped["claimed"] += 1
            message.ack()
        else:
            self._keep(waiting)

    def _claimed_by_another(self, waiting: _Waiting) -> bool:
        """Whether the machine is another agent's; the sender is told, and keeps the record apart."""
        if (header := waiting.header) is None:
            return False
        machine = f"{waiting.root}/{waiting.machine}"
        claim = self.claims.claim(machine, header.agent)
        if claim is Claim.REFUSED:
            owner = self.claims.owners[machine]
            reason = f"the machine {waiting.machine} belongs to the agent {owner}: one needs another name"
            self._tell(waiting.root, header.agent, {"refused": [header.seq], "reason": reason})
        return claim is not Claim.OWN

    def _tell(self, root: str, agent: str, content: Mapping[str, object]) -> None:
        # Lost words cost nothing but a repeat: the agent sends again what it hears nothing about.
        self._client.publish(f"{root}/_agents/{agent}/stored", json.dumps(content).encode())

    def _drop(self, message: Message, refusal: Refused) -> None:
        if not self.dropped[refusal.reason]:
            log.warning("a message on %s is dropped: %s (said once; counted)", message.topic, refusal)
        self.dropped[refusal.reason] += 1
        self._journal.count_loss(refusal.reason, message.payload.count(b"\n") + 1)
        message.ack()

    def _examine(self, message: Message) -> _Waiting:
        if len(message.payload) > MAX_PAYLOAD:
            raise Refused("too_large", f"{len(message.payload)} bytes")
        *levels, machine, _ = message.topic.split("/")
        header, lines = split_header(message.payload)
        if header is None:
            self.unheaded += 1
        elif "/" in header.agent or "+" in header.agent or "#" in header.agent:
            raise Refused("malformed", f"'{header.agent}' cannot be an agent's name")
        lines = lines.strip(b"\n")
        for line in lines.split(b"\n"):
            if line and not line.startswith(b"#"):
                self._check_owner(message.topic, line, machine, levels)
        return _Waiting(message, machine, "/".join(levels), header, lines)

    def _check_owner(self, topic: str, line: bytes, machine: str, levels: list[str]) -> None:
        """A line must belong to the machine, and the plant levels, of the topic it came on."""
        start, rest = split_head(line)
        if (topic, start) in self._heads:
            return
        try:
            _, tags = parse_head(start)
        except ValueError as error:
            raise Refused("malformed", f"not line protocol: {error}") from error
        own = [tags[level] for level in LEVELS if level in tags]
        if not rest or tags.get("machine") != machine or own != levels:
            raise Refused("wrong_machine", f"it holds a line of {'/'.join([*own, tags.get('machine', '?')])}")
        if len(self._heads) >= _KNOWN_HEADS:
            self._heads.clear()
        self._heads.add((topic, start))

    def _keep(self, waiting: _Waiting) -> None:
        alarm = waiting.lines.startswith(b"alarms,")
        priority = Priority.ALARM if alarm else Priority.TELEMETRY
        source = waiting.header.agent if waiting.header else ""
        future = self._journal.append(waiting.machine, waiting.lines, priority, source=source)
        if future not in self._waiting:
            self._waiting[future] = []
            future.add_done_callback(self._committed)
        self._waiting[future].append(waiting)
        self._commit_soon()

    def _commit_soon(self) -> None:
        """Commit after a short silence, unless there was a commit within the interval and few are waiting."""
        loop = asyncio.get_running_loop()
        if self._quiet is not None:
            self._quiet.cancel()
        due = loop.time() + QUIET
        if self.unacknowledged < WINDOW:
            due = max(due, self._flushed + self._interval)
        self._quiet = loop.call_at(due, self._flush)

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        self._quiet = None
        self._flushed = loop.time()
        if self._flushing is None or self._flushing.done():
            self._flushing = loop.create_task(self._journal.flush(), name="historian flush")

    def _committed(self, future: asyncio.Future[None]) -> None:
        waiting = self._waiting.pop(future)
        if future.cancelled() or future.exception() is not None:
            # not acknowledged, not confirmed: still the broker's and the agent's; offered again
            log.warning("%d messages were not taken into the journal; trying again", len(waiting))
            asyncio.get_running_loop().call_later(RETRY, self._offer_again, waiting)
            return
        reached("historian-committed")
        stored: dict[tuple[str, str], list[int]] = defaultdict(list)
        for one in waiting:
            if one.header is not None:
                stored[one.root, one.header.agent].append(one.header.seq)
        for (root, agent), seqs in stored.items():
            self._tell(root, agent, {"seqs": seqs})
        for one in waiting:
            one.message.ack()
        reached("historian-confirmed")

    def _offer_again(self, waiting: list[_Waiting]) -> None:
        for one in waiting:
            self._keep(one)

    async def stop(self) -> None:
        """Commit what has been taken in."""
        if self._quiet is not None:
            self._quiet.cancel()
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self._journal.flush()
