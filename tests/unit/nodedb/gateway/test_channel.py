"""A stream as callbacks, over the loop-back's streams: order, windows, and every kind of end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cluster.transport.api import PeerUnavailable
from nodedb.gateway.channel import QUEUE_BYTES_HIGH, Channel
from nodedb.gateway.loopback import ADDRESS, WINDOW_BYTES, ForwardingLeadership, Loopback
from nodedb.waiter import Waiter
from tests.unit.nodedb.txn.simulation import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.transport.api import Peer, Stream


class Owner:
    """Writes down what happens."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.byte_count = 0
        self.on_chunk_more: Callable[[bytes], None] = lambda _: None

    def on_chunk(self, chunk: bytes) -> None:
        self.byte_count += len(chunk)
        self.log.append(f"chunk {chunk[:9].decode()}")
        self.on_chunk_more(chunk)

    def on_finished(self) -> None:
        self.log.append("finished")

    def on_broken(self, reason: str) -> None:
        self.log.append(f"broken: {reason}")

    def on_room(self) -> None:
        self.log.append("room")


class World:
    """A channel at this end, and one or a bare stream at the other."""

    def __init__(self, *, is_bare: bool = False) -> None:
        self.network = Loopback()
        self.far: Channel | None = None
        self.far_owner = Owner()
        self.stream: Stream | None = None
        self.done: Waiter[None] = Waiter()
        self.network.serve(ADDRESS, self._serve_bare if is_bare else self._serve)
        self.owner = Owner()
        self.opening = self.network.open_stream(ADDRESS, 1, b"")
        self.near = Channel(self.owner, self.opening)

    async def _serve(self, _peer: Peer, _payload: bytes, stream: Stream) -> None:
        async def opened() -> Stream:
            return stream

        self.far = Channel(self.far_owner, opened())
        self.far.start()
        await self.done

    async def _serve_bare(self, _peer: Peer, _payload: bytes, stream: Stream) -> None:
        self.stream = stream
        await self.done


def test_chunks_arrive_in_order_both_ways() -> None:
    world = World()
    world.near.send(b"before")
    world.near.start()
    world.near.send(b"one")
    assert world.far is not None
    world.far.send(b"two")
    world.far.send(b"three")
    assert world.far_owner.log == ["chunk before", "chunk one"]
    assert world.owner.log == ["chunk two", "chunk three"]


def test_an_answer_within_the_callback() -> None:
    world = World()
    world.near.start()
    far = world.far
    assert far is not None
    world.far_owner.on_chunk_more = lambda chunk: far.send(b"re: " + chunk)
    for number in range(5):
        world.near.send(b"%d" % number)
    assert world.owner.log == [f"chunk re: {number}" for number in range(5)]


def test_a_reader_that_pauses_fills_the_window_and_then_the_queue() -> None:
    world = World()
    world.near.start()
    assert world.far is not None
    world.far.pause()
    chunk = bytes(64 * 1024)
    sent = 0
    while not world.near.is_full:
        world.near.send(chunk)
        sent += len(chunk)
    assert WINDOW_BYTES <= sent <= WINDOW_BYTES + QUEUE_BYTES_HIGH + 3 * len(chunk)
    assert world.far_owner.byte_count <= len(chunk)
    world.far.resume()
    assert world.far_owner.byte_count == sent
    assert world.owner.log == ["room"]
    assert not world.near.is_full


def test_the_other_side_finishes() -> None:
    world = World()
    world.near.start()
    assert world.far is not None
    world.far.send(b"last")
    world.far.finish()
    assert world.far.sent.done
    assert world.owner.log == ["chunk last", "finished"]
    world.near.finish()
    assert world.near.sent.done


def test_this_side_finishes_and_still_hears() -> None:
    world = World()
    world.near.start()
    world.near.send(b"last")
    world.near.finish_sending()
    assert world.far_owner.log == ["chunk last", "finished"]
    assert world.far is not None
    world.far.send(b"answer")
    assert world.owner.log == ["chunk answer"]


def test_an_abort_is_told_to_the_other_side_only() -> None:
    world = World()
    world.near.start()
    world.near.abort("enough")
    world.near.send(b"never")
    assert world.far_owner.log == ["broken: enough"]
    assert world.owner.log == []
    assert world.near.sent.done


def test_an_abort_with_chunks_in_the_queue() -> None:
    world = World(is_bare=True)
    world.near.start()
    while not world.near.is_full:
        world.near.send(bytes(64 * 1024))
    world.near.abort("enough")
    assert world.near.sent.done


def test_a_lost_address() -> None:
    world = World()
    world.near.start()
    world.network.lose(ADDRESS)
    assert world.owner.log == ["broken: connection lost"]
    assert world.far_owner.log == ["broken: connection lost"]
    late = Channel(world.owner, world.network.open_stream(ADDRESS, 1, b""))
    late.start()
    assert world.owner.log[1] == f"broken: {ADDRESS} cannot be reached"


def test_given_up_before_it_was_open() -> None:
    owner = Owner()
    opened: Waiter[None] = Waiter()
    world = World(is_bare=True)

    async def open_late() -> Stream:
        await opened
        return await opening

    opening = world.opening

    channel = Channel(owner, open_late())
    channel.start()
    channel.send(b"never")
    channel.abort("changed my mind")
    opened.set_result(None)
    assert world.stream is not None
    with pytest.raises(Exception, match="changed my mind"):
        Task(world.stream.receive()).result()
    assert owner.log == []


def test_an_owner_that_fails_loses_its_stream_and_nothing_else() -> None:
    world = World()

    def fail(_chunk: bytes) -> None:
        raise RuntimeError("a bug")

    world.far_owner.on_chunk_more = fail
    world.near.start()
    world.near.send(b"one")
    assert world.owner.log == ["broken: internal error"]
    assert world.far_owner.log == ["chunk one", "broken: a bug"]


def test_a_node_that_forwards_to_itself_never_serves() -> None:
    leadership = ForwardingLeadership()
    assert not leadership.may_serve
    assert leadership.leader_address == ADDRESS
    with pytest.raises(PeerUnavailable):
        Task(Loopback().open_stream(ADDRESS, 1, b"")).result()
