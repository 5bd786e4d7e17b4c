"""Certificates, keys and secrets as files: what is in them, who may read them, what is refused."""

import datetime
import ipaddress
import os
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from nodedb.certificates import (
    CertificateError,
    create_ca,
    create_client,
    create_node,
    create_secret,
    list_certificates,
    read_secret,
    secret_hash,
)

NOW = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    directory = tmp_path / "ca"
    create_ca(directory, NOW, days=100, overwrite=False)
    return directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_files_and_modes_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o077):
        directory = tmp_path / f"{umask:o}"
        old = os.umask(umask)
        try:
            written = create_ca(directory, NOW, days=1, overwrite=False)
            written += create_node(directory, directory, ["a"], NOW, days=1, overwrite=False)
            written += create_client(directory, directory, "app", NOW, days=1, overwrite=False)
            create_secret(directory / "secret")
        finally:
            os.umask(old)
        assert sorted(path.name for path in written) == [
            *("ca.crt", "ca.key", "client.app.crt", "client.app.key", "node.crt", "node.key")
        ]
        assert sorted(path.name for path in directory.iterdir()) == sorted(
            [*(path.name for path in written), "secret"]
        )
        for path in directory.iterdir():
            assert mode(path) == (0o644 if path.suffix == ".crt" else 0o600), path


def test_a_node_names_hosts_and_addresses(ca: Path, tmp_path: Path) -> None:
    directory = tmp_path / "node1"
    hosts = ["node1", "Node1.example.com", "*.nodedb", "10.0.0.1", "[::1]", "2001:db8::5"]
    written = create_node(directory, ca, hosts, NOW, days=30, overwrite=False)
    assert [path.name for path in written] == ["node.crt", "node.key", "ca.crt"]
    assert (directory / "ca.crt").read_bytes() == (ca / "ca.crt").read_bytes()
    certificate = load(directory / "node.crt")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node1", "node1.example.com", "*.nodedb"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address(text) for text in ("10.0.0.1", "::1", "2001:db8::5")
    ]
    assert certificate.not_valid_after_utc == NOW + 30 * DAY
    assert certificate.not_valid_before_utc < NOW
    certificate.verify_directly_issued_by(load(ca / "ca.crt"))


def test_usages_tell_nodes_from_clients(ca: Path) -> None:
    create_node(ca, ca, ["a"], NOW, days=1, overwrite=False)
    create_client(ca, ca, "app.user-1", NOW, days=1, overwrite=False)
    usage = x509.ExtendedKeyUsage
    node = load(ca / "node.crt").extensions.get_extension_for_class(usage).value
    client_certificate = load(ca / "client.app.user-1.crt")
    client = client_certificate.extensions.get_extension_for_class(usage).value
    both = {x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH}
    assert set(node) == both
    assert set(client) == {x509.ExtendedKeyUsageOID.CLIENT_AUTH}
    assert client_certificate.subject.rfc4514_string() == "CN=app.user-1"


