"""Two real transports on loopback, plain and over TLS, on both event loops."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cluster.transport import frame as f
from cluster.transport.api import OutcomeUnknown, PeerUnavailable, RemoteError, StreamBroken
from cluster.transport.config import FRAME_BYTES_MAX
from nodedb.waiter import Runner
from tests.unit.cluster.transport.nodes import (
    ECHO,
    MESSAGE,
    SINK,
    Node,
    RawPeer,
    eventually,
    make_certificates,
    running,
)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    if request.param == "uvloop":
        return uvloop.run
    return lambda main: asyncio.run(main, debug=True)


@pytest.fixture(params=["plain", "tls"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., tuple[Node, Node]]:
    def make(**settings: Any) -> tuple[Node, Node]:
        made = []
        for node_id in (1, 2):
            tls = None
            if request.param == "tls":
                tls = make_certificates(tmp_path / f"main-{node_id}")
            made.append(Node(node_id, tls=tls, **settings))
        return made[0], made[1]

    return make


def test_calls_both_ways(run: Any, pair: Any) -> None:
    async def main() -> None:
        one, two = pair()
        async with running(one, two):
            assert await one.call(two, b"ping") == b"ping"
            assert await two.call(one, bytes(3_000_000)) == bytes(3_000_000)
            answers = await asyncio.gather(*(one.call(two, b"%d" % n) for n in range(500)))
            assert answers == [b"%d" % n for n in range(500)]
            peer = two.peers[-1]
            assert (peer.node_id, peer.address, peer.cluster_id) == (1, one.address, "c1")
            assert peer.spki_pin == one.transport.spki_pin
            (health,) = one.transport.health()
            assert (health.address, health.node_id) == (two.address, 2)
            assert (health.circuit, health.failures, health.is_connected) == ("closed", 0, True)
            with pytest.raises(RemoteError, match="does not answer join"):
                await one.transport.call(two.address, 2, b"", 5.0)

    run(main())


def test_messages_arrive_in_order(run: Any, pair: Any) -> None:
    async def main() -> None:
        one, two = pair()
        async with running(one, two):
            for number in range(20_000):
                text = b"%d" % number
                if not one.transport.send(two.address, MESSAGE, text):
                    await eventually(
                        lambda text=text: one.transport.send(two.address, MESSAGE, text)
                    )
            await eventually(lambda: len(two.heard) == 20_000, 30)
            assert two.heard == [(1, b"%d" % number) for number in range(20_000)]

    run(main())


def test_a_stream_with_back_pressure(run: Any, pair: Any) -> None:
    async def main() -> None:
        one, two = pair()
        async with running(one, two):
            stream = await one.transport.open_stream(two.address, SINK, b"all")
            sent = 0

            async def send() -> None:
                nonlocal sent
                for _ in range(40):
                    await stream.send(bytes(500_000))
                    sent += 1
                stream.finish()

            task = asyncio.create_task(send())
            answers = []
            while (chunk := await stream.receive()) is not None:
                answers.append(chunk)
            await task
            assert answers == [b"%d" % (500_000 * n) for n in range(1, 41)] + [b"all done"]

    run(main())


def test_messages_pass_a_busy_stream(run: Any, pair: Any) -> None:
    """While 50 MiB flow, round trips stay far below what the stream takes as a whole."""

    async def main() -> None:
        one, two = pair()
        async with running(one, two):
            stream = await one.transport.open_stream(two.address, SINK, b"")

            async def send() -> None:
                for _ in range(50):
                    await stream.send(bytes(1 << 20))
                stream.finish()

            async def drain() -> None:
                while await stream.receive() is not None:
                    pass

            tasks = [asyncio.create_task(send()), asyncio.create_task(drain())]
            calls = 0
            while not all(task.done() for task in tasks):
                await one.call(two)
                calls += 1
            assert calls >= 20

    run(main())


def test_the_bound_of_64_mib(pair: Any) -> None:
    async def main() -> None:
        one, two = pair(rpc_timeout_seconds=10.0)
        async with running(one, two):
            assert len(await one.call(two, bytes(FRAME_BYTES_MAX), 60)) == FRAME_BYTES_MAX
            with pytest.raises(ValueError, match="at most 67108864 bytes, not 67108865"):
                await one.call(two, bytes(FRAME_BYTES_MAX + 1))
            with pytest.raises(ValueError, match="67108865"):
                one.transport.send(two.address, MESSAGE, bytes(FRAME_BYTES_MAX + 1))

    uvloop.run(main())


def test_nobody_there_is_surely_not_handled(run: Any) -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with running(one, two):
            await two.transport.close()
            with pytest.raises(PeerUnavailable, match="connection refused"):
                await one.call(two)
            assert one.transport.send(two.address, MESSAGE, b"x") is False
            for address, sentence in (
                ("nowhere", "expected HOST:PORT"),
                ("a:99999", "the port must lie between"),
                ("no.such.host.invalid:1", "cannot be resolved"),
            ):
                with pytest.raises(PeerUnavailable, match=sentence):
                    await one.call(address)

    run(main())


def test_the_breaker_opens_half_opens_and_closes(run: Any) -> None:
    async def main() -> None:
        one = Node(1, breaker_open_seconds=0.5, back_off_cap_seconds=0.05)
        two = Node(2)
        async with running(one, two):
            address, port = two.address, int(two.address.rsplit(":", 1)[1])
            await two.transport.close()
            for _ in range(5):
                with pytest.raises(PeerUnavailable):
                    await one.call(address)
            (health,) = one.transport.health()
            assert (health.circuit, health.failures) == ("OPEN", 5)
            with pytest.raises(PeerUnavailable, match="circuit breaker is open: connection refu"):
                await one.call(address)
            assert one.transport.send(address, MESSAGE, b"x") is False
            await eventually(lambda: one.transport.health()[0].circuit == "half-open")
            with pytest.raises(PeerUnavailable, match="connection refused"):
                await one.call(address)
            assert one.transport.health()[0].circuit == "OPEN"
            again = await Node(2, incarnation=2).start(port)
            try:
                await eventually(lambda: one.transport.health()[0].circuit == "half-open")
                assert await one.call(again) == b"hi"
                (health,) = one.transport.health()
                assert (health.circuit, health.failures) == ("closed", 0)
            finally:
                await again.transport.close()

    run(main())


def test_a_peer_that_comes_back_and_speaks_is_dialled_at_once(run: Any) -> None:
    """The breaker waits ten seconds, but who greets us has ended the waiting."""

    async def main() -> None:
        one, two = Node(1), Node(2)
        async with running(one, two):
            port = int(two.address.rsplit(":", 1)[1])
            await two.transport.close()
            for _ in range(5):
                with pytest.raises(PeerUnavailable):
                    await one.call(two)
            assert one.transport.health()[0].circuit == "OPEN"
            again = await Node(2, incarnation=2).start(port)
            try:
                assert await again.call(one) == b"hi"
                assert await one.call(again) == b"hi"
            finally:
                await again.transport.close()

    run(main())


def test_a_peer_that_dies_amid_a_call_leaves_an_unknown_outcome(run: Any, pair: Any) -> None:
    async def main() -> None:
        one, two = pair()
        async with running(one, two):
            stream = await one.transport.open_stream(two.address, SINK, b"")
            call = asyncio.create_task(one.transport.call(two.address, 4, b"", 30.0))
            await eventually(lambda: one.transport.counters.calls_sent)
            await one.call(two)
            await two.transport.close()
            with pytest.raises(OutcomeUnknown, match="connection"):
                await asyncio.wait_for(call, 5)
            with pytest.raises(StreamBroken):
                await stream.receive()
            assert one.lost == [two.address]

    run(main())


def test_a_restarted_peer_is_heard_from_its_first_message_on(run: Any, pair: Any) -> None:
    """Mistake M9: its sequence begins at 1 again, at the same address; nothing of it is lost."""

    async def main() -> None:
        one, two = pair()
        async with running(one, two):
            port = int(two.address.rsplit(":", 1)[1])
            for number in range(50):
                assert two.transport.send(one.address, MESSAGE, b"%d" % number)
                assert one.transport.send(two.address, MESSAGE, b"%d" % number)
            await eventually(lambda: len(one.heard) == len(two.heard) == 50)
            await two.transport.close()
            again = Node(
                2,
                tls=two.transport.settings.tls,
                incarnation=2,
                is_insecure=two.transport.settings.is_insecure,
            )
            await again.start(port)
            try:
                assert again.transport.send(one.address, MESSAGE, b"after")
                await eventually(lambda: one.heard[50:] == [(2, b"after")])
                assert one.peers[-1].incarnation == 2
                await eventually(lambda: one.transport.send(again.address, MESSAGE, b"back"))
                await eventually(lambda: again.heard == [(1, b"back")])
                assert one.transport.counters.frames_duplicate == 0
            finally:
                await again.transport.close()

    run(main())


def test_a_connection_that_was_put_away_and_is_made_late_supersedes_nothing(run: Any) -> None:
    """Its dialler has begun another one meanwhile, over which its messages come."""

    async def main() -> None:
        one = Node(1)
        async with running(one):
            second = await RawPeer.connect(one.address)
            await second.shake_hands(node_id=2, address="127.0.0.1:9", serial=2)
            first = await RawPeer.connect(one.address)
            await first.shake_hands(node_id=2, address="127.0.0.1:9", serial=1)
            second.say(f.MESSAGE, b"in use", tag=MESSAGE)
            await eventually(lambda: one.heard)
            third = await RawPeer.connect(one.address)
            await third.shake_hands(node_id=2, address="127.0.0.1:9", serial=3)
            third.say(f.MESSAGE, b"newer", tag=MESSAGE)
            await eventually(lambda: len(one.heard) == 2)
            for peer in (first, second):
                peer.say(f.MESSAGE, b"too late", tag=MESSAGE)
                await peer.close()
            await eventually(lambda: len(one.transport.connections) == 1)
            assert one.heard == [(2, b"in use"), (2, b"newer")]
            assert one.lost == []
            await third.close()

    run(main())


def test_a_restart_that_nobody_noticed_ends_the_old_connections(run: Any) -> None:
    """The peer's machine vanished, so no FIN came; its new process greets us.

    Both connections with the old one end at once: what hangs on them must not wait for silence.
    """

    async def main() -> None:
        one = Node(1)
        async with running(one):
            peer = await RawPeer.connect(one.address)
            await peer.shake_hands(node_id=2, address="127.0.0.1:9", incarnation=1)
            newer = await RawPeer.connect(one.address)
            await newer.shake_hands(node_id=2, address="127.0.0.1:9", incarnation=2)
            assert await peer.hear() is None
            assert one.lost == ["127.0.0.1:9"]
            newer.say(f.MESSAGE, b"of the living", tag=MESSAGE)
            await eventually(lambda: one.heard)
            assert one.heard == [(2, b"of the living")]
            await peer.close()
            await newer.close()

    run(main())


def test_a_second_connection_of_the_same_process_takes_over_the_messages(run: Any) -> None:
    """The older one may still bring what was written before: too late, it would break the order."""

    async def main() -> None:
        one = Node(1)
        async with running(one):
            older = await RawPeer.connect(one.address)
            await older.shake_hands(node_id=2, address="127.0.0.1:9")
            newer = await RawPeer.connect(one.address)
            await newer.shake_hands(node_id=2, address="127.0.0.1:9")
            newer.say(f.MESSAGE, b"second", tag=MESSAGE)
            await eventually(lambda: one.heard)
            older.say(f.MESSAGE, b"first", tag=MESSAGE)
            older.say(f.CALL, b"asked", tag=ECHO, frame_id=1, argument=1000)
            answer = await older.hear()
            assert answer is not None
            assert (answer[0], answer[4]) == (f.ANSWER, b"asked")
            assert one.heard == [(2, b"second")]
            await older.close()
            await newer.close()

    run(main())


def test_a_hung_peer_costs_no_more_than_the_rpc_timeout(run: Any, pair: Any) -> None:
    """It accepts and says nothing: with TLS the TLS handshake hangs, else ours."""

    async def main() -> None:
        one, _two = pair(rpc_timeout_seconds=0.3)
        writers = []
        server = await asyncio.start_server(
            lambda _reader, writer: writers.append(writer), "127.0.0.1", 0
        )
        async with running(one):
            port = server.sockets[0].getsockname()[1]
            loop = asyncio.get_running_loop()
            begun = loop.time()
            with pytest.raises(PeerUnavailable, match=r"no (answer|handshake) within 0\.3 s"):
                await one.call(f"127.0.0.1:{port}", seconds=20)
            assert loop.time() - begun < 3
            begun = loop.time()
            with pytest.raises(PeerUnavailable, match=r"ping could not be sent within 0\.05 s"):
                await one.call(f"127.0.0.1:{port}", seconds=0.05)
            for writer in writers:
                writer.close()
            server.close()

    run(main())


def test_who_connects_and_says_nothing_is_sent_away(run: Any, pair: Any) -> None:
    async def main() -> None:
        one, _two = pair(rpc_timeout_seconds=0.2)
        async with running(one):
            peer = await RawPeer.connect(one.address)
            assert await peer.hear() is None
            (refusal,) = await eventually(one.transport.refusals)
            assert refusal.by == "us"
            assert not one.transport.connections
            await peer.close()

    run(main())


def test_a_crowd_of_strangers_is_bounded(run: Any, pair: Any) -> None:
    async def main() -> None:
        one, two = pair(handshakes_max=10, rpc_timeout_seconds=30.0)
        async with running(one, two):
            peers = [await RawPeer.connect(one.address) for _ in range(40)]
            left = [peer.reader.read(1) for peer in peers]
            ended = asyncio.gather(*left, return_exceptions=True)
            await eventually(lambda: len(one.transport.connections) == 10)
            assert not ended.done()
            for peer in peers:
                await peer.close()
            await ended
            await eventually(lambda: not one.transport.connections)
            assert await two.call(one) == b"hi"

    run(main())


def test_a_silent_peer_is_noticed(run: Any, pair: Any) -> None:
    """One that went silent amid a connection, as a stopped process does."""

    async def main() -> None:
        one, two = pair()[0], pair(silent_intervals_max=1000)[1]
        async with running(one, two):
            await one.call(two)
            two.faults.apply_text("cut *")
            with pytest.raises(OutcomeUnknown):
                await one.call(two, seconds=0.1)
            await eventually(lambda: two.address in one.lost)
            assert "nothing heard for 0.5 s" in one.transport.health()[0].last_error
            two.faults.apply_text("heal")
            await eventually(lambda: not two.transport.connections)
            await eventually(lambda: one.transport.health()[0].circuit != "OPEN", 15)
            assert await one.call(two) == b"hi"

    run(main())


def test_one_connection_per_direction(run: Any, pair: Any) -> None:
    async def main() -> None:
        one, two = pair()
        async with running(one, two):
            for _ in range(20):
                await asyncio.gather(*(one.call(two) for _ in range(5)))
                await asyncio.gather(*(two.call(one) for _ in range(5)))
            assert len(one.transport.connections) == 2
            assert len(two.transport.connections) == 2
            await eventually(lambda: one.transport.health()[0].round_trip_ms)

    run(main())


def test_a_changed_identity_is_introduced_anew(run: Any, pair: Any) -> None:
    async def main() -> None:
        one, two = pair()
        one.identity.node_id, one.identity.cluster_id = 0, ""
        async with running(one, two):
            assert await one.call(two) == b"hi"
            assert (two.peers[-1].node_id, two.peers[-1].cluster_id) == (0, "")
            pending = asyncio.create_task(one.transport.call(two.address, 4, b"", 10.0))
            await eventually(lambda: one.transport.counters.calls_sent == 2)
            one.identity.node_id, one.identity.cluster_id = 1, "c1"
            one.transport.reintroduce()
            assert await one.call(two) == b"hi"
            assert (two.peers[-1].node_id, two.peers[-1].cluster_id) == (1, "c1")
            # What was under way ends well on the old connection, which then goes.
            two.hold.set()
            assert await pending == b""
            await eventually(lambda: len(one.transport.connections) == 1)
            assert one.lost == two.lost == []

    run(main())


def test_statements_may_await_without_a_task(run: Any) -> None:
    """The gateway's coroutines are driven over waiters, not by tasks."""

    async def main() -> None:
        one, two = Node(1), Node(2)
        ended: list[object] = []
        async with running(one, two):

            async def statement() -> None:
                ended.append(await one.call(two, b"x"))
                stream = await one.transport.open_stream(two.address, SINK, b"s")
                await stream.send(b"12345")
                ended.append(await stream.receive())
                stream.finish()
                ended.append(await stream.receive())

            Runner(statement(), ended.append).step()
            await eventually(lambda: len(ended) == 4)
            assert ended == [b"x", b"5", b"s done", None]

    run(main())


