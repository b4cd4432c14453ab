"""Who we are for one server, and whom we take it for: our certificates, its pinned one, and when they end.

Everything here fails closed: a certificate that is expired, unknown or another one than before is refused,
with what to do about it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge_agent.contracts.doubt import Doubt
from edge_agent.errors import DeviceRefused
from edge_agent_drivers.opcua.certificate import (
    Certificate,
    Credential,
    keep,
    own_credential,
    read_certificate,
    read_credential,
)
from edge_agent_drivers.opcua.security import DEPRECATED, SecuritySettings, pin_path

log = logging.getLogger(__name__)

WARNED = (7, 30, 60)
"""Days before a certificate ends at which it is said."""
SKEW = timedelta(minutes=5)
"""Clocks further apart than this are named as a cause."""

_WEAK = 2048
"""RSA keys shorter than this are too weak for every current policy (Part 7)."""
_OURS = "our certificate"
_USERS = "the user's certificate"
_THEIRS = "the server's certificate"
_RENEW = {
    _OURS: "make a new one with edge-agent opcua enrol --renew, and accept it on the server",
    _USERS: "get a new one from who runs the server",
    _THEIRS: "renew it on the server, then run edge-agent opcua enrol again",
}


def now() -> datetime:
    """The time of this machine's clock, which certificates are judged by, in simulated plants too."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Papers:
    """What we show to a server."""

    own: Credential | None
    user: Credential | None


class Access:
    """The certificates of one machine; lives as long as its driver, so that nothing is said twice."""

    def __init__(self, machine: str, url: str, security: SecuritySettings, state: Path | None) -> None:
        self._machine, self._url, self._state = machine, url, state
        self.security = security
        self._shown: dict[str, Certificate] = {}
        self._said: set[str] = set()

    def papers(self) -> Papers:
        """Our certificates, read or made. Blocking. DeviceRefused where one cannot be used."""
        security = self.security
        own = user = None
        self._shown = {}
        if security.policy in DEPRECATED:
            self.say(f"policy {security.policy} is broken and withdrawn: others may read what is sent")
        try:
            if security.policy != "None":
                own = self._own()
                self._shown[_OURS] = own.certificate
            if security.user_certificate is not None and security.user_key is not None:
                user = read_credential(security.user_certificate, security.user_key)
                self._shown[_USERS] = user.certificate
        except (OSError, ValueError) as error:
            raise self.refusal(str(error)) from error
        return Papers(own, user)

    def _own(self) -> Credential:
        security = self.security
        if security.certificate is not None and security.private_key is not None:
            found = read_credential(security.certificate, security.private_key)
            if not found.certificate.uri:
                raise ValueError(
                    f"{security.certificate} names no application URI: servers will not accept it"
                )
            return found
        if self._state is None:
            raise ValueError(
                "there is no folder to keep a certificate in: put the machine into a configuration and run"
                " edge-agent opcua enrol -c FILE --machine NAME"
            )
        return own_credential(self._machine, self._url, self._state)

    def pinned(self) -> Certificate | None:
        """The server's certificate as it was pinned. Blocking. DeviceRefused where it cannot be read."""
        path = self.security.server_certificate
        if path is None and self._state is not None and pin_path(self._state, self._machine).exists():
            path = pin_path(self._state, self._machine)
        try:
            return read_certificate(path) if path is not None else None
        except ValueError as error:
            raise self.refusal(str(error)) from error

    def judge(self, server: Certificate, their_time: datetime | None) -> None:
        """DeviceRefused where this is not the server we know, or a certificate is not valid now. Blocking.

        `their_time` is what the server's clock says; nothing else is taken from the server's own word.
        """
        pinned = self.pinned()
        if pinned is None and self.security.trust == "pinned":
            raise self.refusal(
                f"its certificate is not pinned (SHA-256 {server.sha256}): compare it and run"
                f" edge-agent opcua enrol -c FILE --machine {self._machine}"
                f" (without a configuration: edge-agent opcua enrol {self._url})"
            )
        if pinned is not None and pinned.der != server.der:
            raise self.refusal(
                f"its certificate is not the pinned one (SHA-256 now {server.sha256}, pinned"
                f" {pinned.sha256}): where it was renewed on purpose, run edge-agent opcua enrol again;"
                " otherwise find out who answers at this address"
            )
        if not server.bits:
            raise self.refusal("its certificate has no RSA key: the policies that are known here need one")
        if server.bits < _WEAK:
            self.say(f"the server's key has only {server.bits} bits: let it make a certificate with {_WEAK}")
        self._shown[_THEIRS] = server
        self.review(their_time)

    def remember(self, server: Certificate) -> None:
        """With `trust: first_use`, pin the certificate of a server that has proved its key. Blocking."""
        if self.security.trust != "first_use" or self.pinned() is not None:
            return
        if self._state is None:
            raise self.refusal("there is no state folder to keep the server's certificate in")
        try:
            keep(pin_path(self._state, self._machine), server.der, 0o644)
        except OSError as error:
            raise self.refusal(f"the server's certificate cannot be kept: {error}") from error
        log.warning("%s: pinned the first certificate seen, SHA-256 %s", self._machine, server.sha256)

    def review(self, their_time: datetime | None = None) -> None:
        """Say once per threshold which certificates will end. DeviceRefused where one is not valid."""
        for what, certificate in self._shown.items():
            if (problem := invalid(what, certificate, their_time)) is not None:
                raise self.refusal(problem)
            days = (certificate.valid_until - now()).days
            if passed := sum(days < limit for limit in WARNED):
                self.say(ending(what, certificate), f"{what} {certificate.sha256} {passed}")

    def say(self, text: str, key: str = "") -> None:
        """Log a warning, once for each `key` (default: the text itself)."""
        if (key or text) not in self._said:
            self._said.add(key or text)
            log.warning("%s: %s", self._machine, text)

    def refusal(self, text: str) -> DeviceRefused:
        """A refusal of ours in the words of the driver."""
        return DeviceRefused(f"machine {self._machine}: {self._url}: {text}")


