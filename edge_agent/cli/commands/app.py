"""The command line's frame: the app, the options commands share, and the job that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from edge_agent import __version__

Job = Callable[[], int]
"""Does what was asked for and returns the exit code."""

asked: list[Job] = []
"""What the commands of this command line asked for: at most one."""


def group(name: str, about: str, example: str | None = None) -> typer.Typer:
    """A command with commands below it, as in `edge-agent scan modbus`."""
    return typer.Typer(
        name=name,
        help=about,
        epilog=f"Example: {example}" if example else None,
        rich_markup_mode=None,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app = group(
    "edge-agent",
    "Collects machine readings, loses none, and says what is going wrong before the machine stops.",
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The YAML configuration.")]
Machine = Annotated[str | None, typer.Option(metavar="NAME", help="A machine of the configuration.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edge-agent {__version__}")
        raise typer.Exit


@app.callback(epilog="Start with: edge-agent demo")
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def ask(work: Callable[..., int], *arguments: object, **options: object) -> None:
    """Leave `work` to be done once the command line is parsed."""
    # Not a lambda: it would keep this module, and so typer, in memory for as long as the job runs.
    asked.append(partial(work, *arguments, **options))
