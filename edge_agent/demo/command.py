"""`edge-agent demo`: broker, simulators, agent and historian together, for about a minute."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from edge_agent.agent import Agent
from edge_agent.clock import SECOND, SimulatedClock, parse_iso
from edge_agent.demo import broker, plant
from edge_agent.demo.ledger import Ledger
from edge_agent.demo.result import Result
from edge_agent.demo.screen import Screen
from edge_agent.demo.truth import first_failure, read_events
from edge_agent.errors import ConfigError, EdgeAgentError, told
from edge_agent.historian import History
from edge_agent.pipeline.observer import Observer
from edge_agent.settings.load import require
from edge_agent.settings.models import Configuration, MqttSettings
from edge_agent.types import AlarmState, Alert

SCENARIO = "demo"
START = "2026-03-02T00:00:00Z"
"""A Monday, as in the scenario."""
DAYS = 20.0
"""Simulated days from the start to a little after the breakdown."""
DRAIN = 10.0
RESERVE = 6.0
"""Seconds of the ceiling that are kept for starting the agent, draining and the result."""
AFTERMATH = 0.3
"""Seconds of wall time that the demo goes on after the breakdown."""


FRAME = 0.25
"""Seconds between two pictures of the screen."""


class _Raised(Observer):
    """Keeps the alerts that were raised."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def alert(self, alert: Alert) -> None:
        """Keep an alert when it is raised, not when it changes later."""
        known = any(
            (one.machine, one.id, one.occurrence) == (alert.machine, alert.id, alert.occurrence)
            for one in self.alerts
        )
        if alert.active and alert.state is AlarmState.UNACKNOWLEDGED and not known:
            self.alerts.append(alert)


