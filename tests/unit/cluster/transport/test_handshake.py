"""The handshake as a pure automaton: who gets in, who does not, and what is said."""

import hmac
import random

import msgspec
import pytest

from cluster.transport import frame as f
from cluster.transport.api import Peer
from cluster.transport.config import LocalIdentity
from cluster.transport.handshake import (
    NONCE_BYTES,
    Handshake,
    HandshakeRefused,
    Hello,
    clean_reason,
    identity_objection,
    negotiate,
    read_reason,
)

SECRET = b"a secret of the cluster"


def hello(node_id: int = 1, **changes: object) -> Hello:
    values: dict[str, object] = {
        "node_id": node_id,
        "cluster_id": "c1",
        "address": f"10.0.0.{node_id}:9400",
        "incarnation": 1,
        "version_min": 1,
        "version_max": 1,
        "nonce": bytes([node_id]) * NONCE_BYTES,
        "target": "",
    }
    return Hello(**(values | changes))  # type: ignore[arg-type]


def side(
    own: Hello,
    *,
    is_dialler: bool,
    secret: bytes = SECRET,
    binding: bytes = b"tls",
    admit: str = "",
) -> Handshake:
    local = LocalIdentity(own.node_id, own.cluster_id, own.address, own.incarnation)
    return Handshake(
        hello=own,
        is_dialler=is_dialler,
        secret=secret,
        binding=binding,
        spki_pin="pin",
        check=lambda peer, _hello: identity_objection(local, peer),
        admit=lambda _peer: admit,
    )


def meet(dialler: Handshake, accepter: Handshake) -> tuple[str, str]:
    """Run both to their end; returns how it ended for each: "ok" or "by: reason"."""
    outcome = {dialler: "", accepter: ""}
    speaker, listener = dialler, accepter
    frames = list(dialler.start().frames)
    while frames:
        frame_type, payload = frames.pop(0)
        try:
            step = listener.on_frame(frame_type, payload)
        except HandshakeRefused as refused:
            outcome[listener] = f"{refused.by}: {refused.reason}"
            if refused.by == "us":
                with pytest.raises(HandshakeRefused) as told:
                    speaker.on_frame(f.REFUSED, refused.reason.encode())
                outcome[speaker] = f"{told.value.by}: {told.value.reason}"
            return outcome[dialler], outcome[accepter]
        if step.is_established:
            outcome[listener] = "ok"
        frames += step.frames
        speaker, listener = listener, speaker
    return outcome[dialler], outcome[accepter]


def test_two_nodes_of_a_cluster_meet() -> None:
    dialler = side(hello(1), is_dialler=True)
    accepter = side(hello(2), is_dialler=False)
    assert meet(dialler, accepter) == ("ok", "ok")
    assert dialler.peer == Peer(2, "c1", "10.0.0.2:9400", 1, 1, "pin")
    assert accepter.peer == Peer(1, "c1", "10.0.0.1:9400", 1, 1, "pin")


def refused_by_dialler(reason: str) -> tuple[str, str]:
    return f"us: {reason}", f"peer: {reason}"


def refused_by_accepter(reason: str) -> tuple[str, str]:
    return f"peer: {reason}", f"us: {reason}"


def test_a_wrong_secret_is_refused_and_both_know() -> None:
    dialler = side(hello(1), is_dialler=True, secret=b"another secret, long enough")
    reason = "the proof of the cluster secret is wrong: the two nodes have different secrets"
    assert meet(dialler, side(hello(2), is_dialler=False)) == refused_by_accepter(reason)


def test_a_relay_between_two_tls_sessions_is_refused() -> None:
    """Both know the secret, but each sees the relay's certificate in place of the other's."""
    dialler = side(hello(1), is_dialler=True, binding=b"relay and dialler")
    accepter = side(hello(2), is_dialler=False, binding=b"accepter and relay")
    assert meet(dialler, accepter)[1].startswith("us: the proof of the cluster secret is wrong")


