"""What enrolling with a server found and did: for people, as JSON, and as YAML to paste. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_agent_drivers.opcua.certificate import Certificate
from edge_agent_drivers.opcua.clicks import what_to_click
from edge_agent_drivers.opcua.discovery import RANKED, Found, Offer
from edge_agent_drivers.opcua.security import DEPRECATED, SecuritySettings

LOGINS = {
    "anonymous": "anonymous", "username": "password", "certificate": "certificate", "token": "token",
}  # fmt: skip


@dataclass(slots=True)
class Enrolment:
    """The state of affairs with one server; filled in as it goes on."""

    machine: str
    url: str
    found: Found
    asked: datetime
    """Our clock when the server told its own."""
    offer: Offer | None = None
    """The endpoint to use."""
    own: Certificate | None = None
    own_files: tuple[Path, Path] | None = None
    pin: Path | None = None
    """Where the server's certificate is pinned; None where it is not."""
    problem: str = ""
    """Why it was not pinned."""
    connected: bool | None = None
    """None: not tried."""
    error: str = ""
    refused: bool = False
    """Whether the server, or we, said no; else it was away."""

    @property
    def exit_code(self) -> int:
        """0 ready, 1 something is left to do, 75 the server is away."""
        if self.pin is None or self.refused:
            return 1
        return 75 if self.connected is False else 0

    @property
    def skew(self) -> float | None:
        """Seconds the server's clock is ahead of ours."""
        return None if self.found.clock is None else (self.found.clock - self.asked).total_seconds()

    def to_json(self, security: SecuritySettings) -> dict[str, Any]:
        """All of it."""
        server = self.offer.certificate if self.offer else None
        return {
            "machine": self.machine,
            "url": self.url,
            "server": {
                "name": self.found.name,
                "application_uri": self.found.uri,
                "clock": self.found.clock.isoformat() if self.found.clock else None,
                "clock_ahead_s": round(self.skew, 1) if self.skew is not None else None,
                "certificate": _certificate(server) if server else None,
            },
            "endpoints": [
                {
                    "policy": offer.policy,
                    "mode": offer.mode,
                    "logins": list(offer.logins),
                    "chosen": offer is self.offer,
                }
                for offer in self.found.offers
            ],
            "client": _certificate(self.own) | {"files": [str(path) for path in self.own_files or ()]}
            if self.own
            else None,
            "pinned": str(self.pin) if self.pin else None,
            "problem": self.problem or None,
            "connection": {"ok": self.connected, "error": self.error or None},
            "security": snippet(self, security) if self.offer else None,
        }

    def look(self) -> Iterator[str]:
        """What the server says of itself, in lines."""
        yield f"{self.url}: {self.found.name or 'a server without a name'} ({self.found.uri})"
        if self.skew is not None and abs(self.skew) > 5:
            yield f"  its clock is {abs(self.skew):.0f} s {'ahead of' if self.skew > 0 else 'behind'} ours"
        yield ""
        yield from _table(self.found.offers, self.offer)
        if self.offer is not None and self.offer.certificate is not None:
            yield ""
            yield "Certificate of the server:"
            yield from (f"  {line}" for line in described(self.offer.certificate))

    def outcome(self, security: SecuritySettings, reader: str) -> Iterator[str]:
        """What became of it, what is left to do, and the YAML."""
        if self.own is not None and self.own_files is not None:
            yield f"Our certificate: {self.own_files[0]} (until {self.own.valid_until:%Y-%m-%d})"
        if self.pin is not None:
            yield f"The server is pinned: {self.pin}"
        if reader:
            yield f"The running agent is connected as {reader}: the pin counts when it next connects."
        elif self.connected:
            yield "Connected: the server accepts us."
        elif self.connected is False:
            yield f"Not connected: {self.error}"
        if "on the server" in self.error and self.own is not None and self.own_files is not None:
            yield ""
            yield from what_to_click(self.own.subject, self.own.sha1, str(self.own_files[0].absolute()))
        if self.offer is not None:
            yield ""
            yield f"For {self.machine} in the configuration:"
            yield f"    security: {_yaml(snippet(self, security))}"


def snippet(enrolment: Enrolment, security: SecuritySettings) -> dict[str, str]:
    """The `security` to write into the YAML."""
    offer = enrolment.offer
    if offer is None:
        return {}
    found = {"policy": offer.policy, "mode": offer.mode}
    if offer.policy in DEPRECATED:
        found["allow_deprecated"] = "true"
    for key in ("certificate", "private_key", "server_certificate"):
        if (path := getattr(security, key)) is not None:
            found[key] = str(path)
    if security.user_certificate is not None:
        return found | {
            "user_certificate": str(security.user_certificate), "user_key": str(security.user_key)
        }  # fmt: skip
    if security.username is not None:
        return found | {"username": security.username, "password": f"!secret {enrolment.machine}"}
    if "anonymous" not in offer.logins and "username" in offer.logins:
        return found | {"username": "USER", "password": f"!secret {enrolment.machine}"}
    if "anonymous" not in offer.logins and "certificate" in offer.logins:
        return found | {"user_certificate": "USER.der", "user_key": "USER.pem"}
    return found


def described(certificate: Certificate) -> Sequence[str]:
    """What one compares by, in lines."""
    return (
        f"subject          {certificate.subject}",
        f"application URI  {certificate.uri or '-'}",
        f"valid            {certificate.valid_from:%Y-%m-%d} to {certificate.valid_until:%Y-%m-%d}",
        f"SHA-1            {_pairs(certificate.sha1)}",
        f"SHA-256          {_pairs(certificate.sha256)}",
    )


def _table(offers: Sequence[Offer], chosen: Offer | None) -> Iterator[str]:
    width = max([6, *(len(offer.policy) for offer in offers)])
    yield f"  {'policy':<{width}}  {'mode':<14}  login"
    for offer in sorted(offers, key=lambda offer: offer.rank):
        note = ""
        if offer is chosen:
            note = "   <- the one to take"
        elif offer.policy in DEPRECATED:
            note = "   withdrawn, broken"
        elif offer.policy not in (*RANKED, "None"):
            note = "   not known here"
        logins = ", ".join(LOGINS.get(login, login) for login in offer.logins)
        yield f"  {offer.policy:<{width}}  {offer.mode:<14}  {logins}{note}"


def _certificate(certificate: Certificate) -> dict[str, Any]:
    return {
        "subject": certificate.subject,
        "application_uri": certificate.uri,
        "valid_from": certificate.valid_from.isoformat(),
        "valid_until": certificate.valid_until.isoformat(),
        "sha1": certificate.sha1,
        "sha256": certificate.sha256,
    }


def _pairs(thumbprint: str) -> str:
    return ":".join(thumbprint[i : i + 2] for i in range(0, len(thumbprint), 2))


def _yaml(keys: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}"
