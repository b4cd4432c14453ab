"""What `edge-agent buffer` asks of a running agent: the journals' figures, and their quarantine."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edge_agent.buffer import Journal
from edge_agent.buffer.journal import NEWEST
from edge_agent.buffer.rows import Quarantined
from edge_agent.clock import SECOND, Clock, iso
from edge_agent.errors import EdgeAgentError

PAGE = 50
"""Entries in one answer, and taken in one step."""
_DAY = 86_400.0


class BufferDesk:
    """Answers for the journals of a process, by name."""

    def __init__(self, state: Path, journals: Mapping[str, Journal], clock: Clock, max_size: int) -> None:
        self._state = state.absolute()
        self._journals = journals
        self._clock = clock
        self._max_size = max_size

    async def answer(self, request: Mapping[str, Any]) -> Any:
        """`do`: show, list (with `before`), retry or drop (with `ids`, or all), of the journal `of`.

        None where `state` is another agent's folder: this one's socket was only the next that was found.
        """
        if Path(str(request.get("state"))) != self._state:
            return None
        do = request.get("do", "show")
        if do == "show":
            shown = {name: await self._show(journal) for name, journal in self._journals.items()}
            return {"running": True, "journals": shown}
        journal = self._journals.get(str(request.get("of")))
        if journal is None:
            names = ", ".join(self._journals)
            raise EdgeAgentError(f"there is no journal '{request.get('of')}' here; there is {names}")
        if do == "list":
            before = int(request.get("before") or NEWEST)
            return [entry(one) for one in await journal.quarantined(PAGE, before)]
        if do in ("retry", "drop"):
            return {"entries": await settle(journal, str(do), request.get("ids"))}
        raise EdgeAgentError(f"'{do}' is nothing that can be done with a buffer")

    async def _show(self, journal: Journal) -> dict[str, Any]:
        stats = journal.stats()
        oldest = None if stats.oldest is None else max(0.0, (self._clock.now() - stats.oldest) / SECOND)
        rate = stats.packed / stats.uptime if stats.uptime else 0.0
        written = stats.bytes_written / stats.uptime * _DAY if stats.uptime else 0.0
        return {
            **figures(journal.path, stats.bytes, self._max_size, rate),
            "medium_bytes": await asyncio.to_thread(medium, journal.path),
            "rows": stats.rows,
            "oldest_seconds": oldest,
            "written_per_day": round(written),
            "dropped": dict(stats.dropped),
            "quarantined": stats.quarantined,
            "error": stats.error,
        }


async def settle(journal: Journal, do: str, ids: Iterable[int] | None) -> int:
    """Try entries of the quarantine again, or give them up: those in `ids`, or all. How many it were."""
    wanted = None if ids is None else set(ids)
    done, before = 0, NEWEST
    while found := await journal.quarantined(PAGE, before):
        before = found[-1].id
        chosen = [one for one in found if wanted is None or one.id in wanted]
        if not chosen:
            continue
        if do == "retry":
            await journal.retry_quarantined(chosen)
        else:
            await journal.drop_quarantined(chosen)
        done += len(chosen)
    return done


def figures(path: Path, used: int, max_size: int, rate: float | None) -> dict[str, Any]:
    """How full a journal is, and how long it lasts at `rate` bytes a second (None: not known)."""
    left = (max_size - used) / rate / 3600 if rate else None
    return {
        "path": str(path),
        "bytes": used,
        "max_bytes": max_size,
        "fill": round(used / max_size, 4),
        "hours_left": None if left is None else round(left, 1),
    }


def medium(path: Path) -> int:
    """The size of the medium that holds the journal."""
    return shutil.disk_usage(path.parent).total


def entry(one: Quarantined) -> dict[str, Any]:
    """An entry of the quarantine as JSON."""
    return {
        "id": one.id,
        "seq": one.seq,
        "machine": one.machine,
        "source": one.source,
        "at": iso(one.at),
        "reason": one.reason,
        "lines": one.lines.decode("utf-8", "replace"),
    }
