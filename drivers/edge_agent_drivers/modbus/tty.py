"""Opening a tty for this process alone. Blocks: call it in a thread."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import termios
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent_drivers.modbus.endpoint import Endpoint
from edge_agent_drivers.modbus.faults import LineLost, Taken, Unplugged

if TYPE_CHECKING:
    import serial

_GONE = {errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO}


class Tty:
    """An open tty, as a file descriptor that does not block. It is closed when nobody has it any more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        """Let go of it; harmless twice."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            # The lock is the tty's and not ours: it outlives us where somebody else has it open.
            with contextlib.suppress(OSError):  # It was unplugged.
                fcntl.ioctl(descriptor, termios.TIOCNXCL)
            os.close(descriptor)

    __del__ = close


def open_tty(endpoint: Endpoint, *, read_only: bool = False) -> Tty:
    """Open and lock a serial line; with `read_only` the kernel itself refuses to write to it.

    Two locks, because neither is kept to by everybody: TIOCEXCL keeps later programs out, except root's;
    flock is for those that ask. Who has it open already is looked up.

    Unplugged where there is no such device now, Taken where it is somebody else's or not allowed.
    """
    # Not before: an agent without serial lines does without it.
    import serial

    path = endpoint.host
    # Before it is opened, which would set another speed for whoever has it.
    if users := _users(path):
        raise Taken(f"{path} is open in {users}: only one program can talk on a serial line")
    try:
        port = serial.Serial(
            path, endpoint.baudrate, endpoint.bytesize, endpoint.parity, endpoint.stopbits,
            timeout=0, exclusive=True,
        )  # fmt: skip
    except serial.SerialException as error:
        raise _why(path, error.errno, str(error)) from error
    except (ValueError, termios.error) as error:
        raise Taken(f"{path} does not take {endpoint.format}: {error}") from error
    try:
        return _kept(path, port, read_only)
    except OSError as error:
        raise _why(path, error.errno, str(error)) from error
    finally:
        port.close()


def _kept(path: str, port: serial.Serial, read_only: bool) -> Tty:
    """The tty that `port` has set up, under a descriptor of its own."""
    if read_only:
        tty = Tty(os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
        # flock is held by the way a file was opened, and this is another one.
        port.close()
        fcntl.flock(tty.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        tty = Tty(os.dup(port.fileno()))
    fcntl.ioctl(tty.descriptor, termios.TIOCEXCL)
    return tty


def _why(path: str, number: int | None, text: str) -> LineLost:
    match number:
        case errno.EACCES | errno.EPERM:
            return Taken(
                f"{path} may not be opened by this user: add it to the group dialout, "
                "and for the service install edge-agent.service.d/serial.conf"
            )
        case errno.EBUSY | errno.EAGAIN:
            users = _users(path, ourselves=True) or "another program"
            return Taken(f"{path} is open in {users}: only one program can talk on a serial line")
        case number if number in _GONE:
            return Unplugged(f"there is no {path} now: is the adapter plugged in?")
        case _:
            return Taken(f"{path} cannot be used as a serial line: {text}")


def _users(path: str, *, ourselves: bool = False) -> str:
    """Which other processes have it open, as far as this user may see; `mbpoll (process 4711)`."""
    there = os.path.realpath(path)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()) and not ourselves:
            continue
        try:
            if any(os.readlink(entry) == there for entry in (process / "fd").iterdir()):
                found.append(f"{(process / 'comm').read_text().strip()} (process {process.name})")
        except OSError:
            # It ended meanwhile, or is another user's.
            continue
    return ", ".join(found)
