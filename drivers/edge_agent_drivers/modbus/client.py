"""Modbus TCP as a client that only reads: one connection, one question at a time, every answer checked.

An answer counts only with the transaction, the unit, the function and the number of bytes that were asked
for. After silence or garbage the socket is closed: a late reply can then never answer the next question.
Transaction numbers go on from one connection to the next, for gateways that send a late reply to whoever is
there now. Why this is not a library: docs/adr/0005-own-modbus-line.md.
"""

from __future__ import annotations

import asyncio
import struct
from typing import NamedTuple, cast

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.faults import BadReply, LineFault, LineLost, NoAnswer, Refused, WrongCount

_REQUEST = struct.Struct(">HHHBBHH")
_HEAD = struct.Struct(">HHHBB")
"""Transaction, protocol, length, unit, function; a reply is judged from here on."""
_UNCOUNTED = 6
"""Bytes of a frame that stand before what its length field counts."""
_SHORTEST, _LONGEST = 3, 254
"""What a length field may say of a reply: an exception; the longest frame the specification allows."""
_EXCEPTION = 0x80
FLOOD = 16384
"""Bytes from one question to the next after which a peer is cut off: sixty of the longest replies."""


class Question(NamedTuple):
    """A request for `quantity` registers or bits from `address` (0 to 65535) on."""

    transaction: int
    unit: int
    table: Table
    address: int
    quantity: int

    def frame(self) -> bytes:
        """The bytes to send. Nothing else makes a request, and no `Table` has a function that writes."""
        return _REQUEST.pack(
            self.transaction, 0, 6, self.unit, self.table.function, self.address, self.quantity
        )

    @property
    def answer_bytes(self) -> int:
        """How many bytes of registers or bits the answer must have."""
        return (self.quantity + 7) // 8 if self.table.bits else 2 * self.quantity


class Connection(asyncio.BufferedProtocol):
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
            self._transport.write(question.frame())
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
                self._settle(self._judge(question, function, bytes(self._view[start + _HEAD.size : end])))
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

    def _judge(self, question: Question, function: int, content: bytes) -> bytes | LineFault:
        """The registers or bits in a reply, or the fault; `content` follows the function, never empty."""
        asked = question.table.function
        if function == asked | _EXCEPTION:
            return Refused(content[0])
        if function != asked:
            return BadReply(f"{self._name} answered function {function}, not {asked}")
        payload = content[1:]
        if content[0] != len(payload):
            return BadReply(f"{self._name} announced {content[0]} bytes and sent {len(payload)}")
        if len(payload) != question.answer_bytes:
            return WrongCount(
                f"{self._name} sent {len(payload)} bytes, {question.answer_bytes} were asked for"
            )
        return payload

    def _settle(self, outcome: bytes | LineFault) -> None:
        answer, self._answer = self._answer, None
        self._question = None
        self._filled = 0
        if answer is not None and not answer.done():
            answer.set_result(outcome)


class ModbusLine:
    """One TCP connection to a device or gateway, opened again by whoever wants it open.

    Times are in seconds: `timeout` for connecting and for each whole answer, `pause` between an answer and
    the next question, `connect_pause` between connecting and the first.
    """

    def __init__(
        self, host: str, port: int, *, timeout: float, pause: float = 0.0, connect_pause: float = 0.0
    ) -> None:
        self._host, self._port, self._timeout = host, port, timeout
        self._pause, self._connect_pause = pause, connect_pause
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._ready_at = 0.0
        self._transaction = 0

    def __str__(self) -> str:
        return f"{self._host}:{self._port}"

    @property
    def connected(self) -> bool:
        """Whether the connection is open as far as anybody knows."""
        return self._connection is not None and self._connection.usable

    async def open(self) -> None:
        """Connect, dropping a connection that was there. LineLost where that fails within the timeout."""
        self.close()
        # asyncio closes a dropped socket one turn later, and some devices have room for one connection only.
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        connection = self._connection = Connection(str(self))
        try:
            async with asyncio.timeout(self._timeout):
                await loop.create_connection(lambda: connection, self._host, self._port)
        except TimeoutError as error:
            connection.close()
            raise LineLost(f"no connection to {self} within {self._timeout:g} s") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that can be no name at all
            connection.close()
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise LineLost(f"no connection to {self}: {why}") from error
        except BaseException:
            connection.close()
            raise
        if not connection.usable:
            raise LineLost(f"no connection to {self}: it was closed at once")
        self._ready_at = loop.time() + self._connect_pause

    def close(self) -> None:
        """Drop the connection, without waiting for anybody."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def ask(self, unit: int, table: Table, address: int, count: int) -> bytes:
        """The bytes of `count` registers or bits from `address` on, as the device sent them.

        Refused where the device answers with an exception; NoAnswer, BadReply or LineLost where there is no
        answer to this question. After those the connection is closed, except for WrongCount.
        """
        async with self._one_at_a_time:
            connection = await self._rested()
            # Never 0, which devices send that do not copy it.
            self._transaction = self._transaction % 0xFFFF + 1
            try:
                return await self._exchange(
                    connection, Question(self._transaction, unit, table, address, count)
                )
            except (Refused, WrongCount):
                raise
            except BaseException:
                # Cancellation too: the answer to this question must not meet the next one.
                connection.close()
                raise
            finally:
                self._ready_at = asyncio.get_running_loop().time() + self._pause

    async def _rested(self) -> Connection:
        """The connection, after the pause that the device needs. LineLost where there is none."""
        wait = self._ready_at - asyncio.get_running_loop().time()
        if wait > 0 and self.connected:
            await asyncio.sleep(wait)
        if self._connection is None or not self._connection.usable:
            raise LineLost(f"not connected to {self}")
        return self._connection

    async def _exchange(self, connection: Connection, question: Question) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                outcome = await connection.ask(question)
        except TimeoutError:
            if connection.skipped:
                raise BadReply(f"{self} {connection.skipped}") from None
            raise NoAnswer(f"{self} did not answer within {self._timeout:g} s") from None
        if isinstance(outcome, LineFault):
            raise outcome
        return outcome
