"""`edge-agent opcua enrol`: our certificate, the server's pinned, a first connection, what is left to do.

Reads only: it asks for the endpoints, and opens and closes one session.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from edge_agent.errors import DeviceRefused, DeviceUnreachable
from edge_agent_drivers.opcua.access import Access, invalid, now
from edge_agent_drivers.opcua.certificate import Certificate, keep, make, own_paths
from edge_agent_drivers.opcua.channel import Channel
from edge_agent_drivers.opcua.discovery import discover
from edge_agent_drivers.opcua.enrolment import Enrolment, described
from edge_agent_drivers.opcua.security import SecuritySettings, pin_path
from edge_agent_drivers.opcua.settings import OpcuaMachine
from edge_agent_drivers.terminal import attended, confirmed, say, show


def enrol(
    machine: str,
    settings: OpcuaMachine,
    state: Path,
    *,
    reader: str,
    yes: bool,
    thumbprint: str | None,
    renew: bool,
    json_output: bool,
) -> int:
    """Enrol `machine` with its server; the exit code. `reader`: the connected agent's name for it."""
    wanted = re.sub(r"[\s:-]", "", thumbprint or "").upper()
    if thumbprint is not None and not re.fullmatch(r"[0-9A-F]{40}|[0-9A-F]{64}", wanted):
        say(f"'{thumbprint}' is not a thumbprint: write the 64 (SHA-256) or 40 (SHA-1) hex digits")
        return 2
    job = _Job(machine, settings, state, yes, wanted, json_output)
    return asyncio.run(job.run(renew=renew, reader=reader))


