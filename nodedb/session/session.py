"""One client's session: from parsed messages to results.

Joins the transaction block, settings, prepared statements, portals and the gateway. The front end
(pgwire) calls the methods of ``FrontEndSession``; each statement goes: parse -> ``_prepare`` ->
``_run`` -> ``Result``.

* A query or DML statement is bound, planned and cached (``PlanCache``), then executed over a
``StatementStore``.
* Point reads and writes by primary key run without building operators (``nodedb.session.point``).
* DDL is executed against the transaction's catalog overlay; everything else by
``nodedb.session.utility``.

Source: PostgreSQL docs, "Message Flow", "Extended Query".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from nodedb.catalog import acl
from nodedb.catalog.changes import Author
from nodedb.catalog.session_catalog import SessionCatalog
from nodedb.clock import sql_timestamp
from nodedb.errors import LeaderChanged
from nodedb.gateway.placement import Placement
from nodedb.gateway.plan_cache import PreparedPlan, as_dml, is_dml
from nodedb.gateway.retry import HERE, budget_seconds
from nodedb.kv.locks import ROW_SHARE
from nodedb.schema_change import young
from nodedb.session import constraints, cursors, express, placing, point, restart, temporary
from nodedb.session.api import Notice, Notification, Result, ResultColumn, StatementDescription
from nodedb.session.arguments import PARAMETRIZED, wrapped_parameters
from nodedb.session.block import TransactionBlock
from nodedb.session.command_names import command_name
from nodedb.session.ddl import run_ddl
from nodedb.session.prepared import Portal, PreparedStatement, declared_type
from nodedb.session.services import Services
from nodedb.session.state import PreparedNames, plan_restored
from nodedb.session.steps import Step, step_of
from nodedb.session.utility import UTILITY_CLASSES, execute_utility, utility_columns
from nodedb.waiter import Interrupts, Waiter
from sql.ast import utility as u
from sql.ast.utility import (
    Commit,
    EmptyStatement,
    Rollback,
    RollbackToSavepoint,
    Statement,
)
from sql.binder.type_names import resolve_type
from sql.errors import (
    AdminShutdown,
    DuplicateCursor,
    DuplicatePreparedStatement,
    FeatureNotSupported,
    IdleInTransactionSessionTimeout,
    IdleSessionTimeout,
    InsufficientPrivilege,
    InvalidCursorName,
    InvalidParameterValue,
    InvalidSqlStatementName,
    ObjectNotInPrerequisiteState,
    ProtocolViolation,
    QueryCanceled,
    ReadOnlySqlTransaction,
    SqlError,
    UniqueViolation,
)
from sql.executor.foreign_keys import DEFERRED
from sql.functions.context import ExecutionContext, MemoryBudget
from sql.functions.reg import RegResolver
from sql.parser import parse_statements
from sql.parser.normalize import normalize_literals
from sql.planner.codegen import value_function
from sql.types.catalog import INT4, INT8, NUMERIC
from sql.types.io import text_input

_LOGGER: Final = logging.getLogger("nodedb.statements")

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nodedb.gateway.leadership import Leadership
    from nodedb.session.block import BlockState
    from nodedb.session.forwarding import Forwarding
    from nodedb.session.manager import FrontEnd, SessionManager
    from nodedb.session.settings import Settings
    from sql.ast.query import TypeName
    from sql.binder.bound import BoundExpr
    from sql.catalog.descriptor import Role
    from sql.types.base import Datum, Row, SqlType

SLICE_SECONDS: Final = 0.01
"""How long a statement may keep the loop before it lets others run."""
BATCH_MAX: Final = 1024
NORMALIZED_CHARACTERS_MAX: Final = 16 * 1024
NORMALIZED_LITERALS_MAX: Final = 64
QUERY_STEPS_MAX: Final = 256
_LITERAL_TYPES: Final[dict[str, SqlType | None]] = {
    "int4": INT4,
    "int8": INT8,
    "numeric": NUMERIC,
    "string": None,
}
_STEP_STATEMENTS: Final = (u.Begin, Commit, Rollback)
_EXIT_STATEMENTS: Final = (Commit, Rollback, RollbackToSavepoint)
# What neither reads nor writes rows, hence settles nothing about the transaction's snapshot.
_NEEDS_NO_SNAPSHOT: Final = (
    u.Begin,
    u.Commit,
    u.Rollback,
    u.Savepoint,
    u.ReleaseSavepoint,
    u.RollbackToSavepoint,
    u.PrepareTransaction,
    u.SetTransaction,
    u.SetConstraints,
    u.SetVariable,
    u.ShowVariable,
    u.ResetVariable,
    u.ShowCluster,
    u.Fetch,
    u.LockTable,
    u.Listen,
    u.Unlisten,
    u.Notify,
    u.Checkpoint,
    u.CloseCursor,
    u.Deallocate,
    u.Discard,
)


class ParsedSimple:
    """One statement of a simple query.

    ``portal`` is set when it was found planned, its literals as parameters.
    """

    __slots__ = ("portal", "statement", "text")

    def __init__(self, statement: Statement, text: str, portal: Portal | None = None) -> None:
        self.statement = statement
        self.text = text
        self.portal = portal


class Session:
    """A session after authentication. Implements ``nodedb.session.api.FrontEndSession``."""

    def __init__(
        self,
        node: SessionManager,
        *,
        process_id: int,
        secret_key: int,
        user_id: int,
        database_id: int,
        settings: Settings,
        peer: str,
        leadership: Leadership | None = None,
        executor: FrontEnd | None = None,
    ) -> None:
        """Begin with what the client has proved; ``executor`` for a client of another node.

        Then it is the way to that client.
        """
        self.node = node
        self.leadership = node.leadership if leadership is None else leadership
        self.executor = executor
        self.process_id = process_id
        self.secret_key = secret_key
        self.session_user_id = user_id
        self.user_id = user_id
        self.database_id = database_id
        self.settings = settings
        self.peer = peer
        self.interrupts = Interrupts()
        self.block = TransactionBlock(
            node.transactions,
            node.metadata,
            node.allocate_id,
            settings,
            process_id,
            self.interrupts,
        )
        is_shared = executor is not None or node.forwarding is not None
        self.prepared: dict[str, PreparedStatement] = PreparedNames() if is_shared else {}
        self.portals: dict[str, Portal] = {}
        self.services = Services(self)
        self.notices: list[Notice] = []
        self.notifications: list[Notification] = []
        self.on_notified: Callable[[], None] = _nothing
        """Called when the client has been given all notifications."""
        self.channels: dict[str, None] = {}
        """What it listens to, here or by its executor."""
        self.channels_version = 0
        self.is_stale_read = False
        """Whether the running query may be answered from this replica's state, however old."""
        self.seen_timestamp = 0
        """What it has read or written elsewhere: no stale read shows less."""
        self.remote_block: BlockState = "idle"
        """The state of its transaction block at its executor."""
        self.catalog_index = 0
        """The newest catalog change that it has committed."""
        self.has_on_commit_tables = False
        self.injected_count = 0
        self.reads_newest = False
        """Whether statements look past the transaction's snapshot: those a schema change runs."""
        self.is_closed = False
        self.backend_start = self.now()
        self.query_start = self.backend_start
        self.state_change = self.backend_start
        self.query_text = ""
        self.is_running = False
        self.in_multi_statement = False
        self.last_affected = 0
        self.row_count = 0
        self.login_user_id = user_id
        self._catalog: SessionCatalog | None = None
        self._catalog_key: object = None
        self._slice_start = 0.0
        self._work_start = 0.0
        self._has_executed = False
        self.is_pipelined = False
        """Tell whether this extended-query batch has run statements in the transaction before."""
        self.ends_batch = True
        """Whether nothing but Sync follows the statement: then it is a transaction of its own."""
        self._query_steps: dict[str, Step] = {}
        self._normalized_steps: dict[
            tuple[str, tuple[str, ...]], tuple[Step, PreparedStatement]
        ] = {}
        self.statistics_text = ""
        settings.set_reg_resolver(_SessionRegResolver(self))
        self.point_context: ExecutionContext | None = None
        settings.on_role_change = self._role_changed
        self.block.on_portals_lost = self._lose_portals
        self.block.author = self._author

    # What the front end reads

    @property
    def format(self) -> Any:
        """The settings that shape output."""
        return self.settings.format

    @property
    def forwarding(self) -> Forwarding | None:
        """The way to the node that serves the rows, None if this one always does."""
        return None if self.executor is not None else self.node.forwarding

    @property
    def front_end(self) -> FrontEnd | None:
        """The way to the client."""
        return self.node.front_end if self.executor is None else self.executor

    @property
    def transaction_status(self) -> bytes:
        """The byte of ReadyForQuery."""
        if self.remote_block == "idle":
            return self.block.status
        return b"T" if self.remote_block == "open" else b"E"

    def reported_parameters(self) -> list[tuple[str, str]]:
        """Return the 13 reported parameters."""
        return self.settings.reported()

    def take_parameter_changes(self) -> list[tuple[str, str]]:
        """Return the reported parameters that changed."""
        if not self.settings.has_changes:
            return []
        return self.settings.take_changes()

    def take_notices(self) -> list[Notice]:
        """Return and forget the pending notices."""
        notices, self.notices = self.notices, []
        return notices

    @property
    def has_asynchronous(self) -> bool:
        """Tell whether something waits to be taken by one of the three ``take_``."""
        return bool(self.notices or self.notifications or self.settings.has_changes)

    def take_notifications(self) -> list[Notification]:
        """Return and forget the notifications that may be delivered now."""
        if self.block.state != "idle" or self.remote_block != "idle" or not self.notifications:
            return []
        notifications, self.notifications = self.notifications, []
        self.node.notifications.taken(self)
        self.on_notified()
        return notifications

    def forget_notifications(self, count: int) -> None:
        """Forget the first notifications: another node has delivered them."""
        self.node.notifications.taken(self, count)
        del self.notifications[:count]

    def now(self) -> int:
        """Return the wall clock as a SQL timestamp."""
        return sql_timestamp(self.node.clock.wall_us())

    def notice(
        self, severity: str, sqlstate: str, message: str, detail: str = "", hint: str = ""
    ) -> None:
        """Queue a notice unless client_min_messages hides it."""
        if _NOTICE_RANK[severity] >= _NOTICE_RANK[self.settings.client_min_messages.upper()]:
            self.notices.append(Notice(severity, sqlstate, message, detail, hint))

    # Catalog

    def plan_key(self) -> object:
        """Return what a plan depends on beside its text.

        None while uncommitted DDL makes caching unsafe.
        """
        overlay = self.block.overlay
        if overlay is not None and overlay.is_changed:
            return None
        catalog = self.catalog()
        if self._readable_catalog() is not catalog:
            return None
        return (
            catalog.snapshot.schema_version,
            self.database_id,
            self.user_id,
            self.settings.search_path_version if catalog.temp_schema_id else 0,
            self.settings.search_path,
            self.process_id if catalog.temp_schema_id else 0,
        )

    def _readable_catalog(self) -> SessionCatalog:
        """Return the catalog to plan with: for an old snapshot, without indexes it cannot read."""
        catalog, transaction = self.catalog(), self.block.transaction
        if transaction is None or not transaction.is_snapshot or not transaction.snapshot:
            return catalog
        readable = young.readable_catalog(catalog.snapshot, self.block.first_catalog)
        return catalog if readable is catalog.snapshot else catalog.over(readable)

    def catalog(self) -> SessionCatalog:
        """Return the catalog as the next statement sees it."""
        overlay = self.block.overlay
        snapshot = (
            self.block.ensure_overlay().snapshot
            if overlay is not None and overlay.is_changed
            else self.node.metadata.catalog
        )
        key = (
            id(snapshot),
            snapshot.schema_version,
            self.user_id,
            self.settings.search_path_version,
        )
        if (
            self._catalog is None
            or key != self._catalog_key
            or self._catalog.snapshot is not snapshot
        ):
            self._catalog = SessionCatalog(
                snapshot,
                database_id=self.database_id,
                user_id=self.user_id,
                search_path=self.settings.search_path,
                session_id=self.process_id,
                virtual_tables=self.node.virtual_tables,
            )
            self._catalog_key = key
        return self._catalog

    # Simple protocol

    def simple_statements(self, text: str) -> list[ParsedSimple]:
        """Parse a simple query."""
        self.begin_work(text)
        if self.block.state != "failed" and len(text) <= NORMALIZED_CHARACTERS_MAX:
            normalized = self._normalized(text)
            if normalized is not None:
                return [normalized]
        cached = self.node.plans.parsed_single(text)
        if cached is not None:
            return [ParsedSimple(cached, text)]
        parsed = parse_statements(text)
        if len(parsed) == 1:
            self.node.plans.remember_single(text, parsed[0].statement)
            return [ParsedSimple(parsed[0].statement, text)]
        return [ParsedSimple(p.statement, text[p.span.start : p.span.end]) for p in parsed]

    def _normalized(self, text: str) -> ParsedSimple | None:
        """Plan a query with its literals as parameters, so that texts differing in them share it.

        None when it cannot be done, or when anything is wrong with the statement: the text as it
        was written then earns the error, with its own positions.
        """
        found = normalize_literals(text)
        if found is None:
            return None
        template, literals = found
        if not literals or len(literals) > NORMALIZED_LITERALS_MAX:
            return None
        plans = self.node.plans
        kinds = tuple([kind for kind, _ in literals])
        prepared = plans.normalized.find((template, kinds, self.plan_key()))
        try:
            if prepared is None:
                statement = plans.parse_one(template)
                if statement is None or not is_dml(statement):
                    return None
                prepared = PreparedStatement(
                    "", template, statement, tuple([_LITERAL_TYPES[k] for k in kinds])
                )
                self._plan(prepared)
                if prepared.plan_key is not None:
                    plans.normalized.store((template, kinds, prepared.plan_key), prepared)
        except SqlError:
            return None
        values = self._literal_values(literals, prepared)
        if values is None:
            return None
        if prepared.plan is not None and prepared.plan_key is not None:
            self._remember_normalized(template, kinds, prepared)
        assert prepared.statement is not None
        self.statistics_text = template
        return ParsedSimple(prepared.statement, text, Portal("", prepared, values, ()))

    async def execute_simple(self, statement: ParsedSimple, *, is_last: bool) -> Result:
        """Run one statement of a simple query."""
        multiple = not is_last or self.block.state == "implicit"
        self.in_multi_statement = multiple
        self.is_pipelined = False
        self.ends_batch = True
        self._next_statement(statement.text)
        if multiple:
            self.statistics_text = statement.text
        portal = statement.portal
        if portal is None:
            prepared = PreparedStatement("", statement.text, statement.statement, ())
            prepared.fixed_parameters = True
            portal = Portal("", prepared, (), ())
            if is_last and not multiple and isinstance(statement.statement, _STEP_STATEMENTS):
                self._remember_query(prepared)
            if is_dml(statement.statement) and self.block.state != "failed":
                self._plan(prepared)
        if multiple or portal.prepared.plan is None:
            result = await self._run(portal, 0, in_multi_statement=multiple)
        else:
            result = await self._run_alone(portal, 0)
        if is_last and self.block.state == "implicit":
            await self._commit_after(result)
        return result

    async def _run_alone(self, portal: Portal, row_limit: int) -> Result:
        """Run a statement that nothing stands before in its transaction."""
        return await restart.run_alone(
            self,
            lambda: self._run(portal, row_limit, in_multi_statement=False),
            lambda: _rewind(portal),
        )

    async def _commit_after(self, result: Result) -> None:
        """Commit the implicit transaction after the last row, before CommandComplete."""
        if result.more is None and result.copy_in is None and result.copy_out is None:
            if result.finish is not None:
                await result.finish()
                result.finish = None
            if self.block.completes is None:
                await self.commit()
            return
        if result.copy_in is not None:
            return
        if self.block.completes is not None:
            return  # With the answer, at the end of the batch.
        finish = result.finish

        async def finish_and_commit() -> None:
            if finish is not None:
                await finish()
            await self.commit()

        result.finish = finish_and_commit

    # Steps

    def step(self, name: str) -> Step | None:
        """Return what runs a prepared statement in one plain call, None if it takes more."""
        prepared = self.prepared.get(name)
        if prepared is None or (
            prepared.plan is not None
            and (
                prepared.plan_snapshot is not self.node.metadata.catalog
                or prepared.plan_epoch != self.settings.search_path_version
            )
        ):
            return None
        return step_of(self, prepared)

    def query_step(self, text: str) -> tuple[Step, tuple[Datum, ...]] | None:
        """Return the step of a simple query that has run before, and its literals."""
        if len(text) > NORMALIZED_CHARACTERS_MAX:
            return None
        step = self._query_steps.get(text)
        if step is not None:
            return step, ()
        found = normalize_literals(text)
        if found is None:
            return None
        template, literals = found
        known = self._normalized_steps.get((template, tuple([kind for kind, _ in literals])))
        if known is None:
            return None
        step, prepared = known
        parameters = self._literal_values(literals, prepared)
        return None if parameters is None else (step, parameters)

    async def execute_in_one_step(
        self, statement: str, values: Sequence[bytes | None], formats: Sequence[int]
    ) -> express.ExpressAnswer | None:
        """Bind, execute and sync a point statement, BEGIN or COMMIT, that may have to wait.

        None when it is something else.
        """
        return await express.run_step(self, statement, values, formats)

    def _remember_query(self, prepared: PreparedStatement) -> None:
        """Keep the step of a simple query without literals: BEGIN, COMMIT."""
        step = step_of(self, prepared)
        if step is not None:
            if len(self._query_steps) >= QUERY_STEPS_MAX:
                self._query_steps.clear()
            self._query_steps[prepared.text] = step

    def _remember_normalized(
        self, template: str, kinds: tuple[str, ...], prepared: PreparedStatement
    ) -> None:
        """Keep the step of a normalised simple query."""
        step = step_of(self, prepared)
        if step is not None:
            if len(self._normalized_steps) >= QUERY_STEPS_MAX:
                self._normalized_steps.clear()
            self._normalized_steps[template, kinds] = step, prepared

    def _literal_values(
        self, literals: Sequence[tuple[str, str]], prepared: PreparedStatement
    ) -> tuple[Datum, ...] | None:
        """Turn literals into the parameters' values, None when one does not read as its type."""
        context = self.settings.format
        try:
            return tuple(
                [
                    int(value) if kind[0] == "i" else text_input(sql_type, context)(value, -1)
                    for (kind, value), sql_type in zip(
                        literals, prepared.parameter_types, strict=True
                    )
                ]
            )
        except SqlError:
            return None

    # Extended protocol

    async def parse(self, name: str, text: str, parameter_oids: Sequence[int]) -> None:
        """Create a prepared statement."""
        self.begin_work(text)
        if name and name in self.prepared:
            raise DuplicatePreparedStatement(f'prepared statement "{name}" already exists')
        self.prepared.pop(name, None)
        statement = self.node.plans.parse_one(text)
        declared = tuple(declared_type(oid) for oid in parameter_oids)
        prepared = PreparedStatement(name, text, statement, declared)
        prepared.prepared_at = self.query_start
        if self.block.state == "failed" and not _ends_failed_block(statement):
            self.block.check_usable()
        if statement is not None and is_dml(statement):
            while await self._has_waited_for(self._plan(prepared)):
                prepared.plan = prepared.columns = None
        elif isinstance(statement, PARAMETRIZED):
            prepared.parameter_types = wrapped_parameters(self, statement, declared)
        self.prepared[name] = prepared

    def statement(self, name: str) -> PreparedStatement:
        """Find a prepared statement. Raises InvalidSqlStatementName (26000)."""
        found = self.prepared.get(name)
        if found is None:
            if not name:
                raise InvalidSqlStatementName("unnamed prepared statement does not exist")
            raise InvalidSqlStatementName(f'prepared statement "{name}" does not exist')
        if found.is_unplanned:
            plan_restored(self, found)
        return found

    def _plan(self, prepared: PreparedStatement) -> PreparedPlan:
        """Plan, or find the statement's plan still good."""
        key = self.plan_key()
        plan = prepared.plan
        if plan is not None and key is not None and key == prepared.plan_key:
            prepared.plan_epoch = self.settings.search_path_version
            return plan
        assert prepared.statement is not None
        plan = self.node.plans.plan(
            as_dml(prepared.statement),
            prepared.text,
            prepared.declared_types,
            self._readable_catalog(),
            plan_key=key,
            fixed_parameters=prepared.fixed_parameters,
        )
        columns = self.result_columns(plan)
        if prepared.columns is not None and columns is not None and prepared.plan is not None:
            if [(c.name, c.type) for c in columns] != [(c.name, c.type) for c in prepared.columns]:
                raise FeatureNotSupported("cached plan must not change result type")
        else:
            prepared.columns = columns
        if prepared.plan is None or plan.bound.parameters != prepared.parameter_types:
            prepared.parameter_types = plan.bound.parameters
        prepared.plan = plan
        prepared.plan_key = key
        prepared.plan_snapshot = None if key is None else self.catalog().snapshot
        prepared.plan_epoch = self.settings.search_path_version
        return plan

    def result_columns(self, plan: PreparedPlan) -> tuple[ResultColumn, ...] | None:
        """Return a plan's columns.

        The same object each time, so the front end can keep its encoder.
        """
        if plan.columns is None and (plan.bound.kind == "select" or plan.bound.has_returning):
            plan.columns = tuple(
                ResultColumn(c.name, c.type, c.typmod, c.table_oid, c.column_number)
                for c in plan.bound.columns
            )
        return plan.columns

    async def bind(
        self,
        portal: str,
        statement: str,
        parameters: Sequence[bytes | None],
        parameter_formats: Sequence[int],
        result_formats: Sequence[int],
    ) -> None:
        """Create a portal."""
        prepared = self.statement(statement)
        if not self.is_running:
            self.begin_work(prepared.text)
        if self.block.state == "failed" and not _ends_failed_block(prepared.statement):
            self.block.check_usable()
        if portal:
            old = self.portals.get(portal)
            if old is not None:
                raise DuplicateCursor(f'cursor "{portal}" already exists')
        else:
            old = self.portals.pop("", None)
            if old is not None and old.execution is not None:
                close_execution(old)
        if prepared.plan is not None:
            while await self._has_waited_for(self._plan(prepared)):
                pass
        values = prepared.decode(parameters, parameter_formats, self.settings.format)
        self.keep_portal(
            Portal(portal, prepared, values, _spread(result_formats, self._columns_of(prepared)))
        )

    async def describe_statement(self, name: str) -> StatementDescription:
        """Describe a prepared statement."""
        prepared = self.statement(name)
        if prepared.plan is not None and self.block.state != "failed":
            self._plan(prepared)
        columns = self._columns_of(prepared)
        if columns is not None:
            self.block.check_usable()
        return StatementDescription(prepared.parameter_types, columns)

    def _columns_of(self, prepared: PreparedStatement) -> tuple[ResultColumn, ...] | None:
        if prepared.plan is None and prepared.statement is not None:
            return utility_columns(prepared.statement, self)
        return prepared.columns

    def portal(self, name: str) -> Portal:
        """Find a portal. Raises InvalidCursorName (34000)."""
        found = self.portals.get(name)
        if found is None:
            raise InvalidCursorName(f'portal "{name}" does not exist')
        return found

    def describe_portal(self, name: str) -> tuple[tuple[ResultColumn, ...] | None, Sequence[int]]:
        """Return a portal's columns and formats."""
        portal = self.portal(name)
        columns = self._columns_of(portal.prepared)
        if columns is not None:
            self.block.check_usable()
        return columns, portal.formats

    def portal_formats(self, name: str) -> Sequence[int]:
        """Return the portal's result formats."""
        return self.portal(name).formats

    async def execute(self, portal: str, row_limit: int) -> Result:
        """Run or resume a portal."""
        found = self.portal(portal)
        if not self.is_running:
            self.begin_work(found.prepared.text)
        self._next_statement(found.prepared.text)
        self.query_text = found.prepared.text
        self.in_multi_statement = True  # the transaction lasts to the Sync
        self.is_pipelined = self.block.state == "implicit"
        if found.is_cursor:
            return await cursors.execute(self, found, row_limit)
        is_fresh = found.prepared.plan is not None and found.execution is None
        if is_fresh and self.block.state == "idle":
            return await self._run_alone(found, row_limit)
        return await self._run(found, row_limit, in_multi_statement=False)

    async def close_statement(self, name: str) -> None:
        """Forget a prepared statement."""
        self.prepared.pop(name, None)

    async def close_portal(self, name: str) -> None:
        """Forget a portal."""
        found = self.portals.pop(name, None)
        if found is not None:
            close_execution(found)

    @property
    def is_recorded(self) -> bool:
        """Tell whether the batch commits at its end, in ``sync``, together with its answer."""
        return self.block.completes is not None

    async def sync(self) -> None:
        """End of an extended-query batch: the implicit transaction commits."""
        if self.block.state == "implicit":
            await self.commit()
        if self.portals and self.block.state == "idle":
            self._drop_portals()
        self.end_work()

    # Where statements may run

    def place(self, statement: Statement | None) -> Placement:
        """Return where a statement may run that is not planned yet; raises what planning it does.

        Outside a block, or in one that has touched nothing.
        """
        return placing.place(self, statement)

    def place_text(self, text: str) -> list[placing.Placed]:
        """Return where the statements of a simple query may run. Raises SqlError."""
        return placing.place_text(self, text)

    def place_parsed(self, text: str, parameter_oids: Sequence[int]) -> placing.Placed:
        """Return where a statement that a Parse message brings may run. Raises SqlError."""
        return placing.place_parsed(self, text, parameter_oids)

    def place_prepared(self, name: str) -> placing.Placed:
        """Return where a prepared statement may run. Raises SqlError, 26000 included."""
        return placing.place_prepared(self, name)

    # What other parts of the session ask for

    def plan_prepared(self, prepared: PreparedStatement) -> PreparedPlan:
        """Plan a statement made inside the server (PREPARE, cursors, COPY, schema changes)."""
        return self._plan(prepared)

    async def open_portal(self, portal: Portal) -> None:
        """Begin executing a planned portal; its ``execution`` then yields batches."""
        plan = portal.prepared.plan
        assert plan is not None
        await self._open(portal, plan)

    async def run_portal(self, portal: Portal) -> Result:
        """Run a planned portal to its first rows."""
        return await self._run(portal, 0, in_multi_statement=False)

    async def evaluate(self, bound: BoundExpr) -> Datum:
        """Evaluate an expression without columns."""
        function = value_function((bound,), None, single=True)
        context = await self.new_context((), None)
        value = function.call(context)
        return await value if function.is_async else value

    def resolve_type(self, name: TypeName) -> SqlType:
        """Resolve a type's name. Raises UndefinedObject (42704)."""
        return resolve_type(self.catalog(), name)[0]

    def end_command(self) -> None:
        """Let what follows in the same statement see what was written so far."""
        transaction = self.block.ensure_transaction(self.query_start)
        self.node.transactions.end_statement(transaction)

    def count_rows(self, count: int) -> None:
        """Note rows returned or written, for the statistics of statements."""
        self.row_count += count

    async def end_copy(self) -> None:
        """COPY FROM is complete: outside a block it commits now."""
        if (
            self.block.state == "implicit"
            and not self.in_multi_statement
            and self.block.completes is None
        ):
            await self.commit()

    def set_role(self, name: str | None, *, local: bool = False) -> None:
        """SET ROLE: "none" is the session user, None the role that the session started with.

        Errors: 22023, 42501.
        """
        if name is not None and name != "none":
            self._role_for(name, self.session_user_id)
        self.settings.set("role", name, local=local, internal=True)

    def set_session_authorization(self, name: str | None, *, local: bool = False) -> None:
        """SET SESSION AUTHORIZATION; None goes back to the role that logged in.

        Errors: 22023, 42501.
        """
        snapshot = self.catalog().snapshot
        login = snapshot.role_by_id(self.login_user_id)
        if name is not None and name != "default":
            role = snapshot.role(name)
            if role is None:
                raise InvalidParameterValue(f'role "{name}" does not exist')
            if role.id != self.login_user_id and (login is None or not login.superuser):
                raise InsufficientPrivilege("permission denied to set session authorization")
            login = role
        self.settings.set(
            "session_authorization", "" if login is None else login.name, local=local, internal=True
        )
        self.settings.set("role", "none", local=local, internal=True)

    def _role_for(self, name: str, member_id: int) -> Role:
        snapshot = self.catalog().snapshot
        role = snapshot.role(name)
        if role is None:
            raise InvalidParameterValue(f'role "{name}" does not exist')
        if not acl.is_superuser(snapshot, member_id) and role.id not in acl.memberships(
            snapshot, member_id, self.database_id
        ):
            raise InsufficientPrivilege(f'permission denied to set role "{name}"')
        return role

    def _role_changed(self) -> None:
        """Follow the variables role and session_authorization, which were set or rolled back."""
        snapshot = self.catalog().snapshot
        session_user = snapshot.role(self.settings.get("session_authorization"))
        if session_user is not None:
            self.session_user_id = session_user.id
        name = self.settings.get("role")
        role = None if name == "none" else snapshot.role(name)
        self.user_id = self.session_user_id if role is None else role.id
        is_superuser = acl.is_superuser(snapshot, self.user_id)
        self.settings.set_default("is_superuser", "on" if is_superuser else "off")
        self.settings.search_path_version += 1

    def terminate(self) -> None:
        """End the session: its statement fails and the front end closes the connection."""
        front_end = self.front_end
        if front_end is not None:
            reason = AdminShutdown("terminating connection due to administrator command")
            front_end.terminate(self.process_id, reason)

    def notify_front_end(self) -> None:
        """Something is pending for the client, which may be idle."""
        front_end = self.front_end
        if front_end is not None and not self.is_running:
            front_end.deliver_asynchronous(self.process_id)

    # Running statements

    async def _run(self, portal: Portal, row_limit: int, *, in_multi_statement: bool) -> Result:
        """Run a portal's statement, or go on with its rows.

        A duplicate key's error learns its schema here.
        """
        try:
            result = await self._run_statement(
                portal, row_limit, in_multi_statement=in_multi_statement
            )
            if result.more is None:
                count = result.tag.rpartition(" ")[2]
                self.row_count += int(count) if count.isdigit() else len(result.rows)
            return result
        except UniqueViolation as error:
            if not error.schema and portal.prepared.plan is not None:
                error.schema = self._schema_of(error.table, portal.prepared.plan)
            raise

    def _schema_of(self, table_name: str, plan: PreparedPlan) -> str:
        """Return the schema of one of a plan's tables."""
        catalog = self.catalog()
        for relation_id in plan.bound.relations:
            table = catalog.snapshot.table(relation_id)
            if table is not None and table.name == table_name:
                return catalog.schema_name(table.schema_id)
        return ""

    async def _run_statement(
        self, portal: Portal, row_limit: int, *, in_multi_statement: bool
    ) -> Result:
        prepared = portal.prepared
        statement = prepared.statement
        if statement is None or isinstance(statement, EmptyStatement):
            result = Result("")
            result.empty = True
            return result
        if self.block.state == "failed" and not _ends_failed_block(statement):
            self.block.check_usable()
        if prepared.plan is None:
            return await self._run_other(portal, statement, in_multi_statement=in_multi_statement)
        if portal.execution is None and not portal.finished:
            plan = prepared.plan
            if prepared.plan_snapshot is not self.node.metadata.catalog:
                # Bound before a schema change: no lock kept the tables as they were.
                plan = self._plan(prepared)
            restart.inject_error(self)
            self.block.has_snapshot = True
            if plan.plan.point is not None and not row_limit:
                result_or_none = await point.run(self, plan, portal.parameters)
                if result_or_none is not None:
                    portal.finished = True
                    return result_or_none
                plan = self._plan(prepared)
            await self._open(portal, plan)
        return await self._rows_of(portal, row_limit)

    async def _open(self, portal: Portal, plan: PreparedPlan) -> None:
        """Begin executing a plan, or another one if its tables changed while it waited for them."""
        self.block.ensure_transaction(self.query_start)
        if not plan.checked_privileges:
            plan.check_privileges(self.catalog())
        while await self.lock_relations(plan):
            if self.portals.get(portal.name) is not portal:
                # A simple query: nobody was told of its columns.
                portal.prepared.plan = portal.prepared.columns = None
            plan = self._plan(portal.prepared)
        context = await self.new_context(portal.parameters, plan)
        portal.execution = plan.plan.open(context)
        portal.snapshot, portal.opened_at = context.store.timestamp, self._work_start

    async def new_context(
        self, parameters: tuple[Datum, ...], plan: PreparedPlan | None, *, will_run: bool = True
    ) -> ExecutionContext:
        """Prepare one execution: privileges, room, table locks, snapshot.

        EXPLAIN alone does not run its plan.
        """
        transaction = self.block.ensure_transaction(self.query_start)
        if plan is not None:
            if not plan.checked_privileges:
                plan.check_privileges(self.catalog())
            if not plan.is_read_only and will_run:
                if plan.bound.kind != "delete":
                    self.node.ensure_room()
                if self.settings.is_read_only and not plan.writes_only_temporary(self.catalog()):
                    self.check_writable(plan.written_name)
            await self.lock_relations(plan)
            # Asked after every wait, in the turn that takes the snapshot (PROTOCOL rule 37).
            if not self.leadership.may_serve and plan.placement is not Placement.HERE:
                await self.wait_until_served()
        store = self.node.transactions.statement_store(transaction)
        return self.make_context(parameters, store.newest() if self.reads_newest else store)

    def make_context(self, parameters: tuple[Datum, ...], store: Any) -> ExecutionContext:
        """Return an execution context over a store."""
        self.settings.format.now = self.query_start
        context = ExecutionContext(
            parameters=parameters,
            catalog=self.catalog(),
            format_context=self.settings.format,
            session=self.services,
            store=store,
            memory=MemoryBudget(self.settings.query_memory_bytes),
            clock=self.now,
            statement_timestamp=self.query_start,
            transaction_timestamp=self.block.started_at or self.query_start,
            rng=self.services.random,
            checkpoint=self.checkpoint,
        )
        context.cache[DEFERRED] = self.block.deferred
        return context

    async def wait_until_served(self) -> None:
        """Return in a turn in which this node may serve rows.

        Raises LeaderChanged (40001) when the running transaction's leader is no more, and
        CannotConnectNow (57P03) when that stays unknown for too long.
        """
        if self.is_stale_read:
            return
        forwarding = self.forwarding
        while not self.leadership.may_serve:
            transaction, manager = self.block.transaction, self.node.transactions
            if not manager.tenure or (transaction and transaction.tenure != manager.tenure):
                raise LeaderChanged
            if forwarding is None:
                raise LeaderChanged  # Its gateway knows whom to ask next.
            await forwarding.retry.until_served(
                _here_only,
                leadership=self.leadership,
                budget_seconds=budget_seconds(self.settings.statement_timeout_ms),
                interrupts=self.interrupts,
            )

    def check_writable(self, what: str) -> None:
        """Refuse writes in a read-only transaction (25006)."""
        if self.settings.is_read_only:
            raise ReadOnlySqlTransaction(f"cannot execute {what} in a read-only transaction")

    async def lock_relations(self, plan: PreparedPlan) -> bool:
        """Lock the plan's tables in the mode its statement needs, until the transaction ends.

        Tells whether it had to wait: who held them may have changed them.
        """
        has_waited = False
        mode = point.table_mode(plan)
        transaction = self.block.transaction
        assert transaction is not None
        locks = self.node.transactions.locks
        for relation_id in plan.lock_relations:
            if not locks.try_acquire(transaction, relation_id, mode):
                await self.node.transactions.wait_for_lock(transaction, relation_id, mode)
                has_waited = True
        for relation_id in plan.checked_relations:
            if not locks.try_acquire(transaction, relation_id, ROW_SHARE):
                await self.node.transactions.wait_for_lock(transaction, relation_id, ROW_SHARE)
                has_waited = True
        return has_waited

    async def _has_waited_for(self, plan: PreparedPlan) -> bool:
        """Wait, at Parse or Bind, for who is changing a plan's tables: it would not run as it is.

        What was described would not be what is sent, so PostgreSQL locks this early too.
        """
        mode = point.table_mode(plan)
        is_free = self.node.transactions.locks.is_free
        if all(is_free(relation_id, mode) for relation_id in plan.lock_relations):
            return False
        self.block.ensure_transaction(self.query_start)
        return await self.lock_relations(plan)

    async def _rows_of(self, portal: Portal, row_limit: int) -> Result:
        """Return the portal's next rows as a Result."""
        execution: Any = portal.execution
        prepared = portal.prepared
        plan = prepared.plan
        assert plan is not None
        result = Result("", prepared.columns)
        if portal.finished:
            if prepared.columns is None:
                raise _cannot_be_run(portal)
            result.tag = _tag(plan, 0, 0)
            return result
        if row_limit > BATCH_MAX:
            return self._limited_stream(portal, execution, plan, row_limit)
        if row_limit:
            rows = portal.buffer
            while len(rows) <= row_limit and (batch := await execution.next_batch()):
                rows = rows + list(batch)
            result.rows = rows[:row_limit]
            portal.buffer = rows[row_limit:]
            portal.position += len(result.rows)
            if len(result.rows) == row_limit:
                result.suspended = True
                return result
            await self._finish(portal, execution)
            result.tag = _tag(plan, len(result.rows), execution.affected_rows)
            return result
        first = [*portal.buffer, *await execution.next_batch()]
        portal.buffer = []
        second = await execution.next_batch() if 0 < len(first) < BATCH_MAX else []
        if not second and len(first) < BATCH_MAX:
            result.rows = first
            await self._finish(portal, execution)
            result.tag = _tag(plan, len(first), execution.affected_rows)
            return result
        result.rows = [*first, *second]
        count = len(result.rows)

        async def more() -> Sequence[Row]:
            nonlocal count
            batch: list[Row] = await execution.next_batch()
            count += len(batch)
            return batch

        async def finish() -> None:
            await self._finish(portal, execution)
            result.tag = _tag(plan, count, execution.affected_rows)
            self.row_count += count if plan.bound.kind == "select" else execution.affected_rows

        result.more = more
        result.finish = finish
        return result

    def _limited_stream(
        self, portal: Portal, execution: Any, plan: PreparedPlan, row_limit: int
    ) -> Result:
        """Hand out up to ``row_limit`` rows batch by batch: a huge limit gathers nothing."""
        result = Result("", portal.prepared.columns)
        remaining = row_limit

        async def more() -> Sequence[Row]:
            nonlocal remaining
            if not remaining:
                return ()
            batch: list[Row] = portal.buffer or await execution.next_batch()
            portal.buffer = batch[remaining:]
            rows = batch[:remaining]
            remaining -= len(rows)
            portal.position += len(rows)
            return rows

        async def finish() -> None:
            if remaining:
                await self._finish(portal, execution)
                count = row_limit - remaining
                result.tag = _tag(plan, count, execution.affected_rows)
                self.row_count += count if plan.bound.kind == "select" else execution.affected_rows
            else:
                result.suspended = True

        result.more = more
        result.finish = finish
        return result

    async def _finish(self, portal: Portal, execution: Any) -> None:
        """End a statement that has run: its writes become visible to the next one."""
        portal.finished = True
        portal.execution = None
        execution.close()
        self.last_affected = execution.affected_rows
        transaction = self.block.transaction
        if transaction is not None:
            if transaction.unchecked:
                await constraints.check_statement(self)
            self.node.transactions.end_statement(transaction)

    async def _run_other(
        self, portal: Portal, statement: Statement, *, in_multi_statement: bool
    ) -> Result:
        """Run DDL or a utility statement."""
        if portal.finished:
            columns = self._columns_of(portal.prepared)
            if columns is None:
                raise _cannot_be_run(portal)
            return Result(portal.tag, columns)
        portal.finished = True
        if not self.leadership.may_serve and self.place(statement) is not Placement.HERE:
            await self.wait_until_served()
        if not isinstance(statement, _NEEDS_NO_SNAPSHOT):
            self.block.has_snapshot = True
        if isinstance(statement, UTILITY_CLASSES):
            result = await execute_utility(
                self, statement, portal, in_multi_statement=in_multi_statement
            )
            portal.tag = result.tag
            return result
        return Result(await self.run_ddl(statement, in_multi_statement=in_multi_statement))

    async def run_ddl(self, statement: Any, *, in_multi_statement: bool) -> str:
        """Run one DDL statement in the transaction's overlay; returns the command tag."""
        transaction = self.block.ensure_transaction(self.query_start)
        self.check_writable(command_name(statement))
        in_block = self.block.state == "open" or in_multi_statement or self.is_pipelined
        tag = await run_ddl(self, statement, in_block=in_block)
        self.has_on_commit_tables |= bool(getattr(statement, "on_commit", ""))
        self.node.transactions.end_statement(transaction)
        return tag

    def _author(self) -> Author:
        """Return who commits, for the audit of catalog changes: the role that logged in."""
        role = self.node.metadata.catalog.role_by_id(self.login_user_id)
        name = role.name if role is not None else str(self.login_user_id)
        return Author(name, self.process_id, self.services.client_address, self.now())

    @property
    def user_name(self) -> str:
        """Name of the current role."""
        role = self.node.metadata.catalog.role_by_id(self.user_id)
        return role.name if role is not None else str(self.user_id)

    async def commit(self) -> None:
        """Commit the running transaction, deferred checks first."""
        try:
            if self.block.has_waiting_checks and self.block.state != "failed":
                await constraints.check_waiting(self)
            if self.portals and self.block.state != "failed":
                held = cursors.to_hold(self)
                if held:
                    await cursors.hold(self, held)
            if self.has_on_commit_tables:
                await temporary.before_commit(self)
        except BaseException:
            self.block.rollback()
            raise
        if self.block.state == "failed":
            self.rollback()
            return
        index = await self.block.commit()
        if index:
            self.catalog_index = index
        if self.portals:
            self._close_cursors(committed=True)

    def rollback(self) -> None:
        """Roll the running transaction back."""
        self._close_cursors(committed=False)
        self.block.rollback()

    def _close_cursors(self, *, committed: bool) -> None:
        """End the portals of a transaction.

        What was declared WITH HOLD survives from its commit on.
        """
        for name, portal in list(self.portals.items()):
            if portal.is_held and (committed or portal.was_committed):
                portal.was_committed = True
            else:
                close_execution(self.portals.pop(name))

    def _lose_portals(self, serial: int) -> None:
        """Drop the portals that a rolled back savepoint takes with it."""
        for name, portal in list(self.portals.items()):
            if portal.serial > serial and not portal.was_committed:
                close_execution(self.portals.pop(name))

    def drop_cursors(self) -> None:
        """CLOSE ALL: every cursor, held ones included."""
        for name in [name for name, portal in self.portals.items() if portal.is_cursor]:
            close_execution(self.portals.pop(name))

    def _drop_portals(self) -> None:
        for name in [n for n, p in self.portals.items() if not (p.is_cursor and p.is_held)]:
            close_execution(self.portals.pop(name))

    def keep_portal(self, portal: Portal) -> None:
        """Give a portal to the running transaction."""
        self.block.portal_count += 1
        portal.serial = self.block.portal_count
        self.portals[portal.name] = portal

    async def on_error(self, error: Exception) -> None:
        """Fail the block after an error, or roll the implicit transaction back."""
        del error
        self.node.error_count += 1
        was_implicit = self.block.state in ("idle", "implicit")
        self.block.fail()
        if was_implicit:
            self._close_cursors(committed=False)
        self.end_work()

    async def close(self) -> None:
        """End the session: the client is gone."""
        if self.is_closed:
            return
        self.is_closed = True
        self.rollback()
        self.portals.clear()
        self.services.release_session_locks()
        self.node.forget(self)
        if self.leadership.may_serve:
            # What it made elsewhere is dropped by its executor there.
            await self.node.drop_temporary(self)
        # Session and parts refer to each other, so what is left waits for the collector, which
        # comes late: it should not be much.
        self.prepared.clear()
        self._query_steps.clear()
        self._normalized_steps.clear()
        self.point_context = None
        self._catalog = self._catalog_key = None

    # Time

    def begin_work(self, text: str) -> None:
        """Begin a client's request: its clock, its time limit."""
        self.query_start = self.now()
        self.state_change = self.query_start
        self.query_text = text
        self.is_running = True
        if self.services.has_idle_timeout:
            self.services.stop_idle_timeout()
        self._slice_start = self._work_start = self.node.clock.monotonic()
        self._forget_cancellation()
        self._has_executed = False
        if self.settings.statement_timeout_ms:
            self.services.start_timeout(self.settings.statement_timeout_ms)

    def end_work(self) -> None:
        """Give the client the turn again."""
        if not self.is_running:
            return
        self.is_running = False
        self._record_statement(self.node.clock.monotonic())
        self.state_change = self.query_start
        if self.services.has_timeout:
            self.services.stop_timeout()
        self._forget_cancellation()
        self._watch_idleness()

    def begin_forwarded(self, text: str) -> None:
        """Begin a request that runs on another node, which looks after its time limit."""
        self.query_start = self.state_change = self.now()
        self.query_text = text
        self.is_running = True
        if self.services.has_idle_timeout:
            self.services.stop_idle_timeout()
        if self.services.has_timeout:
            self.services.stop_timeout()
        self._forget_cancellation()

    def end_forwarded(self) -> None:
        """Give the client the turn again after a request that ran on another node."""
        self.is_running = False
        self.state_change = self.now()
        self._forget_cancellation()
        if self.remote_block == "idle":
            self._watch_idleness()

    def _record_statement(self, now: float) -> None:
        """Count what has just been executed: its time, its rows."""
        node = self.node
        milliseconds = (now - self._work_start) * 1000
        node.latency.record(now - self._work_start)
        node.statement_statistics.record(
            self, self.statistics_text or self.query_text, milliseconds, self.row_count
        )
        self.statistics_text = ""
        self.row_count = 0
        limit = self.settings.log_min_duration_ms
        if 0 <= limit <= milliseconds:
            _LOGGER.info("duration: %.3f ms  statement: %s", milliseconds, self.query_text)

    def _next_statement(self, text: str) -> None:
        """Another statement of the same request begins.

        It has a time and a time limit of its own.
        """
        if not self._has_executed:
            self._has_executed = True
            return
        now = self.node.clock.monotonic()
        self._record_statement(now)
        self._work_start = now
        self.statistics_text = text
        if self.services.has_timeout:
            self.services.stop_timeout()
        if self.settings.statement_timeout_ms:
            self.services.start_timeout(self.settings.statement_timeout_ms)

    def _forget_cancellation(self) -> None:
        """Drop what was meant for the last statement; an end of the session stays."""
        pending = self.interrupts.pending
        if isinstance(pending, QueryCanceled) or (
            isinstance(pending, LeaderChanged) and not self.block.is_touched
        ):
            self.interrupts.clear()

    def _watch_idleness(self) -> None:
        """Arm the time limit on doing nothing.

        Another one inside a transaction block than outside.
        """
        settings = self.settings
        if self.block.state == "idle":
            if settings.idle_session_timeout_ms and self.executor is None:
                error: SqlError = IdleSessionTimeout(
                    "terminating connection due to idle-session timeout"
                )
                self.services.start_idle_timeout(settings.idle_session_timeout_ms, error)
        elif settings.idle_in_transaction_timeout_ms:
            error = IdleInTransactionSessionTimeout(
                "terminating connection due to idle-in-transaction timeout"
            )
            self.services.start_idle_timeout(settings.idle_in_transaction_timeout_ms, error)

    def interrupt(self, error: Exception) -> None:
        """Have the running statement raise an error at its next safe point."""
        self.interrupts.interrupt(error)

    def cancel(self, message: str = "canceling statement due to user request") -> None:
        """Cancel the running statement, if any."""
        if self.is_running:
            self.interrupts.interrupt(QueryCanceled(message))

    async def checkpoint(self) -> None:
        """Raise a pending cancellation; after a time slice, let other sessions run."""
        interrupts = self.interrupts
        if interrupts.pending is not None:
            interrupts.check()
        if self.node.clock.monotonic() - self._slice_start > SLICE_SECONDS:
            await self.yield_turn()

    async def yield_turn(self) -> None:
        """Let all else that is ready run. Raises what has interrupted the statement."""
        waiter: Waiter[None] = Waiter()
        self.node.schedule.soon(lambda: _wake(waiter))
        await self.interrupts.wait(waiter)
        self._slice_start = self.node.clock.monotonic()


