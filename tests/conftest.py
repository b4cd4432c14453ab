"""What every test gets: it fails where a call of ours blocks the event loop or a device is written to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from edge_agent_simulators import modbus_server
from tests.support import witness

# How long an example takes says how busy the machine is; what is too slow has a test of its own.
settings.register_profile("edge-agent", deadline=None)
settings.load_profile("edge-agent")

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


@pytest.fixture(autouse=True, scope="session")
def _simulators_are_watched() -> Iterator[None]:
    """Our simulators count for the witness too, whatever a test makes of them."""
    with pytest.MonkeyPatch.context() as patch:
        connection = modbus_server._Connection
        serve = connection._serve

        def watched_serve(self: Any, transaction: int, unit: int, pdu: bytes) -> None:
            witness.saw("Modbus simulator", pdu)
            serve(self, transaction, unit, pdu)

        patch.setattr(connection, "_serve", watched_serve)
        # Only where a test has loaded it already: asyncua takes a second.
        opcua_server = sys.modules.get("edge_agent_simulators.opcua_server")
        if opcua_server is not None:
            count = opcua_server.OpcuaServer._count_write

            async def watched_count(self: Any, event: Any, service: Any) -> None:
                before = self.write_requests
                await count(self, event, service)
                witness.saw_harm("OPC UA simulator: writes", self.write_requests - before)

            patch.setattr(opcua_server.OpcuaServer, "_count_write", watched_count)
        yield


@pytest.fixture(autouse=True)
def _nobody_writes(request: pytest.FixtureRequest) -> Iterator[None]:
    """No device may see anything but reading, except from tests of the devices themselves."""
    before = witness.harm.copy()
    yield
    harm = witness.harm - before
    if request.node.get_closest_marker("writes_on_purpose"):
        witness.harm.subtract(harm)
    else:
        assert not harm, "a device was asked for more than reading"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A session in which any device saw a write has failed, whenever it was."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["reads"], output["harm"] = dict(witness.reads), dict(witness.harm)
    elif +witness.harm and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what the devices of a worker of pytest-xdist saw."""
    output = getattr(node, "workeroutput", {})
    witness.reads.update(output.get("reads", {}))
    witness.harm.update(output.get("harm", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the devices saw."""
    harm = +witness.harm
    if witness.reads or harm:
        text = f"devices saw {witness.reads.total()} Modbus reads and {harm.total()} writes"
        terminalreporter.write_line(text, red=bool(harm))
    for what, count in harm.items():
        terminalreporter.write_line(f"  {count} x {what}", red=True)
