"""One connection: calls, priorities, bounds, pings, and what the peer may not do."""

import random
from typing import Any

import pytest

from cluster.transport import frame as f
from cluster.transport.api import OutcomeUnknown, Peer, PeerUnavailable, RemoteError
from cluster.transport.completion import Completion
from cluster.transport.config import FRAME_BYTES_MAX
from tests.unit.cluster.transport.sessions import Pair

ECHO = 3


async def echo(_peer: Peer, payload: bytes) -> bytes:
    return payload


def test_messages_arrive_in_order_and_a_turn_is_one_write() -> None:
    pair = Pair()
    heard: list[bytes] = []
    pair.accepter.messages[1] = lambda peer, payload: heard.append(payload)
    for number in range(100):
        assert pair.dialler.session.send_message(1, b"%d" % number)
    pair.settle()
    assert heard == [b"%d" % number for number in range(100)]
    assert pair.dialler.write_count == 1


def test_a_call_is_answered_in_one_turn_of_each_side() -> None:
    pair = Pair()
    pair.accepter.calls[ECHO] = echo
    pair.start(pair.dialler.session.call(ECHO, b"hello", 1.0))
    pair.settle()
    assert pair.outcomes == [(b"hello", None)]
    assert (pair.dialler.write_count, pair.accepter.write_count) == (1, 1)
    pair.timers.advance(2.0)
    assert pair.silent_calls == 0


def test_what_a_handler_refuses_arrives_as_it_was_said() -> None:
    async def refuse(_peer: Peer, _payload: bytes) -> bytes:
        raise RemoteError("57P03", "no leader")

    async def fail(_peer: Peer, _payload: bytes) -> bytes:
        raise KeyError("oops")

    def not_even_a_coroutine(_peer: Peer, _payload: bytes) -> Any:
        raise ValueError("early")

    pair = Pair()
    pair.accepter.calls.update({1: refuse, 2: fail, 3: not_even_a_coroutine})
    for method in (1, 2, 3, 4):
        pair.start(pair.dialler.session.call(method, b"", 1.0))
    pair.settle()
    errors = [error for _, error in pair.outcomes]
    assert all(isinstance(error, RemoteError) for error in errors)
    assert [(error.code, error.message) for error in errors] == [  # type: ignore[union-attr]
        ("57P03", "no leader"),
        ("", "internal error: KeyError: 'oops'"),
        ("", "internal error: ValueError: early"),
        ("", "this node does not answer topology push"),
    ]


def test_a_deadline_that_passes_unsent_is_surely_not_handled() -> None:
    pair = Pair(connect=False)
    handled: list[bytes] = []

    async def note(_peer: Peer, payload: bytes) -> bytes:
        handled.append(payload)
        return b""

    pair.accepter.calls[ECHO] = note
    pair.start(pair.dialler.session.call(ECHO, b"x", 1.0))
    pair.timers.advance(1.0)
    assert isinstance(pair.outcomes[0][1], PeerUnavailable)
    pair.connect()
    pair.settle()
    assert handled == []
    assert pair.silent_calls == 0


def test_a_deadline_that_passes_after_it_left_is_an_unknown_outcome() -> None:
    pair = Pair()
    pair.start(pair.dialler.session.call(ECHO, b"x", 1.0))
    pair.flush()
    pair.timers.advance(1.0)
    assert isinstance(pair.outcomes[0][1], OutcomeUnknown)
    assert str(pair.outcomes[0][1]) == "accepter:1: no answer to ping within 1 s"
    assert pair.silent_calls == 1


def test_a_slow_handler_of_a_peer_that_lives_is_no_silent_call() -> None:
    pair = Pair()
    pending: list[Completion[bytes]] = []

    async def slow(_peer: Peer, _payload: bytes) -> bytes:
        pending.append(Completion())
        return await pending[-1]

    pair.accepter.calls[ECHO] = slow
    pair.accepter.calls[4] = echo
    pair.start(pair.dialler.session.call(ECHO, b"x", 1.0))
    pair.start(pair.dialler.session.call(4, b"y", 1.0))
    pair.settle()
    pair.timers.advance(1.5)
    assert isinstance(pair.outcomes[1][1], OutcomeUnknown)
    assert pair.silent_calls == 0
    # The answer that comes too late is not sent at all.
    pending[0].set_result(b"late")
    pair.settle()
    assert pair.accepter.counters.calls_answered == 1
    assert len(pair.outcomes) == 2


def test_the_end_of_the_connection_tells_sent_from_unsent() -> None:
    pair = Pair()
    pair.start(pair.dialler.session.call(ECHO, b"sent", 5.0))
    pair.flush()
    pair.start(pair.dialler.session.call(ECHO, b"unsent", 5.0))
    pair.dialler.session.send_message(1, b"unsent")
    pair.dialler.session.lose("the peer closed the connection")
    sent, unsent = (error for _, error in pair.outcomes)
    assert isinstance(sent, OutcomeUnknown)
    assert isinstance(unsent, PeerUnavailable)
    assert pair.dialler.session.dropped_count == 1
    assert pair.dialler.session.send_message(1, b"x") is False
    pair.start(pair.dialler.session.call(ECHO, b"after", 5.0))
    assert isinstance(pair.outcomes[2][1], PeerUnavailable)


