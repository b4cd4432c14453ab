"""Where the pipeline puts what it has: the journal, and the board of latest states."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from edge_agent.types import Priority


class Journalling(Protocol):
    """The part of the journal that the pipeline uses."""

    def append(
        self, machine: str, lines: bytes, priority: Priority = ..., *, urgent: bool = ..., source: str = ...
    ) -> Future[None]:
        """Take lines; the future is done when they are committed."""


class Board(Protocol):
    """Latest-wins states: retained topics that are sent again on every connection."""

    def retain(self, topic: str, payload: Mapping[str, Any] | bytes, *, expiry: float | None = None) -> None:
        """Make `payload` the state of `topic` for `expiry` seconds or until replaced; b"" clears it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a machine stands: its levels (for line protocol) and its topic (ROOT/MACHINE)."""

    machine: str
    levels: Mapping[str, str]

    @property
    def topic(self) -> str:
        """ROOT/MACHINE."""
        return "/".join([*self.levels.values(), self.machine])
