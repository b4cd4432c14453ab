"""Faults of broker and network with everything real: journal, sink, mosquitto, historian, embedded store.

Each test bears the name of its row in the fault catalogue.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import Clock
from edge_agent.historian import Historian
from edge_agent.historian.history import History
from edge_agent.mqtt import MqttClient
from edge_agent.mqtt import pauses as pauses_module
from edge_agent.sinks import mqtt as sink_module
from edge_agent.types import Record
from tests.sinks.conftest import Agent, configuration
from tests.support.faultproxy import FaultProxy
from tests.support.mosquitto import Mosquitto, eventually

HEAD = "readings,enterprise=fjord-parts,site=ulsteinvik,machine=pump-1"
STATUS = "fjord-parts/ulsteinvik/_agents/pi-01"


def line(number: int, size: int = 0) -> bytes:
    """A reading whose value is its number, and so is its time."""
    padding = f',note="{"x" * size}"' if size else ""
    return f"{HEAD} n={number}{padding} {number}".encode()


@contextlib.asynccontextmanager
async def storing(folder: Path, url: str) -> AsyncIterator[Historian]:
    """A historian with the embedded store."""
    settings = configuration(folder, url, historian={"kind": "embedded"})
    historian = Historian(settings, Clock(), folder)
    task = asyncio.create_task(historian.run())
    try:
        await eventually(historian.ready.is_set)
        yield historian
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def stored(historian: Historian) -> list[int]:
    """The numbers in the store, in the order of their times, repeats included."""
    assert await historian.drained(10)

    def read() -> list[int]:
        with History(historian.history) as history:
            return [int(value) for _time, value in history.range("pump-1", "n")]

    return await asyncio.to_thread(read)


def plant(folder: Path, url: str, **more: Any) -> Agent:
    return Agent(folder / "agent", configuration(folder, url), **more)


async def test_a1_an_outage_is_drained_and_what_is_live_does_not_wait(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of commits piled up, 20 live ones a second on top: all stored, p99 of the live ones <= 2 s,
    drained at 10 times the live rate or more."""
    monkeypatch.setattr(sink_module, "CONNECT_PATIENCE", 0.2)
    backlog, rate = 2500, 20
    agent = plant(tmp_path, broker.url)
    broker.stop()
    await agent.journal.open()
    for n in range(backlog):
        await agent.journal.append("pump-1", line(n, 400), urgent=True)
    await agent.journal.close()

    agent = plant(tmp_path, broker.url)
    sent: list[tuple[int, float]] = []
    gone: dict[int, float] = {}
    agent.on_delivered = partial(_note, gone)
    async with agent.running():
        first_live = agent.journal.newest + 1
        broker.start()
        async with storing(tmp_path, broker.url) as historian:
            started, number = time.monotonic(), backlog
            while agent.journal.stats().rows > 2 or not gone:
                await agent.journal.append("pump-1", line(number), urgent=True)
                committed, seq = time.monotonic(), agent.journal.newest
                number += 1
                sent.append((seq, committed))
                await asyncio.sleep(1 / rate)
                assert time.monotonic() - started < 40, "not drained"
            drained = time.monotonic() - started
            await eventually(lambda: agent.unconfirmed == 0)
            found = await stored(historian)
    assert found == list(range(number)), "nothing lost, nothing twice, in order"
    assert first_live > backlog
    live_rate = (number - backlog) / drained
    late = [gone[seq] - committed for seq, committed in sent]
    p99 = sorted(late)[int(0.99 * (len(late) - 1))]
    print(f"drain {backlog / drained:.0f}/s, live {live_rate:.0f}/s, live p99 {p99 * 1000:.0f} ms")
    assert p99 <= 2.0
    assert backlog / drained >= 10 * live_rate


def _note(gone: dict[int, float], records: Sequence[Record]) -> None:
    gone.update((record.seq, time.monotonic()) for record in records)


