"""What goes into the journal and what comes out of it.

A row is lines of one machine, one class, one source and one commit, compressed, with a checksum.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edge_agent.errors import StoreError
from edge_agent.types import Priority, Record

MAX_ROW_BYTES = 128 * 1024
"""Most bytes of lines in a row, and so in an MQTT message; a single longer line is a row of its own."""

_MIN_COMPRESSED = 200
"""Below this zlib does not pay."""

PLAIN, ZLIB = 0, 1


class RowKey(NamedTuple):
    """What all lines of a row have in common."""

    machine: str
    priority: Priority
    source: str


class Row(NamedTuple):
    """A row as it is stored; `checksum` covers everything else."""

    seq: int
    machine: str
    priority: int
    created: int
    source: str
    lines: int
    codec: int
    checksum: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Lines a sink refused for good, kept for people to look at; `at` and `created` are UTC in ns."""

    id: int
    seq: int
    machine: str
    source: str
    created: int
    at: int
    reason: str
    lines: bytes


@dataclass(slots=True)
class Commit:
    """Everything that goes to disk together."""

    pieces: dict[RowKey, list[bytes]] = field(default_factory=dict)
    acks: dict[str, list[int]] = field(default_factory=dict)
    quarantine: list[tuple[Record, bytes, str]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    """Lines lost in memory since the last commit, by reason."""
    size: int = 0
    created: int = 0
    first: int = 0
    """The first sequence number of the commit; kept when it has to be repeated."""

    @property
    def worth_it(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.pieces or self.acks or self.quarantine or self.dropped)


class Outcome(NamedTuple):
    """What became of a commit."""

    rows: int
    lines: int
    rejected: bool
    """True where the telemetry of the commit was refused because the journal is full."""


class Lane(NamedTuple):
    """Rows of a reader that are fetched in order: of one class, with `after` < seq <= `until`."""

    priority: Priority
    after: int
    until: int


class Batch(NamedTuple):
    """What a fetch found."""

    records: list[Record]
    complete: int
    """Every row up to this sequence number has been seen; 0 where there may be more."""


def split(lines: Sequence[bytes], limit: int = MAX_ROW_BYTES) -> Iterator[list[bytes]]:
    """Blocks of lines in groups of at most `limit` bytes; a block with several lines is cut between them."""
    group: list[bytes] = []
    size = 0
    for block in lines:
        for piece in [block] if len(block) <= limit else block.split(b"\n"):
            if group and size + len(piece) > limit:
                yield group
                group, size = [], 0
            group.append(piece)
            size += len(piece) + 1
    if group:
        yield group


def _checksum(
    seq: int, machine: str, priority: int, created: int, source: str, lines: int, codec: int, body: bytes
) -> int:
    envelope = f"{seq}|{machine}|{priority}|{created}|{source}|{lines}|{codec}".encode()
    return zlib.crc32(body, zlib.crc32(envelope))


def pack(seq: int, key: RowKey, created: int, pieces: Sequence[bytes]) -> Row:
    """A row of these lines."""
    text = b"\n".join(pieces)
    codec, body = PLAIN, text
    if len(text) >= _MIN_COMPRESSED:
        compressed = zlib.compress(text, 1)
        if len(compressed) < len(text):
            codec, body = ZLIB, compressed
    lines = text.count(b"\n") + 1
    machine, priority, source = key
    checksum = _checksum(seq, machine, int(priority), created, source, lines, codec, body)
    return Row(seq, machine, int(priority), created, source, lines, codec, checksum, body)


def unpack(row: Row) -> Record:
    """The record of a stored row. StoreError where the checksum does not fit: nothing of it is believed."""
    seq, machine, priority, created, source, lines, codec, checksum, body = row
    try:
        if _checksum(seq, machine, priority, created, source, lines, codec, body) != checksum:
            raise StoreError(f"row {seq} of the journal is damaged: its checksum does not fit")
        text = zlib.decompress(body) if codec == ZLIB else bytes(body)
        return Record(seq, machine, Priority(priority), created, text, source)
    except (TypeError, ValueError, AttributeError, zlib.error) as damage:
        raise StoreError(f"row {seq} of the journal is damaged: {damage}") from damage
