"""Writing lines; a scan without an object per sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent.types import Alert, SampleBatch, Score, Status, Store, Tag, Value

MAX_INT = 2**63 - 1
MIN_INT = -(2**63)
MAX_TEMPLATES = 64
"""Patterns of value types remembered for each read group; above that the cache starts afresh."""

_CONTROL = dict.fromkeys((*range(32), 127, 133, 8232, 8233), " ")
_KEY = str.maketrans(
    {**_CONTROL, "\\": "/", '"': "'", ",": "\\,", "=": "\\=", " ": "\\ "} | dict.fromkeys(_CONTROL, "\\ ")
)
_STRING = str.maketrans({**_CONTROL, "\\": "\\\\", '"': '\\"'})


def key(text: str) -> str:
    """A measurement, tag or field name or a tag's value, escaped."""
    return text.translate(_KEY)


def quoted(text: str) -> str:
    """A string field, quoted and escaped."""
    return f'"{text.translate(_STRING)}"'


def head(measurement: str, tags: Mapping[str, str]) -> str:
    """`measurement,tag=value,...`, in the order given; empty values are left out, as the protocol asks."""
    return ",".join(
        [key(measurement), *(f"{key(name)}={key(value)}" for name, value in tags.items() if value)]
    )


def field_text(value: Value | None, store: Store = Store.FLOAT) -> str | None:
    """A value as the field text of its storage type, or None where it cannot be stored.

    Strings stay strings whatever `store` says; an int for a store of int must fit 64 bits; NaN and infinities
    are never written.
    """
    if value is None:
        return None
    if isinstance(value, str) or store is Store.STRING:
        return quoted(str(value))
    if store is Store.BOOL:
        return "true" if value else "false"
    if isinstance(value, bool):
        return f"{value:d}i" if store is Store.INT else f"{value:d}"
    if not isinstance(value, int):
        value = float(value)
        if not math.isfinite(value):
            return None
    return _int_text(value) if store is Store.INT else _float_text(value)


def _int_text(value: float) -> str | None:
    whole = round(value)
    return f"{whole:d}i" if MIN_INT <= whole <= MAX_INT else None


def _float_text(value: float) -> str | None:
    # an int beyond the range of a double would be read back as infinity
    if isinstance(value, int) and not -(2**1023) < value < 2**1023:
        return None
    return repr(value)


class BatchEncoder:
    """Encodes the scans of one read group of one machine, each as one wide line without a line end.

    `levels` are the ISA-95 levels that are set (`enterprise`, `site`, `area`, `line`), top down.
    """

    def __init__(
        self, machine: str, levels: Mapping[str, str], measurement: str, tags: Sequence[Tag]
    ) -> None:
        self._head = head(measurement, {**levels, "machine": machine}) + " "
        self._names = tuple(tag.name for tag in tags)
        self._prefixes = tuple(key(tag.name) + "=" for tag in tags)
        self._stores = tuple(tag.store for tag in tags)
        self._columns = {name: column for column, name in enumerate(self._names)}
        self._templates: dict[tuple[type, ...], str | None] = {}

    def encode(self, batch: SampleBatch) -> bytes:
        """The batch as one line; b"" where no value is good. KeyError for a tag of another read group."""
        if batch.names is not self._names and batch.names != self._names:
            return self._by_name(batch)
        values = batch.values
        kinds = tuple(map(type, values))
        try:
            template = self._templates[kinds]
        except KeyError:
            template = self._learn(kinds)
        if template is not None:
            good = [value for value in values if value is not None] if type(None) in kinds else values
            if _all_finite(good):
                return (template % (*good, batch.timestamp)).encode()
        return self._line(zip(self._prefixes, values, self._stores, strict=True), batch.timestamp, batch)

    def _learn(self, kinds: tuple[type, ...]) -> str | None:
        if len(self._templates) >= MAX_TEMPLATES:
            self._templates.clear()
        self._templates[kinds] = template = self._template(kinds)
        return template

    def _template(self, kinds: tuple[type, ...]) -> str | None:
        """The `%` template for columns of these types; None where a column needs a closer look."""
        parts = []
        for prefix, kind, store in zip(self._prefixes, kinds, self._stores, strict=True):
            if kind is type(None):
                continue
            if store is not Store.FLOAT or kind not in (float, int, bool):
                return None
            parts.append(prefix.replace("%", "%%") + ("%d" if kind is bool else "%r"))
        return self._head.replace("%", "%%") + ",".join(parts) + " %d" if parts else None

    def _by_name(self, batch: SampleBatch) -> bytes:
        """A batch that holds only some of the group's tags, as subscriptions give them."""
        columns = [self._columns[name] for name in batch.names]
        prefixes = [self._prefixes[column] for column in columns]
        stores = [self._stores[column] for column in columns]
        return self._line(zip(prefixes, batch.values, stores, strict=True), batch.timestamp, batch)

    def _line(
        self, columns: zip[tuple[str, Value | None, Store]], timestamp: int, batch: SampleBatch
    ) -> bytes:
        texts = ((prefix, field_text(value, store)) for prefix, value, store in columns)
        fields = ",".join(prefix + text for prefix, text in texts if text is not None)
        return _bytes(f"{self._head}{fields} {timestamp}") if fields else b""