class _Job:
    """One run of the command."""

    def __init__(
        self,
        machine: str,
        settings: OpcuaMachine,
        state: Path,
        yes: bool,
        thumbprint: str | None,
        silent: bool,
    ) -> None:
        self._machine, self._url, self._timeout = machine, settings.url, settings.timeout
        self._security, self._state = settings.security, state
        self._yes, self._thumbprint, self._silent = yes, thumbprint, silent

    async def run(self, *, renew: bool, reader: str) -> int:
        """All of it, in the order in which a person would do it."""
        try:
            async with asyncio.timeout(3 * self._timeout):
                found = await discover(self._url, self._timeout)
        except Exception as failure:  # noqa: BLE001 (asyncua raises anything; `translated` says it in our words)
            return self._away(self._channel(self._security).translated(failure))
        known = self._security
        wanted = known.policy != "None"
        offer = found.matching(known.policy, known.channel_mode) if wanted else found.best()
        enrolment = Enrolment(self._machine, self._url, found, now(), offer)
        if not self._silent:
            show("\n".join(enrolment.look()))
            show("")
        if offer is None or offer.certificate is None:
            enrolment.problem = (
                f"it does not offer policy {known.policy} {known.channel_mode}: switch it on in the server,"
                " or write in `security` what the table shows"
                if wanted
                else "it offers no security worth the name: switch a policy on in the server, or go without"
                " (leave `security` out) on a network you trust"
            )
            return self._end(enrolment, reader)
        security = self._chosen(offer.policy, offer.mode)
        await self._prepare(enrolment, security, offer.certificate, renew)
        if enrolment.pin is not None and not reader:
            await self._try(enrolment, security, offer.logins)
        return self._end(enrolment, reader)

    def _away(self, error: DeviceUnreachable | DeviceRefused) -> int:
        text = self._plain(error)
        if self._silent:
            answer = {"machine": self._machine, "url": self._url, "connection": {"ok": False, "error": text}}
            show(json.dumps(answer, ensure_ascii=False))
        say(f"{self._url}: {text}")
        return 75 if isinstance(error, DeviceUnreachable) else 1

    def _chosen(self, policy: str, mode: str) -> SecuritySettings:
        """The settings with the policy that was chosen, and only the pin trusted."""
        return self._security.model_copy(update={"policy": policy, "mode": mode, "trust": "pinned"})

    async def _prepare(
        self, enrolment: Enrolment, security: SecuritySettings, server: Certificate, renew: bool
    ) -> None:
        """Our own certificate, and the server's pinned."""
        access = Access(self._machine, self._url, security, self._state)
        try:
            if renew and security.certificate is None:
                await asyncio.to_thread(make, *own_paths(self._state, self._machine), self._url)
            papers = await asyncio.to_thread(access.papers)
            if papers.own is not None:
                enrolment.own = papers.own.certificate
                enrolment.own_files = (
                    (security.certificate, security.private_key)
                    if security.certificate is not None and security.private_key is not None
                    else own_paths(self._state, self._machine)
                )
            pinned = await asyncio.to_thread(access.pinned)
            await self._pin(enrolment, security, server, pinned)
        except (DeviceRefused, OSError) as error:
            enrolment.problem = self._plain(error)

    async def _pin(
        self,
        enrolment: Enrolment,
        security: SecuritySettings,
        server: Certificate,
        pinned: Certificate | None,
    ) -> None:
        path = security.server_certificate or pin_path(self._state, self._machine)
        ended = invalid("the server's certificate", server, enrolment.found.clock)
        if ended is not None:
            enrolment.problem = ended
        elif self._thumbprint and self._thumbprint not in (server.sha1, server.sha256):
            enrolment.problem = (
                "the server's certificate has another thumbprint than the one given: not pinned"
            )
        elif pinned is not None and pinned.der == server.der:
            enrolment.pin = path
        elif security.server_certificate is not None:
            enrolment.problem = f"the server's certificate is not the one in {path}: not pinned"
        elif await self._wanted(pinned):
            await asyncio.to_thread(keep, path, server.der, 0o644)
            enrolment.pin = path
        else:
            enrolment.problem = (
                "not pinned: compare the thumbprint with the server's, then run this on a terminal, or with"
                " --thumbprint" + ("" if pinned is not None else " or --yes")
            )

    async def _wanted(self, pinned: Certificate | None) -> bool:
        """Whether to pin. A certificate that replaces another one needs more than --yes."""
        if self._thumbprint or (self._yes and pinned is None):
            return True
        if pinned is not None:
            say("Another certificate has been pinned for this machine:")
            say("\n".join(f"  {line}" for line in described(pinned)))
        if self._silent or not attended():
            return False
        return await confirmed(
            "Is this the server, with a new certificate?" if pinned else "Is this the server's certificate?"
        )

    async def _try(self, enrolment: Enrolment, security: SecuritySettings, logins: tuple[str, ...]) -> None:
        """Open a session as the driver would. Without a login of ours only as far as the server knows us."""
        channel = self._channel(security)
        log_in = (
            security.username is not None or security.user_certificate is not None or "anonymous" in logins
        )
        try:
            async with asyncio.timeout(3 * self._timeout):
                await channel.open(log_in=log_in)
            enrolment.connected = True
        except Exception as failure:  # noqa: BLE001 (as above)
            told = channel.translated(failure)
            enrolment.connected, enrolment.error = False, self._plain(told)
            enrolment.refused = not isinstance(told, DeviceUnreachable)
        finally:
            await channel.close()

    def _channel(self, security: SecuritySettings) -> Channel:
        access = Access(self._machine, self._url, security, self._state)
        return Channel(self._machine, self._url, access, self._timeout)

    def _plain(self, error: Exception) -> str:
        return str(error).removeprefix(f"machine {self._machine}: {self._url}").removeprefix(":").strip()

    def _end(self, enrolment: Enrolment, reader: str) -> int:
        if self._silent:
            show(json.dumps(enrolment.to_json(self._security), ensure_ascii=False))
        else:
            show("\n".join(enrolment.outcome(self._security, reader)))
        if enrolment.problem:
            say(enrolment.problem)
        return enrolment.exit_code