class _SessionRegResolver:
    """Names and OIDs of catalog objects, as the session's next statement sees them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def output(self, sql_type: SqlType, oid: int) -> str | None:
        """Return the name of an object, None when there is none."""
        return RegResolver(self._session.catalog()).output(sql_type, oid)

    def input(self, sql_type: SqlType, text: str) -> int:
        """Return the OID of a name; PostgreSQL's error when there is no such object."""
        return RegResolver(self._session.catalog()).input(sql_type, text)


_NOTICE_RANK: Final = {
    "DEBUG5": 0,
    "DEBUG4": 0,
    "DEBUG3": 0,
    "DEBUG2": 0,
    "DEBUG1": 0,
    "DEBUG": 0,
    "LOG": 1,
    "NOTICE": 2,
    "INFO": 9,
    "WARNING": 3,
    "ERROR": 4,
}


def _cannot_be_run(portal: Portal) -> ObjectNotInPrerequisiteState:
    return ObjectNotInPrerequisiteState(f'portal "{portal.name}" cannot be run')


def _ends_failed_block(statement: Statement | None) -> bool:
    """Tell whether a statement is allowed in a failed block: those that end it or go back in it."""
    return isinstance(statement, _EXIT_STATEMENTS) or (
        isinstance(statement, u.PrepareTransaction) and statement.action == "prepare"
    )


