"""An RS-485 line made of pseudo terminals: what one says, all the others hear."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pymodbus.framer.rtu import FramerRTU

Spoil = Callable[[bytes], bytes]


class Bus:
    """Ports are plugged in by name and unplugged again; a context manager within a running loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ports: dict[str, tuple[int, int]] = {}
        """Name -> our end and theirs, as file descriptors."""
        self._devices: list[Device] = []
        self.said: dict[str, bytearray] = {}
        """What came from each port."""
        self.echo = False
        """Whether a port hears itself, as behind some adapters."""
        self.spoil: Spoil = lambda content: content
        """What becomes of what a device says."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.ports):
            self.unplug(name)

    def plug(self, name: str) -> Path:
        """A tty that is part of the line."""
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        self.ports[name] = ours, theirs
        self.said.setdefault(name, bytearray())
        path = self._folder / name
        path.unlink(missing_ok=True)
        path.symlink_to(os.ttyname(theirs))
        asyncio.get_running_loop().add_reader(ours, self._readable, name)
        return path

    def unplug(self, name: str) -> None:
        """Pull the adapter out."""
        ours, theirs = self.ports.pop(name)
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)
        os.close(theirs)
        (self._folder / name).unlink()

    def device(self, unit: int, **keys: bool) -> Device:
        """A device at the line."""
        made = Device(self, unit, **keys)
        self._devices.append(made)
        return made

    def say(self, content: bytes, speaker: object = None) -> None:
        """Put bytes on the line."""
        for name, (ours, _) in self.ports.items():
            if name != speaker or self.echo:
                os.write(ours, content)
        for device in self._devices:
            if device is not speaker:
                device.hear(content)

    def _readable(self, name: str) -> None:
        content = os.read(self.ports[name][0], 4096)
        self.said[name] += content
        self.say(content, name)


class Device:
    """Answers for holding:N with `words(N)`; checksums are pymodbus'."""

    def __init__(self, bus: Bus, unit: int, silent: bool = False) -> None:
        self._bus, self.unit, self.silent = bus, unit, silent
        self.words: Callable[[int], int] = lambda address: (100 * unit + address) & 0xFFFF
        self.delay: Callable[[], float] = lambda: 0.002
        self._heard = b""
        self.requests: list[bytes] = []

    def hear(self, content: bytes) -> None:
        """What others say."""
        self._heard = (self._heard + content)[-8:]
        request = self._heard
        if len(request) == 8 and request[0] == self.unit and checksum(request[:6]) == request[6:]:
            self._heard = b""
            self.requests.append(request)
            if not self.silent:
                asyncio.get_running_loop().call_later(self.delay(), self._answer, request)

    def _answer(self, request: bytes) -> None:
        address, count = int.from_bytes(request[2:4], "big"), int.from_bytes(request[4:6], "big")
        words = b"".join(self.words(address + i).to_bytes(2, "big") for i in range(count))
        self._bus.say(self._bus.spoil(sealed(request[:2] + bytes((len(words),)) + words)), self)


def checksum(content: bytes) -> bytes:
    """The checksum as it stands at the end of a frame."""
    return FramerRTU.compute_CRC(content).to_bytes(2, "big")


def sealed(content: bytes) -> bytes:
    """`content` with its checksum."""
    return content + checksum(content)


def read_request(unit: int, address: int, count: int, function: int = 3) -> bytes:
    """What a master sends to read registers."""
    return sealed(bytes((unit, function)) + address.to_bytes(2, "big") + count.to_bytes(2, "big"))
