"""Injected faults between real transports."""

import asyncio
from typing import Any

import pytest
import uvloop

from cluster.transport.api import OutcomeUnknown, PeerUnavailable, StreamBroken
from tests.unit.cluster.transport.nodes import MESSAGE, SINK, Node, eventually, running


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Any:
    return uvloop.run if request.param == "uvloop" else asyncio.run


def test_a_cut_peer_hears_nothing_and_cannot_be_dialled(run: Any) -> None:
    async def main() -> None:
        one, two = Node(1, rpc_timeout_seconds=0.2), Node(2, rpc_timeout_seconds=0.2)
        async with running(one, two):
            one.faults.apply_text(f"cut {two.address}")
            with pytest.raises(PeerUnavailable, match=r"no answer within 0\.2 s"):
                await one.call(two)
            # The other way round the handshake is swallowed.
            with pytest.raises(PeerUnavailable, match=r"no answer within 0\.2 s"):
                await two.call(one)
            one.faults.apply_text("heal")
            assert await one.call(two) == b"hi"
            assert await two.call(one) == b"hi"

    run(main())


def test_one_direction_only(run: Any) -> None:
    """Two hears one's messages, one hears nothing of two: calls end unknown, both ways."""

    async def main() -> None:
        one, two = Node(1, silent_intervals_max=1000), Node(2, silent_intervals_max=1000)
        async with running(one, two):
            await one.call(two)
            await two.call(one)
            one.faults.apply_text(f"cut {two.address} in")
            assert one.transport.send(two.address, MESSAGE, b"heard")
            await eventually(lambda: two.heard)
            assert two.transport.send(one.address, MESSAGE, b"lost")
            with pytest.raises(OutcomeUnknown):
                await one.call(two, seconds=0.2)
            with pytest.raises(OutcomeUnknown):
                await two.call(one, seconds=0.2)
            assert one.heard == []
            one.faults.apply_text("heal")
            assert two.transport.send(one.address, MESSAGE, b"back")
            await eventually(lambda: one.heard == [(2, b"back")])

    run(main())


def test_a_delay_holds_everything_back_in_order(run: Any) -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with running(one, two):
            await one.call(two)
            loop = asyncio.get_running_loop()
            one.faults.apply_text(f"delay {two.address} 0.1 both")
            begun = loop.time()
            for number in range(10):
                one.transport.send(two.address, MESSAGE, b"%d" % number)
            assert await one.call(two) == b"hi"
            assert loop.time() - begun >= 0.19  # the loops round
            assert two.heard == [(1, b"%d" % number) for number in range(10)]

    run(main())


def test_drops_take_messages_and_not_the_connection(run: Any) -> None:
    async def main() -> None:
        one, two = Node(1), Node(2)
        async with running(one, two):
            await one.call(two)
            one.faults.apply_text(f"drop {two.address} 0.5 out")
            for number in range(400):
                assert one.transport.send(two.address, MESSAGE, b"%d" % number)
            await eventually(lambda: one.transport.health()[0].queue_bytes == 0)
            one.faults.apply_text("heal")
            assert await one.call(two) == b"hi"
            numbers = [int(payload) for _, payload in two.heard]
            assert 140 < len(numbers) < 260
            assert numbers == sorted(numbers)
            assert len(one.transport.connections) == 1

    run(main())


def test_a_stream_that_lost_a_part_breaks_after_the_cut(run: Any) -> None:
    async def main() -> None:
        one, two = Node(1, silent_intervals_max=1000), Node(2, silent_intervals_max=1000)
        async with running(one, two):
            stream = await one.transport.open_stream(two.address, SINK, b"")
            await stream.send(b"12345")
            assert await stream.receive() == b"5"
            one.faults.apply_text(f"cut {two.address} out")
            await stream.send(b"678")
            await asyncio.sleep(0)
            one.faults.apply_text("heal")
            with pytest.raises(StreamBroken, match="an injected fault took a part of a stream"):
                await stream.receive()
            assert await one.call(two) == b"hi"

    run(main())
