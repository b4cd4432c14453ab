"""The one module that knows pymodbus: one connection, one question at a time, every answer checked.

pymodbus accepts replies with the wrong function, register count or transaction 0, waits out the timeout when
the connection breaks, and reconnects and retries on its own. So its retries and reconnecting are off, its
reply classes are replaced by one that keeps the bytes, and what comes is checked here. After silence or
garbage the socket is closed: a late reply can then never answer the next question.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Any

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from edge_agent_drivers.modbus.address import Table
from edge_agent_drivers.modbus.faults import BadReply, LineFault, LineLost, NoAnswer, Refused, WrongCount

# pymodbus logs an error for each lost reply and each failed connect; the driver and the sampler say it once.
if logging.getLogger("pymodbus").level == logging.NOTSET:
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

# The only four requests there are: no write can be encoded.
_REQUESTS: dict[Table, type[ModbusPDU]] = {
    Table.COIL: ReadCoilsRequest,
    Table.DISCRETE: ReadDiscreteInputsRequest,
    Table.HOLDING: ReadHoldingRegistersRequest,
    Table.INPUT: ReadInputRegistersRequest,
}
_HEADER = struct.Struct(">HHHB")
_LONGEST = 254
"""Unit, function and payload of the longest frame the specification allows."""


class _Reply(ModbusPDU):
    """A reply as it came: the byte count and the bytes, unparsed."""

    payload = b""

    def decode(self, data: bytes) -> None:
        self.payload = data


class _CoilReply(_Reply):
    function_code = 1


class _DiscreteReply(_Reply):
    function_code = 2


class _HoldingReply(_Reply):
    function_code = 3


class _InputReply(_Reply):
    function_code = 4


class ModbusLine:
    """One TCP connection to a device or gateway."""

    def __init__(
        self, host: str, port: int, *, timeout: float, pause: float = 0.0, connect_pause: float = 0.0
    ) -> None:
        self._host, self._port, self._timeout = host, port, timeout
        self._pause, self._connect_pause = pause, connect_pause
        self._client: AsyncModbusTcpClient | None = None
        self._one_at_a_time = asyncio.Lock()
        self._ready_at = 0.0
        self._asked: tuple[int, int, int] | None = None
        self._skipped = ""

    def __str__(self) -> str:
        return f"{self._host}:{self._port}"

    @property
    def connected(self) -> bool:
        """Whether the connection is open as far as anybody knows."""
        return self._client is not None and self._client.connected

    async def open(self) -> None:
        """Connect, dropping a connection that was there. LineLost where that fails within the timeout."""
        self.close()
        client = AsyncModbusTcpClient(
            self._host,
            port=self._port,
            timeout=self._timeout,
            retries=0,
            reconnect_delay=0,
            trace_packet=self._watch,
            trace_connect=self._changed,
        )
        for reply in (_CoilReply, _DiscreteReply, _HoldingReply, _InputReply):
            client.register(reply)
        self._client = client
        if not await client.connect():
            self.close()
            raise LineLost(f"no connection to {self} within {self._timeout:g} s")
        self._ready_at = asyncio.get_running_loop().time() + self._connect_pause

    def close(self) -> None:
        """Drop the connection, without waiting for anybody."""
        client, self._client = self._client, None
        if client is not None:
            self._fail(LineLost(f"the connection to {self} was closed"), client)
            client.close()

    async def ask(self, unit: int, table: Table, address: int, count: int) -> bytes:
        """The bytes of `count` registers or bits from `address` on, as the device sent them.

        Refused where the device answers with an exception; NoAnswer, BadReply or LineLost where there is no
        answer to this question. After those the connection is closed, except for WrongCount.
        """
        async with self._one_at_a_time:
            client = self._client
            if client is None or not client.connected:
                raise LineLost(f"not connected to {self}")
            await self._breathe()
            request = _REQUESTS[table](address=address, count=count, dev_id=unit)
            try:
                reply = await self._exchange(client, request)
                return self._payload(reply, table, count)
            except (Refused, WrongCount):
                raise
            except BaseException:
                # Cancellation too: the answer to this question must not meet the next one.
                self.close()
                raise
            finally:
                self._ready_at = asyncio.get_running_loop().time() + self._pause

    async def _breathe(self) -> None:
        wait = self._ready_at - asyncio.get_running_loop().time()
        if wait > 0:
            await asyncio.sleep(wait)

    async def _exchange(self, client: AsyncModbusTcpClient, request: ModbusPDU) -> ModbusPDU:
        self._skipped = ""
        try:
            reply: ModbusPDU = await client.execute(False, request)
        except (ModbusException, OSError) as silence:
            if not client.connected:
                raise LineLost(f"{self} closed the connection") from silence
            if self._skipped:
                raise BadReply(f"{self} {self._skipped}") from silence
            raise NoAnswer(f"{self} did not answer within {self._timeout:g} s") from silence
        finally:
            self._asked = None
        if reply.dev_id != request.dev_id or reply.transaction_id != request.transaction_id:
            raise BadReply(f"{self} answered for unit {reply.dev_id}, transaction {reply.transaction_id}")
        return reply

    def _payload(self, reply: ModbusPDU, table: Table, count: int) -> bytes:
        if isinstance(reply, ExceptionResponse):
            raise Refused(reply.exception_code)
        if not isinstance(reply, _Reply) or reply.function_code != table.function:
            raise BadReply(f"{self} answered function {reply.function_code}, not {table.function}")
        expected = (count + 7) // 8 if table.bits else 2 * count
        payload = reply.payload[1:]
        if reply.payload[0] != len(payload):
            raise BadReply(f"{self} announced {reply.payload[0]} bytes and sent {len(payload)}")
        if len(payload) != expected:
            raise WrongCount(f"{self} sent {len(payload)} bytes, {expected} were asked for")
        return payload

    def _watch(self, sending: bool, packet: bytes) -> bytes:
        """See every packet before pymodbus does; what is garbage fails the question at once."""
        if sending:
            transaction, _, _, unit = _HEADER.unpack_from(packet)
            self._asked = transaction, unit, packet[7]
            return packet
        if len(packet) < 8 or self._asked is None or self._client is None:
            return packet
        problem = self._problem(packet, self._asked)
        if problem:
            self._fail(BadReply(f"{self} {problem}"), self._client)
            return b""
        return packet

    def _problem(self, packet: bytes, asked: tuple[int, int, int]) -> str:
        transaction, protocol, length, unit = _HEADER.unpack_from(packet)
        if protocol != 0 or not 3 <= length <= _LONGEST:
            return "sent bytes that are no Modbus TCP"
        if len(packet) < 6 + length:
            return ""
        if transaction != asked[0] or unit != asked[1]:
            # pymodbus goes on waiting for the right one; if none comes, this is what there was.
            self._skipped = f"answered for unit {unit}, transaction {transaction}, not {asked[1]}, {asked[0]}"
            return ""
        if packet[7] & 0x7F != asked[2]:
            return f"answered function {packet[7]}, not {asked[2]}"
        return ""

    def _changed(self, connected: bool) -> None:
        if not connected and self._client is not None:
            self._fail(LineLost(f"{self} closed the connection"), self._client)

    def _fail(self, fault: LineFault, client: Any) -> None:
        # Otherwise pymodbus would wait for the timeout although the answer can no longer come.
        if self._asked is not None and not (waiting := client.ctx.response_future).done():
            waiting.set_exception(fault)
