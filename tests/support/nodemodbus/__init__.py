"""modbus-serial and jsmodbus, npm's Modbus packages, in child processes: two servers and a client."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tests.support import tools
from tests.support.witness import HARMLESS

Read = tuple[str, int, int]
"""Table, first address, how many."""


class NodeModbusServer:
    """Serves addresses 0 to 999 of all four tables; a context manager.

    modbus-serial answers unit 1 only and refuses what it does not have with exception 2. jsmodbus answers
    every unit, and beyond its last address with fewer registers than asked for, or with none.
    """

    def __init__(self, package: Literal["modbus-serial", "jsmodbus"]) -> None:
        self.package = package
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [str(tools.node()), str(Path(__file__).with_name("server.cjs")), self.package],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        self.port = self._answer()["port"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def fill(self, table: str, address: int, values: Sequence[int]) -> None:
        """Set registers or bits."""
        self._command(fill=table, address=address, values=list(values))

    @property
    def harmful(self) -> int:
        """Requests it has seen with a function that does not just read."""
        seen = self._command(seen=True)["seen"]
        return sum(count for function, count in seen.items() if int(function) not in HARMLESS)

    def _command(self, **command: Any) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise RuntimeError(f"the {self.package} server is not running")
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise RuntimeError(f"the {self.package} server is not running")
        for line in process.stdout:
            answer: dict[str, Any] = json.loads(line)
            return answer
        raise RuntimeError(f"the {self.package} server ended with {process.wait()}")


def read_with_modbus_serial(port: int, reads: Sequence[Read], unit: int = 1) -> list[list[int] | int]:
    """What the client of modbus-serial reads: the values, or the number of the exception, for each read."""
    script = Path(__file__).with_name("client.cjs")
    command = [str(tools.node()), str(script), str(port), str(unit), json.dumps(reads)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, env=_environment())
    found: list[list[int] | int] = json.loads(run.stdout)
    return found


def _environment() -> dict[str, str]:
    return {**os.environ, "NODE_PATH": str(tools.npm_prefix() / "node_modules")}
