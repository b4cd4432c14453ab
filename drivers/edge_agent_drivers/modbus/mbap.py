"""Modbus TCP's framing (MBAP): replies are cut out of the stream and matched by transaction and unit.

Why this is not a library: docs/adr/0005-own-modbus-line.md.
"""

from __future__ import annotations

import asyncio
import struct
from ssl import SSLError
from typing import cast

from edge_agent_drivers.modbus.faults import BadReply, LineFault, LineLost
from edge_agent_drivers.modbus.pdu import Asked

_PREFIX = struct.Struct(">HHHB")
HEAD = struct.Struct(">HHHBB")
"""Transaction, protocol, length, unit, function; a reply is judged from here on."""
UNCOUNTED = 6
"""Bytes of a frame that stand before what its length field counts."""
SHORTEST, LONGEST = 3, 254
"""What a length field may say of a reply: an exception; the longest frame the specification allows."""
FLOOD = 16384
"""Bytes from one question to the next after which a peer is cut off: sixty of the longest replies."""
_RECENT = 64
"""How far back a late reply may reach, in questions, to be known as a reply where several are under way."""
_MOST_GIVEN_UP = 32
"""How many questions without an answer are remembered, so that late replies are known for what they are."""


def frame(question: Asked) -> bytes:
    """The bytes to send."""
    pdu = question.pdu
    return _PREFIX.pack(question.transaction, 0, 1 + len(pdu), question.unit) + pdu


class MbapQuestions:
    """The questions under way in this framing, whether a stream or datagrams carry it.

    Several may be under way at once: the transaction number says which of them a reply answers. Faults are
    results of the futures and not exceptions: asyncio complains of an exception nobody waits for.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: dict[int, tuple[Asked, asyncio.Future[bytes | LineFault]]] = {}
        """By transaction. A question nobody waits for any more stays a while: its reply may still come."""
        self._latest = 0
        self.skipped = ""
        """What came since the question with another transaction or unit; empty where nothing did."""

    def rest(self, unit: int) -> float:
        """0: a transaction number tells a late reply from the answer to the next question."""
        return 0.0

    def _expect(self, question: Asked) -> asyncio.Future[bytes | LineFault]:
        if len(self._asked) > _MOST_GIVEN_UP:
            given_up = [number for number, (_, answer) in self._asked.items() if answer.done()]
            for number in given_up[: -_MOST_GIVEN_UP // 2]:
                del self._asked[number]
        self.skipped = ""
        answer: asyncio.Future[bytes | LineFault] = asyncio.get_running_loop().create_future()
        self._asked[question.transaction] = question, answer
        self._latest = question.transaction
        return answer

    def _replied(self, transaction: int, unit: int, function: int, content: bytes) -> None:
        """Judge a whole reply and give it to whoever asked; what answers nothing is only noted."""
        question, answer = self._asked.get(transaction, (None, None))
        if question is None or answer is None or unit != question.unit:
            self.skipped = f"answered for unit {unit}, transaction {transaction}, which nobody asked"
            return
        del self._asked[transaction]
        if not answer.done():
            answer.set_result(question.judge(self._name, function, content))

    def _settle_all(self, fault: LineFault) -> None:
        """There will be no more answers."""
        asked, self._asked = self._asked, {}
        for _, answer in asked.values():
            if not answer.done():
                answer.set_result(fault)


class MbapConnection(MbapQuestions, asyncio.BufferedProtocol):
    """One TCP connection: cuts replies out of the stream.

    The buffer is fixed, since no more than one unfinished reply is ever kept; for a plain Protocol asyncio
    allocates 256 KiB at each reply.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._buffer = bytearray(2 * (UNCOUNTED + LONGEST))
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._received = 0

    @property
    def usable(self) -> bool:
        """Whether it is open as far as anybody knows."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, question: Asked) -> asyncio.Future[bytes | LineFault]:
        """Send a question over a usable connection; what becomes of it is the result of the future."""
        self._received = 0
        answer = self._expect(question)
        if self._transport is not None:
            self._transport.write(frame(question))
        return answer

    def close(self, fault: LineFault | None = None) -> None:
        """Drop the connection without waiting for anybody; open questions get `fault`, else LineLost."""
        self._closed = True
        self._settle_all(fault or LineLost(f"the connection to {self._name} was closed"))
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
        # In TLS 1.3 a server says only now that it does not want our certificate.
        why = f": TLS, {exc.reason}" if isinstance(exc, SSLError) and exc.reason else ""
        self._settle_all(LineLost(f"{self._name} closed the connection{why}"))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio puts what comes next; never empty, as a reply is taken out as soon as it is whole."""
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Called by asyncio when `nbytes` have come. What nobody asked for is dropped unread."""
        self._received += nbytes
        if self._received > FLOOD:
            self.close(BadReply(f"{self._name} sends without end"))
        elif self._asked:
            self._filled += nbytes
            self._take()

    def _in_step(self, end: int) -> bool:
        """Whether what follows a reply begins, as far as it is there, like one to a recent question.

        Else bytes of this reply are missing, and it was made whole with the beginning of the next.
        """
        following = bytes(self._view[end : min(self._filled, end + UNCOUNTED)])
        if len(following) == 1:
            return following[0] in (self._latest >> 8, (self._latest - _RECENT & 0xFFFF) >> 8)
        return not following or (
            (self._latest - int.from_bytes(following[:2], "big")) & 0xFFFF < _RECENT
            and not any(following[2:4])
            and (len(following) < UNCOUNTED or SHORTEST <= int.from_bytes(following[4:], "big") <= LONGEST)
        )

    def _take(self) -> None:
        """Go through the replies that are whole, for as long as there is a question they may answer."""
        start = 0
        while self._filled - start >= HEAD.size:
            transaction, protocol, length, unit, function = HEAD.unpack_from(self._buffer, start)
            if protocol != 0 or not SHORTEST <= length <= LONGEST:
                # There is no telling where the next reply begins.
                self._filled = 0
                self.close(BadReply(f"{self._name} sent bytes that are no Modbus TCP"))
                return
            end = start + UNCOUNTED + length
            if self._filled < end:
                break
            if len(self._asked) > 1 and not self._in_step(end):
                self._filled = 0
                self.close(BadReply(f"{self._name} sent fewer bytes than it announced"))
                return
            self._replied(transaction, unit, function, bytes(self._view[start + HEAD.size : end]))
            if not self._asked:
                self._filled = 0
                return
            start = end
        if start:
            self._buffer[: self._filled - start] = self._buffer[start : self._filled]
            self._filled -= start
