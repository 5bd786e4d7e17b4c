"""One member of a cluster: wires transport, failure detector, groups, placement and health.

``Entrance`` (``joining``) has found the membership; ``Member`` lives from then until the node
stops. The protocols' decisions are in ``cluster``; what is here connects them to this node.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP, NodeId
from cluster.membership.admission import (
    Admit,
    Known,
    LeaderView,
    decide,
    join_command,
    join_response,
    member_nodes,
    refusal_response,
)
from cluster.membership.catalog import Routing, Topology
from cluster.membership.config import HealthSettings
from cluster.membership.driver import HealthDriver
from cluster.membership.health import HealthMonitor
from cluster.membership.message import JoinResponse, MemberGroup, Ping, encode_message
from cluster.metadata.command import NodeUpdate, decode_command, encode_command
from cluster.raft.message import Configuration
from cluster.reachability.config import ReachabilitySettings
from cluster.reachability.driver import ReachabilityDriver
from cluster.swim.config import SwimSettings
from cluster.swim.driver import SwimDriver
from cluster.swim.member import Member as SwimMember
from cluster.swim.member import MemberState
from cluster.transport.api import RemoteError, TransportError
from cluster.transport.methods import METADATA_PROPOSE, PING
from nodedb.member.leadership import DataLeadership
from nodedb.member.placing import PERIOD_SECONDS, Placing
from nodedb.member.snapshots import SnapshotTransfers
from nodedb.member.tuning import agreed_config
from nodedb.member.view import LiveClusterView
from nodedb.supervisor import Supervisor, loop_result
from nodedb.waiter import Waiter
from sql.errors import CannotConnectNow, SqlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.membership.core import Started
    from cluster.membership.message import JoinRequest
    from cluster.metadata.command import Command
    from cluster.transport.api import Peer
    from cluster.transport.faults import FaultPolicy
    from nodedb.catalog.metadata import MetadataState
    from nodedb.clock import Clock
    from nodedb.config import NodeConfig
    from nodedb.kv.replicator import Replicator, Schedule
    from nodedb.member.joining import Addresses, Entrance
    from nodedb.member.links import RaftLinks
    from nodedb.storage.engine import Engine
    from nodedb.storage.snapshot_receive import SnapshotInbox
    from nodedb.storage.snapshot_source import SnapshotSources
    from nodedb.txn.manager import TransactionManager

_LOGGER: Final = logging.getLogger("nodedb.member")
JOIN_SECONDS_MAX: Final = 5.0
PROPOSE_SECONDS_MAX: Final = 10.0
PROPOSE_ATTEMPTS: Final = 5
UPDATE_PERIOD_SECONDS: Final = 0.5
CATALOG_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.02
PROBE_SECONDS_MAX: Final = 5.0
DATA_VOTERS: Final = 3
"""The first so many nodes of a cluster vote in its data group."""


class _Proposed(msgspec.Struct, array_like=True):
    """The answer to METADATA_PROPOSE: the entry's index."""

    index: int


