"""Real datagrams on loopback. Waiting is polling with an upper bound; ports are free ones."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
import uvloop

from cluster.ids import NodeId
from cluster.swim import InvalidSwimSetting, Member, MemberState, SwimSettings
from cluster.swim.driver import SwimDriver, _source_text
from cluster.swim.envelope import Sealer
from cluster.swim.message import Ping, encode_message, update_of
from cluster.transport.faults import FaultPolicy

ALIVE, SUSPECT, DEAD, LEFT = MemberState
FAST = SwimSettings(
    probe_interval_seconds=0.2, probe_timeout_seconds=0.1, suspicion_min_seconds=0.5
)
SECRET = b"a secret"
CLUSTER_ID = "the-cluster"

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    asyncio.new_event_loop,
    uvloop.new_event_loop,
]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool], seconds: float) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not condition():
        assert loop.time() - began < seconds, "waited in vain"
        await asyncio.sleep(0.01)
    return loop.time() - began


class Cluster:
    """Drivers by node id; ``changes`` holds (observer, node_id, old, new)."""

    def __init__(self, settings: SwimSettings = FAST) -> None:
        self.settings = settings
        self.drivers: dict[int, SwimDriver] = {}
        self.ports: dict[int, int] = {}
        self.policies: dict[int, FaultPolicy] = {}
        self.changes: list[tuple[int, NodeId, MemberState | None, MemberState]] = []

    def address(self, node_id: int) -> str:
        return f"127.0.0.1:{self.ports.setdefault(node_id, free_port())}"

    async def add(
        self,
        node_id: int,
        seeds: tuple[int, ...] = (),
        *,
        boot: int = 1,
        secret: bytes = SECRET,
        cluster_id: str = CLUSTER_ID,
    ) -> SwimDriver:
        self.policies[node_id] = FaultPolicy(Random(node_id))
        driver = SwimDriver(
            self.settings,
            Member(NodeId(node_id), self.address(node_id), boot=boot),
            secret,
            cluster_id,
            random=Random(node_id),
            faults=self.policies[node_id],
        )

        def note(changed: NodeId, old: MemberState | None, new: MemberState) -> None:
            self.changes.append((node_id, changed, old, new))

        driver.subscribe(note)
        driver.join_addresses([self.address(seed) for seed in seeds])
        assert await driver.start("127.0.0.1", self.ports[node_id]) == self.ports[node_id]
        self.drivers[node_id] = driver
        return driver

    async def mesh(self, count: int) -> None:
        for node_id in range(1, count + 1):
            await self.add(node_id, tuple(range(1, count + 1)))
        await until(self.is_agreed, 5.0)

    def state(self, observer: int, node_id: int) -> MemberState | None:
        member = self.drivers[observer].member(NodeId(node_id))
        return None if member is None else member.state

    def is_agreed(self) -> bool:
        return all(self.state(a, b) is ALIVE for a in self.drivers for b in self.drivers)

    async def silence(self, node_id: int) -> None:
        await self.drivers.pop(node_id).close()

    async def close(self) -> None:
        for driver in self.drivers.values():
            await driver.close()


def run(
    test: Callable[[Cluster], Awaitable[None]],
    settings: SwimSettings = FAST,
    loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> None:
    async def body() -> None:
        cluster = Cluster(settings)
        try:
            await test(cluster)
        finally:
            await cluster.close()

    with asyncio.Runner(debug=loop is asyncio.new_event_loop, loop_factory=loop) as runner:
        runner.run(body())


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_three_nodes_with_default_settings(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """BEHAVIOUR 1.6: converged within 5 s; a silent node is Suspect or Dead within 5 s."""

    async def body(cluster: Cluster) -> None:
        await cluster.mesh(3)
        assert [m.address for m in cluster.drivers[1].members()] == [
            cluster.address(node_id) for node_id in (1, 2, 3)
        ]
        await cluster.silence(3)
        await until(lambda: cluster.state(1, 3) in (SUSPECT, DEAD), 5.0)
        await until(lambda: cluster.state(2, 3) in (SUSPECT, DEAD), 5.0)
        assert cluster.state(1, 2) is cluster.state(2, 1) is ALIVE

    run(body, SwimSettings(), loop)


def test_a_silent_node_dies_and_subscribers_hear_it_in_order() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.mesh(3)
        await cluster.silence(3)
        await until(lambda: cluster.state(1, 3) is DEAD and cluster.state(2, 3) is DEAD, 10.0)
        await asyncio.sleep(0)
        news = [(old, new) for observer, n, old, new in cluster.changes if (observer, n) == (1, 3)]
        assert news == [(None, ALIVE), (ALIVE, SUSPECT), (SUSPECT, DEAD)]
        counters = cluster.drivers[1].counters
        assert counters.deads == 1
        assert counters.probes > 0
        assert counters.acks > 0

    run(body)


@pytest.mark.parametrize("boot", [2, 1, 0])
def test_a_restarted_node_is_heard(boot: int) -> None:
    """Mistake M9, over real sockets: same port, same id, sequence from 1, incarnation 0."""

    async def body(cluster: Cluster) -> None:
        await cluster.mesh(3)
        await until(lambda: cluster.drivers[3].counters.datagrams_sent > 40, 10.0)
        await cluster.silence(3)
        await until(lambda: cluster.state(1, 3) is DEAD, 10.0)
        again = await cluster.add(3, (1, 2), boot=boot)
        await until(cluster.is_agreed, 5.0)
        assert again.local.rank() > (1, 0, ALIVE)
        assert again.conflicting_addresses == []

    run(body)


def test_leaving_is_known_before_the_socket_closes() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.mesh(3)
        leaving = cluster.drivers[3]
        await asyncio.wait_for(leaving.leave(), 0.4)
        await cluster.silence(3)
        assert cluster.state(1, 3) is cluster.state(2, 3) is LEFT
        await cluster.add(3, (1,), boot=2)
        await until(cluster.is_agreed, 5.0)

    run(body)


def test_leaving_waits_for_nobody_for_long() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.mesh(2)
        await cluster.silence(2)
        await asyncio.wait_for(cluster.drivers[1].leave(), 2.0)

    run(body)


def test_garbage_foreign_and_replayed_datagrams_are_counted_and_ignored() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.mesh(2)
        target = ("127.0.0.1", cluster.ports[1])
        counters = cluster.drivers[1].counters
        forged = update_of(Member(NodeId(2), cluster.address(2), DEAD, incarnation=50, boot=50))
        message = encode_message(Ping(1, update_of(Member(NodeId(2), "9.9.9.9:9")), (forged,)))

        def seal(secret: bytes, cluster_id: str, recipient: int, boot: int) -> bytes:
            sealer = Sealer(secret=secret, cluster_id=cluster_id, node_id=NodeId(2))
            return sealer.seal(message, recipient=NodeId(recipient), boot=boot)

        stranger = Sealer(secret=SECRET, cluster_id=CLUSTER_ID, node_id=NodeId(77))
        body_of_nothing = stranger.seal(b"no message", recipient=NodeId(1), boot=1)
        bad = {
            "bad_malformed": [b"", b"x", bytes(500), b"\x01" * 70, body_of_nothing],
            "bad_version": [b"\x07" * 200, Random(1).randbytes(60_000)],
            "bad_cluster": [seal(SECRET, "another", 1, 9)],
            "bad_authentication": [seal(b"wrong", CLUSTER_ID, 1, 9)],
            "bad_recipient": [seal(SECRET, CLUSTER_ID, 3, 9)],
            "bad_boot": [seal(SECRET, CLUSTER_ID, 1, 0)],
        }
        bad["bad_malformed"][2] = b"\x01" + bytes(500)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for datagrams in bad.values():
                for datagram in datagrams:
                    sender.sendto(datagram, target)
            sender.sendto(body_of_nothing, target)  # a replay
        for name, datagrams in bad.items():
            await until(lambda n=name, d=datagrams: getattr(counters, n) == len(d), 5.0)
        await until(lambda: counters.bad_replay == 1, 5.0)
        assert cluster.state(1, 2) is ALIVE
        assert cluster.drivers[1].local.boot == cluster.drivers[2].local.boot == 1
        assert [m.node_id for m in cluster.drivers[1].members()] == [1, 2]
        before = counters.acks
        await until(lambda: counters.acks > before + 2, 5.0)

    run(body)


@pytest.mark.parametrize(
    ("secret", "cluster_id", "counter"),
    [(b"wrong", CLUSTER_ID, "bad_authentication"), (SECRET, "another", "bad_cluster")],
)
def test_a_node_with_another_secret_or_cluster_stays_outside(
    secret: bytes, cluster_id: str, counter: str
) -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.mesh(2)
        outsider = await cluster.add(3, (1, 2), secret=secret, cluster_id=cluster_id)
        await until(lambda: getattr(cluster.drivers[1].counters, counter) >= 3, 5.0)
        assert [m.node_id for m in outsider.members()] == [3]
        assert cluster.state(1, 3) is cluster.state(2, 3) is None
        assert sorted(outsider.unknown_seeds()) == sorted([cluster.address(1), cluster.address(2)])

    run(body)


@pytest.mark.parametrize("direction", ["in", "out"])
def test_faults_cut_a_peer_off_and_heal(direction: str) -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.mesh(3)
        for other in (1, 2):
            cluster.policies[3].apply_text(f"cut {cluster.address(other)} {direction}")
        await until(lambda: cluster.state(1, 3) is DEAD and cluster.state(2, 3) is DEAD, 15.0)
        assert cluster.state(1, 2) is ALIVE
        assert cluster.drivers[3].counters.faults_dropped > 0
        cluster.policies[3].apply_text("heal")
        await until(cluster.is_agreed, 10.0)

    run(body)


def test_a_cut_between_two_is_bridged_by_the_third() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.mesh(3)
        cluster.changes.clear()
        cluster.policies[1].apply_text(f"cut {cluster.address(2)}")
        await until(lambda: cluster.drivers[1].counters.indirect_acks >= 3, 10.0)
        assert not [change for change in cluster.changes if change[3] is DEAD]

    run(body)


def test_delayed_datagrams_arrive() -> None:
    async def body(cluster: Cluster) -> None:
        cluster.policies[1] = FaultPolicy(Random(1))
        await cluster.mesh(2)
        cluster.changes.clear()
        for direction in ("in", "out"):
            cluster.policies[1].apply_text(f"delay {cluster.address(2)} 0.02 {direction}")
        before = cluster.drivers[1].counters.acks
        await until(lambda: cluster.drivers[1].counters.acks >= before + 3, 10.0)
        assert not cluster.changes

    run(body)


def test_names_are_looked_up_and_an_unknown_one_hurts_nobody() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.add(1)
        second = await cluster.add(2)
        second.join_addresses(
            [f"localhost:{cluster.ports[1]}", f"no-such-host.invalid:{cluster.ports[1]}"]
        )
        await until(cluster.is_agreed, 5.0)
        assert cluster.drivers[2].member(NodeId(1)).address == cluster.address(1)
        unknown = f"no-such-host.invalid:{cluster.ports[1]}"
        await until(lambda: second.unknown_seeds() == [unknown], 5.0)

    run(body)


def test_what_a_subscriber_raises_stops_neither_the_others_nor_the_node() -> None:
    async def body(cluster: Cluster) -> None:
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: reported.append(what))
        first = await cluster.add(1)

        def fail(*_change: object) -> None:
            raise RuntimeError("a subscriber's fault")

        heard: list[NodeId] = []
        first.subscribe(fail)
        first.subscribe(lambda node_id, _old, _new: heard.append(node_id))
        await cluster.add(2, (1,))
        await until(lambda: heard == [2], 5.0)
        assert "a subscriber's fault" in str(reported[0]["exception"])
        await until(lambda: first.counters.acks >= 2, 5.0)

    run(body)


def test_a_port_in_use_is_an_error_and_the_driver_can_be_closed() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.add(1)
        other = SwimDriver(FAST, Member(NodeId(2), "127.0.0.1:1"), SECRET, CLUSTER_ID)
        with pytest.raises(OSError, match="in use"):
            await other.start("127.0.0.1", cluster.ports[1])
        await other.close()
        await cluster.drivers[1].close()
        await cluster.drivers[1].close()

    run(body)


def test_bad_settings_and_addresses_are_errors_at_once() -> None:
    local = Member(NodeId(1), "127.0.0.1:9400")
    with pytest.raises(InvalidSwimSetting):
        SwimDriver(SwimSettings(suspicion_mult=0), local, SECRET, CLUSTER_ID)
    with pytest.raises(ValueError, match="no address"):
        SwimDriver(FAST, local._replace(address="127.0.0.1"), SECRET, CLUSTER_ID)
    driver = SwimDriver(FAST, local, SECRET, CLUSTER_ID)
    with pytest.raises(ValueError, match="no address"):
        driver.join_addresses(["nowhere"])


def test_a_removed_member_is_forgotten() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.mesh(2)
        await cluster.silence(2)
        cluster.drivers[1].forget(NodeId(2))
        assert [m.node_id for m in cluster.drivers[1].members()] == [1]

    run(body)


@pytest.mark.parametrize(
    ("observed", "text"),
    [
        (("10.1.2.3", 5), "10.1.2.3:5"),
        (("::1", 5, 0, 0), "[::1]:5"),
        (("::ffff:10.1.2.3", 5, 0, 0), "10.1.2.3:5"),
    ],
)
def test_where_a_datagram_came_from(observed: tuple[object, ...], text: str) -> None:
    assert _source_text(observed) == text
