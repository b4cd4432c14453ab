"""Opening a TCP connection, and those that speak Modbus TCP and Modbus RTU."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ssl import SSLContext, SSLError

from edge_agent_drivers.dialling import why_not
from edge_agent_drivers.modbus.channel import Dial
from edge_agent_drivers.modbus.faults import Unreached
from edge_agent_drivers.modbus.mbap import MbapConnection
from edge_agent_drivers.modbus.owing import Owing
from edge_agent_drivers.modbus.rtu import RtuConnection


def tcp_dial(host: str, port: int) -> Dial:
    """Opens a TCP connection to `host` with the framing of Modbus TCP."""

    async def dial() -> MbapConnection:
        connection = MbapConnection(f"{host}:{port}")
        await connect(lambda: connection, connection.close, host, port)
        return connection

    return dial


def rtu_tcp_dial(host: str, port: int) -> Dial:
    """Opens a TCP connection to `host` with the framing of Modbus RTU, as transparent gateways want it."""
    owing = Owing()

    async def dial() -> RtuConnection:
        connection = RtuConnection(f"{host}:{port}", owing)
        await connect(lambda: connection, connection.close, host, port)
        return connection

    return dial


async def connect(
    protocol: Callable[[], asyncio.BaseProtocol],
    close: Callable[[], None],
    host: str,
    port: int,
    *,
    tls: SSLContext | None = None,
    server_name: str | None = None,
) -> None:
    """Connect a protocol, which `close` closes where that fails. LineLost, or ssl.SSLError with `tls`."""
    try:
        await asyncio.get_running_loop().create_connection(
            protocol, host, port, ssl=tls, server_hostname=server_name
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that can be no name at all
        close()
        if isinstance(error, SSLError):
            raise
        raise Unreached(f"no connection to {host}:{port}: {why_not(error)}") from error
    except BaseException:
        close()
        raise
