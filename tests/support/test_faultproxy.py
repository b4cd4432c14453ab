"""The fault proxy itself: each fault does what it says, is counted, and ends when it is switched off."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from tests.support.faultproxy import Ending, FaultProxy, Tally
from tests.support.faultproxy_udp import UdpFaultProxy

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
TEXT = bytes(range(200))


@contextlib.asynccontextmanager
async def echoing(**keys: Any) -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server that sends back what it gets."""
    open_: set[asyncio.StreamWriter] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.add(writer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1], **keys) as proxy:
        yield proxy
    server.close()
    for writer in open_:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def client(proxy: FaultProxy) -> AsyncIterator[Client]:
    """A connection through the proxy."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield reader, writer
    writer.transport.abort()


async def echo_of(connection: Client, data: bytes, seconds: float = 1.0) -> bytes:
    """What comes back for `data` until it is whole or time is over."""
    reader, writer = connection
    writer.write(data)
    got = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while len(got) < len(data) and (more := await reader.read(65536)):
                got += more
    return got


async def test_without_faults_everything_passes_and_so_does_the_end() -> None:
    """A megabyte and a FIN arrive as they were sent; two connections at once are counted."""
    async with echoing() as proxy, client(proxy) as one, client(proxy) as two:
        assert await echo_of(one, TEXT * 5000, 5) == TEXT * 5000
        assert await echo_of(two, TEXT) == TEXT
        one[1].write_eof()
        assert await one[0].read() == b""
        assert proxy.tally == Tally(accepted=2, most_open=2, passed=2 * (5000 + 1) * len(TEXT))


async def test_delay_and_jitter() -> None:
    """Each way takes its time, without adding up over segments; switched off, it is over."""
    async with echoing() as proxy, client(proxy) as connection:
        proxy.to_client.delay, proxy.to_server.delay, proxy.to_server.jitter = 0.1, 0.05, 0.05
        began = time.monotonic()
        for part in (b"a", b"b", b"c"):
            connection[1].write(part)
            await asyncio.sleep(0.01)
        assert await connection[0].readexactly(3) == b"abc"
        assert 0.15 <= time.monotonic() - began < 0.4
        assert proxy.tally.delayed >= 4
        proxy.clear()
        began = time.monotonic()
        assert await echo_of(connection, TEXT) == TEXT
        assert time.monotonic() - began < 0.1


async def test_drop_corrupt_and_duplicate() -> None:
    """Segments vanish, come twice or with other bits, as often as asked for, and in the tally."""
    async with echoing(seed=3) as proxy, client(proxy) as connection:
        proxy.to_server.drop = 1.0
        assert await echo_of(connection, TEXT, 0.05) == b""
        proxy.clear()
        proxy.to_client.duplicate = 1.0
        connection[1].write(TEXT)
        assert await connection[0].readexactly(2 * len(TEXT)) == TEXT * 2
        proxy.clear()
        proxy.to_client.corrupt = 0.05
        got = await echo_of(connection, TEXT)
        flipped = [a ^ b for a, b in zip(got, TEXT, strict=True) if a != b]
        assert 0 < len(flipped) == proxy.tally.corrupted < 40
        assert all(bits.bit_count() == 1 for bits in flipped)
        proxy.clear()
        proxy.to_client.drop_byte = 0.1
        got = await echo_of(connection, TEXT, 0.05)
        assert 0 < len(TEXT) - len(got) == proxy.tally.dropped_bytes < 60
        assert (proxy.tally.dropped, proxy.tally.duplicated) == (1, 1)


async def test_reorder() -> None:
    """A segment lets the next one pass, and does not wait for ever where none comes."""
    async with echoing() as proxy, client(proxy) as connection:
        proxy.to_client.reorder = 1.0
        assert await echo_of(connection, b"first") == b"first"
        connection[1].write(b"first")
        await asyncio.sleep(0.02)
        connection[1].write(b"second")
        assert await connection[0].readexactly(11) == b"secondfirst"
        assert proxy.tally.reordered == 1


async def test_trickle() -> None:
    """Bytes come one by one, in order, with the time between them."""
    async with echoing() as proxy, client(proxy) as connection:
        proxy.to_client.trickle = 0.01
        began = time.monotonic()
        assert await echo_of(connection, TEXT[:20]) == TEXT[:20]
        assert time.monotonic() - began >= 0.2
        assert proxy.tally.trickled == 20


@pytest.mark.parametrize("ending", ["reset", "finish"])
async def test_cut_after_some_bytes(ending: Ending) -> None:
    """The client gets so many bytes and then a reset or an end, on this connection and on the next."""
    async with echoing() as proxy:
        proxy.to_client.cut_after, proxy.to_client.ending = 50, ending
        for _ in range(2):
            async with client(proxy) as connection:
                connection[1].write(TEXT)
                assert await connection[0].readexactly(50) == TEXT[:50]
                if ending == "finish":
                    assert await connection[0].read() == b""
                else:
                    with pytest.raises(ConnectionResetError):
                        await connection[0].read()
        assert proxy.tally.cut == 2


@pytest.mark.parametrize("ending", ["reset", "finish"])
async def test_cut_now(ending: Ending) -> None:
    """Every open connection ends at once, and new ones are taken."""
    async with echoing() as proxy, client(proxy) as connection:
        assert await echo_of(connection, TEXT) == TEXT
        proxy.cut(ending)
        if ending == "finish":
            assert await connection[0].read() == b""
        else:
            with pytest.raises(ConnectionResetError):
                await connection[0].read()
        async with client(proxy) as again:
            assert await echo_of(again, TEXT) == TEXT
        assert proxy.tally.cut == 1


async def test_swallow_is_half_open() -> None:
    """Connecting works, nothing is ever answered, and not even the end passes."""
    async with echoing() as proxy:
        proxy.to_client.swallow = True
        async with client(proxy) as connection:
            assert await echo_of(connection, TEXT, 0.05) == b""
            connection[1].write_eof()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await connection[0].read()
        assert proxy.tally.swallowed >= 1


async def test_refuse_and_listen_again_on_the_same_port() -> None:
    """A closed port refuses, an open connection goes on, and the port is the same afterwards."""
    async with echoing() as proxy, client(proxy) as connection:
        assert await echo_of(connection, TEXT) == TEXT
        port = proxy.port
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert await echo_of(connection, TEXT) == TEXT
        await proxy.listen()
        async with client(proxy) as again:
            assert await echo_of(again, TEXT) == TEXT
        assert proxy.port == port


async def test_a_server_that_is_not_there_is_a_reset() -> None:
    """The client hears of it, and so does nobody else."""
    async with FaultProxy("127.0.0.1", 1) as proxy, client(proxy) as connection:
        with pytest.raises(ConnectionResetError):
            await connection[0].read()


async def test_nothing_is_left_after_the_end() -> None:
    """With delayed, swallowed and half-sent segments under way, all tasks end with the proxy."""
    before = asyncio.all_tasks()
    async with echoing() as proxy, client(proxy) as one, client(proxy) as two:
        proxy.to_client.delay, proxy.to_client.trickle = 0.1, 5.0
        one[1].write(TEXT)
        two[1].write(TEXT)
        await asyncio.sleep(0.15)
    await asyncio.sleep(0.02)
    assert proxy.open == 0
    assert asyncio.all_tasks() == before


class Echo(asyncio.DatagramProtocol):
    """Sends datagrams back, or keeps them where it is a client."""

    def __init__(self, *, server: bool) -> None:
        self._server = server
        self.got: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append(data)
        if self._server:
            self.transport.sendto(data, addr)


async def test_datagrams() -> None:
    """Loss, doubles, bit errors, delay and order of datagrams, each as asked for."""
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(lambda: Echo(server=True), ("127.0.0.1", 0))
    async with UdpFaultProxy("127.0.0.1", server.get_extra_info("sockname")[1]) as proxy:
        near, here = await loop.create_datagram_endpoint(
            lambda: Echo(server=False), remote_addr=("127.0.0.1", proxy.port)
        )

        async def send(*texts: bytes, seconds: float = 0.05) -> list[bytes]:
            here.got.clear()
            for text in texts:
                near.sendto(text)
                await asyncio.sleep(0.005)
            await asyncio.sleep(seconds)
            return list(here.got)

        assert await send(b"a", b"b") == [b"a", b"b"]
        proxy.to_client.drop = 1.0
        assert await send(b"a") == []
        proxy.clear()
        proxy.to_server.duplicate = 1.0
        assert await send(b"a") == [b"a", b"a"]
        proxy.clear()
        proxy.to_client.delay = 0.2
        assert await send(b"a") == []
        await asyncio.sleep(0.25)
        assert here.got == [b"a"]
        proxy.clear()
        proxy.to_client.corrupt = 1.0
        assert (await send(bytes(4)))[0].count(0) == 0
        proxy.clear()
        proxy.to_client.reorder = 1.0
        near.sendto(b"first")
        await asyncio.sleep(0.02)
        proxy.clear()
        assert await send(b"second", seconds=0.15) == [b"second", b"first"]
        assert (proxy.tally.accepted, proxy.tally.dropped, proxy.tally.reordered) == (1, 1, 1)
        near.abort()
    server.abort()
