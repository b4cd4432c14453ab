"""The `simulate` command: scenarios or a recorded file, served over Modbus and OPC UA."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from edge_agent.clock import SECOND
from edge_agent_simulators.feeds import Feed, PlantFeed
from edge_agent_simulators.replay import ReplayFeed
from edge_agent_simulators.scenario import Scenario, load_scenario, scenario_names
from edge_agent_simulators.session import Options, Session
from edge_agent_simulators.terminal import say, show

_USAGE = 2


def simulate(
    scenario: str | None = None,
    *,
    list_scenarios: bool = False,
    port_modbus: int | None = None,
    port_opcua: int | None = None,
    host: str = "127.0.0.1",
    speed: float = 1.0,
    seed: int = 1,
    truth: Path | None = None,
    served: Path | None = None,
    replay: Path | None = None,
    time_column: str | None = None,
    columns: list[str] | None = None,
    loop: bool = False,
    json_output: bool = False,
    wait: bool = False,
    chaos: float | None = None,
) -> int:
    """Serve a scenario or a recorded file until stopped; the exit code.

    ConfigError where the scenario or the file is not usable, TemporaryError where a port is taken. With
    `wait` one JSON line says where the servers are, and time stands still until a line
    `EPOCH_NS ORIGIN_MONOTONIC_NS [SPEED]` comes on standard input; its end ends the run. With `chaos` the
    OPC UA server does something bad to its clients about every so many seconds.
    """
    if list_scenarios:
        _list(json_output)
        return 0
    problem = _misuse(scenario, replay, speed, time_column, columns, loop)
    if problem:
        say(problem)
        return _USAGE
    now = time.time_ns()
    start = now
    feed: Feed
    if replay is not None:
        feed = _replay(replay, time_column, columns, loop)
    else:
        chosen = load_scenario(scenario or "")
        feed, start, now = _plant(chosen, seed, speed, now, wait)
    options = Options(host, port_modbus, port_opcua, speed, truth, served, json_output, wait, chaos, seed)
    return asyncio.run(Session(feed, options, start).run(now))


def _misuse(
    scenario: str | None,
    replay: Path | None,
    speed: float,
    time_column: str | None,
    columns: list[str] | None,
    loop: bool,
) -> str:
    """What is wrong with the options taken together; empty where nothing is."""
    if (scenario is None) == (replay is None):
        return f"name one scenario ({', '.join(scenario_names())}), or a file with --replay"
    if speed <= 0:
        return f"--speed {speed:g} must be above 0"
    if replay is None and (time_column or columns or loop):
        return "--time-column, --columns and --loop belong to --replay"
    return ""


def _replay(path: Path, time_column: str | None, columns: list[str] | None, loop: bool) -> ReplayFeed:
    feed = ReplayFeed(path, time_column, columns, loop)
    if feed.left_out:
        say(f"left out, for they are no numbers: {', '.join(feed.left_out)}")
    return feed


def _plant(scenario: Scenario, seed: int, speed: float, now: int, wait: bool) -> tuple[PlantFeed, int, int]:
    """The machines, UTC ns of their time zero, and UTC ns at which simulated time begins to run."""
    feed = PlantFeed(scenario, seed, speed)
    start = scenario.start_ns(now)
    if wait:
        # The parent says when it is; until then everything stands at the start.
        return feed, start, start
    if scenario.start == "now":
        feed.plant.skip((now - start) / SECOND)
        feed.refresh((now - start) / SECOND)
        return feed, start, now
    # At the speed of the real world its dates would only be old; a story told faster keeps its own.
    return (feed, now, now) if speed == 1.0 else (feed, start, start)


def _list(json_output: bool) -> None:
    abouts = {name: load_scenario(name).about for name in scenario_names()}
    if json_output:
        show(json.dumps({"scenarios": [{"name": name, "about": about} for name, about in abouts.items()]}))
        return
    width = max(map(len, abouts))
    for name, about in abouts.items():
        show(f"{name:{width}}  {about}")
