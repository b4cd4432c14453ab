"""What a server offers: its endpoints, its certificate and its clock, asked without any security.

Nothing of this is proved: it is for choosing and for telling. What counts is the pinned certificate, which
the channel is then bound to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.ua_binary import struct_from_binary

from edge_agent_drivers.opcua.certificate import Certificate, examine
from edge_agent_drivers.opcua.security import DEPRECATED

RANKED = ("Aes256_Sha256_RsaPss", "Basic256Sha256", "Aes128_Sha256_RsaOaep")
"""The policies worth having, the best first."""
_MODES = {1: "None", 2: "Sign", 3: "SignAndEncrypt"}
_LOGINS = {0: "anonymous", 1: "username", 2: "certificate", 3: "token"}


@dataclass(frozen=True, slots=True)
class Offer:
    """One endpoint of a server."""

    policy: str
    """The name after the # of its URI."""
    mode: str
    """None, Sign or SignAndEncrypt."""
    logins: tuple[str, ...]
    """anonymous, username, certificate, token."""
    certificate: Certificate | None

    @property
    def rank(self) -> tuple[int, int]:
        """The smaller, the better."""
        modes = ("SignAndEncrypt", "Sign")
        if self.policy in RANKED and self.mode in modes and self.certificate is not None:
            return modes.index(self.mode), RANKED.index(self.policy)
        return (9, 1 if self.policy in DEPRECATED else 0)


@dataclass(frozen=True, slots=True)
class Found:
    """What a server says of itself."""

    name: str
    uri: str
    offers: tuple[Offer, ...]
    clock: datetime | None
    """What its clock said, UTC."""

    def matching(self, policy: str, mode: str) -> Offer | None:
        """The endpoint with this policy and mode."""
        return next((offer for offer in self.offers if (offer.policy, offer.mode) == (policy, mode)), None)

    def best(self) -> Offer | None:
        """The endpoint to take; None where there is no security worth the name."""
        first = min(self.offers, key=lambda offer: offer.rank, default=None)
        return first if first is not None and first.rank[0] < 9 else None

    def told(self) -> str:
        """Its policies and modes, for an error message."""
        return ", ".join(dict.fromkeys(f"{offer.policy} {offer.mode}" for offer in self.offers)) or "nothing"


async def discover(url: str, timeout: float) -> Found:
    """Ask a server for its endpoints. Whatever asyncua raises where that fails."""
    client = Client(url, timeout=timeout)
    protocol = None
    try:
        await client.connect_socket()
        protocol = client.uaclient.protocol
        await client.send_hello()
        await client.open_secure_channel()
        request = ua.GetEndpointsRequest()
        request.Parameters.EndpointUrl = client.server_url.geturl()
        answer = struct_from_binary(ua.GetEndpointsResponse, await client.uaclient._send_request(request))
        answer.ResponseHeader.ServiceResult.check()
        with contextlib.suppress(OSError):
            await client.close_secure_channel()
        return _found(answer.Endpoints or [], answer.ResponseHeader.Timestamp)
    finally:
        client.disconnect_socket()
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()
        await asyncio.sleep(0)


def _found(endpoints: Sequence[ua.EndpointDescription], clock: datetime | None) -> Found:
    server = endpoints[0].Server if endpoints else ua.ApplicationDescription()
    if clock is not None:
        clock = clock.astimezone(UTC) if clock.tzinfo else clock.replace(tzinfo=UTC)
    return Found(
        str(server.ApplicationName.Text or ""),
        str(server.ApplicationUri or ""),
        tuple(_offer(one) for one in endpoints if str(one.EndpointUrl).startswith("opc.tcp")),
        clock if clock is not None and clock.year > 1970 else None,
    )


def _offer(endpoint: ua.EndpointDescription) -> Offer:
    certificate = None
    with contextlib.suppress(ValueError, TypeError):
        certificate = examine(endpoint.ServerCertificate)
    return Offer(
        short(endpoint.SecurityPolicyUri),
        _MODES.get(int(endpoint.SecurityMode), "invalid"),
        tuple(dict.fromkeys(login_kind(token.TokenType) for token in endpoint.UserIdentityTokens or [])),
        certificate,
    )


def login_kind(token: int) -> str:
    """anonymous, username, certificate or token."""
    return _LOGINS.get(int(token), "unknown")


def short(uri: str | None) -> str:
    """The name of a policy from its URI."""
    return str(uri or "").rpartition("#")[2]
