"""Our own application instance certificate, made once per machine where none is configured.

With a state folder it is kept, because servers trust a certificate and not a
name; without one it lives in a folder that is removed when the driver closes.
"""

from __future__ import annotations

import socket
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_BACKDATED = timedelta(days=30)
"""A PLC whose clock is behind would refuse a certificate that is valid from now on."""
_VALID = timedelta(days=3650)
"""Every renewal has to be trusted on every server again, by hand."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key, and the application URI that stands in it."""

    certificate: Path
    private_key: Path
    uri: str
    temporary: tempfile.TemporaryDirectory[str] | None = None

    def discard(self) -> None:
        """Remove what was made for this run only."""
        if self.temporary is not None:
            self.temporary.cleanup()


def identity(
    machine: str, certificate: Path | None, private_key: Path | None, state: Path | None
) -> Identity:
    """The configured certificate, or our own, kept in `state`. Blocking (key generation): for a thread.

    OSError or ValueError where a configured file cannot be read.
    """
    if certificate is not None and private_key is not None:
        return Identity(certificate, private_key, _uri_of(certificate))
    temporary = None if state is not None else tempfile.TemporaryDirectory(prefix="edge-agent-opcua-")
    folder = state / "opcua" if state is not None else Path(temporary.name if temporary else "")
    made = Identity(folder / f"{machine}.der", folder / f"{machine}.pem", _our_uri(), temporary)
    if not (made.certificate.exists() and made.private_key.exists()):
        _make(made)
    return (
        made
        if temporary is not None
        else Identity(made.certificate, made.private_key, _uri_of(made.certificate))
    )


def _our_uri() -> str:
    return f"urn:{socket.gethostname()}:edge-agent"


def _uri_of(certificate: Path) -> str:
    content = certificate.read_bytes()
    load = x509.load_pem_x509_certificate if b"-----BEGIN" in content else x509.load_der_x509_certificate
    try:
        names = load(content).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)[0]
    except (x509.ExtensionNotFound, IndexError):
        raise ValueError(f"{certificate} names no application URI: servers will not accept it") from None


def _make(identity_: Identity) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    host = socket.gethostname()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"edge-agent@{host}"[:64])])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity_.uri), x509.DNSName(host)])
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    identity_.certificate.parent.mkdir(parents=True, exist_ok=True)
    identity_.private_key.touch(mode=0o600)
    identity_.private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    identity_.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.DER))


def _usage() -> x509.KeyUsage:
    # As Part 6, 6.2.2 asks of a self-signed application instance certificate.
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