@pytest.mark.parametrize("swallowed", ["to_client", "to_server"])
async def test_a5_what_is_sent_twice_is_stored_once(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swallowed: str
) -> None:
    """Acknowledgements, or messages, vanish while the line seems up: sent again, stored once, none lost."""
    monkeypatch.setattr(sink_module, "CONNECT_PATIENCE", 0.2)
    async with storing(tmp_path, broker.url) as historian, FaultProxy("127.0.0.1", broker.port) as proxy:
        agent = plant(tmp_path, f"mqtt://127.0.0.1:{proxy.port}", keepalive=1)
        async with agent.running():
            for n in range(60):
                await agent.journal.append("pump-1", line(n), urgent=True)
                if n % 20 == 10:
                    getattr(proxy, swallowed).swallow = True
                    await eventually(lambda: not agent.sink.client.connected.is_set())
                    proxy.clear()
                    proxy.cut()
            await eventually(lambda: agent.unconfirmed == 0, 30)
        assert await stored(historian) == list(range(60))


async def test_a3_flapping_loses_nothing(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is cut every 0.3 s while readings come: all stored once, in order."""
    monkeypatch.setattr(pauses_module, "ROOM", 0.3)
    monkeypatch.setattr(sink_module, "CONNECT_PATIENCE", 0.2)
    async with storing(tmp_path, broker.url) as historian, FaultProxy("127.0.0.1", broker.port) as proxy:
        agent = plant(tmp_path, f"mqtt://127.0.0.1:{proxy.port}")
        async with agent.running():
            for n in range(150):
                await agent.journal.append("pump-1", line(n), urgent=n % 3 == 0)
                if n % 15 == 14:
                    proxy.cut()
                await asyncio.sleep(0.02)
            await eventually(lambda: agent.unconfirmed == 0, 30)
        assert await stored(historian) == list(range(150))


async def test_a6_an_access_list_is_not_hammered(tmp_path: Path) -> None:
    """Readings that may not be published stay, one try a minute; the reason names user and topic; a restart
    with the right list delivers them."""
    allowed = f"topic readwrite {STATUS}/#\n"
    broker = Mosquitto(tmp_path / "m", users={"edge-01": "pw"}, acl=f"user edge-01\n{allowed}")
    broker.start()
    try:
        login = {"url": broker.url, "username": "edge-01", "password": "pw"}
        settings = configuration(tmp_path, broker.url, mqtt=login, historian={"kind": "none"})
        agent = Agent(tmp_path / "agent", settings)
        async with agent.running():
            await agent.journal.append("pump-1", line(1), urgent=True)
            await eventually(lambda: agent.delivery.state == "waiting")
            assert "fjord-parts/ulsteinvik/pump-1/readings from edge-01" in str(agent.delivery.error)
            assert "access list" in str(agent.delivery.error)
            tries = agent.delivery.failed_tries
            assert (agent.delivery.next_try or 0) - asyncio.get_running_loop().time() > 55
            await asyncio.sleep(1)
            assert agent.delivery.failed_tries == tries
            assert agent.unconfirmed == 1
        (broker.folder / "acl").write_text("user edge-01\ntopic readwrite #\n")
        broker.stop()
        broker.start()
        agent = Agent(tmp_path / "agent", settings)
        async with agent.running():
            await eventually(lambda: agent.unconfirmed == 0)
    finally:
        broker.stop()


async def test_a9_a_large_commit_is_split_and_a_monstrous_line_set_apart(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """Messages of at most 128 KiB, cut between lines; what no historian takes goes to quarantine, once."""
    sizes: list[int] = []
    async with (
        storing(tmp_path, broker.url) as historian,
        MqttClient(broker.settings(), "listener") as listener,
    ):
        listener.subscribe(
            "fjord-parts/ulsteinvik/pump-1/readings", lambda one: sizes.append(len(one.payload))
        )
        await listener.wait_connected(5)
        agent = plant(tmp_path, broker.url)
        async with agent.running():
            for n in range(400):
                agent.journal.append("pump-1", line(n, 1000))
            await agent.journal.append("pump-1", line(400, sink_module.LARGEST))
            await agent.journal.append("pump-1", line(401), urgent=True)
            await eventually(lambda: agent.unconfirmed == 0, 20)
            (apart,) = await agent.journal.quarantined()
            assert "more than the 1048576 any historian takes" in apart.reason
            assert apart.lines == line(400, sink_module.LARGEST)
        assert await stored(historian) == [*range(400), 401]
    assert len(sizes) >= 4
    assert max(sizes) <= 128 * 1024 + 200
    assert historian.intake.dropped == {}


async def test_a11_a_slow_line_with_jitter(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 ms and up to 200 ms more each way: throughput falls, nothing is lost, the order is kept."""
    async with storing(tmp_path, broker.url) as historian, FaultProxy("127.0.0.1", broker.port) as proxy:
        for way in (proxy.to_client, proxy.to_server):
            way.delay, way.jitter = 0.3, 0.2
        agent = plant(tmp_path, f"mqtt://127.0.0.1:{proxy.port}")
        async with agent.running():
            for n in range(50):
                await agent.journal.append("pump-1", line(n), urgent=True)
            await eventually(lambda: agent.unconfirmed == 0, 30)
            assert agent.sink.client.connections == 1
        assert await stored(historian) == list(range(50))


async def test_a14_a_storm_on_our_topics_harms_nobody(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten thousand messages to the topic of confirmations: a 50 ms cadence in the same loop holds, memory
    does not grow, readings still get through, and it is said once."""
    got: list[float] = []

    async def sampler() -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += 0.05
            await asyncio.sleep(max(0.0, due - loop.time()))
            got.append(loop.time() - due)

    async with storing(tmp_path, broker.url) as historian:
        agent = plant(tmp_path, broker.url)
        async with agent.running(), MqttClient(broker.settings(), "hostile") as hostile:
            await hostile.wait_connected(5)
            await agent.journal.append("pump-1", line(0), urgent=True)
            await eventually(lambda: agent.unconfirmed == 0)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            cadence = asyncio.create_task(sampler())
            for _ in range(20):
                storm = [b"{", b'{"seqs": [1, 2, 3]}', b"x" * 2000, b'{"seqs": "many"}'] * 125
                await asyncio.gather(*(hostile.publish(f"{STATUS}/stored", word) for word in storm))
            await agent.journal.append("pump-1", line(1), urgent=True)
            await eventually(lambda: agent.unconfirmed == 0)
            cadence.cancel()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert await stored(historian) == [0, 1]
    said = [one for one in caplog.records if "confirmation" in one.message]
    assert len(said) == 1
    assert agent.sink.ignored == 20 * 375
    assert sorted(got)[int(0.95 * len(got))] < 0.25, "storm and cadence share this process's one loop"
    assert grown < 20_000, f"{grown} KiB more"


async def test_a6_retained_topics_that_are_refused_do_not_stop_the_readings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Forbidden topics are said once and left alone, although mosquitto 2.0.11 ends the connection at each
    refusal; readings get through."""
    acl = f"user e\ntopic readwrite {STATUS}/#\ntopic readwrite fjord-parts/ulsteinvik/pump-1/readings\n"
    broker = Mosquitto(tmp_path / "m", users={"e": "pw"}, acl=acl)
    broker.start()
    try:
        login = {"url": broker.url, "username": "e", "password": "pw"}
        settings = configuration(tmp_path, broker.url, mqtt=login, historian={"kind": "none"})
        agent = Agent(tmp_path / "agent", settings)
        async with agent.running():
            for n in range(30):
                for tag in ("flow", "pressure", "level"):
                    agent.sink.retain(agent.sink.topic("pump-1", "tags", tag), {"v": n})
                await agent.journal.append("pump-1", line(n), urgent=True)
                await asyncio.sleep(0.02)
            await eventually(lambda: agent.unconfirmed == 0)
            assert agent.sink.client.connections <= 3
            assert agent.sink.board.refused <= 3, "one of each topic at most"
    finally:
        broker.stop()
    assert len([one for one in caplog.records if "retained topics of" in one.message]) == 1
