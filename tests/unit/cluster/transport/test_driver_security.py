"""Node-to-node trust: a peer needs the certificate and the secret; strangers learn why not."""

import asyncio
import datetime
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cluster.transport import frame as f
from cluster.transport.api import PeerUnavailable
from cluster.transport.config import TlsFiles, TransportSettings
from cluster.transport.driver import CredentialsError, TcpTransport
from cluster.transport.handshake import HandshakeRefused
from nodedb.certificates import create_client, create_node
from tests.unit.cluster.transport.nodes import (
    NOW,
    SECRET,
    Node,
    RawPeer,
    client_context,
    encode,
    eventually,
    make_certificates,
    make_hello,
    running,
)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return uvloop.run if request.param == "uvloop" else asyncio.run


@pytest.fixture
def tls(tmp_path: Path) -> Callable[[str], TlsFiles]:
    """Make a node's files; the part of the name before the dash names the authority."""
    return lambda name: make_certificates(tmp_path / name)


async def refused(one: Node, two: Node) -> tuple[str, str]:
    """Let one dial two; returns why it failed, and what two remembers of it."""
    with pytest.raises(PeerUnavailable) as caught:
        await one.call(two)
    (remembered,) = await eventually(two.transport.refusals)
    assert one.transport.health()[0].failures == 1
    return str(caught.value).removeprefix(f"{two.address}: "), remembered.reason


def test_a_wrong_authority(run: Any, tls: Any) -> None:
    """Each side verifies the other; here the dialler is the first to see a strange certificate."""

    async def main() -> None:
        one, two = Node(1, tls=tls("blue-1")), Node(2, tls=tls("green-2"))
        async with running(one, two):
            why, remembered = await refused(one, two)
            assert why.startswith("the peer's certificate is not accepted: ")
            assert "another authority" in remembered

    run(main())


def test_a_dialler_of_a_wrong_authority_is_found_out(run: Any, tls: Any, tmp_path: Path) -> None:
    """It trusts the accepter's authority, but its own certificate is of another."""

    async def main() -> None:
        files, own = tls("green-1"), tls("blue-1")
        mixed = TlsFiles(certificate=own.certificate, key=own.key, authority=files.authority)
        one, two = Node(1, tls=mixed), Node(2, tls=tls("green-2"))
        async with running(one, two):
            why, remembered = await refused(one, two)
            assert "the peer does not accept this node's certificate" in why
            assert remembered.startswith("the peer's certificate is not accepted: ")

    run(main())


def test_the_right_authority_and_a_wrong_secret(run: Any, tls: Any) -> None:
    async def main() -> None:
        one = Node(1, tls=tls("green-1"), secret=b"what an attacker guesses")
        two = Node(2, tls=tls("green-2"))
        async with running(one, two):
            why, remembered = await refused(one, two)
            sentence = (
                "the proof of the cluster secret is wrong: the two nodes have different secrets"
            )
            assert why == f"refused by the peer: {sentence}"
            assert remembered == sentence
            assert [(r.by, r.node_id, r.reason) for r in one.transport.refusals()] == [
                ("peer", 2, sentence)
            ]
            assert [(r.by, r.node_id, r.address) for r in two.transport.refusals()] == [
                ("us", 1, one.address)
            ]

    run(main())


def test_the_secret_but_no_certificate(run: Any, tls: Any) -> None:
    async def main() -> None:
        files = tls("green-2")
        two = Node(2, tls=files)
        async with running(two):
            context = client_context(files, with_certificate=False)
            peer = await RawPeer.connect(two.address, ssl=context)
            peer.say(f.HELLO, encode(make_hello()))
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
                await peer.reader.read(1)
            (remembered,) = await eventually(two.transport.refusals)
            assert remembered.reason == "the peer has no certificate"

    run(main())


def test_a_certificate_of_a_client_is_not_one_of_a_node(run: Any, tls: Any, tmp_path: Path) -> None:
    """Same authority, and even the secret: whoever may log in to SQL is no node for it."""

    async def main() -> None:
        files = tls("green-2")
        create_client(tmp_path / "user", tmp_path / "green-ca", "app", NOW, days=5, overwrite=False)
        two = Node(2, tls=files)
        async with running(two):
            context = ssl.create_default_context(cafile=files.authority)
            context.load_cert_chain(
                tmp_path / "user/client.app.crt", tmp_path / "user/client.app.key"
            )
            peer = await RawPeer.connect(two.address, ssl=context)
            with pytest.raises(HandshakeRefused, match="not that of a node"):
                await peer.shake_hands()
            (remembered,) = await eventually(two.transport.refusals)
            assert remembered.reason == "the certificate shown is not that of a node"
            with pytest.raises(CredentialsError, match="is not the certificate of a node"):
                Node(
                    3,
                    tls=TlsFiles(
                        certificate=str(tmp_path / "user/client.app.crt"),
                        key=str(tmp_path / "user/client.app.key"),
                        authority=files.authority,
                    ),
                )

    run(main())


