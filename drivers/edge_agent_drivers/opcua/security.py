"""How an OPC UA channel is secured and who logs in, as YAML says it, and what is doubtful about it.

Imports no protocol library, because `check` reads this; cryptography only where certificates are configured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from edge_agent.contracts.doubt import Doubt
from edge_agent.contracts.settings import StrictModel

Policy = Literal[
    "None", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss", "Basic256", "Basic128Rsa15"
]  # fmt: skip
Mode = Literal["Sign", "SignAndEncrypt"]

DEPRECATED = frozenset({"Basic128Rsa15", "Basic256"})
"""Policies the OPC Foundation has withdrawn: SHA-1, and in Basic128Rsa15 broken encryption."""
_SHORT: Mapping[str, Policy] = {
    "Aes128Sha256RsaOaep": "Aes128_Sha256_RsaOaep",
    "Aes256Sha256RsaPss": "Aes256_Sha256_RsaPss",
}
_KEYS = ("private_key", "user_key")
_FILES = ("certificate", "private_key", "user_certificate", "user_key", "server_certificate")
_READABLE = 0o640
"""The most a key file may allow, as for secrets.yaml: the group may read it, others nothing."""


class SecuritySettings(StrictModel):
    """How the channel is secured and who logs in."""

    # Before `policy`, whose validator looks at it.
    allow_deprecated: bool = False
    """Take a withdrawn policy for a server that has nothing better."""
    policy: Policy = "None"
    """None, Basic256Sha256, Aes128_Sha256_RsaOaep or Aes256_Sha256_RsaPss."""
    mode: Mode | None = None
    """With a policy: Sign, or SignAndEncrypt (default)."""
    username: str | None = None
    """Default: anonymous."""
    password: SecretStr | None = None
    user_certificate: Path | None = None
    """The certificate of the user who logs in (.der or .pem), instead of username and password."""
    user_key: Path | None = None
    """The key of `user_certificate` (.pem or .der)."""
    certificate: Path | None = None
    """Our certificate (.der or .pem); default: one is made and kept in the state directory."""
    private_key: Path | None = None
    """The key of `certificate` (.pem or .der)."""
    server_certificate: Path | None = None
    """The server's certificate (.der or .pem); default: the one that `edge-agent opcua enrol` pinned."""
    trust: Literal["pinned", "first_use"] = "pinned"
    """pinned: only a server whose certificate is known; first_use: the first one that answers is pinned."""

    @field_validator("policy", mode="before")
    @classmethod
    def _known_policy(cls, written: object, info: ValidationInfo) -> object:
        # YAML's null and the policy None are easily taken for each other, and mean the same here.
        if written is None:
            return "None"
        if isinstance(written, str) and written in DEPRECATED and not info.data.get("allow_deprecated"):
            raise ValueError(
                f"{written} is broken and withdrawn by the OPC Foundation: use Basic256Sha256;"
                " where the server has nothing better, add allow_deprecated: true"
            )
        return _SHORT.get(written, written) if isinstance(written, str) else written

    @model_validator(mode="after")
    def _together(self) -> Self:
        if problems := [*self._without_policy(), *self._halves()]:
            raise ValidationError.from_exception_data(
                "SecuritySettings",
                [
                    InitErrorDetails(
                        type=PydanticCustomError("value_error", "{text}", {"text": text}),
                        loc=(key,),
                        input=None,
                    )
                    for key, text in problems
                ],
            )
        return self

    def _without_policy(self) -> Iterator[tuple[str, str]]:
        for key in ("mode", "server_certificate", "certificate", "trust"):
            if self.policy == "None" and key in self.model_fields_set and getattr(self, key) is not None:
                yield key, f"{key} needs a policy: write policy: Basic256Sha256"

    def _halves(self) -> Iterator[tuple[str, str]]:
        """What needs another key, and what excludes one."""
        for one, other in (
            ("certificate", "private_key"),
            ("user_certificate", "user_key"),
            ("username", "password"),
        ):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                there = one if getattr(self, other) is None else other
                yield there, f"{one} and {other} belong together: give both or neither"
        if self.username is not None and self.user_certificate is not None:
            yield "username", "log in with username and password, or with user_certificate and user_key"
        if self.server_certificate is not None and self.trust == "first_use":
            yield "trust", "with server_certificate there is no first use: leave trust out"

    @property
    def channel_mode(self) -> str:
        """The message security mode, in the words of OPC UA."""
        return "None" if self.policy == "None" else self.mode or "SignAndEncrypt"

    def doubts(self, machine: str, state: Path | None) -> Iterator[Doubt]:
        """What works and is probably not meant, or will fail; `state` is the agent's, where it is known."""
        if self.policy == "None" and self.username is not None:
            yield Doubt(
                ("username",), "W321", "with policy None the password may cross the network in clear text",
                "write policy: Basic256Sha256 and run edge-agent opcua enrol",
            )  # fmt: skip
        if self.policy in DEPRECATED:
            yield Doubt(
                ("policy",), "W321", f"{self.policy} is broken and withdrawn: others may read what is sent",
                "update the server, then use Basic256Sha256",
            )  # fmt: skip
        files = [doubt for key in _FILES for doubt in _file_doubts(key, getattr(self, key))]
        yield from files
        unreadable = {doubt.path[0] for doubt in files if doubt.code == "W322"}
        if any(getattr(self, key) and key not in unreadable for key in _FILES):
            # Only here: cryptography takes longer to load than all the rest of `check`.
            from edge_agent_drivers.opcua.access import doubtful

            yield from doubtful(self, unreadable)
        if self.policy != "None" and self.server_certificate is None and self.trust == "pinned":
            yield from _unpinned(machine, state)


def pin_path(state: Path, machine: str) -> Path:
    """Where the server's certificate is kept that this machine's driver trusts."""
    return state / "opcua" / "trusted" / f"{machine}.der"


def _file_doubts(key: str, path: Path | None) -> Iterator[Doubt]:
    if path is None:
        return
    try:
        with path.open("rb"):
            mode = path.stat().st_mode & 0o777
    except OSError as error:
        yield Doubt(
            (key,), "W322", f"{path} cannot be read: {error.strerror}", "the agent reads it when it connects"
        )
        return
    if key in _KEYS and mode & ~_READABLE:
        yield Doubt(
            (key,), "W323", f"others can read the key {path} (mode {mode:03o})", f"chmod {_READABLE:o} {path}"
        )


def _unpinned(machine: str, state: Path | None) -> Iterator[Doubt]:
    if state is None or not os.path.isdir(state) or pin_path(state, machine).exists():
        # Without the agent's state at hand (another computer) nobody can tell.
        return
    yield Doubt(
        ("policy",), "W324", "no certificate of the server is pinned: the agent will not connect",
        f"run edge-agent opcua enrol -c FILE --machine {machine}",
    )  # fmt: skip
