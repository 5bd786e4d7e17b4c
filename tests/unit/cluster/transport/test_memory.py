"""The in-memory twin keeps the real transport's promises, on a clock of the test."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cluster.transport.api import (
    OutcomeUnknown,
    Peer,
    PeerUnavailable,
    RemoteError,
    StreamBroken,
)
from cluster.transport.completion import run_without_loop
from cluster.transport.config import CHUNK_BYTES_MAX, LocalIdentity
from cluster.transport.memory import SILENCE_SECONDS, MemoryNetwork, MemoryTransport
from tests.unit.cluster.transport.sessions import Timers

MESSAGE, ECHO, SINK = 1, 3, 1


class World:
    """Three transports in virtual time."""

    def __init__(self, seed: int = 1) -> None:
        self.timers = Timers()
        self.random = random.Random(seed)
        self.network = MemoryNetwork(
            later=self.timers.later,
            random=self.random,
            latency=lambda: self.random.uniform(0.0001, 0.01),
        )
        self.heard: list[tuple[str, int, bytes]] = []
        self.lost: list[tuple[str, str]] = []
        self.outcomes: list[tuple[Any, BaseException | None]] = []
        self.nodes = {name: self.add(number, name) for number, name in enumerate("abc", 1)}

    def add(self, number: int, name: str, **identity: Any) -> MemoryTransport:
        values = {"node_id": number, "cluster_id": "c1", "address": f"{name}:1", "incarnation": 1}
        transport = MemoryTransport(self.network, LocalIdentity(**(values | identity)))
        transport.on_message(
            MESSAGE, lambda peer, payload: self.heard.append((name, peer.node_id, payload))
        )
        transport.on_peer_lost(lambda address: self.lost.append((name, address)))

        async def echo(_peer: Peer, payload: bytes) -> bytes:
            return payload

        async def refuse(_peer: Peer, _payload: bytes) -> bytes:
            raise RemoteError("57P03", "no leader")

        async def fail(_peer: Peer, _payload: bytes) -> bytes:
            raise KeyError("oops")

        async def count(_peer: Peer, payload: bytes, stream: Any) -> None:
            total = 0
            while (chunk := await stream.receive()) is not None:
                total += len(chunk)
                await stream.send(b"%d" % total)
            await stream.send(payload)

        transport.on_call(ECHO, echo)
        transport.on_call(4, refuse)
        transport.on_call(5, fail)
        transport.on_stream(SINK, count)
        return transport

    def start(self, coroutine: Awaitable[Any]) -> None:
        run_without_loop(coroutine, lambda value, error: self.outcomes.append((value, error)))

    def run(self, coroutine: Awaitable[Any], seconds: float = 60.0) -> Any:
        """Drive a coroutine in virtual time; returns its value or raises its error."""
        before = len(self.outcomes)
        self.start(coroutine)
        self.timers.advance(seconds)
        assert len(self.outcomes) == before + 1, "it did not end"
        value, error = self.outcomes[-1]
        if error is not None:
            raise error
        return value


def test_calls_and_what_they_end_with() -> None:
    world = World()
    a = world.nodes["a"]
    assert world.run(a.call("b:1", ECHO, b"hi", 1.0)) == b"hi"
    with pytest.raises(RemoteError, match="no leader") as refused:
        world.run(a.call("b:1", 4, b"", 1.0))
    assert refused.value.code == "57P03"
    with pytest.raises(RemoteError, match="internal error: KeyError: 'oops'"):
        world.run(a.call("b:1", 5, b"", 1.0))
    with pytest.raises(RemoteError, match="no such method: join"):
        world.run(a.call("b:1", 2, b"", 1.0))
    with pytest.raises(PeerUnavailable, match="connection refused"):
        world.run(a.call("nobody:1", ECHO, b"", 1.0))
    assert [(health.address, health.failures) for health in a.health()] == [
        ("b:1", 0),
        ("nobody:1", 1),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_messages_keep_their_order_whatever_the_delays(seed: int) -> None:
    world = World(seed)
    for number in range(200):
        assert world.nodes["a"].send("b:1", MESSAGE, b"%d" % number)
        if number == 100:
            world.network.delay("a:1", "b:1", 0.5)
        if number == 150:
            world.network.heal("a:1", "b:1")
    world.timers.advance(5)
    assert world.heard == [("b", 1, b"%d" % number) for number in range(200)], f"seed {seed}"


def test_a_cut_is_silent_and_one_sided() -> None:
    world = World()
    a, b = world.nodes["a"], world.nodes["b"]
    world.run(a.call("b:1", ECHO, b"", 1.0))
    world.run(b.call("a:1", ECHO, b"", 1.0))
    world.network.cut("a:1", "b:1")
    assert a.send("b:1", MESSAGE, b"lost") is True
    assert b.send("a:1", MESSAGE, b"arrives") is True
    with pytest.raises(OutcomeUnknown, match=r"no answer to ping from b:1 within 0\.5 s"):
        world.run(a.call("b:1", ECHO, b"", 0.5), 1)
    with pytest.raises(OutcomeUnknown):
        world.run(b.call("a:1", ECHO, b"", 0.5), 1)
    assert world.heard == [("a", 2, b"arrives")]
    assert world.lost == []
    world.timers.advance(SILENCE_SECONDS)
    assert sorted(world.lost) == [("a", "b:1"), ("b", "a:1")]
    world.network.heal("a:1", "b:1")
    assert world.run(a.call("b:1", ECHO, b"back", 1.0)) == b"back"


def test_a_cut_that_heals_in_time_is_not_noticed() -> None:
    world = World()
    world.run(world.nodes["a"].call("b:1", ECHO, b"", 1.0))
    world.network.cut("a:1", "b:1", both=True)
    world.timers.advance(1)
    world.network.heal()
    world.timers.advance(60)
    assert world.lost == []


def test_drops_and_duplicates_come_by_chance() -> None:
    world = World()
    world.network.drop("a:1", "b:1", 0.3)
    world.network.duplicate("a:1", "c:1", 0.3)
    for number in range(1000):
        world.nodes["a"].send("b:1", MESSAGE, b"%d" % number)
        world.nodes["a"].send("c:1", MESSAGE, b"%d" % number)
    world.timers.advance(60)
    dropped = [int(payload) for name, _, payload in world.heard if name == "b"]
    doubled = [int(payload) for name, _, payload in world.heard if name == "c"]
    assert 620 < len(dropped) < 780
    assert dropped == sorted(dropped)
    assert 1220 < len(doubled) < 1380
    assert doubled == sorted(doubled)


def test_one_seed_replays_one_run() -> None:
    def history(seed: int) -> list[tuple[str, int, bytes]]:
        world = World(seed)
        world.network.drop("a:1", "b:1", 0.5)
        for number in range(100):
            world.nodes["a"].send("b:1", MESSAGE, b"%d" % number)
            world.nodes["c"].send("b:1", MESSAGE, b"%d" % number)
            world.timers.advance(0.001)
        world.timers.advance(1)
        return world.heard

    assert history(7) == history(7)
    assert history(7) != history(8)


def test_a_killed_node_leaves_unknown_outcomes_and_broken_streams() -> None:
    world = World()
    a, b = world.nodes["a"], world.nodes["b"]

    async def use_stream() -> bytes | None:
        stream = await a.open_stream("b:1", SINK, b"")
        await stream.send(b"1")
        assert await stream.receive() == b"1"
        return await stream.receive()

    world.start(use_stream())
    world.timers.advance(1)
    world.start(a.call("b:1", ECHO, b"", 30.0))
    b.close()
    b.close()
    world.timers.advance(1)
    call, stream = (type(error) for _, error in world.outcomes)
    assert {call, stream} == {OutcomeUnknown, StreamBroken}
    assert world.lost == [("a", "b:1")]
    assert a.send("b:1", MESSAGE, b"") is False
    again = world.add(2, "b", incarnation=2)
    assert world.run(a.call("b:1", ECHO, b"again", 1.0)) == b"again"
    assert again.send("a:1", MESSAGE, b"hello") is True
    world.timers.advance(1)
    assert world.heard == [("a", 2, b"hello")]


def test_streams_flow_both_ways_under_windows() -> None:
    world = World()

    async def use() -> list[bytes]:
        stream = await world.nodes["a"].open_stream("b:1", SINK, b"end")
        got = []
        for _ in range(5):
            await stream.send(bytes(CHUNK_BYTES_MAX))
            got.append(await stream.receive())
        stream.finish()
        got.append(await stream.receive())
        assert await stream.receive() is None
        return got  # type: ignore[return-value]

    total = [b"%d" % (CHUNK_BYTES_MAX * number) for number in range(1, 6)]
    assert world.run(use()) == [*total, b"end"]
    assert world.nodes["a"]._ends == {"b:1": []}
    assert world.nodes["b"]._ends == {"a:1": []}


def test_a_stream_over_a_cut_breaks_when_the_silence_is_noticed() -> None:
    world = World()

    async def use() -> bytes | None:
        stream = await world.nodes["a"].open_stream("b:1", SINK, b"")
        await stream.send(b"1")
        assert await stream.receive() == b"1"
        world.network.cut("a:1", "b:1")
        await stream.send(b"2")
        return await stream.receive()

    with pytest.raises(StreamBroken, match="the connection to b:1 was lost"):
        world.run(use())


def test_strangers_are_refused() -> None:
    world = World()
    stranger = world.add(9, "x", cluster_id="other")
    with pytest.raises(PeerUnavailable, match='"other" and the peer at a:1 to cluster "c1"'):
        world.run(stranger.call("a:1", ECHO, b"", 1.0))
    twin = world.add(1, "y")
    with pytest.raises(PeerUnavailable, match="node id 1 is this node's own"):
        world.run(twin.call("a:1", ECHO, b"", 1.0))
    newcomer = world.add(0, "n", cluster_id="")
    assert world.run(newcomer.call("a:1", ECHO, b"hi", 1.0)) == b"hi"
    world.nodes["a"].admit = lambda peer: "closed today"
    with pytest.raises(PeerUnavailable, match="refused: closed today"):
        world.run(newcomer.call("a:1", ECHO, b"hi", 1.0))


def test_it_runs_under_asyncio_as_well() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        def run(
            coroutine: Awaitable[Any],
            on_finish: Callable[[Any, BaseException | None], None],
        ) -> None:
            async def drive() -> None:
                on_finish(await coroutine, None)

            tasks.append(loop.create_task(drive()))

        tasks: list[asyncio.Task[None]] = []
        network = MemoryNetwork(later=loop.call_later, random=random.Random(1), loop=loop, run=run)
        a = MemoryTransport(network, LocalIdentity(1, "c", "a:1"))
        b = MemoryTransport(network, LocalIdentity(2, "c", "b:1"))

        async def slow(_peer: Peer, payload: bytes) -> bytes:
            await asyncio.sleep(0.001)
            return payload

        b.on_call(ECHO, slow)
        assert await asyncio.wait_for(a.call("b:1", ECHO, b"x", 5.0), 5) == b"x"
        b.close()
        with pytest.raises(PeerUnavailable):
            await a.call("b:1", ECHO, b"x", 5.0)

    asyncio.run(main())
