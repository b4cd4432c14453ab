"""`edge-agent tap`: live samples from the running agent, as it reads them; the devices are not asked."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_agent import control
from edge_agent.errors import TemporaryError
from edge_agent.settings.load import require
from edge_agent.settings.state import state_folder

_DULL, _RED, _YELLOW, _PLAIN = "\033[2m", "\033[31m", "\033[33m", "\033[0m"


def tap(config: Path, machines: Sequence[str], *, json_output: bool, seconds: float | None) -> int:
    """Show every batch of the machines (all of them, where none is named) until stopped or for `seconds`.

    TemporaryError where no agent runs, or it ends meanwhile.
    """
    batches = _opened(config, machines, seconds)
    end = float("inf") if seconds is None else time.monotonic() + seconds
    seen = 0
    try:
        for batch in batches:
            seen += 1
            print(json.dumps(batch, ensure_ascii=False) if json_output else _line(batch), flush=True)
    except KeyboardInterrupt:
        # The way to end it.
        return 0
    if time.monotonic() < end - 0.1:
        raise TemporaryError("the agent has ended")
    if not seen:
        print(f"nothing came within {seconds:g} s", file=sys.stderr)
    return 0


def _opened(config: Path, machines: Sequence[str], seconds: float | None) -> Iterator[Any]:
    state = state_folder(require(config))
    for path in control.sockets(state):
        batches = control.watch(path, {"command": "tap", "machines": list(machines)}, seconds)
        if batches is not None:
            return batches
    raise TemporaryError(
        f"no agent runs with its state in {state}: start it with `edge-agent run -c {config}`, "
        f"or read once with `edge-agent read -c {config}`"
    )


def _line(batch: Mapping[str, Any]) -> str:
    """One scan: time, machine, and each tag with value and unit, or why it has none."""
    colours = sys.stdout.isatty()
    moment = datetime.fromtimestamp(batch["t"] / 1000, UTC).astimezone()
    clock = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"
    start = f"{clock} {batch['machine']}"
    cells = [_cell(name, cell) for name, cell in batch["tags"].items()]
    if batch["dropped"]:
        cells.append((f"({batch['dropped']} dropped so far)", _YELLOW))
    if not colours:
        return "  ".join([start, *(text for text, _ in cells)])
    return _fitted(start, cells, shutil.get_terminal_size().columns)


def _fitted(start: str, cells: Sequence[tuple[str, str]], width: int) -> str:
    """The cells behind the start, with line breaks between cells only."""
    shown, used = [f"{_DULL}{start}{_PLAIN}"], len(start)
    for text, colour in cells:
        if used + 2 + len(text) >= width:
            shown.append("\n" + " " * 12)
            used = 12
        shown.append(f"  {colour}{text}{_PLAIN if colour else ''}")
        used += 2 + len(text)
    return "".join(shown)


def _cell(name: str, cell: Mapping[str, Any]) -> tuple[str, str]:
    """A tag's text and its colour."""
    value = cell["value"]
    shown = f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    if value is None:
        shown = cell["reason"] or cell["quality"]
    elif cell["unit"]:
        shown += f" {cell['unit']}"
    if cell["quality"] == "uncertain":
        shown += f" ({cell['reason']})"
    return f"{name}={shown}", {"bad": _RED, "uncertain": _YELLOW}.get(cell["quality"], "")