def test_a_node_at_an_address_that_is_not_its_own(run: Any, tmp_path: Path) -> None:
    """A stolen certificate is of no use elsewhere: the dialler compares host and certificate."""

    async def main() -> None:
        one = Node(1, tls=make_certificates(tmp_path / "green-1"))
        two = Node(2, tls=make_certificates(tmp_path / "green-2", ("10.1.2.3", "elsewhere")))
        async with running(one, two):
            why, _remembered = await refused(one, two)
            assert why.startswith("the peer's certificate is not accepted: IP address mismatch")

    run(main())


def test_names_and_addresses_in_a_certificate_both_serve(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        one = Node(1, tls=make_certificates(tmp_path / "green-1"))
        two = Node(2, tls=make_certificates(tmp_path / "green-2", ("localhost", "127.0.0.1")))
        async with running(one, two):
            port = two.address.rsplit(":", 1)[1]
            assert await one.call(f"localhost:{port}") == b"hi"
            assert await one.call(f"127.0.0.1:{port}") == b"hi"

    run(main())


def test_an_expired_certificate(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        one = Node(1, tls=make_certificates(tmp_path / "green-1"))
        old = NOW - datetime.timedelta(days=9)
        files = make_certificates(tmp_path / "green-2")
        directory = tmp_path / "green-2"
        hosts = ("127.0.0.1",)
        create_node(directory, tmp_path / "green-ca", hosts, old, days=1, overwrite=True)
        two = Node(2, tls=files)
        async with running(one, two):
            why, remembered = await refused(one, two)
            assert why == "the peer's certificate is not accepted: certificate has expired"
            assert remembered == "the peer says that this node's certificate has expired"

    run(main())


def test_a_plain_peer_against_tls_and_the_reverse(run: Any, tls: Any) -> None:
    async def main() -> None:
        plain, secure = Node(1), Node(2, tls=tls("green-2"))
        async with running(plain, secure):
            why, remembered = await refused(plain, secure)
            assert why == (
                "refused by the peer: this node speaks TLS only: it needs certificates "
                "(see nodedb cert)"
            )
            assert remembered == "what the peer says is not TLS (does it run with --insecure?)"
            with pytest.raises(PeerUnavailable, match="is not TLS"):
                await secure.call(plain)
            sentence = "the peer speaks TLS, but this node does not (it runs with --insecure)"
            await eventually(
                lambda: sentence in [refusal.reason for refusal in plain.transport.refusals()]
            )

    run(main())


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        os.urandom(1000),
        b"\n" * 300_000,
    ],
    ids=["http", "postgres", "ssh", "random", "newlines"],
)
@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_garbage_on_the_port(run: Any, tls: Any, kind: str, garbage: bytes) -> None:
    async def main() -> None:
        files = None if kind == "plain" else tls("green-2")
        two, one = Node(2, tls=files), Node(1, tls=files)
        async with running(one, two):
            peer = await RawPeer.connect(two.address)
            peer.writer.write(garbage)
            (refusal,) = await eventually(two.transport.refusals)
            assert refusal.by == "us"
            assert refusal.reason.isprintable()
            await eventually(lambda: not two.transport.connections)
            await peer.close()
            assert await one.call(two) == b"hi"

    run(main())


def test_nodes_of_two_clusters_meet(run: Any, tls: Any) -> None:
    async def main() -> None:
        one = Node(1, tls=tls("green-1"), cluster_id="blue")
        two = Node(2, tls=tls("green-2"), cluster_id="green")
        async with running(one, two):
            why, remembered = await refused(one, two)
            assert remembered == (
                'this node belongs to cluster "green" and the peer at '
                f'{one.address} to cluster "blue"'
            )
            assert why == f"refused by the peer: {remembered}"
            assert one.transport.health()[0].last_error == why

    run(main())


def test_a_node_with_my_id(run: Any, tls: Any) -> None:
    async def main() -> None:
        one, two = Node(2, tls=tls("green-1")), Node(2, tls=tls("green-2"))
        async with running(one, two):
            _why, remembered = await refused(one, two)
            assert remembered == (
                f"node id 2 is this node's own (at {two.address}), "
                f"but the peer at {one.address} claims it too"
            )

    run(main())


def test_an_older_wire_version(run: Any) -> None:
    """Said to it in the envelope that every version reads."""

    async def main() -> None:
        two = Node(2)
        async with running(two):
            peer = await RawPeer.connect(two.address)
            with pytest.raises(HandshakeRefused) as told:
                await peer.shake_hands(version_min=0, version_max=0)
            sentence = (
                "no common wire version: this node speaks 1 to 1, the peer 0 to 0; "
                "the peer is too old, upgrade it"
            )
            assert (told.value.by, told.value.reason) == ("peer", sentence)
            (remembered,) = await eventually(two.transport.refusals)
            assert (remembered.address, remembered.reason) == ("127.0.0.1:1", sentence)
            newer = await RawPeer.connect(two.address)
            await newer.shake_hands(version_max=9)
            await eventually(lambda: len(two.transport.accepted) == 1)
            await newer.close()
            await peer.close()

    run(main())


