import base64
import datetime

import pytest
import scramp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from pgwire_fakes import FakeFactory, Harness, describe, frame, startup

from nodedb.pgwire.auth import (
    ScramServer,
    end_point_binding,
    make_scram_secret,
    mock_scram_secret,
    parse_scram_secret,
    saslprep,
)
from nodedb.pgwire.errors import FatalError

SECRET = make_scram_secret("secret", b"0123456789abcdef")


def server(secret: str = SECRET, **named: object) -> ScramServer:
    return ScramServer("alice", secret, nonce="server-nonce", mock_secret=b"mock", **named)


def initial(mechanism: str, data: str) -> bytes:
    return mechanism.encode() + b"\0" + len(data).to_bytes(4, "big") + data.encode()


def exchange(scram: ScramServer, client: scramp.ScramClient) -> None:
    first = client.get_client_first()
    client.set_server_first(scram.start(initial(client.mechanism_name, first)).decode())
    client.set_server_final(scram.finish(client.get_client_final().encode()).decode())


@pytest.mark.parametrize("password", ["secret", "pässwörd", "I\xadX", "\u2168", "a,b=c"])
def test_exchange_with_another_implementation(password: str) -> None:
    secret = make_scram_secret(password)
    exchange(server(secret), scramp.ScramClient(["SCRAM-SHA-256"], "alice", password))


def test_exchange_with_channel_binding() -> None:
    scram = server(channel_binding=b"hash of our certificate")
    assert scram.mechanisms() == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]
    client = scramp.ScramClient(
        scram.mechanisms(),
        "alice",
        "secret",
        channel_binding=("tls-server-end-point", b"hash of our certificate"),
    )
    exchange(scram, client)


def test_binding_to_another_certificate_is_refused() -> None:
    scram = server(channel_binding=b"hash of our certificate")
    client = scramp.ScramClient(
        scram.mechanisms(),
        "alice",
        "secret",
        channel_binding=("tls-server-end-point", b"hash of an attacker's"),
    )
    with pytest.raises(FatalError, match="channel binding check failed"):
        exchange(scram, client)


def test_removed_offer_is_noticed() -> None:
    scram = server(channel_binding=b"hash")
    with pytest.raises(FatalError, match="channel binding negotiation error"):
        scram.start(initial("SCRAM-SHA-256", "y,,n=,r=abc"))


def test_secret_text_is_that_of_postgresql() -> None:
    assert SECRET.startswith("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$")
    parsed = parse_scram_secret(SECRET)
    assert parsed is not None
    assert (parsed.iterations, parsed.salt) == (4096, b"0123456789abcdef")
    salt, stored_key, server_key, _ = scramp.ScramMechanism().make_auth_info(
        "secret", iteration_count=4096, salt=parsed.salt
    )
    assert (salt, stored_key, server_key) == parsed[1:]


def test_secrets_have_fresh_salts() -> None:
    assert make_scram_secret("x") != make_scram_secret("x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "md5abc",
        "secret",
        "SCRAM-SHA-256$0:c2FsdA==$AAAA:AAAA",
        "SCRAM-SHA-256$4096:!$a:b",
        SECRET.replace("256", "512"),
        SECRET + ":x",
        SECRET[:-8],
    ],
)
def test_not_a_secret(text: str) -> None:
    assert parse_scram_secret(text) is None


def client_of(password: str) -> scramp.ScramClient:
    return scramp.ScramClient(["SCRAM-SHA-256"], "alice", password)


@pytest.mark.parametrize(("secret", "password"), [(SECRET, "wrong"), ("", "secret"), ("", "")])
def test_wrong_password_and_no_secret_end_alike(secret: str, password: str) -> None:
    with pytest.raises(FatalError) as caught:
        exchange(server(secret), client_of(password or "x"))
    assert caught.value.error.sqlstate == "28P01"
    assert caught.value.error.message == 'password authentication failed for user "alice"'


