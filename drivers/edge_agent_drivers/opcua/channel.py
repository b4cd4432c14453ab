"""The way into a server: socket, secure channel, login; and what a refusal means, in words.

asyncua's own reconnecting, its supervisor and its stale-subscription watchdog are left out (`Client.connect`
is not called): they may re-create a subscription without its items, and a connection has one owner, the
sampler.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UaClient, UaClientState
from asyncua.crypto import security_policies as policies
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography import x509

from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent_drivers.dialling import why_not
from edge_agent_drivers.opcua.access import Access, Papers, apart, clocks
from edge_agent_drivers.opcua.certificate import Certificate, Credential
from edge_agent_drivers.opcua.discovery import RANKED, discover, login_kind, short
from edge_agent_drivers.opcua.refusals import ADVICE, CLOCK_CODES

log = logging.getLogger(__name__)

# asyncua logs every lost request with its traceback; the driver and the sampler say it once.
if logging.getLogger("asyncua").level == logging.NOTSET:
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)

LIFETIME = 3600.0
"""Seconds that the keys of a channel are asked to last; they are renewed after three quarters of it."""
_POLICIES: Mapping[str, type[policies.SecurityPolicy]] = {
    "Basic256Sha256": policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": policies.SecurityPolicyAes256Sha256RsaPss,
    "Basic256": policies.SecurityPolicyBasic256,
    "Basic128Rsa15": policies.SecurityPolicyBasic128Rsa15,
}
_IN_WORDS = {
    "anonymous": "anonymous", "username": "user and password", "certificate": "user certificate",
    "token": "issued token",
}  # fmt: skip


class Channel:
    """One logged in connection with one server, from `open` to `close`; afterwards a new one is made."""

    def __init__(self, machine: str, url: str, access: Access, timeout: float) -> None:
        self._machine, self._url, self._access, self._timeout = machine, url, access, timeout
        self._client = Client(url, timeout=timeout)
        self._client.name = self._client.description = "edge-agent"
        self._client.secure_channel_timeout = int(1000 * LIFETIME)
        self._their_time: datetime | None = None
        self._securing = False

    @property
    def services(self) -> UaClient:
        """The services of the server, as asyncua calls them."""
        return self._client.uaclient

    @property
    def connected(self) -> bool:
        """Whether the session is still there, as far as the socket knows."""
        return self._client.uaclient.state is UaClientState.CONNECTED

    @property
    def upkeep(self) -> float:
        """Seconds after which the channel must be renewed, and the session be used."""
        return min(0.75 * self._client.secure_channel_timeout, self._client.session_timeout / 3) / 1000

    async def open(self, *, log_in: bool = True) -> None:
        """Connect, secure, log in. Whatever asyncua raises; `translated` says it in our words."""
        papers = await asyncio.to_thread(self._access.papers)
        server = None
        if papers.own is not None:
            server = await self._secure(papers.own)
        await self._client.connect_socket()
        self._keep_reasons()
        await self._client.send_hello()
        self._securing = server is not None
        await self._client.open_secure_channel()
        self._by_our_clock()
        self._securing = False
        await self._client.create_session()
        if log_in:
            await self._log_in(papers)
        if server is not None:
            await asyncio.to_thread(self._access.remember, server)

    async def _secure(self, own: Credential) -> Certificate:
        """Bind the channel to our certificate and the server's, which is judged first."""
        security = self._access.security
        found = await discover(self._url, self._timeout)
        self._their_time = found.clock
        offer = found.matching(security.policy, security.channel_mode)
        if offer is None or offer.certificate is None:
            raise self._access.refusal(
                f"it does not offer policy {security.policy} {security.channel_mode};"
                f" it offers {found.told()}"
            )
        await asyncio.to_thread(self._access.judge, offer.certificate, found.clock)
        policy = _POLICIES[security.policy](
            offer.certificate.der,
            x509.load_der_x509_certificate(own.certificate.der),
            own.key,
            ua.MessageSecurityMode[security.channel_mode],
        )
        self._client.application_uri = own.certificate.uri
        self._client.security_policy = policy  # type: ignore[assignment]  # asyncua infers None's
        self._client.uaclient.set_security(policy)
        return offer.certificate

    async def _log_in(self, papers: Papers) -> None:
        client, security = self._client, self._access.security
        kind = "username" if security.username else "certificate" if papers.user else "anonymous"
        known = {login_kind(token.TokenType) for token in client._policy_ids}
        if known and kind not in known:
            offered = ", ".join(_IN_WORDS.get(each, each) for each in sorted(known))
            raise self._access.refusal(
                f"it has no login by {_IN_WORDS[kind]}: check security; it has {offered}"
            )
        # asyncua takes the first of a kind; one that encrypts the password is better than one that does not.
        client._policy_ids = sorted(client._policy_ids, key=lambda token: self._rank(token.SecurityPolicyUri))
        if papers.user is not None:
            client.user_certificate = x509.load_der_x509_certificate(papers.user.certificate.der)
            client.user_private_key = papers.user.key
        if kind != "anonymous":
            self._warn_of_clear_text(kind)
        await client.activate_session(
            username=security.username,
            password=security.password.get_secret_value() if security.password else None,
            certificate=client.user_certificate,
        )

    def _rank(self, uri: str | None) -> int:
        policy = short(uri) or short(self._client.security_policy.URI)
        return RANKED.index(policy) if policy in RANKED else 8 if policy == "None" else 7

    def _warn_of_clear_text(self, kind: str) -> None:
        token = ua.UserTokenType.UserName if kind == "username" else ua.UserTokenType.Certificate
        bare = short(self._client.server_policy(token).SecurityPolicyUri) in ("", "None")
        if not bare:
            return
        if kind == "certificate":
            raise self._access.refusal(
                "it would take the user's certificate without a signature: write policy: Basic256Sha256"
            )
        if self._access.security.channel_mode != "SignAndEncrypt":
            self._access.say(
                "the password crosses the network in clear text: the server asks for it like that"
            )

    def _keep_reasons(self) -> None:
        """Let a refused channel fail with the server's reason: asyncua drops it and fails an assertion."""
        protocol = self._client.uaclient.protocol
        if protocol is None:
            return
        answered = protocol._call_callback

        def answer(request_id: int, body: Any) -> None:
            if not isinstance(body, ua.Acknowledge):
                try:
                    protocol.check_answer(body, "")
                except UaError as refused:
                    waiting = protocol._callbackmap.pop(request_id, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_exception(refused)
                    return
            answered(request_id, body)

        protocol._call_callback = answer  # type: ignore[method-assign]

    def _by_our_clock(self) -> None:
        """Count the life of the channel's keys from now, by our clock.

        asyncua compares the moment the server says they were made with our clock, and would cut the
        connection at the first renewal where the server's clock is behind.
        """
        protocol = self._client.uaclient.protocol
        if protocol is not None:
            # A request sent meanwhile may have brought the new keys into use already.
            channel = protocol._connection
            newest = (
                channel.next_security_token if channel.next_security_token.TokenId else channel.security_token
            )
            newest.CreatedAt = ua.DateTime.now(UTC)

    async def renew(self) -> None:
        """New keys for the channel, as long as all certificates are valid. Whatever asyncua raises."""
        await asyncio.to_thread(self._access.review)
        await self._client.open_secure_channel(renew=True)
        self._by_our_clock()
        self._client.uaclient.revolve_security_token()

    async def close(self) -> None:
        """End the session as far as the server still listens; harmless where there is none."""
        protocol = self._client.uaclient.protocol
        publishing = self._client.uaclient.session._publish_task
        try:
            async with asyncio.timeout(self._timeout):
                await self._client.disconnect()
        except TimeoutError:
            log.debug("%s: %s did not confirm the end of the session", self._machine, self._url)
        if publishing is not None:
            # asyncua leaves it sleeping where the connection was already lost.
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()

    def translated(self, failure: Exception) -> DeviceUnreachable | DeviceRefused:
        """Everything asyncua raises, and it raises anything on garbled bytes, in our words."""
        if isinstance(failure, DeviceUnreachable | DeviceRefused):
            return failure
        start = f"machine {self._machine}: {self._url}"
        if isinstance(failure, UaStatusCodeError):
            if failure.code in CLOCK_CODES or (failure.code in ADVICE and apart(self._their_time)):
                return self._access.refusal(
                    f"{failure}: {ADVICE[failure.code]}, and {clocks(self._their_time)}"
                )
            if failure.code in ADVICE:
                return DeviceRefused(f"{start} refuses us ({failure}): {ADVICE[failure.code]}")
            return DeviceUnreachable(f"{start} answered {failure}")
        if isinstance(failure, TimeoutError):
            return DeviceUnreachable(f"{start} did not answer within {self._timeout:g} s")
        if self._securing:
            return DeviceUnreachable(
                f"{start} hung up while the channel was being secured ({failure}): that is how some servers"
                " refuse a certificate: accept ours on the server (edge-agent opcua enrol says how)"
            )
        if isinstance(failure, OSError) and failure.errno:
            return DeviceUnreachable(f"{start}: {why_not(failure)}")
        return DeviceUnreachable(f"{start}: {failure}: check power, network and address")