def test_a_pinned_node_must_show_its_key(run: Any, tls: Any) -> None:
    async def main() -> None:
        one, two = Node(1, tls=tls("green-1")), Node(2, tls=tls("green-2"))
        async with running(one, two):
            two.transport.set_pins({1: one.transport.spki_pin, 9: "0" * 64})
            assert await one.call(two) == b"hi"
            two.transport.set_pins({1: "0" * 64})
            one.transport.reintroduce()
            why, _remembered = await refused(one, two)
            assert "has another key than the one pinned for it" in why
            # The dialler demands the pin of the accepter just as well.
            two.transport.set_pins({})
            one.transport.set_pins({2: "1" * 64})
            with pytest.raises(PeerUnavailable, match="refused: the certificate of node 2"):
                await one.call(two)

    run(main())


def test_the_owner_may_refuse(run: Any, tls: Any) -> None:
    async def main() -> None:
        one = Node(1, tls=tls("green-1"))
        two = Node(2, tls=tls("green-2"), admit=lambda peer: f"node {peer.node_id} was removed")
        async with running(one, two):
            why, remembered = await refused(one, two)
            assert (why, remembered) == (
                "refused by the peer: node 1 was removed",
                "node 1 was removed",
            )

    run(main())


def test_certificates_are_reloaded(run: Any, tls: Any, tmp_path: Path) -> None:
    async def main() -> None:
        one, two = Node(1, tls=tls("green-1")), Node(2, tls=tls("green-2"))
        async with running(one, two):
            assert await one.call(two) == b"hi"
            old_pin, old_expiry = two.transport.spki_pin, two.transport.certificates()[0].not_after
            directory, authority = tmp_path / "green-2", tmp_path / "green-ca"
            create_node(
                directory, authority, ["127.0.0.1"], NOW, days=8, overwrite=True, new_key=True
            )
            assert two.transport.spki_pin == old_pin
            node, ca = two.transport.reload()
            assert (node.name, ca.name) == ("node", "authority")
            assert two.transport.spki_pin == node.spki_pin != old_pin
            assert node.not_after > old_expiry
            assert await one.call(two) == b"hi"  # the old connection goes on
            one.transport.reintroduce()
            assert await one.call(two) == b"hi"
            pins = {peer.spki_pin for peer in one.peers}
            assert await two.call(one) == b"hi"
            assert one.peers[-1].spki_pin == old_pin or pins <= {node.spki_pin}
            # What cannot be used is refused, and the old goes on.
            (directory / "node.key").chmod(0o640)
            with pytest.raises(CredentialsError, match="mode 0640; it must be 0600"):
                two.transport.reload()
            (directory / "node.key").chmod(0o600)
            (directory / "node.crt").write_text("nonsense")
            with pytest.raises(CredentialsError, match=r"node\.crt"):
                two.transport.reload()
            one.transport.reintroduce()
            assert await one.call(two) == b"hi"

    run(main())


def test_keys_that_others_can_read_are_refused(tls: Any) -> None:
    files = tls("green-1")
    os.chmod(files.key, 0o604)
    with pytest.raises(CredentialsError, match="has mode 0604; it must be 0600"):
        Node(1, tls=files)
    os.chmod(files.key, 0o600)
    os.unlink(files.authority)
    with pytest.raises(CredentialsError, match="No such file or directory"):
        Node(1, tls=files)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "nodes speak TLS: give certificates, or --insecure"),
        ({"is_insecure": True, "secret": b"short"}, "must have at least 16 bytes"),
        ({"is_insecure": True, "rpc_timeout_seconds": 0.0}, "above zero"),
        ({"is_insecure": True, "wire_version_max": 7}, "wire versions must lie between"),
    ],
)
def test_impossible_settings_are_named(settings: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TcpTransport(Node(1).identity, TransportSettings(**settings))


def test_tls_needs_the_secret(tls: Any) -> None:
    with pytest.raises(ValueError, match="need the cluster secret beside their certificates"):
        Node(1, tls=tls("green-1"), secret=b"")


def test_the_secret_is_in_no_log_and_no_repr(
    run: Any, tls: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        one, two = (
            Node(1, tls=tls("green-1")),
            Node(2, tls=tls("green-2"), secret=b"another one " * 3),
        )
        async with running(one, two):
            await refused(one, two)
            seen = repr(one.transport.settings) + repr(one.transport) + repr(one.transport.health())
            assert SECRET.decode() not in seen + str(one.transport.refusals())

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert "refused" in caplog.text
    assert SECRET.decode() not in caplog.text
    assert SECRET.hex() not in caplog.text
