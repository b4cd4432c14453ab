"""Writing to InfluxDB: the real 1.6.7, the real VictoriaMetrics, and a FAKE server for the other answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import ConfigError, SinkUnavailable, TemporaryError
from edge_agent.historian import ping
from edge_agent.historian.influxdb import InfluxStore
from edge_agent.historian.ledger import FieldLedger
from edge_agent.settings.models import HistorianSettings
from edge_agent.types import Priority, Record
from tests.support.influx import Influxd, VictoriaMetrics
from tests.support.mosquitto import free_port

Aside = list[tuple[Record, bytes, str]]
NS = time.time_ns() // 10**9 * 10**9 - 3600 * 10**9
"""An hour ago: InfluxDB takes nothing that is older than its policy."""


def record(seq: int, *lines: bytes) -> Record:
    return Record(seq, "pump-1", Priority.TELEMETRY, NS, b"\n".join(lines), "pi")


def scans(first: int, count: int) -> list[bytes]:
    return [b"readings,machine=pump-1 a=%d,b=%d.5 %d" % (n, n, NS + n) for n in range(first, first + count)]


@contextlib.asynccontextmanager
async def store(folder: Path, **settings: Any) -> AsyncIterator[tuple[InfluxStore, Aside]]:
    aside: Aside = []
    model = HistorianSettings.model_validate({"kind": "influxdb", "api": "v1", "timeout": "2s", **settings})
    ledger = FieldLedger(folder / "fields.json")
    one = InfluxStore(model, ledger, lambda *what: aside.append(what), folder / "minutes.json")
    try:
        yield one, aside
    finally:
        await one.close()


def points(influxd: Influxd, database: str, field: str = "a") -> list[tuple[int, object]]:
    series = influxd.query(f'SELECT "{field}" FROM readings', database)  # noqa: S608
    return [(ns - NS, value) for ns, value in series[0]["values"]] if series else []


# --- InfluxDB 1.6.7, real


async def test_the_database_is_made_when_it_is_missing(influxd: Influxd, tmp_path: Path) -> None:
    """v1 answers 404 for a database that is not there: it is created, once."""
    async with store(tmp_path, url=influxd.url, database="made") as (influx, aside):
        await influx.deliver([record(1, *scans(0, 3))], backlog=False)
        await influx.deliver([record(1, *scans(0, 3))], backlog=True)
        assert influx.requests == 3
    assert points(influxd, "made") == [(0, 0), (1, 1), (2, 2)]
    assert aside == []


async def test_one_bad_line_among_five_thousand(influxd: Influxd, tmp_path: Path) -> None:
    """4,999 are stored, the bad one is set aside with the server's own reason, within 15 requests."""
    lines = scans(0, 5000)
    # a time our parser takes and InfluxDB does not: 1 ns beyond its range
    lines[3210] = b"readings,machine=pump-1 a=1,b=2 9223372036854775807"
    async with store(tmp_path, url=influxd.url, database="bisect") as (influx, aside):
        await influx.deliver([record(1, *lines[:2500]), record(2, *lines[2500:])], backlog=False)
        assert influx.requests <= 15
    assert len(points(influxd, "bisect")) == 4999
    ((whose, text, reason),) = aside
    assert (whose.seq, text) == (2, lines[3210])
    assert "time outside range" in reason


async def test_a_type_that_the_server_knows_better_costs_only_that_field(
    influxd: Influxd, tmp_path: Path
) -> None:
    """The ledger is new but the database is not: only the conflicting field is set aside."""
    influxd.create("conflict")
    influxd.write(b"readings,machine=other a=1i %d" % NS, "conflict")
    async with store(tmp_path, url=influxd.url, database="conflict") as (influx, aside):
        await influx.deliver([record(1, *scans(0, 50))], backlog=False)
        first = influx.requests
        await influx.deliver([record(2, *scans(50, 50))], backlog=False)
        assert influx.requests == first + 1, "known from then on"
    assert len(points(influxd, "conflict", "b")) == 100
    assert len(aside) == 100
    assert aside[0][1] == b"readings,machine=pump-1 a=0.0 %d" % NS
    assert "readings.a is float, stored as integer" in aside[0][2]
    known = json.loads((tmp_path / "fields.json").read_text())
    assert known == {"readings": {"a": "integer", "b": "float"}}


async def test_points_beyond_the_retention_policy(influxd: Influxd, tmp_path: Path) -> None:
    """What is too old for the database is set aside with its reason, what is not is stored."""
    influxd.create("short WITH DURATION 1d")
    now = time.time_ns()
    lines = [b"readings,machine=m a=1 %d" % (now - n * 3600 * 10**9 * 10) for n in range(8)]
    async with store(tmp_path, url=influxd.url, database="short") as (influx, aside):
        await influx.deliver([record(1, *lines)], backlog=False)
    series = influxd.query("SELECT a FROM readings", "short")
    assert len(series[0]["values"]) + len(aside) == 8
    assert len(aside) >= 5
    assert all("retention" in reason for _, _, reason in aside)


