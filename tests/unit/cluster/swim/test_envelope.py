"""Authenticated datagrams: golden bytes, every reason to refuse, restarts, and the window."""

from hashlib import sha256
from hmac import digest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.ids import NodeId
from cluster.swim.counters import SwimCounters
from cluster.swim.datagrams import Datagrams
from cluster.swim.envelope import (
    OVERHEAD_BYTES,
    REPLAY_WINDOW,
    SENDERS_MAX,
    UNKNOWN_NODE,
    Flaw,
    Opened,
    Opener,
    Sealer,
    cluster_tag,
    derive_key,
)
from cluster.swim.member import Member
from cluster.swim.message import Ping, encode_message, update_of

SECRET = b"secret"
A, B, C = NodeId(1), NodeId(2), NodeId(3)


def sealer(node_id: NodeId = A, *, secret: bytes = SECRET, cluster_id: str = "c") -> Sealer:
    return Sealer(secret=secret, cluster_id=cluster_id, node_id=node_id)


def opener(node_id: NodeId = B) -> Opener:
    return Opener(secret=SECRET, cluster_id="c", node_id=node_id)


def test_golden_bytes() -> None:
    """The whole datagram, put together by hand."""
    datagram = sealer().seal(b"body", recipient=B, boot=7)
    header = bytes.fromhex(
        "01"  # version
        + sha256(b"c").hexdigest()[:16]
        + "0100000000000000"  # sender
        + "0200000000000000"  # recipient
        + "0700000000000000"  # boot
        + "0100000000000000"  # sequence starts at 1
        + "04000000"
    )
    key = digest(SECRET, b"nodedb swim datagram v1", "sha256")
    assert datagram == header + b"body" + digest(key, header + b"body", "sha256")
    assert OVERHEAD_BYTES == 77
    assert len(datagram) == OVERHEAD_BYTES + 4


def test_what_was_sealed_is_opened() -> None:
    assert opener().open(sealer().seal(b"x", recipient=B, boot=7)) == Opened(A, 7, b"x", None, 7)


def test_a_datagram_for_whoever_is_there_is_taken_by_all() -> None:
    datagram = sealer().seal(b"x", recipient=UNKNOWN_NODE, boot=7)
    assert isinstance(opener(B).open(datagram), Opened)
    assert isinstance(opener(C).open(datagram), Opened)


def test_a_datagram_for_another_node_is_not_taken() -> None:
    """Nobody can use what A says to B against C."""
    assert opener(C).open(sealer().seal(b"x", recipient=B, boot=7)) is Flaw.RECIPIENT


def test_another_cluster_and_another_secret_are_told_apart() -> None:
    other_cluster = sealer(cluster_id="d").seal(b"x", recipient=B, boot=7)
    assert opener().open(other_cluster) is Flaw.CLUSTER
    other_secret = sealer(secret=b"wrong").seal(b"x", recipient=B, boot=7)
    assert opener().open(other_secret) is Flaw.AUTHENTICATION
    assert cluster_tag("c") != cluster_tag("d")
    assert derive_key(b"") != derive_key(b"secret")


def test_any_changed_byte_is_noticed() -> None:
    datagram = sealer().seal(b"body", recipient=B, boot=7)
    for place in range(len(datagram)):
        changed = bytearray(datagram)
        changed[place] ^= 1
        refused = opener().open(bytes(changed))
        assert isinstance(refused, Flaw), place
    assert isinstance(opener().open(datagram), Opened)


def test_version_length_and_zeros() -> None:
    datagram = sealer().seal(b"body", recipient=B, boot=7)
    assert opener().open(b"\x02" + datagram[1:]) is Flaw.VERSION
    assert opener().open(datagram + b"x") is Flaw.MALFORMED
    assert opener().open(datagram[: OVERHEAD_BYTES - 1]) is Flaw.MALFORMED
    assert opener().open(b"") is Flaw.MALFORMED
    assert opener().open(sealer(NodeId(0)).seal(b"x", recipient=B, boot=7)) is Flaw.MALFORMED


def test_sequence_zero_is_refused_although_authentic() -> None:
    zero = sealer()
    zero._sequence = -1
    assert opener().open(zero.seal(b"x", recipient=B, boot=7)) is Flaw.MALFORMED


