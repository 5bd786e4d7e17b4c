"""One node: builds the subsystems in order, starts, drains and stops them.

Order of start: HTTP (answering "starting"), store, engine, log, membership (with ``--join``, or a
store that belongs to a cluster), groups (replay), catalog (bootstrap on an empty store), sessions,
SQL. A fault in any of them ends the start with an error that names it; what was opened is closed
again in reverse order. A fatal storage error later stops the node at once, without acknowledging
anything more.

The end is a drain (``nodedb.drain``), begun by SIGTERM, over HTTP, or by ``nodedb node drain``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import os
import secrets
import signal
import ssl
from typing import TYPE_CHECKING, Any, Final

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP
from cluster.membership.core import StartFailed
from cluster.metadata.command import encode_command
from cluster.metadata.oracle import TimestampOracle, pack_timestamp
from cluster.transport.driver import CredentialsError
from cluster.transport.methods import EXECUTE
from nodedb.catalog.metadata import MetadataState
from nodedb.catalog.virtual import virtual_tables
from nodedb.certificates import CertificateError
from nodedb.clock import Clock, FaultClock, SystemClock, boot_seconds
from nodedb.collecting import Collection
from nodedb.config.node_config import RELOADED_SETTINGS, Address, changed_settings
from nodedb.drain import Drain, DrainSettings
from nodedb.errors import DiskFull, StorageError
from nodedb.faults import NodeFaults
from nodedb.founding import first_command
from nodedb.http.phases import StartPhases
from nodedb.http.port import HttpPort
from nodedb.http.services import HttpServices
from nodedb.http.starting import StartingResponder, listen
from nodedb.http.tokens import TokenIssuer
from nodedb.kv.fault_log import FaultDirectory, FaultFlusher
from nodedb.kv.fault_points import PassPlace, fault_points, pass_none
from nodedb.kv.group import DataGroup
from nodedb.kv.replicator import Replicator, Timer
from nodedb.member.joining import Entrance
from nodedb.member.links import RaftLinks
from nodedb.member.member import Member, founding_configuration
from nodedb.member.tuning import agreed_config, raft_config
from nodedb.metrics import MetricsRegistry
from nodedb.metrics.certificates import CertificateFiles, collect_certificates
from nodedb.metrics.cluster import (
    collect_membership,
    collect_raft,
    collect_swim,
    collect_transport,
)
from nodedb.metrics.sql import collect_sql
from nodedb.metrics.storage import collect_storage, collect_wal
from nodedb.pgwire.auth import make_scram_secret
from nodedb.pgwire.config import PgWireSettings
from nodedb.pgwire.driver import PgWireServer
from nodedb.pgwire.executor import FAULT_FORWARD, ExecutorHost, forward_to_itself
from nodedb.reload import Reloads
from nodedb.session.manager import SessionManager
from nodedb.session.settings import BY_NAME, node_setting_ms
from nodedb.storage.lmdb_engine import LmdbEngine
from nodedb.storage.log_file import RealLogDirectory
from nodedb.storage.membership_file import MembershipFile
from nodedb.storage.snapshot_receive import DIRECTORY_NAME, SnapshotInbox
from nodedb.storage.snapshot_source import SnapshotSources
from nodedb.storage.store import Store
from nodedb.storage.wal import Wal
from nodedb.supervisor import loop_result
from nodedb.txn.checks import ALL_CHECKS, checks_of
from nodedb.txn.manager import TransactionManager
from sql.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster.membership.core import Started
    from cluster.metadata.command import JoinTokenTransition
    from cluster.metadata.outcome import Outcome
    from nodedb.config import NodeConfig
    from nodedb.storage.log_file import LogDirectory

_LOGGER: Final = logging.getLogger("nodedb")
START_FAILURES: Final = (
    StorageError,
    ValueError,
    StartFailed,
    CertificateError,
    CredentialsError,
    SqlError,
)
"""What ends a start, or a node, with a sentence for the operator."""
LOOPBACK_NETWORKS: Final = ("127.0.0.0/8", "::1/128")


class LoopSchedule:
    """The event loop's timers for the layers that know no asyncio."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def soon(self, callback: Callable[[], None]) -> None:
        """Call at the end of this turn."""
        self._loop.call_soon(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call after a delay."""
        return self._loop.call_later(seconds, callback)


class Node:
    """A running node. ``run`` returns the exit status."""

    def __init__(
        self,
        config: NodeConfig,
        clock: Clock | None = None,
        read_config: Callable[[], NodeConfig] | None = None,
    ) -> None:
        """Make a node of its settings; ``read_config`` reads them again at SIGHUP."""
        self._config = config
        self._read_config = read_config
        real = clock or SystemClock()
        self._clock = FaultClock(real) if config.fault_injection and clock is None else real
        self._fatal: StorageError | None = None
        self._closers: list[Callable[[], None]] = []
        self._phases = StartPhases()
        self._reloads = Reloads()
        self._drain = Drain(_drain_settings(config), self, self._clock)
        self._faults = NodeFaults(self._clock) if config.fault_injection else None
        self._member: Member | None = None
        self._entrance: Entrance | None = None
        self._started: Started | None = None
        self._exit_reason = ""
        self.node_id = config.node_id or 1
        self._http = HttpPort(self._make_services())

    async def run(self, announce: Callable[[str], None]) -> int:
        """Start, announce readiness, serve until told to stop, drain.

        Raises StorageError, OSError, StartFailed, CredentialsError on a failed start.
        """
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(
                signal_number, self._drain.start, signal.Signals(signal_number).name
            )
        loop.add_signal_handler(signal.SIGHUP, self._reloads.run)
        try:
            if await self._start_unless_stopped(LoopSchedule(loop)):
                announce(self._ready_line())
                await self._drain.run()
                await self._stop()
        except BaseException as error:
            self._phases.fail(str(error))
            raise
        finally:
            await self._leave()
            self._close()
        if self._fatal is not None:
            raise self._fatal
        if self._exit_reason:
            raise StorageError(self._exit_reason)
        return 0

    def request_stop(self) -> None:
        """Begin to drain; harmless when repeated."""
        self._drain.start("asked to stop")

    async def _start_unless_stopped(self, schedule: LoopSchedule) -> bool:
        """Start; False when a signal ended the start, which may wait for other nodes."""
        loop = asyncio.get_running_loop()
        starting = loop.create_task(self._start(schedule))
        stopping = loop.create_task(self._drain.started())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return not starting.cancelled()

    # Start

    async def _start(self, schedule: LoopSchedule) -> None:
        config = self._config
        listener = listen(config.http_addr.host, config.http_addr.port)
        self._closers.append(listener.close)
        responder = StartingResponder(listener, self._phases)
        responder.start()
        is_alone = True
        try:
            self._phases.enter("wal_recovery")
            pass_place = fault_points(os.environ) if config.fault_injection else None
            self._open_storage(pass_place)
            is_alone = not (config.is_clustered or self._is_member())
            if is_alone:
                self._open_groups(schedule, pass_place)
        finally:
            responder.stop()
        await self._http.start(listener)
        if not is_alone:
            await self._enter_cluster()
            self._open_groups(schedule, pass_place)
        self._open_sessions(schedule)
        if self._entrance is not None:
            await self._take_part(schedule)
        else:
            self.sessions.schema_changes.resume()
            if config.fault_injection and os.environ.get(FAULT_FORWARD):
                forward_to_itself(self.sessions, self._sql_settings())
        await self._start_sql()
        if self._member is not None:
            assert self._entrance is not None
            self._member.serve(self._entrance.addresses(self.sql.port, self._http.port))
        self._collection.schedule_rounds()
        self._register_reloads()
        self._phases.finish()

    def _is_member(self) -> bool:
        """Tell whether the store belongs to a node of a cluster, whatever the settings say."""
        saved = MembershipFile(self.store).load()
        return saved.topology is not None

    async def _enter_cluster(self) -> None:
        """Find this node's membership, listening for peers from now on."""
        self._phases.enter("cluster_catalog_open")
        entrance = self._entrance = Entrance(
            self._config,
            self.store,
            now=boot_seconds,
            faults=None if self._faults is None else self._faults.policy,
            on_phase=lambda label, detail: _LOGGER.info("%s: %s", label, detail),
        )
        self._started = await entrance.find()
        self.node_id = self._started.identity.node_id

    def _open_groups(self, schedule: LoopSchedule, pass_place: PassPlace | None) -> None:
        """Read the log back into the groups, and make the first catalog of an empty store."""
        self._phases.enter("raft_metadata_replay")
        started, entrance = self._started, self._entrance
        self._links = (
            None
            if entrance is None
            else RaftLinks(entrance.transport, self._address_of, self.node_id)
        )
        self.metadata = MetadataState(self.engine)
        self.replicator = Replicator(
            self.wal,
            self.engine,
            schedule,
            self._on_fatal,
            pass_place or pass_none,
            node_id=self.node_id,
            config=agreed_config(self.metadata.cluster, raft_config(self._config)),
            now=boot_seconds,
            seed=secrets.randbits(32),
            outside=self._links,
        )
        self.group = DataGroup(FIRST_DATA_GROUP, self.engine)
        founding = None if started is None else founding_configuration(started)
        self.replicator.start_group(METADATA_GROUP, self.metadata, founding)
        self._phases.enter("data_groups_replay")
        self.replicator.start_group(FIRST_DATA_GROUP, self.group, founding)
        for group in () if started is None else started.routing.groups:
            if group.group_id > FIRST_DATA_GROUP:
                machine = DataGroup(group.group_id, self.engine)
                self.replicator.start_group(group.group_id, machine, founding)
        self._closers.append(self.replicator.close)
        oracle = TimestampOracle(
            max(self.metadata.timestamp_window, self.group.last_timestamp, pack_timestamp(1))
        )
        self.transactions = TransactionManager(
            group=self.group,
            replicator=self.replicator,
            oracle=oracle,
            clock=self._clock,
            schedule=schedule,
            checks=checks_of(os.environ) if self._config.fault_injection else ALL_CHECKS,
            snapshot_age_seconds_max=node_setting_ms(self._config.variables, "max_snapshot_age")
            / 1000,
        )
        if started is not None:
            self.transactions.is_replicated = True
            self.transactions.timestamps.is_replicated = True
            self.transactions.tenure = 0
            self.transactions.outcome_of = self.metadata.refusal
        self._collection = Collection(
            self.transactions, self._clock, schedule, self._config.gc_ttl_seconds
        )
        may_found = started is None or started.identity.is_founder
        if may_found and not self.metadata.catalog.schema_version:
            self._bootstrap()
        if not self.store.manifest.cluster_id:
            self.store.set_cluster_id(secrets.token_hex(8))

    def _address_of(self, node_id: int) -> str | None:
        return None if self._member is None else self._member.address_of(node_id)

    def _open_sessions(self, schedule: LoopSchedule) -> None:
        config = self._config
        self.sessions = SessionManager(
            transactions=self.transactions,
            metadata=self.metadata,
            virtual_tables=virtual_tables(),
            schedule=schedule,
            clock=self._clock,
            make_scram_secret=make_scram_secret,
            collect_garbage=self.collect_garbage,
            defaults=_session_defaults(config),
            node_id=self.node_id,
            rpc_address=str(config.advertise_rpc or config.rpc_addr),
            connections_max=config.max_connections,
        )
        self.metrics.add("sql", lambda: collect_sql(self.sessions))
        self.metrics.add("storage", lambda: collect_storage(self.transactions))
        self.metrics.add("wal", lambda: collect_wal(self.wal))
        self._services.cluster = self.sessions.cluster

    async def _take_part(self, schedule: LoopSchedule) -> None:
        """Become an active member: replicate, elect, and wait for the catalog."""
        self._phases.enter("warm_peers")
        assert self._entrance is not None
        assert self._started is not None
        assert self._links is not None
        sessions = self.sessions
        directory = os.path.join(self.store.path, DIRECTORY_NAME)
        member = self._member = Member(
            config=self._config,
            entrance=self._entrance,
            started=self._started,
            links=self._links,
            replicator=self.replicator,
            transactions=self.transactions,
            metadata=self.metadata,
            engine=self.engine,
            sources=SnapshotSources(self.engine, lambda: secrets.randbits(64)),
            inbox=SnapshotInbox(
                RealLogDirectory(directory), disk_reserve_bytes=self._config.disk_reserve_bytes
            ),
            clock=self._clock,
            schedule=schedule,
            faults=None if self._faults is None else self._faults.policy,
            reload_group=self._reload_group,
            on_foreign=self._on_foreign,
        )
        leadership = member.leadership
        leadership.on_begin.append(sessions.sequences.forget_all)
        leadership.on_begin.append(sessions.schema_changes.resume)
        leadership.on_end.append(sessions.schema_changes.stop)
        sessions.cluster = self._services.cluster = member.view
        sessions.propose_metadata = member.propose_metadata

        async def order(command: JoinTokenTransition) -> Outcome | None:
            index: int = await loop_result(member.propose_metadata(command))
            return self.metadata.outcome(index)

        self._services.issue_token = TokenIssuer(self._entrance.secret, order, self._clock)
        sessions.forward_by(leadership, member.transport)
        self.executors = ExecutorHost(sessions, self._sql_settings())
        member.transport.on_stream(EXECUTE, self.executors.serve)
        self.metrics.add("raft", lambda: collect_raft(member.view))
        self.metrics.add("transport", lambda: collect_transport(member.view))
        self.metrics.add("membership", lambda: collect_membership(member.view))
        swim = member.swim
        self.metrics.add("swim", lambda: collect_swim(swim.counters, lambda: swim.awareness_score))
        await member.start()
        self._phases.enter("health_loop_start")
        await member.catalog_is_there()

    def _reload_group(self, group_id: int) -> None:
        """Have a group's machine read its state again: a snapshot has replaced it."""
        machine = self.replicator.replicas[group_id].machine
        assert isinstance(machine, (MetadataState, DataGroup))
        machine.reload()

    def _on_foreign(self, sentence: str) -> None:
        """Stop: this store's cluster is not the one that the seeds are members of."""
        _LOGGER.critical("%s", sentence)
        self._exit_reason = sentence
        self._drain.stop_now()

    def _open_storage(self, pass_place: PassPlace | None) -> None:
        config = self._config
        self.store = Store(str(config.store))
        self._closers.append(self.store.close)
        engine_applied: list[LmdbEngine] = []
        directory: LogDirectory = self.store.log_directory()
        faulty = None if pass_place is None else FaultDirectory(directory, pass_place)
        self.wal = Wal(
            faulty or directory,
            segment_bytes=config.wal_segment_bytes,
            flusher=None if pass_place is None else FaultFlusher(pass_place),
            compact_limit=lambda group_id: engine_applied[0].recyclable_applied(group_id),  # noqa: PLW0108  bound later
        )
        if faulty is not None:
            faulty.is_recovering = False
            if self._faults is not None:
                self._faults.directory = faulty
        self._closers.append(self.wal.close)
        self.engine = LmdbEngine(
            self.store.engine_path,
            map_bytes=config.map_bytes,
            disk_reserve_bytes=config.disk_reserve_bytes,
            fsynced_index=self.wal.durable_index,
        )
        engine_applied.append(self.engine)
        self._closers.append(self.engine.close)

    def _bootstrap(self) -> None:
        """Give an empty store its first catalog, durably, before anybody connects."""
        entrance, started = self._entrance, self._started
        command = first_command(self._config, entrance, started)
        waiter = self.replicator.propose(METADATA_GROUP, encode_command(command), command)
        self.replicator.flush()
        if self._fatal is not None:
            raise self._fatal
        if waiter.error is not None:
            raise DiskFull(f"the first catalog cannot be written: {waiter.error}")

    def _sql_settings(self) -> PgWireSettings:
        config = self._config
        insecure = (*LOOPBACK_NETWORKS, *config.insecure_network) if config.insecure else ()
        return PgWireSettings(
            max_connections=config.max_connections,
            drain_timeout_seconds=config.drain_seconds,
            insecure_networks=insecure,
        )

    async def _start_sql(self) -> None:
        config = self._config
        self.sql = PgWireServer(self.sessions, self._sql_settings())
        context, certificate = _tls(config.certs_dir)
        host, port = config.sql_addr
        try:
            await self.sql.start(host, port, context, certificate)
        except OSError as error:
            raise OSError(
                error.errno,
                f"could not listen on {host}:{port} (sql): {os.strerror(error.errno or 0)}",
            ) from error
        self.sessions.front_end = self.sql
        self._tls_context = context

    def _register_reloads(self) -> None:
        """Say what SIGHUP reads again."""
        if self._read_config is not None:
            read_config = self._read_config
            self._reloads.register("settings", lambda: self._take_settings(read_config()))
        directory, context = self._config.certs_dir, self._tls_context
        if directory is not None and context is not None:

            def reload_clients() -> str:
                context.load_cert_chain(directory / "node.crt", directory / "node.key")
                return "certificate for clients"

            self._reloads.register("sql certificate", reload_clients)
        if self._member is not None:
            transport = self._member.transport

            def reload_nodes() -> str:
                certificates = transport.reload()
                return f"{len(certificates)} certificates between nodes"

            self._reloads.register("node certificates", reload_nodes)
        if directory is not None:
            files = CertificateFiles(directory)
            self.metrics.add("certificates", lambda: collect_certificates(files.expiries))

    def _take_settings(self, config: NodeConfig) -> str:
        """Take over what may change in a running node; says what did, and what needs a restart."""
        changed = changed_settings(self._config, config)
        taken = {name: getattr(config, name) for name in changed if name in RELOADED_SETTINGS}
        self._config = dataclasses.replace(self._config, **taken)
        self.sessions.set_defaults(_session_defaults(self._config))
        self._drain.configure(_drain_settings(self._config))
        texts = [f"{name} is {value}" for name, value in taken.items()]
        return "; ".join(texts + [f"{n} needs a restart" for n in changed if n not in taken])

    def _make_services(self) -> HttpServices:
        config = self._config
        self.metrics = MetricsRegistry()
        self._services = HttpServices(
            phases=self._phases,
            drain=self._drain,
            metrics=self.metrics,
            node_id=lambda: self.node_id,
            cluster_id=lambda: self.store.manifest.cluster_id,
            info=self._info,
            connection_count=lambda: len(self.sessions.sessions),
            durable_index=lambda: self.wal.durable_index(FIRST_DATA_GROUP),
            admin_token=lambda: config.http_admin_token or "",
            faults=self._faults,
            debug_enabled=config.debug,
            raft_detail=self._raft_detail,
        )
        return self._services

    def _info(self) -> dict[str, Any]:
        """Return what an operator needs to let another node join this one."""
        return (
            self._entrance.info(self.sql.port, self._http.port)
            if self._entrance
            else {
                "node_id": self.node_id,
                "cluster_id": self.store.manifest.cluster_id,
                "store_id": self.store.manifest.store_id,
            }
        )

    def _raft_detail(self, group_id: int) -> dict[str, Any] | None:
        replica = self.replicator.replicas.get(group_id)
        if replica is None:
            return None
        core = replica.core
        return {
            "role": str(core.role),
            "term": core.term,
            "leader_id": core.leader_id,
            "commit_index": core.commit_index,
            "applied_index": replica.applied_index,
            "lease_seconds_left": max(core.lease_until - boot_seconds(), 0.0)
            if core.lease_until < math.inf
            else None,
            "is_quiescent": core.is_quiescent,
            "proposed": len(replica.proposed),
            "progress": {
                str(peer): {"state": str(p.state), "match": p.match_index, "next": p.next_index}
                for peer, p in sorted(core.progress.items())
            },
        }

    def _ready_line(self) -> str:
        config = self._config
        sql = config.advertise_sql or Address(config.sql_addr.host, self.sql.port)
        http = config.advertise_http or Address(config.http_addr.host, self._http.port)
        rpc = str(config.advertise_rpc or config.rpc_addr)
        if self._entrance is not None:
            rpc = self._entrance.identity.address
        return (
            f"ready sql=postgresql://nodedb@{sql}/nodedb http=http://{http} rpc={rpc} "
            f"node={self.node_id} cluster={self.store.manifest.cluster_id}"
        )

    async def collect_garbage(self) -> None:
        """Collect everything the watermark allows, now (VACUUM)."""
        await self._collection.collect_now()

    # Drain; implements ``nodedb.drain.DrainTarget``

    def become_unready(self) -> None:
        """Health says 503 from now on, because the drain has begun."""

    def stop_listening(self) -> None:
        """Take no new client connections."""
        self.sessions.is_draining = True
        self.sql.stop_listening()

    def end_sessions_when_idle(self) -> None:
        """End idle sessions, the others at the end of their transaction."""
        self.sql.end_sessions_when_idle()

    def end_sessions_now(self) -> None:
        """End every session, amid its statement if need be."""
        self.sql.end_sessions_now()

    def hand_over_leases(self) -> None:
        """Ask for the transfer of each group led here."""
        if self._member is not None:
            self._member.hand_over()

    def connection_count(self) -> int:
        """Return how many client connections are still open."""
        return self.sql.open_count

    def lease_count(self) -> int:
        """Return how many groups are led here that have another live voter."""
        return 0 if self._member is None else self._member.lease_count()

    # Stop

    def _on_fatal(self, error: StorageError) -> None:
        """Stop without another acknowledgement: the log or the engine failed."""
        _LOGGER.critical("fatal storage error, stopping: %s", error)
        self._fatal = error
        self._drain.stop_now()

    async def _stop(self) -> None:
        """Everything that still has to be said, after the drain."""
        if self._fatal is None:
            self.sessions.schema_changes.stop()
            if self.transactions.tenure:
                self.sessions.sequences.write_back()
        await self.sql.close()

    async def _leave(self) -> None:
        """Stop listening and talking, also after a start that failed."""
        with contextlib.suppress(OSError):
            if self._member is not None:
                await self._member.stop()
            elif self._entrance is not None:
                await self._entrance.transport.close()
        await self._http.close()

    def _close(self) -> None:
        while self._closers:
            close = self._closers.pop()
            with contextlib.suppress(StorageError):
                close()


def _drain_settings(config: NodeConfig) -> DrainSettings:
    return DrainSettings(
        unready_seconds=config.drain_unready_seconds,
        connections_seconds=config.drain_connections_seconds,
        transactions_seconds=config.drain_seconds,
        leases_seconds=config.drain_leases_seconds,
    )


def _session_defaults(config: NodeConfig) -> dict[str, str]:
    return {k: v for k, v in config.variables.items() if k.lower() in BY_NAME}


def _tls(certs_dir: Path | None) -> tuple[ssl.SSLContext | None, bytes]:
    """Load node.crt and node.key (and ca.crt for client certificates) from a directory."""
    if certs_dir is None:
        return None, b""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate = certs_dir / "node.crt"
    context.load_cert_chain(certificate, certs_dir / "node.key")
    return context, ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii"))
