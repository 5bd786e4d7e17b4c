"""The driver over real sockets on loopback: starts, joins, restarts, DNS, pings, garbage."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.rrset
import pytest
from start_world import GROUP_IDS, Disk

from cluster.membership.admission import (
    Admit,
    Known,
    LeaderView,
    decide,
    join_command,
    join_response,
    refusal_response,
)
from cluster.membership.catalog import Topology
from cluster.membership.config import HealthSettings, StartSettings
from cluster.membership.core import Started, StartFailed
from cluster.membership.driver import DnsResolver, HealthDriver, LookupFailed, MembershipDriver
from cluster.membership.greeting import LocalNode
from cluster.membership.health import HealthMonitor
from cluster.membership.message import JoinRequest, JoinResponse, MemberNode, decode_message
from cluster.membership.seeds import SrvRecord, parse_seeds
from cluster.metadata.command import FoundCluster, NodeJoin
from cluster.metadata.state import ClusterState
from cluster.raft.message import Configuration
from cluster.transport.api import Peer, RemoteError
from cluster.transport.config import LocalIdentity, TransportSettings
from cluster.transport.driver import TcpTransport
from cluster.transport.methods import GREET, JOIN, PING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

QUICK = StartSettings(back_off_seconds_max=4.0, budget_seconds=20.0)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = sorted(each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    return ports


class Node:
    """A node with a real transport; the metadata group is one object shared by all."""

    def __init__(self, port: int, seeds: list[str], cluster: ClusterState, disk: Disk) -> None:
        self.address = f"127.0.0.1:{port}"
        self.port = port
        self.seeds = seeds
        self.cluster = cluster
        self.disk = disk
        self.phases: list[str] = []
        self.foreign = ""

    async def start(
        self, settings: StartSettings = QUICK, resolver: DnsResolver | None = None
    ) -> Started:
        self.disk.incarnation += 1
        saved = self.disk.saved.identity
        self.identity = LocalIdentity(
            0 if saved is None else saved.node_id,
            "" if saved is None else saved.cluster_id,
            self.address,
            self.disk.incarnation,
        )
        self.transport = TcpTransport(self.identity, TransportSettings(is_insecure=True))
        await self.transport.start("127.0.0.1", self.port)
        local = LocalNode(self.address, self.disk.store_id, self.disk.incarnation)
        self.driver = MembershipDriver(
            transport=self.transport,
            catalog=self.disk,
            local=local,
            request=JoinRequest(0, self.address, 1, "", local.store_id, local.incarnation),
            seeds=parse_seeds(self.seeds),
            new_cluster_id=f"cluster-of-{self.disk.store_id}",
            group_ids=GROUP_IDS,
            clock=time.monotonic,
            settings=settings,
            resolver=resolver,
            on_phase=lambda label, _detail: self.phases.append(label),
        )
        self.started = await self.driver.start()
        identity = self.started.identity
        self.identity.node_id, self.identity.cluster_id = identity.node_id, identity.cluster_id
        self.transport.reintroduce()
        if self.started.kind == "found":
            self.commit(FoundCluster(identity.cluster_id))
            self.commit(NodeJoin(identity.node_id, local.store_id, self.address))
        self.driver.serve(identity, self.answer_join, self.on_foreign)
        return self.started

    def on_foreign(self, sentence: str) -> None:
        self.foreign = sentence

    def commit(self, command: object) -> None:
        self.cluster.apply(command, self.cluster.applied_index + 1)  # type: ignore[arg-type]

    async def answer_join(self, _peer: Peer, request: JoinRequest) -> JoinResponse:
        leader = self.cluster.nodes[1]
        view = LeaderView(self.started.identity.node_id, 1, leader.rpc_address, now_ms=1)
        verdict = decide(request, self.cluster, view)
        if isinstance(verdict, Admit):
            self.commit(join_command(verdict, request, 1))
        if isinstance(verdict, (Admit, Known)):
            configurations = {group: Configuration((1,), ()) for group in GROUP_IDS}
            return join_response(verdict.node_id, self.cluster, configurations, {})
        return refusal_response(verdict)

    async def stop(self) -> None:
        await self.driver.close()
        await self.transport.close()


class Nodes:
    """Makes nodes and stops them."""

    def __init__(self) -> None:
        self.cluster = ClusterState()
        self.all: list[Node] = []

    def new(self, port: int, seeds: list[str], disk: Disk | None = None) -> Node:
        node = Node(port, seeds, self.cluster, disk or Disk(f"store{port}"))
        self.all.append(node)
        return node


@contextlib.asynccontextmanager
async def some_nodes() -> AsyncIterator[Nodes]:
    nodes = Nodes()
    try:
        yield nodes
    finally:
        for node in nodes.all:
            if hasattr(node, "driver"):
                await node.stop()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        await asyncio.sleep(0.01)


def test_three_nodes_one_cluster_and_a_restart_without_the_network() -> None:
    async def scenario() -> None:
        async with some_nodes() as nodes:
            ports = free_ports(3)
            seeds = [f"127.0.0.1:{port}" for port in ports]
            first, second, third = (nodes.new(port, seeds) for port in ports)
            third_starts = asyncio.create_task(third.start())
            second_starts = asyncio.create_task(second.start())
            await until(lambda: len(third.phases) > 2)
            began = time.monotonic()
            assert (await first.start()).kind == "found"
            assert {(await second_starts).kind, (await third_starts).kind} == {"join"}
            assert time.monotonic() - began < 5
            everybody = (first, second, third)
            assert sorted(node.started.identity.node_id for node in everybody) == [1, 2, 3]
            assert len({node.started.identity.cluster_id for node in everybody}) == 1
            assert len(third.started.topology.nodes) >= 2
            assert first.phases == ["joining", "bootstrapping", "ready"] or first.phases[-2:] == [
                "bootstrapping",
                "ready",
            ]
            for node in everybody:
                await node.stop()
            again = await third.start()
            assert again.kind == "restart"
            assert third.phases[-2:] == ["restarting", "ready"]

    asyncio.run(scenario())


def test_a_node_by_itself_founds_without_asking() -> None:
    async def scenario() -> None:
        async with some_nodes() as nodes:
            node = nodes.new(free_ports(1)[0], [])
            started = await node.start()
            assert started.kind == "found"
            assert [group.group_id for group in started.routing.groups] == [0, 1, 2]
            assert started.topology.nodes[0].address == node.address
            assert node.disk.saved.is_complete

    asyncio.run(scenario())


def test_nobody_answers_within_the_budget() -> None:
    async def scenario() -> None:
        async with some_nodes() as nodes:
            ports = free_ports(2)
            node = nodes.new(ports[1], [f"127.0.0.1:{port}" for port in ports])
            with pytest.raises(StartFailed) as caught:
                await node.start(StartSettings(budget_seconds=0.5))
            lines = caught.value.sentences
            assert lines[0].startswith("no seed named a cluster; waited for")
            assert "refused" in lines[1]
            assert lines[2] == f"{node.address}: this node"
            assert node.phases[-1] == "failed"

    asyncio.run(scenario())


def test_a_member_that_does_not_serve_yet_says_so_and_garbage_is_refused() -> None:
    async def scenario() -> None:
        async with some_nodes() as nodes:
            ports = free_ports(3)
            waiting = nodes.new(ports[1], [f"127.0.0.1:{port}" for port in ports[:2]])
            starts = asyncio.create_task(waiting.start())
            await until(lambda: bool(waiting.phases))
            identity = LocalIdentity(0, "", f"127.0.0.1:{ports[2]}", 1)
            client = TcpTransport(identity, TransportSettings(is_insecure=True))
            await client.start("127.0.0.1", ports[2])
            try:
                for method in (GREET, JOIN):
                    for payload in (b"", b"\xff" * 100, b"\x02\x90", b"\x01\xc1"):
                        with pytest.raises(RemoteError):
                            await client.call(waiting.address, method, payload, 5.0)
                request = b"\x01\x97\x03\x00\xa3a:1\x01\xa0\xa1s\x01"
                answer = await client.call(waiting.address, JOIN, request, 5.0)
                response = decode_message(answer, JoinResponse)
                assert not response.success
                assert response.error == f"node at {waiting.address} is starting"
                assert not response.is_final
            finally:
                await client.close()
                starts.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await starts

    asyncio.run(scenario())


def test_a_stale_store_is_told_by_the_transport_itself() -> None:
    """Two members of another cluster at the seeds: their transports refuse this node's."""

    async def scenario() -> None:
        ports = free_ports(3)
        seeds = [f"127.0.0.1:{port}" for port in ports]
        async with some_nodes() as old:
            stale = old.new(ports[0], seeds[:1])
            await stale.start()
            await stale.stop()
            async with some_nodes() as new:
                others = [new.new(port, seeds[1:]) for port in ports[1:]]
                await asyncio.gather(*(node.start() for node in others))
                stale.seeds = seeds
                assert (await stale.start()).kind == "restart"
                await until(lambda: bool(stale.foreign))
                cluster_id = others[0].started.identity.cluster_id
                assert f"are members of cluster {cluster_id}" in stale.foreign
                assert others[0].foreign == others[1].foreign == ""

    asyncio.run(scenario())


