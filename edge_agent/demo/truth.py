"""What really happened to the simulated machines, as the simulators write it down."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.clock import parse_iso


@dataclass(frozen=True, slots=True)
class Failure:
    """A fault that broke a machine; times are UTC ns in simulated time."""

    machine: str
    fault: str
    onset: int
    at: int
    tags: tuple[str, ...]


def read_events(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a truth log so far; none where it does not exist yet."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def first_failure(events: Iterable[dict[str, Any]]) -> Failure | None:
    """The first breakdown, with the onset of its fault."""
    onsets: dict[tuple[str, str], int] = {}
    for event in events:
        key, at = (event["machine"], event["fault"]), parse_iso(event["t"])
        if event["event"] == "onset":
            onsets.setdefault(key, at)
        elif event["event"] == "breakdown":
            return Failure(*key, onset=onsets.get(key, at), at=at, tags=tuple(event["tags"]))
    return None
