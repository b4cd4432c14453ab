"""Connections that machines share: one protocol on a port, one way of talking on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from edge_agent import registry
from edge_agent.contracts.settings import MachineSettings
from edge_agent.settings.nodes import MapNode, Place, text_of
from edge_agent.settings.problems import Problem, at


class _Connection(NamedTuple):
    """Where a machine is and what is spoken there."""

    place: tuple[str, str, int]
    """udp or tcp (two things that may share a number), host, port."""
    speech: str


def of_ports(root: MapNode) -> Iterator[Problem]:
    """One protocol on each host and port, whether or not the rest of a machine could be read."""
    seen: dict[tuple[str, str, int], tuple[str, str, str]] = {}
    drivers = registry.driver_names()
    for name, _, node in root.mappings("machines"):
        url, driver = text_of(node.get("url")), text_of(node.get("driver"))
        connection = _connection(url) if url else None
        # A driver that is not known at all is named where it stands.
        if connection is None or driver not in drivers:
            continue
        speech = connection.speech
        first, first_driver, first_speech = seen.setdefault(connection.place, (name, driver, speech))
        _, host, port = connection.place
        if first_driver != driver:
            message = f"{host}:{port} is read as {driver} here and as {first_driver} by '{first}'"
            yield at(node.entries["url"].value.place, "E209", message, "one of the two ports is wrong")
        elif first_speech != speech:
            message = f"{host}:{port} is read over {speech}:// here and over {first_speech}:// by '{first}'"
            hint = "one port speaks one protocol: write the same in both, as the gateway is set"
            yield at(node.entries["url"].value.place, "E209", message, hint)


_PORTS = {"tcp": 502, "udp": 502, "rtu+tcp": 502, "tls": 802, "opc.tcp": 4840}


def _connection(url: str) -> _Connection | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or not port:
        return None
    return _Connection(("udp" if parts.scheme == "udp" else "tcp", parts.hostname, port), parts.scheme)


def of_lines(root: MapNode, machines: Mapping[str, MachineSettings]) -> Iterator[Problem]:
    """One way of talking on each line that machines share: the same baud rate, mode, certificates."""
    seen: dict[tuple[str, tuple[str, ...]], tuple[str, str]] = {}
    for name, machine in machines.items():
        line, agreed = machine.shared_line() or ("", {})
        for key, how in agreed.items():
            first, first_how = seen.setdefault((line, key), (name, how))
            if first_how != how:
                message = f"{line} is read with {how} here and with {first_how} by '{first}'"
                yield at(_place(root, name, key), "E211", message, _ALIKE.get(key, _ALIKE["url",]))


_ALIKE: Mapping[tuple[str, ...], str] = {
    ("url",): "all devices of a line have the same settings; correct one, or set the device",
    ("tls",): "machines with one host and port share the connection: write the same in both",
    ("mode",): "on one line the agent either polls or listens: write the same in both",
    ("comm", "listen"): "a line is listened to once for all its machines: write the same in both",
}


def _place(root: MapNode, machine: str, key: tuple[str, ...]) -> Place:
    """Where a key of a machine stands, else the machine's `url`."""
    for path in (key, ("url",)):
        node = root.get("machines", machine, *path)
        if node is not None:
            return node.place
    return root.place