async def test_names_and_passwords(tmp_path: Path) -> None:
    """With the wrong password it says so, keeps everything and waits a minute."""
    server = Influxd(tmp_path / "influxd", extra="auth-enabled = true")
    server.start()
    try:
        for question in (
            "CREATE USER admin WITH PASSWORD 'right' WITH ALL PRIVILEGES",
            "CREATE DATABASE plant",
        ):
            server.ask(question, u="admin", p="right")
        good = {"url": server.url, "database": "plant", "username": "admin", "password": "right"}
        async with store(tmp_path, **good) as (influx, aside):
            await influx.deliver([record(1, *scans(0, 3))], backlog=False)
        async with store(tmp_path, **{**good, "password": "wrong"}) as (influx, aside):
            with pytest.raises(SinkUnavailable, match=r"401.*authorization failed.*password") as refused:
                await influx.deliver([record(1, *scans(0, 3))], backlog=False)
            assert refused.value.retry_after == 60
            assert aside == []
    finally:
        server.stop()


async def test_away_and_back(tmp_path: Path) -> None:
    """Nobody listens: unavailable, with the address; then it is there and all is stored."""
    server = Influxd(tmp_path / "influxd")
    async with store(tmp_path, url=server.url, database="plant") as (influx, _):
        with pytest.raises(SinkUnavailable, match=f"{server.url} does not answer.*refused"):
            await influx.deliver([record(1, *scans(0, 3))], backlog=False)
        server.start()
        try:
            await influx.deliver([record(1, *scans(0, 3))], backlog=False)
            assert len(points(server, "plant")) == 3
        finally:
            server.stop()


async def test_ping(influxd: Influxd, victoria: VictoriaMetrics) -> None:
    """`check --connect` hears yes from both real servers, and why not from nobody."""
    for api, url in (("v1", influxd.url), ("v2", victoria.url)):
        ping(HistorianSettings.model_validate({"api": api, "url": url}), 2)
    nobody = HistorianSettings(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TemporaryError, match=r"does not answer.*refused"):
        ping(nobody, 2)


# --- VictoriaMetrics, real: influxdb-client and /api/v2/write


async def test_the_v2_interface_through_influxdb_client(victoria: VictoriaMetrics, tmp_path: Path) -> None:
    """An independent parser reads what the v2 writer sends (to the millisecond, and numbers only)."""
    v2 = {"api": "v2", "url": victoria.url, "org": "plant", "bucket": "machines", "token": "t"}
    now = time.time_ns() // 10**9 * 10**9
    lines = [b"readings,machine=vm a=%d,b=0.5 %d" % (n, now + n * 10**6) for n in range(50)]
    async with store(tmp_path, **v2) as (influx, aside):
        await influx.deliver([record(1, *lines)], backlog=False)
    assert aside == []
    (series,) = victoria.export('readings_a{machine="vm"}', 50)
    assert series["values"] == list(range(50))
    assert series["timestamps"] == [now // 10**6 + n for n in range(50)]


async def test_v2_needs_a_bucket(tmp_path: Path) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match=r"historian\.bucket"):
        async with store(tmp_path, api="v2"):
            pass


# --- a FAKE server: answers that the real ones here never give


