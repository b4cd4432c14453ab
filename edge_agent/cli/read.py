"""`edge-agent read`: one scan, shown."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from edge_agent import registry
from edge_agent.cli.agents import read_through
from edge_agent.cli.plan import show_plan
from edge_agent.clock import Clock
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import ConfigError
from edge_agent.pipeline.readout import Readout, read_directly, refusals
from edge_agent.settings.load import require
from edge_agent.settings.models import Configuration
from edge_agent.settings.report import watchdogs
from edge_agent.settings.state import state_folder
from edge_agent.types import Reason


def read(config: Path, machine: str | None, *, json_output: bool, plan: bool = False) -> int:
    """Read every tag of the machines (or one) once; 0, 1 with bad tags, 75 with unreachable machines.

    With `plan` nothing is read: the requests it would take are shown.
    """
    configuration = require(config)
    wanted = _wanted(configuration, machine)
    if plan:
        return show_plan(wanted, json_output=json_output)
    state = state_folder(configuration)
    results = read_through(state, wanted)
    if results:
        print(f"read through the running agent: {', '.join(results)}", file=sys.stderr)
    alone = {name: settings for name, settings in wanted.items() if name not in results}
    results |= asyncio.run(_read_all(alone, state / "agent")) if alone else {}
    results = {name: results[name] for name in wanted}
    if json_output:
        print(json.dumps({name: result["tags"] for name, result in results.items()}, ensure_ascii=False))
    else:
        _show(results)
    for watchdog in watchdogs(wanted):
        print(watchdog, file=sys.stderr)
    for name, result in results.items():
        if told := result["error"] or refusals(wanted[name], result["tags"]):
            print(f"{name}: {told}", file=sys.stderr)
    if any(result["error"] for result in results.values()):
        return 75
    cells = [cell for result in results.values() for cell in result["tags"].values()]
    return 1 if any(_is_bad(cell) for cell in cells) else 0


def _is_bad(cell: dict[str, Any]) -> bool:
    # A rate needs a second scan: that one scan has none is nothing wrong.
    return bool(cell["quality"] == "bad" and cell["reason"] != Reason.WAITING_FOR_INITIAL_DATA)


def _wanted(configuration: Configuration, machine: str | None) -> dict[str, MachineSettings]:
    if machine is None:
        return dict(configuration.machines)
    if machine not in configuration.machines:
        known = ", ".join(configuration.machines)
        raise ConfigError([f"there is no machine '{machine}' in the configuration; there is {known}"])
    return {machine: configuration.machines[machine]}


async def _read_all(machines: dict[str, MachineSettings], state: Path) -> dict[str, dict[str, Any]]:
    async def one(name: str, settings: MachineSettings) -> tuple[str, Readout, str]:
        readout, error = await read_directly(registry.driver(settings.driver)(name, settings, Clock(), state))
        return name, readout, error.removeprefix(f"machine {name}: ")

    results = await asyncio.gather(*(one(name, settings) for name, settings in machines.items()))
    return {name: {"tags": readout, "error": error} for name, readout, error in results}


def _show(results: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for name, result in results.items():
        table = Table(title=name, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for column in ("tag", "raw", "value", "unit", "quality", "ms"):
            table.add_column(
                column, justify="right" if column in ("value", "ms") else "left", overflow="fold"
            )
        for tag, cell in result["tags"].items():
            quality = cell["quality"] + (f" ({cell['reason']})" if cell["reason"] else "")
            style = {"bad": "red", "uncertain": "yellow"}.get(cell["quality"], "")
            table.add_row(
                tag, cell["raw"] or "", _text(cell["value"]), cell["unit"] or "", quality, _text(cell["ms"]),
                style=style,
            )  # fmt: skip
        console.print(table)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
