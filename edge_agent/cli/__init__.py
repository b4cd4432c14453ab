"""The commands of `edge-agent`. Each imports what it needs when it runs, so that --help is there at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_agent import __version__
from edge_agent.errors import ConfigError, EdgeAgentError, TemporaryError

# Pydantic would read the metadata of every installed package in search of plugins, at each start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

EXIT_FINDINGS = 1
EXIT_TEMPORARY = 75
EXIT_CONFIG = 78

app = typer.Typer(
    name="edge-agent",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Collects machine readings, loses none, and says what is going wrong before the machine stops.",
    epilog="Start with: edge-agent demo",
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The YAML configuration.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edge-agent {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


@app.command(epilog="Example: edge-agent demo --headless --seconds 60 --json")
def demo(
    headless: Annotated[bool, typer.Option("--headless", help="No screen; end by itself.")] = False,
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

    _exit(run_demo(headless or json_output, seconds, json_output, seed, truth, served, state))


@app.command(epilog="Example: edge-agent run -c /etc/edge-agent/agent.yaml")
def run(config: ConfigFile) -> None:
    """Run the agent, and the historian beside it."""
    from edge_agent.cli.run import run as run_agent

    _exit(run_agent(config))


@app.command(epilog="Example: edge-agent historian -c /etc/edge-agent/agent.yaml")
def historian(config: ConfigFile) -> None:
    """Run the historian alone, on any host."""
    from edge_agent.cli.run import historian as run_historian

    _exit(run_historian(config))


@app.command(epilog="Example: edge-agent check agent.yaml --connect")
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Configuration files.")],
    connect: Annotated[bool, typer.Option("--connect", help="Also try devices, broker, historian.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as findings.")] = False,
    json_output: Json = False,
) -> None:
    """Validate YAML: every problem at once, with its place."""
    from edge_agent.cli.check import check as run_check

    _exit(run_check(files, connect=connect, strict=strict, json_output=json_output))


@app.command(epilog="Example: edge-agent read -c agent.yaml pump-1")
def read(
    config: ConfigFile,
    machine: Annotated[str | None, typer.Argument(help="Only this machine.")] = None,
    json_output: Json = False,
) -> None:
    """Read every tag once and show the values as a table."""
    from edge_agent.cli.read import read as run_read

    _exit(run_read(config, machine, json_output=json_output))


@app.command(epilog="Example: edge-agent simulate pump --port-modbus 5020 --speed 60")
def simulate(
    scenario: Annotated[
        str | None, typer.Argument(help="A bundled scenario (--list) or a YAML file.")
    ] = None,
    list_scenarios: Annotated[bool, typer.Option("--list", help="List the bundled scenarios.")] = False,
    port_modbus: Annotated[int | None, typer.Option(help="Modbus TCP port; 0 takes a free one.")] = None,
    port_opcua: Annotated[int | None, typer.Option(help="OPC UA port; 0 takes a free one.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    speed: Annotated[float, typer.Option(min=0.001, help="Simulated seconds per second.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same machine.")] = 1,
    truth: Annotated[Path | None, typer.Option(help="Write what really happens, as JSON lines.")] = None,
    served: Annotated[Path | None, typer.Option(help="Write each answered read, as JSON lines.")] = None,
    replay: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Serve a recorded file.")] = None,
    time_column: Annotated[str | None, typer.Option(help="Column that paces a replay.")] = None,
    columns: Annotated[str | None, typer.Option(metavar="A,B", help="Columns to serve.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Start a replay over after its last row.")] = False,
    json_output: Json = False,
    wait: Annotated[bool, typer.Option("--wait", hidden=True)] = False,
) -> None:
    """Serve simulated machines over Modbus and OPC UA."""
    from edge_agent import registry

    command = registry.command("simulate")
    _exit(
        command(
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
        )
    )


def _exit(code: int) -> None:
    raise typer.Exit(code)


def _report(error: EdgeAgentError) -> int:
    for line in str(error).splitlines():
        print(line, file=sys.stderr)
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    return EXIT_TEMPORARY if isinstance(error, TemporaryError) else EXIT_FINDINGS


def main(arguments: list[str] | None = None) -> Any:
    """Run a command line; the exit code is raised as SystemExit (INTERFACE.md, Commands)."""
    try:
        app(arguments)
    except EdgeAgentError as error:
        sys.exit(_report(error))
    except KeyboardInterrupt:
        sys.exit(130)