class Fake:
    """NOT a database: an HTTP server that answers what the test says, and remembers what it was sent."""

    def __init__(self) -> None:
        self.port = free_port()
        self.answer: Callable[[bytes], tuple[str, str]] = lambda body: ("204 No Content", "")
        self.headers = ""
        self.bodies: list[bytes] = []
        self.times: list[float] = []
        self.tokens: set[str] = set()
        self.silent = False
        self.raw = b""
        """Sent instead of an answer, a byte every 100 ms."""
        self.writers: list[asyncio.StreamWriter] = []

    @property
    def settings(self) -> dict[str, str]:
        return {
            "api": "v2",
            "url": f"http://127.0.0.1:{self.port}",
            "bucket": "b",
            "org": "o",
            "token": "tok",
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                sizes = {name.lower(): value for name, value in fields.items()}
                body = await reader.readexactly(int(sizes.get("content-length", "0")))
                self.bodies.append(body)
                self.times.append(time.monotonic())
                self.tokens.add(fields.get("Authorization", ""))
                status, text = self.answer(body)
                if self.silent:
                    continue
                for byte in self.raw:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.1)
                reply = f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n{self.headers}\r\n{text}"
                writer.write(reply.encode())
                await writer.drain()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Fake]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            for writer in self.writers:
                writer.transport.abort()
            await asyncio.sleep(0.05)


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.mark.parametrize(
    ("status", "headers", "wait", "said"),
    [
        ("401 Unauthorized", "", 60, "historian.token"),
        ("403 Forbidden", "", 60, "write permission"),
        ("404 Not Found", "", 60, "bucket or database does not exist"),
        ("429 Too Many Requests", "Retry-After: 30\r\n", 30, "429"),
        ("503 Service Unavailable", "Retry-After: 7\r\n", 7, "503"),
        ("500 Internal Server Error", "", None, "500"),
        ("502 Bad Gateway", "", None, "502"),
        ("200 OK", "", 60, "proxy in between"),
        ("302 Found", "Location: http://127.0.0.1:1/login\r\n", None, "302"),
    ],
)
async def test_answers_that_keep_everything(
    fake: Fake, tmp_path: Path, status: str, headers: str, wait: float | None, said: str
) -> None:
    """FAKE: no answer but 204 lets a record go; the server's wish for a pause is passed on."""
    fake.answer, fake.headers = lambda body: (status, '{"code":"x","message":"because"}'), headers
    async with fake.running(), store(tmp_path, **fake.settings) as (influx, aside):
        with pytest.raises(SinkUnavailable, match=said) as away:
            await influx.deliver([record(1, *scans(0, 10))], backlog=False)
        assert away.value.retry_after == wait
        assert aside == []
        assert len(fake.bodies) == 1
        assert fake.tokens == {"Token tok"}


async def test_a_body_that_is_too_large_is_halved_and_remembered(fake: Fake, tmp_path: Path) -> None:
    """FAKE: 413 converges within 8 requests, and later bodies are small from the start."""
    fake.answer = lambda body: ("204 No Content", "") if len(body) < 50_000 else ("413 Too Large", "")
    lines = scans(0, 4000)
    async with fake.running(), store(tmp_path, **fake.settings) as (influx, aside):
        await influx.deliver([record(1, *lines)], backlog=False)
        good = [body for body in fake.bodies if len(body) < 50_000]
        assert sorted(line for body in good for line in body.split(b"\n")) == sorted(lines)
        fake.bodies.clear()
        await influx.deliver([record(2, *lines)], backlog=False)
        assert all(len(body) < 50_000 for body in fake.bodies)
        assert aside == []


async def test_a_server_that_refuses_the_whole_batch_without_naming_the_line(
    fake: Fake, tmp_path: Path
) -> None:
    """FAKE (like InfluxDB 2 for some errors): halves find the bad lines, the good ones are all stored."""
    stored: set[bytes] = set()

    def answer(body: bytes) -> tuple[str, str]:
        if b"a=13," in body or b"a=700," in body:
            return "400 Bad Request", '{"code":"invalid","message":"something is wrong"}'
        stored.update(body.split(b"\n"))
        return "204 No Content", ""

    fake.answer = answer
    lines = scans(0, 1000)
    async with fake.running(), store(tmp_path, **fake.settings) as (influx, aside):
        await influx.deliver([record(1, *lines)], backlog=False)
    assert [text for _, text, _ in aside] == [lines[13], lines[700]]
    assert "something is wrong" in aside[0][2]
    assert stored == set(lines) - {lines[13], lines[700]}


async def test_a_report_by_line_number(fake: Fake, tmp_path: Path) -> None:
    """FAKE (the documented answer of InfluxDB 3): the lines it names go, the rest is written."""
    report = {
        "error": "partial write of line protocol occurred",
        "data": [{"original_line": "..", "line_number": 3, "error_message": "invalid column type"}],
    }
    fake.answer = lambda body: (
        ("400 Bad Request", json.dumps(report)) if b"a=2," in body else ("204 No Content", "")
    )
    lines = scans(0, 10)
    async with fake.running(), store(tmp_path, **fake.settings) as (influx, aside):
        await influx.deliver([record(1, *lines)], backlog=False)
        assert influx.requests == 2
    assert [(text, reason.endswith("invalid column type")) for _, text, reason in aside] == [(lines[2], True)]


async def test_a_server_that_does_not_answer_in_time(fake: Fake, tmp_path: Path) -> None:
    """FAKE: the delivery ends within its deadline and everything is kept."""
    fake.silent = True
    async with fake.running(), store(tmp_path, **{**fake.settings, "timeout": "500ms"}) as (influx, _):
        start = time.monotonic()
        with pytest.raises(SinkUnavailable, match=r"(does|did) not answer"):
            await influx.deliver([record(1, *scans(0, 10))], backlog=False)
        assert time.monotonic() - start < 2.5
