"""The ledger of field types: (measurement, field) -> storage type, across agents and restarts.

A store keeps one type per field (InfluxDB for a shard's or for all time). Lines that bring another would be
refused whole, so the ledger takes out the one field that does not fit and lets the rest of the line pass.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from edge_agent.lineprotocol import Point, field_text, key, parse, split_head
from edge_agent.types import Record, Store, Value

log = logging.getLogger(__name__)

SetAside = Callable[[Record, bytes, str], object]
"""Takes lines of a record that will never be stored, and why."""

_NAMES = {float: "float", int: "integer", bool: "boolean", str: "string"}


class Line(NamedTuple):
    """One line that can be stored, and the record it came in."""

    record: Record
    text: bytes
    point: Point
    """The line, parsed."""


class FieldLedger:
    """Knows each field's type; the first one seen stands. Kept in `path` (JSON), for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._types: dict[str, dict[str, str]] = {}
        self._changed = False
        self._unsaved = False
        if path.exists():
            try:
                self._types = json.loads(path.read_bytes())
            except ValueError as error:
                aside = path.with_name(path.name + ".damaged")
                path.rename(aside)
                log.error(
                    "%s is damaged (%s) and set aside as %s; field types are learned again",
                    path,
                    error,
                    aside,
                )

    def screen(self, records: Iterable[Record], set_aside: SetAside) -> list[Line]:
        """The lines of the records that can be stored; what cannot be goes to `set_aside` with its reason."""
        lines = []
        for record in records:
            for text in record.lines.split(b"\n"):
                if not text or text.startswith(b"#"):
                    continue
                try:
                    kept = self._admit(record, text, set_aside)
                except ValueError as error:
                    set_aside(record, text, f"not line protocol: {error}")
                    continue
                if kept is not None:
                    lines.append(kept)
        self._save()
        return lines

    def fit(self, lines: Iterable[Line], set_aside: SetAside) -> list[Line]:
        """Lines that were screened before, without the fields that do not fit what was learned since."""
        kept = (self._admit(line.record, line.text, set_aside) for line in lines)
        return [line for line in kept if line is not None]

    def learn(self, measurement: str, field: str, kind: str) -> None:
        """The store says that the field has this type (float, integer, boolean, string) already."""
        known = self._types.setdefault(measurement, {})
        if known.get(field) != kind:
            known[field] = kind
            self._changed = True
        self._save()

    def _admit(self, record: Record, text: bytes, set_aside: SetAside) -> Line | None:
        point = parse(text)
        known = self._types.setdefault(point.measurement, {})
        wrong = {}
        for field, value in point.fields.items():
            kind = _NAMES[type(value)]
            has = known.get(field)
            if has is None:
                known[field] = kind
                self._changed = True
            elif has != kind:
                wrong[field] = (kind, has)
        if not wrong:
            return Line(record, text, point)
        return self._strip(Line(record, text, point), wrong, set_aside)

    @staticmethod
    def _strip(line: Line, wrong: dict[str, tuple[str, str]], set_aside: SetAside) -> Line | None:
        """The line without its `wrong` fields (name -> type it brings, type it has), which are set aside."""
        record, text, (measurement, tags, fields, timestamp) = line
        start, _ = split_head(text)
        for field, (kind, has) in wrong.items():
            reason = (
                f"field type conflict: {measurement}.{field} is {kind}, stored as {has} so far; "
                f"give the tag `store: {has}`, or another name"
            )
            set_aside(record, b"%s %s %d" % (start, _text(field, fields[field]), timestamp), reason)
        rest = {field: value for field, value in fields.items() if field not in wrong}
        if not rest:
            return None
        body = b",".join(_text(field, value) for field, value in rest.items())
        return Line(record, b"%s %s %d" % (start, body, timestamp), Point(measurement, tags, rest, timestamp))

    def _save(self) -> None:
        """Keep what is known of the types; where that fails it is learned again from what comes."""
        if not self._changed:
            return
        try:
            self._write()
        except OSError as error:
            if not self._unsaved:
                log.error("the field types cannot be kept in %s: %s", self._path, error)
            self._unsaved = True
        else:
            self._unsaved = self._changed = False

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(self._path.name + ".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(self._types, file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def _text(field: str, value: Value) -> bytes:
    store = {bool: Store.BOOL, int: Store.INT}.get(type(value), Store.FLOAT)
    return f"{key(field)}={field_text(value, store)}".encode()
