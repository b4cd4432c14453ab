"""Commands for OPC UA servers: enrol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.commands.app import Json, Machine, app, ask, group

opcua = group(
    "opcua",
    "Security of OPC UA servers: certificates on both sides.",
    example="edge-agent opcua enrol -c agent.yaml --machine press-2",
)
app.add_typer(opcua)


@opcua.command("enrol", epilog="Example: edge-agent opcua enrol -c agent.yaml --machine press-2")
def enrol(
    url: Annotated[str | None, typer.Argument(metavar="URL", help="The server: opc.tcp://host:port.")] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Its state folder and settings count."),
    ] = None,
    machine: Machine = None,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Without a configuration: the agent's state folder.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Pin the certificate of a server that has none pinned, unasked.")
    ] = False,
    thumbprint: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="Pin it if this is its SHA-256 or SHA-1 thumbprint, unasked."),
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="Make a new certificate for us.")] = False,
    json_output: Json = False,
) -> None:
    """Exchange certificates: make ours, pin the server's.

    Says what is then to do on the server.
    """
    from edge_agent.cli.enrol import enrol as run_enrol

    if config is not None and state is not None:
        raise typer.BadParameter("--state is for servers without a configuration: leave it or -c out")
    ask(run_enrol, url, config, machine, state, yes=yes, thumbprint=thumbprint, renew=renew,
        json_output=json_output)  # fmt: skip
