"""A real mosquitto on a free loopback port, started, stopped and killed by process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_agent.settings.models import MqttSettings
from tests.support import tools


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(
    port: int, process: subprocess.Popen[bytes], seconds: float = 10, host: str = "127.0.0.1"
) -> None:
    """Return when something listens on the port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"{process.args!r} ended with {process.returncode}")
        try:
            socket.create_connection((host, port), 0.2).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"nothing listens on {port}")


class Mosquitto:
    """A mosquitto with its files in `folder`; `users` maps names to passwords (none: anonymous).

    `host` is the address it listens on, `command` what stands in front of its command line.
    """

    def __init__(
        self,
        folder: Path,
        *,
        users: Mapping[str, str] | None = None,
        acl: str | None = None,
        persistence: bool = False,
        extra: str = "",
        host: str = "127.0.0.1",
        command: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.host = host
        self._command = command
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"listener {self.port} {host}", "user root" if os.getuid() == 0 else ""]
        lines.append(f"allow_anonymous {'false' if users else 'true'}")
        lines.append(f"persistence {'true' if persistence else 'false'}")
        lines.append(f"persistence_location {folder}/")
        lines.append("max_queued_messages 0")
        if users:
            lines.append(f"password_file {self._passwords(users)}")
        if acl:
            (folder / "acl").write_text(acl)
            (folder / "acl").chmod(0o600)
            lines.append(f"acl_file {folder / 'acl'}")
        (folder / "mosquitto.conf").write_text("\n".join([*lines, extra, ""]))

    def _passwords(self, users: Mapping[str, str]) -> Path:
        path = self.folder / "passwords"
        path.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
        path.chmod(0o600)
        subprocess.run([tools.binary("mosquitto_passwd"), "-U", path], check=True, env=tools.environment())
        return path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"mqtt://{self.host}:{self.port}"

    def settings(self, **more: object) -> MqttSettings:
        """Settings of a client of this broker."""
        return MqttSettings.model_validate({"url": self.url, **more})

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, tools.binary("mosquitto"), "-c", self.folder / "mosquitto.conf"],
                env=tools.environment(),
                stdout=log,
                stderr=log,
            )
        wait_for_port(self.port, self.process, host=self.host)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it (SIGKILL for a crash); harmless where it does not run."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            self.process.wait(10)
            self.process = None

    def freeze(self, *, frozen: bool) -> None:
        """SIGSTOP or SIGCONT: a peer that is there and says nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)


async def eventually(condition: object, seconds: float = 10, what: str = "") -> None:
    """Return when the callable `condition` is true; fail after `seconds`."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(what or f"not within {seconds} s")
        await asyncio.sleep(0.01)