def flaw_of(opened: Opened | Flaw) -> Flaw | None:
    return opened if isinstance(opened, Flaw) else opened.flaw


def test_a_replay_is_refused() -> None:
    receiver = opener()
    sent = sealer()
    datagrams = [sent.seal(b"x", recipient=B, boot=7) for _ in range(100)]
    # Out of order within the window, and each of them twice.
    for index in (0, 5, 3, 40, 20, 66, 99):
        assert flaw_of(receiver.open(datagrams[index])) is None, index
        assert flaw_of(receiver.open(datagrams[index])) is Flaw.REPLAY, index
    # 64 numbers are remembered: 100 down to 37, which has index 36.
    assert flaw_of(receiver.open(datagrams[36])) is None
    assert flaw_of(receiver.open(datagrams[35])) is Flaw.BOOT


def test_a_restarted_sender_is_heard_at_once() -> None:
    """Mistake M9: the sequence begins again at 1, and the window must not refuse it."""
    receiver = opener()
    before = sealer()
    for _ in range(1000):
        old = before.seal(b"old", recipient=B, boot=7)
        assert flaw_of(receiver.open(old)) is None
    after = sealer()
    for _ in range(REPLAY_WINDOW * 2):
        assert flaw_of(receiver.open(after.seal(b"new", recipient=B, boot=8))) is None


def test_an_earlier_life_is_refused_and_the_newest_boot_named() -> None:
    receiver = opener()
    before, after = sealer(), sealer()
    old = [before.seal(b"old", recipient=B, boot=7) for _ in range(3)]
    receiver.open(old[0])
    receiver.open(after.seal(b"new", recipient=B, boot=9))
    assert receiver.open(old[1]) == Opened(A, 7, b"old", Flaw.BOOT, 9)
    # And it did not disturb the window of the present life.
    assert flaw_of(receiver.open(after.seal(b"new", recipient=B, boot=9))) is None


def test_nothing_is_remembered_of_forgeries() -> None:
    receiver = opener()
    for boot in range(100):
        receiver.open(sealer(secret=b"wrong").seal(b"x", recipient=B, boot=boot))
    assert flaw_of(receiver.open(sealer().seal(b"x", recipient=B, boot=0))) is None


def test_the_number_of_senders_is_bounded() -> None:
    receiver = opener()
    for node_id in range(10, 10 + SENDERS_MAX):
        datagram = sealer(NodeId(node_id)).seal(b"x", recipient=B, boot=0)
        assert flaw_of(receiver.open(datagram)) is None
    one_more = sealer(NodeId(9)).seal(b"x", recipient=B, boot=0)
    assert flaw_of(receiver.open(one_more)) is Flaw.REPLAY


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 150)), max_size=200))
def test_no_datagram_is_ever_taken_twice(arrivals: list[tuple[int, int]]) -> None:
    """Whatever the order of boots and sequence numbers."""
    receiver = opener()
    taken = set()
    for boot, sequence in arrivals:
        sent = sealer()
        sent._sequence = sequence - 1
        if flaw_of(receiver.open(sent.seal(b"x", recipient=B, boot=boot))) is None:
            assert (boot, sequence) not in taken
            taken.add((boot, sequence))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_refused(garbage: bytes) -> None:
    assert isinstance(opener().open(garbage), Flaw)


@pytest.mark.parametrize(
    "body",
    [
        b"garbage",
        # Signed by node 1, said to be from node 3.
        encode_message(Ping(1, update_of(Member(C, "a:1")))),
    ],
)
def test_an_authentic_datagram_with_a_bad_body_is_counted(body: bytes) -> None:
    counters = SwimCounters()
    received = Datagrams(secret=SECRET, cluster_id="c", node_id=B, counters=counters)
    assert received.decode(sealer().seal(body, recipient=B, boot=1)) is None
    assert counters.bad_malformed == 1
    assert counters.datagrams_received == 1


def test_every_flaw_has_its_counter() -> None:
    for flaw in Flaw:
        assert hasattr(SwimCounters(), f"bad_{flaw.value}")
