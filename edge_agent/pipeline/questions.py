"""What commands may ask a running agent about its machines: read, device, tap (over the control socket).

So that nobody opens a second connection to a PLC with room for one, or a second master on a serial line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from edge_agent.errors import DriverError, EdgeAgentError
from edge_agent.pipeline.endpoints import same_endpoint
from edge_agent.pipeline.machine import MachineLine
from edge_agent.pipeline.tap import Taps

DIFFERS = "an agent runs with other settings for this machine: restart it with this file, or stop it and read"
TAKEN = "a running agent has the connection to {}, for {}: restart it with this file, or stop it and read"


class Questions:
    """Answers for the machines of one agent."""

    def __init__(self, lines: Mapping[str, MachineLine], taps: Taps) -> None:
        self._lines, self._taps = lines, taps
        self._last: tuple[str, MachineLine] | None = None
        """The last URL that was asked about and whose it is: a scan asks hundreds of questions at one."""

    async def read(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One scan of the named machines, through their running connections.

        `machines` maps names to {mark, url}, with the fingerprint of the asker's settings: values read by
        other settings would be taken for the answer to a question nobody asked. A machine whose device this
        agent does not read is left out of the answer.
        """
        wanted: Mapping[str, Mapping[str, str]] = request["machines"]
        answers = await asyncio.gather(*(self._read_one(name, **one) for name, one in wanted.items()))
        return {name: answer for name, answer in zip(wanted, answers, strict=True) if answer is not None}

    async def _read_one(self, name: str, mark: str, url: str) -> dict[str, Any] | None:
        line = self._lines.get(name)
        if line is None or line.settings.fingerprint != mark:
            if line is not None and await same_endpoint(line.settings.url, url):
                return {"tags": line.unread(), "error": DIFFERS}
            owner = await self._at(url)
            return None if owner is None else {"tags": {}, "error": TAKEN.format(url, owner.name)}
        try:
            return {"tags": await line.read_once(), "error": ""}
        except DriverError as error:
            return {"tags": line.unread(), "error": str(error)}

    async def device(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Pass `question` on to the machine at `url`; {"machine": None} where this agent reads nothing there.

        Without a question it only says whose connection it is.
        """
        line = await self._at(request["url"])
        if line is None:
            return {"machine": None}
        question = request.get("question")
        answer = None if question is None else await line.ask(question)
        return {"machine": line.name, "answer": answer}

    async def tap(self, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The batches of `machines` (empty: all of them) as they come."""
        names = request["machines"] or list(self._lines)
        if unknown := [name for name in names if name not in self._lines]:
            known = ", ".join(self._lines) or "no machine"
            raise EdgeAgentError(f"the running agent does not read {', '.join(unknown)}; it reads {known}")
        async for batch in self._taps.watch({name: self._lines[name].tags for name in names}):
            yield batch

    async def _at(self, url: str) -> MachineLine | None:
        """The machine whose connection leads to `url`."""
        if self._last is not None and self._last[0] == url:
            return self._last[1]
        for line in self._lines.values():
            if await same_endpoint(line.settings.url, url):
                self._last = url, line
                return line
        return None
