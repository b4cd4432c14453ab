"""Faults of InfluxDB with a journal in front of it: nothing lost, doubled or made up, and it heals.

The real InfluxDB 1.6.7 where it gives the answer, also behind a proxy that spoils it; else a FAKE server.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.buffer import Delivery, Journal, forward
from edge_agent.clock import Clock
from edge_agent.errors import SinkUnavailable
from edge_agent.historian import answers
from edge_agent.historian.influxdb import InfluxStore
from edge_agent.historian.ledger import FieldLedger
from edge_agent.settings.models import BufferSettings, HistorianSettings
from tests.historian.test_influxdb import NS, Fake, points, record, scans, store
from tests.support.influx import Influxd
from tests.support.mosquitto import eventually

Answer = Callable[[bytes], tuple[str, str]]


class Way:
    """A journal whose records go to InfluxDB."""

    def __init__(self, journal: Journal, influx: InfluxStore, delivery: Delivery) -> None:
        self.journal, self.influx, self.delivery = journal, influx, delivery
        self.sent = 0

    async def send(self, count: int) -> None:
        """Commit scans with the numbers that follow."""
        for line in scans(self.sent, count):
            self.journal.append("pump-1", line)
        self.sent += count
        await self.journal.flush()

    async def emptied(self, seconds: float = 10) -> None:
        """Everything has been stored or set aside."""
        async with asyncio.timeout(seconds):
            while self.journal.stats().rows or self.journal.stats().waiting_bytes:
                await self.journal.flush()
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def way(folder: Path, **settings: Any) -> AsyncIterator[Way]:
    model = HistorianSettings.model_validate({"kind": "influxdb", "api": "v1", "timeout": "1s", **settings})
    buffer = BufferSettings.model_validate({"commit_interval": "20ms"})
    async with Journal(folder / "journal.db", Clock(), buffer) as journal:
        ledger = FieldLedger(folder / "fields.json")
        influx = InfluxStore(model, ledger, journal.quarantine, folder / "minutes.json")
        delivery = Delivery("influxdb")
        task = asyncio.create_task(forward(journal, journal.reader(), influx, delivery))
        try:
            yield Way(journal, influx, delivery)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await influx.close()


class Memory:
    """What a FAKE database holds: points by identity, and how often each was written."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def take(self, body: bytes) -> tuple[str, str]:
        self.lines += body.split(b"\n")
        return "204 No Content", ""

    def check(self, count: int) -> None:
        assert set(self.lines) == set(scans(0, count)), "LOST or FAKE"
        assert len(self.lines) == count, "DUP"


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.mark.parametrize("status", ["503 Service Unavailable", "429 Too Many Requests"])
async def test_b1_no_request_while_the_server_wants_rest(fake: Fake, tmp_path: Path, status: str) -> None:
    """FAKE: Retry-After 1: not one request within it, whatever comes; then all is stored."""
    memory = Memory()
    fake.answer, fake.headers = lambda body: (status, "busy"), "Retry-After: 1\r\n"
    async with fake.running(), way(tmp_path, **fake.settings) as one:
        await one.send(20)
        await eventually(lambda: len(fake.times) == 1)
        await asyncio.sleep(0.5)
        fake.answer, fake.headers = memory.take, ""
        await one.send(20)
        await one.emptied()
        assert fake.times[1] - fake.times[0] >= 1
        assert one.journal.stats().quarantined == 0
    memory.check(40)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("401 Unauthorized", '{"code":"unauthorized","message":"unauthorized access"}'),
        ("403 Forbidden", '{"code":"forbidden","message":"forbidden"}'),
        ("404 Not Found", '{"code":"not found","message":"bucket \\"b\\" not found"}'),
        ("200 OK", "<html>Welcome to the hotel's network</html>"),
        ("400 Bad Request", '{"code":"invalid","message":"gzip: invalid header"}'),
    ],
)
async def test_b2_b5_b9_b12_kept_until_somebody_mends_it(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, body: str
) -> None:
    """FAKE: one request a minute and no more, everything kept, nothing created; heals without a restart."""
    assert answers.PATIENCE == 60
    monkeypatch.setattr(answers, "PATIENCE", 0.5)
    memory = Memory()
    fake.answer = lambda _: (status, body)
    async with fake.running(), way(tmp_path, **fake.settings) as one:
        start = time.monotonic()
        while time.monotonic() - start < 1.2:
            await one.send(5)
            await asyncio.sleep(0.05)
        assert len(fake.times) <= 3
        assert status[:3] in str(one.delivery.error) or "did not get what was sent" in str(one.delivery.error)
        fake.answer = memory.take
        await one.emptied()
        assert one.journal.stats().quarantined == 0
    memory.check(one.sent)