def test_openssl_takes_the_files(ca: Path) -> None:
    """Also with the checks of RFC 5280 that are stricter than the default."""
    create_node(ca, ca, ["a"], NOW, days=1, overwrite=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(ca / "node.crt", ca / "node.key")
    context.load_verify_locations(ca / "ca.crt")
    assert len(context.get_ca_certs()) == 1


def test_nothing_is_replaced_unasked(ca: Path) -> None:
    before = (ca / "ca.key").read_bytes()
    with pytest.raises(CertificateError, match=r"ca\.key exists already"):
        create_ca(ca, NOW, days=1, overwrite=False)
    assert (ca / "ca.key").read_bytes() == before
    create_node(ca, ca, ["a"], NOW, days=1, overwrite=False)
    with pytest.raises(CertificateError, match=r"node\.crt exists already"):
        create_node(ca, ca, ["a"], NOW, days=1, overwrite=False)
    create_node(ca, ca, ["b"], NOW, days=1, overwrite=True)
    (listed,) = [each for each in list_certificates(ca, NOW) if each.kind == "node"]
    assert listed.names == ("b",)
    create_secret(ca / "secret")
    with pytest.raises(CertificateError, match="secret exists already"):
        create_secret(ca / "secret")


def test_a_replaced_authority_stays_trusted_behind_the_new_one(ca: Path) -> None:
    create_node(ca, ca, ["old"], NOW, days=1, overwrite=False)
    old = (ca / "ca.crt").read_bytes()
    create_ca(ca, NOW, days=100, overwrite=True)
    new = (ca / "ca.crt").read_bytes()
    assert new.endswith(old)
    assert new.count(b"BEGIN CERTIFICATE") == 2
    assert [each.problem for each in list_certificates(ca, NOW)] == ["", "", ""]
    create_client(ca, ca, "app", NOW, days=1, overwrite=False)
    load(ca / "client.app.crt").verify_directly_issued_by(x509.load_pem_x509_certificates(new)[0])


def test_a_renewed_certificate_keeps_its_key_unless_told(ca: Path) -> None:
    """The cluster has the node's key pinned: a renewal must not look like a stranger."""
    create_node(ca, ca, ["a"], NOW, days=1, overwrite=False)
    first, key = load(ca / "node.crt"), (ca / "node.key").read_bytes()
    create_node(ca, ca, ["a"], NOW, days=9, overwrite=True)
    renewed = load(ca / "node.crt")
    assert renewed.serial_number != first.serial_number
    assert renewed.not_valid_after_utc == NOW + 9 * DAY
    assert renewed.public_key() == first.public_key()
    assert (ca / "node.key").read_bytes() == key
    create_node(ca, ca, ["a"], NOW, days=9, overwrite=True, new_key=True)
    assert load(ca / "node.crt").public_key() != first.public_key()
    (ca / "node.key").chmod(0o644)
    with pytest.raises(CertificateError, match=r"node\.key has mode 0644"):
        create_node(ca, ca, ["a"], NOW, days=9, overwrite=True)


def test_the_list_says_what_cannot_be_used(ca: Path, tmp_path: Path) -> None:
    create_node(ca, ca, ["a", "10.0.0.1"], NOW, days=5, overwrite=False)
    create_client(ca, ca, "app", NOW, days=2, overwrite=False)
    listed = list_certificates(ca, NOW)
    assert [(each.file, each.kind, each.names, each.problem) for each in listed] == [
        ("ca.crt", "authority", listed[0].names, ""),
        ("client.app.crt", "client", ("app",), ""),
        ("node.crt", "node", ("a", "10.0.0.1"), ""),
    ]
    assert listed[2].not_after == NOW + 5 * DAY
    late = list_certificates(ca, NOW + 3 * DAY)
    assert [each.problem for each in late] == ["", "expired", ""]
    early = list_certificates(ca, NOW - DAY)
    assert {each.problem for each in early} == {"not valid yet"}
    (ca / "node.key").chmod(0o644)
    (ca / "client.app.key").unlink()
    problems = [each.problem for each in list_certificates(ca, NOW)]
    assert problems[1] == "client.app.key is missing"
    assert problems[2].endswith("node.key has mode 0644; it must be 0600")
    other = tmp_path / "other"
    create_ca(other, NOW, days=1, overwrite=False)
    create_node(other, other, ["b"], NOW, days=1, overwrite=False)
    (other / "ca.crt").write_bytes((ca / "ca.crt").read_bytes())
    (strange,) = [each for each in list_certificates(other, NOW) if each.kind == "node"]
    assert strange.problem == "not signed by an authority in ca.crt"


@pytest.mark.parametrize(
    ("hosts", "sentence"),
    [
        ([], "give the hosts"),
        (["a:9400"], "without a port"),
        (["ünïcode"], "expected a name or an address"),
        ([""], "expected a name"),
        (["a b"], "expected a name"),
    ],
)
def test_bad_hosts_are_named(ca: Path, hosts: list[str], sentence: str) -> None:
    with pytest.raises(CertificateError, match=sentence):
        create_node(ca, ca, hosts, NOW, days=1, overwrite=False)
    assert not (ca / "node.crt").exists()


@pytest.mark.parametrize("user", ["", "a/b", "../x", "-a", "a" * 64, "a\n"])
def test_bad_users_are_refused(ca: Path, user: str) -> None:
    with pytest.raises(CertificateError, match="expected letters, digits"):
        create_client(ca, ca, user, NOW, days=1, overwrite=False)


def test_broken_authorities_are_named(ca: Path, tmp_path: Path) -> None:
    def node() -> None:
        create_node(tmp_path / "n", ca, ["a"], NOW, days=1, overwrite=False)

    with pytest.raises(CertificateError, match="at least one day"):
        create_node(tmp_path / "n", ca, ["a"], NOW, days=0, overwrite=False)
    (ca / "ca.key").chmod(0o640)
    with pytest.raises(CertificateError, match=r"ca\.key has mode 0640; it must be 0600"):
        node()
    (ca / "ca.key").chmod(0o600)
    key = (ca / "ca.key").read_bytes()
    (ca / "ca.key").write_text("nonsense")
    with pytest.raises(CertificateError, match=r"ca\.key: "):
        node()
    create_ca(tmp_path / "other", NOW, days=1, overwrite=False)
    (ca / "ca.key").write_bytes((tmp_path / "other/ca.key").read_bytes())
    with pytest.raises(CertificateError, match=r"not the key of the first one in ca\.crt"):
        node()
    (ca / "ca.key").write_bytes(key)
    (ca / "ca.crt").write_text("nonsense")
    with pytest.raises(CertificateError, match=r"ca\.crt: "):
        node()
    with pytest.raises(CertificateError, match="No such file"):
        create_node(tmp_path / "n", tmp_path / "none", ["a"], NOW, days=1, overwrite=False)
    with pytest.raises(CertificateError, match="no such directory"):
        list_certificates(tmp_path / "none", NOW)
    assert not (tmp_path / "n").exists()


def test_secrets(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    create_secret(one)
    create_secret(two)
    secret = read_secret(one)
    assert len(secret) == 64
    assert secret != read_secret(two)
    assert secret_hash(secret) != secret_hash(read_secret(two))
    assert secret_hash(secret) not in secret.decode()
    one.chmod(0o644)
    with pytest.raises(CertificateError, match="has mode 0644; it must be 0600"):
        read_secret(one)
    two.write_bytes(b" short \n")
    with pytest.raises(CertificateError, match="at least 16 bytes"):
        read_secret(two)
    with pytest.raises(CertificateError, match="No such file"):
        read_secret(tmp_path / "none")
