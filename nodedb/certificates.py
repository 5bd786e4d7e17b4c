"""Makes and lists the files that let nodes and clients prove who they are.

One directory per node::

    ca.crt             authorities that are trusted; the first one signs, older ones follow it
    ca.key             key of the first authority; only where certificates are made
    node.crt node.key  this node's, for both ends of connections between nodes
    client.<user>.crt client.<user>.key

Keys are ECDSA on P-256, in PKCS 8 without a password and with mode 0600. A node's certificate has
both extended key usages and names its hosts and addresses; a client's has only ``clientAuth`` and
its user as common name, so it does not pass as a node's. Nothing that exists is replaced unless
asked for. Writing is atomic: a file is there whole, or as it was.

The cluster secret is a file too: nodes need it beside their certificates.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import os
import re
import secrets
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 1825
SECRET_BYTES_MIN: Final = 16
_SECRET_BYTES: Final = 32
_KEY_MODE: Final = 0o600
_CERTIFICATE_MODE: Final = 0o644
# A node whose clock is a little behind must not take a new certificate for one of the future.
_BACKDATED: Final = datetime.timedelta(hours=1)
_USER_PATTERN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


class CertificateError(Exception):
    """A file cannot be made or used; an operator acts. The message says which and why."""


class ListedCertificate(NamedTuple):
    """One certificate of a directory; ``names`` are hosts, addresses or the user."""

    file: str
    kind: str  # "authority", "node" or "client"
    subject: str
    names: tuple[str, ...]
    not_after: datetime.datetime
    problem: str  # "" if it can be used


def create_ca(directory: Path, now: datetime.datetime, *, days: int, overwrite: bool) -> list[Path]:
    """Make an authority; returns the files written.

    One that exists is only replaced if ``overwrite``; its certificate then stays trusted behind the
    new one, until it is taken out of ``ca.crt`` by hand. Raises CertificateError.
    """
    certificate_file, key_file = directory / "ca.crt", directory / "ca.key"
    older: list[x509.Certificate] = []
    if not overwrite:
        _refuse_existing(key_file, certificate_file)
    elif certificate_file.exists():
        older = _read_certificates(certificate_file)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"nodedb CA {secrets.token_hex(4)}")])
    usage = _key_usage(signs_certificates=True)
    builder = (
        _builder(name, name, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(_authority_key_id(key.public_key()), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    _make_directory(directory)
    _write(key_file, _key_bytes(key), _KEY_MODE)
    bundle = b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *older))
    _write(certificate_file, bundle, _CERTIFICATE_MODE)
    return [certificate_file, key_file]


def create_node(
    directory: Path,
    ca_directory: Path,
    hosts: Sequence[str],
    now: datetime.datetime,
    *,
    days: int,
    overwrite: bool,
    new_key: bool = False,
) -> list[Path]:
    """Make a node's certificate for ``hosts`` (names, addresses); returns the files written.

    Where the directory is not the authority's, ``ca.crt`` is copied. One that is overwritten keeps
    its key unless ``new_key``: the cluster has the key pinned. Raises CertificateError.
    """
    if not hosts:
        raise CertificateError("give the hosts and addresses under which the node is reached")
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    written = _create_leaf(
        directory,
        ca_directory,
        "node",
        "node",
        both,
        names,
        now,
        days=days,
        overwrite=overwrite,
        new_key=new_key,
    )
    if directory.resolve() != ca_directory.resolve():
        copy = directory / "ca.crt"
        _write(copy, _read(ca_directory / "ca.crt"), _CERTIFICATE_MODE)
        written.append(copy)
    return written


def create_client(
    directory: Path,
    ca_directory: Path,
    user: str,
    now: datetime.datetime,
    *,
    days: int,
    overwrite: bool,
    new_key: bool = False,
) -> list[Path]:
    """Make a certificate by which ``user`` logs in; returns the files written.

    One that is overwritten keeps its key unless ``new_key``. Raises CertificateError.
    """
    if not _USER_PATTERN.fullmatch(user):
        raise CertificateError(
            f"user {user!r}: expected letters, digits and _ . -, at most 63 characters"
        )
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    stem = f"client.{user}"
    return _create_leaf(
        directory,
        ca_directory,
        stem,
        user,
        usages,
        None,
        now,
        days=days,
        overwrite=overwrite,
        new_key=new_key,
    )


def list_certificates(directory: Path, now: datetime.datetime) -> list[ListedCertificate]:
    """Return what is in a directory and whether it can be used. Raises CertificateError."""
    if not directory.is_dir():
        raise CertificateError(f"{directory}: no such directory")
    listed = []
    authorities: list[x509.Certificate] = []
    if (directory / "ca.crt").exists():
        authorities = _read_certificates(directory / "ca.crt")
    for path in sorted(directory.glob("*.crt")):
        for certificate in _read_certificates(path):
            kind = _kind(certificate)
            problem = _problem(path, certificate, kind, authorities, now)
            subject = certificate.subject.rfc4514_string()
            names = _names(certificate)
            expiry = certificate.not_valid_after_utc
            listed.append(ListedCertificate(path.name, kind, subject, names, expiry, problem))
    return listed


def create_secret(path: Path) -> None:
    """Make a cluster secret of 32 random bytes, as text. Raises CertificateError if it exists."""
    _refuse_existing(path)
    _make_directory(path.parent)
    _write(path, secrets.token_hex(_SECRET_BYTES).encode() + b"\n", _KEY_MODE)


def read_secret(path: Path) -> bytes:
    """Return the cluster secret: the file without the white space around it.

    Raises CertificateError: missing, readable by others, too short.
    """
    problem = key_file_problem(path)
    if problem:
        raise CertificateError(problem)
    secret = _read(path).strip()
    if len(secret) < SECRET_BYTES_MIN:
        raise CertificateError(
            f"{path}: the cluster secret must have at least {SECRET_BYTES_MIN} bytes"
        )
    return secret


def secret_hash(secret: bytes) -> str:
    """Return what operators may compare between nodes without seeing the secret."""
    return hashlib.sha256(b"nodedb cluster secret: " + secret).hexdigest()[:16]


def key_file_problem(path: Path) -> str:
    """Return why a key file cannot be used, "" if it can."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"{path}: {error.strerror}"
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"{path} has mode {stat.S_IMODE(mode):04o}; it must be 0600"
    return ""


