"""Whether the other end of a connection is still there, and still answers what it was given."""

from __future__ import annotations

import fcntl
import struct
import termios


class Liveness:
    """Notices a peer that went without a word, and one that is there and acknowledges nothing.

    `keepalive` in seconds: after that much silence a ping is sent, which must be answered within half as
    much again. Messages must be acknowledged within two of them, counted from the last acknowledgement.
    Bytes that still move on a slow line are a sign of life: a long message takes its time there.
    """

    def __init__(self, keepalive: float, now: float) -> None:
        self._silence = 1.5 * keepalive
        self._patience = 2.0 * keepalive
        self._heard = self._answered = now
        self._unsent = 0

    def heard(self, now: float) -> None:
        """Something was received."""
        self._heard = now

    def answered(self, now: float) -> None:
        """A message was acknowledged or refused."""
        self._answered = now

    def look(self, now: float, *, pending: bool, unsent: int) -> str | None:
        """Why the connection is to be given up; None where it is well.

        `pending`: whether messages wait for their acknowledgement; `unsent`: bytes the peer's side of TCP
        has not confirmed.
        """
        if not pending:
            self._answered = now
        if unsent and unsent != self._unsent:
            self._heard = self._answered = now
        self._unsent = unsent
        if now - self._heard > self._silence:
            return f"nothing was heard from the broker for {now - self._heard:.0f} s"
        if now - self._answered > self._patience:
            return f"the broker acknowledged nothing for {now - self._answered:.0f} s"
        return None


def unsent_bytes(descriptor: int) -> int:
    """Bytes given to a TCP socket that the other end has not confirmed yet."""
    answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4)
    return int(struct.unpack("i", answer)[0])
