"""Commands that touch a device: through the running agent where it reads that device, else by themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_agent.cli.commands.app import ConfigFile, Json, app, ask


@app.command(epilog="Example: edge-agent read -c agent.yaml pump-1")
def read(
    config: ConfigFile,
    machine: Annotated[str | None, typer.Argument(help="Only this machine.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show the requests it takes.")] = False,
    json_output: Json = False,
) -> None:
    """Read every tag once and show the values as a table."""
    from edge_agent.cli.read import read as run_read

    ask(run_read, config, machine, json_output=json_output, plan=plan)