def _create_leaf(
    directory: Path,
    ca_directory: Path,
    stem: str,
    common_name: str,
    usages: list[x509.ObjectIdentifier],
    names: x509.SubjectAlternativeName | None,
    now: datetime.datetime,
    *,
    days: int,
    overwrite: bool,
    new_key: bool,
) -> list[Path]:
    certificate_file, key_file = directory / f"{stem}.crt", directory / f"{stem}.key"
    if not overwrite:
        _refuse_existing(certificate_file, key_file)
    authority, authority_key = _read_authority(ca_directory)
    if key_file.exists() and not new_key:
        key = _read_key(key_file)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    authority_public = authority_key.public_key()
    builder = (
        _builder(authority.subject, subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(_authority_key_id(authority_public), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(authority_key, hashes.SHA256())
    _make_directory(directory)
    _write(key_file, _key_bytes(key), _KEY_MODE)
    _write(certificate_file, certificate.public_bytes(Encoding.PEM), _CERTIFICATE_MODE)
    return [certificate_file, key_file]


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    if days < 1:
        raise CertificateError("a certificate must be valid for at least one day")
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_id(key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    if not re.fullmatch(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", host):
        raise CertificateError(f"host {host!r}: expected a name or an address, without a port")
    return x509.DNSName(host.lower())


def _read_authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = _read_key(directory / "ca.key")
    authority = _read_certificates(directory / "ca.crt")[0]
    if authority.public_key() != key.public_key():
        raise CertificateError(f"{directory}: ca.key is not the key of the first one in ca.crt")
    return authority, key


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    problem = key_file_problem(path)
    if problem:
        raise CertificateError(problem)
    try:
        key = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{path}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} is not a key on an elliptic curve")
    return key


def _read_certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise CertificateError(f"{path}: {error}") from error


def _kind(certificate: x509.Certificate) -> str:
    with contextlib.suppress(x509.ExtensionNotFound):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        if constraints.value.ca:
            return "authority"
    with contextlib.suppress(x509.ExtensionNotFound):
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        if ExtendedKeyUsageOID.SERVER_AUTH in usage.value:
            return "node"
    return "client"


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(each.value) for each in common)
    return tuple(str(each.value) for each in names)


def _problem(
    path: Path,
    certificate: x509.Certificate,
    kind: str,
    authorities: list[x509.Certificate],
    now: datetime.datetime,
) -> str:
    if now >= certificate.not_valid_after_utc:
        return "expired"
    if now < certificate.not_valid_before_utc:
        return "not valid yet"
    key_file = path.with_suffix(".key")
    if key_file.exists() and key_file_problem(key_file):
        return key_file_problem(key_file)
    if kind == "authority":
        return ""
    if not key_file.exists():
        return f"{key_file.name} is missing"
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return ""
    return "not signed by an authority in ca.crt"


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise CertificateError(f"{path} exists already (--overwrite replaces it)")


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from error


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file with its mode from the first moment on, and put it in place whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask is
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise CertificateError(f"{path}: {error.strerror}") from error
