"""A peer in a process of its own: killed, frozen, thawed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cluster.transport.api import OutcomeUnknown, PeerUnavailable, StreamBroken
from tests.unit.cluster.transport.nodes import MESSAGE, SINK, Node, eventually, running

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = """
import asyncio, sys, uvloop
from tests.unit.cluster.transport.nodes import Node
async def main():
    node = await Node(2, incarnation=int(sys.argv[2])).start(int(sys.argv[1]))
    print(node.address, flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
"""


@asynccontextmanager
async def peer_process(port: int = 0, incarnation: int = 1) -> AsyncIterator[tuple[Any, str]]:
    """Run a node in a process of its own; gives the process and the node's address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, str(port), str(incarnation)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        yield process, line.decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_a_killed_process_leaves_an_unknown_outcome_and_comes_back() -> None:
    async def main() -> None:
        one = Node(1)
        async with running(one):
            async with peer_process() as (process, address):
                assert await one.call(address) == b"hi"
                stream = await one.transport.open_stream(address, SINK, b"")
                await stream.send(b"123")
                assert await stream.receive() == b"3"
                call = asyncio.create_task(one.transport.call(address, 4, b"", 30.0))
                await eventually(lambda: one.transport.counters.calls_sent == 2)
                await one.call(address)
                process.kill()
                with pytest.raises(OutcomeUnknown, match=address):
                    await asyncio.wait_for(call, 5)
                with pytest.raises(StreamBroken):
                    await stream.receive()
                assert one.lost == [address]
                await process.wait()
                with pytest.raises(PeerUnavailable, match="connection refused"):
                    await one.call(address)
            port = int(address.rsplit(":", 1)[1])
            async with peer_process(port, incarnation=2) as (_process, again):
                assert again == address
                assert await one.call(address) == b"hi"
                assert one.transport.send(address, MESSAGE, b"x")

    uvloop.run(main())


def test_a_frozen_process_is_lost_and_found_again() -> None:
    """It accepts connections, as its system does for it, and says nothing."""

    async def main() -> None:
        one = Node(1, rpc_timeout_seconds=0.5)
        async with running(one), peer_process() as (process, address):
            assert await one.call(address) == b"hi"
            os.kill(process.pid, signal.SIGSTOP)
            try:
                with pytest.raises(OutcomeUnknown):
                    await one.call(address, seconds=0.2)
                await eventually(lambda: one.lost == [address])
                assert "nothing heard" in one.transport.health()[0].last_error
                with pytest.raises(PeerUnavailable, match=r"no answer within 0\.5 s"):
                    await one.call(address)
            finally:
                os.kill(process.pid, signal.SIGCONT)
            assert await one.call(address) == b"hi"

    uvloop.run(main())
