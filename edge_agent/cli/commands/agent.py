"""Commands around the agent itself: demo, run, historian, check, schema, simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.commands.app import ConfigFile, Json, app, ask

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")]


@app.command(epilog="Example: edge-agent demo --headless --seconds 60 --json")
def demo(
    headless: Annotated[bool, typer.Option("--headless", help="No screen, only the result.")] = False,
    seconds: Annotated[int, typer.Option(min=30, max=3600, help="Ceiling of wall time.")] = 60,
    json_output: Json = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulated machines.")] = 1,
    truth: Annotated[Path | None, typer.Option(help="Write what really happened, as JSON lines.")] = None,
    served: Annotated[Path | None, typer.Option(help="Write what the simulators answered.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="Keep the state here instead of in a temporary folder.")
    ] = None,
) -> None:
    """Show it all on simulated machines: weeks in a minute."""
    from edge_agent.demo.command import demo as run_demo

    ask(run_demo, headless or json_output, seconds, json_output, seed, truth, served, state)


@app.command(epilog="Example: edge-agent run -c /etc/edge-agent/agent.yaml")
def run(config: ConfigFile) -> None:
    """Run the agent, and the historian beside it."""
    from edge_agent.cli.run import run as run_agent

    ask(run_agent, config)


@app.command(epilog="Example: edge-agent historian -c /etc/edge-agent/agent.yaml")
def historian(
    config: ConfigFile,
    instance: Annotated[
        int | None,
        typer.Option(min=1, help="Tells historians that share the work apart; default: by state folder."),
    ] = None,
) -> None:
    """Run the historian alone, on any host."""
    from edge_agent.cli.run import historian as run_historian

    ask(run_historian, config, instance)


@app.command(epilog="Example: edge-agent check agent.yaml --connect")
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Configuration files.")],
    connect: Annotated[bool, typer.Option("--connect", help="Also try devices, broker, historian.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as findings.")] = False,
    json_output: Json = False,
) -> None:
    """Validate YAML: every problem at once, with its place."""
    from edge_agent.cli.check import check as run_check

    ask(run_check, files, connect=connect, strict=strict, json_output=json_output)


@app.command(epilog="Example: edge-agent schema --out edge-agent.schema.json")
def schema(
    out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
) -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from edge_agent.cli.schema import schema as print_schema

    ask(print_schema, out)


@app.command(epilog="Example: edge-agent simulate pump --port-modbus 5020 --speed 60")
def simulate(
    scenario: Annotated[
        str | None, typer.Argument(help="A bundled scenario (--list) or a YAML file.")
    ] = None,
    list_scenarios: Annotated[bool, typer.Option("--list", help="List the bundled scenarios.")] = False,
    port_modbus: Port = None,
    port_opcua: Port = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    speed: Annotated[float, typer.Option(min=0.001, help="Simulated seconds per second.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same machine.")] = 1,
    truth: Annotated[Path | None, typer.Option(help="Write what really happens, as JSON lines.")] = None,
    served: Annotated[Path | None, typer.Option(help="Write each answered read, as JSON lines.")] = None,
    replay: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Serve a recorded file.")] = None,
    time_column: Annotated[str | None, typer.Option(help="Column that paces a replay.")] = None,
    columns: Annotated[str | None, typer.Option(metavar="A,B", help="Columns to serve.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Start a replay over after its last row.")] = False,
    chaos: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="OPC UA misbehaves about this often.")
    ] = None,
    json_output: Json = False,
    wait: Annotated[bool, typer.Option("--wait", hidden=True)] = False,
) -> None:
    """Serve simulated machines over Modbus and OPC UA."""
    from edge_agent import registry

    ask(
        registry.command("simulate"),
        scenario=scenario,
        list_scenarios=list_scenarios,
        port_modbus=port_modbus,
        port_opcua=port_opcua,
        host=host,
        speed=speed,
        seed=seed,
        truth=truth,
        served=served,
        replay=replay,
        time_column=time_column,
        columns=columns.split(",") if columns else None,
        loop=loop,
        json_output=json_output,
        wait=wait,
        chaos=chaos,
    )
