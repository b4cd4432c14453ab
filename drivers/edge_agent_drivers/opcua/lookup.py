"""Finding configured nodes on one server, by id and by browse path, with their types and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge_agent.types import Reason, bad
from edge_agent_drivers.opcua.browse import find
from edge_agent_drivers.opcua.items import Item, complain
from edge_agent_drivers.opcua.path import BrowsePath
from edge_agent_drivers.opcua.session import Session
from edge_agent_drivers.opcua.structures import Types

_RANGE = (0, "EURange")


async def look_up(machine: str, session: Session, items: Sequence[Item], types: Types) -> None:
    """Give each item its node, or its trouble. DeviceUnreachable where the server does not answer."""
    for item in items:
        if not isinstance(item.ref, BrowsePath):
            item.node = session.resolve(item.ref)
            if item.node is None:
                item.trouble = bad(Reason.CONFIG_ERROR)
                complain(machine, item, f"the server has no namespace {item.ref.uri}")
    await _follow(machine, session, [item for item in items if isinstance(item.ref, BrowsePath)])
    await _learn(session, [item for item in items if item.node is not None], types)
    await _ranges(machine, session, [item for item in items if item.wish.percent and item.node is not None])


async def _follow(machine: str, session: Session, items: Sequence[Item]) -> None:
    paths = [item.ref for item in items if isinstance(item.ref, BrowsePath)]
    if not paths:
        return
    for item, found in zip(items, await find(session, paths), strict=True):
        item.node = found.node
        if found.problem:
            item.trouble = bad(Reason.ILLEGAL_ADDRESS if found.missing else Reason.CONFIG_ERROR)
            complain(machine, item, found.problem)


async def _learn(session: Session, items: Sequence[Item], types: Types) -> None:
    """Learn the types of structures and enumerations; the others need none."""
    typed = [item for item in items if any(part.type == "string" or part.steps for part in item.parts)]
    if typed:
        names = await types.learn(session, [item.node for item in typed])
        for item, known in zip(typed, names, strict=True):
            item.parts = tuple(replace(part, names=known) for part in item.parts)


async def _ranges(machine: str, session: Session, items: Sequence[Item]) -> None:
    """A deadband in percent is of the EURange; a server refuses or ignores it where there is none."""
    if not items:
        return
    found = await session.translate([(item.node, [_RANGE]) for item in items])
    for item, ranges in zip(items, found, strict=True):
        if not ranges:
            item.node, item.trouble = None, bad(Reason.CONFIG_ERROR)
            complain(
                machine,
                item,
                "its deadband is in percent and the node has no EURange: give the tag a range,"
                " or a deadband in its unit",
            )