async def _here_only(target: str, _seconds: float) -> None:
    """Succeed if it is this node that serves the rows; LeaderChanged when another one does."""
    if target != HERE:
        raise LeaderChanged


def _nothing() -> None:
    pass


def _wake(waiter: Waiter[None]) -> None:
    waiter.set_result(None)


def _spread(formats: Sequence[int], columns: tuple[ResultColumn, ...] | None) -> Sequence[int]:
    """Return one result format per column: none given means text, one stands for all."""
    count = 0 if columns is None else len(columns)
    if len(formats) == count:
        return formats
    if len(formats) > 1:
        raise ProtocolViolation(
            f"bind message has {len(formats)} result formats but query has {count} columns"
        )
    return (formats[0] if formats else 0,) * count


def _tag(plan: PreparedPlan, returned: int, affected: int) -> str:
    kind = plan.bound.kind
    if kind == "select":
        return f"SELECT {returned}"
    if kind == "insert":
        return f"INSERT 0 {affected}"
    return f"{kind.upper()} {affected}"


def _rewind(portal: Portal) -> None:
    """Make a portal as it was before it was run."""
    close_execution(portal)
    portal.finished = False
    portal.buffer = []
    portal.position = 0


def close_execution(portal: Portal) -> None:
    """Stop a portal's execution, if one is under way."""
    execution: Any = portal.execution
    if execution is not None:
        portal.execution = None
        execution.close()
