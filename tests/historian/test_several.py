"""Two historians that share the work: brokers and historians that die, owners, types and hostile senders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent import lineprotocol as lp
from edge_agent.historian import Historian, History, instance_number
from edge_agent.historian.claims import Claim, Claims
from edge_agent.mqtt import Message, MqttClient
from edge_agent.settings.models import Configuration
from tests.historian.conftest import historian
from tests.historian.test_claims import agent
from tests.historian.test_historian import START, Machine, Stored, in_history, in_influx, load, readings
from tests.sinks.conftest import Agent, configuration
from tests.support.influx import Influxd
from tests.support.mosquitto import Mosquitto, eventually

TOPIC = "fjord-parts/ulsteinvik/pump-1/readings"


def emitted(machines: list[Machine]) -> Stored:
    return {key: value for machine in machines for key, value in machine.emitted.items()}


async def all_confirmed(one: Agent, *historians: Historian) -> None:
    await eventually(lambda: one.unconfirmed == 0, 30, "the agent keeps records")
    for each in historians:
        assert await each.drained(30)


@pytest.mark.parametrize("persistence", [True, False])
async def test_killing_the_broker_of_two_historians_loses_nothing(tmp_path: Path, persistence: bool) -> None:
    """SIGKILL of mosquitto under load, four times: LOST = FAKE = DUP = 0 in the two stores together."""
    broker = Mosquitto(tmp_path / "m", persistence=persistence, extra="autosave_interval 1")
    broker.start()
    plant = configuration(tmp_path, broker.url)
    machines = [Machine(plant, f"pump-{n}") for n in range(5)]
    random.seed(4)
    try:
        async with (
            historian(plant, tmp_path / "1", instance=1) as one,
            historian(plant, tmp_path / "2", instance=2) as two,
            Agent(tmp_path, plant, confirm_timeout=1).running() as sender,
        ):
            for _ in range(4):
                await load(sender, machines, random.randint(20, 100))
                broker.stop(signal.SIGKILL)
                await load(sender, machines, 20)
                broker.start()
            await all_confirmed(sender, one, two)
            first, second = in_history(one), in_history(two)
    finally:
        broker.stop()
    assert first | second == emitted(machines)
    assert first
    assert second


# --- processes that are killed


class Process:
    """`edge-agent historian` with a state folder of its own."""

    def __init__(self, folder: Path, plant: Configuration, influxd: Influxd) -> None:
        folder.mkdir()
        self.log = folder / "log"
        self.file = folder / "agent.yaml"
        store = {"kind": "influxdb", "api": "v1", "url": influxd.url, "database": "killed"}
        document = {
            "enterprise": plant.enterprise,
            "site": plant.site,
            "agent": plant.agent,
            "state": str(folder),
            "mqtt": {"url": plant.mqtt.url},
            "historian": store,
            "buffer": {"commit_interval": "50ms"},
        }
        self.file.write_text(json.dumps(document))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "edge_agent", "historian", "-c", str(self.file)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None


@pytest.fixture
def two(tmp_path: Path, broker: Mosquitto, influxd: Influxd) -> Iterator[list[Process]]:
    plant = configuration(tmp_path, broker.url)
    both = [Process(tmp_path / name, plant, influxd) for name in ("one", "two")]
    for each in both:
        each.start()
    yield both
    for each in both:
        each.stop(signal.SIGKILL)


async def test_a_historian_that_is_killed_loses_nothing(
    broker: Mosquitto, tmp_path: Path, influxd: Influxd, two: list[Process]
) -> None:
    """SIGKILL of one, then the other, under load; InfluxDB 1.6.7 holds every value, once."""
    plant = configuration(tmp_path, broker.url)
    machines = [Machine(plant, f"pump-{n}") for n in range(4)]
    names: set[str] = set()
    client = MqttClient(broker.settings(), "watch")

    def heard(message: Message) -> None:
        if b'"role":"historian"' in message.payload:
            names.add(message.topic.split("/")[-2])

    client.subscribe("fjord-parts/ulsteinvik/_agents/+/status", heard)
    async with client, Agent(tmp_path, plant, confirm_timeout=1).running() as sender:
        await eventually(lambda: len(names) == 2, 20, "both are there, under different names")
        for victim in two:
            await load(sender, machines, 60)
            await asyncio.to_thread(victim.stop, signal.SIGKILL)
            await load(sender, machines, 60)
            victim.start()
        await eventually(lambda: sender.unconfirmed == 0, 30, "the agent keeps records")
        wanted = emitted(machines)
        # what a dead one had confirmed is in its journal, and stored when it is back
        await eventually(lambda: in_influx(influxd, "killed") == wanted, 20, "LOST, FAKE or DUP")


def test_the_number_of_a_historian(tmp_path: Path) -> None:
    """Drawn once for each state folder."""
    numbers = {instance_number(tmp_path / str(n)) for n in range(20)}
    assert len(numbers) == 20
    assert {instance_number(tmp_path / str(n)) for n in range(20)} == numbers


# --- owners


async def test_two_historians_agree_on_who_owns_a_machine(broker: Mosquitto, tmp_path: Path) -> None:
    """The second agent is refused by both, however the messages fall, and the first one by none."""
    plant = configuration(tmp_path, broker.url)
    pump, twin = Machine(plant, "pump-1"), Machine(plant, "pump-1")
    twin.number = 1000
    first, second = agent(tmp_path, broker, "pi-01"), agent(tmp_path, broker, "pi-02")
    async with (
        historian(plant, tmp_path / "1", instance=1) as one,
        historian(plant, tmp_path / "2", instance=2) as two,
        first.running(),
        second.running(),
    ):
        await pump.scan(first)
        await eventually(lambda: first.unconfirmed == 0)
        for _ in range(20):
            await twin.scan(second)
            await pump.scan(first)
        await all_confirmed(first, one, two)
        await all_confirmed(second, one, two)
        assert second.journal.stats().quarantined == 20
        assert first.journal.stats().quarantined == 0
        assert in_history(one) | in_history(two) == pump.emitted
        assert min(one.intake.messages, two.intake.messages) > 5, "both took part"


async def test_a_historian_that_starts_anew_knows_the_owner(broker: Mosquitto, tmp_path: Path) -> None:
    """With an empty folder, and the wrong agent speaking first."""
    plant = configuration(tmp_path, broker.url)
    pump, twin = Machine(plant, "pump-1"), Machine(plant, "pump-1")
    twin.number = 1000
    first, second = agent(tmp_path, broker, "pi-01"), agent(tmp_path, broker, "pi-02")
    async with first.running(), second.running():
        async with historian(plant, tmp_path / "1") as one:
            await pump.scan(first)
            await eventually(lambda: first.unconfirmed == 0)
            assert one.intake.claims.owners == {"fjord-parts/ulsteinvik/pump-1": "pi-01"}
        await twin.scan(second)
        async with historian(plant, tmp_path / "2") as other:
            await eventually(lambda: second.unconfirmed == 0)
            await pump.scan(first)
            await eventually(lambda: first.unconfirmed == 0)
            assert (first.journal.stats().quarantined, second.journal.stats().quarantined) == (0, 1)
            assert other.intake.claims.owners == {"fjord-parts/ulsteinvik/pump-1": "pi-01"}


async def test_no_machine_is_given_away_before_the_owners_can_be_known(broker: Mosquitto) -> None:
    """What the broker kept for a historian that crashed comes before the owners do: it is asked for again."""
    claims = Claims(MqttClient(broker.settings(), "early"), "fjord-parts/ulsteinvik")
    pump = "fjord-parts/ulsteinvik/pump-1"
    assert claims.claim(pump, "pi-02") is Claim.OPEN
    assert claims.owners == {}
    claims.settle()
    assert claims.claim(pump, "pi-02") is Claim.OWN


async def test_a_broker_that_has_forgotten_the_owners_is_told_again(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """After a restart without persistence a new historian still hears who owns what."""
    plant = configuration(tmp_path, broker.url)
    pump, first = Machine(plant, "pump-1"), agent(tmp_path, broker, "pi-01")
    heard: list[bytes] = []
    async with historian(plant, tmp_path) as one, first.running():
        await pump.scan(first)
        await eventually(lambda: first.unconfirmed == 0)
        broker.stop(signal.SIGKILL)
        broker.start()
        await eventually(lambda: one.client.connections == 2)
        async with sending(broker) as client:
            client.subscribe(TOPIC.replace("readings", "owner"), lambda m: heard.append(m.payload))
            await eventually(lambda: bool(heard))
    assert json.loads(heard[0]) == {"agent": "pi-01"}


async def test_an_owner_of_whom_nothing_is_heard_gives_way(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retained owner whose agent has no status any more must not hold up its successor for ever."""
    monkeypatch.setattr("edge_agent.historian.claims.UNHEARD", 0.3)
    plant = configuration(tmp_path, broker.url)
    client = MqttClient(broker.settings(), "past")
    async with client:
        await client.wait_connected(5)
        owner = b'{"agent": "pi-00"}'
        await client.publish(TOPIC.replace("readings", "owner"), owner, retain=True)
        for junk in (b"", b"\xff", b"[]", b'{"agent": 5}', b'{"agent": ""}'):
            await client.publish("fjord-parts/ulsteinvik/fan/owner", junk, retain=bool(junk))
    pump, successor = Machine(plant, "pump-1"), agent(tmp_path, broker, "pi-01")
    async with historian(plant, tmp_path) as one, successor.running():
        assert one.intake.claims.claim("fjord-parts/ulsteinvik/pump-1", "pi-01") is Claim.OPEN
        await pump.scan(successor)
        await eventually(lambda: successor.unconfirmed == 0)
        assert one.intake.claims.owners == {"fjord-parts/ulsteinvik/pump-1": "pi-01"}


