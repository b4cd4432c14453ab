"""`edge-agent read --plan`: the requests that reading takes, without touching a device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from edge_agent import registry
from edge_agent.clock import Clock
from edge_agent.contracts.plugs import PlannedRequest
from edge_agent.contracts.settings import MachineSettings
from edge_agent.units import format_duration


def show_plan(machines: Mapping[str, MachineSettings], *, json_output: bool) -> int:
    """Print the plan of each machine; 0."""
    plans = {
        name: registry.driver(settings.driver)(name, settings, Clock()).requests()
        for name, settings in machines.items()
    }
    if json_output:
        print(json.dumps({name: _document(plan) for name, plan in plans.items()}, ensure_ascii=False))
    else:
        for name, plan in plans.items():
            _print(name, plan)
    return 0


def _document(plan: Sequence[PlannedRequest]) -> dict[str, Any]:
    """One machine's plan as a JSON object."""
    return {
        "requests_per_second": _per_second(plan, lambda _: 1.0),
        "addresses_per_second": _per_second(plan, lambda request: request.addresses),
        "wasted_per_second": _per_second(plan, lambda request: request.wasted),
        "line_busy": _busy(plan),
        "cycles": [_cycle(every, list(members)) for every, members in groupby(plan, lambda one: one.every)],
    }


def _cycle(every: float, members: Sequence[PlannedRequest]) -> dict[str, Any]:
    return {
        "every": every,
        "requests": len(members),
        "addresses": sum(one.addresses for one in members),
        "wasted": sum(one.wasted for one in members),
        "seconds": _seconds(members),
        "blocks": [
            {
                "request": one.what,
                "addresses": one.addresses,
                "wasted": one.wasted,
                "seconds": one.seconds,
                "tags": list(one.tags),
            }
            for one in members
        ],
    }


def _per_second(plan: Sequence[PlannedRequest], what: Callable[[PlannedRequest], float]) -> float:
    return round(sum(what(one) / one.every for one in plan), 6)


def _seconds(members: Sequence[PlannedRequest]) -> float | None:
    """How long they take on the line; None where its speed is not known."""
    times = [one.seconds for one in members if one.seconds is not None]
    return round(sum(times), 6) if members and len(times) == len(members) else None


def _busy(plan: Sequence[PlannedRequest]) -> float | None:
    if _seconds(plan) is None:
        return None
    return _per_second(plan, lambda request: request.seconds or 0.0)


def _print(name: str, plan: Sequence[PlannedRequest]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not plan:
        console.print(f"{name}: nothing to plan: it is asked for all of a scan rate at once, or only heard")
        return
    table = Table(title=name, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in ("every", "request", "read", "wasted", "ms", "tags"):
        right = column in ("read", "wasted", "ms")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for one in plan:
        ms = "-" if one.seconds is None else f"{one.seconds * 1000:.1f}"
        table.add_row(
            format_duration(one.every), one.what, str(one.addresses), str(one.wasted), ms,
            ", ".join(one.tags), style="yellow" if one.wasted else "",
        )  # fmt: skip
    console.print(table)
    for line in _totals(plan):
        console.print(f"  {line}")


def _totals(plan: Sequence[PlannedRequest]) -> list[str]:
    """What it comes to, in short lines."""
    document = _document(plan)
    lines = [
        f"every {format_duration(cycle['every'])}: {cycle['requests']} requests, "
        f"{cycle['addresses']} addresses, {cycle['wasted']} of them wasted" + _on_the_line(cycle["seconds"])
        for cycle in document["cycles"]
    ]
    busy = document["line_busy"]
    share = "" if busy is None else f", the line is {busy:.0%} busy, without the time the device thinks"
    lines.append(
        f"a second: {document['requests_per_second']:.3g} requests, "
        f"{document['addresses_per_second']:.3g} addresses, {document['wasted_per_second']:.3g} wasted{share}"
    )
    return lines


def _on_the_line(seconds: float | None) -> str:
    return "" if seconds is None else f", {seconds * 1000:.1f} ms on the line"
