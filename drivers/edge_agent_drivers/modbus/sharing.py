"""Which connection leads to an endpoint: one for all machines and commands of the process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from weakref import WeakKeyDictionary

from edge_agent_drivers.modbus.channel import Dial, Timing
from edge_agent_drivers.modbus.connection import Connection
from edge_agent_drivers.modbus.endpoint import Endpoint
from edge_agent_drivers.modbus.faults import LineLost
from edge_agent_drivers.modbus.line import ModbusLine
from edge_agent_drivers.modbus.security import TlsSettings
from edge_agent_drivers.modbus.serial_port import LISTEN, SerialDial
from edge_agent_drivers.modbus.tcp import rtu_tcp_dial, tcp_dial
from edge_agent_drivers.modbus.tls import tls_dial
from edge_agent_drivers.modbus.udp import udp_dial

Key = tuple[bool, str, int]
"""What has one connection: datagrams or not, host or tty, port."""
Way = tuple[Endpoint, TlsSettings | None, float]
"""How it is reached: machines that share a connection must agree about it."""

_connections: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Key, tuple[Way, Connection, Dial]]] = (
    WeakKeyDictionary()
)
"""Kept while the loop lives, closed or not: transaction numbers, pauses and rests outlast a reconnect."""


def line_to(endpoint: Endpoint, timing: Timing, tls: TlsSettings | None = None) -> ModbusLine:
    """A line to `endpoint` over the connection that all lines to it share; opens nothing yet.

    A serial line is listened to first, also where `timing` says nothing of it.
    """
    if endpoint.serial and not timing.listen:
        timing = replace(timing, listen=LISTEN)
    return ModbusLine.over(str(endpoint), lambda: _connection(endpoint, tls, timing.listen), timing)


def _connection(endpoint: Endpoint, tls: TlsSettings | None, listen: float) -> Connection:
    """The connection to an endpoint. LineLost where it is in use in another way."""
    known = _connections.setdefault(asyncio.get_running_loop(), {})
    key = (endpoint.scheme == "udp", endpoint.host.lower(), endpoint.port)
    way = (endpoint, tls, listen)
    if key in known:
        there, connection, before = known[key]
        if there == way:
            return connection
        if connection.in_use:
            raise LineLost(
                f"{endpoint} is in use as {there[0].scheme}:// with other settings: make them alike"
            )
        if isinstance(before, SerialDial):
            before.close()
    numbered = endpoint.scheme not in ("rtu", "rtu+tcp")
    dial = _dial(endpoint, tls, listen)
    connection = Connection(
        str(endpoint), dial, numbered=numbered, shared=True, datagrams=endpoint.scheme == "udp"
    )
    known[key] = way, connection, dial
    return connection


def _dial(endpoint: Endpoint, tls: TlsSettings | None, listen: float) -> Dial:
    match endpoint.scheme:
        case "udp":
            return udp_dial(endpoint.host, endpoint.port)
        case "tls":
            return tls_dial(endpoint.host, endpoint.port, tls or TlsSettings())
        case "rtu":
            return SerialDial(endpoint, listen)
        case "rtu+tcp":
            return rtu_tcp_dial(endpoint.host, endpoint.port)
        case _:
            return tcp_dial(endpoint.host, endpoint.port)
