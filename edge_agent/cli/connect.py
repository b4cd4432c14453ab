"""`check --connect`: does each device, the broker and the historian's store answer?"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from edge_agent import registry
from edge_agent.cli.agents import read_through
from edge_agent.clock import Clock
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import EdgeAgentError
from edge_agent.mqtt import MqttClient, MqttUnavailable
from edge_agent.pipeline.readout import read_directly, refusals
from edge_agent.settings.models import Configuration
from edge_agent.settings.state import state_folder

PATIENCE = 5.0
"""Seconds each of them has to answer."""

Answer = tuple[str, str]
"""What was tried, and what went wrong (empty: it answers as it should)."""


async def try_connections(configuration: Configuration) -> list[Answer]:
    """Try everything at once. Machines go through the running agent where one runs on this state folder."""
    state = state_folder(configuration)
    running = await asyncio.to_thread(_through_agent, configuration)
    machines = [
        _machine(name, settings, state / "agent")
        for name, settings in configuration.machines.items()
        if name not in running
    ]
    others = await asyncio.gather(*machines, _broker(configuration), _store(configuration))
    return [*running.values(), *(answer for answer in others if answer is not None)]


def _through_agent(configuration: Configuration) -> dict[str, Answer]:
    """What a running agent says of its machines; empty where none reads any of them."""
    answer = read_through(state_folder(configuration), configuration.machines)
    return {
        name: (
            f"{name} (through the running agent)",
            one["error"] or refusals(configuration.machines[name], one["tags"]),
        )
        for name, one in answer.items()
    }


async def _machine(name: str, settings: MachineSettings, state: Path) -> Answer:
    # An open port is not an answer: a wrong unit id or another protocol shows only when something is read.
    readout, error = await read_directly(registry.driver(settings.driver)(name, settings, Clock(), state))
    return f"{name} ({settings.url})", error.removeprefix(f"machine {name}: ") or refusals(settings, readout)


async def _broker(configuration: Configuration) -> Answer | None:
    if configuration.mqtt.url == "embedded":
        return None
    what = f"broker ({configuration.mqtt.url})"
    # What the client logs, the answer says: once is enough where no log is set up.
    logging.getLogger("edge_agent.mqtt").addHandler(logging.NullHandler())
    async with MqttClient(configuration.mqtt, f"{configuration.agent}-check") as client:
        try:
            await client.wait_connected(PATIENCE)
        except MqttUnavailable as error:
            told = str(error).removeprefix(f"{configuration.mqtt.url} ")
            return what, f"{told}: is the broker running, and is mqtt.url right?"
    return what, ""


async def _store(configuration: Configuration) -> Answer | None:
    settings = configuration.historian
    if settings.kind != "influxdb":
        return None
    from edge_agent.historian import ping

    try:
        await asyncio.to_thread(ping, settings, PATIENCE)
    except EdgeAgentError as error:
        return f"historian ({settings.url})", str(error)
    return f"historian ({settings.url})", ""
