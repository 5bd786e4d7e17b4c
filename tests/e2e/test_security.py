"""Who gets in: the first password, SCRAM, TLS with channel binding."""

import datetime
import ipaddress
import ssl
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e.node_process import running


def test_the_first_password_lets_the_superuser_in(store: Path) -> None:
    with running(store, insecure=False) as node:
        file = store / "initial-password"
        assert file.stat().st_mode & 0o777 == 0o600
        password = file.read_text().strip()
        assert len(password) >= 16
        with node.connect(password=password) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("nodedb",)
        with pytest.raises(
            psycopg.OperationalError, match='password authentication failed for user "nodedb"'
        ):
            node.connect(password="wrong")
        with pytest.raises(psycopg.OperationalError):
            node.connect(password="", passfile="/dev/null")
        assert password not in node.log()


def test_a_password_from_a_file(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("correct horse\n")
    with running(store, "--superuser-password-file", str(file), insecure=False) as node:
        assert not (store / "initial-password").exists()
        with node.connect(password="correct horse") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_roles_with_passwords_and_rights(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("root")
    with running(store, "--superuser-password-file", str(file), insecure=False) as node:
        with node.connect(password="root") as root:
            root.execute("CREATE ROLE reader LOGIN PASSWORD 'secret'")
            root.execute("CREATE TABLE t (a int)")
            root.execute("INSERT INTO t VALUES (1)")
            with node.connect(user="reader", password="secret") as reader:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute("SELECT * FROM t")
                root.execute("GRANT SELECT ON t TO reader")
                assert reader.execute("SELECT * FROM t").fetchall() == [(1,)]
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute("INSERT INTO t VALUES (2)")
            root.execute("ALTER ROLE reader PASSWORD 'changed'")
            with pytest.raises(psycopg.OperationalError):
                node.connect(user="reader", password="secret")
            node.connect(user="reader", password="changed").close()
            root.execute("ALTER ROLE reader NOLOGIN")
            with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
                node.connect(user="reader", password="changed")


def test_tls_and_channel_binding(store: Path, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    password_file = tmp_path / "password"
    password_file.write_text("root")
    flags = ("--certs-dir", str(certificates), "--superuser-password-file", str(password_file))
    with running(store, *flags, insecure=False) as node:
        secure = {
            "password": "root",
            "sslmode": "verify-full",
            "sslrootcert": str(certificates / "node.crt"),
        }
        with node.connect(**secure, channel_binding="require") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with node.connect(**secure, channel_binding="disable") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            node.connect(**(secure | {"password": "wrong"}))


def test_without_certificates_tls_is_refused(store: Path) -> None:
    with running(store) as node:
        with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
            node.connect(sslmode="require")
        node.connect(sslmode="prefer").close()


def make_certificates(directory: Path) -> Path:
    """Write node.crt and node.key, self-signed for loopback."""
    directory.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (directory / "node.crt").write_bytes(pem)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (directory / "node.key").write_bytes(private)
    assert ssl.PEM_cert_to_DER_cert(pem.decode())
    return directory
