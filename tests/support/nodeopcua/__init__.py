"""A node-opcua server in a child process, driven by lines on its standard input."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import tools

NAMESPACE = "urn:plant:node"
USERNAME, PASSWORD = "edge", "right"


class NodeOpcuaServer:
    """Serves `nsu=urn:plant:node;s=Press.Temperature` and others; a context manager; starts in seconds.

    `folder` keeps its certificates. Endpoints: None, and every policy with Sign and SignAndEncrypt, each for
    anonymous users, for `USERNAME` with `PASSWORD`, and for users with a certificate that was accepted.
    `shifted` puts another namespace before `NAMESPACE`.
    """

    def __init__(self, folder: Path, port: int = 0, *, shifted: bool = False) -> None:
        self._arguments = [str(folder), str(port), *(["shifted"] if shifted else [])]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        script = Path(__file__).with_name("server.cjs")
        modules = tools.npm_prefix() / "node_modules"
        self._process = subprocess.Popen(
            [str(tools.node()), str(script), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "NODE_PATH": str(modules)},
        )
        self.url = f"opc.tcp://127.0.0.1:{self._answer()['port']}"
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

    def _answer(self) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise RuntimeError("the node-opcua server is not running")
        for line in process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"the node-opcua server ended with {process.wait()}")

    def command(self, **command: Any) -> int:
        """Send one command; how many write requests the server has seen so far."""
        return int(self._asked(command)["writes"])

    def _asked(self, command: dict[str, Any]) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the node-opcua server is not running")
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def set(self, name: str, value: float | bool | str, status: str = "Good") -> None:
        """Give `Press.NAME` a value, now, with one of node-opcua's status codes."""
        self.command(set=name, value=value, status=status)

    def accept(self, certificate: bytes) -> None:
        """Trust a client's certificate (DER), as the operator does by moving it to the trusted folder."""
        self.command(accept=base64.b64encode(certificate).decode())

    def accept_user(self, certificate: bytes) -> None:
        """Let in the user with this certificate (DER)."""
        self.command(acceptUser=base64.b64encode(certificate).decode())

    @contextmanager
    def distrustful(self) -> Iterator[None]:
        """Take only client certificates that were accepted; otherwise all are."""
        self.command(trust=False)
        try:
            yield
        finally:
            self.command(trust=True)

    def put_clock_off(self, seconds: float) -> None:
        """Put its clock ahead, or with a negative number behind, for the rest of its life."""
        self.command(skew=seconds)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process in its tracks: its port still takes connections, and nothing answers."""
        if self._process is None:
            raise RuntimeError("the node-opcua server is not running")
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @property
    def refused_requests(self) -> int:
        """Requests that asked for more than the server takes at a time."""
        return int(self._asked({"writes": True})["refused"])

    @property
    def write_requests(self) -> int:
        """Write requests it has seen."""
        return self.command(writes=True)


def read_with_client(
    folder: Path, url: str, node: str, ways: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Let a node-opcua client read one node of a server in each of these ways; see client.cjs."""
    script = Path(__file__).with_name("client.cjs")
    done = subprocess.run(
        [str(tools.node()), str(script), str(folder), url, node, json.dumps(list(ways))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NODE_PATH": str(tools.npm_prefix() / "node_modules")},
        timeout=50,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
