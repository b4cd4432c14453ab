"""One scan for a person to look at: raw, value, unit, quality, reason and time taken (`edge-agent read`)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from edge_agent.contracts.plugs import Driver
from edge_agent.contracts.settings import MachineSettings
from edge_agent.errors import DriverError
from edge_agent.types import Reason, SampleBatch, Status, Tag, bad

Readout = dict[str, dict[str, Any]]
"""TAG -> {value, unit, quality, reason, raw, ms}."""


async def read_directly(driver: Driver) -> tuple[Readout, str]:
    """Connect, scan every group once, close; with what went wrong as a text, empty where nothing did."""
    readout: Readout = {}
    try:
        await driver.connect()
        for group in driver.groups:
            started = time.monotonic()
            batches = await driver.read(group, raw=True)
            readout |= tabulate(batches, group.tags, (time.monotonic() - started) * 1000)
        error = ""
    except DriverError as problem:
        error = str(problem)
    finally:
        await driver.close()
    tags = [tag for group in driver.groups for tag in group.tags]
    return {**missing(tags), **readout}, error


def refusals(settings: MachineSettings, readout: Mapping[str, Mapping[str, Any]]) -> str:
    """What to say of a machine that does not know most of its tags; empty where it does."""
    unknown = sum(cell["reason"] == Reason.ILLEGAL_ADDRESS for cell in readout.values())
    if 2 * unknown <= len(readout):
        return ""
    profile = getattr(settings, "profile", None)
    device = f"is this a device of profile {profile}?" if profile else "is this the right device?"
    return f"answers, but does not know {unknown} of {len(readout)} tags: {device}"


def missing(tags: Iterable[Tag]) -> Readout:
    """Every tag as bad, not connected."""
    return {tag.name: _cell(tag, None, bad(Reason.NOT_CONNECTED), None, None) for tag in tags}


def tabulate(batches: Iterable[SampleBatch], tags: Iterable[Tag], ms: float | None) -> Readout:
    """The newest value of each tag in some batches; `ms` is how long they took."""
    known = {tag.name: tag for tag in tags}
    readout: Readout = {}
    for batch in batches:
        for index, name in enumerate(batch.names):
            raw = batch.raw[index] if batch.raw is not None else None
            readout[name] = _cell(known[name], batch.values[index], batch.status(index), raw, ms)
    return readout


def _cell(tag: Tag, value: object, status: Status, raw: str | None, ms: float | None) -> dict[str, Any]:
    return {
        "value": value,
        "unit": tag.unit,
        "quality": status.quality.word,
        "reason": status.reason.value or None,
        "raw": raw,
        "ms": None if ms is None else round(ms, 2),
    }
