"""YAML files -> a checked Configuration, or every problem there is, each at its place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_agent import registry
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.settings import (
    advice,
    connections,
    crosscheck,
    defaults,
    notyet,
    profiles,
    shape,
    similar,
)
from edge_agent.settings.models import SCAN_CLASSES, Configuration
from edge_agent.settings.nodes import Entry, MapNode, Place, plain, text_of
from edge_agent.settings.problems import Problem, at, closest, did_you_mean, in_order
from edge_agent.settings.secrets import Secrets
from edge_agent.settings.sources import Sources
from edge_agent.settings.state import state_folder
from edge_agent.settings.translate import translate
from edge_agent.settings.wording import found

_UNCERTAIN = frozenset({"E106", "E107", "E204", "E208", "W305", "W306", "W307", "W309"})
"""Problems that may only come from lines that could not be read."""


@dataclass(slots=True)
class Loaded:
    """What came out of loading: a configuration where no problem is an error, and all problems in order."""

    configuration: Configuration | None
    problems: list[Problem]
    lines: Mapping[str, list[str]] = field(default_factory=dict, repr=False)
    """The lines of the files that were read, by name, for showing problems in them."""
    root: MapNode | None = field(default=None, repr=False)
    """The tree the configuration was made from."""

    @property
    def errors(self) -> list[Problem]:
        """The problems that keep the configuration from being used."""
        return [problem for problem in self.problems if problem.severity == "error"]

    def place(self, *keys: str) -> Place | None:
        """Where the last of these keys stands, as in `place("machines", "pump-1", "url")`."""
        node = self.root.get(*keys[:-1]) if self.root is not None else None
        entry = node.entries.get(keys[-1]) if isinstance(node, MapNode) else None
        return entry.key.place if entry else None


def load(path: Path | str, *, env: Mapping[str, str] = os.environ) -> Loaded:
    """Read `path` and what it includes; never raises for what is wrong with the files."""
    path = Path(path)
    sources = Sources()
    root = sources.read(path)
    if root is None:
        return Loaded(None, in_order(sources.problems), sources.lines)
    origins = similar.Origins()
    similar.expand(root, sources, origins, chosen=True)
    brought = profiles.merge(root, sources)
    below, shared = defaults.merge(root)
    brought += below
    origins.shared |= shared
    similar.expand(root, sources, origins)
    build = _Build(root, Secrets(path.parent, env))
    configuration = build.run()
    problems = [*sources.problems, *brought, *build.problems]
    if sources.repaired:
        kept = (p for p in build.problems if _certain(p, sources.mended))
        problems = [*sources.problems, *brought, *kept]
    problems = origins.once(problems)
    if any(problem.severity == "error" for problem in problems):
        configuration = None
    return Loaded(configuration, in_order(problems), sources.lines, root)


def require(path: Path | str, *, env: Mapping[str, str] = os.environ) -> Configuration:
    """The configuration of `path`. ConfigError with the text of every error where it has any."""
    loaded = load(path, env=env)
    if loaded.configuration is None:
        raise ConfigError([str(problem) for problem in loaded.errors])
    return loaded.configuration


def _likeliest(node: MapNode) -> type[MachineSettings]:
    """The model that knows most keys of a machine without a driver and of its tags, so that the rest of it is
    checked."""
    models = [registry.driver_settings(name) for name in registry.driver_names()]
    return max(models, key=lambda model: _known(node, model))


def _known(node: MapNode, model: type[MachineSettings]) -> int:
    """How many keys of a machine and of its tags a model knows."""
    count = len(node.entries.keys() & set(shape.keys(model)))
    tags = node.get("tags")
    if isinstance(tags, MapNode):
        of_tags = {key for below in shape.models_at(model, ["tags", "*"]) for key in shape.keys(below)}
        below = [entry.value for entry in tags.entries.values() if isinstance(entry.value, MapNode)]
        count += sum(len(tag.entries.keys() & of_tags) for tag in below)
    return count


def _certain(problem: Problem, mended: Set[tuple[str, int]]) -> bool:
    """Whether a problem stands although other lines could not be read."""
    return problem.code not in _UNCERTAIN and (problem.file, problem.line) not in mended


class _Build:
    """One configuration in the making."""

    def __init__(self, root: MapNode, secrets: Secrets) -> None:
        self.root = root
        self.secrets = secrets
        self.problems: list[Problem] = []
        self.machines: dict[str, MachineSettings] = {}
        self.scan_classes: dict[str, Any] = dict(SCAN_CLASSES)

    def run(self) -> Configuration | None:
        self.problems += notyet.refuse(self.root)
        top = self._top()
        for name, entry, node in self.root.mappings("machines"):
            self._machine(name, entry, node)
        self.problems += self.secrets.problems
        self.problems += crosscheck.of_machines(self.root)
        self.problems += connections.of_lines(self.root, self.machines)
        self.problems += crosscheck.of_fields(self.root, self.machines)
        state = state_folder(top) / "agent" if top else None
        self.problems += advice.of_machines(self.root, self.machines, state)
        if top is None:
            return None
        self.problems += crosscheck.of_plant(self.root, top)
        return top.model_copy(update={"machines": self.machines})

    def _top(self) -> Configuration | None:
        """All but the machines."""
        without = MapNode(self.root.place)
        without.entries = {key: entry for key, entry in self.root.entries.items() if key != "machines"}
        self.secrets.fill(without, shape.secret_keys(Configuration))
        raw = plain(without)
        if isinstance(raw.get("scan_classes"), dict):
            self.scan_classes |= raw["scan_classes"]
        self._shape_of_machines()
        try:
            return Configuration.model_validate(raw)
        except ValidationError as error:
            self.problems += translate(error, without, Configuration, self.root.place)
            return None

    def _shape_of_machines(self) -> None:
        machines = self.root.get("machines")
        if isinstance(machines, MapNode):
            for name, entry in machines.entries.items():
                if not isinstance(entry.value, MapNode):
                    message = f"machine '{name}' is a mapping (key: value), not {found(entry.value)}"
                    self.problems.append(
                        at(entry.key.place, "E107", message, "indent its keys below its name")
                    )
        elif machines is not None and found(machines) != "nothing":
            message = f"'machines' is a mapping (name: settings), not {found(machines)}"
            self.problems.append(at(machines.place, "E107", message, "write the machine's name and a colon"))

    def _machine(self, name: str, entry: Entry, node: MapNode) -> None:
        model = self._model(entry, node)
        if model is None:
            return
        self.secrets.fill(node, shape.secret_keys(model))
        raw = plain(node)
        self._resolve_scan(raw, node)
        tags = node.get("tags")
        if isinstance(tags, MapNode) and isinstance(raw.get("tags"), dict):
            raw["tags"] = {key: plain(below.value) for key, below in tags.entries.items()}
            for key, below in tags.entries.items():
                if isinstance(below.value, MapNode):
                    self._resolve_scan(raw["tags"][key], below.value)
        try:
            self.machines[name] = model.model_validate(raw)
        except ValidationError as error:
            self.problems += translate(error, node, model, entry.key.place)

    def _model(self, entry: Entry, node: MapNode) -> type[MachineSettings] | None:
        driver = node.get("driver")
        name = text_of(driver)
        if name is None:
            return _likeliest(node)
        try:
            return registry.driver_settings(name)
        except registry.UnknownKind:
            known = registry.driver_names()
            hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
            place = driver.place if driver else entry.key.place
            self.problems.append(at(place, "E118", f"unknown driver '{name}'", hint))
            meant = closest(name, known)
            return registry.driver_settings(meant) if meant else None
        except EdgeAgentError as error:
            self.problems.append(at(entry.key.place, "E118", f"driver '{name}' cannot be used: {error}"))
            return None

    def _resolve_scan(self, raw: dict[str | int, Any], node: MapNode) -> None:
        """`scan: fast` -> `every: 250ms`; a wrong rate is said where the class is defined."""
        scan = node.get("scan")
        name = text_of(scan)
        if scan is None or name is None or "every" in raw:
            return
        del raw["scan"]
        if name in self.scan_classes:
            rate = self.scan_classes[name]
            raw["every"] = f"{rate}s" if isinstance(rate, float) else rate
            return
        names = sorted(map(str, self.scan_classes))
        hint = did_you_mean(name, names) or f"there are {', '.join(names)}"
        self.problems.append(at(scan.place, "E119", f"unknown scan class '{name}'", hint))
