"""Modbus TCP's framing (MBAP): replies are cut out of the stream and matched by transaction and unit.

Why this is not a library: docs/adr/0005-own-modbus-line.md.
"""

from __future__ import annotations

import asyncio
import struct
from typing import cast

from edge_agent_drivers.modbus.faults import BadReply, LineFault, LineLost
from edge_agent_drivers.modbus.pdu import Question, judge

_PREFIX = struct.Struct(">HHHB")
_HEAD = struct.Struct(">HHHBB")
"""Transaction, protocol, length, unit, function; a reply is judged from here on."""
_UNCOUNTED = 6
"""Bytes of a frame that stand before what its length field counts."""
_SHORTEST, _LONGEST = 3, 254
"""What a length field may say of a reply: an exception; the longest frame the specification allows."""
FLOOD = 16384
"""Bytes from one question to the next after which a peer is cut off: sixty of the longest replies."""


def frame(question: Question) -> bytes:
    """The bytes to send."""
    pdu = question.pdu
    return _PREFIX.pack(question.transaction, 0, 1 + len(pdu), question.unit) + pdu


class MbapConnection(asyncio.BufferedProtocol):
    """One TCP connection: cuts replies out of the stream and finds the one that answers the question.

    Faults are results of the future and not exceptions: asyncio complains of an exception nobody waits for.
    The buffer is fixed, since no more than one unfinished reply is ever kept; for a plain Protocol asyncio
    allocates 256 KiB at each reply.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._buffer = bytearray(2 * (_UNCOUNTED + _LONGEST))
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._received = 0
        self._question: Question | None = None
        self._answer: asyncio.Future[bytes | LineFault] | None = None
        self.skipped = ""
        """What came since the question with another transaction or unit; empty where nothing did."""

    @property
    def usable(self) -> bool:
        """Whether it is open as far as anybody knows."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, question: Question) -> asyncio.Future[bytes | LineFault]:
        """Send a question over a usable connection; what becomes of it is the result of the future."""
        self._received = 0
        self.skipped = ""
        self._question = question
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is not None:
            self._transport.write(frame(question))
        return self._answer

    def close(self, fault: LineFault | None = None) -> None:
        """Drop the connection without waiting for anybody; an open question gets `fault`, else LineLost."""
        self._closed = True
        self._settle(fault or LineLost(f"the connection to {self._name} was closed"))
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio once connected."""
        self._transport = cast(asyncio.Transport, transport)
        if self._closed:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio once the connection is gone, whoever closed it."""
        self._transport = None
        self._settle(LineLost(f"{self._name} closed the connection"))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio puts what comes next; never empty, as a reply is taken out as soon as it is whole."""
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Called by asyncio when `nbytes` have come. What nobody asked for is dropped unread."""
        self._received += nbytes
        if self._received > FLOOD:
            self.close(BadReply(f"{self._name} sends without end"))
        elif self._question is not None:
            self._filled += nbytes
            self._take(self._question)

    def _take(self, question: Question) -> None:
        """Go through the replies that are whole, up to the one that settles the question."""
        start = 0
        while self._filled - start >= _HEAD.size:
            transaction, protocol, length, unit, function = _HEAD.unpack_from(self._buffer, start)
            if protocol != 0 or not _SHORTEST <= length <= _LONGEST:
                self._settle(BadReply(f"{self._name} sent bytes that are no Modbus TCP"))
                return
            end = start + _UNCOUNTED + length
            if self._filled < end:
                break
            if transaction == question.transaction and unit == question.unit:
                content = bytes(self._view[start + _HEAD.size : end])
                self._settle(judge(self._name, question, function, content))
                return
            # The right one may be behind it; if none comes, this is what there was.
            self.skipped = (
                f"answered for unit {unit}, transaction {transaction}, "
                f"not {question.unit}, {question.transaction}"
            )
            start = end
        if start:
            self._buffer[: self._filled - start] = self._buffer[start : self._filled]
            self._filled -= start

    def _settle(self, outcome: bytes | LineFault) -> None:
        answer, self._answer = self._answer, None
        self._question = None
        self._filled = 0
        if answer is not None and not answer.done():
            answer.set_result(outcome)