# DNS


class NameServer(asyncio.DatagramProtocol):
    """Answers SRV questions from a table."""

    def __init__(self) -> None:
        self.records: dict[str, list[SrvRecord]] = {}
        self.questions = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.questions += 1
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query)
        name = query.question[0].name
        records = self.records.get(name.to_text().removesuffix("."), [])
        if records:
            texts = [f"0 0 {record.port} {record.target}" for record in records]
            response.answer.append(dns.rrset.from_text(name, 1, "IN", "SRV", *texts))
        response.flags |= dns.flags.RA
        self.transport.sendto(response.to_wire(), address)  # type: ignore[attr-defined]


async def name_server() -> tuple[NameServer, DnsResolver, asyncio.DatagramTransport]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    return server, DnsResolver(["127.0.0.1"], transport.get_extra_info("sockname")[1]), transport


def test_srv_names_are_looked_up() -> None:
    async def scenario() -> None:
        server, resolver, transport = await name_server()
        try:
            server.records["_nodedb._tcp.example"] = [
                SrvRecord("a.example.", 9400),
                SrvRecord("b.example.", 9401),
            ]
            found = await resolver.lookup("_nodedb._tcp.example")
            assert sorted(found) == [("a.example.", 9400), ("b.example.", 9401)]
            with pytest.raises(LookupFailed, match="does not contain an answer"):
                await resolver.lookup("nowhere.example")
        finally:
            transport.close()

    asyncio.run(scenario())


