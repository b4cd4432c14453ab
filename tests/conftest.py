"""What every test gets: a blocking call of ours in the event loop fails the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

IN_THE_LOOP = [
    "edge_agent.pipeline",
    "edge_agent.buffer",
    "edge_agent.mqtt",
    "edge_agent.sinks",
    "edge_agent.historian.intake",
    "edge_agent.historian.service",
    "edge_agent_drivers",
]


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[BlockBuster]:
    with blockbuster_ctx(IN_THE_LOOP) as watch:
        yield watch
