"""What the simulators put on record: the truth about faults, and every value that was handed out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.clock import SECOND, iso
from edge_agent.errors import StoreError
from edge_agent_simulators.machine import Incident


class JsonLines:
    """A file of JSON lines, one line a record; StoreError where it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror}") from error
        self._waiting: list[str] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep a record until the next `flush`."""
        self._waiting.append(json.dumps(record, separators=(",", ":"), ensure_ascii=False))

    def flush(self) -> None:
        """Hand what is kept to the operating system."""
        if not self._waiting:
            return
        try:
            self._file.write("\n".join(self._waiting) + "\n")
            self._file.flush()
        except OSError as error:
            raise StoreError(f"{self._path} cannot be written: {error.strerror}") from error
        self._waiting.clear()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._file.close()


class TruthLog:
    """Onsets and breakdowns, written when they are reached: `{t, machine, fault, event, tags}`."""

    def __init__(self, path: Path, epoch: int) -> None:
        self._lines = JsonLines(path)
        self.epoch = epoch
        """UTC ns of the scenario's start."""

    def add(self, incident: Incident) -> None:
        """Put one on record at once."""
        self._lines.add(
            {
                "t": iso(self.epoch + round(incident.t * SECOND)),
                "machine": incident.machine,
                "fault": incident.fault,
                "event": incident.event,
                "tags": list(incident.tags),
            }
        )
        self._lines.flush()

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
