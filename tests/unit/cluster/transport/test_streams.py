"""Streams: borders, windows, ends, over sessions and over the in-memory network alike."""

import random
from typing import Any

import pytest

from cluster.transport import frame as f
from cluster.transport.api import Peer, RemoteError, StreamBroken
from cluster.transport.completion import Completion
from cluster.transport.config import CHUNK_BYTES_MAX, WINDOW_BYTES
from cluster.transport.flow import ReceiveWindow, SendWindow, part_cost, split
from tests.unit.cluster.transport.sessions import Pair

SERVE = 1


def test_a_chunk_of_any_size_fits_the_window() -> None:
    for size in (0, 1, 65_535, 65_536, 65_537, 999_999, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX):
        parts = split(bytes(size))
        assert sum(map(len, parts)) == size
        assert sum(part_cost(len(part)) for part in parts) <= WINDOW_BYTES, size


@pytest.mark.parametrize("seed", range(20))
def test_sender_and_receiver_agree_on_the_credit(seed: int) -> None:
    """Whatever is read whenever: never beyond the window, never stuck, all credit comes back."""
    rng = random.Random(seed)
    sender, receiver = SendWindow(), ReceiveWindow()
    unread: list[int] = []
    for _ in range(5_000):
        cost = part_cost(rng.choice((0, 10, 5_000, 65_536)))
        if rng.random() < 0.6 and sender.take(cost):
            assert receiver.arrive(cost)
            unread.append(cost)
        elif unread:
            cost = unread.pop(0)
            assert sender.give(receiver.consume(cost, is_last=not unread)), f"seed {seed}"
    while unread:
        assert sender.give(receiver.consume(unread.pop(0), is_last=not unread))
    assert sender.credit_bytes == WINDOW_BYTES


def test_credit_that_was_never_spent_is_noticed() -> None:
    sender = SendWindow()
    assert sender.take(1000)
    assert sender.give(1000)
    assert not sender.give(1)


async def echo_stream(_peer: Peer, _payload: bytes, stream: Any) -> None:
    while (chunk := await stream.receive()) is not None:
        await stream.send(chunk)


@pytest.mark.parametrize("seed", range(10))
def test_chunks_keep_their_borders_both_ways(seed: int) -> None:
    rng = random.Random(seed)
    chunks = [
        rng.randbytes(rng.choice((0, 1, 100, 65_536, 65_537, 500_000, CHUNK_BYTES_MAX)))
        for _ in range(40)
    ]
    pair = Pair()
    pair.dialler.socket_bytes_max = pair.accepter.socket_bytes_max = 50_000
    pair.accepter.streams[SERVE] = echo_stream
    received: list[bytes] = []

    async def use() -> str:
        stream = await pair.dialler.session.open_stream(SERVE, b"")
        sender: list[Any] = []
        pair.start(send_all(stream, sender))
        while (chunk := await stream.receive()) is not None:
            received.append(chunk)
        return "finished"

    async def send_all(stream: Any, _sender: list[Any]) -> str:
        for chunk in chunks:
            await stream.send(chunk)
        stream.finish()
        return "sent"

    pair.start(use())
    pair.settle()
    assert received == chunks, f"seed {seed}"
    assert pair.outcomes == [("sent", None), ("finished", None)]
    assert pair.dialler.session.is_idle
    assert pair.accepter.session.is_idle
    assert pair.accepter.session._streams == {}


def test_a_reader_that_does_not_read_stops_the_sender_at_the_window() -> None:
    pair = Pair()
    sent: list[int] = []
    ends: list[Any] = []

    async def lazy(_peer: Peer, _payload: bytes, stream: Any) -> None:
        ends.append(stream)
        await pair_waits
        while await stream.receive() is not None:
            pass

    pair_waits: Completion[None] = Completion()
    pair.accepter.streams[SERVE] = lazy

    async def use() -> str:
        stream = await pair.dialler.session.open_stream(SERVE, b"")
        for number in range(100):
            await stream.send(bytes(100_000))
            sent.append(number)
        stream.finish()
        return "sent"

    pair.start(use())
    pair.settle()
    assert len(sent) == 10  # 1 MiB, in chunks of 100,000 bytes
    pair_waits.set_result(None)
    pair.settle()
    assert len(sent) == 100
    assert pair.outcomes == [("sent", None)]


def test_empty_chunks_are_bounded_too() -> None:
    pair = Pair()
    sent: list[int] = []

    async def hold(_peer: Peer, _payload: bytes, _stream: Any) -> None:
        await Completion()

    pair.accepter.streams[SERVE] = hold

    async def use() -> None:
        stream = await pair.dialler.session.open_stream(SERVE, b"")
        for number in range(10_000):
            await stream.send(b"")
            sent.append(number)

    pair.start(use())
    pair.settle()
    assert len(sent) == WINDOW_BYTES // 256


