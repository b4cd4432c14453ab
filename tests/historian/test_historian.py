"""The historian on real brokers, into the embedded store and a real InfluxDB: nothing lost or made up."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent import lineprotocol as lp
from edge_agent.buffer import Quarantined
from edge_agent.clock import Clock
from edge_agent.errors import ConfigError, TemporaryError
from edge_agent.historian import Historian, History
from edge_agent.mqtt import Message, MqttClient
from edge_agent.mqtt.embedded import EmbeddedBroker
from edge_agent.settings.models import Configuration, MqttSettings
from edge_agent.types import SampleBatch, Store, Tag, Value
from tests.historian.conftest import historian
from tests.sinks.conftest import Agent, configuration
from tests.support.influx import Influxd
from tests.support.mosquitto import Mosquitto, eventually

TAGS = [Tag("vibration"), Tag("running"), Tag("energy", store=Store.INT), Tag("mode"), Tag("status.tripped")]
NAMES = tuple(tag.name for tag in TAGS)
START = time.time_ns() // 10**9 * 10**9 - 3600 * 10**9
Stored = dict[tuple[str, str, int], Value]


class Machine:
    """Makes scans whose every value follows from machine, tag and number."""

    def __init__(self, plant: Configuration, name: str) -> None:
        self.name = name
        self.encoder = lp.BatchEncoder(name, plant.levels(), "readings", TAGS)
        self.number = 0
        self.emitted: Stored = {}

    def scan(self, agent: Agent) -> asyncio.Future[None]:
        self.number += 1
        number, ns = self.number, START + self.number * 1_000_001
        vibration = None if number % 7 == 0 else number / 7
        values: list[Value | None] = [vibration, number % 3 == 0, number * 10**12, f'"m" {number % 5}', False]
        line = self.encoder.encode(SampleBatch(self.name, NAMES, ns, values))
        for name, value in zip(NAMES, values, strict=True):
            if value is not None:
                self.emitted[self.name, name, ns] = value
        return agent.journal.append(self.name, line)


async def settled(agent: Agent, one: Historian, seconds: float = 30) -> None:
    await eventually(lambda: agent.unconfirmed == 0, seconds, "the agent keeps records")
    assert await one.drained(seconds), "the historian keeps records"


def in_history(one: Historian) -> Stored:
    with History(one.history) as history:
        return {
            (machine, field, ns): value
            for machine in history.machines()
            for field in history.fields(machine)
            for ns, value in history.range(machine, field)
        }


def in_influx(influxd: Influxd, database: str) -> Stored:
    stored: Stored = {}
    for series in influxd.query("SELECT * FROM readings GROUP BY machine", database):
        for ns, *values in series["values"]:
            for column, value in zip(series["columns"][1:], values, strict=True):
                if value is not None and column not in ("enterprise", "site"):
                    stored[series["tags"]["machine"], column, ns] = value
    return stored


async def load(agent: Agent, machines: list[Machine], scans: int, pause: float = 0.002) -> None:
    for _ in range(scans):
        for machine in machines:
            machine.scan(agent)
        await asyncio.sleep(pause)


async def test_every_value_reaches_the_embedded_store(broker: Mosquitto, tmp_path: Path) -> None:
    """Five machines, numbers, states, big ints, strings, bad values: equal value by value, once."""
    plant = configuration(tmp_path, broker.url)
    machines = [Machine(plant, f"pump-{n}") for n in range(5)]
    async with historian(plant, tmp_path) as one, Agent(tmp_path, plant).running() as agent:
        await load(agent, machines, 200)
        await settled(agent, one)
        stored = in_history(one)
        with History(one.history) as history:
            latest = history.latest("pump-1")
            assert latest["energy"][1] == 200 * 10**12
            assert history.count() == len(stored)
            assert history.count("pump-1", "running") == 200
            assert len(set(history.identities("pump-1"))) * 5 == len(stored)
    assert stored == {key: value for machine in machines for key, value in machine.emitted.items()}


async def test_every_value_reaches_influxdb(broker: Mosquitto, tmp_path: Path, influxd: Influxd) -> None:
    """The same through InfluxDB 1.6.7's own /write, read back by query; the database is made when missing."""
    settings = {"kind": "influxdb", "api": "v1", "url": influxd.url, "database": "values_v1"}
    plant = configuration(tmp_path, broker.url, historian=settings)
    machines = [Machine(plant, f"pump-{n}") for n in range(3)]
    async with historian(plant, tmp_path) as one, Agent(tmp_path, plant).running() as agent:
        await load(agent, machines, 200)
        await settled(agent, one)
    assert in_influx(influxd, "values_v1") == {
        key: value for machine in machines for key, value in machine.emitted.items()
    }