def test_a_cancelled_caller_leaves_nothing_behind(run: Any) -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with running(one, two):
            await one.call(two)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await one.transport.call(two.address, 4, b"", 60.0)
            link = one.transport._links[two.address]
            assert link.session is not None
            assert link.session._calls == {}
            two.hold.set()
            assert await one.call(two) == b"hi"

    run(main())


def test_a_replayed_and_a_damaged_frame(run: Any) -> None:
    async def main() -> None:
        one = Node(1)
        async with running(one):
            peer = await RawPeer.connect(one.address)
            await peer.shake_hands()
            data = peer.say(f.MESSAGE, b"once", tag=MESSAGE)
            peer.writer.write(data)
            peer.say(f.MESSAGE, b"twice", tag=MESSAGE)
            peer.writer.write(data)
            await eventually(lambda: len(one.heard) == 2)
            assert one.heard == [(77, b"once"), (77, b"twice")]
            assert one.transport.counters.frames_duplicate == 2
            damaged = bytearray(f.encode_frame(1, f.MESSAGE, peer.sequence + 1, b"bad", tag=1))
            damaged[-1] ^= 1
            peer.writer.write(bytes(damaged))
            frame = await peer.hear()
            assert frame is not None
            assert (frame[0], frame[4]) == (f.REFUSED, b"wrong checksum in frame 5")
            assert await peer.hear() is None
            assert one.lost == ["127.0.0.1:1"]
            await peer.close()

    run(main())