async def test_b2_a_password_that_is_set_right_on_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """InfluxDB 1.6.7: refused with 401, then, without a restart, everything is there once."""
    monkeypatch.setattr(answers, "PATIENCE", 0.2)
    server = Influxd(tmp_path / "influxd", extra="auth-enabled = true")
    server.start()
    admin = {"u": "admin", "p": "x"}
    try:
        server.ask("CREATE USER admin WITH PASSWORD 'x' WITH ALL PRIVILEGES", **admin)
        server.ask("CREATE DATABASE plant", **admin)
        server.ask("CREATE USER edge WITH PASSWORD 'old'", **admin)
        server.ask("GRANT ALL ON plant TO edge", **admin)
        login = {"url": server.url, "database": "plant", "username": "edge", "password": "new"}
        async with way(tmp_path, **login) as one:
            await one.send(50)
            await eventually(lambda: one.delivery.failures >= 2)
            assert "401" in str(one.delivery.error)
            server.ask("SET PASSWORD FOR edge = 'new'", **admin)
            await one.emptied()
            assert one.journal.stats().quarantined == 0
        body = server.get("/query", q="SELECT count(a) FROM readings", db="plant", **admin)
        assert b",50]" in body
    finally:
        server.stop()


@pytest.mark.parametrize("bad", [0, 1, 1234, 2499, 2500, 3210, 4998, 4999])
async def test_b3_one_bad_line_in_a_batch_that_is_refused_whole(fake: Fake, tmp_path: Path, bad: int) -> None:
    """FAKE, and the server does not say which: 4,999 are stored once, one set aside, 16 requests at most."""
    memory = Memory()
    lines = scans(0, 5000)

    def answer(body: bytes) -> tuple[str, str]:
        if lines[bad] in body.split(b"\n"):
            return "400 Bad Request", '{"code":"invalid","message":"something is wrong"}'
        return memory.take(body)

    fake.answer = answer
    async with fake.running(), store(tmp_path, **fake.settings) as (influx, aside):
        await influx.deliver([record(1, *lines)], backlog=False)
        assert influx.requests <= 16
    assert [text for _, text, _ in aside] == [lines[bad]]
    assert sorted(memory.lines) == sorted({*lines} - {lines[bad]})


async def test_b3_many_bad_lines_here_and_there(fake: Fake, tmp_path: Path) -> None:
    """FAKE: whatever the pattern, exactly the bad ones are set aside, and each good one is stored once."""
    random.seed(11)
    lines = scans(0, 200)
    for share in (0.01, 0.2, 0.9, 1.0):
        bad = {line for line in lines if random.random() < share}
        memory = Memory()

        def answer(body: bytes, bad: set[bytes] = bad, memory: Memory = memory) -> tuple[str, str]:
            if bad & set(body.split(b"\n")):
                return "422 Unprocessable Entity", '{"message":"a bad line"}'
            return memory.take(body)

        fake.answer = answer
        async with fake.running(), store(tmp_path, **fake.settings) as (influx, aside):
            await influx.deliver([record(1, *lines)], backlog=False)
        assert [text for _, text, _ in aside] == [line for line in lines if line in bad]
        assert sorted(memory.lines) == sorted(set(lines) - bad)


async def test_b3_a_server_that_refuses_every_line_and_names_none(fake: Fake, tmp_path: Path) -> None:
    """FAKE (a setting is wrong, not the lines): everything is kept, and after some requests it waits."""
    memory = Memory()
    fake.answer = lambda body: ("400 Bad Request", '{"code":"invalid","message":"please provide org"}')
    async with fake.running(), store(tmp_path, **fake.settings) as (influx, aside):
        for count in (1, 2000):
            with pytest.raises(SinkUnavailable, match="to every line: please provide org") as away:
                await influx.deliver([record(1, *scans(0, count))], backlog=False)
            assert away.value.retry_after == 60
        assert influx.requests <= 90
        fake.answer = memory.take
        await influx.deliver([record(1, *scans(0, 2000))], backlog=False)
        assert aside == []
    memory.check(2000)


async def test_b4_a_body_that_is_far_too_large(fake: Fake, tmp_path: Path) -> None:
    """FAKE: from 1 MiB down to 20 kB in 8 refusals at most; then every request is taken."""
    memory = Memory()
    refused = 0

    def answer(body: bytes) -> tuple[str, str]:
        nonlocal refused
        if len(body) > 20_000:
            refused += 1
            return "413 Request Entity Too Large", ""
        return memory.take(body)

    fake.answer = answer
    lines = scans(0, 22_000)
    assert sum(map(len, lines)) > 1_000_000
    async with fake.running(), store(tmp_path, **fake.settings) as (influx, aside):
        await influx.deliver([record(1, *lines)], backlog=False)
        assert refused <= 8
        assert aside == []
    memory.check(22_000)


