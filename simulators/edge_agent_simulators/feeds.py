"""What the servers serve: a plant of machines that lives in simulated time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_agent_simulators.image import RegisterImage
from edge_agent_simulators.instruments import Reading
from edge_agent_simulators.machine import Incident, Machine
from edge_agent_simulators.machine_yaml import HEALTH, node_name, tag_settings
from edge_agent_simulators.register_map import load_map
from edge_agent_simulators.scenario import Plant, Scenario, grid_step

_MOST_STEPS = 2000
"""Steps in one go: about 0.1 s, after which the servers must be able to answer again."""


class Feed(ABC):
    """Something that is different at each moment of simulated time.

    `images` are the Modbus units, `nodes` the machines on OPC UA.
    """

    images: Mapping[int, RegisterImage]
    nodes: Sequence[Machine]
    about: str

    @abstractmethod
    def refresh(self, t: float) -> None:
        """Bring the images to `t`, seconds since the start."""

    @abstractmethod
    def instant(self) -> float:
        """The moment that the images show, in seconds since the start."""

    @abstractmethod
    def machines(self, modbus: str | None, opcua: str | None) -> dict[str, dict[str, Any]]:
        """The `machines:` of an agent's YAML, with these URLs."""


class PlantFeed(Feed):
    """The machines of a scenario; those on Modbus as register images."""

    def __init__(self, scenario: Scenario, seed: int, speed: float) -> None:
        self.about = scenario.about
        self.scenario = scenario
        self.plant = Plant(scenario, seed, grid_step(speed))
        places = [(machine, scenario.machines[machine.name]) for machine in self.plant.machines]
        self.nodes = [machine for machine, place in places if place.serve == "opcua"]
        self.images = {place.unit_id: RegisterImage() for _, place in places if place.serve == "modbus"}
        self._writers: list[tuple[Machine, Callable[[Sequence[Reading]], None]]] = [
            (machine, load_map(machine.model).bind(self.images[place.unit_id], machine.names))
            for machine, place in places
            if place.serve == "modbus"
        ]
        self._publish()

    def watch(self, incidents: Callable[[Incident], None]) -> None:
        """Have every onset and breakdown reported."""
        self.plant.watch(incidents)

    def refresh(self, t: float) -> None:
        """Move the physics to the last grid point before `t`, or nearer to it where that is far."""
        if self.plant.advance(t, _MOST_STEPS):
            self._publish()

    def instant(self) -> float:
        """The grid point that the images show."""
        return self.plant.t

    def _publish(self) -> None:
        for machine, write in self._writers:
            write(machine.values)

    def machines(self, modbus: str | None, opcua: str | None) -> dict[str, dict[str, Any]]:
        """The `machines:` of an agent's YAML."""
        return {machine.name: self._machine(machine, modbus, opcua) for machine in self.plant.machines}

    def _machine(self, machine: Machine, modbus: str | None, opcua: str | None) -> dict[str, Any]:
        place = self.scenario.machines[machine.name]
        said: dict[str, Any] = {"label": place.label} if place.label else {}
        if place.serve == "modbus":
            said |= {"driver": "modbus", "url": modbus, "unit_id": place.unit_id, "every": "1s"}
            said["tags"] = tag_settings(machine, load_map(machine.model))
        else:
            said |= {"driver": "opcua", "url": opcua, "mode": "subscribe", "every": "500ms"}
            said["tags"] = tag_settings(machine, None)
        return {**said, "health": dict(HEALTH[machine.model])}


def node_values(machine: Machine, before: dict[str, Reading]) -> dict[str, Reading]:
    """The nodes of a machine whose values are not those of `before`, which is brought up to date."""
    changed: dict[str, Reading] = {}
    for name, value in zip(machine.names, machine.values, strict=True):
        if name not in before or before[name] != value:
            before[name] = value
            changed[f"{machine.name}.{node_name(name)}"] = value
    return changed
