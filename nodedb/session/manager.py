"""All sessions of a node, and what they share. The door for front ends (``SessionFactory``)."""

from __future__ import annotations

import secrets
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Protocol

from cluster.ids import METADATA_GROUP
from cluster.metadata.command import encode_command
from nodedb.catalog import acl
from nodedb.catalog.changes import IdAllocator
from nodedb.catalog.session_catalog import SessionCatalog
from nodedb.clock import sql_timestamp
from nodedb.gateway.leadership import AlwaysLeader
from nodedb.gateway.plan_cache import PlanCache
from nodedb.gateway.process_ids import ProcessIds, node_of
from nodedb.gateway.signals import Signal
from nodedb.latency import Latency
from nodedb.schema_change.build import BuildServices
from nodedb.schema_change.manager import SchemaChanges
from nodedb.session.api import Credential
from nodedb.session.block import Outcomes
from nodedb.session.cluster_view import SoloClusterView
from nodedb.session.forwarding import Forwarding
from nodedb.session.lock_rows import SessionLockNames
from nodedb.session.notifications import NotificationHub
from nodedb.session.session import Session
from nodedb.session.settings import Settings
from nodedb.session.statement_statistics import StatementStatistics
from nodedb.txn.manager import young_snapshot
from nodedb.txn.sequences import Sequences
from sql.ast.ddl import Drop
from sql.ast.query import QualifiedName
from sql.catalog.descriptor import Database, Role, Schema
from sql.errors import (
    CannotConnectNow,
    InsufficientPrivilege,
    InvalidAuthorizationSpecification,
    InvalidCatalogName,
    ObjectNotInPrerequisiteState,
    SqlError,
    TooManyConnections,
)
from sql.planner.tables import table_access

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cluster.metadata.command import Command
    from cluster.transport.api import Transport
    from nodedb.catalog.metadata import MetadataState
    from nodedb.catalog.session_catalog import VirtualTables
    from nodedb.clock import Clock
    from nodedb.gateway.leadership import Leadership
    from nodedb.gateway.message import Prime
    from nodedb.kv.replicator import Schedule
    from nodedb.session.cluster_view import ClusterView
    from nodedb.txn.manager import TransactionManager
    from nodedb.txn.transaction import Transaction
    from sql.catalog.descriptor import Table
    from sql.executor.store import TableAccess

_NOT_SETTINGS: Final = ("user", "database", "replication")
ROOM_CHECK_SECONDS: Final = 0.1
"""What is written meanwhile fits into the reserves that the check keeps."""


class FrontEnd(Protocol):
    """What sessions ask of the server their clients are connected to."""

    def deliver_asynchronous(self, process_id: int) -> None:
        """Send what a session has pending for its idle client."""

    def terminate(self, process_id: int, error: SqlError) -> bool:
        """End a session's connection with a FATAL error."""

    def client_waits(self) -> dict[int, str]:
        """Return which sessions wait for their clients: ClientRead or ClientWrite by session."""