def test_too_long_a_chunk_is_the_callers_fault() -> None:
    pair = Pair()
    pair.accepter.streams[SERVE] = echo_stream

    async def use() -> None:
        stream = await pair.dialler.session.open_stream(SERVE, b"")
        await stream.send(bytes(CHUNK_BYTES_MAX + 1))

    pair.start(use())
    assert isinstance(pair.outcomes[0][1], ValueError)


def test_a_handler_that_returns_early_does_not_block_the_sender() -> None:
    pair = Pair()

    async def impatient(_peer: Peer, _payload: bytes, stream: Any) -> None:
        assert await stream.receive() is not None

    pair.accepter.streams[SERVE] = impatient

    async def use() -> object:
        stream = await pair.dialler.session.open_stream(SERVE, b"")
        for _ in range(30):
            await stream.send(bytes(CHUNK_BYTES_MAX))
        stream.finish()
        return await stream.receive()

    pair.start(use())
    pair.settle()
    assert pair.outcomes == [(None, None)]
    assert pair.accepter.session.is_idle


def test_a_handler_that_fails_breaks_the_stream_with_its_words() -> None:
    pair = Pair()

    async def refuse(_peer: Peer, _payload: bytes, stream: Any) -> None:
        await stream.send(b"one")
        raise RemoteError("", "not the leader")

    pair.accepter.streams[SERVE] = refuse

    async def use() -> list[object]:
        stream = await pair.dialler.session.open_stream(SERVE, b"")
        got: list[object] = []
        try:
            while True:
                got.append(await stream.receive())
        except StreamBroken as broken:
            got.append(str(broken))
        return got

    pair.start(use())
    pair.settle()
    assert pair.outcomes[0][0][-1] == "not the leader"
    assert pair.accepter.failed_with == ""


def test_an_unknown_stream_is_refused_with_a_sentence() -> None:
    pair = Pair()

    async def use() -> object:
        stream = await pair.dialler.session.open_stream(2, b"")
        return await stream.receive()

    pair.start(use())
    pair.settle()
    assert str(pair.outcomes[0][1]) == "this node does not serve snapshot"


def test_an_abort_reaches_the_other_side_and_frees_both() -> None:
    pair = Pair()
    reasons: list[str] = []

    async def serve(_peer: Peer, _payload: bytes, stream: Any) -> None:
        try:
            await stream.receive()
        except StreamBroken as broken:
            reasons.append(str(broken))
            raise

    pair.accepter.streams[SERVE] = serve

    async def use() -> object:
        stream = await pair.dialler.session.open_stream(SERVE, b"")
        pair.settle()
        stream.abort("cancelled by the user")
        stream.abort("twice")
        stream.finish()
        await stream.send(b"")
        return None

    pair.start(use())
    pair.settle()
    assert reasons == ["cancelled by the user"]
    assert isinstance(pair.outcomes[0][1], StreamBroken)
    assert pair.dialler.session.is_idle
    assert pair.accepter.session.is_idle


def test_a_lost_connection_breaks_streams_on_both_sides() -> None:
    pair = Pair()
    reasons: list[str] = []

    async def serve(_peer: Peer, _payload: bytes, stream: Any) -> None:
        try:
            await stream.receive()
        except StreamBroken as broken:
            reasons.append(str(broken))

    pair.accepter.streams[SERVE] = serve

    async def use() -> object:
        stream = await pair.dialler.session.open_stream(SERVE, b"")
        return await stream.receive()

    pair.start(use())
    pair.settle()
    pair.dialler.session.lose("the peer closed the connection")
    pair.accepter.session.lose("the peer closed the connection")
    assert isinstance(pair.outcomes[0][1], StreamBroken)
    assert reasons == ["dialler:1: the peer closed the connection"]


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (
            [(f.STREAM_FINISH, 0, 1, 0, b""), (f.STREAM_PART, 1, 1, 0, b"x")],
            "a part of a stream arrived after its end",
        ),
        (
            [(f.STREAM_PART, 0, 1, 0, b"x"), (f.STREAM_FINISH, 0, 1, 0, b"")],
            "a stream was finished amid a chunk",
        ),
        ([(f.STREAM_CREDIT, 0, 1, 5, b"")], "a stream was given more credit than it spent"),
        ([(f.STREAM_OPEN, SERVE, 1, 0, b"")], "a stream was opened twice"),
    ],
)
def test_broken_rules_end_the_connection(frames: list[f.Frame], sentence: str) -> None:
    async def hold(_peer: Peer, _payload: bytes, _stream: Any) -> None:
        await Completion()

    pair = Pair()
    pair.accepter.streams[SERVE] = hold
    pair.dialler.session._write([(f.STREAM_OPEN, SERVE, 1, 0, b""), *frames])
    pair.settle()
    assert pair.accepter.failed_with == sentence


def test_frames_of_a_stream_that_is_gone_are_passed_over() -> None:
    pair = Pair()
    late = [(f.STREAM_PART, 1, 77, 0, b"x"), (f.STREAM_CREDIT, 0, 77, 5, b"")]
    pair.dialler.session._write(late)
    pair.settle()
    assert pair.accepter.failed_with == ""
