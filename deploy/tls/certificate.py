"""A new key, and a certificate for it that is its own CA."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

VALID: Final = timedelta(days=365)
CLOCKS_DIFFER: Final = timedelta(days=1)
"""The certificate is valid this long before it is made: a node's clock may be late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """Certificate and key as PEM text."""

    certificate: str
    key: str = field(repr=False)


def make_key_pair() -> KeyPair:
    """Return a new key on the curve P-256, and its certificate.

    All processes of a cluster have both, and trust this certificate alone: who has not its key can
    neither connect to them nor stand in for one of them.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "overtile")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("overtile")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(
        certificate=certificate.public_bytes(Encoding.PEM).decode(), key=private.decode()
    )