def test_a_full_queue_refuses_messages_and_lets_calls_wait() -> None:
    pair = Pair(connect=False, queue_bytes_max=10_000)
    heard: list[int] = []
    pair.accepter.messages[1] = lambda peer, payload: heard.append(len(payload))
    pair.accepter.calls[ECHO] = echo
    accepted = [pair.dialler.session.send_message(1, bytes(1000)) for _ in range(20)]
    assert accepted == [True] * 9 + [False] * 11
    assert pair.dialler.session.dropped_count == 11
    assert pair.dialler.counters.messages_dropped == 11
    for number in range(30):
        pair.start(pair.dialler.session.call(ECHO, b"%04d" % number * 500, 5.0))
    pair.connect()
    pair.settle()
    assert heard == [1000] * 9
    assert [value for value, _ in pair.outcomes] == [b"%04d" % number * 500 for number in range(30)]
    assert pair.dialler.session.queue_bytes == 0


def test_a_single_long_message_passes_an_empty_queue() -> None:
    pair = Pair(queue_bytes_max=1000)
    heard: list[int] = []
    pair.accepter.messages[1] = lambda peer, payload: heard.append(len(payload))
    assert pair.dialler.session.send_message(1, bytes(FRAME_BYTES_MAX)) is True
    assert pair.dialler.session.send_message(1, b"x") is False
    pair.settle()
    assert heard == [FRAME_BYTES_MAX]


def test_the_line_of_waiting_calls_is_bounded_too() -> None:
    pair = Pair(connect=False, queue_bytes_max=100, calls_waiting_max=3)
    for _ in range(6):
        pair.start(pair.dialler.session.call(ECHO, bytes(200), 5.0))
    assert len(pair.outcomes) == 2
    assert all(isinstance(error, PeerUnavailable) for _, error in pair.outcomes)


def test_a_heartbeat_overtakes_a_stream() -> None:
    """With 1 MiB of parts in line, a message waits for what the socket holds and no more."""
    pair = Pair()
    pair.dialler.socket_bytes_max = 64 * 1024
    order: list[str] = []
    pair.accepter.messages[1] = lambda peer, payload: order.append("beat")

    async def serve(_peer: Peer, _payload: bytes, stream: Any) -> None:
        while await stream.receive() is not None:
            order.append("chunk")

    pair.accepter.streams[2] = serve

    async def send() -> None:
        stream = await pair.dialler.session.open_stream(2, b"")
        for _ in range(64):
            await stream.send(bytes(64 * 1024))
        stream.finish()

    pair.start(send())
    pair.flush()
    pair.dialler.session.send_message(1, b"")
    pair.settle()
    assert order.count("chunk") == 64
    assert order.index("beat") <= 2


def test_round_trips_are_smoothed() -> None:
    pair = Pair()
    for seconds in (0.008, 0.016):
        assert pair.dialler.session.on_interval() == ""
        pair.flush()
        pair.timers.advance(seconds)
        pair.settle()
    assert pair.dialler.session.round_trip_seconds == pytest.approx(0.009)


def test_silence_is_counted_in_intervals() -> None:
    pair = Pair()
    reasons = [pair.dialler.session.on_interval() for _ in range(6)]
    assert reasons == [""] * 5 + ["the connection was lost: nothing heard for 5 s"]
    # The accepter hears pings only, and judges alike.
    reasons = [pair.accepter.session.on_interval() for _ in range(6)]
    assert reasons[5] != ""


def test_a_peer_that_answers_pings_is_never_silent() -> None:
    pair = Pair()
    for _ in range(50):
        assert pair.dialler.session.on_interval() == ""
        assert pair.accepter.session.on_interval() == ""
        pair.settle()


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        ((f.HELLO, 0, 0, 0, b""), "a frame of type 1 arrived on the wrong side"),
        ((f.ANSWER, 0, 1, 0, b""), "a frame of type 18 arrived on the wrong side"),
        ((f.PONG, 0, 1, 0, b""), "a frame of type 49 arrived on the wrong side"),
    ],
)
def test_the_dialler_may_not_say_this(frame: f.Frame, sentence: str) -> None:
    pair = Pair()
    pair.dialler.session._write([frame])
    pair.settle()
    assert pair.accepter.failed_with == sentence
    assert pair.dialler.failed_with == f"the peer ended the connection: {sentence}"


@pytest.mark.parametrize("frame_type", [f.CALL, f.STREAM_OPEN, f.PING, f.PROOF])
def test_the_accepter_may_not_ask(frame_type: int) -> None:
    pair = Pair()
    pair.accepter.session._write([(frame_type, 1, 1, 0, b"")])
    pair.settle()
    assert "arrived on the wrong side" in pair.dialler.failed_with


