"""Devices as commands reach them: through the agent that reads them, and only else by their own connection.

A second connection pushes others off a PLC with few of them, and a second master garbles a serial line.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edge_agent import control, registry
from edge_agent.clock import Clock
from edge_agent.contracts.plugs import Driver
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import (
    DeviceRefused,
    DeviceUnreachable,
    DriverError,
    EdgeAgentError,
    TemporaryError,
)
from edge_agent.settings.models import Configuration
from edge_agent.settings.state import state_folder


def name_of(url: str) -> str:
    """A machine's name for a device that is in no configuration: its host."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", urlsplit(url).hostname or "").lstrip(".-") or "device"


def read_through(state: Path, machines: Mapping[str, MachineSettings]) -> dict[str, dict[str, Any]]:
    """One scan of each machine whose device a running agent reads: {"tags", "error"} by name."""
    found: dict[str, dict[str, Any]] = {}
    for path in control.sockets(state):
        wanted = {
            name: {"mark": settings.fingerprint, "url": settings.url}
            for name, settings in machines.items()
            if name not in found
        }
        found |= control.ask(path, {"command": "read", "machines": wanted}) or {} if wanted else {}
    return found


class Way:
    """The way to the device at `settings.url`: somebody's running connection, or one of our own.

    Our own connection is opened by the first question. `machine` is the running agent's name for the device,
    empty where no agent reads it.
    """

    def __init__(self, settings: MachineSettings, state: Path, name: str | None = None) -> None:
        self._settings, self._state, self._name = settings, state, name
        self._socket: Path | None = None
        self._driver: Driver | None = None
        self.machine = ""

    def look(self) -> None:
        """Find the agent that reads the device. TemporaryError where one cannot be asked."""
        for path in control.sockets(self._state):
            answer = control.ask(path, {"command": "device", "url": self._settings.url})
            if answer is not None and answer["machine"] is not None:
                self._socket, self.machine = path, str(answer["machine"])
                return

    async def ask(self, question: Mapping[str, Any]) -> Any:
        """Put a question to the device. DeviceUnreachable or DeviceRefused where there is no answer."""
        if self._socket is None:
            return await self._ask_directly(question)
        request = {"command": "device", "url": self._settings.url, "question": dict(question)}
        try:
            answer = await asyncio.to_thread(control.ask, self._socket, request)
        except TemporaryError as error:
            raise DeviceUnreachable(str(error)) from error
        except EdgeAgentError as error:
            raise DeviceRefused(str(error)) from error
        if answer is None or answer["machine"] is None:
            raise DeviceUnreachable("the running agent has ended meanwhile: try again")
        return answer["answer"]

    async def _ask_directly(self, question: Mapping[str, Any]) -> Any:
        settings = self._settings
        name, state = self._kept()
        try:
            if self._driver is None:
                self._driver = registry.driver(settings.driver)(name, settings, Clock(), state)
                await self._driver.connect()
            return await self._driver.ask(question)
        except DriverError as error:
            raise type(error)(str(error).removeprefix(f"machine {name}: ")) from error

    def _kept(self) -> tuple[str, Path | None]:
        """Under which name a driver of our own keeps what has to be kept, and where."""
        if self._name:
            return self._name, self._state / "agent"
        security = getattr(self._settings, "security", None)
        if security is not None and security.policy != "None":
            # As `opcua enrol URL` named it, which made our certificate and pinned the server's.
            return name_of(self._settings.url), self._state / "agent"
        # A device that is in no configuration leaves nothing behind.
        return self._settings.url, None

    async def close(self) -> None:
        """Close our own connection, if there is one."""
        driver, self._driver = self._driver, None
        if driver is not None:
            await driver.close()


@contextlib.asynccontextmanager
async def way_to(
    settings: MachineSettings, configuration: Configuration | None, name: str | None = None
) -> AsyncIterator[Way]:
    """The way to the device at `settings.url`; `configuration` says where its agent keeps its state.

    `name` is the machine's, where the settings are those of a machine of the configuration.
    """
    way = Way(settings, state_folder(configuration), name)
    await asyncio.to_thread(way.look)
    try:
        yield way
    finally:
        await way.close()