def test_an_accepter_without_the_secret_is_found_out_too() -> None:
    """It lets every proof pass, but cannot make its own."""
    dialler = side(hello(1), is_dialler=True)
    dialler.start()
    (proof,) = dialler.on_frame(f.HELLO, msgspec.msgpack.encode(hello(2))).frames
    forged = hmac.digest(b"guess", proof[1], "sha256")
    with pytest.raises(HandshakeRefused, match="proof of the cluster secret is wrong"):
        dialler.on_frame(f.PROOF, forged)


def test_a_proof_sent_back_to_its_maker_is_no_proof() -> None:
    dialler = side(hello(1), is_dialler=True)
    dialler.start()
    (proof,) = dialler.on_frame(f.HELLO, msgspec.msgpack.encode(hello(2))).frames
    with pytest.raises(HandshakeRefused, match="proof of the cluster secret is wrong"):
        dialler.on_frame(*proof)


def test_a_recorded_handshake_is_worthless_the_next_time() -> None:
    """The accepter's fresh nonce is part of what is proved."""
    first, accepter = side(hello(1), is_dialler=True), side(hello(2), is_dialler=False)
    (recorded_hello,) = first.start().frames
    (answer,) = accepter.on_frame(*recorded_hello).frames
    (recorded_proof,) = first.on_frame(*answer).frames
    assert accepter.on_frame(*recorded_proof).is_established
    again = side(hello(2, nonce=b"n" * NONCE_BYTES), is_dialler=False)
    again.on_frame(*recorded_hello)
    with pytest.raises(HandshakeRefused, match="proof of the cluster secret is wrong"):
        again.on_frame(*recorded_proof)


def test_two_clusters_do_not_mix() -> None:
    dialler = side(hello(1, cluster_id="blue"), is_dialler=True)
    accepter = side(hello(2, cluster_id="green"), is_dialler=False)
    assert meet(dialler, accepter) == refused_by_accepter(
        'this node belongs to cluster "green" and the peer at 10.0.0.1:9400 to cluster "blue"'
    )


@pytest.mark.parametrize("which", [1, 2])
def test_a_node_without_a_cluster_may_greet(which: int) -> None:
    hellos = {1: hello(1), 2: hello(2)}
    hellos[which] = hello(0, cluster_id="", address="10.0.0.7:9400")
    dialler, accepter = side(hellos[1], is_dialler=True), side(hellos[2], is_dialler=False)
    assert meet(dialler, accepter) == ("ok", "ok")


def test_nobody_else_has_my_id() -> None:
    dialler = side(hello(2, address="10.0.0.9:9400"), is_dialler=True)
    accepter = side(hello(2), is_dialler=False)
    assert meet(dialler, accepter) == refused_by_accepter(
        "node id 2 is this node's own (at 10.0.0.2:9400), "
        "but the peer at 10.0.0.9:9400 claims it too"
    )


def test_nobody_else_has_my_id_and_address() -> None:
    dialler = side(hello(2, incarnation=1), is_dialler=True)
    accepter = side(hello(2, incarnation=4), is_dialler=False)
    assert meet(dialler, accepter) == refused_by_accepter(
        "another process claims this node's id 2 and address 10.0.0.2:9400 "
        "(incarnation 1, ours is 4)"
    )


def test_a_node_may_speak_to_itself() -> None:
    mine = hello(2, nonce=b"m" * NONCE_BYTES)
    assert meet(side(mine, is_dialler=True), side(hello(2), is_dialler=False)) == ("ok", "ok")


def test_an_older_wire_version_is_told_who_is_too_old() -> None:
    old = side(hello(1, version_min=1, version_max=1), is_dialler=True)
    new = side(hello(2, version_min=2, version_max=3), is_dialler=False)
    assert meet(old, new) == refused_by_accepter(
        "no common wire version: this node speaks 2 to 3, the peer 1 to 1; "
        "the peer is too old, upgrade it"
    )
    old = side(hello(2, version_min=1, version_max=1), is_dialler=False)
    new = side(hello(1, version_min=2, version_max=3), is_dialler=True)
    assert "this node is too old, upgrade it" in meet(new, old)[1]