def test_mock_salt_is_stable_per_role_and_secret() -> None:
    assert mock_scram_secret("a", b"1") == mock_scram_secret("a", b"1")
    salts = {mock_scram_secret(role, key).salt for role in "ab" for key in (b"1", b"2")}
    assert len(salts) == 4


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"SCRAM-SHA-1\0\0\0\0\0",
        b"SCRAM-SHA-256-PLUS\0\0\0\0\0",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256\0\0\0\0\x09x",
        initial("SCRAM-SHA-256", ""),
        initial("SCRAM-SHA-256", "n,,n=,r="),
        initial("SCRAM-SHA-256", "n,a=root,n=,r=abc"),
        initial("SCRAM-SHA-256", "n,,m=ext,n=,r=abc"),
        initial("SCRAM-SHA-256", "n,,r=abc,n="),
        initial("SCRAM-SHA-256", "x,,n=,r=abc"),
        initial("SCRAM-SHA-256", "p=tls-unique,,n=,r=abc"),
        initial("SCRAM-SHA-256", "n,,n=,r=a\tb"),
        b"SCRAM-SHA-256\0\0\0\0\x01\xff",
    ],
)
def test_malformed_first_message(body: bytes) -> None:
    with pytest.raises(FatalError) as caught:
        server().start(body)
    assert caught.value.error.sqlstate == "08P01"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "c=biws,r=abcserver-nonce",
        "c=biws,r=other,p=AAAA",
        "c=!,r=abcserver-nonce,p=AAAA",
        "c=biws,r=abcserver-nonce,p=!",
        "c=biws,r=abcserver-nonce,p=AAAA",
        "r=abcserver-nonce,c=biws,p=AAAA",
        "p=AAAA",
    ],
)
def test_malformed_final_message(body: str) -> None:
    scram = server()
    scram.start(initial("SCRAM-SHA-256", "n,,n=,r=abc"))
    with pytest.raises(FatalError) as caught:
        scram.finish(body.encode())
    assert caught.value.error.sqlstate == "08P01"


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("plain", "plain"),
        ("I\xadX", "IX"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("a\u0007", "a\u0007"),  # prohibited: used as it is
        ("\u06271", "\u06271"),  # bidirectional rule broken: as it is
        ("\u0221", "\u0221"),
    ],
)
def test_saslprep(password: str, prepared: str) -> None:
    assert saslprep(password) == prepared


def certificate(key: object, algorithm: hashes.HashAlgorithm | None) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start)
    signed = builder.sign(key, algorithm)
    return signed.public_bytes(serialization.Encoding.DER)


def test_end_point_binding_uses_the_signature_hash() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert len(end_point_binding(certificate(key, hashes.SHA256()))) == 32
    assert len(end_point_binding(certificate(key, hashes.SHA384()))) == 48
    assert end_point_binding(certificate(ed25519.Ed25519PrivateKey.generate(), None)) == b""


def login(harness: Harness, user: str, password: str) -> list[str]:
    """Log in over the wire with another implementation; return the answers behind the challenge."""
    [offer] = harness.send(startup(user=user))
    assert offer.startswith("Authentication")
    assert "SCRAM-SHA-256" in offer
    client = client_of(password)
    harness.connection.receive(frame("p", initial("SCRAM-SHA-256", client.get_client_first())))
    challenge = harness.io.take()
    assert challenge[:1] == b"R"
    client.set_server_first(challenge[9:].decode())
    harness.connection.receive(frame("p", client.get_client_final().encode()))
    return describe(harness.io.take())


def test_login_by_password() -> None:
    harness = Harness(is_trusted=False)
    answers = login(harness, "alice", "secret")
    assert answers[-1] == "ReadyForQuery I"
    assert harness.events == ["startup", "authenticated"]
    assert harness.factory.opened[0]["peer"] == "192.0.2.1:4711"


@pytest.mark.parametrize(
    ("user", "password", "sqlstate"),
    [
        ("alice", "wrong", "28P01"),
        ("stranger", "secret", "28P01"),
        ("nopassword", "secret", "28P01"),
        ("nologin", "wrong", "28P01"),
        ("nologin", "secret", "28000"),
    ],
)
def test_refused_login(user: str, password: str, sqlstate: str) -> None:
    harness = Harness(is_trusted=False)
    answers = login(harness, user, password)
    # Who knows the password learns that the server knows it too, before anything else.
    assert len(answers) == 1 + (sqlstate == "28000")
    assert f"S='FATAL' C='{sqlstate}'" in answers[-1]
    assert harness.io.is_closed
    assert harness.factory.opened == []
    assert harness.events == ["startup"]


def test_other_messages_instead_of_the_password() -> None:
    harness = Harness(is_trusted=False)
    harness.send(startup(user="alice"))
    [error] = harness.send(frame("Q", b"select 1\0"))
    assert "S='FATAL' C='08P01' M='expected SASL response, got message type 81'" in error


def test_nobody_buffers_much_before_the_password() -> None:
    harness = Harness(is_trusted=False)
    harness.send(startup(user="alice"))
    [error] = harness.send(b"Q" + (1_000_000).to_bytes(4, "big"))
    assert "C='54000'" in error


def test_factory_has_the_roles_of_these_tests() -> None:
    assert set(FakeFactory().credentials) == {"alice", "nologin", "nopassword"}
    assert base64.b64decode(SECRET.split(":")[1].split("$")[0]) == b"0123456789abcdef"