def test_closing_fails_what_is_under_way_and_leaves_no_task(run: Any, pair: Any) -> None:
    async def main() -> None:
        one, two = pair()
        async with running(one, two):
            await one.call(two)
            call = asyncio.create_task(one.transport.call(two.address, 4, b"", 30.0))
            await eventually(lambda: one.transport.counters.calls_sent == 2)
            await one.transport.close()
            with pytest.raises(OutcomeUnknown):
                await call
            with pytest.raises(PeerUnavailable, match="was closed"):
                await one.call(two)
            assert one.transport.send(two.address, MESSAGE, b"") is False
            await eventually(lambda: not two.transport.connections)
        assert {task for task in asyncio.all_tasks() if not task.done()} == {asyncio.current_task()}
        gc.collect()

    run(main())


def test_an_address_is_taken_when_none_was_given(run: Any) -> None:
    async def main() -> None:
        one = Node(1)
        async with running(one):
            assert one.address.startswith("127.0.0.1:")
            with pytest.raises(OSError, match=r"[Aa]ddress already in use|errno 98"):
                await Node(2).start(int(one.address.rsplit(":", 1)[1]))

    run(main())


def test_echo_is_where_the_tests_think(run: Any) -> None:
    async def main() -> None:
        one = Node(1)
        async with running(one):
            assert await one.transport.call(one.address, ECHO, b"self", 5.0) == b"self"
            assert one.peers[-1].node_id == 1

    run(main())
