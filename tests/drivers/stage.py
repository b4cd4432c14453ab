"""Helpers of the driver tests: a loop in a thread, a Modbus server that lies, and looking at batches."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from edge_agent.clock import Clock
from edge_agent.contracts.plugs import Driver
from edge_agent.errors import DeviceUnreachable
from edge_agent.types import Reason, SampleBatch, Value
from edge_agent_drivers.modbus.driver import ModbusDriver
from edge_agent_drivers.opcua.driver import OpcuaDriver
from edge_agent_simulators.opcua_server import OpcuaNode, OpcuaServer
from tests.support import witness
from tests.support.faultproxy import reset

T = TypeVar("T")


class ModbusFactory(Protocol):
    """Makes a Modbus driver for a port on loopback."""

    def __call__(
        self, port: int, tags: dict[str, Any], clock: Clock | None = None, **keys: Any
    ) -> ModbusDriver: ...


class ForeignServer(Protocol):
    """A Modbus TCP server by somebody else, with at least addresses 0 to 999 of all four tables."""

    port: int

    def fill(self, table: str, address: int, values: Sequence[int]) -> None:
        """Set registers or bits."""


class OpcuaFactory(Protocol):
    """Makes an OPC UA driver for a URL."""

    def __call__(
        self,
        url: str,
        tags: dict[str, Any],
        clock: Clock | None = None,
        state: Path | None = None,
        **keys: Any,
    ) -> OpcuaDriver: ...


class Stage:
    """An event loop in a thread of its own; a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stage", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end on the stage, from a synchronous place."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def on(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end on the stage, from another loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


NODES = (
    OpcuaNode("press.Temperature", range=(0, 120)),
    OpcuaNode("press.Pressure", "float32"),
    OpcuaNode("press.Count", "uint32"),
    OpcuaNode("press.Running", "bool"),
    OpcuaNode("press.Order", "string"),
)
AT_FIRST: Mapping[str, Value | None] = {
    "Temperature": 20.5, "Pressure": 1.5, "Count": 7, "Running": True, "Order": "A-4711",
}  # fmt: skip


def node(name: str) -> dict[str, Any]:
    """The settings of a tag for a node of the press."""
    return {"node": f"nsu=urn:edge-agent:simulator;s=press.{name}"}


class Press:
    """Our OPC UA simulator on the stage, which can be stopped and started again on the same port."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._server: OpcuaServer | None = None
        self._port = 0
        self.write_requests = 0

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"opc.tcp://127.0.0.1:{self._port}"

    @property
    def server(self) -> OpcuaServer:
        """The simulator itself, which lives on the stage. RuntimeError while it is stopped."""
        if self._server is None:
            raise RuntimeError("the press is stopped")
        return self._server

    def start(self) -> None:
        """Start with first values; takes a second or more."""
        server = OpcuaServer(NODES, port=self._port)
        self._stage.run(server.start())
        self._server, self._port = server, server.port
        self._stage.run(self._write(AT_FIRST))

    def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self.write_requests += self._server.write_requests
            self._stage.run(self._server.stop())
            self._server = None

    async def _write(
        self, values: Mapping[str, Value | None], at: int | None = None, status: str | None = None
    ) -> None:
        assert self._server is not None
        named = {f"press.{name}": value for name, value in values.items()}
        statuses = dict.fromkeys(named, status) if status else None
        await self._server.write(named, time.time_ns() if at is None else at, statuses)

    async def write(
        self, values: Mapping[str, Value | None], at: int | None = None, status: str | None = None
    ) -> None:
        """Put values into their nodes, with one source time (default: now) and one status."""
        await self._stage.on(self._write(values, at, status))


Reply = Callable[[bytes], Sequence[bytes] | Awaitable[Sequence[bytes]]]
_ESTABLISHED = 1


class HangUp(Exception):
    """Raised by a reply: the connection is reset instead."""


class Liar:
    """A TCP server whose `reply` makes the bytes sent back for each request frame; a context manager.

    Several pieces are sent one after the other in segments of their own; an empty list is silence.
    With `only_one` a second connection is reset while the first one is open.
    """

    def __init__(self, reply: Reply, *, only_one: bool = False) -> None:
        self.reply = reply
        self.only_one = only_one
        self.port = 0
        self.requests: list[bytes] = []
        self.connections = 0
        self.most_open = 0
        """Most connections that were open at one time, as the other side sees it."""
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._ended = False
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._ended = True
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        # What was being accepted arrives, and what was aborted is closed, in the next turns of the loop.
        await asyncio.sleep(0.005)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._ended:
            reset(writer)
            return
        self.connections += 1
        self._open = {each for each in self._open if _established(each)} | {writer}
        self.most_open = max(self.most_open, len(self._open))
        if self.only_one and len(self._open) > 1:
            reset(writer)
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                header = await reader.readexactly(6)
                frame = header + await reader.readexactly(int.from_bytes(header[4:6], "big"))
                self.requests.append(frame)
                witness.saw("Liar", frame[7:])
                pieces = self.reply(frame)
                for piece in await pieces if isinstance(pieces, Awaitable) else pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            # The driver hung up, as it should after most lies.
            return
        except HangUp:
            reset(writer)
        finally:
            writer.close()


def _established(writer: asyncio.StreamWriter) -> bool:
    """Whether neither side has closed, which the kernel knows before the event loop does."""
    sock = writer.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return False
    return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED)


def honest(frame: bytes, words: Callable[[int], int] = lambda address: 1000 + address) -> bytes:
    """The right answer to a request for registers."""
    address, count = int.from_bytes(frame[8:10], "big"), int.from_bytes(frame[10:12], "big")
    content = b"".join(words(address + i).to_bytes(2, "big") for i in range(count))
    return reply_to(frame, bytes((frame[7], len(content))) + content)


def reply_to(frame: bytes, pdu: bytes) -> bytes:
    """A frame with the request's transaction and unit around `pdu`."""
    return frame[:4] + (len(pdu) + 1).to_bytes(2, "big") + frame[6:7] + pdu


def by_name(batches: Sequence[SampleBatch]) -> dict[str, tuple[Value | None, Reason]]:
    """The last value and reason of each tag."""
    return {
        name: (batch.values[i], batch.status(i).reason)
        for batch in batches
        for i, name in enumerate(batch.names)
    }


async def scan(driver: Driver, index: int = 0) -> dict[str, tuple[Value | None, Reason]]:
    """One scan of one group."""
    return by_name(await driver.read(driver.groups[index]))


async def connect_in_time(driver: Driver) -> None:
    """Connect a driver whose timeout is shorter than what a busy machine may take."""
    async with asyncio.timeout(10):
        while True:
            try:
                await driver.connect()
            except DeviceUnreachable:
                await asyncio.sleep(0.01)
            else:
                return


def good(value: Value) -> tuple[Value, Reason]:
    """A good value as `by_name` shows it."""
    return value, Reason.NONE


def missing(reason: Reason) -> tuple[None, Reason]:
    """A bad value as `by_name` shows it."""
    return None, reason
