"""One run of the `simulate` command: servers, the tick of simulated time, logs, and a clean end."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.clock import SECOND, SimulatedClock, iso
from edge_agent.errors import EdgeAgentError, TemporaryError
from edge_agent.types import Value
from edge_agent_simulators.feeds import Feed, PlantFeed, node_values
from edge_agent_simulators.instruments import Reading
from edge_agent_simulators.logs import JsonLines, TruthLog
from edge_agent_simulators.machine_yaml import machine_lines, node_name
from edge_agent_simulators.modbus_server import ModbusServer
from edge_agent_simulators.terminal import say, show

if TYPE_CHECKING:
    from edge_agent_simulators.opcua_server import OpcuaServer

DEFAULT_MODBUS, DEFAULT_OPCUA = 5020, 4840
_SLOWEST_TICK = 0.2
_OPCUA_TICK = 0.05
_FASTEST_TICK = 0.02


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for; ports: None is the default, 0 any free one."""

    host: str
    port_modbus: int | None
    port_opcua: int | None
    speed: float
    truth: Path | None
    served: Path | None
    json_output: bool
    wait: bool
    chaos: float | None = None
    """About how many seconds from one misdeed of the OPC UA server to the next; None for none."""
    seed: int = 1


class Session:
    """Serves a feed until it is told to end."""

    def __init__(self, feed: Feed, options: Options, start: int) -> None:
        self._feed = feed
        self._options = options
        self._start = start
        self._clock: SimulatedClock | None = None
        self._modbus: ModbusServer | None = None
        self._opcua: OpcuaServer | None = None
        self._served = JsonLines(options.served) if options.served else None
        self._truth = TruthLog(options.truth, start) if options.truth else None
        self._shown: dict[str, dict[str, Reading]] = {machine.name: {} for machine in feed.nodes}
        if self._truth is not None and isinstance(feed, PlantFeed):
            feed.watch(self._truth.add)

    async def run(self, now: int) -> int:
        """Listen, announce, and go on until a signal (or the end of stdin in wait mode); the exit code.

        `now` is UTC ns at which simulated time begins to run, unless the parent says.
        """
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        try:
            async with AsyncExitStack() as stack:
                await self._listen(stack)
                await self._publish()
                if not self._options.wait:
                    self._begin(SimulatedClock(now, time.monotonic_ns(), self._options.speed))
                self._announce()
                await self._live(stack, ended)
        except ExceptionGroup as group:
            raise _first(group) from None
        finally:
            for log in (self._served, self._truth):
                if log is not None:
                    log.close()
        return 0

    async def _live(self, stack: AsyncExitStack, ended: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._tick(), name="simulated time"),
                group.create_task(self._keep_flushing(), name="logs"),
            ]
            if self._options.chaos is not None:
                tasks.append(group.create_task(self._misbehave(self._options.chaos), name="chaos"))
            if self._options.wait:
                tasks.append(group.create_task(self._follow_parent(stack, ended), name="parent"))
            await ended.wait()
            for task in tasks:
                task.cancel()

    async def _misbehave(self, every: float) -> None:
        if self._opcua is None:
            raise EdgeAgentError("--chaos is for OPC UA: name a scenario with such a machine, as press")
        from edge_agent_simulators.opcua_chaos import Chaos

        await Chaos(self._opcua.running, every, self._options.seed, say).run()

    async def _listen(self, stack: AsyncExitStack) -> None:
        options = self._options
        if self._feed.images:
            port = _port(options.port_modbus, DEFAULT_MODBUS, options.wait)
            server = ModbusServer(self._feed.images, host=options.host, port=port)
            server.before_read = self._refresh
            if self._served is not None:
                server.on_read = self._log_read
            async with _naming("--port-modbus", port):
                self._modbus = await stack.enter_async_context(server)
        if self._feed.nodes:
            say("starting the OPC UA server, which takes a few seconds ...")
            await self._listen_opcua(stack, _port(options.port_opcua, DEFAULT_OPCUA, options.wait))

    async def _listen_opcua(self, stack: AsyncExitStack, port: int) -> None:
        # Imported here: asyncua costs 40 MB, and a Modbus scenario never needs it.
        from edge_agent_simulators.opcua_server import OpcuaNode, OpcuaServer

        logging.getLogger("asyncua").setLevel(logging.ERROR)
        nodes = [
            OpcuaNode(
                f"{machine.name}.{node_name(signal.name)}",
                signal.type,
                signal.unit,
                signal.range,
                signal.label,
            )
            for machine in self._feed.nodes
            for signal in (*machine.signals, *machine.states)
        ]
        server = OpcuaServer(nodes, host=self._options.host, port=port, source_is_server_time=True)
        if self._served is not None:
            server.on_write = self._log_write
        async with _naming("--port-opcua", port):
            self._opcua = await stack.enter_async_context(server)

    async def _follow_parent(self, stack: AsyncExitStack, ended: asyncio.Event) -> None:
        """Take `EPOCH_NS ORIGIN_MONOTONIC_NS [SPEED]` from stdin; its end means that the parent is gone."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        stack.callback(pipe.close)
        while line := await reader.readline():
            if self._clock is not None or not line.strip():
                continue
            try:
                epoch, origin, *speed = line.split()
                clock = SimulatedClock(int(epoch), int(origin), float(*speed or (self._options.speed,)))
            except (ValueError, TypeError):
                raise EdgeAgentError(
                    f"expected EPOCH_NS ORIGIN_MONOTONIC_NS [SPEED] on standard input, got {line!r}"
                ) from None
            # The parent's epoch is the scenario's start, whatever date the scenario says.
            self._start = clock.epoch
            self._begin(clock)
        ended.set()

    def _begin(self, clock: SimulatedClock) -> None:
        self._clock = clock
        if self._truth is not None:
            self._truth.epoch = self._start

    async def _tick(self) -> None:
        """Bring everything up to date, in real time at every grid point, faster every 20 ms."""
        every = max(_FASTEST_TICK, min(_SLOWEST_TICK, 10.0 / self._options.speed))
        due = 0.0
        while True:
            await asyncio.sleep(every)
            self._refresh()
            if (now := time.monotonic()) >= due:
                due = now + _OPCUA_TICK - every / 2
                await self._publish()

    def _refresh(self) -> None:
        if self._clock is not None:
            self._feed.refresh((self._clock.now() - self._start) / SECOND)

    async def _publish(self) -> None:
        """Put the values that changed into their nodes."""
        if self._opcua is None:
            return
        moment = self._start + round(self._feed.instant() * SECOND)
        for machine in self._feed.nodes:
            changed = node_values(machine, self._shown[machine.name])
            if changed:
                await self._opcua.write(changed, moment)

    async def _keep_flushing(self) -> None:
        while self._served is not None:
            await asyncio.sleep(0.5)
            self._served.flush()

    def _log_read(self, unit: int, function: int, address: int, raw: bytes) -> None:
        if self._served is None:
            return
        now = self._clock.now() if self._clock is not None else self._start
        if function < 3:
            what: dict[str, Any] = {"bits": list(raw)}
        else:
            what = {"words": [raw[at] << 8 | raw[at + 1] for at in range(0, len(raw), 2)]}
        self._served.add({"t": now, "unit": unit, "function": function, "address": address, **what})

    def _log_write(self, node: str, value: Value | None, source: int) -> None:
        if self._served is not None:
            self._served.add({"t": source, "node": node, "value": value})

    def _announce(self) -> None:
        """Say where everything is: one JSON line, or YAML to paste."""
        modbus = f"tcp://{self._options.host}:{self._modbus.port}" if self._modbus else None
        opcua = self._opcua.url if self._opcua else None
        machines = self._feed.machines(modbus, opcua)
        if self._options.wait or self._options.json_output:
            said = {
                "ready": True,
                "modbus": self._modbus.port if self._modbus else None,
                "opcua": opcua,
                "start": iso(self._start),
                "start_ns": self._start,
                "speed": self._options.speed,
                "machines": machines,
            }
            show(json.dumps(said, ensure_ascii=False))
        else:
            show("\n".join(_yaml(machines)))
            say("with a line `site: NAME` above it, that is a whole agent.yaml")
        say(f"{self._feed.about}; {self._options.speed:g} times real time; stop with Ctrl-C")


def _yaml(machines: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["machines:"]
    for name, said in machines.items():
        settings = {key: value for key, value in said.items() if key not in ("tags", "health")}
        lines += machine_lines(name, settings, said["tags"], said.get("health"))
    return lines


def _port(asked: int | None, default: int, wait: bool) -> int:
    if asked is not None:
        return asked
    return 0 if wait else default


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of tasks: it is what ended the others."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


@asynccontextmanager
async def _naming(option: str, port: int) -> AsyncIterator[None]:
    """Turns a port that is taken into a message that names the option."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise TemporaryError(
                f"port {port} is taken: choose another with {option}, or 0 for any free one"
            ) from error
        if error.errno == errno.EACCES:
            raise TemporaryError(
                f"port {port} needs privileges: choose one above 1023 with {option}"
            ) from error
        raise TemporaryError(f"cannot listen on port {port} ({option}): {error.strerror}") from error
