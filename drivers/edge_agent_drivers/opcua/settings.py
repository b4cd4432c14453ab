"""What an OPC UA machine and its tags may say in YAML. Imports no protocol library: `check` reads this."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from edge_agent.contracts.doubt import Doubt
from edge_agent.contracts.settings import MachineSettings, Name, TagSettings
from edge_agent.types import Tag
from edge_agent.units import Duration
from edge_agent_drivers.opcua.nodeid import NodeField, NodeRef
from edge_agent_drivers.opcua.path import BrowsePath, PathField
from edge_agent_drivers.opcua.security import SecuritySettings

Type = Literal[
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float32", "float64", "string",
]  # fmt: skip


class OpcuaTag(TagSettings):
    """One node of an OPC UA server, or what of its value is wanted."""

    node: NodeField | None = None
    """nsu=URI;s=NAME (the URI is looked up at each connect), or ns=INDEX;i=NUMBER."""
    browse: PathField | None = None
    """Instead of node: browse names from the Objects folder down, as Line1/Temperature."""
    type: Type | None = None
    """What the node holds; needed only for text (string) and to say that a tag is a bool."""
    index: int | None = Field(default=None, ge=0)
    """Of an array, only this element; the first one is 0."""
    length: int | None = Field(default=None, ge=1, le=1000)
    """Of an array, the first so many elements, as TAG.0, TAG.1 and so on."""
    field: str | None = None
    """Of a structure, only this field; within another structure or an array: Motor.Speed, Axes.0.Position."""
    fields: list[Name] = []
    """Of a structure, these fields, as TAG.FIELD."""
    sampling: Duration | None = None
    """How often the server looks for a change; 0s is every change. Default: the scan rate."""
    queue_size: int | None = Field(default=None, ge=1, le=100_000)
    """Changes the server keeps until they are published. Default: enough for the sampling, at least 10."""

    @property
    def place(self) -> NodeRef | BrowsePath:
        """Where the value is on the server."""
        place = self.node or self.browse
        if place is None:
            raise ValueError("checked when it was read: a tag has a node or a browse path")
        return place

    @property
    def value_type(self) -> str:
        """The type of the tag: as written, else a number."""
        return self.type or "float64"

    @property
    def percent(self) -> float | None:
        """The deadband in percent of the range that the node has on the server; None where it is not that."""
        return float(self.deadband.rstrip("%")) if isinstance(self.deadband, str) and not self.range else None

    def suffixes(self) -> list[tuple[str, tuple[str | int, ...]]]:
        """What the tags of this node are called after its name, and the steps to their values."""
        before = (*_steps(self.field), *(() if self.index is None else (self.index,)))
        if self.length is not None:
            return [(f".{index}", (*before, index)) for index in range(self.length)]
        return [(f".{field}", (*before, *_steps(field))) for field in self.fields] or [("", before)]

    def runtime(self, name: str) -> tuple[Tag, ...]:
        """The runtime tags."""
        return tuple(self.tag(f"{name}{suffix}", self.value_type) for suffix, _ in self.suffixes())

    @model_validator(mode="after")
    def _percent_of_a_range(self) -> Self:
        # Without `range` it is of the EURange of the node, which the server knows.
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        problems = [*(("node", text) for text in _place_problems(self)), *_part_problems(self)]
        if problems:
            raise _located("OpcuaTag", [((key,), text) for key, text in problems])
        return self


def _steps(field: str | None) -> tuple[str | int, ...]:
    parts = field.split(".") if field else []
    return tuple(int(part) if part.isdigit() else part for part in parts)


def _place_problems(tag: OpcuaTag) -> Iterator[str]:
    if tag.node is None and tag.browse is None:
        yield "a tag needs node: nsu=URI;s=NAME, or browse: Line1/Temperature"
    if tag.node is not None and tag.browse is not None:
        yield "a tag has either node or browse, not both"


def _part_problems(tag: OpcuaTag) -> Iterator[tuple[str, str]]:
    if tag.type in ("string", "bool") and tag.deadband != 0:
        yield "deadband", f"a {tag.type} has no deadband"
    if tag.length is not None and tag.fields:
        yield "length", "write either length (elements of an array) or fields (of a structure), not both"
    if tag.length is not None and tag.index is not None:
        yield "index", "write either index (one element) or length (the first ones), not both"
    if tag.field is not None and not all(tag.field.split(".")):
        yield "field", f"'{tag.field}' has an empty name"
    if len(set(tag.fields)) < len(tag.fields):
        yield "fields", "a field is named twice"
    if tag.length is not None or tag.fields:
        for key in ("limits", "alarm"):
            if getattr(tag, key) is not None:
                yield key, f"{key} belong to one value: write a tag with index or field for it"


class OpcuaMachine(MachineSettings):
    """An OPC UA server."""

    url: str
    """opc.tcp://host:port/path."""
    timeout: Duration = 4.0
    """How long to wait for an answer; opening a secured session takes seconds on small controllers."""
    security: SecuritySettings = SecuritySettings()
    mode: Literal["subscribe", "poll"] = "subscribe"
    """subscribe: the server reports changes; poll: every node is read each time."""
    conditions: bool = False
    """Whether the alarms the server itself has become alarms of the machine."""
    timestamp: Literal["source", "server", "agent"] = "source"
    """Whose time a value gets."""
    max_skew: Duration = 10.0
    """Further than this from the agent's clock, the agent's time is used and the value is uncertain."""
    tags: dict[Name, OpcuaTag] = {}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = [*self._url_problems(), *self._tag_problems()]
        if problems:
            raise _located("OpcuaMachine", problems)
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
            if tag.percent and self.mode == "poll":
                yield (
                    ("tags", name, "deadband"),
                    "a deadband in percent needs `range` where the machine is polled",
                )
            for key in ("sampling", "queue_size"):
                if self.mode == "poll" and getattr(tag, key) is not None:
                    yield (
                        ("tags", name, key),
                        f"a machine that is polled has no {key}: leave it out, or the mode",
                    )
            for full in (f"{name}{suffix}" for suffix, _ in tag.suffixes() if suffix):
                if full in self.tags:
                    yield ("tags", name), f"a part of it would be named {full}, as another tag already is"


def _located(title: str, problems: list[tuple[tuple[str, ...], str]]) -> ValidationError:
    """Several problems, each at its own place below the model being validated."""
    return ValidationError.from_exception_data(
        title,
        [
            InitErrorDetails(
                type=PydanticCustomError("value_error", "{text}", {"text": text}), loc=loc, input=None
            )
            for loc, text in problems
        ],
    )