def test_a_stream_beyond_its_window_ends_the_connection() -> None:
    pair = Pair()
    part = (f.STREAM_PART, 1, 1, 0, bytes(64 * 1024))

    async def hold(_peer: Peer, _payload: bytes, _stream: Any) -> None:
        await Completion()

    pair.accepter.streams[1] = hold
    pair.dialler.session._write([(f.STREAM_OPEN, 1, 1, 0, b"")])
    pair.dialler.session._write([part] * 16)
    pair.settle()
    assert pair.accepter.failed_with == ""
    pair.dialler.session._write([part])
    pair.settle()
    assert pair.accepter.failed_with == "a stream was sent beyond its window"


def test_too_many_calls_and_streams_are_refused() -> None:
    pair = Pair(calls_running_max=2, streams_max=2)

    async def stuck(_peer: Peer, _payload: bytes) -> bytes:
        return await Completion()

    async def hold(_peer: Peer, _payload: bytes, _stream: Any) -> None:
        await Completion()

    pair.accepter.calls[ECHO] = stuck
    pair.accepter.streams[1] = hold
    for _ in range(3):
        pair.start(pair.dialler.session.call(ECHO, b"", 5.0))
    pair.settle()
    ((_, error),) = pair.outcomes
    assert isinstance(error, RemoteError)
    assert error.message == "too many calls are running"
    for _ in range(3):
        pair.start(pair.dialler.session.open_stream(1, b""))
    pair.settle()
    assert isinstance(pair.outcomes[3][1], PeerUnavailable)
    # A dialler with other settings is refused by the accepter.
    pair.dialler.session._write([(f.STREAM_OPEN, 1, 99, 0, b"")])
    pair.settle()
    assert pair.dialler.frames_received[-1][0] == f.STREAM_ABORT
    assert pair.accepter.failed_with == ""


def test_who_does_not_read_its_answers_is_not_read_either() -> None:
    """The accepter's memory is bounded by what it lets itself be asked."""
    pair = Pair(queue_bytes_max=100_000)
    pair.accepter.calls[ECHO] = echo
    pair.accepter.socket_bytes_max = 10_000
    for _ in range(200):
        pair.start(pair.dialler.session.call(ECHO, bytes(5_000), 5.0))
        pair.flush()
    while pair.carry(pair.dialler, pair.accepter):
        pass
    assert not pair.accepter.is_reading
    assert pair.accepter.session.queue_bytes < 120_000
    pair.settle()
    assert len(pair.outcomes) == 200
    assert all(error is None for _, error in pair.outcomes)


def test_messages_of_a_superseded_connection_come_too_late() -> None:
    pair = Pair()
    heard: list[bytes] = []
    pair.accepter.messages[1] = lambda peer, payload: heard.append(payload)
    pair.accepter.calls[ECHO] = echo
    pair.accepter.session.is_superseded = True
    pair.dialler.session.send_message(1, b"old")
    pair.start(pair.dialler.session.call(ECHO, b"still answered", 1.0))
    pair.settle()
    assert heard == []
    assert pair.outcomes == [(b"still answered", None)]


def test_a_failing_message_handler_harms_nobody_else() -> None:
    pair = Pair()
    heard: list[bytes] = []

    def fail(_peer: Peer, _payload: bytes) -> None:
        raise RuntimeError("planted")

    pair.accepter.messages.update({1: fail, 2: lambda peer, payload: heard.append(payload)})
    pair.dialler.session.send_message(1, b"")
    pair.dialler.session.send_message(2, b"next")
    pair.dialler.session.send_message(9, b"nobody's")
    pair.settle()
    assert heard == [b"next"]
    assert pair.accepter.counters.messages_dropped == 1


@pytest.mark.parametrize("seed", range(30))
def test_random_frames_end_in_a_sentence_or_nothing(seed: int) -> None:
    """A peer that has proved itself may still be broken: no exception gets out."""
    rng = random.Random(seed)
    pair = Pair()
    pair.accepter.calls[ECHO] = echo

    async def serve(_peer: Peer, _payload: bytes, stream: Any) -> None:
        while (chunk := await stream.receive()) is not None:
            await stream.send(chunk)

    pair.accepter.streams[1] = serve
    for _ in range(100):
        frame = (
            rng.choice(sorted(f.FRAME_TYPES)),
            rng.choice((0, 1, 3, 7, 65_535)),
            rng.choice((0, 1, 2, 3)),
            rng.choice((0, 1, 1000, 1 << 31)),
            rng.randbytes(rng.choice((0, 3, 1000, 70_000))),
        )
        source, target = (
            (pair.dialler, pair.accepter) if rng.random() < 0.8 else (pair.accepter, pair.dialler)
        )
        if source.session.lost_by or target.session.lost_by:
            break
        source.session._write([frame])
        pair.settle()
    for side in (pair.dialler, pair.accepter):
        assert len(side.failed_with) < 600, f"seed {seed}"