def _all_finite(numbers: Sequence[Any]) -> bool:
    """Whether no NaN or infinity is among the numbers; one sum tells. May say no to very large ones."""
    try:
        return math.isfinite(sum(numbers))
    except OverflowError:
        return False


def _bytes(line: str) -> bytes:
    return line.encode("utf-8", "replace")


def line(
    measurement: str, tags: Mapping[str, str], fields: Mapping[str, str | None], timestamp: int
) -> bytes:
    """A line of ready field texts (see `field_text`); those that are None are left out, b"" without any."""
    texts = ",".join(f"{key(name)}={text}" for name, text in fields.items() if text is not None)
    return _bytes(f"{head(measurement, tags)} {texts} {timestamp}") if texts else b""


def quality_line(levels: Mapping[str, str], machine: str, tag: str, status: Status, timestamp: int) -> bytes:
    """A change of a tag's quality: its word, its reason and OPC's number for it (192, 64, 0)."""
    fields = {
        "status": quoted(status.quality.word),
        "reason": quoted(status.reason.value),
        "code": str(int(status.quality)),
    }
    return line("quality", {**levels, "machine": machine, "tag": tag}, fields, timestamp)


def alarm_line(levels: Mapping[str, str], alert: Alert, timestamp: int) -> bytes:
    """The state of a condition since `timestamp` (DECISIONS 26)."""
    fields = {
        "state": quoted(alert.state.value),
        "kind": quoted(alert.kind.value),
        "priority": quoted(alert.priority.value),
        "message": quoted(alert.message),
        "action": quoted(alert.action),
        "occurrence": str(alert.occurrence),
        "maintenance": f"{alert.maintenance:d}",
        "value": field_text(alert.value),
        "raised_at": f"{alert.raised_at}i",
        "cleared_at": None if alert.cleared_at is None else f"{alert.cleared_at}i",
    }
    return line("alarms", {**levels, "machine": alert.machine, "alarm": alert.id}, fields, timestamp)


def health_line(levels: Mapping[str, str], machine: str, score: Score) -> bytes:
    """The health model's state, its progress, and its score (ratio to the limit) where it judged."""
    fields = {
        "state": quoted(score.state.value),
        "score": field_text(float(score.value)),
        "progress": field_text(float(score.progress)),
    }
    return line("health", {**levels, "machine": machine}, fields, score.time)


def header(agent: str, seq: int, *, backlog: bool) -> bytes:
    """The comment line at the head of a `readings` payload, without a line end."""
    return f"# agent={agent} seq={seq} backlog={backlog:d}".encode()
