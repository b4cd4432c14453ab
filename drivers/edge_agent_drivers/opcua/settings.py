"""What an OPC UA machine and its tags may say in YAML. Imports no protocol library: `check` reads this."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from edge_agent.contracts.doubt import Doubt
from edge_agent.contracts.settings import MachineSettings, Name, TagSettings
from edge_agent.types import Tag
from edge_agent.units import Duration
from edge_agent_drivers.opcua.nodeid import NodeField
from edge_agent_drivers.opcua.security import SecuritySettings

Type = Literal[
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float32", "float64", "string",
]  # fmt: skip


class OpcuaTag(TagSettings):
    """One node of an OPC UA server."""

    node: NodeField
    """nsu=URI;s=NAME (the URI is looked up at each connect), or ns=INDEX;i=NUMBER."""
    type: Type | None = None
    """What the node holds; needed only for text (string) and to say that a tag is a bool."""

    @property
    def value_type(self) -> str:
        """The type of the tag: as written, else a number."""
        return self.type or "float64"

    def runtime(self, name: str) -> Tag:
        """The runtime tag."""
        return self.tag(name, self.value_type)


class OpcuaMachine(MachineSettings):
    """An OPC UA server."""

    url: str
    """opc.tcp://host:port/path."""
    timeout: Duration = 4.0
    """How long to wait for an answer; opening a secured session takes seconds on small controllers."""
    security: SecuritySettings = SecuritySettings()
    mode: Literal["subscribe", "poll"] = "subscribe"
    """subscribe: the server reports changes; poll: every node is read each time."""
    timestamp: Literal["source", "server", "agent"] = "source"
    """Whose time a value gets."""
    max_skew: Duration = 10.0
    """Further than this from the agent's clock, the agent's time is used and the value is uncertain."""
    tags: dict[Name, OpcuaTag] = {}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = [*self._url_problems(), *self._tag_problems()]
        if problems:
            raise ValidationError.from_exception_data(
                "OpcuaMachine",
                [
                    InitErrorDetails(
                        type=PydanticCustomError("value_error", "{text}", {"text": text}), loc=loc, input=None
                    )
                    for loc, text in problems
                ],
            )
        return self

    def doubts(self, name: str, state: Path | None) -> Iterator[Doubt]:
        """What is doubtful about security."""
        for doubt in self.security.doubts(name, state):
            yield doubt.below("security")

    def _url_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if not re.match(r"opc\.tcp://[^\s/]", self.url):
            host = re.sub(r"^[\w.+-]*://", "", self.url)
            yield ("url",), f"'{self.url}' is not an OPC UA address: write opc.tcp://{host or 'host:4840'}"
            return
        parts = urlsplit(self.url)
        if "@" in parts.netloc:
            yield (
                ("url",),
                "the user goes into security: {username: ..., password: !secret ...}, not into url",
            )
            return
        try:
            missing = parts.port is None or not parts.hostname
        except ValueError as problem:
            yield ("url",), f"'{self.url}': {problem}"
            return
        if missing:
            yield (
                ("url",),
                f"'{self.url}' lacks the port: OPC UA servers listen on 4840 where nothing else is said",
            )

    def _tag_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for name, tag in self.tags.items():
            if tag.type in ("string", "bool") and tag.deadband_units:
                yield ("tags", name, "deadband"), f"a {tag.type} has no deadband"
