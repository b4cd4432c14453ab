"""Which agent each machine belongs to: two agents with a machine of one name would mix up two machines."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from enum import Enum, auto

from edge_agent.mqtt import Message, MqttClient

log = logging.getLogger(__name__)

MOST = 100_000
"""Machines that are remembered; a hostile sender must not fill the memory."""
UNHEARD = 5.0
"""Seconds after which an agent of whom no status has come counts as offline; a status is retained."""
MOST_WATCHED = 100
"""Agents whose status is watched because another one claims a machine of theirs."""


class Claim(Enum):
    """What becomes of a message from an agent."""

    OWN = auto()
    REFUSED = auto()
    """The machine belongs to another agent, which is online."""
    OPEN = auto()
    """It belongs to another agent, and whether that is online is not known yet: the sender will try again."""


class Claims:
    """The first agent to send a machine's readings owns it, until that agent is offline.

    Who owns what is retained at the broker, `ROOT/MACHINE/owner`, so that historians that share the work, or
    start anew, agree; where two of them meet a new machine at the same moment, the broker's order decides.

    Agents publish their status (retained, with a last will) somewhere below `prefix`, the enterprise and
    site; it is asked for where two of them have a machine in common.
    """

    def __init__(self, client: MqttClient, prefix: str) -> None:
        self.settled = False
        """Set once the retained owners can have come; before that no new machine is given to anybody."""
        self._client = client
        self._prefix = prefix
        self._owners: dict[str, str] = {}
        self._retained: set[str] = set()
        self._online: dict[str, bool | None] = {}
        self._asked: dict[str, float] = {}
        self._said: set[tuple[str, str]] = set()
        for levels in ("", "+/", "+/+/"):
            client.subscribe(f"{prefix}/{levels}+/owner", self._heard_owner)

    def settle(self) -> None:
        """The broker has had time to tell what it retains; what it has forgotten it is told again."""
        self.settled = True
        for machine in self._owners.keys() - self._retained:
            self._publish(machine)
        self._retained.clear()

    @property
    def owners(self) -> Mapping[str, str]:
        """Machine (ROOT/MACHINE) -> agent."""
        return self._owners

    def claim(self, machine: str, agent: str) -> Claim:
        """`agent` has sent readings of `machine` (ROOT/MACHINE)."""
        owner = self._owners.get(machine)
        if owner == agent:
            return Claim.OWN
        if owner is None and not self.settled:
            return Claim.OPEN
        if owner is not None:
            online = self._is_online(owner)
            if online is None:
                return Claim.OPEN
            if online:
                self._say(machine, owner, agent)
                return Claim.REFUSED
            log.warning("%s belongs to the agent %s from now on; %s is offline", machine, agent, owner)
        if owner is not None or len(self._owners) < MOST:
            self._owners[machine] = agent
            self._publish(machine)
        return Claim.OWN

    def _publish(self, machine: str) -> None:
        content = json.dumps({"agent": self._owners[machine]})
        self._client.publish(f"{machine}/owner", content.encode(), retain=True)

    def _heard_owner(self, message: Message) -> None:
        machine = message.topic.removesuffix("/owner")
        try:
            agent = json.loads(message.payload)["agent"]
        except (ValueError, TypeError, LookupError):
            log.warning("what came on %s is no owner and was ignored", message.topic)
            return
        if isinstance(agent, str) and agent and (machine in self._owners or len(self._owners) < MOST):
            self._owners[machine] = agent
            if message.retain:
                self._retained.add(machine)

    def _say(self, machine: str, owner: str, agent: str) -> None:
        if (machine, agent) not in self._said and len(self._said) < MOST:
            self._said.add((machine, agent))
            log.error(
                "%s belongs to the agent %s; what %s sends of it is refused: one of the two machines "
                "needs another name",
                machine, owner, agent,
            )  # fmt: skip

    def _is_online(self, agent: str) -> bool | None:
        """Whether an agent is online; None until its status has come, for which it is asked."""
        now = asyncio.get_running_loop().time()
        if agent not in self._online:
            if len(self._online) >= MOST_WATCHED:
                return True
            self._online[agent], self._asked[agent] = None, now
            for levels in ("", "+/", "+/+/"):  # an agent may stand in an area, and in a line of it
                topic = f"{self._prefix}/{levels}_agents/{agent}/status"
                self._client.subscribe(topic, self._heard, qos=0)
        if self._online[agent] is None and now - self._asked[agent] > UNHEARD:
            return False
        return self._online[agent]

    def _heard(self, message: Message) -> None:
        agent = message.topic.split("/")[-2]
        try:
            self._online[agent] = json.loads(message.payload).get("state") == "online"
        except (ValueError, AttributeError):
            log.warning("a status on %s that is none was ignored", message.topic)
