"""/healthz, /readyz, /metrics and their description, over a real uvicorn on a free port."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.types import ASGIApp

from edge_agent.clock import Clock
from edge_agent.errors import TemporaryError
from edge_agent.vitals import BufferLevel, TagFreshness, Vitals
from edge_agent.web.app import SECURITY_HEADERS, create_app
from edge_agent.web.server import listen, serve, serve_on


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def fetch(port: int, path: str, method: str = "GET") -> Answer:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:  # noqa: S310
            return Answer(reply.status, dict(reply.headers), reply.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return Answer(refusal.code, dict(refusal.headers), refusal.read())


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[Callable[..., Any]]:
    """The app on a free port; gives a function that fetches a path without blocking the loop."""
    channel = listen("127.0.0.1", 0)
    port = channel.getsockname()[1]
    task = asyncio.create_task(serve_on(app, channel))

    async def get(path: str, method: str = "GET") -> Answer:
        return await asyncio.to_thread(fetch, port, path, method)

    try:
        yield get
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def vitals() -> Vitals:
    made = Vitals(Clock(), "1.2.3")
    made.buffer = BufferLevel
    made.machine("pump-1").tried = True
    return made


async def test_healthz_is_200_while_every_stage_moves_and_says_which_does_not() -> None:
    """503 names the stage."""
    made = vitals()
    made.watchdog.stage("sampler pump-1", 60)
    async with serving(create_app(made)) as get:
        answer = await get("/healthz")
        assert (answer.status, answer.json) == (200, {"alive": True, "stalled": []})
        made.watchdog.stage("journal", -2)
        answer = await get("/healthz")
        assert answer.status == 503
        assert answer.json["stalled"][0]["stage"] == "journal"
        assert answer.json["stalled"][0]["late_seconds"] >= 2


async def test_readyz_follows_readiness() -> None:
    """200 with details once ready, 503 before; a function of the agent's own may say it."""
    made = vitals()
    async with serving(create_app(made)) as get:
        answer = await get("/readyz")
        assert answer.status == 200
        assert answer.json["machines"]["pump-1"]["tried"] is True
        made.machine("press-2")
        assert (await get("/readyz")).status == 503
    async with serving(create_app(made, lambda: {"ready": True, "historian": "up"})) as get:
        assert (await get("/readyz")).json == {"ready": True, "historian": "up"}


async def test_metrics_are_prometheus_text() -> None:
    """With the content type scrapers ask for."""
    async with serving(create_app(vitals())) as get:
        answer = await get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert b'edge_agent_build_info{python="' in answer.body
    assert b'edge_agent_tags_good{machine="pump-1"} 0.0' in answer.body


async def test_freshness_says_how_far_each_tag_has_come() -> None:
    """ISO times per tag and stage, null where there is none; one machine on demand; 404 for a stranger."""
    made = vitals()
    tags = made.machine("pump-1").freshness = TagFreshness(["flow"])
    tags.read(("flow",), 1_000_000_000, ())
    async with serving(create_app(made)) as get:
        answer = await get("/api/v1/freshness?machine=pump-1")
        times = {"read": "1970-01-01T00:00:01.000Z", "committed": None, "acknowledged": None}
        assert answer.json == {"machines": {"pump-1": {"flow": times}}}
        assert (await get("/api/v1/freshness")).json == answer.json
        assert (await get("/api/v1/freshness?machine=x")).status == 404
        text = (await get("/metrics")).body
    assert b'edge_agent_oldest_tag_age_seconds{machine="pump-1",stage="read"}' in text
    assert b"flow" not in text, "a series per tag would be thousands of series"


async def test_openapi_describes_every_route_that_answers() -> None:
    """Each path of the document answers 200, and says the version."""
    async with serving(create_app(vitals())) as get:
        document = (await get("/api/v1/openapi.json")).json
        assert document["info"]["version"] == "1.2.3"
        assert {"/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"} <= set(document["paths"])
        for path in document["paths"]:
            assert (await get(path)).status == 200


async def test_every_answer_has_security_headers_and_no_banner() -> None:
    """Also 404, 405 and 500; nothing says which server this is."""

    def broken() -> dict[str, Any]:
        raise RuntimeError("secret detail")

    async with serving(create_app(vitals(), broken)) as get:
        answers = [
            await get("/healthz"),
            await get("/nothing"),
            await get("/healthz", "POST"),
            await get("/readyz"),
        ]
    assert [answer.status for answer in answers] == [200, 404, 405, 500]
    for answer in answers:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        assert "server" not in headers
        assert {name: headers.get(name.lower()) for name in SECURITY_HEADERS} == dict(SECURITY_HEADERS)
    assert answers[1].json == {"error": "Not Found"}
    assert b"secret" not in answers[3].body


async def test_a_taken_port_is_said_with_the_setting_that_changes_it() -> None:
    """TemporaryError, which is exit code 75."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(TemporaryError, match=rf"port {port} is taken.*change web\.listen"):
            await serve(create_app(vitals()), "127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_another_computer_is_said(host: str) -> None:
    """TemporaryError that names web.listen: the address may come with the network."""
    with pytest.raises(TemporaryError, match=r"web\.listen"):
        listen(host, 8420)


async def test_it_stops_when_cancelled_and_lets_go_of_the_port() -> None:
    """Also with a connection that is kept open; no signal handler is touched."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    channel = listen("127.0.0.1", 0)
    port = channel.getsockname()[1]
    task = asyncio.create_task(serve_on(create_app(vitals()), channel))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in await reader.readline()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    task.cancel()
    async with asyncio.timeout(4):
        with suppress(asyncio.CancelledError):
            await task
    assert task.cancelled()
    writer.close()
    listen("127.0.0.1", port).close()
