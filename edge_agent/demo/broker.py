"""The demo's broker: a mosquitto found on the machine, else the embedded one; never with open doors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import SecretStr

from edge_agent.errors import TemporaryError
from edge_agent.settings.models import MqttSettings

START_SECONDS = 10.0


def find_mosquitto() -> tuple[str, str] | None:
    """mosquitto and mosquitto_passwd, where both are installed (Debian keeps the first in /usr/sbin)."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    programs = [shutil.which(name, path=path) for name in ("mosquitto", "mosquitto_passwd")]
    return (programs[0], programs[1]) if programs[0] and programs[1] else None


def free_port() -> int:
    """A TCP port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def mosquitto(programs: tuple[str, str], folder: Path) -> AsyncIterator[MqttSettings]:
    """A mosquitto of our own on a free loopback port, with a password made for this run."""
    port, password = free_port(), secrets.token_urlsafe(18)
    configuration = await asyncio.to_thread(_write_configuration, programs[1], folder, port, password)
    process = await asyncio.create_subprocess_exec(
        programs[0], "-c", str(configuration),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await _listening(port, process)
        yield MqttSettings(url=f"mqtt://127.0.0.1:{port}", username="demo", password=SecretStr(password))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _write_configuration(passwd: str, folder: Path, port: int, password: str) -> Path:
    import subprocess

    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "users"
    users.touch(mode=0o600)
    subprocess.run([passwd, "-b", str(users), "demo", password], check=True, capture_output=True)
    lines = [
        "per_listener_settings true",
        f"listener {port} 127.0.0.1",
        "allow_anonymous false",
        f"password_file {users}",
        "max_queued_messages 0",
        "persistence false",
    ]
    if os.geteuid() == 0:
        # mosquitto would drop to a user who cannot read the password file of root.
        lines.append("user root")
    configuration = folder / "mosquitto.conf"
    configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return configuration


async def _listening(port: int, process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                with contextlib.suppress(ConnectionError):
                    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        pass
    raise TemporaryError(f"mosquitto did not start on 127.0.0.1:{port}")