@pytest.mark.parametrize("persistence", [True, False])
async def test_killing_the_broker_loses_nothing(tmp_path: Path, persistence: bool) -> None:
    """SIGKILL of mosquitto under load, again and again: a PUBACK is no promise, the historian's word is."""
    broker = Mosquitto(tmp_path / "m", persistence=persistence, extra="autosave_interval 1")
    broker.start()
    plant = configuration(tmp_path, broker.url)
    machines = [Machine(plant, f"pump-{n}") for n in range(5)]
    random.seed(3)
    try:
        async with (
            historian(plant, tmp_path) as one,
            Agent(tmp_path, plant, confirm_timeout=1).running() as agent,
        ):
            for _ in range(4):
                await load(agent, machines, random.randint(20, 120))
                broker.stop(signal.SIGKILL)
                await load(agent, machines, 20)
                broker.start()
            await settled(agent, one)
            stored = in_history(one)
    finally:
        broker.stop()
    assert stored == {key: value for machine in machines for key, value in machine.emitted.items()}


async def test_influxdb_away_and_a_historian_that_restarts(broker: Mosquitto, tmp_path: Path) -> None:
    """The database is away, the historian stops and starts: what it confirmed it still has."""
    influxd = Influxd(tmp_path / "influxd")
    influxd.start()
    settings = {"kind": "influxdb", "api": "v1", "url": influxd.url, "database": "plant"}
    plant = configuration(tmp_path, broker.url, historian=settings)
    machines = [Machine(plant, "pump-1"), Machine(plant, "pump-2")]
    try:
        async with Agent(tmp_path, plant, confirm_timeout=1).running() as agent:
            async with historian(plant, tmp_path) as one:
                await load(agent, machines, 50)
                await settled(agent, one)
                influxd.stop(signal.SIGKILL)
                await load(agent, machines, 50)
                await eventually(lambda: agent.unconfirmed == 0)
                await eventually(lambda: one.delivery.failures > 0)
                assert "does not answer" in str(one.delivery.error)
                assert one.journal.stats().rows > 0
            await load(agent, machines, 50)
            influxd.start()
            async with historian(plant, tmp_path) as one:
                await settled(agent, one)
        stored = in_influx(influxd, "plant")
    finally:
        influxd.stop()
    assert stored == {key: value for machine in machines for key, value in machine.emitted.items()}


async def test_two_historians_share_and_one_is_killed(broker: Mosquitto, tmp_path: Path) -> None:
    """A shared subscription: both get part of it, and what the dead one had goes to the other."""
    plant = configuration(tmp_path, broker.url)
    machines = [Machine(plant, f"pump-{n}") for n in range(4)]
    async with (
        Agent(tmp_path, plant, confirm_timeout=1).running() as agent,
        historian(plant, tmp_path / "two", instance=2) as two,
    ):
        async with historian(plant, tmp_path / "one", instance=1) as one:
            await load(agent, machines, 100)
        await load(agent, machines, 100)
        await settled(agent, two)
        assert one.intake.messages > 0
        stored = in_history(two) | in_history(one)
    # the stopped one still has in its journal what it had confirmed and not stored
    async with historian(plant, tmp_path / "one", instance=1) as again:
        assert await again.drained(10)
        stored |= in_history(again)
    assert stored == {key: value for machine in machines for key, value in machine.emitted.items()}


