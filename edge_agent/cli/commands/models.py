"""Commands about health models and recorded data: backtest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.commands.app import Json, Machine, app, ask

TimeColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="The column with the time; default: found by itself.")
]
Ignore = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Columns to leave out: labels, numbers that are no measurements."),
]


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


@app.command(epilog="Example: edge-agent backtest run.csv --learn 2h --scores scores.csv")
def backtest(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE.csv...", help="Recorded files, one machine each.")
    ],
    time_column: TimeColumn = None,
    time_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="How the time is written, as '%d.%m.%Y %H:%M'.")
    ] = None,
    period: Annotated[
        str | None, typer.Option(metavar="10s", help="Time between rows, for files without a time column.")
    ] = None,
    learn: Annotated[
        str | None, typer.Option(metavar="400rows|2h", help="Learn on so much; default: the first third.")
    ] = None,
    ignore: Ignore = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Settings of one of its machines count."),
    ] = None,
    machine: Machine = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write each row's score; a folder for several files.")
    ] = None,
    json_output: Json = False,
) -> None:
    """What would the health model and the alarms have done on recorded data?"""
    from edge_agent.backtest.recording import Reading
    from edge_agent.cli.backtest import run

    if period is not None and time_column is not None:
        raise typer.BadParameter("--period is for files without time: leave it or --time-column out")
    if machine is not None and config is None:
        raise typer.BadParameter("--machine needs the configuration that it is in: -c FILE")
    ask(
        run,
        files,
        learn=learn,
        reading=Reading(time_column, time_format, None, _names(ignore)),
        period=period,
        config=config,
        machine=machine,
        scores=scores,
        json_output=json_output,
    )