def test_a_silent_name_server_is_an_error_in_bounded_time() -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            resolver = DnsResolver(["127.0.0.1"], silent.getsockname()[1])
            began = time.monotonic()
            with pytest.raises(LookupFailed):
                await resolver.lookup("_nodedb._tcp.example")
            assert time.monotonic() - began < 6

    asyncio.run(scenario())


def test_nodes_find_each_other_by_a_name_that_fills_up() -> None:
    """Each node alone in DNS founds nothing; with the second record the smallest one does."""

    async def scenario() -> None:
        server, resolver, transport = await name_server()
        try:
            async with some_nodes() as nodes:
                ports = free_ports(2)
                first, second = (nodes.new(port, ["srv:_nodedb._tcp.example"]) for port in ports)
                server.records["_nodedb._tcp.example"] = [SrvRecord("localhost.", ports[0])]
                settings = StartSettings(
                    back_off_seconds_max=4.0, budget_seconds=20.0, srv_refresh_seconds=0.1
                )
                tasks = [asyncio.create_task(n.start(settings, resolver)) for n in (first, second)]
                await until(lambda: len(first.phases) > 2)
                assert not first.disk.saved.identity
                server.records["_nodedb._tcp.example"] = [
                    SrvRecord("localhost.", port) for port in ports
                ]
                kinds = [(await task).kind for task in tasks]
                assert kinds == ["found", "join"]
                assert first.driver.seeds.errors == {}
        finally:
            transport.close()

    asyncio.run(scenario())


# Health


def test_pings_bring_a_peer_that_is_behind_up_to_date() -> None:
    async def scenario() -> None:
        ports = free_ports(2)
        nodes = tuple(
            MemberNode(number, f"127.0.0.1:{port}", 1, (0,), 1)
            for number, port in enumerate(ports, 1)
        )
        settings = HealthSettings(ping_interval_seconds=0.2, ping_timeout_seconds=0.1)
        adopted: list[Topology] = []
        async with contextlib.AsyncExitStack() as stack:
            drivers = []
            for number, version in ((1, 9), (2, 3)):
                identity = LocalIdentity(number, "c1", nodes[number - 1].address, 1)
                transport = TcpTransport(identity, TransportSettings(is_insecure=True))
                await transport.start("127.0.0.1", ports[number - 1])
                stack.push_async_callback(transport.close)
                monitor = HealthMonitor(
                    settings,
                    node_id=number,
                    cluster_id="c1",
                    topology=Topology(version, nodes),
                    now=time.monotonic(),
                )
                driver = HealthDriver(transport, monitor, time.monotonic, adopted.append, settings)
                drivers.append(driver)
            tasks = [asyncio.create_task(driver.run()) for driver in drivers]
            try:
                await until(lambda: bool(adopted))
                assert adopted == [Topology(9, nodes)]
                assert drivers[1].monitor.topology.version == 9
                with pytest.raises(RemoteError):
                    await drivers[0]._transport.call(nodes[1].address, PING, b"garbage", 5.0)
                newer = Topology(10, (*nodes, MemberNode(3, "127.0.0.1:1", 4, (), 1)))
                drivers[1].on_topology(newer)
                await until(lambda: drivers[0].monitor.topology.version == 10)
                await until(lambda: drivers[0].monitor.reports()[1].failures > 0)
                assert drivers[0].monitor.reports()[0].failures == 0
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scenario())
