"""The way into a server: socket, secure channel, login; and what a refusal means, in words.

asyncua's own reconnecting, its supervisor and its stale-subscription watchdog are left out (`Client.connect`
is not called): they may re-create a subscription without its items, and a connection has one owner, the
sampler.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UaClient, UaClientState
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent_drivers.opcua.certificate import Identity, identity
from edge_agent_drivers.opcua.settings import SecuritySettings

log = logging.getLogger(__name__)

# asyncua logs every lost request with its traceback; the driver and the sampler say it once.
if logging.getLogger("asyncua").level == logging.NOTSET:
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)

_REFUSALS = {
    StatusCodes.BadUserAccessDenied: "it does not accept the user or password: check security",
    StatusCodes.BadIdentityTokenRejected: "it does not accept the user or password: check security",
    StatusCodes.BadIdentityTokenInvalid: "it does not take this kind of login: check security.username",
    StatusCodes.BadSecurityChecksFailed: "it does not trust our certificate: accept it on the server",
    StatusCodes.BadCertificateUntrusted: "it does not trust our certificate: accept it on the server",
    StatusCodes.BadCertificateInvalid: "it refuses our certificate",
    StatusCodes.BadCertificateTimeInvalid: "our certificate is not valid at its time: check both clocks",
    StatusCodes.BadCertificateUriInvalid: "the application URI is not the one in our certificate",
    StatusCodes.BadCertificateUseNotAllowed: "our certificate may not be used for this",
    StatusCodes.BadSecurityPolicyRejected: "it does not offer this security policy",
    StatusCodes.BadSecurityModeRejected: "it does not offer this security mode",
}


class Channel:
    """One logged in connection with one server, from `open` to `close`; afterwards a new one is made."""

    def __init__(
        self, machine: str, url: str, security: SecuritySettings, timeout: float, state: Path | None
    ) -> None:
        self._machine, self._url, self._security, self._timeout = machine, url, security, timeout
        self._state = state
        self._client = Client(url, timeout=timeout)
        self._client.name = self._client.description = "edge-agent"
        self._identity: Identity | None = None

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

    async def open(self) -> None:
        """Connect, secure, log in. Whatever asyncua raises; `translated` says it in our words."""
        client, security = self._client, self._security
        if security.username is not None and security.password is not None:
            client.set_user(security.username)
            client.set_password(security.password.get_secret_value())
        if security.policy != "None":
            await self._secure(security)
        await client.connect_socket()
        await client.send_hello()
        await client.open_secure_channel()
        await client.create_session()
        await client.activate_session(
            username=security.username,
            password=security.password.get_secret_value() if security.password else None,
        )

    async def _secure(self, security: SecuritySettings) -> None:
        own = await asyncio.to_thread(
            identity, self._machine, security.certificate, security.private_key, self._state
        )
        self._identity = own
        self._client.application_uri = own.uri
        await self._client.set_security(
            SecurityPolicyBasic256Sha256,
            own.certificate,
            own.private_key,
            mode=ua.MessageSecurityMode[security.mode or "SignAndEncrypt"],
        )

    async def renew(self) -> None:
        """New keys for the channel. Whatever asyncua raises."""
        await self._client.open_secure_channel(renew=True)
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
        if self._identity is not None:
            await asyncio.to_thread(self._identity.discard)
            self._identity = None

    def translated(self, failure: Exception) -> DeviceUnreachable | DeviceRefused:
        """Everything asyncua raises, and it raises anything on garbled bytes, in our words."""
        if isinstance(failure, DeviceUnreachable | DeviceRefused):
            return failure
        start = f"machine {self._machine}: {self._url}"
        if isinstance(failure, UaStatusCodeError):
            if failure.code in _REFUSALS:
                return DeviceRefused(f"{start} refuses us ({failure}): {_REFUSALS[failure.code]}")
            return DeviceUnreachable(f"{start} answered {failure}")
        if isinstance(failure, UaError) and "No matching endpoints" in str(failure):
            return DeviceRefused(
                f"{start} does not offer policy {self._security.policy}"
                f" {self._security.mode or ''}: check security".replace(" :", ":")
            )
        if isinstance(failure, TimeoutError):
            return DeviceUnreachable(f"{start} did not answer within {self._timeout:g} s")
        if (
            self._identity is None
            and self._security.certificate
            and isinstance(failure, OSError | ValueError)
        ):
            return DeviceRefused(f"{start}: our certificate or key cannot be used: {failure}")
        return DeviceUnreachable(f"{start}: {failure}: check power, network and address")