# --- types


@contextlib.asynccontextmanager
async def sending(broker: Mosquitto) -> AsyncIterator[MqttClient]:
    client = MqttClient(broker.settings(), "sender")
    async with client:
        await client.wait_connected(5)
        yield client


async def test_a_conflicting_field_costs_only_itself_whoever_stores_it(
    broker: Mosquitto, tmp_path: Path, influxd: Influxd
) -> None:
    """Two historians with ledgers of their own and one InfluxDB 1.6.7: the rest of each line is stored.

    One that starts again knows the types from its file; one that is new learns them from the server.
    """
    more: dict[str, Any] = {
        "historian": {"kind": "influxdb", "api": "v1", "url": influxd.url, "database": "types"}
    }
    plant = configuration(tmp_path, broker.url, **more)
    head = "readings,enterprise=fjord-parts,site=ulsteinvik,machine=pump-1"

    async def send(client: MqttClient, seqs: range, fields: str) -> None:
        for seq in seqs:
            line = f"{head} {fields},b={seq} {START + seq}"
            await client.publish(TOPIC, lp.header("pi-09", seq, backlog=False) + f"\n{line}".encode())

    async with sending(broker) as client:
        async with historian(plant, tmp_path / "1", instance=1) as one:
            await send(client, range(1, 2), "a=1.5")
            await eventually(lambda: one.intake.messages == 1)
            assert await one.drained(10)
        # the first has restarted, the second is new
        async with (
            historian(plant, tmp_path / "1", instance=1) as one,
            historian(plant, tmp_path / "2", instance=2) as two,
        ):
            await send(client, range(2, 22), 'a="text"')
            await eventually(lambda: one.intake.messages + two.intake.messages >= 20)
            for each in (one, two):
                assert await each.drained(10)
                assert each.intake.messages > 0
                kept = await each.journal.quarantined()
                assert len(kept) == each.intake.messages
                assert all("readings.a is string, stored as float" in row.reason for row in kept)
    stored = in_influx(influxd, "types")
    assert {(field, ns - START) for _, field, ns in stored} == {("b", n) for n in range(1, 22)} | {("a", 1)}