@pytest.mark.parametrize(
    ("ours", "theirs", "version"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 3), (2, 5), 3),
        ((2, 5), (1, 3), 3),
        ((1, 4), (2, 3), 3),
        ((1, 1), (2, 2), 0),
        ((3, 4), (1, 2), 0),
    ],
)
def test_the_newest_common_version_is_spoken(
    ours: tuple[int, int], theirs: tuple[int, int], version: int
) -> None:
    assert negotiate(ours, theirs) == version


def test_the_owner_may_refuse_who_has_proved_itself() -> None:
    accepter = side(hello(2), is_dialler=False, admit="node 1 was decommissioned")
    assert meet(side(hello(1), is_dialler=True), accepter) == refused_by_accepter(
        "node 1 was decommissioned"
    )
    dialler = side(hello(1), is_dialler=True, admit="node 2 was decommissioned")
    assert meet(dialler, side(hello(2), is_dialler=False))[0] == "us: node 2 was decommissioned"


def test_a_hello_of_a_later_version_with_more_fields_is_read() -> None:
    accepter = side(hello(2), is_dialler=False)
    longer = msgspec.msgpack.decode(msgspec.msgpack.encode(hello(1, version_max=2)))
    step = accepter.on_frame(f.HELLO, msgspec.msgpack.encode([*longer, "new", {"more": 1}]))
    assert [frame_type for frame_type, _ in step.frames] == [f.HELLO]


@pytest.mark.parametrize(
    ("frame_type", "payload"),
    [
        (f.PROOF, b"x" * 32),
        (f.MESSAGE, b""),
        (f.HELLO, b""),
        (f.HELLO, b"\x00garbage"),
        (f.HELLO, msgspec.msgpack.encode(hello(1, nonce=b"short"))),
        (f.HELLO, msgspec.msgpack.encode(hello(1, address="a" * 301))),
        (f.HELLO, msgspec.msgpack.encode([2, *msgspec.to_builtins(hello(1))[1:]])),
    ],
)
def test_what_is_not_the_handshake_is_refused(frame_type: int, payload: bytes) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        side(hello(2), is_dialler=False).on_frame(frame_type, payload)
    assert refused.value.by == "us"


def test_a_second_hello_is_refused() -> None:
    accepter = side(hello(2), is_dialler=False)
    accepter.on_frame(f.HELLO, msgspec.msgpack.encode(hello(1)))
    with pytest.raises(HandshakeRefused, match="does not keep to the handshake"):
        accepter.on_frame(f.HELLO, msgspec.msgpack.encode(hello(1)))


@pytest.mark.parametrize("seed", range(200))
def test_random_payloads_never_do_anything_else(seed: int) -> None:
    rng = random.Random(seed)
    payload = bytearray(msgspec.msgpack.encode(hello(1)))
    for _ in range(rng.randrange(1, 4)):
        payload[rng.randrange(len(payload))] = rng.randrange(256)
    accepter = side(hello(2), is_dialler=False)
    said = "accepted"
    try:
        accepter.on_frame(f.HELLO, bytes(payload))
    except HandshakeRefused as refused:
        said = refused.reason
    assert said.isprintable(), f"seed {seed}"


def test_words_of_a_peer_are_made_fit_for_a_log() -> None:
    assert clean_reason("a\nb\x1b[31m") == "a?b?[31m"
    assert read_reason(b"\xff\n" + b"x" * 1000).startswith("�?xxx")
    assert len(read_reason(b"x" * 10_000)) == 500
    assert read_reason(b"") == "refused without a reason"


def test_the_secret_is_nowhere_to_be_seen() -> None:
    dialler = side(hello(1), is_dialler=True)
    seen = repr(dialler) + repr(vars(dialler)) + repr(dialler.start())
    assert SECRET.decode() not in seen
    assert SECRET.hex() not in seen