@pytest.mark.parametrize("embedded", [False, True])
async def test_a_historian_that_comes_late_gets_everything_at_once(
    broker: Mosquitto, tmp_path: Path, embedded: bool
) -> None:
    """What was published before it subscribed comes again when it does, not after the timeout of 30 s."""
    plant = configuration(tmp_path, broker.url)
    machine = Machine(plant, "pump-1")
    demo = EmbeddedBroker()
    await demo.start()
    mqtt = demo.settings(MqttSettings()) if embedded else plant.mqtt
    stored: Stored = {}
    try:
        async with Agent(tmp_path, plant, mqtt=mqtt).running() as agent:
            for _ in range(3):
                await load(agent, [machine], 20)
                await agent.sink.client.wait_connected(5)
                await asyncio.sleep(0.3)
                start = time.monotonic()
                async with historian(plant, tmp_path, mqtt=mqtt) as one:
                    await settled(agent, one)
                    stored = in_history(one)
                assert time.monotonic() - start < 5
            assert agent.delivery.failures == 0
    finally:
        await demo.stop()
    assert stored == machine.emitted


async def test_machines_with_their_own_area_and_line(broker: Mosquitto, tmp_path: Path) -> None:
    """Topics of every depth are received, and confirmed where the agent listens."""
    plant = configuration(tmp_path, broker.url, area="machining", line="line-1")
    machine = Machine(plant, "pump-1")
    async with historian(plant, tmp_path) as one, Agent(tmp_path, plant).running() as agent:
        machine.scan(agent)
        await settled(agent, one)
        with History(one.history) as history:
            (point,) = history.points()
            assert (point.tags["area"], point.tags["line"]) == ("machining", "line-1")


async def test_through_the_embedded_broker(tmp_path: Path) -> None:
    """The demo's way: amqtt, MQTT 3.1.1, the embedded store."""
    broker = EmbeddedBroker()
    await broker.start()
    mqtt = broker.settings(MqttSettings())
    plant = configuration(tmp_path, "embedded")
    machines = [Machine(plant, f"pump-{n}") for n in range(3)]
    try:
        async with (
            historian(plant, tmp_path, mqtt=mqtt) as one,
            Agent(tmp_path, plant, mqtt=mqtt).running() as agent,
        ):
            await load(agent, machines, 100)
            await settled(agent, one)
            stored = in_history(one)
    finally:
        await broker.stop()
    assert stored == {key: value for machine in machines for key, value in machine.emitted.items()}


def readings(machine: str, agent: str = "pi-09", seq: int = 1, levels: str = "", more: bytes = b"") -> bytes:
    start = lp.header(agent, seq, backlog=False)
    tags = levels or "enterprise=fjord-parts,site=ulsteinvik"
    return start + f"\nreadings,{tags},machine={machine} a=1 {seq}".encode() + more


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (readings("press-2"), "wrong_machine"),
        (
            readings("pump-1", more=b"\nreadings,enterprise=fjord-parts,site=ulsteinvik,machine=x a=1 1"),
            "wrong_machine",
        ),
        (readings("pump-1", levels="enterprise=other,site=ulsteinvik"), "wrong_machine"),
        (readings("pump-1", levels="enterprise=fjord-parts,site=ulsteinvik,area=a"), "wrong_machine"),
        (b"readings a=1 1", "wrong_machine"),
        (b"\x00\xff\xfe garbage", "malformed"),
        (b"readings,machine= a=1 1", "malformed"),
        (readings("pump-1", agent="../x"), "malformed"),
        (b"x" * 1_100_000, "too_large"),
    ],
)
async def test_hostile_messages_are_dropped_whole_and_counted(
    broker: Mosquitto, tmp_path: Path, payload: bytes, reason: str
) -> None:
    """Lines that are not the topic's machine's never get in; good ones after them do."""
    plant = configuration(tmp_path, broker.url)
    topic = "fjord-parts/ulsteinvik/pump-1/readings"
    confirmed: list[Message] = []
    client = MqttClient(broker.settings(), "attacker")
    client.subscribe("fjord-parts/ulsteinvik/_agents/+/stored", confirmed.append)
    async with historian(plant, tmp_path) as one, client:
        await client.wait_connected(5)
        await client.publish(topic, payload)
        await client.publish(topic, readings("pump-1", seq=7))
        await eventually(lambda: bool(confirmed))
        assert await one.drained(10)
        assert dict(one.intake.dropped) == {reason: 1}
        assert set(one.journal.stats().dropped) == {reason}
        with History(one.history) as history:
            assert [point.timestamp for point in history.points()] == [7]
    assert [json.loads(one.payload) for one in confirmed] == [{"seqs": [7]}]


