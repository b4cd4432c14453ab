"""`edge-agent buffer`: the journals and their quarantine, through the running agent where one runs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_agent import control
from edge_agent.buffer import Journal
from edge_agent.buffer.glance import glance
from edge_agent.buffer.journal import NEWEST
from edge_agent.clock import SECOND, Clock
from edge_agent.errors import ConfigError
from edge_agent.pipeline.bufferdesk import PAGE, entry, figures, medium, settle
from edge_agent.settings.load import require
from edge_agent.settings.models import Configuration
from edge_agent.settings.state import state_folder

READERS = {"agent": "mqtt", "historian": "store"}
"""Journals of a state folder, and who reads them."""


def show(config: Path, *, json_output: bool) -> int:
    """Fill, oldest row, hours left, bytes written a day, losses and quarantine of each journal."""
    configuration = require(config)
    answer = _ask(configuration, {"do": "show"}) or _shown(configuration)
    if json_output:
        print(json.dumps(answer, ensure_ascii=False))
        return 0
    if not answer["journals"]:
        print(f"nothing has been kept in {state_folder(configuration)} yet")
    for name, journal in answer["journals"].items():
        _print(name, journal, running=answer["running"])
    return 0


def list_entries(config: Path, of: str, *, json_output: bool) -> int:
    """What is in quarantine, the newest first."""
    found = list(_entries(require(config), of))
    if json_output:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    for one in found:
        lines = one["lines"].split("\n")
        print(f"{one['id']}  {one['at']}  {one['machine']}  {len(lines)} lines  {one['reason']}")
        print(f"    {lines[0][:160]}")
    print(f"{len(found)} entries in quarantine", file=sys.stderr)
    return 0


def export(config: Path, of: str, to: Path | None) -> int:
    """The lines in quarantine as line protocol, each entry after a comment that says why it is there."""
    text = "".join(
        f"# {one['at']} {one['machine']} {json.dumps(one['reason'])}\n{one['lines']}\n"
        for one in _entries(require(config), of)
    )
    if to is None:
        sys.stdout.write(text)
    else:
        to.write_text(text)
    return 0


def change(config: Path, of: str, do: str, ids: list[int] | None) -> int:
    """Try entries again (`retry`) or give them up (`drop`): those named, or all."""
    configuration = require(config)
    answer = _ask(configuration, {"do": do, "of": of, "ids": ids})
    count = answer["entries"] if answer is not None else asyncio.run(_change(configuration, of, do, ids))
    print(f"{count} entries {'are in the journal again' if do == 'retry' else 'were given up'}")
    return 0 if count or ids is None else 1


# --- through the agent, or from the file


def _ask(configuration: Configuration, request: dict[str, Any]) -> Any | None:
    """The running agent's answer; None where none runs on this state folder."""
    state = state_folder(configuration)
    for path in control.sockets(state):
        answer = control.ask(path, {"command": "buffer", "state": str(state.absolute()), **request})
        if answer is not None:
            return answer
    return None


def _path(configuration: Configuration, of: str) -> Path:
    return state_folder(configuration) / of / "journal.db"


def _shown(configuration: Configuration) -> dict[str, Any]:
    shown = {}
    for name in READERS:
        path = _path(configuration, name)
        if not path.exists():
            continue
        with glance(path) as journal:
            found = journal.figures()
        span = ((found.newest or 0) - (found.oldest or 0)) / SECOND
        rate = found.packed / span if span > 0 else None
        oldest = None if found.oldest is None else (time.time_ns() - found.oldest) / SECOND
        shown[name] = {
            **figures(path, found.bytes, configuration.buffer.max_size, rate),
            "medium_bytes": medium(path),
            "rows": found.rows,
            "oldest_seconds": oldest,
            "written_per_day": None,
            "dropped": found.dropped,
            "quarantined": found.quarantined,
            "error": None,
        }
    return {"running": False, "journals": shown}


def _entries(configuration: Configuration, of: str) -> Iterator[dict[str, Any]]:
    """Every entry of a journal's quarantine, a page at a time."""
    before = NEWEST
    while page := _page(configuration, of, before):
        yield from page
        before = int(page[-1]["id"])


def _page(configuration: Configuration, of: str, before: int) -> list[dict[str, Any]]:
    answer = _ask(configuration, {"do": "list", "of": of, "before": before})
    if answer is not None:
        return list(answer)
    with glance(_path(configuration, of)) as journal:
        return [entry(one) for one in journal.quarantine(PAGE, before)]


async def _change(configuration: Configuration, of: str, do: str, ids: list[int] | None) -> int:
    path = _path(configuration, of)
    if not path.exists():
        raise ConfigError([f"{path} is not there: nothing has been kept yet, or `state:` is another folder"])
    async with Journal(path, Clock(), configuration.buffer, readers=[READERS[of]]) as journal:
        return await settle(journal, do, ids)


# --- in words


def _print(name: str, journal: dict[str, Any], *, running: bool) -> None:
    oldest, left, written = journal["oldest_seconds"], journal["hours_left"], journal["written_per_day"]
    print(f"{name}: {journal['path']}")
    print(f"  fill         {journal['fill']:.1%} of {_size(journal['max_bytes'])}, {journal['rows']} rows")
    print(f"  oldest row   {'none waits' if oldest is None else f'{oldest:.0f} s ago'}")
    at_rate = "at the rate since the start" if running else "at the rate of the rows in it"
    print(f"  time left    {'not known' if left is None else f'{left:g} h {at_rate}, if nobody takes them'}")
    if written is None:
        print("  written      not known: no agent runs")
    else:
        share = written / journal["medium_bytes"]
        whole = _size(journal["medium_bytes"])
        print(f"  written      {_size(written)} a day, {share:.2%} of the medium ({whole})")
    lost = ", ".join(f"{count} {reason}" for reason, count in journal["dropped"].items()) or "nothing"
    print(f"  lost         {lost}")
    print(f"  quarantine   {journal['quarantined']} entries")
    if journal["error"]:
        print(f"  trouble      {journal['error']}")


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"
