"""What a configuration will cost: load of each connection, hours of buffer, false alarms a year.

Estimates from the settings alone, with the assumptions named: good enough to see a bus that is 143 % full
before it is built, not to size a disk to the megabyte.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from edge_agent.contracts.settings import CommWatchdog, MachineSettings, TagSettings
from edge_agent.settings.models import Configuration
from edge_agent.units import format_duration

ANSWER_SECONDS = 0.02
"""What one request is taken to last on a connection: PLCs answer within 5 to 50 ms."""
FRAME_BYTES = 20
"""On a serial line, what a request and its answer are beside the values, with the silences around them."""
COMPRESSION = 4.0
"""How much smaller line protocol is in the journal; measured 4 to 6."""
ROW_BYTES = 90
"""One journal row beside its lines: header, checksum, page share."""
VALUE_BYTES = 7
"""A value with its = and comma."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy one connection will be."""

    connection: str
    machines: tuple[str, ...]
    requests_per_second: float
    busy: float
    """Share of the time in which a request is on the way; 1 and more cannot work."""
    serial: bool = False
    """Whether the time that the bytes take is counted too."""

    def __str__(self) -> str:
        names = ", ".join(self.machines[:3]) + (", ..." if len(self.machines) > 3 else "")
        return (
            f"{self.connection} ({names}): {self.requests_per_second:.3g} requests/s, "
            f"{self.busy:.0%} full at {ANSWER_SECONDS * 1000:.0f} ms each"
            + (" and the time of their bytes" if self.serial else "")
        )


@dataclass(frozen=True, slots=True)
class Watchdog:
    """A machine whose communication watchdog is known, for the engineer to confirm."""

    machine: str
    settings: CommWatchdog

    def __str__(self) -> str:
        return f"{self.machine}: communication watchdog: {self.settings.sentence()}"


@dataclass(frozen=True, slots=True)
class Summary:
    """What `check` tells about a configuration that it accepts."""

    machines: int
    tags: int
    values_per_second: float
    loads: tuple[Load, ...]
    buffer_hours: float
    buffer_limit: str
    """What ends the buffer first: max_size or max_age."""
    false_alarms_per_year: float
    watchdogs: tuple[Watchdog, ...] = ()
    series: int = 0
    """Series in the historian: a machine's readings, the quality of each tag, and each alarm."""

    def lines(self) -> list[str]:
        """The summary in short lines."""
        false_alarms = self.false_alarms_per_year
        machines, tags = counted(self.machines, "machine"), counted(self.tags, "tag")
        return [
            f"{machines}, {tags}, {self.values_per_second:.3g} values/s",
            *(str(load) for load in self.loads),
            f"buffer: {_hours(self.buffer_hours)} without broker ({self.buffer_limit})",
            f"false alarms: about {false_alarms:.3g} a year are budgeted for the plant",
            f"historian: about {self.series} series",
            *(str(watchdog) for watchdog in self.watchdogs),
        ]

    def to_json(self) -> dict[str, Any]:
        """The summary as a JSON object."""
        return {
            "machines": self.machines,
            "tags": self.tags,
            "values_per_second": round(self.values_per_second, 3),
            "connections": [
                {
                    "connection": load.connection,
                    "machines": list(load.machines),
                    "requests_per_second": round(load.requests_per_second, 3),
                    "busy": round(load.busy, 4),
                }
                for load in self.loads
            ],
            "series": self.series,
            "buffer_hours": round(self.buffer_hours, 1),
            "false_alarms_per_year": round(self.false_alarms_per_year, 2),
            "comm_watchdogs": [
                {
                    "machine": watchdog.machine,
                    "text": watchdog.settings.text,
                    "parameter": watchdog.settings.parameter,
                    "timeout": watchdog.settings.timeout,
                    "disable": watchdog.settings.disable,
                }
                for watchdog in self.watchdogs
            ],
        }


def summarize(configuration: Configuration) -> Summary:
    """All figures of a configuration."""
    machines = configuration.machines
    hours, limit = buffer_hours(configuration)
    return Summary(
        machines=len(machines),
        tags=sum(len(machine.tags) for machine in machines.values()),
        values_per_second=sum(1 / rate for m in machines.values() for _, rate in _rates(m)),
        loads=tuple(loads(configuration)),
        buffer_hours=hours,
        buffer_limit=limit,
        false_alarms_per_year=false_alarms_per_year(configuration),
        watchdogs=watchdogs(configuration.machines),
        series=sum(map(_series, machines.values())),
    )


