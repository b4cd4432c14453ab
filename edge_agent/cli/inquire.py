"""`edge-agent probe`, `scan modbus`, `browse opcua`: a bay's questions, on the way there is to the device."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_agent import registry
from edge_agent.cli.agents import Way, way_to
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import ConfigError
from edge_agent.settings.load import require
from edge_agent.settings.models import Configuration

_USAGE = 2


def inquire(
    inquiry: str,
    url: str | None,
    /,
    *,
    config: Path | None = None,
    machine: str | None = None,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> int:
    """Run a bay's inquiry on the device at `url`, or on a machine of the configuration; its exit code.

    With `config` the machine's own settings are used (timing, security); `settings` are those of a device
    that is in no configuration.
    """
    kind, function = registry.inquiry(inquiry)
    configuration = require(config) if config is not None else None
    try:
        name, found = settings_of(kind, url, configuration, machine, settings or {})
    except ValueError as problem:
        print(told(problem), file=sys.stderr)
        return _USAGE

    async def run() -> int:
        async with way_to(found, configuration, name) as way:
            return await function(way.ask, _where(found, way), **options)

    return asyncio.run(run())


def _where(settings: MachineSettings, way: Way) -> str:
    through = f" through the running agent, which reads it as {way.machine}" if way.machine else ""
    return f"{settings.url}{through}"


def settings_of(
    kind: str,
    url: str | None,
    configuration: Configuration | None,
    machine: str | None,
    given: dict[str, Any],
) -> tuple[str | None, MachineSettings]:
    """The machine's name, if it is one, and its settings without tags. ValueError or ConfigError for none."""
    known = configuration.machines if configuration is not None else {}
    if machine is not None and machine not in known:
        names = ", ".join(known) or "none (name the file with -c)"
        raise ConfigError([f"there is no machine '{machine}' in the configuration; there is {names}"])
    full = _with_scheme(kind, url) if url is not None else None
    if machine is None:
        machine = next((name for name, one in known.items() if one.driver == kind and one.url == full), None)
    if machine is not None:
        if known[machine].driver != kind:
            raise ValueError(f"{machine} is a machine of driver {known[machine].driver}, not {kind}")
        if given:
            options = ", ".join(f"--{name}" for name in given)
            raise ValueError(f"{options}: the configuration says that for {machine}; leave it out here")
        return machine, known[machine].model_copy(update={"tags": {}, **({"url": full} if full else {})})
    if full is None:
        raise ValueError("name the device by its URL, or a machine with -c FILE --machine NAME")
    return None, registry.driver_settings(kind).model_validate({"driver": kind, "url": full, **given})


def _with_scheme(kind: str, url: str) -> str:
    if "://" in url:
        return url
    return f"opc.tcp://{url}" if kind == "opcua" else f"tcp://{url}"


def told(problem: ValueError) -> str:
    """What is wrong with settings, a line for each key."""
    if isinstance(problem, ValidationError):
        return "\n".join(
            f"{error['loc'][-1] if error['loc'] else 'settings'}: {error['msg']}"
            for error in problem.errors()
        )
    return str(problem)


def security_of(policy: str | None, username: str | None) -> dict[str, Any] | None:
    """The `security` of a server as options of a command line say it; None where they say nothing."""
    if policy is None and username is None:
        return None
    name, _, mode = (policy or "None").partition("/")
    found: dict[str, Any] = {"policy": name}
    if mode:
        found["mode"] = mode
    if username is not None:
        password = os.environ.get("EDGE_AGENT_PASSWORD")
        found |= {"username": username, "password": password or getpass.getpass(f"Password of {username}: ")}
    return found
