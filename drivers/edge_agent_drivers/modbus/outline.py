"""The plan as people see it: each request, what lies in it, and what it costs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_agent.contracts.plugs import PlannedRequest
from edge_agent_drivers.modbus.columns import GroupPlan
from edge_agent_drivers.modbus.endpoint import Endpoint
from edge_agent_drivers.modbus.limits import Limits
from edge_agent_drivers.modbus.plan import Block, coalesce

_QUESTION_BYTES = 8
_ANSWER_BYTES = 5
"""Unit, function, count and CRC around the payload."""


def outline(plans: Sequence[GroupPlan], limits: Limits, endpoint: Endpoint) -> Iterator[PlannedRequest]:
    """Every request of every group, in the order they are sent."""
    for plan in plans:
        for block in coalesce(plan.spans, limits):
            wanted = {span.address + i for span in block.spans for i in range(span.count)}
            yield PlannedRequest(
                every=plan.group.every,
                what=block.where,
                tags=tuple(span.name for span in block.spans),
                addresses=block.count,
                wasted=block.count - len(wanted),
                seconds=line_time(block, endpoint) if endpoint.serial else None,
            )


def line_time(block: Block, endpoint: Endpoint) -> float:
    """Seconds that question and answer take on a serial line, without the time the device thinks."""
    return (_QUESTION_BYTES + _ANSWER_BYTES + block.payload_bytes) * endpoint.character + 2 * endpoint.silence