def _series(machine: MachineSettings) -> int:
    limits = [tag.limits for tag in machine.points.values() if tag.limits is not None]
    alarms = sum(getattr(limit, name) is not None for limit in limits for name in limit.NAMES)
    alarms += sum(tag.alarm is not None for tag in machine.points.values())
    # Its health and its connection are alarms of every machine.
    return 1 + len(machine.points) + alarms + 2


def watchdogs(machines: Mapping[str, MachineSettings]) -> tuple[Watchdog, ...]:
    """The machines that do something when nobody talks to them."""
    return tuple(
        Watchdog(name, machine.comm_watchdog)
        for name, machine in machines.items()
        if machine.comm_watchdog is not None
    )


def false_alarms_per_year(configuration: Configuration) -> float:
    """The false alerts a year that all machines together are allowed."""
    judged = (machine.health for machine in configuration.machines.values() if machine.health is not False)
    return sum(health.false_alarms for health in judged) * 365.25


def buffer_hours(configuration: Configuration) -> tuple[float, str]:
    """Hours that the journal bridges at the configured rates, and which setting ends it."""
    by_age = configuration.buffer.max_age / 3600
    rate = bytes_per_second(configuration)
    if rate <= 0:
        return by_age, "max_age"
    by_size = configuration.buffer.max_size / rate / 3600
    return (by_size, "max_size") if by_size < by_age else (by_age, "max_age")


def bytes_per_second(configuration: Configuration) -> float:
    """Bytes that the journal grows by each second while nothing is taken out."""
    total = 0.0
    commit = configuration.buffer.commit_interval
    for name, machine in configuration.machines.items():
        head = sum(len(f",{level}={value}") for level, value in configuration.levels(name).items()) + 40
        rates: dict[float, int] = defaultdict(int)
        for tag, rate in _rates(machine):
            rates[rate] += len(tag) + VALUE_BYTES
        for rate, size in rates.items():
            total += (head + len(name) + size) / rate / COMPRESSION
        if rates:
            total += ROW_BYTES / max(commit, min(rates))
    return total


def loads(configuration: Configuration) -> Iterator[Load]:
    """The load of each connection that is polled; subscriptions cost what changes, and are left out."""
    by_connection: dict[str, list[tuple[str, MachineSettings]]] = defaultdict(list)
    for name, machine in configuration.machines.items():
        if getattr(machine, "mode", "poll") == "poll":
            by_connection[_connection(machine.url)].append((name, machine))
    for connection, members in by_connection.items():
        asked = [(machine, *entry) for _, machine in members for entry in _requests(machine)]
        requests = sum(rate for _, rate, _ in asked)
        busy = sum(
            rate * (ANSWER_SECONDS + _pause(machine) + FRAME_BYTES * machine.byte_time)
            + size * machine.byte_time
            for machine, rate, size in asked
        )
        serial = any(machine.byte_time for _, machine in members)
        if requests:
            yield Load(connection, tuple(name for name, _ in members), requests, busy, serial)


def _connection(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "rtu":
        return parts.path
    return parts.netloc.rpartition("@")[2] or url


def _pause(machine: MachineSettings) -> float:
    return float(getattr(getattr(machine, "comm", None), "pause", 0.0))


def _rates(machine: MachineSettings) -> Iterator[tuple[str, float]]:
    for name, tag in machine.tags.items():
        if isinstance(tag, TagSettings):
            yield name, machine.rate_of(tag)


def _requests(machine: MachineSettings) -> Iterator[tuple[float, float]]:
    """Requests a second, and bytes of values a second, by scan rate."""
    traffic = machine.traffic()
    if traffic is None:
        # Such a driver reads all tags of one rate with one request.
        traffic = dict.fromkeys((rate for _, rate in _rates(machine)), (1, 0))
    yield from ((requests / rate, size / rate) for rate, (requests, size) in traffic.items())


def counted(number: int, word: str) -> str:
    """`1 machine`, `2 machines`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _hours(hours: float) -> str:
    return format_duration(round(hours) * 3600.0) if hours < 72 else f"{hours / 24:.0f} days"