class Member:
    """A node of a cluster, from the moment its membership is known."""

    def __init__(
        self,
        *,
        config: NodeConfig,
        entrance: Entrance,
        started: Started,
        links: RaftLinks,
        replicator: Replicator,
        transactions: TransactionManager,
        metadata: MetadataState,
        engine: Engine,
        sources: SnapshotSources,
        inbox: SnapshotInbox,
        clock: Clock,
        schedule: Schedule,
        faults: FaultPolicy | None,
        reload_group: Callable[[int], None],
        on_foreign: Callable[[str], None],
    ) -> None:
        self._config = config
        self._entrance = entrance
        self._started = started
        self._links = links
        self._replicator = replicator
        self._metadata = metadata
        self._clock = clock
        self._schedule = schedule
        self._on_foreign = on_foreign
        self._topology = started.topology
        self._topology_written = -1
        self._applied_waiters: list[tuple[int, Waiter[None]]] = []
        self._joins_running = 0
        self.addresses: Addresses = entrance.addresses()
        self.transport = entrance.transport
        self.node_id = started.identity.node_id
        self.supervisor = Supervisor("member")
        self.leadership = DataLeadership(replicator, transactions, metadata, self.address_of)
        self.snapshots = SnapshotTransfers(
            replicator=replicator,
            engine=engine,
            sources=sources,
            inbox=inbox,
            transport=self.transport,
            supervisor=self.supervisor,
            clock=clock,
            address_of=self.address_of,
            reload=reload_group,
        )
        self.swim = SwimDriver(
            SwimSettings(),
            SwimMember(NodeId(self.node_id), entrance.identity.address, boot=entrance.incarnation),
            entrance.secret,
            started.identity.cluster_id,
            clock=replicator.now,
            faults=faults,
        )
        self.reachability = ReachabilityDriver(
            ReachabilitySettings(),
            self.transport.health,
            lambda address: self.transport.call(
                address, PING, encode_message(Ping(self.node_id, 0)), PROBE_SECONDS_MAX
            ),
        )
        self.placing = Placing(replicator, metadata, self.leadership, self._is_live)
        self.view = LiveClusterView(
            replicator, metadata, self.transport, self.liveness_of, self.subsystems
        )
        monitor = HealthMonitor(
            HealthSettings(),
            node_id=self.node_id,
            cluster_id=started.identity.cluster_id,
            topology=started.topology,
            now=replicator.now(),
        )
        self.health = HealthDriver(self.transport, monitor, replicator.now, self._on_adopted)
        metadata.on_cluster_change.append(lambda _: self._on_cluster_change())

    # Addresses

    def address_of(self, node_id: int) -> str | None:
        """Return a member's rpc address: as the metadata group says, or was last known."""
        record = self._metadata.cluster.nodes.get(node_id)
        if record is not None:
            pushed = self._topology.node(node_id)
            if pushed is not None and pushed.incarnation > record.incarnation:
                return pushed.address
            return record.rpc_address
        node = self._topology.node(node_id)
        return None if node is None else node.address

    def _node_of(self, address: str) -> int:
        for node_id, record in self._metadata.cluster.nodes.items():
            if record.rpc_address == address:
                return node_id
        return 0

    def _on_adopted(self, topology: Topology) -> None:
        """Keep a topology that a peer has pushed: the metadata group may not reach this node."""
        self._topology = topology
        self._entrance.file.save_topology(topology)

    def _on_cluster_change(self) -> None:
        """Follow the metadata group: topology and pins take effect on the running node."""
        cluster = self._metadata.cluster
        agreed = agreed_config(cluster, self._replicator.config)
        if agreed != self._replicator.config:
            self._replicator.reconfigure(agreed)
        if cluster.topology_version <= self._topology_written:
            return
        self._topology_written = cluster.topology_version
        topology = Topology(cluster.topology_version, member_nodes(cluster, self._member_groups()))
        self._topology = topology
        pins = {
            node_id: record.spki_pin.hex()
            for node_id, record in cluster.nodes.items()
            if record.spki_pin
        }
        self.transport.set_pins(pins)
        self.health.on_topology(topology)
        self._entrance.file.save_topology(topology)
        self._entrance.file.save_routing(
            Routing(cluster.routing_version, tuple(cluster.vshard_groups()), self._member_groups())
        )

    def _member_groups(self) -> tuple[MemberGroup, ...]:
        return tuple(
            MemberGroup(
                group_id,
                replica.core.leader_id,
                replica.core.configuration.voters,
                replica.core.configuration.learners,
            )
            for group_id, replica in sorted(self._replicator.replicas.items())
        )

    # Start

    async def start(self) -> None:
        """Take part: messages, ticks, probes, placement. Raises OSError for the UDP port."""
        self._links.start_snapshot = self.snapshots.start
        self._links.on_turns.append(self._on_turn)
        self._links.attach(self._replicator)
        self.snapshots.attach()
        self.transport.on_call(METADATA_PROPOSE, self._on_propose)
        self.transport.on_peer_lost(self._on_peer_lost)
        host = self._config.rpc_addr.host
        await self.swim.start(host, self._entrance.rpc_port)
        self.swim.subscribe(self._on_liveness)
        self.swim.join_addresses(
            node.address for node in self._started.topology.nodes if node.node_id != self.node_id
        )
        self.reachability.start()
        self.supervisor.start("ticks", self._tick())
        self.supervisor.start("health", self.health.run())
        self.supervisor.repeat("placement", PERIOD_SECONDS, self.placing.step)

    async def _tick(self) -> None:
        """Tick for ever; late ones are not made up for."""
        seconds = self._replicator.config.tick_ms / 1000
        while True:
            await asyncio.sleep(seconds)
            self._replicator.tick()

    async def catalog_is_there(self) -> None:
        """Wait until this node knows the catalog and who leads, so that clients may come.

        A node that restarts in a minority goes on without a leader after a while: what it can
        answer by itself it does. Raises CannotConnectNow (57P03) for a newcomer that hears nothing.
        """
        deadline = self._replicator.now() + CATALOG_SECONDS_MAX
        restart_deadline = self._replicator.now() + JOIN_SECONDS_MAX
        meta = self._replicator.replicas[METADATA_GROUP].core
        while True:
            has_catalog = self._metadata.catalog.schema_version > 0
            is_known = self.node_id in self._metadata.cluster.nodes
            has_leader = self.leadership.may_serve or self.leadership.leader_address is not None
            if has_catalog and is_known and has_leader and meta.leader_id:
                if self._votes_as_it_should() or self._replicator.now() > restart_deadline:
                    return
                await asyncio.sleep(POLL_SECONDS)
                continue
            now = self._replicator.now()
            if has_catalog and is_known and now > restart_deadline:
                return
            if now > deadline:
                raise CannotConnectNow(
                    f"node {self.node_id} has heard nothing of the metadata group for "
                    f"{CATALOG_SECONDS_MAX:.0f} s"
                )
            await asyncio.sleep(POLL_SECONDS)

    def _votes_as_it_should(self) -> bool:
        """Tell whether this node counts for the cluster's safety as its settings let one expect.

        A joiner of a cluster of three or more seeds waits a moment for its promotion: whoever sees
        all of them ready may lose one.
        """
        if self._started.kind != "join" or self._config.role != "voter":
            return True
        order = self._metadata.cluster.nodes[self.node_id].join_order
        if len(self._config.seeds.addresses) < order or order > DATA_VOTERS:
            return True
        return all(
            self.node_id in replica.core.configuration.voters
            for replica in self._replicator.replicas.values()
        )

    def serve(self, addresses: Addresses) -> None:
        """Answer joins, and tell the cluster where this node is."""
        self.addresses = addresses
        driver = self._entrance.driver
        assert driver is not None
        driver.serve(self._started.identity, self._answer_join, self._on_foreign)
        self.supervisor.start("address", self._tell_addresses())

    async def _tell_addresses(self) -> None:
        """Bring this node's record in the metadata group up to date, however long it takes."""
        while True:
            record = self._metadata.cluster.nodes.get(self.node_id)
            wanted = self.addresses
            if record is not None:
                told = record.rpc_address, record.sql_address, record.http_address
                if (*told, record.incarnation) == (*wanted, self._entrance.incarnation):
                    return
                update = NodeUpdate(
                    self.node_id,
                    record.store_id,
                    wanted.rpc,
                    wanted.sql,
                    wanted.http,
                    self._config.locality,
                    self._config.role,
                    spki_pin=bytes.fromhex(self.transport.spki_pin),
                    incarnation=self._entrance.incarnation,
                )
                with contextlib.suppress(TransportError, SqlError):
                    index = await loop_result(self.propose_metadata(update))
                    refusal = self._metadata.refusal(index)
                    if refusal:
                        _LOGGER.error(
                            "the cluster does not take this node's addresses: %s", refusal
                        )
                        return
            await asyncio.sleep(UPDATE_PERIOD_SECONDS)

    # Turns

    def _on_turn(self) -> None:
        self.leadership.on_turn()
        if self._applied_waiters:
            applied = self._replicator.applied_index(METADATA_GROUP)
            ready = [waiter for index, waiter in self._applied_waiters if index <= applied]
            self._applied_waiters = [w for w in self._applied_waiters if w[0] > applied]
            for waiter in ready:
                waiter.set_result(None)

    # Liveness

    def _on_liveness(self, node_id: NodeId, old: MemberState | None, new: MemberState) -> None:
        """Wake the groups of a node that is suspected: its hints as a leader are worth nothing."""
        if new is not MemberState.ALIVE:
            _LOGGER.info("node %d is %s", node_id, new.name.lower())
            self._replicator.on_node_suspected(node_id)
        elif old is not None:
            _LOGGER.info("node %d is alive", node_id)

    def _on_peer_lost(self, address: str) -> None:
        node_id = self._node_of(address)
        if node_id:
            self._replicator.on_peer_unreachable(node_id)
            self._replicator.on_node_suspected(node_id)

    def liveness_of(self, node_id: int) -> str:
        """Return SWIM's word about a node, "" while it knows none."""
        member = self.swim.member(NodeId(node_id))
        return "" if member is None else member.state.name.lower()

    def _is_live(self, node_id: int) -> bool:
        return self.liveness_of(node_id) in ("alive", "")

    def subsystems(self) -> list[tuple[str, bool, str]]:
        """Return (name, is running, detail) of each."""
        failed = self.supervisor.last_failure
        quorum = self.view.has_quorum()
        return [
            ("transport", True, f"listening on {self._entrance.identity.address}"),
            ("swim", True, f"{len(self.swim.members())} members"),
            ("raft", quorum, "" if quorum else "a group has no leader that a quorum follows"),
            ("member", True, failed),
        ]

    # Joining nodes

    async def _answer_join(self, peer: Peer, request: JoinRequest) -> JoinResponse:
        """Take a node in, or say why not."""
        # What the certificate says counts, not what the request does.
        request = msgspec.structs.replace(request, spki_pin=bytes.fromhex(peer.spki_pin))
        refusal = ""
        for _ in range(2):
            verdict = decide(request, self._metadata.cluster, self._leader_view())
            if isinstance(verdict, Known):
                return await self._welcome(verdict.node_id)
            if not isinstance(verdict, Admit):
                sentence = getattr(verdict, "sentence", "")
                if sentence:
                    self._note_refusal(request.address, sentence)
                return refusal_response(verdict)
            now_ms = self._clock.wall_us() // 1000
            command = join_command(verdict, request, now_ms)
            try:
                index = await loop_result(self._propose_here(command))
            except SqlError as error:
                return JoinResponse(success=False, error=str(error))
            refusal = self._metadata.refusal(index)
            if not refusal:
                _LOGGER.info("node %d at %s joins", verdict.node_id, request.address)
                return await self._welcome(verdict.node_id)
        self._note_refusal(request.address, refusal)
        return JoinResponse(success=False, error=refusal, is_final=False)

    def _note_refusal(self, address: str, sentence: str) -> None:
        told = self.view.more_refusals
        if (address, sentence) not in told:
            _LOGGER.warning("refused the node at %s: %s", address, sentence)
            told.append((address, sentence))
            del told[:-100]

    def _leader_view(self) -> LeaderView:
        leader = self._replicator.replicas[METADATA_GROUP].core.leader_id
        setting = self._metadata.cluster.setting("require_join_token")
        return LeaderView(
            self.node_id,
            leader,
            self.address_of(leader) or "",
            self._clock.wall_us() // 1000,
            self._entrance.secret,
            require_join_token=setting == "on",
        )

    async def _welcome(self, node_id: int) -> JoinResponse:
        """Answer with the state once the node has a replica of the metadata group."""
        deadline = self._replicator.now() + JOIN_SECONDS_MAX
        core = self._replicator.replicas[METADATA_GROUP].core
        while self._replicator.now() < deadline:
            configuration = core.applied_configuration
            if node_id in configuration.voters or node_id in configuration.learners:
                break
            self.placing.step()
            await asyncio.sleep(POLL_SECONDS)
        replicas = self._replicator.replicas
        return join_response(
            node_id,
            self._metadata.cluster,
            {group_id: replica.core.configuration for group_id, replica in replicas.items()},
            {group_id: replica.core.leader_id for group_id, replica in replicas.items()},
        )

    # Metadata proposals

    async def propose_metadata(self, command: Command) -> int:
        """Have a command ordered by whoever leads the metadata group; its index, applied here.

        Raises CannotConnectNow (57P03) when nobody leads within the budget, 40003 when the outcome
        is unknown.
        """
        core = self._replicator.replicas[METADATA_GROUP].core
        for attempt in range(PROPOSE_ATTEMPTS):
            if core.is_leader:
                return await self._propose_here(command)
            address = self.address_of(core.leader_id) if core.leader_id else None
            if address is not None:
                answer = await self.transport.call(
                    address, METADATA_PROPOSE, encode_command(command), PROPOSE_SECONDS_MAX
                )
                index = msgspec.msgpack.decode(answer, type=_Proposed).index
                if index:
                    await self._applied(index)
                    return index
            pause: Waiter[None] = Waiter()
            self._schedule.later(0.05 * 2**attempt, partial(_wake, pause))
            await pause
        raise CannotConnectNow(
            "the metadata group has no leader",
            detail=f"Group {METADATA_GROUP} has no quorum, or is electing.",
        )

    async def _propose_here(self, command: Command) -> int:
        return await self._replicator.propose(METADATA_GROUP, encode_command(command), command)

    async def _on_propose(self, peer: Peer, payload: bytes) -> bytes:
        """Order a member's command; index 0: this node does not lead."""
        del peer
        if not self._replicator.replicas[METADATA_GROUP].core.is_leader:
            return msgspec.msgpack.encode(_Proposed(0))
        try:
            index = await self._propose_here(decode_command(payload))
        except SqlError as error:
            raise RemoteError(error.sqlstate, error.message) from error
        return msgspec.msgpack.encode(_Proposed(index))

    async def _applied(self, index: int) -> None:
        if self._replicator.applied_index(METADATA_GROUP) >= index:
            return
        waiter: Waiter[None] = Waiter()
        self._applied_waiters.append((index, waiter))
        await waiter

    # Drain and stop

    def hand_over(self) -> None:
        """Give the groups led here to other voters; called again while one is left."""
        self.placing.is_handing_over = True
        for group_id in (FIRST_DATA_GROUP, *sorted(self._replicator.replicas)):
            core = self._replicator.replicas[group_id].core
            if not core.is_leader or core.transferring_to:
                continue
            heirs = [
                (progress.match_index, peer)
                for peer, progress in core.progress.items()
                if peer in core.configuration.voters and self._is_live(peer)
            ]
            if heirs:
                self._replicator.transfer_leadership(group_id, max(heirs)[1])

    def lease_count(self) -> int:
        """Return how many groups led here have another live voter."""
        count = 0
        for replica in self._replicator.replicas.values():
            core = replica.core
            others = (p for p in core.configuration.voters if p != self.node_id)
            count += core.is_leader and any(self._is_live(peer) for peer in others)
        return count

    async def stop(self) -> None:
        """Leave in order: the others hear of it, then everything ends."""
        with contextlib.suppress(OSError):
            await self.swim.leave()
        driver = self._entrance.driver
        if driver is not None:
            await driver.close()
        await self.reachability.close()
        await self.supervisor.stop()
        await self.swim.close()
        await self.transport.close()


def _wake(waiter: Waiter[None]) -> None:
    waiter.set_result(None)


def founding_configuration(started: Started) -> Configuration:
    """Return the configuration of a replica that is new: its founder votes alone.

    Any other one knows nobody until the log, or a snapshot, tells it the group's members.
    """
    identity = started.identity
    return Configuration((identity.node_id,) if identity.is_founder else (), ())