# --- hostile senders


def mutated(message: bytes, dice: random.Random) -> bytes:
    """The message with a few bytes changed, cut out, doubled or put in."""
    content = bytearray(message)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(content) + 1)
        match dice.randrange(5):
            case 0:
                content[place:place] = dice.randbytes(dice.randint(1, 8))
            case 1:
                del content[place : place + dice.randint(1, 20)]
            case 2:
                content[place : place + 1] = dice.choice(
                    [b",", b"=", b" ", b"\n", b"\\", b'"', b"#", b"i", b"\0"]
                )
            case 3:
                content[place:place] = content[: dice.randint(1, 30)]
            case _:
                content[place:place] = dice.choice(
                    [
                        b"1e999",
                        b"nan",
                        "٣".encode(),
                        b"9" * 400,
                        b"machine=x",
                        b"\nalarms,machine=",
                        b"\xed\xa0\x80",
                    ]
                )
    return bytes(content)


async def test_ten_thousand_hostile_messages(broker: Mosquitto, tmp_path: Path, caplog: Any) -> None:
    """Random and mutated ones are dropped whole and counted, or are the machine's own; no exception."""
    dice = random.Random(20)
    plant = configuration(tmp_path, broker.url)
    good = readings(
        "pump-1", more=b'\nreadings,enterprise=fjord-parts,site=ulsteinvik,machine=pump-1 b="x",c=1i 2'
    )
    total = 10_000
    async with historian(plant, tmp_path) as one, sending(broker) as client:
        waiting: set[asyncio.Future[None]] = set()
        for number in range(total):
            payload = dice.randbytes(dice.randint(0, 200)) if number % 5 == 0 else mutated(good, dice)
            waiting.add(asyncio.ensure_future(client.publish(TOPIC, payload)))
            if len(waiting) == 100:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
        await eventually(lambda: one.intake.messages == total, 20)
        assert await one.drained(20)
        dropped = one.intake.dropped.total()
        assert set(one.intake.dropped) <= {"malformed", "wrong_machine", "claimed"}
        assert dropped > total / 2
        await client.publish(TOPIC, good)
        await eventually(lambda: one.intake.messages == total + 1)
        assert await one.drained(10)
        with History(one.history) as history:
            for measurement in history.measurements():
                for point in history.points(measurement):
                    assert point.tags["machine"] == "pump-1"
                    assert (point.tags["enterprise"], point.tags["site"]) == ("fjord-parts", "ulsteinvik")
            assert history.range("pump-1", "b", 2, 3) == [(2, "x")]
    assert "Traceback" not in caplog.text
    assert "exception" not in caplog.text.lower()