async def test_a_duplicate_is_harmless_and_confirmed_again(broker: Mosquitto, tmp_path: Path) -> None:
    """The same message twice is one point and two confirmations; without a header none."""
    plant = configuration(tmp_path, broker.url)
    topic = "fjord-parts/ulsteinvik/pump-1/readings"
    confirmed: list[Message] = []
    client = MqttClient(broker.settings(), "sender")
    client.subscribe("fjord-parts/ulsteinvik/_agents/pi-09/stored", confirmed.append)
    async with historian(plant, tmp_path) as one, client:
        await client.wait_connected(5)
        for _ in range(2):
            await client.publish(topic, readings("pump-1"))
            await asyncio.sleep(0.2)
        await client.publish(topic, readings("pump-1").partition(b"\n")[2])
        await eventually(lambda: one.intake.messages == 3)
        assert await one.drained(10)
        with History(one.history) as history:
            assert history.count() == 1
        assert (len(confirmed), one.intake.unheaded) == (2, 1)


async def test_lines_that_are_none_and_conflicting_fields_go_to_quarantine(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """A bad line costs itself, a field of another type that field, over restarts; the rest is stored."""
    plant = configuration(tmp_path, broker.url)
    head = "readings,enterprise=fjord-parts,site=ulsteinvik,machine=pump-1"
    topic = "fjord-parts/ulsteinvik/pump-1/readings"
    first = f"{head} a=1,b=2 1\n{head} nonsense 2\n{head} a=3 3".encode()
    second = f'{head} a="text",b=5 4\n{head} a=1i,c="x y" 5'.encode()
    client = MqttClient(broker.settings(), "sender")
    points: list[tuple[int, dict[str, Value]]] = []
    kept: list[Quarantined] = []
    async with client:
        await client.wait_connected(5)
        for payload in (first, second):
            async with historian(plant, tmp_path) as one:
                await client.publish(topic, payload)
                await eventually(lambda one=one: one.intake.messages == 1)
                assert await one.drained(10)
                kept = await one.journal.quarantined()
                with History(one.history) as history:
                    points = sorted((point.timestamp, point.fields) for point in history.points())
    assert points == [(1, {"a": 1.0, "b": 2.0}), (3, {"a": 3.0}), (4, {"b": 5.0}), (5, {"c": "x y"})]
    assert [one.lines.partition(b" ")[2] for one in reversed(kept)] == [
        b"nonsense 2",
        b'a="text" 4',
        b"a=1i 5",
    ]
    assert "not line protocol" in kept[2].reason
    assert "readings.a is string, stored as float so far" in kept[1].reason


async def test_a_second_historian_on_the_folder_is_refused(broker: Mosquitto, tmp_path: Path) -> None:
    """It names the first one's pid."""
    plant = configuration(tmp_path, broker.url)
    async with historian(plant, tmp_path):
        with pytest.raises(TemporaryError, match="pid"):
            await Historian(plant, Clock(), tmp_path, instance=2).run()


def test_no_historian_is_a_configuration_error(tmp_path: Path) -> None:
    """`historian.kind: none` has nothing to run."""
    with pytest.raises(ConfigError):
        Historian(
            configuration(tmp_path, "mqtt://127.0.0.1:1", historian={"kind": "none"}), Clock(), tmp_path
        )


async def test_a_small_broker_window_does_not_slow_it_down(tmp_path: Path) -> None:
    """Twenty messages in flight and a commit a second would be twenty messages a second; it is far above."""
    broker = Mosquitto(tmp_path / "m", extra="max_inflight_messages 20")
    broker.start()
    more: dict[str, Any] = {"buffer": {"commit_interval": "1s"}}
    plant = configuration(tmp_path, broker.url, **more)
    client = MqttClient(broker.settings(), "sender")
    topic = "fjord-parts/ulsteinvik/pump-1/readings"
    try:
        async with historian(plant, tmp_path) as one, client:
            await client.wait_connected(5)
            start = time.monotonic()
            for seq in range(400):
                client.publish(topic, readings("pump-1", seq=seq))
            await eventually(lambda: one.intake.messages == 400)
            assert await one.drained(10)
            assert time.monotonic() - start < 5
    finally:
        broker.stop()
