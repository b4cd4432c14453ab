"""Commands about health models and recorded data: backtest, rul."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.commands.app import Json, Machine, app, ask, group

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


rul = group(
    "rul",
    "Remaining useful life, learned from units that were run until they failed.",
    example="edge-agent rul fit lives.csv --unit-column unit --time-column cycle --out model.npz",
)
app.add_typer(rul)

UnitColumn = Annotated[str, typer.Option(metavar="NAME", help="The column that says whose row it is.")]
LifeTime = Annotated[
    str,
    typer.Option("--time-column", metavar="NAME", help="The column with the time; answers are in its unit."),
]


@rul.command(
    "fit", epilog="Example: edge-agent rul fit lives.csv --unit-column unit --time-column cycle --out m.npz"
)
def rul_fit(
    file: Annotated[Path, typer.Argument(metavar="LIVES.csv", help="Each unit's last row is its failure.")],
    unit_column: UnitColumn,
    time_column: LifeTime,
    out: Annotated[Path, typer.Option(metavar="MODEL.npz", help="Where the model goes.")],
    ignore: Ignore = None,
    cap: Annotated[
        float | None, typer.Option(min=0.0, help="Predict at most so much; default: by cross-validation.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Learn how units wear out, from lives that ended with a failure."""
    from edge_agent.cli.rul import fit

    if cap is not None and cap <= 0:
        raise typer.BadParameter("--cap must be more than nothing")
    ask(fit, file, unit=unit_column, time=time_column, ignore=_names(ignore), out=out, cap=cap,
        json_output=json_output)  # fmt: skip


@rul.command(
    "predict", epilog="Example: edge-agent rul predict m.npz now.csv --unit-column unit --time-column cycle"
)
def rul_predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL.npz", help="What `rul fit` wrote.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Lives so far, from their beginning.")],
    unit_column: UnitColumn,
    time_column: LifeTime,
    json_output: Json = False,
) -> None:
    """Say what is left of each unit at its last row, with a 90 % interval."""
    from edge_agent.cli.rul import predict

    ask(predict, model, file, unit=unit_column, time=time_column, json_output=json_output)
