"""The queue of updates: order, limits, and what one datagram may hold."""

import pytest

from cluster.ids import NodeId
from cluster.swim import SwimSettings
from cluster.swim.awareness import Awareness
from cluster.swim.dissemination import Dissemination
from cluster.swim.member import MemberState
from cluster.swim.message import (
    PIGGYBACK_BYTES_MAX,
    MemberUpdate,
    Ping,
    encode_message,
)
from cluster.swim.suspicion import Suspicion


def update(node_id: int, incarnation: int = 0, address: str = "") -> MemberUpdate:
    return MemberUpdate(
        node_id, address or f"10.0.0.{node_id}:9400", MemberState.ALIVE, incarnation, 1
    )


def ids(updates: tuple[MemberUpdate, ...]) -> list[int]:
    return [taken.node_id for taken in updates]


def test_least_sent_first_then_by_node_id() -> None:
    queue = Dissemination(SwimSettings(piggyback_max=2))
    for node_id in (5, 3, 4):
        queue.enqueue(update(node_id))
    assert ids(queue.take(16)) == [3, 4]
    assert ids(queue.take(16)) == [5, 3]
    assert ids(queue.take(16)) == [4, 5]


def test_at_most_six_in_one_message() -> None:
    queue = Dissemination(SwimSettings())
    for node_id in range(1, 20):
        queue.enqueue(update(node_id))
    assert ids(queue.take(16)) == [1, 2, 3, 4, 5, 6]


def test_an_update_is_dropped_after_its_last_send() -> None:
    queue = Dissemination(SwimSettings())
    queue.enqueue(update(2))
    sends = 0
    while queue.take(3):
        sends += 1
        assert sends < 100
    assert sends == 6  # ceil(3 * log2(4))
    assert len(queue) == 0


def test_a_newer_record_replaces_and_starts_again() -> None:
    queue = Dissemination(SwimSettings())
    queue.enqueue(update(2))
    for _ in range(5):
        queue.take(3)
    queue.enqueue(update(2, 1))
    taken = [queue.take(3) for _ in range(7)]
    assert taken == [(update(2, 1),)] * 6 + [()]


def test_what_the_recipient_must_hear_comes_first() -> None:
    queue = Dissemination(SwimSettings(piggyback_max=2))
    for node_id in (2, 3, 4):
        queue.enqueue(update(node_id))
    assert ids(queue.take(16, (update(4),))) == [4, 2]
    assert ids(queue.take(16, (update(9),))) == [9, 3]
    # The send of 4 counted, so 2, 3 and 4 have been sent once each.
    assert ids(queue.take(16)) == [2, 3]


def test_a_record_that_is_only_in_first_is_not_queued_by_that() -> None:
    queue = Dissemination(SwimSettings())
    assert ids(queue.take(3, (update(9),))) == [9]
    assert queue.take(3) == ()


def test_a_message_stays_below_one_frame() -> None:
    queue = Dissemination(SwimSettings(piggyback_max=32))
    for node_id in range(1, 30):
        queue.enqueue(update(2**62 + node_id, 2**64 - 1, "x" * 240 + ":65535"))
    taken = queue.take(16)
    assert len(taken) == 3
    sender = update(2**62, 2**64 - 1, "x" * 240 + ":65535")
    body = encode_message(Ping(2**62, sender, taken))
    assert len(body) < PIGGYBACK_BYTES_MAX + 350
    # What did not fit has not been counted as sent: it comes next.
    assert ids(queue.take(16)) == [2**62 + 4, 2**62 + 5, 2**62 + 6]


def test_awareness_stays_within_its_bounds() -> None:
    awareness = Awareness(8)
    awareness.improve()
    assert awareness.score == 0
    awareness.worsen(3)
    assert awareness.scale(0.5) == 2.0
    awareness.worsen(100)
    assert awareness.score == 8
    awareness.improve()
    assert awareness.score == 7
    off = Awareness(0)
    off.worsen(5)
    assert off.scale(0.5) == 0.5


def test_a_suspicion_keeps_the_size_it_was_armed_with() -> None:
    suspicion = Suspicion(settings=SwimSettings(), member_count=3, accuser=NodeId(7), now=100.0)
    assert suspicion.accuser == 7
    assert suspicion.deadline == pytest.approx(106.34, abs=0.005)
    assert not suspicion.confirm(NodeId(8)), "three members wait for no confirmation"
    suspicion.shift(60.0)
    assert suspicion.deadline == pytest.approx(166.34, abs=0.005)
