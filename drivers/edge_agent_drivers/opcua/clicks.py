"""Where a server keeps the client certificates it has refused, and how they are accepted there. Text only."""

from __future__ import annotations

from collections.abc import Sequence

_PLACES = (
    (
        "Most servers (a PKI folder)",
        "move it from the folder rejected (rejected/certs) to trusted/certs, or press Trust in the server's"
        " certificate list",
    ),
    (
        "Siemens S7-1500 (TIA Portal)",
        "import the .der file as a trusted device certificate, add it to the trusted clients of the CPU"
        " (OPC UA > Server > Security > Secure channel), and download",
    ),
    ("Kepware", "OPC UA Configuration Manager > Trusted Clients > select it > Trust"),
    (
        "Codesys",
        "Security Screen > Devices > Quarantined Certificates: move it to Trusted Certificates",
    ),
    (
        "Beckhoff TwinCAT (TF6100)",
        "trust it in the OPC UA configurator, or move it from rejected to trusted/certs in the server's PKI"
        " folder",
    ),
)


def what_to_click(subject: str, sha1: str, file: str) -> Sequence[str]:
    """What a person has to do on the server, in lines."""
    return (
        f"On the server, accept our certificate once: {subject}, SHA-1 {sha1}",
        "The server has it among the refused ones since it was tried; or import the file",
        f"  {file}",
        *(f"  - {server}: {action}" for server, action in _PLACES),
        "Then run this command again.",
    )
