"""Opening a Modbus TCP connection."""

from __future__ import annotations

import asyncio

from edge_agent_drivers.modbus.faults import LineLost
from edge_agent_drivers.modbus.line import Dial
from edge_agent_drivers.modbus.mbap import MbapConnection


def tcp_dial(host: str, port: int) -> Dial:
    """Opens a TCP connection to `host` with the framing of Modbus TCP."""

    async def dial() -> MbapConnection:
        name = f"{host}:{port}"
        connection = MbapConnection(name)
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that can be no name at all
            connection.close()
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise LineLost(f"no connection to {name}: {why}") from error
        except BaseException:
            connection.close()
            raise
        return connection

    return dial
