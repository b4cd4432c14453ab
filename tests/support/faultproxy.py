"""A bad network in front of any server: a TCP proxy whose faults can be switched and combined while it runs.

    async with FaultProxy("127.0.0.1", server.port) as proxy:
        proxy.to_client.delay = 0.2     # what the server sends comes late
        proxy.to_server.drop = 0.1      # a tenth of what the client sends never arrives
        proxy.cut()                     # reset every connection now
        await proxy.refuse()            # the port is closed, until proxy.listen()

What arrives in one read counts as one segment. The faults of a direction are looked at for each segment anew.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Literal, Self

Ending = Literal["reset", "finish"]

_OVERTAKE = 0.05
"""Longest time (s) a segment waits for another to overtake it."""
_SEGMENT = 65536
_QUEUED = 256


@dataclass
class Faults:
    """What happens to what goes in one direction. Chances are 0 to 1, times in seconds."""

    delay: float = 0.0
    jitter: float = 0.0
    """Up to this much is added to `delay`, anew for each segment; TCP keeps the order, UDP does not."""
    drop: float = 0.0
    """Chance that a segment is lost."""
    drop_byte: float = 0.0
    """Chance of each single byte to be lost."""
    corrupt: float = 0.0
    """Chance of each byte to have one bit flipped."""
    duplicate: float = 0.0
    """Chance that a segment comes twice."""
    reorder: float = 0.0
    """Chance that a segment comes after the next one (or 50 ms later where none follows)."""
    trickle: float | None = None
    """Bytes come one by one with this much time between them. TCP only."""
    cut_after: int | None = None
    """The connection ends once this many bytes of it went this way. TCP only."""
    ending: Ending = "reset"
    """How `cut_after` ends it."""
    swallow: bool = False
    """Nothing passes, and neither does the end while it lasts: the other side is half open."""

    def clear(self) -> None:
        """Behave from now on."""
        for each in fields(self):
            setattr(self, each.name, each.default)


@dataclass
class Tally:
    """What a proxy did, over both directions."""

    accepted: int = 0
    most_open: int = 0
    """Most client connections at one time."""
    passed: int = 0
    """Bytes passed on."""
    delayed: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    corrupted: int = 0
    duplicated: int = 0
    reordered: int = 0
    swallowed: int = 0
    trickled: int = 0
    cut: int = 0


class Mangler:
    """What the faults of one direction make of each segment; shared by TCP and UDP."""

    def __init__(self, faults: Faults, tally: Tally, rng: random.Random) -> None:
        self.faults, self.tally, self._rng = faults, tally, rng

    def strikes(self, chance: float) -> bool:
        """Whether a fault of that chance strikes now."""
        return chance > 0 and self._rng.random() < chance

    def segments(self, data: bytes) -> list[bytes]:
        """The segments that go on: none, one, or the same one twice."""
        faults, tally = self.faults, self.tally
        if faults.swallow:
            tally.swallowed += 1
            return []
        if self.strikes(faults.drop):
            tally.dropped += 1
            return []
        data = self._corrupted(self._thinned(data))
        if self.strikes(faults.duplicate):
            tally.duplicated += 1
            return [data, data]
        return [data] if data else []

    def wait(self) -> float:
        """How long this segment takes."""
        faults = self.faults
        seconds = faults.delay + (self._rng.random() * faults.jitter if faults.jitter else 0.0)
        self.tally.delayed += seconds > 0
        return seconds

    def _thinned(self, data: bytes) -> bytes:
        if not self.faults.drop_byte:
            return data
        kept = bytes(byte for byte in data if not self.strikes(self.faults.drop_byte))
        self.tally.dropped_bytes += len(data) - len(kept)
        return kept

    def _corrupted(self, data: bytes) -> bytes:
        if not self.faults.corrupt:
            return data
        changed = bytearray(data)
        for i in range(len(changed)):
            if self.strikes(self.faults.corrupt):
                changed[i] ^= 1 << self._rng.randrange(8)
                self.tally.corrupted += 1
        return bytes(changed)


class _Cut(Exception):
    """A connection that `cut_after` or the proxy's `cut` ends."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


