"""What is said on an RTU line between a master and its devices, made out from the bytes. Pure.

Frames are told apart by length and checksum, not by pauses, which a USB adapter does not pass on. A reply is
believed to answer the request before it only where the unit, the function and the number of bytes are those
that were asked for, nothing unknown was said between them, and no other request to the unit may still be owed
its answer. Requests that write are understood, so that what follows is found, and never give values.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.crc import crc16
from edge_agent_drivers.modbus.owing import LATE
from edge_agent_drivers.modbus.pdu import EXCEPTION
from edge_agent_drivers.modbus.rtu_frames import LONGEST, SHORTEST, reply_length

_TABLES = {table.function: table for table in Table}
_FIXED = {1: 8, 2: 8, 3: 8, 4: 8, 5: 8, 6: 8, 7: 4, 8: 8, 11: 4, 12: 4, 17: 4, 22: 10, 24: 6, 43: 7}
"""Function -> length of its requests, where that is fixed."""
_COUNTED = {15: (6, 9), 16: (6, 9), 20: (2, 5), 21: (2, 5), 23: (10, 13)}
"""Function -> where its requests say how many bytes follow, and how many others there are."""
_MOST_UNITS = 247
SLOWEST = 3.0
"""Seconds after which a reply is no answer any more: a question in between may not have been heard."""


class Heard(NamedTuple):
    """A master's question and its answer: `payload` as `ModbusLine.ask` gives it, or an exception code."""

    at: float
    unit: int
    table: Table
    address: int
    quantity: int
    payload: bytes
    code: int = 0
    """0 where the device gave its values."""


@dataclass(slots=True)
class _Request:
    content: bytes
    at: float
    doubtful_since: float
    """When the oldest question was asked whose answer might still come instead; else `at`."""

    @property
    def unit(self) -> int:
        return self.content[0]

    @property
    def function(self) -> int:
        return self.content[1]

    def size(self) -> int | None:
        """How many bytes of registers or bits were asked for; None where it is no read."""
        table = _TABLES.get(self.function)
        if table is None:
            return None
        quantity = int.from_bytes(self.content[4:6], "big")
        return (quantity + 7) // 8 if table.bits else 2 * quantity


@dataclass(slots=True)
class Traffic:
    """Cuts a stream of bytes into requests and replies, and pairs them."""

    asked: Counter[int] = field(default_factory=Counter)
    """Requests by unit."""
    answered: Counter[int] = field(default_factory=Counter)
    """Replies by unit."""
    noise: int = 0
    """Bytes that belong to no frame."""
    _bytes: bytearray = field(default_factory=bytearray)
    _pending: _Request | None = None
    _owed: dict[int, tuple[float, bytes]] = field(default_factory=dict)
    """Per unit, a question whose answer may still come: since when, and the question."""

    def feed(self, content: bytes | memoryview, at: float) -> list[Heard]:
        """Take what came at `at` (seconds); the answers it completes."""
        self._bytes += content
        return self._cut(at, final=False)

    def quiet(self, at: float) -> list[Heard]:
        """Nothing more came: what is unfinished stays so, and frames behind it are found."""
        found = self._cut(at, final=True)
        self._disturbed(len(self._bytes))
        self._bytes.clear()
        return found

    def _disturbed(self, count: int) -> None:
        """Bytes of no frame: a question may have been among them, and what comes next is its answer."""
        if count:
            self.noise += count
            self._pending = None

    def _cut(self, at: float, *, final: bool) -> list[Heard]:
        found: list[Heard] = []
        start = 0
        while len(self._bytes) - start >= 4:
            request, reply = self._request_length(start), reply_length(self._bytes, start)
            due = self._expects(start, reply)
            if due and not final and self._unfinished(start, reply):
                break
            as_reply = self._whole(start, reply)
            if self._whole(start, request) and not (due and as_reply and self._new(start, reply)):
                self._asks(bytes(self._bytes[start : start + (request or 0)]), at)
                start += request or 0
            elif as_reply:
                heard = self._answers(bytes(self._bytes[start : start + (reply or 0)]), at)
                found += [heard] if heard else []
                start += reply or 0
            elif not final and (self._unfinished(start, request) or self._unfinished(start, reply)):
                break
            else:
                start += 1
                self._disturbed(1)
        del self._bytes[:start]
        return found

    def _request_length(self, start: int) -> int | None:
        """As `reply_length`, for requests."""
        function = self._bytes[start + 1]
        if function in _FIXED:
            return _FIXED[function]
        if function not in _COUNTED:
            return 0
        where, others = _COUNTED[function]
        if len(self._bytes) <= start + where:
            return None
        length = others + self._bytes[start + where]
        return length if length <= LONGEST else 0

    def _unfinished(self, start: int, length: int | None) -> bool:
        if self._bytes[start] > _MOST_UNITS:
            return False
        return length is None or start + length > len(self._bytes)

    def _whole(self, start: int, length: int | None) -> bool:
        if not length or start + length > len(self._bytes) or self._bytes[start] > _MOST_UNITS:
            return False
        return crc16(self._bytes[start : start + length]) == 0

    def _expects(self, start: int, length: int | None) -> bool:
        """Whether it begins as the reply that is due."""
        due = self._pending
        return (
            due is not None
            and length is not None
            and self._bytes[start : start + 2] == due.content[:2]
            and length - SHORTEST == due.size()
        )

    def _new(self, start: int, length: int | None) -> bool:
        """False where it may as well be the same question again."""
        return self._pending is None or self._bytes[start : start + (length or 0)] != self._pending.content

    def _asks(self, content: bytes, at: float) -> None:
        before = self._pending
        if before is not None and before.content == content and before.function not in _TABLES:
            # A device confirms a write by sending it back.
            self._pending = None
            self.answered[before.unit] += 1
            return
        self.asked[content[0]] += 1
        if before is not None:
            self._owed[before.unit] = before.doubtful_since, before.content
        since, missed = self._owed.get(content[0], (at, content))
        doubtful = at - since <= LATE and missed != content
        if not doubtful:
            self._owed.pop(content[0], None)
        self._pending = _Request(content, at, since if doubtful else at)

    def _answers(self, content: bytes, at: float) -> Heard | None:
        unit, function = content[0], content[1]
        self.answered[unit] += 1
        due = self._pending
        if due is None or unit != due.unit or at - due.at > SLOWEST:
            self._owed.pop(unit, None)
            return None
        if function & ~EXCEPTION != due.function:
            return None
        if unit in self._owed:
            # Either question may be meant. The other one's answer, if it comes, is no clearer.
            return None
        self._pending = None
        table = _TABLES.get(due.function)
        if table is None:
            return None
        address, quantity = int.from_bytes(due.content[2:4], "big"), int.from_bytes(due.content[4:6], "big")
        if function & EXCEPTION:
            return Heard(at, unit, table, address, quantity, b"", content[2])
        payload = content[3:-2]
        return Heard(at, unit, table, address, quantity, payload) if len(payload) == due.size() else None
