"""kind -> class, imported only when it is asked for.

A built-in table of strings, then entry points (groups `edge_agent.drivers`, `edge_agent.detectors`,
`edge_agent.commands`), so that a Modbus-only agent never loads asyncua, and a third party's driver looks just
like ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from edge_agent.contracts.plugs import Detector, Driver
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import EdgeAgentError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from pydantic import BaseModel

DRIVERS: Mapping[str, tuple[str, str]] = {
    "modbus": (
        "edge_agent_drivers.modbus.settings:ModbusMachine",
        "edge_agent_drivers.modbus.driver:ModbusDriver",
    ),
    "opcua": (
        "edge_agent_drivers.opcua.settings:OpcuaMachine",
        "edge_agent_drivers.opcua.driver:OpcuaDriver",
    ),
}
"""Driver name -> (its settings model, which loads no protocol library; the driver itself)."""

PROFILES: Mapping[str, tuple[str, str]] = {
    "modbus": ("edge_agent_drivers.modbus.profile:Profile", "edge_agent_drivers:profiles"),
}
"""Driver name -> (the model of its device profiles; package and folder with those that are bundled)."""

DETECTORS: Mapping[str, str] = {"ensemble": "edge_agent_models.ensemble:EnsembleDetector"}

COMMANDS: Mapping[str, str] = {
    "simulate": "edge_agent_simulators.command:simulate",
    "opcua enrol": "edge_agent_drivers.opcua.enrol:enrol",
}
"""What the bays bring to the command line."""

RUL: Mapping[str, str] = {
    "fit": "edge_agent_models.rul.command:fit",
    "predict": "edge_agent_models.rul.command:predict",
}
"""Remaining useful life: training (in a worker process, which alone loads scikit-learn) and prediction."""

INQUIRIES: Mapping[str, tuple[str, str]] = {
    "probe": ("modbus", "edge_agent_drivers.modbus.probe:probe"),
    "scan modbus": ("modbus", "edge_agent_drivers.modbus.survey:survey"),
    "browse opcua": ("opcua", "edge_agent_drivers.opcua.tree:browse"),
}
"""Commands that put questions to one device: name -> (its driver, the bay's function).

`async def inquiry(ask: Ask, device: str, **options) -> int`: `device` says for people where it is, and the
exit code comes back. The same questions go through a running agent's driver or one made for the command.
"""


class UnknownKind(EdgeAgentError):
    """Nothing of that name is installed."""


def load(reference: str) -> Any:
    """The object behind `package.module:name`."""
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.split(".")[0].startswith("edge_agent"):
            raise EdgeAgentError(
                f"{missing.name} is not installed: run `make setup`, or `pip install -e .` in the checkout"
            ) from missing
        raise


def _entry_points(group: str) -> dict[str, str]:
    # Imported when needed: it brings zipfile, csv and email, and most agents use built-in drivers only.
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=group)}


def _lookup(table: Mapping[str, Any], group: str, what: str, kind: str) -> Any:
    if kind in table:
        return table[kind]
    points = _entry_points(group)
    if kind in points:
        return points[kind]
    import difflib

    known = sorted({*table, *points})
    close = difflib.get_close_matches(kind, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise UnknownKind(f"{what} '{kind}' is not installed; {hint}installed: {', '.join(known)}")


def driver_names() -> list[str]:
    """Every driver that can be named in YAML."""
    return sorted({*DRIVERS, *_entry_points("edge_agent.drivers")})


def driver_settings(kind: str) -> type[MachineSettings]:
    """The settings model of a driver. UnknownKind with a suggestion where there is none."""
    entry = _lookup(DRIVERS, "edge_agent.drivers", "driver", kind)
    return cast("type[MachineSettings]", load(entry[0]) if isinstance(entry, tuple) else load(entry).Settings)


def driver(kind: str) -> type[Driver]:
    """The driver class of that name. UnknownKind with a suggestion where there is none."""
    entry = _lookup(DRIVERS, "edge_agent.drivers", "driver", kind)
    return cast("type[Driver]", load(entry[1] if isinstance(entry, tuple) else entry))


def profile_model(driver: str) -> type[BaseModel]:
    """What a device profile of that driver (a key of `PROFILES`) may say."""
    return cast("type[BaseModel]", load(PROFILES[driver][0]))


def profile_names(driver: str) -> list[str]:
    """The bundled device profiles of a driver; none where it has none."""
    folder = _profile_folder(driver)
    names = [file.name for file in folder.iterdir()] if folder else []
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def profile_text(driver: str, name: str) -> str:
    """The YAML of a bundled profile, whose name `profile_names` gave."""
    folder = _profile_folder(driver)
    if folder is None:
        raise UnknownKind(f"driver '{driver}' has no device profiles")
    return folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def _profile_folder(driver: str) -> Traversable | None:
    # Imported when needed, as few machines have a profile and it brings zipfile and tempfile.
    from importlib.resources import files

    if driver not in PROFILES:
        return None
    package, _, folder = PROFILES[driver][1].partition(":")
    return files(package).joinpath(folder)


def detector(kind: str) -> type[Detector]:
    """The detector class of that name. UnknownKind with a suggestion where there is none."""
    return cast("type[Detector]", load(_lookup(DETECTORS, "edge_agent.detectors", "detector", kind)))


def inquiry(name: str) -> tuple[str, Callable[..., Awaitable[int]]]:
    """The driver and the function of a command that puts questions to a device."""
    kind, reference = INQUIRIES[name]
    return kind, cast("Callable[..., Awaitable[int]]", load(reference))


def rul(name: str) -> Callable[..., Any]:
    """The models' function behind `rul NAME`."""
    return cast("Callable[..., Any]", load(RUL[name]))


def command(name: str) -> Callable[..., int]:
    """A command a bay brings: a function of the parsed options that returns the exit code."""
    return cast("Callable[..., int]", load(_lookup(COMMANDS, "edge_agent.commands", "command", name)))
