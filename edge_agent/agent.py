"""The composition root: a configuration becomes objects, and the objects one TaskGroup. Nobody imports this
but the commands and the demo.

The order of life: journal, broker and sink, historian, alarms from before the restart, machines, web,
watchdog. It ends backwards, so that the last readings still find their way out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from edge_agent import __version__, control
from edge_agent.alarms.store import AlarmStore, retired
from edge_agent.buffer import Delivery, Journal, forward
from edge_agent.clock import Clock
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import ConfigError, told
from edge_agent.pipeline.clockgate import ClockTrust
from edge_agent.pipeline.machine import MachineLine, Shared
from edge_agent.pipeline.observer import Observer, Observers
from edge_agent.pipeline.outlets import Board, Place
from edge_agent.pipeline.questions import Questions
from edge_agent.pipeline.tap import Taps
from edge_agent.pipeline.vitals import PipelineVitals
from edge_agent.settings.models import Configuration, WebSettings
from edge_agent.settings.state import state_folder
from edge_agent.types import Alert
from edge_agent.vitals import BufferLevel, Vitals, sd_notify

log = logging.getLogger(__name__)

SINK_SILENCE = 180.0
"""Seconds without a try, with rows waiting, after which the sink's loop counts as stuck."""


class Agent:
    """Runs one configuration.

    `observers` see the pipeline at work; `drain` is how long, in seconds, the end waits for the journal to
    empty: what is left stays on disk for the next start.
    """

    def __init__(
        self,
        configuration: Configuration,
        clock: Clock | None = None,
        *,
        observers: Sequence[Observer] = (),
        drain: float = 2.0,
    ) -> None:
        self.configuration = configuration
        self.clock = clock or Clock()
        self.folder = state_folder(configuration)
        self.vitals = Vitals(self.clock, __version__)
        self.lines: dict[str, MachineLine] = {}
        self.journal = Journal(
            self.folder / "agent" / "journal.db", self.clock, configuration.buffer, readers=["mqtt"]
        )
        self._pipeline_vitals = PipelineVitals(self.vitals)
        self._taps = Taps()
        self._observer = Observers([self._pipeline_vitals, self._taps, *observers])
        self._drain = drain

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set. EdgeAgentError where the agent cannot start or a part of it fails."""
        try:
            async with asyncio.TaskGroup() as group, contextlib.AsyncExitStack() as stack:
                await self._start(group, stack)
                sd_notify(f"READY=1\nSTATUS={self.vitals.status()}")
                log.info("%s", self._started_text())
                await stop.wait()
                sd_notify("STOPPING=1")
        except BaseExceptionGroup as failures:
            raise told(failures) from failures

    async def _start(self, group: asyncio.TaskGroup, stack: contextlib.AsyncExitStack) -> None:
        """Start every part; the stack ends them in reverse order."""
        self._trust = await asyncio.to_thread(ClockTrust, self.clock, self.journal.path)
        await stack.enter_async_context(self.journal)
        self._watch_journal()
        board = await self._start_delivery(group, stack)
        await self._start_historian(group, stack)
        web = await self._open_web(stack)
        await self._start_machines(group, stack, board)
        await self._start_web(group, stack, web)
        await stack.enter_async_context(
            _background(group, self.vitals.watchdog.run(sd_notify, self.vitals.status), "watchdog")
        )
        questions = Questions(self.lines, self._taps)
        commands = {"read": questions.read, "device": questions.device}
        streams = {"tap": questions.tap}
        await stack.enter_async_context(control.serve(control.socket_path(self.folder), commands, streams))

    def _started_text(self) -> str:
        machines = ", ".join(self.lines) or "no machine"
        risk = self.configuration.buffer.commit_interval
        return (
            f"edge-agent {__version__} reads {machines}; state in {self.folder}; "
            f"a power cut risks the last {risk:g} s of readings"
        )

    # --- the journal and the way out of it

    def _watch_journal(self) -> None:
        limit = self.configuration.buffer.max_size

        def level() -> BufferLevel:
            stats = self.journal.stats()
            return BufferLevel(stats.bytes, limit, stats.rows, stats.oldest)

        self.vitals.buffer = level

    async def _start_delivery(self, group: asyncio.TaskGroup, stack: contextlib.AsyncExitStack) -> Board:
        from edge_agent.sinks.mqtt import MqttSink

        settings = self.configuration.mqtt
        if settings.url == "embedded":
            from edge_agent.mqtt.embedded import EmbeddedBroker

            broker = EmbeddedBroker()
            await broker.start()
            stack.push_async_callback(broker.stop)
            settings = broker.settings(settings)
        self.mqtt = settings
        sink = MqttSink(self.configuration, self.clock, mqtt=settings)
        sink.start()
        stack.push_async_callback(sink.close)
        delivery = Delivery(sink.name)
        self._pipeline_vitals.watch_delivery(delivery, self.journal, SINK_SILENCE)
        delivering = forward(
            self.journal,
            self.journal.reader("mqtt"),
            sink,
            delivery,
            on_delivered=self._pipeline_vitals.delivered,
            backlog_rate=self.configuration.buffer.backlog_rate,
        )
        await stack.enter_async_context(_background(group, delivering, "forward:mqtt"))
        return sink

    async def _start_historian(self, group: asyncio.TaskGroup, stack: contextlib.AsyncExitStack) -> None:
        settings = self.configuration.historian
        if settings.kind == "none" or settings.where == "elsewhere":
            return
        from edge_agent.historian import Historian, instance_number

        number = await asyncio.to_thread(instance_number, self.folder)
        historian = Historian(self.configuration, self.clock, self.folder, instance=number, mqtt=self.mqtt)
        self._pipeline_vitals.watch_delivery(historian.delivery, historian.journal, SINK_SILENCE)
        self._pipeline_vitals.watch_intake(historian.intake.dropped)
        await stack.enter_async_context(_background(group, historian.run(), "historian"))
        stack.push_async_callback(historian.drained, self._drain)

    # --- the machines

    async def _start_machines(
        self, group: asyncio.TaskGroup, stack: contextlib.AsyncExitStack, board: Board
    ) -> None:
        worker = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="health"))
        store = await self._open_alarms(stack)
        shared = Shared(
            clock=self.clock,
            journal=self.journal,
            board=board,
            record=store.save,
            worker=worker,
            models=self.folder / "agent" / "models",
            observer=self._observer,
            tag_topics=self.configuration.mqtt.payload in ("json", "both"),
            trust=self._trust,
            hold=self.configuration.clock.unsynced == "hold",
        )
        stored = await asyncio.to_thread(store.load)
        stack.push_async_callback(self._empty_journal)
        for name, settings in self.configuration.machines.items():
            if not settings.tags:
                log.warning("%s has no tags: it is not read", name)
                continue
            line = self.lines[name] = self._line(name, settings, shared)
            line.restore([alert for alert in stored if alert.machine == name])
            board.retain(f"{line.place.topic}/meta", line.meta(settings.fingerprint))
            self._pipeline_vitals.watch_machine(line)
            await stack.enter_async_context(_background(group, line.run(), f"machine:{name}"))
        self._retire(stored, board, store)

    async def _open_alarms(self, stack: contextlib.AsyncExitStack) -> AlarmStore:
        store = await asyncio.to_thread(AlarmStore, self.folder / "agent" / "alarms.db")
        stack.push_async_callback(asyncio.to_thread, store.close)
        if store.notice:
            log.warning("%s", store.notice)
        return store

    def _retire(self, stored: Sequence[Alert], board: Board, store: AlarmStore) -> None:
        """Clear the states of conditions that the configuration no longer has."""
        now = self.clock.now()
        gone = retired(stored, lambda m, i: m in self.lines and self.lines[m].claims(i), now)
        store.save(gone, now)
        for alert in gone:
            board.retain(f"{Place(alert.machine, self.configuration.levels()).topic}/alarms/{alert.id}", b"")

    def _line(self, name: str, settings: MachineSettings, shared: Shared) -> MachineLine:
        return MachineLine(name, settings, Place(name, self.configuration.levels(name)), shared)

    async def _empty_journal(self) -> None:
        """The machines have ended: commit what they left, and give the sink a moment to take it."""
        await self.journal.flush()
        end = asyncio.get_running_loop().time() + self._drain
        while self.journal.stats().rows and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
            await self.journal.flush()  # an acknowledgement counts when it is committed
        if left := self.journal.stats().rows:
            log.info("%d records are not delivered yet; they are kept for the next start", left)

    # --- what others may ask

    async def _open_web(self, stack: contextlib.AsyncExitStack) -> socket.socket | None:
        """The listening socket, before anything else starts: a taken port is known at once."""
        settings = self.configuration.web
        if not isinstance(settings, WebSettings):
            return None
        from edge_agent.web.server import listen

        channel = await asyncio.to_thread(listen, *settings.address)
        stack.callback(channel.close)
        return channel

    async def _start_web(
        self, group: asyncio.TaskGroup, stack: contextlib.AsyncExitStack, channel: socket.socket | None
    ) -> None:
        if channel is None:
            return
        from edge_agent.web.app import create_app
        from edge_agent.web.server import serve_on

        app = create_app(self.vitals, self.vitals.readiness)
        await stack.enter_async_context(_background(group, serve_on(app, channel), "web"))


class HistorianProcess:
    """The historian alone, on any host."""

    def __init__(self, configuration: Configuration, instance: int | None = None) -> None:
        self._configuration = configuration
        self._instance = instance
        self._vitals = Vitals(Clock(), __version__)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set. EdgeAgentError where it cannot start."""
        from edge_agent.historian import Historian, instance_number

        if self._configuration.historian.kind == "none":
            raise ConfigError(["historian.kind is none: there is nothing to run"])
        if self._configuration.mqtt.url == "embedded":
            raise ConfigError(
                ["mqtt.url is embedded: that broker is only for the agent it lives in; name one"]
            )
        folder = state_folder(self._configuration)
        number = self._instance
        if number is None:
            number = await asyncio.to_thread(instance_number, folder)
        historian = Historian(self._configuration, Clock(), folder, instance=number)
        watch = PipelineVitals(self._vitals)
        watch.watch_delivery(historian.delivery, historian.journal, SINK_SILENCE)
        watch.watch_intake(historian.intake.dropped)
        try:
            async with asyncio.TaskGroup() as group, contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(_background(group, historian.run(), "historian"))
                watchdog = self._vitals.watchdog.run(sd_notify, self._status(historian.delivery))
                await stack.enter_async_context(_background(group, watchdog, "watchdog"))
                sd_notify("READY=1")
                await stop.wait()
                sd_notify("STOPPING=1")
        except BaseExceptionGroup as failures:
            raise told(failures) from failures

    @staticmethod
    def _status(delivery: Delivery) -> Callable[[], str]:
        return lambda: f"{delivery.delivered_records} records stored, {delivery.error or delivery.state}"


@contextlib.asynccontextmanager
async def _background(
    group: asyncio.TaskGroup, work: Coroutine[Any, Any, None], name: str
) -> AsyncIterator[None]:
    """Run `work` beside the rest; its failure ends everything, the context's end ends it."""
    task = group.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
