"""What a DER certificate says that the handshake and the operator need; no I/O, no trust decided.

A node's certificate is one that may be used by servers *and* clients (extended key usage). A
client's certificate of the same authority may only be used by clients, so it does not pass as a
node's.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID


class CertificateInfo(NamedTuple):
    """One certificate in use; times are Unix seconds."""

    name: str  # "node" or "authority"
    subject: str
    not_before: float
    not_after: float
    spki_pin: str


def spki_pin(der: bytes) -> str:
    """Return the pin of a certificate: SHA-256 of its SubjectPublicKeyInfo, in hex (RFC 7469)."""
    key = x509.load_der_x509_certificate(der).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def is_node_certificate(der: bytes) -> bool:
    """Tell whether a certificate may be a node's."""
    try:
        usage = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
            x509.ExtendedKeyUsage
        )
    except (x509.ExtensionNotFound, ValueError):
        return False
    needed = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    return needed <= set(usage.value)


def describe(name: str, der: bytes) -> CertificateInfo:
    """Return what an operator wants to know."""
    certificate = x509.load_der_x509_certificate(der)
    return CertificateInfo(
        name,
        certificate.subject.rfc4514_string(),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
        spki_pin(der),
    )
