"""What frames of Modbus RTU look like: how long they are, checksum included. Pure."""

from __future__ import annotations

from edge_agent_drivers.modbus.pdu import EXCEPTION

LONGEST = 256
"""Bytes of the longest frame the specification allows."""
SHORTEST = 5
"""Unit, function, one byte, checksum: an exception."""
_FIXED = {5: 8, 6: 8, 7: 5, 8: 8, 11: 8, 15: 8, 16: 8, 22: 10}
"""Function -> length of its replies, where that is fixed."""
_COUNTED = frozenset({1, 2, 3, 4, 12, 17, 20, 21, 23})
"""Functions whose replies say in their third byte how many bytes follow."""


def reply_length(heard: bytes | bytearray, start: int = 0) -> int | None:
    """How long the reply is that begins at `start`, checksum included.

    0 where no reply begins like this; None where too little of it is there to say.
    """
    if len(heard) < start + 3:
        return None
    function = heard[start + 1]
    if function & EXCEPTION:
        return SHORTEST
    if function in _COUNTED:
        length = SHORTEST + heard[start + 2]
        return length if length <= LONGEST else 0
    return _FIXED.get(function, 0)
