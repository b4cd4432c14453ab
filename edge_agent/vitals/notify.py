"""sd_notify(3) in a few lines: readiness, status and watchdog messages to systemd, without a dependency."""

from __future__ import annotations

import logging
import os
import socket

logger = logging.getLogger(__name__)


def sd_notify(state: str) -> bool:
    """Send `state` (`READY=1`, `STATUS=...`, `WATCHDOG=1`, ...; several on lines of their own) to systemd.

    False where there is nobody to tell ($NOTIFY_SOCKET is not set) or it could not be told, which is logged.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address[0] not in "/@":
        logger.warning("$NOTIFY_SOCKET is '%s': only paths and @names are known", address)
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            # The event loop calls this: better to lose a message than to wait for a stuck supervisor.
            channel.setblocking(False)
            channel.connect("\0" + address[1:] if address[0] == "@" else address)
            channel.sendall(state.encode())
    except OSError as problem:
        logger.warning("systemd could not be told '%s': %s", state.partition("\n")[0], problem)
        return False
    return True


def watchdog_seconds() -> float | None:
    """Seconds after which systemd takes our silence for death; None where it does not watch us."""
    text = os.environ.get("WATCHDOG_USEC", "")
    watched = os.environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (watched and watched != str(os.getpid())):
        return None
    return int(text) / 1_000_000
