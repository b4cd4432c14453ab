"""Warnings about the plant as a whole: width and number of series, false alarms, hours of buffer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from edge_agent.contracts.settings import MachineSettings
from edge_agent.settings.models import Configuration
from edge_agent.settings.nodes import MapNode, Place
from edge_agent.settings.problems import Problem, at
from edge_agent.settings.report import Summary

MOST_FIELDS = 150
"""Fields of one measurement: InfluxDB 3 advises against wide tables, and ends at 200 to 500 columns."""
MOST_SERIES = 50_000
"""Series that InfluxDB 1.x and 2 hold in memory without trouble on a small host."""
MOST_FALSE_ALARMS = 52.2
"""Once a week is as often as people still look."""
LEAST_HOURS = 24.0


def of_plant(root: MapNode, configuration: Configuration, summary: Summary) -> Iterator[Problem]:
    """The warnings of a configuration without errors."""
    machines = root.entries["machines"].key.place if "machines" in root.entries else root.place
    yield from _fields(root, configuration)
    if summary.series > MOST_SERIES:
        message = f"about {summary.series} series in the historian"
        yield at(machines, "W315", message, "leave out tags that nobody looks at, or share the machines out")
    if summary.false_alarms_per_year > MOST_FALSE_ALARMS:
        message = (
            f"{summary.false_alarms_per_year:.0f} false alarms a year are budgeted, more than one a week"
        )
        hint = "write defaults: {all: {health: {false_alarms: 1 per year}}}"
        yield at(machines, "W316", message, hint)
    if summary.buffer_hours < LEAST_HOURS:
        message = f"the buffer lasts {summary.buffer_hours:.1f} hours without broker"
        yield at(
            _of_buffer(root, summary), "W317", message, f"raise {summary.buffer_limit}, or read less often"
        )


def _of_buffer(root: MapNode, summary: Summary) -> Place:
    node = root.get("buffer")
    if isinstance(node, MapNode) and summary.buffer_limit in node.entries:
        return node.entries[summary.buffer_limit].key.place
    return root.entries["buffer"].key.place if "buffer" in root.entries else root.place


def _fields(root: MapNode, configuration: Configuration) -> Iterator[Problem]:
    """A warning for each measurement that is too wide, at the machine that makes it so."""
    seen: dict[str, set[str]] = defaultdict(set)
    told: set[str] = set()
    for name, machine in configuration.machines.items():
        fields = seen[machine.measurement]
        fields.update(fields_of(machine))
        if len(fields) > MOST_FIELDS and machine.measurement not in told:
            told.add(machine.measurement)
            entry = root.get("machines")
            place = entry.entries[name].key.place if isinstance(entry, MapNode) else root.place
            message = f"more than {MOST_FIELDS} fields in the measurement '{machine.measurement}'"
            yield at(place, "W314", message, "give machines of one kind their own: measurement: NAME")


def fields_of(machine: MachineSettings) -> Iterator[str]:
    """The fields that a machine's readings have."""
    yield from machine.points
