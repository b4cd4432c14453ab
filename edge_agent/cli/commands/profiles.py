"""The command that shows the bundled device profiles."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_agent.cli.commands.app import Json, app, ask


@app.command(epilog="Example: edge-agent profiles eastron-sdm630")
def profiles(
    name: Annotated[str | None, typer.Argument(help="Show this profile whole.")] = None,
    json_output: Json = False,
) -> None:
    """List the devices whose registers are known.

    `profile: NAME` brings them all into a machine.
    """
    from edge_agent.cli.profiles import profiles as show_profiles

    ask(show_profiles, name, json_output=json_output)
