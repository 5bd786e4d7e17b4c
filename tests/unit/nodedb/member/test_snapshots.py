"""Snapshots over streams: whole, cut, resumed, refused (PROTOCOL rules 51, 63).

Two members of a small cluster, whose virtual time stands still, and a transport in memory on the
test's own loop. The receiver's files are on the real disk.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from cluster.ids import FIRST_DATA_GROUP
from cluster.transport.config import LocalIdentity
from cluster.transport.memory import MemoryNetwork, MemoryTransport
from cluster.transport.runner import HandlerRun
from nodedb.kv.replica import CONFIGURATION_KEY
from nodedb.member.snapshots import SnapshotTransfers
from nodedb.storage.log_file import RealLogDirectory
from nodedb.storage.snapshot_format import CHUNK_BYTES_MIN
from nodedb.storage.snapshot_receive import SnapshotInbox
from nodedb.storage.snapshot_source import SnapshotSources
from nodedb.supervisor import Supervisor
from tests.lib.small_cluster import SmallCluster
from tests.unit.nodedb.kv.test_replicated import propose, value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROUP = FIRST_DATA_GROUP
ROWS = 30


class Clock:
    def wall_us(self) -> int:
        return 1_700_000_000_000_000

    def monotonic(self) -> float:
        return 100.0


class Side:
    """One member's transfers."""

    def __init__(self, network: MemoryNetwork, node: Any, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.node = node
        self.transport = MemoryTransport(
            network, LocalIdentity(node.node_id, "c1", f"node-{node.node_id}", 1)
        )
        self.sources = SnapshotSources(
            node.engine, lambda: 77, chunk_bytes=CHUNK_BYTES_MIN, idle_seconds_max=10.0
        )
        self.supervisor = Supervisor("test")
        self.inbox = SnapshotInbox(RealLogDirectory(str(path)), disk_reserve_bytes=0)
        self.transfers = SnapshotTransfers(
            replicator=node.replicator,
            engine=node.engine,
            sources=self.sources,
            inbox=self.inbox,
            transport=self.transport,
            supervisor=self.supervisor,
            clock=Clock(),  # type: ignore[arg-type]
            address_of=lambda node_id: f"node-{node_id}",
            reload=lambda group_id: node.machines[group_id].reload(),
        )
        self.transport.on_stream(2, self.transfers._on_offer)
        self.results: list[tuple[int, int, bool]] = []
        tell = node.replicator.on_snapshot_result

        def note(group_id: int, node_id: int, index: int, *, ok: bool) -> None:
            self.results.append((group_id, node_id, ok))
            tell(group_id, node_id, index, ok=ok)

        node.replicator.on_snapshot_result = note


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    """Node 1 leads and has compacted its log; node 3 has nothing, and hears nothing of Raft."""
    made = SmallCluster(kept_entries=2)
    leader = made.elect(1)
    made.stop(made.node(3))
    for number in range(ROWS):
        waiter = propose(leader, number, bytes(2000))
        made.wait_for(lambda w=waiter: w.done)
    for number in range(3):
        made.pass_time(1)
        waiter = propose(leader, number, bytes(2000))
        made.wait_for(lambda w=waiter: w.done)
    assert leader.wal.first_index(GROUP) > 5
    made.isolate(3)
    made.node(3).start()
    yield made
    made.network.heal()
    late = propose(leader, 500)
    made.wait_for(lambda: late.done)
    made.wait_for(lambda: value(made.node(3), 500) == b"row")
    rows = [[value(made.node(n), row) for row in range(ROWS)] for n in (1, 3)]
    assert rows[0] == rows[1]
    assert None not in rows[0]


def sides(cluster: SmallCluster, path: Path) -> tuple[MemoryNetwork, Side, Side]:
    loop = asyncio.get_running_loop()

    def run(coroutine: Any, on_finish: Any) -> None:
        HandlerRun(coroutine, on_finish, loop=loop, spawn=loop.create_task).step()

    network = MemoryNetwork(later=loop.call_later, random=Random(1), loop=loop, run=run)
    return (
        network,
        Side(network, cluster.node(1), path / "one"),
        Side(network, cluster.node(3), path / "three"),
    )


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  any condition
            await asyncio.sleep(0.001)


def installed(cluster: SmallCluster) -> bool:
    follower = cluster.node(3)
    return all(value(follower, n) is not None for n in range(ROWS))


def test_a_snapshot_goes_over_whole(cluster: SmallCluster, tmp_path: Path) -> None:
    async def run() -> None:
        _, one, three = sides(cluster, tmp_path)
        one.transfers.start(GROUP, 3)
        await until(lambda: one.results)
        assert one.results == [(GROUP, 3, True)]
        assert installed(cluster)
        assert (one.transfers.sent_count, three.transfers.received_count) == (1, 1)
        assert one.transfers.sent_bytes > ROWS * 2000
        replica = cluster.node(3).replicator.replicas[GROUP]
        assert not replica.is_installing
        assert replica.applied_index == cluster.node(1).replicator.applied_index(GROUP)
        assert replica.core.configuration.voters == (1, 2, 3)
        assert replica.meta.get(CONFIGURATION_KEY) is not None
        # A second one in a row has nothing new.
        one.transfers.start(GROUP, 3)
        await until(lambda: len(one.results) == 2)
        assert one.results[1] == (GROUP, 3, False)
        assert three.transfers.received_count == 1
        assert not one.node.replicator.log_room._held

    asyncio.run(run())


def test_a_cut_transfer_goes_on_where_it_stopped(cluster: SmallCluster, tmp_path: Path) -> None:
    async def run() -> None:
        network, one, three = sides(cluster, tmp_path)
        one.transfers.start(GROUP, 3)
        await until(lambda: one.transfers.sent_bytes > 6 * CHUNK_BYTES_MIN)
        three.transport.close()
        await until(lambda: one.results)
        assert one.results == [(GROUP, 3, False)]
        assert not installed(cluster)
        assert not cluster.node(3).replicator.replicas[GROUP].is_installing
        first = one.transfers.sent_bytes
        again = Side(network, cluster.node(3), tmp_path / "three")
        again.inbox = three.inbox
        again.transfers._inbox = three.inbox
        one.transfers.start(GROUP, 3)
        await until(lambda: len(one.results) == 2)
        assert one.results[1] == (GROUP, 3, True)
        assert installed(cluster)
        assert one.transfers.sent_bytes < 2 * first + ROWS * 2000

    asyncio.run(run())


def test_a_receiver_that_restarts_goes_on_from_its_file(
    cluster: SmallCluster, tmp_path: Path
) -> None:
    async def run() -> None:
        network, one, three = sides(cluster, tmp_path)
        three.inbox._sync_bytes = CHUNK_BYTES_MIN
        one.transfers.start(GROUP, 3)
        await until(lambda: one.transfers.sent_bytes > 6 * CHUNK_BYTES_MIN)
        three.transport.close()
        await until(lambda: one.results)
        cluster.stop(cluster.node(3))
        cluster.node(3).start()
        before = one.transfers.sent_bytes
        Side(network, cluster.node(3), tmp_path / "three")
        one.transfers.start(GROUP, 3)
        await until(lambda: len(one.results) == 2)
        assert one.results[1] == (GROUP, 3, True)
        assert installed(cluster)
        assert before >= 6 * CHUNK_BYTES_MIN

    asyncio.run(run())


def test_who_leads_takes_no_snapshot(cluster: SmallCluster, tmp_path: Path) -> None:
    async def run() -> None:
        _, one, three = sides(cluster, tmp_path)
        three.transfers.start(GROUP, 1)
        await until(lambda: three.results)
        assert three.results == [(GROUP, 1, False)]
        assert one.transfers.received_count == 0
        one.transfers.start(GROUP, 3)
        await until(lambda: one.results)
        assert one.results == [(GROUP, 3, True)]

    asyncio.run(run())


def test_garbage_in_place_of_an_offer_or_a_chunk_is_refused(
    cluster: SmallCluster, tmp_path: Path
) -> None:
    async def run() -> None:
        _, one, three = sides(cluster, tmp_path)
        for garbage in (b"", b"\xff\x00junk", b"\x93\x01\x02\x03"):
            stream = await one.transport.open_stream("node-3", 2, garbage)
            with pytest.raises(Exception):  # noqa: B017, PT011  however the stream ends
                while await stream.receive() is not None:
                    pass
                raise EOFError
        reader = one.sources.open(GROUP, index_min=0, now=100.0)
        from nodedb.storage.snapshot_format import encode_offer

        stream = await one.transport.open_stream("node-3", 2, encode_offer(reader.offer))
        await stream.receive()
        await stream.send(b"\0" + b"junk")
        with pytest.raises(Exception):  # noqa: B017, PT011  as above
            while await stream.receive() is not None:
                pass
            raise EOFError
        assert not cluster.node(3).replicator.replicas[GROUP].is_installing
        one.transfers.start(GROUP, 3)
        await until(lambda: one.results)
        assert one.results == [(GROUP, 3, True)]
        assert three.transfers.received_count == 1

    asyncio.run(run())


def test_one_install_at_a_time(cluster: SmallCluster, tmp_path: Path) -> None:
    """A second transfer of the same snapshot must not end the first one's install."""

    async def run() -> None:
        _, one, three = sides(cluster, tmp_path)
        replica = cluster.node(3).replicator.replicas[GROUP]
        replica.is_installing = True
        one.transfers.start(GROUP, 3)
        await until(lambda: one.results)
        assert one.results == [(GROUP, 3, False)]
        assert replica.is_installing
        assert three.transfers.received_count == 0
        replica.is_installing = False
        one.transfers.start(GROUP, 3)
        await until(lambda: len(one.results) == 2)
        assert one.results[1] == (GROUP, 3, True)

    asyncio.run(run())


def test_a_snapshot_that_is_not_read_is_closed(cluster: SmallCluster, tmp_path: Path) -> None:
    async def run() -> None:
        _, one, _ = sides(cluster, tmp_path)
        one.transfers.start(GROUP, 3)
        await until(lambda: one.results)
        assert one.sources.index_pinned(GROUP) is not None
        one.transfers._close_readers()
        assert one.sources.index_pinned(GROUP) is not None
        one.transfers._clock = type("Later", (Clock,), {"monotonic": lambda self: 111.0})()
        one.transfers._close_readers()
        assert one.sources.index_pinned(GROUP) is None

    asyncio.run(run())
