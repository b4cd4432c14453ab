"""A small Modbus TCP server: reads only, pipelining-safe, and able to lie where a test asks for it.

    async with ModbusServer({1: {"holding": {100: 7}}}) as server:
        ...  # server.port, server.write_requests, server.faults.add("silence", count=3)

pymodbus' own server loses pipelined requests and cannot misbehave (DECISIONS 11).
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Literal, Self

from edge_agent_simulators.image import RegisterImage, Registers
from edge_agent_simulators.wire_faults import WireFault, WireFaults

log = logging.getLogger(__name__)

WRITE_FUNCTIONS = frozenset({5, 6, 15, 16, 21, 22, 23})
"""Function codes that change something in a device (read/write multiple registers among them)."""

ReadListener = Callable[[int, int, int, bytes], None]
"""Called for each answered read with unit id, function, address and the raw bytes of the answer."""

_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS, _ILLEGAL_VALUE, _NO_SUCH_TARGET = 1, 2, 3, 11
_TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_MOST_BITS, _MOST_WORDS = 2000, 125
_HEADER = struct.Struct(">HHHB")
_LONGEST_FRAME = 254


class Refusal(Exception):
    """A request that is answered with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ModbusServer:
    """Serves one register image per unit id; an async context manager.

    `unknown_unit` says what a request to another unit id gets: exception 11, as from a gateway, or silence.
    `before_read` is called before requests are answered, so that an image can be brought up to date; all
    requests that came in one segment see the same image.
    """

    def __init__(
        self,
        images: Mapping[int, RegisterImage | Registers],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        unknown_unit: Literal["exception", "silence"] = "exception",
        identification: tuple[str, str, str] = ("edge-agent", "SIMULATOR", "1.0"),
    ) -> None:
        self.images = {
            unit: image if isinstance(image, RegisterImage) else RegisterImage(image)
            for unit, image in images.items()
        }
        self.host = host
        self.port = port
        self.unknown_unit = unknown_unit
        self.identification = identification
        self.faults = WireFaults()
        self.requests = 0
        self.write_requests = 0
        """Requests with a function code that writes; every test suite expects 0."""
        self.connections: set[asyncio.Transport] = set()
        self.accepted = 0
        """Connections ever made."""
        self.before_read: Callable[[], None] | None = None
        self.on_read: ReadListener | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; `port` is then the real one. OSError where it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection; harmless where nothing listens."""
        if self._server is None:
            return
        self._server.close()
        self.drop_connections()
        await self._server.wait_closed()
        self._server = None

    def drop_connections(self) -> None:
        """Cut every connection, as a device does that restarts; the port stays open."""
        for transport in tuple(self.connections):
            transport.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def answer(self, unit: int, pdu: bytes) -> bytes | None:
        """The reply to one request without its header; None: keep silent."""
        self.requests += 1
        function = pdu[0]
        if function in WRITE_FUNCTIONS:
            self.write_requests += 1
            log.warning("unit %d was asked to write (function %d)", unit, function)
        image = self.images.get(unit)
        try:
            if image is None:
                if self.unknown_unit == "silence":
                    return None
                raise Refusal(_NO_SUCH_TARGET)
            if function in _TABLES:
                return self._read(image, unit, function, pdu)
            if function == 0x2B:
                return self._identify(pdu)
            raise Refusal(_ILLEGAL_FUNCTION)
        except Refusal as refusal:
            return bytes((function | 0x80, refusal.code))

    def _read(self, image: RegisterImage, unit: int, function: int, pdu: bytes) -> bytes:
        if len(pdu) != 5:
            raise Refusal(_ILLEGAL_VALUE)
        address = pdu[1] << 8 | pdu[2]
        count = pdu[3] << 8 | pdu[4]
        most = _MOST_BITS if function < 3 else _MOST_WORDS
        if not 1 <= count <= most:
            raise Refusal(_ILLEGAL_VALUE)
        find = image.bits if function < 3 else image.words
        raw = find(_TABLES[function], address, count)
        if raw is None:
            raise Refusal(_ILLEGAL_ADDRESS)
        return bytes((function, len(raw))) + raw

    def _identify(self, pdu: bytes) -> bytes:
        """Function 43/14, basic device identification: vendor, product code, revision."""
        if len(pdu) != 4 or pdu[1] != 0x0E:
            raise Refusal(_ILLEGAL_FUNCTION)
        code, first = pdu[2], pdu[3]
        texts = list(enumerate(self.identification))
        if code == 4:
            if first >= len(texts):
                raise Refusal(_ILLEGAL_ADDRESS)
            chosen = [texts[first]]
        elif code in (1, 2, 3):
            chosen = texts[first if first < len(texts) else 0 :]
        else:
            raise Refusal(_ILLEGAL_VALUE)
        objects = b"".join(bytes((number, len(text))) + text.encode("ascii") for number, text in chosen)
        return bytes((0x2B, 0x0E, code, 0x81, 0, 0, len(chosen))) + objects


class _Connection(asyncio.Protocol):
    """One client: cuts frames out of the stream and answers them in order."""

    def __init__(self, server: ModbusServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._held: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_server gives nothing else
        self._transport = transport
        self._server.connections.add(transport)
        self._server.accepted += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._server.connections.discard(self._transport)
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if self._server.before_read is not None:
            self._server.before_read()
        start = 0
        while len(buffer) - start >= 8:
            transaction, protocol, length, unit = _HEADER.unpack_from(buffer, start)
            if protocol != 0 or not 2 <= length <= _LONGEST_FRAME:
                # This is no Modbus, and there is no telling where the next frame begins.
                self._close()
                return
            if len(buffer) - start < 6 + length:
                break
            self._serve(transaction, unit, bytes(buffer[start + 7 : start + 6 + length]))
            start += 6 + length
        del buffer[:start]

    def _serve(self, transaction: int, unit: int, pdu: bytes) -> None:
        server = self._server
        reply = server.answer(unit, pdu)
        address = pdu[1] << 8 | pdu[2] if len(pdu) >= 3 else None
        fault = server.faults.take(unit, address)
        if reply is not None and (fault is None or fault.kind == "delay"):
            self._tell(unit, pdu, reply)
        if fault is not None:
            self._misbehave(fault, transaction, unit, reply)
        elif reply is not None:
            self._send(_HEADER.pack(transaction, 0, len(reply) + 1, unit) + reply)

    def _tell(self, unit: int, pdu: bytes, reply: bytes) -> None:
        if self._server.on_read is not None and pdu[0] in _TABLES and reply[0] == pdu[0]:
            self._server.on_read(unit, pdu[0], pdu[1] << 8 | pdu[2], reply[2:])

    def _misbehave(self, fault: WireFault, transaction: int, unit: int, reply: bytes | None) -> None:
        if fault.kind == "close":
            self._close()
        if reply is None or fault.kind in ("close", "silence"):
            return
        delay = 0.0
        frame_unit = unit
        match fault.kind:
            case "delay":
                delay = fault.value
            case "short":
                reply = _shortened(reply)
            case "wrong_transaction":
                transaction ^= 0x5555
            case "wrong_unit":
                frame_unit = unit ^ 0x55
            case "exception":
                reply = bytes((reply[0] | 0x80, int(fault.value)))
        frame = _HEADER.pack(transaction, 0, len(reply) + 1, frame_unit) + reply
        self._send(bytes(byte ^ 0xA5 for byte in frame) if fault.kind == "garbage" else frame, delay)

    def _send(self, frame: bytes, delay: float = 0.0) -> None:
        """Write now, or after `delay` and after everything that is held already."""
        if self._transport is None:
            return
        if not delay and not self._held:
            self._transport.write(frame)
            return
        now = asyncio.get_running_loop().time()
        after = self._held[-1][0] if self._held else now
        self._held.append((max(now, after) + delay, frame))
        self._release()

    def _release(self) -> None:
        loop = asyncio.get_running_loop()
        while self._held and self._held[0][0] <= loop.time() and self._transport is not None:
            self._transport.write(self._held.popleft()[1])
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._held[0][0], self._release) if self._held else None

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _shortened(reply: bytes) -> bytes:
    """A reply with its last register missing and a byte count that agrees: well formed, and too short."""
    if reply[0] & 0x80:
        return reply[:1]
    kept = max(0, reply[1] - 2)
    return bytes((reply[0], kept)) + reply[2 : 2 + kept]
