"""Raft messages as frames: batches, stale addresses, garbage."""

from __future__ import annotations

from typing import Any

from cluster.multiraft.message import Beat, encode_beat
from cluster.raft.message import AppendRequest, Heartbeat, decode_messages, encode_messages
from cluster.transport.api import Peer
from cluster.transport.methods import NODE_BEAT, RAFT
from nodedb.member.links import BATCH_BYTES, RaftLinks

PEER = Peer(2, "c1", "b:1", 1, 1)


class FakeTransport:
    def __init__(self) -> None:
        self.sent: list[tuple[str, int, bytes]] = []
        self.handlers: dict[int, Any] = {}
        self.accepts = True

    def send(self, address: str, kind: int, payload: bytes) -> bool:
        self.sent.append((address, kind, payload))
        return self.accepts

    def on_message(self, kind: int, handler: Any) -> None:
        self.handlers[kind] = handler


class FakeReplicator:
    def __init__(self) -> None:
        self.received: list[Any] = []
        self.beats: list[Beat] = []

    def receive(self, messages: list[Any]) -> None:
        self.received += messages

    def receive_beat(self, beat: Beat) -> None:
        self.beats.append(beat)


def links() -> tuple[RaftLinks, FakeTransport, FakeReplicator]:
    transport, replicator = FakeTransport(), FakeReplicator()
    made = RaftLinks(transport, {2: "b:1", 3: "c:1"}.get, 1)  # type: ignore[arg-type]
    made.attach(replicator)  # type: ignore[arg-type]
    return made, transport, replicator


def heartbeat(sender: int = 2, recipient: int = 1) -> Heartbeat:
    return Heartbeat(0, sender, recipient, 4, 0, 1)


def append(byte_count: int) -> AppendRequest:
    return AppendRequest(1, 1, 2, 4, 0, 0, 0, 1, [(1, 4, bytes(byte_count))])


def test_a_turns_messages_share_a_frame() -> None:
    made, transport, _ = links()
    made.send(2, [heartbeat(1, 2), append(10), heartbeat(1, 2)])
    [(address, kind, payload)] = transport.sent
    assert (address, kind) == ("b:1", RAFT)
    assert len(decode_messages(payload)) == 3


def test_frames_stay_within_what_the_transport_carries() -> None:
    made, transport, _ = links()
    messages = [append(BATCH_BYTES // 2 + 1) for _ in range(3)]
    made.send(2, [*messages, append(3 * BATCH_BYTES), heartbeat(1, 2)])
    assert [len(decode_messages(payload)) for _, _, payload in transport.sent] == [1, 1, 1, 2]
    assert made.unsent_count == 0


def test_what_cannot_be_sent_is_dropped_and_counted() -> None:
    made, transport, _ = links()
    made.send(9, [heartbeat(1, 9)])
    assert not transport.sent
    transport.accepts = False
    made.send(2, [heartbeat(1, 2), heartbeat(1, 2)])
    made.send_beat(9, Beat(1, 5))
    assert made.unsent_count == 3


def test_misdirected_messages_are_dropped() -> None:
    """For another node: a stale address; from another: somebody speaks for a third."""
    made, transport, replicator = links()
    batch = [heartbeat(), heartbeat(recipient=3), heartbeat(sender=3)]
    transport.handlers[RAFT](PEER, encode_messages(batch))
    assert replicator.received == [heartbeat()]
    assert made.misdirected_count == 2
    transport.handlers[NODE_BEAT](PEER, encode_beat(Beat(3, 1)))
    transport.handlers[NODE_BEAT](PEER, encode_beat(Beat(2, 1)))
    assert replicator.beats == [Beat(2, 1)]


def test_garbage_reaches_nobody_and_breaks_nothing(caplog: Any) -> None:
    _, transport, replicator = links()
    for payload in (b"", b"\x00", b"\x07junk", encode_messages([heartbeat()])[:-2], b"\xff" * 99):
        transport.handlers[RAFT](PEER, payload)
        transport.handlers[NODE_BEAT](PEER, payload)
    assert not replicator.received
    assert not replicator.beats
    assert "node 2 at b:1" in caplog.text


def test_who_looks_at_the_turns_does_not_end_them(caplog: Any) -> None:
    made, _, _ = links()
    seen: list[int] = []

    def fail() -> None:
        raise RuntimeError("no")

    made.on_turns += [fail, lambda: seen.append(1)]
    made.on_turn()
    assert seen == [1]
    assert "no" in caplog.text


def test_snapshots_before_the_member_is_there_are_put_off(caplog: Any) -> None:
    made, _, _ = links()
    made.send_snapshot(1, 2)
    started: list[tuple[int, int]] = []
    made.start_snapshot = lambda group_id, node_id: started.append((group_id, node_id))
    made.send_snapshot(1, 2)
    assert started == [(1, 2)]
    assert "too early" in caplog.text
