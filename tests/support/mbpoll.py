"""mbpoll, the command-line Modbus master on libmodbus."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from tests.support import tools
from tests.support.nodemodbus import Read

_TYPES = {"coil": "0", "discrete": "1", "input": "3", "holding": "4"}
_EXCEPTIONS = {"Illegal function": 1, "Illegal data address": 2, "Illegal data value": 3}
_VALUE = re.compile(r"^\[(\d+)\]:\s+(-?\d+)", re.MULTILINE)


def read_with_mbpoll(port: int, reads: Sequence[Read], unit: int = 1) -> list[list[int] | int]:
    """What mbpoll reads: the values, or the number of the exception, for each read."""
    return [_read(port, read, unit) for read in reads]


def _read(port: int, read: Read, unit: int) -> list[int] | int:
    table, address, quantity = read
    command = [str(tools.binary("mbpoll")), "-m", "tcp", "-p", str(port), "-a", str(unit), "-0", "-1", "-q"]
    command += ["-t", _TYPES[table], "-r", str(address), "-c", str(quantity), "-o", "5", "127.0.0.1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, env=tools.environment())
    said = run.stdout + run.stderr
    for text, code in _EXCEPTIONS.items():
        if text in said:
            return code
    values = {int(at): int(value) & 0xFFFF for at, value in _VALUE.findall(said)}
    if sorted(values) != list(range(address, address + quantity)):
        raise AssertionError(f"mbpoll said: {said}")
    return [values[at] for at in sorted(values)]