@dataclass
class _Way:
    """One direction of one connection."""

    mangler: Mangler
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    queue: asyncio.Queue[tuple[float, bytes]] = field(default_factory=lambda: asyncio.Queue(_QUEUED))
    passed: int = 0
    ended: bool = False

    async def read(self) -> None:
        """Take what comes, and note when it has to go on; an empty segment is the end."""
        loop = asyncio.get_running_loop()
        due = 0.0
        while data := await self.reader.read(_SEGMENT):
            for segment in self.mangler.segments(data):
                due = max(due, loop.time() + self.mangler.wait())
                await self.queue.put((due, segment))
        await self.queue.put((due, b""))

    async def write(self) -> None:
        """Send what is due, until the end."""
        while not self.ended:
            segment = await self._wait(await self.queue.get())
            if segment and self.mangler.strikes(self.mangler.faults.reorder):
                await self._overtake()
            if segment:
                await self._send(segment)
        while self.mangler.faults.swallow:
            await asyncio.sleep(_OVERTAKE)
        self.writer.write_eof()

    async def _wait(self, item: tuple[float, bytes]) -> bytes:
        due, segment = item
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        self.ended = not segment
        return segment

    async def _overtake(self) -> None:
        """Send the segment after this one first, if one comes soon."""
        try:
            async with asyncio.timeout(_OVERTAKE):
                item = await self.queue.get()
        except TimeoutError:
            return
        if following := await self._wait(item):
            self.mangler.tally.reordered += 1
            await self._send(following)

    async def _send(self, segment: bytes) -> None:
        faults, tally = self.mangler.faults, self.mangler.tally
        ends = faults.cut_after is not None and self.passed + len(segment) >= faults.cut_after
        if ends:
            segment = segment[: max(0, (faults.cut_after or 0) - self.passed)]
        pieces = [segment] if faults.trickle is None else [bytes((byte,)) for byte in segment]
        for piece in pieces:
            if faults.trickle is not None:
                tally.trickled += 1
                await asyncio.sleep(faults.trickle)
            self.writer.write(piece)
            await self.writer.drain()
            self.passed += len(piece)
            tally.passed += len(piece)
        if ends:
            tally.cut += 1
            raise _Cut(faults.ending)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with an RST instead of a FIN; harmless where it is closed already."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


@dataclass
class _Link:
    """The two sockets of one connection, and how they are closed in the end."""

    sides: list[asyncio.StreamWriter]
    ending: Ending = "reset"

    def end(self) -> None:
        """Close both: with what is still to be sent and a FIN, or with a reset."""
        for side in self.sides:
            if self.ending == "finish":
                side.close()
            else:
                reset(side)


class FaultProxy:
    """Listens on a free port of loopback and passes on to `host`:`port`; an async context manager.

    `seed` makes the same chances come out again.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self.to_client, self.to_server = Faults(), Faults()
        self.tally = Tally()
        self.port = 0
        self._target = (host, port)
        self._rng = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._ended = False
        self._open: dict[asyncio.Task[None], _Link] = {}

    @property
    def open(self) -> int:
        """Client connections that are open now."""
        return len(self._open)

    async def listen(self) -> None:
        """Take connections, on the same port as before; harmless where it does already."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Close the port: connecting is refused. What is open stays open."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            # The listening socket is closed in the next turn of the loop.
            await asyncio.sleep(0)

    def cut(self, ending: Ending = "reset") -> None:
        """End every connection now, on both sides."""
        for task, link in self._open.items():
            self.tally.cut += 1
            link.ending = ending
            task.cancel()

    def clear(self) -> None:
        """No faults in either direction from now on."""
        self.to_client.clear()
        self.to_server.clear()

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        self._ended = True
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What was being accepted arrives, and what was aborted is closed, in the next turns of the loop.
        await asyncio.sleep(0.005)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._ended:
            reset(writer)
            return
        link = _Link([writer])
        task = asyncio.ensure_future(self._relay(reader, link))
        self._open[task] = link
        self.tally.accepted += 1
        self.tally.most_open = max(self.tally.most_open, self.open)
        task.add_done_callback(lambda ended: self._open.pop(ended, None))

    async def _relay(self, near: asyncio.StreamReader, link: _Link) -> None:
        try:
            far, far_side = await asyncio.open_connection(*self._target)
            link.sides.append(far_side)
            up = _Way(Mangler(self.to_server, self.tally, self._rng), near, far_side)
            down = _Way(Mangler(self.to_client, self.tally, self._rng), far, link.sides[0])
            async with asyncio.TaskGroup() as group:
                for work in (up.read, up.write, down.read, down.write):
                    group.create_task(work())
            link.ending = "finish"
        except* _Cut as cuts:
            link.ending = (
                "finish" if cuts.subgroup(lambda cut: getattr(cut, "ending", "") == "finish") else "reset"
            )
        except* OSError:
            # One side reset the connection or was never there: the other side hears of it as a reset.
            link.ending = "reset"
        finally:
            link.end()
