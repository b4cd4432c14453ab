"""Certificates: what stands in one, reading them and their keys, and making our own.

Our own application instance certificate is made once per machine where none is configured, and kept: servers
trust a certificate and not a name.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_BACKDATED = timedelta(days=30)
"""A PLC whose clock is behind would refuse a certificate that is valid from now on."""
_VALID = timedelta(days=3650)
"""Every renewal has to be trusted on every server again, by hand."""
_ENCODING = serialization.Encoding


@dataclass(frozen=True, slots=True)
class Certificate:
    """What one wants to know of a certificate. Times are UTC."""

    der: bytes
    subject: str
    uri: str
    """The application URI; empty where there is none."""
    valid_from: datetime
    valid_until: datetime
    bits: int
    """Size of its RSA key; 0 for any other kind of key."""

    @property
    def sha1(self) -> str:
        """The thumbprint that OPC UA tools show, in hexadecimal."""
        return hashlib.sha1(self.der, usedforsecurity=False).hexdigest().upper()

    @property
    def sha256(self) -> str:
        """The thumbprint to compare by, in hexadecimal."""
        return hashlib.sha256(self.der).hexdigest().upper()


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate with its key."""

    certificate: Certificate
    key: rsa.RSAPrivateKey


def examine(content: bytes) -> Certificate:
    """What stands in a certificate, DER or PEM; of a chain in the first one. ValueError where it is none."""
    if b"-----BEGIN" in content:
        found = x509.load_pem_x509_certificate(content)
    else:
        # A chain is one certificate after the other: the first says how long it is.
        length = 4 + int.from_bytes(content[2:4], "big") if content[1:2] == b"\x82" else len(content)
        found = x509.load_der_x509_certificate(content[:length])
    uris: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    public = found.public_key()
    return Certificate(
        found.public_bytes(_ENCODING.DER),
        found.subject.rfc4514_string(),
        uris[0] if uris else "",
        found.not_valid_before_utc,
        found.not_valid_after_utc,
        public.key_size if isinstance(public, rsa.RSAPublicKey) else 0,
    )


def read_certificate(path: Path) -> Certificate:
    """The certificate in a file. ValueError with the file's name where it cannot be used."""
    try:
        return examine(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a certificate") from error


def read_credential(certificate: Path, key: Path) -> Credential:
    """A certificate and its key. ValueError with the file's name where they cannot be used."""
    found = read_certificate(certificate)
    try:
        content = key.read_bytes()
        load = (
            serialization.load_pem_private_key
            if b"-----BEGIN" in content
            else serialization.load_der_private_key
        )
        private = load(content, password=None)
    except OSError as error:
        raise ValueError(f"{key} cannot be read: {error.strerror}") from error
    except TypeError as error:
        raise ValueError(f"{key} has a password: write it without, readable for the agent only") from error
    except ValueError as error:
        raise ValueError(f"{key} is not a private key") from error
    if not isinstance(private, rsa.RSAPrivateKey):
        raise ValueError(f"{key} is not an RSA key: the policies of OPC UA that are known here need one")
    if _public(private.public_key()) != _public(x509.load_der_x509_certificate(found.der).public_key()):
        raise ValueError(f"{certificate} and {key} do not belong together")
    return Credential(found, private)


def own_credential(machine: str, url: str, state: Path) -> Credential:
    """Our certificate for a machine, kept in `state`; made where there is none. Blocking: for a thread."""
    certificate, key = own_paths(state, machine)
    if not (certificate.exists() and key.exists()):
        make(certificate, key, url)
    found = read_credential(certificate, key)
    if not found.certificate.uri:
        raise ValueError(f"{certificate} names no application URI: servers will not accept it")
    return found


def own_paths(state: Path, machine: str) -> tuple[Path, Path]:
    """Where our certificate and its key are kept."""
    return state / "opcua" / f"{machine}.der", state / "opcua" / f"{machine}.pem"


def make(certificate: Path, key: Path, url: str) -> None:
    """Make a certificate for the way to `url`, self-signed, and its key. Blocking: for a thread."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    host = socket.gethostname()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"edge-agent@{host}"[:64])])
    now = datetime.now(UTC)
    public = private.public_key()
    signed = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(_names(host, url)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(private, hashes.SHA256())
    )
    # The key first: a certificate without its key would be taken for a finished pair.
    keep(key, _pem(private), 0o600)
    keep(certificate, signed.public_bytes(_ENCODING.DER), 0o644)


def keep(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all. Blocking."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if os.geteuid() == 0:
        # `sudo edge-agent opcua enrol` writes for the service, which has a user of its own.
        owner = (made[-1].parent if made else path.parent).stat()
        for one in (*made, unfinished):
            os.chown(one, owner.st_uid, owner.st_gid)
    unfinished.replace(path)


def _names(host: str, url: str) -> list[x509.GeneralName]:
    """Our application URI, and the names and addresses the server knows us by."""
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(f"urn:{host}:edge-agent"),
        x509.DNSName(host),
    ]
    address = _our_address(url)
    return [*names, x509.IPAddress(address)] if address is not None else names


def _our_address(url: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address this machine has on the way to `url`; nothing is sent to find out."""
    parts = urlsplit(url)
    try:
        family, kind, _, _, target = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return ipaddress.ip_address(str(probe.getsockname()[0]).partition("%")[0])
    except (OSError, ValueError):
        return None


def _public(key: object) -> bytes:
    if not isinstance(key, rsa.RSAPublicKey):
        return b""
    return key.public_bytes(_ENCODING.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(_ENCODING.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


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