def invalid(what: str, certificate: Certificate, their_time: datetime | None) -> str | None:
    """Why a certificate is not valid now, with both clocks; None where it is."""
    if certificate.valid_from <= now() <= certificate.valid_until:
        return None
    if now() < certificate.valid_from:
        return f"{what} is valid from {_day(certificate.valid_from)}, and {clocks(their_time)}"
    text = f"{what} has expired on {_day(certificate.valid_until)}, and {clocks(their_time)}"
    return text if apart(their_time) else f"{text}; {_RENEW[what]}"


def clocks(their_time: datetime | None) -> str:
    """Both clocks in words, and what to do where they are apart."""
    ours = now()
    text = f"this machine's clock says {ours:%Y-%m-%d %H:%M} UTC"
    if their_time is None:
        return f"{text}: is that right?"
    text = f"{text}, the server's {their_time:%Y-%m-%d %H:%M} UTC"
    return f"{text}: set the one that is wrong" if apart(their_time) else text


def ending(what: str, certificate: Certificate) -> str:
    """A certificate that will end soon, in words."""
    days = (certificate.valid_until - now()).days
    return f"{what} expires on {_day(certificate.valid_until)}, in {days} days: {_RENEW[what]}"


def doubtful(security: SecuritySettings, unreadable: Set[str]) -> Iterator[Doubt]:
    """What is wrong with certificates that are configured by path, for `check`. Blocking."""
    pairs = (
        (_OURS, "certificate", "private_key"),
        (_USERS, "user_certificate", "user_key"),
        (_THEIRS, "server_certificate", ""),
    )
    for what, name, other in pairs:
        certificate, key = getattr(security, name), getattr(security, other, None)
        if certificate is None or not unreadable.isdisjoint((name, other)):
            continue
        try:
            found = read_credential(certificate, key).certificate if key else read_certificate(certificate)
        except ValueError as error:
            yield Doubt((name,), "W322", str(error), "the agent will not connect")
            continue
        if (problem := invalid(what, found, None)) is not None:
            yield Doubt((name,), "W325", problem, "the agent will not connect")
        elif (found.valid_until - now()).days < WARNED[-1]:
            yield Doubt((name,), "W325", *ending(what, found).split(": ", 1))


def apart(their_time: datetime | None) -> bool:
    """Whether the server's clock is another than ours."""
    return their_time is not None and abs(their_time - now()) > SKEW


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
