"""Whether two URLs lead to the same connection: the same host and port, or the same serial line."""

from __future__ import annotations

import asyncio
import os
import socket
from urllib.parse import urlsplit

_PORTS = {"tcp": 502, "udp": 502, "rtu+tcp": 502, "tls": 802, "opc.tcp": 4840}
_PATIENCE = 2.0
"""Seconds for a name to be looked up."""


async def same_endpoint(one: str, other: str) -> bool:
    """True where both lead to one device or gateway, whatever they call it (a name, an address, a link)."""
    if one == other:
        return True
    first, second = _split(one), _split(other)
    if first is None or second is None or first[1] != second[1]:
        return False
    if first[1] == 0:
        paths = await asyncio.gather(
            *(asyncio.to_thread(os.path.realpath, path) for path, _ in (first, second))
        )
        return paths[0] == paths[1]
    if first[0] == second[0]:
        return True
    found = await asyncio.gather(*(_addresses(*place) for place in (first, second)))
    return bool(found[0] & found[1])


def _split(url: str) -> tuple[str, int] | None:
    """Host and port, or path and 0; None where the URL is none."""
    scheme, _, rest = url.partition("://")
    if rest.startswith("/"):
        return rest.partition("?")[0], 0
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(scheme, 0)
        return (parts.hostname, port) if parts.hostname and port else None
    except ValueError:
        return None


async def _addresses(host: str, port: int) -> set[str]:
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return {host}
    return {str(address[0]) for *_, address in found}
