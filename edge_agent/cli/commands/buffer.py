"""`edge-agent buffer` and what can be done with the quarantine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.commands.app import Json, app, ask

buffer = typer.Typer(
    name="buffer",
    epilog="Example: edge-agent buffer -c agent.yaml",
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(buffer)

Config = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="The YAML configuration.")
]


class Of(StrEnum):
    """The journals of a state folder."""

    AGENT = "agent"
    HISTORIAN = "historian"


Which = Annotated[Of, typer.Option("--of", help="Whose quarantine.")]
Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID...]", help="Entries, as `list` numbers them.")]


@buffer.callback()
def show(context: typer.Context, config: Config = None, json_output: Json = False) -> None:
    """How full the buffer is, how long it lasts, what it writes and lost, and its quarantine."""
    context.obj = config
    if context.invoked_subcommand is None:
        from edge_agent.cli.buffer import show as run_show

        ask(run_show, _file(context, config), json_output=json_output)


@buffer.command("list", epilog="Example: edge-agent buffer list -c agent.yaml --of historian")
def list_entries(
    context: typer.Context, config: Config = None, of: Which = Of.AGENT, json_output: Json = False
) -> None:
    """What was refused for good, and why; the newest first."""
    from edge_agent.cli.buffer import list_entries as run_list

    ask(run_list, _file(context, config), of.value, json_output=json_output)


@buffer.command(epilog="Example: edge-agent buffer export -c agent.yaml --to refused.lp")
def export(
    context: typer.Context,
    config: Config = None,
    of: Which = Of.AGENT,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: standard output.")] = None,
) -> None:
    """The lines in quarantine as line protocol."""
    from edge_agent.cli.buffer import export as run_export

    ask(run_export, _file(context, config), of.value, to)


@buffer.command(epilog="Example: edge-agent buffer retry -c agent.yaml 17 18")
def retry(context: typer.Context, ids: Ids = None, config: Config = None, of: Which = Of.AGENT) -> None:
    """Deliver entries again, once the reason is mended; without numbers all of them."""
    from edge_agent.cli.buffer import change as run_change

    ask(run_change, _file(context, config), of.value, "retry", ids or None)


@buffer.command(epilog="Example: edge-agent buffer drop -c agent.yaml 17")
def drop(
    context: typer.Context,
    ids: Ids = None,
    config: Config = None,
    of: Which = Of.AGENT,
    everything: Annotated[bool, typer.Option("--all", help="All entries.")] = False,
) -> None:
    """Give entries up for good; their lines are counted as lost."""
    if bool(ids) == everything:
        raise typer.BadParameter("name entries, or --all")
    from edge_agent.cli.buffer import change as run_change

    ask(run_change, _file(context, config), of.value, "drop", ids or None)


def _file(context: typer.Context, config: Path | None) -> Path:
    """The configuration, whether it stands before or after the subcommand."""
    found = config or context.obj
    if not isinstance(found, Path):
        raise typer.BadParameter("missing option '--config' / '-c'")
    return found