def demo(
    headless: bool,
    seconds: int,
    json_output: bool,
    seed: int,
    truth: Path | None,
    served: Path | None,
    state: Path | None,
) -> int:
    """Run the demo; 0 where the failing machine was warned of before it failed, else 1."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    # The embedded broker reports being stopped with Ctrl-C as an error of its own.
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = state or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-agent-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        run = _Demo(folder, seconds, seed, truth or folder / "truth.jsonl", served, headless, started)
        result = asyncio.run(run.run())
    if json_output:
        print(json.dumps(result.as_json(), ensure_ascii=False))
    else:
        _say_result(result)
    return 0 if result.warning is not None else 1


def _say_result(result: Result) -> None:
    from rich.console import Console

    console = Console()
    console.print()
    for sentence in result.in_words():
        console.print(sentence, markup=False, highlight=False)
    first = {alert.machine: alert for alert in reversed(result.maintenance)}
    for alert in first.values():
        console.print(f"{alert.machine}: {alert.message}", style="bold", markup=False, highlight=False)


def _progress(text: str) -> None:
    print(f"edge-agent demo: {text}", file=sys.stderr, flush=True)


async def _stop_in_time(agent: Agent, stop: asyncio.Event) -> None:
    """Run the agent; once it is told to stop it gets its draining time and a little more."""
    running = asyncio.create_task(agent.run(stop), name="agent")
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    try:
        async with asyncio.timeout(2 * DRAIN + 5):
            await running
    except TimeoutError as error:
        raise EdgeAgentError("the agent did not stop when it was told to") from error


class _Demo:
    """One run of the demo in `folder`, at most `seconds` of wall time after `started` (monotonic)."""

    def __init__(
        self,
        folder: Path,
        seconds: int,
        seed: int,
        truth: Path,
        served: Path | None,
        headless: bool,
        started: float,
    ) -> None:
        self._folder = folder
        self._end = started + seconds
        self._seed = seed
        self._truth = truth
        self._served = served
        self._headless = headless
        self._started = started

    async def run(self) -> Result:
        """Start everything, watch until the breakdown or the ceiling, stop, and count."""
        self._truth.unlink(missing_ok=True)
        configuration = require(Path(str(resources.files("edge_agent.demo") / "demo.yaml")))
        async with self._broker() as mqtt:
            _progress("starting the simulated machines (Modbus TCP and OPC UA servers)")
            machines = await plant.start(SCENARIO, self._seed, self._truth, self._served)
            try:
                return await self._watch(self._configured(configuration, mqtt, machines), machines)
            finally:
                await machines.stop()

    @contextlib.asynccontextmanager
    async def _broker(self) -> AsyncIterator[MqttSettings]:
        if programs := broker.find_mosquitto():
            async with broker.mosquitto(programs, self._folder / "broker") as settings:
                yield settings
            return
        if find_spec("amqtt") is None:
            raise ConfigError(
                [
                    "the demo needs a broker: install the embedded one (pip install 'edge-agent[demo]'), "
                    "or mosquitto (sudo apt-get install mosquitto)"
                ]
            )
        # Inside the agent, as `mqtt.url: embedded` has it.
        yield MqttSettings(url="embedded")

    def _configured(self, base: Configuration, mqtt: MqttSettings, machines: plant.Plant) -> Configuration:
        """The bundled configuration with this run's addresses and folder."""
        urls = {"modbus": f"tcp://127.0.0.1:{machines.modbus_port}", "opcua": machines.opcua_url}
        placed = {
            name: settings.model_copy(update={"url": urls[settings.driver]})
            for name, settings in base.machines.items()
        }
        return base.model_copy(update={"state": self._folder, "mqtt": mqtt, "machines": placed})

    async def _watch(self, configuration: Configuration, machines: plant.Plant) -> Result:
        left = self._end - time.monotonic() - RESERVE
        epoch = parse_iso(START)
        clock = SimulatedClock(epoch, time.monotonic_ns(), DAYS * 86_400 / max(left, 10.0))
        ledger, raised = Ledger(), _Raised()
        agent: Agent
        screen = Screen(clock, epoch, lambda: self._footer(agent, ledger))
        agent = Agent(configuration, clock, observers=[ledger, raised, screen], drain=DRAIN)
        stop = asyncio.Event()
        _progress(f"{DAYS:.0f} simulated days in {left:.0f} s, {clock.rate / 3600:.0f} hours a second")
        machines.go(clock)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_stop_in_time(agent, stop))
                group.create_task(self._end_of_story(stop))
                if not self._headless:
                    group.create_task(self._draw(screen, agent, stop))
        except BaseExceptionGroup as failures:
            raise told(failures) from failures
        events = await asyncio.to_thread(read_events, self._truth)
        return Result(
            readings=ledger.readings,
            lost=await asyncio.to_thread(self._count_lost, ledger),
            machines=tuple(configuration.machines),
            alerts=raised.alerts,
            failure=first_failure(events),
            simulated_s=(clock.now() - epoch) / SECOND,
            wall_s=time.monotonic() - self._started,
        )

    def _count_lost(self, ledger: Ledger) -> int:
        with History(self._folder / "historian" / "history.db") as history:
            return ledger.lost(history.identities)

    async def _end_of_story(self, stop: asyncio.Event) -> None:
        """Set `stop` a moment after the first breakdown, or when the ceiling is near."""
        while time.monotonic() < self._end - RESERVE / 2:
            if first_failure(await asyncio.to_thread(read_events, self._truth)) is not None:
                await asyncio.sleep(AFTERMATH)
                break
            await asyncio.sleep(0.1)
        stop.set()

    @staticmethod
    async def _draw(screen: Screen, agent: Agent, stop: asyncio.Event) -> None:
        from rich.live import Live

        while not agent.lines and not stop.is_set():
            await asyncio.sleep(0.02)
        for name, line in agent.lines.items():
            screen.add(name, line.settings, line.tags)
        with Live(auto_refresh=False, screen=True) as live:
            while not stop.is_set():
                # Laying out a screen takes tens of milliseconds, which is simulated time: so in a thread.
                await asyncio.to_thread(live.update, screen.render(live.console.width), refresh=True)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FRAME):
                        await stop.wait()

    @staticmethod
    def _footer(agent: Agent, ledger: Ledger) -> str:
        stats = agent.journal.stats()
        tags = [machine.good_now for machine in agent.vitals.machines.values()]
        return (
            f"{sum(tags)} tags good · {ledger.readings} values committed to the journal · "
            f"{stats.rows} records on their way over MQTT to the historian"
        )
