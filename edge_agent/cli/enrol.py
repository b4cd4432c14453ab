"""`edge-agent opcua enrol`: which server, which machine, which state folder; the bay does the rest."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge_agent import control, registry
from edge_agent.cli.agents import name_of
from edge_agent.cli.inquire import settings_of, told
from edge_agent.errors import EdgeAgentError
from edge_agent.settings.load import require
from edge_agent.settings.state import state_folder

_USAGE = 2
_ANY_QUESTION = {"do": "details", "nodes": ["i=2258"]}
"""About the server's clock: only a connected agent can answer it."""


def enrol(
    url: str | None,
    config: Path | None,
    machine: str | None,
    state: Path | None,
    *,
    yes: bool,
    thumbprint: str | None,
    renew: bool,
    json_output: bool,
) -> int:
    """Enrol with the server; 0 where the agent can connect now, 1 where something is left to do, 75 away."""
    configuration = require(config) if config is not None else None
    named = machine if configuration is not None else None
    try:
        name, settings = settings_of("opcua", url, configuration, named, {})
    except ValueError as problem:
        print(told(problem), file=sys.stderr)
        return _USAGE
    folder = state_folder(configuration) if configuration is not None else _folder(state)
    return registry.command("opcua enrol")(
        name or machine or name_of(settings.url),
        settings,
        folder / "agent",
        reader=_reader(folder, settings.url),
        yes=yes,
        thumbprint=thumbprint,
        renew=renew,
        json_output=json_output,
    )


def _folder(state: Path | None) -> Path:
    if state is not None:
        return state
    return Path(os.environ.get("STATE_DIRECTORY", "edge-agent-state").split(":")[0])


def _reader(folder: Path, url: str) -> str:
    """The name of the machine by which a running agent is connected to the server; empty where none is.

    An agent that is not let in has no connection that a trial of ours could be second to.
    """
    request = {"command": "device", "url": url}
    for path in control.sockets(folder):
        answer = control.ask(path, request)
        if answer is None or answer["machine"] is None:
            continue
        try:
            control.ask(path, {**request, "question": _ANY_QUESTION})
        except EdgeAgentError:
            continue
        return str(answer["machine"])
    return ""
