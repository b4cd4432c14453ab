"""Rows of the journal: lines of one machine, one class, one source and one commit, checked and compressed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