class SessionManager:
    """The sessions of one node and the services they share."""

    def __init__(
        self,
        *,
        transactions: TransactionManager,
        metadata: MetadataState,
        virtual_tables: VirtualTables,
        schedule: Schedule,
        clock: Clock,
        make_scram_secret: Callable[[str], str],
        collect_garbage: Callable[[], Awaitable[None]],
        defaults: dict[str, str],
        node_id: int,
        rpc_address: str,
        connections_max: int,
    ) -> None:
        self.transactions = transactions
        self.metadata = metadata
        self.virtual_tables = virtual_tables
        self.schedule = schedule
        self.clock = clock
        self.started_us = clock.wall_us()
        self.make_scram_secret = make_scram_secret
        self.collect_garbage = collect_garbage
        self.plans = PlanCache()
        self.sequences = Sequences(transactions)
        self.notifications = NotificationHub()
        self.statement_statistics = StatementStatistics()
        self.allocate_id = IdAllocator(metadata.catalog)
        metadata.on_catalog_change.append(self.allocate_id.observe)
        self.sessions: dict[int, Session] = {}
        self.outcomes: defaultdict[int, Outcomes] = defaultdict(Outcomes)
        """Ends of transactions by database."""
        transactions.locks.names = SessionLockNames(self)
        transactions.needed_snapshots = self._needed_snapshots
        self.node_id = node_id
        self.rpc_address = rpc_address
        self.leadership: Leadership = AlwaysLeader()
        """Whether this node serves rows; see ``forward_by``."""
        self.executor_leadership: Leadership = self.leadership
        self.forwarding: Forwarding | None = None
        self.executors: dict[int, Session] = {}
        """Sessions that run statements for clients of other nodes, by process id."""
        self.signal_elsewhere: Callable[[int, Signal], bool] = lambda _node_id, _signal: False
        """Cancels or ends a session of another node; False: no such node."""
        self.cluster: ClusterView = SoloClusterView(transactions, metadata, node_id, rpc_address)
        """What SHOW tells of the cluster; a member's node puts its own view here."""
        self.propose_metadata: Callable[[Command], Awaitable[int]] = self._propose_here
        """Have a command applied by the metadata group; gives its index, once applied here."""
        self.is_draining = False
        self.latency = Latency()
        self.error_count = 0
        self.restart_count = 0
        self.front_end: FrontEnd | None = None
        self.set_defaults(defaults)
        self._connections_max = connections_max
        self._room_until = 0.0
        self._process_ids = ProcessIds(node_id)
        self.schema_changes = SchemaChanges(
            BuildServices(
                transactions,
                metadata,
                schedule,
                self._access_of,
                lambda: sql_timestamp(clock.wall_us()),
            ),
            self.take_process_id,
        )

    async def _propose_here(self, command: Command) -> int:
        """Propose to the metadata group as its only voter does."""
        replicator = self.transactions.replicator
        return await replicator.propose(METADATA_GROUP, encode_command(command), command)

    def take_process_id(self) -> int:
        """Return the number of a new session, or of what works like one in the background."""
        return self._process_ids.take(self.sessions)

    def set_defaults(self, defaults: dict[str, str]) -> None:
        """Give sessions that begin from now on these variables."""
        self._defaults = defaults

    def forward_by(
        self,
        leadership: Leadership,
        transport: Transport,
        executor_leadership: Leadership | None = None,
    ) -> None:
        """Have sessions that begin from now on forward to the leader what this node may not serve.

        ``executor_leadership`` is what this node's executors go by; another one only in tests.
        """
        self.leadership = leadership
        self.executor_leadership = executor_leadership or leadership
        self.forwarding = Forwarding(
            leadership, transport, self.metadata, self.schedule, self.clock
        )

    def _access_of(self, table: Table) -> TableAccess:
        """Compile a table's index expressions for work that no session does."""
        schema = self.metadata.catalog.get(table.schema_id)
        assert isinstance(schema, Schema), table
        catalog = SessionCatalog(
            self.metadata.catalog,
            database_id=schema.database_id,
            user_id=table.owner,
            virtual_tables=self.virtual_tables,
        )
        return table_access(catalog, table)

    def ensure_room(self) -> None:
        """Refuse what needs space when the disk or the map is full (53100).

        Asks the system but ten times a second.
        """
        now = self.clock.monotonic()
        if now >= self._room_until:
            self.transactions.replicator.ensure_room(0)
            self._room_until = now + ROOM_CHECK_SECONDS

    def credential(self, role: str) -> Credential | None:
        """Return what authentication needs of a role."""
        found = self.metadata.catalog.role(role)
        if found is None:
            return None
        secret = found.scram_secret
        if (
            found.valid_until is not None
            and found.valid_until < self.clock.wall_us() - 946_684_800_000_000
        ):
            secret = ""
        return Credential(found.name, secret, found.login)

    def open_session(
        self, *, user: str, database: str, parameters: dict[str, str], peer: str, tls: bool
    ) -> Session:
        """Make a session. Errors.

        57P03 draining, 28000, 3D000, 42501 no CONNECT, 53300, and bad start-up settings.
        """
        del tls
        if self.is_draining:
            raise CannotConnectNow("the database system is shutting down")
        snapshot = self.metadata.catalog
        role = snapshot.role(user)
        if role is None:
            raise InvalidAuthorizationSpecification(f'role "{user}" does not exist')
        found = snapshot.database(database or user)
        if found is None:
            raise InvalidCatalogName(f'database "{database or user}" does not exist')
        if not found.allow_connections:
            raise ObjectNotInPrerequisiteState(
                f'database "{found.name}" is not currently accepting connections'
            )
        if "c" not in acl.held(snapshot, role.id, found, found.id):
            raise InsufficientPrivilege(
                f'permission denied for database "{found.name}"',
                detail="User does not have CONNECT privilege.",
            )
        self._check_limits(role, found)
        start_settings = self._start_settings(role, found, parameters)
        start_role = start_settings.pop("role", "none")
        opened: list[Session] = []
        settings = Settings(start_settings, is_superuser=lambda: self._is_superuser(opened, role))
        process_id = self.take_process_id()
        for name in parameters:
            if name not in _NOT_SETTINGS:
                settings.check_startup(name)
        session = Session(
            self,
            process_id=process_id,
            secret_key=secrets.randbits(32),
            user_id=role.id,
            database_id=found.id,
            settings=settings,
            peer=peer,
        )
        opened.append(session)
        if start_role != "none":
            session.set_role(start_role)
            settings.end_transaction(committed=True)
            settings.set_default("role", start_role)
        self.sessions[process_id] = session
        session.block.outcomes = self.outcomes[found.id]
        session.block.outcomes.sessions += 1
        return session

    def _check_limits(self, role: Role, database: Database) -> None:
        if len(self.sessions) >= self._connections_max:
            raise TooManyConnections("sorry, too many clients already")
        if role.connection_limit >= 0 and not role.superuser:
            count = sum(s.session_user_id == role.id for s in self.sessions.values())
            if count >= role.connection_limit:
                raise TooManyConnections(f'too many connections for role "{role.name}"')
        if database.connection_limit >= 0 and not role.superuser:
            count = sum(s.database_id == database.id for s in self.sessions.values())
            if count >= database.connection_limit:
                raise TooManyConnections(f'too many connections for database "{database.name}"')

    def _start_settings(
        self, role: Role, database: Database, parameters: dict[str, str]
    ) -> dict[str, str]:
        """Merge node, database, role and start-up packet settings; later ones win."""
        settings = {**self._defaults, **dict(database.settings)}
        for database_id in (0, database.id):
            settings.update(
                {name: value for owner, name, value in role.settings if owner == database_id}
            )
        settings.update(
            {name: value for name, value in parameters.items() if name not in _NOT_SETTINGS}
        )
        settings = {name.lower(): value for name, value in settings.items()}
        settings["session_authorization"] = role.name
        settings["is_superuser"] = "on" if role.superuser else "off"
        return settings

    def open_executor(self, prime: Prime, front_end: FrontEnd) -> Session:
        """Make a session that runs statements for a client of another node, which let it in.

        Raises CannotConnectNow (57P03) while draining.
        """
        if self.is_draining:
            raise CannotConnectNow("the database system is shutting down")
        opened: list[Session] = []
        state = prime.state.settings
        settings = Settings(
            {} if state is None else state.defaults,
            is_superuser=lambda: self._is_superuser(opened, None),
        )
        session = Session(
            self,
            process_id=prime.process_id,
            secret_key=secrets.randbits(32),
            user_id=prime.login_user_id,
            database_id=prime.database_id,
            settings=settings,
            peer=prime.peer,
            leadership=self.executor_leadership,
            executor=front_end,
        )
        session.backend_start = prime.backend_start
        session.block.outcomes = self.outcomes[prime.database_id]
        opened.append(session)
        self.executors[prime.process_id] = session
        return session

    def _is_superuser(self, opened: list[Session], login: Role | None) -> bool:
        """Tell whether a session's current role may set everything.

        While it starts, the role that logs in.
        """
        role = self.metadata.catalog.role_by_id(opened[0].user_id) if opened else login
        return role is not None and role.superuser

    def find_session(self, process_id: int) -> Session | None:
        """Return who works for a client: the session itself, or the executor for one elsewhere."""
        executor, session = self.executors.get(process_id), self.sessions.get(process_id)
        if executor is None or session is None:
            return session if executor is None else executor
        is_engaged = executor.is_running or executor.block.state != "idle"
        return executor if is_engaged or executor.query_start >= session.query_start else session

    def all_sessions(self) -> list[Session]:
        """Return who works for each client that is known here, as ``find_session``."""
        process_ids = dict.fromkeys((*self.sessions, *self.executors))
        found = [self.find_session(process_id) for process_id in process_ids]
        return [session for session in found if session is not None]

    def client_waits(self) -> dict[int, str]:
        """Return which sessions wait for their clients: ClientRead or ClientWrite by session."""
        waits = {} if self.front_end is None else self.front_end.client_waits()
        for process_id, executor in self.executors.items():
            if executor.executor is not None and self.find_session(process_id) is executor:
                waits.pop(process_id, None)
                waits |= executor.executor.client_waits()
        return waits

    def _needed_snapshots(self, transaction: Transaction, earliest: float) -> list[int]:
        """Return the timestamps that a transaction may still read at.

        READ COMMITTED needs that of the statement it runs, however old, and those of open cursors
        that were opened since ``earliest``; between statements it needs none.
        """
        process_id = transaction.process_id
        candidates = (self.executors.get(process_id), self.sessions.get(process_id))
        session = next((s for s in candidates if s and s.block.transaction is transaction), None)
        if transaction.is_snapshot or session is None:
            return young_snapshot(transaction, earliest)
        needed = [
            portal.snapshot
            for portal in session.portals.values()
            if portal.execution is not None and portal.opened_at >= earliest
        ]
        if not session.is_running:
            transaction.snapshot = 0  # The next statement takes another one.
        elif transaction.snapshot:
            needed.append(transaction.snapshot)
        return needed

    def cancel(self, process_id: int, secret_key: int) -> None:
        """Cancel the session's running statement if the key fits, wherever in the cluster it is."""
        session = self.sessions.get(process_id)
        if session is None and node_of(process_id) != self.node_id:
            self.signal_elsewhere(node_of(process_id), Signal(process_id, "cancel", secret_key))
        if session is not None and secrets.compare_digest(
            session.secret_key.to_bytes(4, "big"), secret_key.to_bytes(4, "big")
        ):
            session.cancel()

    def forget(self, session: Session) -> None:
        """Forget a session that is over."""
        known = self.sessions if session.executor is None else self.executors
        if known.get(session.process_id) is session:
            del known[session.process_id]
        self.notifications.forget(session)

    async def drop_temporary(self, session: Session) -> None:
        """Drop the session's temporary schema with what is in it."""
        catalog = session.catalog()
        if not catalog.temp_schema_id:
            return
        schema = catalog.snapshot.get(catalog.temp_schema_id)
        assert isinstance(schema, Schema)
        session.user_id = 10
        await session.run_ddl(
            Drop("schema", (QualifiedName(schema.name),), if_exists=True, behavior="cascade"),
            in_multi_statement=False,
        )
        session.notices.clear()
        await session.commit()
