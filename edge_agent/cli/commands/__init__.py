"""The command line: what was asked for becomes a job, which imports what it needs when it runs.

One module per topic; each adds its commands to `app`. `--help` lists them in the order of the imports here.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.cli.commands import (  # noqa: F401 (they add their commands to the app)
    agent,
    buffer,
    devices,
    models,
    opcua,
    profiles,
)
from edge_agent.cli.commands.app import Job, app, asked


def parse(arguments: Sequence[str] | None) -> Job:
    """The job that a command line asks for. SystemExit (0 or 2) for --help, --version and mistakes."""
    try:
        app(arguments)
    except SystemExit as end:
        if end.code or not asked:
            raise
    return asked.pop()
