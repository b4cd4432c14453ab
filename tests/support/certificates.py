"""Certificates for tests: of any age, for servers, clients and users."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
# Making a key takes a quarter of a second or more; two are enough to be different.
_KEYS: dict[tuple[int, int], rsa.RSAPrivateKey] = {}


def make(
    folder: Path,
    name: str,
    *,
    begins: float = -1,
    ends: float = 365,
    uri: str = "urn:test:edge-agent",
    key: int = 0,
    bits: int = 2048,
) -> tuple[Path, Path]:
    """`NAME.der` and `NAME.pem` in `folder`, valid from and until so many days from now."""
    if (key, bits) not in _KEYS:
        _KEYS[key, bits] = rsa.generate_private_key(65537, bits)
    private = _KEYS[key, bits]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_cert_sign"),
        True,
    ) | dict.fromkeys(("key_agreement", "crl_sign", "encipher_only", "decipher_only"), False)
    certificate = (
        x509.CertificateBuilder(subject, subject, private.public_key(), x509.random_serial_number())
        .not_valid_before(now + begins * DAY)
        .not_valid_after(now + ends * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
            critical=False,
        )
        .sign(private, hashes.SHA256())
    )
    paths = folder / f"{name}.der", folder / f"{name}.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    paths[1].write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    paths[1].chmod(0o600)
    return paths
