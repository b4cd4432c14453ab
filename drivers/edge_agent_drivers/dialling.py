"""Why a connection could not be opened, in words that say what to look at."""

from __future__ import annotations

import errno
import os
import socket

_NO_WAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


def why_not(error: OSError | UnicodeError) -> str:
    """What the system said when it was asked to connect, and what to check."""
    if isinstance(error, ConnectionRefusedError):
        return "refused: nothing listens on this port (or it is full): check the port and the device's server"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "there is no computer of that name: check the name, or write the IP address"
    if error.errno in _NO_WAY:
        return "no way to this address: check power, cable, address and network mask"
    # asyncio puts the address into strerror, which we have said already.
    what = os.strerror(error.errno) if error.errno else str(error)
    return f"{what}: check power, cable and address"
