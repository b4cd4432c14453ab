"""What can go wrong between a question and its answer, and what the tags are then called.

LineFault
├── LineLost     no connection, or it broke
│   ├── NotConnected  not asked, because there is none
│   ├── Unreached    the connection could not be opened; the text says what to check
│   ├── Unplugged    the adapter of a serial line is not there
│   └── Taken        a serial line that is not ours to talk on
├── Untrusted    TLS: a certificate is not accepted, or ours cannot be used
├── NoAnswer     silence until the timeout
│   └── Resting      not asked: a unit that was silent, on a line that others share
├── BadReply     an answer to something else, or none at all: wrong transaction, unit, function, framing
│   └── WrongCount   a well-formed reply with more or fewer bytes than asked for
└── Refused      the device answered with an exception code
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_agent.types import Reason, Status, bad

EXCEPTIONS: Mapping[int, tuple[str, Reason]] = {
    1: ("illegal function: the device has no such table", Reason.CONFIG_ERROR),
    2: ("illegal data address: the device has no such register", Reason.ILLEGAL_ADDRESS),
    3: ("illegal data value: too many registers at once, or a value cut in two", Reason.CONFIG_ERROR),
    4: ("device failure", Reason.DEVICE_FAILURE),
    5: ("acknowledge: the device needs longer", Reason.COMM_FAILURE),
    6: ("device busy", Reason.COMM_FAILURE),
    7: ("negative acknowledge", Reason.DEVICE_FAILURE),
    8: ("memory parity error", Reason.DEVICE_FAILURE),
    9: ("exception 9, which the specification does not define", Reason.DEVICE_FAILURE),
    10: ("gateway path unavailable", Reason.NOT_CONNECTED),
    11: ("gateway target did not respond", Reason.TIMEOUT),
}
"""Exception code -> (what it says, the reason its tags are given)."""

ILLEGAL_ADDRESS = 2
TOO_MANY = 3
BUSY = frozenset({5, 6})
"""Exceptions that ask for patience."""
BEHIND_GATEWAY = frozenset({10, 11})
"""Exceptions a gateway gives when the device itself did not answer."""


class LineFault(Exception):
    """A question that got no usable answer; `status` is what its tags become."""

    status: Status = bad(Reason.COMM_FAILURE)


class LineLost(LineFault):
    """There is no connection, or it broke while waiting."""

    status = bad(Reason.NOT_CONNECTED)


class Unreached(LineLost):
    """The connection could not be opened; the text says why and what to check."""


class Unplugged(LineLost):
    """There is no such tty now; to look again costs nothing."""

    retry_within = 1.0
    """Seconds within which it is worth looking again."""


class Taken(LineLost):
    """A serial line on which another master talks, or that another program has open, or that may not be
    opened: asking again at once is pointless."""


class NotConnected(LineLost):
    """Nothing was asked: there is no connection."""


class NoAnswer(LineFault):
    """Nothing came before the timeout."""

    status = bad(Reason.TIMEOUT)


class Untrusted(LineFault):
    """No secure connection: the server's certificate is not accepted, or our own cannot be used."""

    status = bad(Reason.CONFIG_ERROR)


class Resting(NoAnswer):
    """Not asked, because the unit did not answer before and others share the line."""


class BadReply(LineFault):
    """Something came that does not answer the question."""


class WrongCount(BadReply):
    """The right function, unit and transaction, but not as many bytes as were asked for."""


class Refused(LineFault):
    """The device answered with an exception code."""

    def __init__(self, code: int) -> None:
        text, reason = EXCEPTIONS.get(code, (f"unknown exception {code}", Reason.DEVICE_FAILURE))
        super().__init__(f"exception {code} ({text})" if code in EXCEPTIONS else text)
        self.code = code
        self.status = bad(reason)
