"""Who saw what: every device of the tests counts the function codes that reach it.

The product only reads. `harm` counts what does more than read; tests/conftest.py fails the test in which it
goes up, and the session that ends with more than nothing.
"""

from __future__ import annotations

from collections import Counter

HARMLESS = frozenset({1, 2, 3, 4, 43})
"""The Modbus functions that may ever be seen: reading, and device identification (43/14)."""
_IDENTIFICATION = 14

reads: Counter[str] = Counter()
"""Requests that only read, by kind of device."""
harm: Counter[str] = Counter()
"""What else was seen, by kind of device and function."""


def saw(device: str, pdu: bytes) -> None:
    """A Modbus request reached a device: its function and what follows."""
    function = pdu[0] if pdu else -1
    if function in HARMLESS and (function != 43 or pdu[1:2] == bytes((_IDENTIFICATION,))):
        reads[device] += 1
    else:
        harm[f"{device}: Modbus function {function}"] += 1


def saw_harm(device: str, count: int) -> None:
    """What a device counted itself, such as one in another process."""
    if count:
        harm[device] += count
