"""The `tls` of a Modbus machine in YAML. Imports no protocol library: `check` reads this."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import model_validator

from edge_agent.contracts.settings import StrictModel


class TlsSettings(StrictModel):
    """Modbus/TCP Security: whom to trust and how to identify ourselves. The default trusts what the system
    trusts, and takes no certificate it has not verified."""

    ca_file: Path | None = None
    """The authority that signed the device's certificate, or that certificate itself (.pem)."""
    cert_file: Path | None = None
    """Our own certificate (.pem), where the device asks for one; its role says what we may do."""
    key_file: Path | None = None
    """The key of `cert_file` (.pem, without a password)."""
    server_name: str | None = None
    """The name in the device's certificate, where it is not the one in `url`."""
    insecure: bool = False
    """True takes any certificate: anybody on the way can then read along and make up values."""

    def described(self) -> str:
        """What was written, for messages."""
        return f"tls: {self.model_dump_json(exclude_defaults=True)}"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both or neither")
        if self.insecure and (self.ca_file or self.server_name):
            raise ValueError("insecure: true takes any certificate: leave out ca_file and server_name")
        return self
