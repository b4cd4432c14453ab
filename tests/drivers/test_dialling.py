"""Why a connection could not be opened: the words say what to look at."""

from __future__ import annotations

import errno
import socket

import pytest

from edge_agent_drivers.dialling import why_not


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('10.0.4.21', 502)"), "check the port"),
        (socket.gaierror(-2, "Name or service not known"), "check the name"),
        (UnicodeError("label too long"), "check the name"),
        (
            OSError(errno.EHOSTUNREACH, "Connect call failed ('10.0.4.21', 502)"),
            "check power, cable, address",
        ),
        (OSError(errno.ETIMEDOUT, "Connect call failed ('10.0.4.21', 502)"), "timed out: check power"),
        (OSError("Multiple exceptions: ..."), "check power, cable and address"),
    ],
)
def test_the_words_say_what_to_check(error: OSError | UnicodeError, words: str) -> None:
    """What the engineer can look at, and nothing of how asyncio words it."""
    said = why_not(error)
    assert words in said
    assert "Connect call failed" not in said