class Proxy:
    """Between the historian and the real InfluxDB: it passes everything on, but for what `spoil` changes.

    `spoil` gets a whole reply and returns what is passed on; b"" is a connection that is cut.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.spoil: Callable[[bytes], bytes] = lambda reply: reply
        self.replies = 0
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                request = head + await reader.readexactly(size)
                reply = await self._forward(request)
                self.replies += 1
                spoiled = self.spoil(reply)
                writer.write(spoiled)
                await writer.drain()
                if spoiled != reply:
                    break
        writer.close()

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        reply = await reader.read()
        writer.close()
        return reply

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self


GARBLED = b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!"


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda reply: b"", id="the reply is lost"),
        pytest.param(lambda reply: reply[:9], id="the reply is cut"),
        pytest.param(
            lambda reply: b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", id="500"
        ),
        pytest.param(lambda reply: GARBLED.replace(b"204 No Content", b"200 OK"), id="200, garbled"),
        pytest.param(
            lambda reply: (
                b"HTTP/1.1 502 Bad Gateway\r\nContent-Encoding: gzip\r\nContent-Length: 30\r\n\r\n"
                + gzip.compress(b"away")[:30].ljust(30, b"\xff")
            ),
            id="502, garbled",
        ),
        pytest.param(lambda reply: b"\x15\x03\x01\x00\x02\x02\x46", id="not HTTP"),
    ],
)
async def test_b6_stored_but_the_answer_is_lost(
    influxd: Influxd, tmp_path: Path, request: pytest.FixtureRequest, spoil: Callable[[bytes], bytes]
) -> None:
    """InfluxDB 1.6.7 has taken it and we do not know: sent again, and each point is there once."""
    database = f"lost_{abs(hash(request.node.name))}"
    influxd.create(database)
    proxy = Proxy(influxd.port)
    proxy.spoil = spoil
    async with proxy.running(), way(tmp_path, url=proxy.url, database=database) as one:
        await one.send(100)
        await eventually(lambda: one.delivery.failures >= 1)
        assert len(points(influxd, database)) > 0, "it was stored"
        proxy.spoil = lambda reply: reply
        await one.send(100)
        await one.emptied(20)
        assert one.journal.stats().quarantined == 0
    assert points(influxd, database) == [(n, n) for n in range(200)]


@pytest.mark.parametrize("raw", [b"HTTP/1.1 204 No Content\r\nX: " + b"x" * 300, b"x" * 300])
@pytest.mark.parametrize("api", ["v1", "v2"])
async def test_b7_a_byte_now_and_then(fake: Fake, tmp_path: Path, raw: bytes, api: str) -> None:
    """FAKE: a server that trickles costs the timeout and a second, each time, and the next one is heard."""
    fake.raw = raw
    settings = {**fake.settings, "api": api, "database": "d", "timeout": "600ms"}
    async with fake.running(), store(tmp_path, **settings) as (influx, _):
        for _ in range(2):
            start = time.monotonic()
            with pytest.raises(SinkUnavailable, match="does not answer"):
                await influx.deliver([record(1, *scans(0, 10))], backlog=False)
            assert time.monotonic() - start < 1.6
        fake.raw = b""
        await influx.deliver([record(1, *scans(0, 10))], backlog=False)


async def test_b8_a_type_that_changes_while_it_runs(influxd: Influxd, tmp_path: Path) -> None:
    """InfluxDB 1.6.7: a tag that becomes an integer costs that field, with advice; all others flow on."""
    async with way(tmp_path, url=influxd.url, database="b8") as one:
        await one.send(100)
        for n in range(100, 200):
            one.journal.append("pump-1", b"readings,machine=pump-1 a=%di,b=%d.5 %d" % (n, n, NS + n))
        await one.emptied()
        kept = await one.journal.quarantined(200)
    assert points(influxd, "b8", "b") == [(n, n + 0.5) for n in range(200)]
    assert points(influxd, "b8", "a") == [(n, n) for n in range(100)]
    assert len(kept) == 100
    assert "give the tag `store: float`" in kept[0].reason


async def test_b11_too_old_for_the_bucket(fake: Fake, tmp_path: Path) -> None:
    """FAKE (InfluxDB 2's 422, which stores the rest): set aside as too_old, each counted, none lost."""
    memory = Memory()

    def answer(body: bytes) -> tuple[str, str]:
        lines = body.split(b"\n")
        young = [line for line in lines if int(line.split()[-1]) >= NS + 700]
        memory.lines += young
        if len(young) == len(lines):
            return "204 No Content", ""
        dropped = len(lines) - len(young)
        text = f"partial write: points beyond retention policy dropped={dropped}"
        return "422 Unprocessable Entity", f'{{"code":"unprocessable entity","message":"{text}"}}'

    fake.answer = answer
    lines = scans(0, 1000)
    async with fake.running(), store(tmp_path, **fake.settings) as (influx, aside):
        await influx.deliver([record(1, *lines)], backlog=False)
        assert influx.requests < 30
    assert [text for _, text, _ in aside] == lines[:700]
    assert all(reason.startswith("too_old: ") for _, _, reason in aside)
    assert set(memory.lines) == set(lines[700:])


async def test_b12_a_proxy_that_garbles_what_is_sent(fake: Fake, tmp_path: Path) -> None:
    """FAKE: a 400 that is about the body's packing and not about a line sets no line aside."""
    fake.answer = lambda body: ("400 Bad Request", '{"error":"unexpected EOF"}')
    async with fake.running(), store(tmp_path, **fake.settings) as (influx, aside):
        with pytest.raises(SinkUnavailable, match="did not get what was sent"):
            await influx.deliver([record(1, *scans(0, 10))], backlog=False)
        assert aside == []
