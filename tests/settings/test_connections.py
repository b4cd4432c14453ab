"""Machines that share a connection must speak the same on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_agent.contracts.settings import MachineSettings
from edge_agent.settings import connections
from edge_agent.settings.nodes import MapNode
from edge_agent.settings.sources import Sources
from edge_agent_drivers.modbus.settings import ModbusMachine


def tree(folder: Path, *urls: str) -> MapNode:
    """A configuration with a machine for each url; the scheme says the driver."""
    lines = ["site: s", "machines:"]
    for number, url in enumerate(urls):
        driver = "opcua" if url.startswith("opc") else "modbus"
        lines += [f"  m{number}:", f"    driver: {driver}", f"    url: {url}", "    tags: {a: {}}"]
    path = folder / "agent.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    root = Sources().read(path)
    assert root is not None
    return root


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            "tcp://10.0.4.21:502",
            "rtu+tcp://10.0.4.21:502",
            "is read over rtu+tcp:// here and over tcp:// by 'm0'",
        ),
        ("tcp://10.0.4.21", "rtu+tcp://10.0.4.21:502", "10.0.4.21:502 is read over rtu+tcp://"),
        ("rtu+tcp://10.0.4.21:502", "tls://10.0.4.21:502", "is read over tls:// here"),
        ("tcp://plc:4840", "opc.tcp://PLC:4840", "is read as opcua here and as modbus by 'm0'"),
        ("opc.tcp://plc", "tcp://plc:4840", "plc:4840 is read as modbus here"),
        ("tcp://10.0.4.21:502", "tcp://10.0.4.21:502", None),
        ("tcp://10.0.4.21:502", "udp://10.0.4.21:502", None),
        ("tcp://10.0.4.21:502", "tls://10.0.4.21", None),
        ("rtu:///dev/ttyUSB0", "rtu:///dev/ttyUSB0?baudrate=9600", None),
    ],
)
def test_one_port_speaks_one_protocol(tmp_path: Path, first: str, second: str, message: str | None) -> None:
    """Two framings or drivers on one host and port are an error where the second stands."""
    found = [p for p in connections.of_ports(tree(tmp_path, first, second)) if p.code == "E209"]
    if message is None:
        assert found == []
    else:
        [problem] = found
        assert message in problem.message
        assert (problem.line, problem.column) == (9, 10)


def machines_at(*keys: Mapping[str, Any]) -> dict[str, MachineSettings]:
    return {
        f"m{number}": ModbusMachine.model_validate({"driver": "modbus", **own})
        for number, own in enumerate(keys)
    }


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            "",
            "?baudrate=9600",
            "/dev/ttyUSB0 is read with 9600 baud, 8E1 here and with 19200 baud, 8E1 by 'm0'",
        ),
        ("?parity=N", "", "19200 baud, 8E1 here and with 19200 baud, 8N2"),
        ("?baudrate=19200", "?parity=E", None),
    ],
)
def test_one_serial_line_has_one_setting(tmp_path: Path, first: str, second: str, said: str | None) -> None:
    """Two baud rates or parities on one port are an error where the second stands; defaults count."""
    urls = [f"rtu:///dev/ttyUSB0{query}" for query in (first, second)]
    machines = machines_at(*({"url": url} for url in urls))
    found = list(connections.of_lines(tree(tmp_path, *urls), machines))
    assert [said in problem.message for problem in found] == ([True] if said else [])  # type: ignore[operator]
    assert [(problem.code, problem.line) for problem in found] == ([("E211", 9)] if said else [])


LISTENING = {"mode": "listen"}


@pytest.mark.parametrize(
    ("url", "first", "second", "said"),
    [
        (
            "tls://h:802",
            {"tls": {"insecure": True}},
            {},
            'with tls: {} here and with tls: {"insecure":true} by',
        ),
        ("tls://h:802", {"tls": {}}, {}, None),
        ("rtu:///dev/ttyUSB0", LISTENING, {}, "with mode: poll here and with mode: listen by 'm0'"),
        ("rtu+tcp://h:502", {}, LISTENING, "with mode: listen here and with mode: poll by 'm0'"),
        ("rtu+tcp://h:502", LISTENING, LISTENING, None),
        (
            "rtu:///dev/ttyUSB0",
            {"comm": {"listen": "5s"}},
            {},
            "comm.listen: 3s here and with comm.listen: 5s",
        ),
        ("tcp://h:502", {"comm": {"timeout": "1s"}}, {"comm": {"timeout": "2s"}}, None),
    ],
)
def test_machines_on_one_connection_agree_about_it(
    tmp_path: Path, url: str, first: Mapping[str, Any], second: Mapping[str, Any], said: str | None
) -> None:
    """What the driver would refuse to the second machine at run time is an error before."""
    machines = machines_at({"url": url, **first}, {"url": url, **second})
    found = list(connections.of_lines(tree(tmp_path, url, url), machines))
    assert [said in problem.message for problem in found] == ([True] if said else [])  # type: ignore[operator]
    assert [(problem.code, problem.line) for problem in found] == ([("E211", 9)] if said else [])
