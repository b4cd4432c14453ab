"""`edge-agent backtest`: recorded files through the health model and the alarms."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_agent import registry
from edge_agent.backtest.judging import Machine, Outcome, backtest
from edge_agent.backtest.recording import Learn, Reading, read_recording
from edge_agent.backtest.report import to_json, to_text, write_scores
from edge_agent.backtest.table import BadRecording
from edge_agent.clock import Clock
from edge_agent.contracts.settings import HealthSettings
from edge_agent.errors import ConfigError
from edge_agent.settings.load import require
from edge_agent.units import parse_duration

_USAGE = 2


def run(
    files: Sequence[Path],
    *,
    learn: str | None,
    reading: Reading,
    period: str | None,
    config: Path | None,
    machine: str | None,
    scores: Path | None,
    json_output: bool,
) -> int:
    """Backtest every file; 0 also where alerts were raised, 2 where a file or an option cannot be used.

    A file that cannot be used is said on standard error and does not keep the others from being judged.
    """
    try:
        how_much = Learn.parse(learn)
        how = Reading(reading.time_column, reading.time_format, _seconds(period), reading.ignore)
        places = _places(files, scores)
    except (ValueError, OSError) as problem:
        print(problem, file=sys.stderr)
        return _USAGE
    asked = _machine(config, machine)
    done: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []
    for file, place in zip(files, places, strict=True):
        try:
            outcome = backtest(read_recording(file, how), how_much, asked)
            if place is not None:
                write_scores(place, outcome)
        except (BadRecording, OSError) as problem:
            print(problem, file=sys.stderr)
            problems.append({"file": str(file), "message": str(problem)})
            continue
        done.append(to_json(outcome))
        if not json_output:
            print(to_text(outcome), flush=True)
        _progress(outcome, json_output)
    if json_output:
        document = {"files": done, "problems": problems} if problems else {"files": done}
        print(json.dumps(document, ensure_ascii=False))
    return _USAGE if problems else 0


def _progress(outcome: Outcome, json_output: bool) -> None:
    if json_output and sys.stderr.isatty():
        print(f"{outcome.recording.path}: {len(outcome.openings)} alerts", file=sys.stderr)


def _seconds(period: str | None) -> float | None:
    if period is None:
        return None
    seconds = parse_duration(period)
    if seconds <= 0:
        raise ValueError("--period must be more than nothing, as 10s")
    return seconds


def _places(files: Sequence[Path], scores: Path | None) -> list[Path | None]:
    """Where each file's scores go: OUT itself for one file, a file of the same name in it for several."""
    if scores is None:
        return [None for _ in files]
    if len(files) == 1 and not scores.is_dir():
        scores.parent.mkdir(parents=True, exist_ok=True)
        places: list[Path | None] = [scores]
    else:
        names = [file.name for file in files]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"several files are called {', '.join(twice)}: their scores would overwrite each other in "
                f"{scores}; ask for one folder at a time"
            )
        scores.mkdir(parents=True, exist_ok=True)
        places = [scores / name for name in names]
    if mixed := [
        str(place) for place, file in zip(places, files, strict=True) if place and _same(place, file)
    ]:
        raise ValueError(f"the scores would overwrite {', '.join(mixed)}: name another place")
    return places


def _same(place: Path, file: Path) -> bool:
    return place.resolve() == file.resolve()


def _machine(config: Path | None, name: str | None) -> Machine:
    """The settings of a machine of the configuration; the defaults without one."""
    if config is None:
        if name is not None:
            raise ConfigError([f"--machine {name} needs the configuration that it is in: -c FILE"])
        return Machine()
    machines = require(config).machines
    if name is None and len(machines) == 1:
        name = next(iter(machines))
    if name is None or name not in machines:
        what = "--machine is missing" if name is None else f"there is no machine '{name}'"
        raise ConfigError([f"{config}: {what}; there is {', '.join(machines)}"])
    settings = machines[name]
    if not isinstance(settings.health, HealthSettings):
        raise ConfigError([f"{config}: health is off for {name}: nothing would have been judged"])
    driver = registry.driver(settings.driver)(name, settings, Clock())
    tags = tuple(tag for group in driver.groups for tag in group.tags)
    return Machine(name, settings.label, settings.health, tags)
