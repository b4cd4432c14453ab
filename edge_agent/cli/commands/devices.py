"""Commands that touch a device: through the running agent where it reads that device, else by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.commands.app import ConfigFile, Json, Machine, app, ask, group

FoundConfig = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Its agent is asked, and its settings of the device are used."
    ),
]
Timeout = Annotated[
    str | None, typer.Option(metavar="DURATION", help="How long to wait for an answer, as 3s.")
]
Root = Annotated[str, typer.Option(metavar="NODE", help="Start here; default: the Objects folder.")]


def _given(**settings: object) -> dict[str, object]:
    """The settings of a device that were given on the command line."""
    return {name: value for name, value in settings.items() if value is not None}


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


@app.command(epilog="Example: edge-agent tap -c agent.yaml pump-1 --json --seconds 10")
def tap(
    config: ConfigFile,
    machines: Annotated[
        list[str] | None, typer.Argument(metavar="MACHINE", help="Only these machines.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, metavar="N", help="Stop after so long; default: Ctrl-C.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document a scan, in lines.")] = False,
) -> None:
    """Show samples live, as the running agent reads them."""
    from edge_agent.cli.tap import tap as run_tap

    ask(run_tap, config, machines or (), json_output=json_output, seconds=seconds)


@app.command(epilog="Example: edge-agent probe tcp://10.0.4.21:502 --unit-id 1 holding:100 --expect 0,25")
def probe(
    url: Annotated[str, typer.Argument(metavar="URL", help="The device, as in YAML: tcp://host:port.")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="holding:100, input:12 or 400101.")],
    unit_id: Annotated[int, typer.Option(min=0, max=255, help="The device behind the address.")] = 1,
    expect: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="What the value should be: 0,25 or -40,150.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, max=125, help="Registers to read; more for text. Default: up to 4.")
    ] = None,
    types: Annotated[
        str | None, typer.Option("--type", metavar="A,B", help="Only these types: float32,int32.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the tag in the YAML line.")] = "value",
    address_base: Annotated[int, typer.Option(min=0, max=1, help="1: the manual counts from one.")] = 0,
    timeout: Timeout = None,
    config: FoundConfig = None,
    json_output: Json = False,
) -> None:
    """Show a register in every type and byte order, ranked."""
    from edge_agent.cli.inquire import inquire

    ask(
        inquire,
        "probe",
        url,
        config=config,
        settings=_given(timeout=timeout),
        unit_id=unit_id,
        address=address,
        address_base=address_base,
        count=count,
        expect=expect,
        types=types.split(",") if types else (),
        name=name,
        json_output=json_output,
    )


scan = group(
    "scan",
    "Find out what is there: slowly, reads only.",
    example="edge-agent scan modbus 10.0.4.21",
)
app.add_typer(scan)


@scan.command("modbus", epilog="Example: edge-agent scan modbus 10.0.4.21 --unit-ids 1-10")
def scan_modbus(
    host: Annotated[str, typer.Argument(metavar="HOST", help="The device: host, host:port or URL.")],
    unit_ids: Annotated[str, typer.Option(metavar="1-10", help="Unit ids to try: 1-10 or 1,3,5-8.")] = "1-10",
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="holding:0-99", help="Also read these addresses; may be repeated."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a range, for scripts.")] = False,
    timeout: Timeout = None,
    config: FoundConfig = None,
    json_output: Json = False,
) -> None:
    """Find the units of a Modbus device, and what they hold."""
    from edge_agent.cli.inquire import inquire

    ask(
        inquire,
        "scan modbus",
        host,
        config=config,
        settings=_given(timeout=timeout),
        unit_ids=unit_ids,
        ranges=ranges or (),
        yes=yes,
        json_output=json_output,
    )


browse = group(
    "browse",
    "Look at what a server offers: reads only.",
    example="edge-agent browse opcua opc.tcp://10.0.4.30:4840",
)
app.add_typer(browse)


@browse.command("opcua", epilog="Example: edge-agent browse opcua opc.tcp://10.0.4.30:4840 --values")
def browse_opcua(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="opc.tcp://host:port; or -c FILE --machine NAME.")
    ] = None,
    root: Annotated[
        str, typer.Option(metavar="NODE", help="Start here; default: the Objects folder.")
    ] = "i=85",
    pattern: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only these: '*Temp*', or a path: 'Line1/*/Speed'.")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, max=50, help="How many levels down.")] = 10,
    most: Annotated[int, typer.Option(min=1, max=20_000, help="Most variables to show.")] = 1000,
    values: Annotated[bool, typer.Option("--values", help="Read and show the values, too.")] = False,
    security: Annotated[
        str | None,
        typer.Option(metavar="POLICY[/MODE]", help="Basic256Sha256, Basic256Sha256/Sign, ..."),
    ] = None,
    username: Annotated[
        str | None,
        typer.Option(help="Log in; the password comes from $EDGE_AGENT_PASSWORD, or is asked for."),
    ] = None,
    timeout: Timeout = None,
    config: FoundConfig = None,
    machine: Machine = None,
    json_output: Json = False,
) -> None:
    """Show the variables of an OPC UA server, ready to paste."""
    from edge_agent.cli.inquire import inquire, security_of

    ask(
        inquire,
        "browse opcua",
        url,
        config=config,
        machine=machine,
        settings=_given(timeout=timeout, security=security_of(security, username)),
        root=root,
        pattern=pattern,
        depth=depth,
        most=most,
        values=values,
        security=security,
        username=username,
        json_output=json_output,
    )
