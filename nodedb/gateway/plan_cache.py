"""The plan cache: from text (or a parsed statement) to something that can be executed many times.

A plan is good for one catalog version, search path, database and role: all four are in the key, so
a changed catalog never meets an old plan, and old plans fall out at the end of the LRU. Sessions
with uncommitted DDL bypass the cache.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from nodedb.gateway.placement import Placement, place_bound
from sql.ast.query import Delete, DmlStatement, Insert, Select, SetOperation, Update, Values
from sql.binder import bind_statement, column_privileges
from sql.binder.bound import WithPlan
from sql.catalog.descriptor import Sequence as SequenceDescriptor
from sql.catalog.descriptor import Table, View
from sql.errors import SqlSyntaxError
from sql.parser import parse_statements
from sql.planner import PhysicalPlan, plan_statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodedb.catalog.session_catalog import SessionCatalog
    from sql.ast.utility import Statement
    from sql.binder.bound import BoundStatement
    from sql.types.base import SqlType

ENTRIES_MAX: Final = 2048
TEXT_BYTES_MAX: Final = 64 * 1024
"""Longer texts are not worth their memory: they are bulk loads, seldom repeated."""
CACHED_TEXT_BYTES_MAX: Final = 512 * 1024
"""Of all texts of one cache: what is kept for a text takes up to two hundred times as much."""

PlanKey = tuple[object, ...]
T = TypeVar("T")
_CHECKS_ONLY: Final = {"no action", "restrict"}
"""Actions of a foreign key that write nothing."""
DML_CLASSES: Final = (Select, Values, SetOperation, Insert, Update, Delete)


class PreparedPlan:
    """A bound and planned query or DML statement."""

    __slots__ = (
        "_placement",
        "bound",
        "checked_privileges",
        "checked_relations",
        "columns",
        "is_point_read",
        "is_read_only",
        "is_writing",
        "lock_relations",
        "plan",
        "written_name",
    )

    def __init__(
        self,
        bound: BoundStatement,
        plan: PhysicalPlan,
        catalog: SessionCatalog,
        written_name: str = "",
    ) -> None:
        self.written_name = written_name or bound.kind.upper()
        """What PostgreSQL calls it where writing is refused."""
        self.bound = bound
        self.plan = plan
        self._placement: Placement | None = None
        self.checked_privileges = False
        self.columns: tuple[Any, ...] | None = None
        self.is_read_only = bound.kind == "select" and not writes_or_locks(bound)
        self.is_point_read = (
            self.is_read_only and plan.point is not None and plan.point.kind == "get"
        )
        modifying = isinstance(bound.plan, WithPlan) and any(
            definition.modifies for definition in bound.plan.definitions
        )
        self.is_writing = bound.kind != "select" or modifying
        """Whether it writes rows, and not only locks them."""
        relations = list(bound.relations)
        if self.is_writing:
            relations += _cascaded(bound, catalog)
        self.lock_relations = tuple(dict.fromkeys(relations))
        checked = _checked(bound, catalog, relations) if self.is_writing else set()
        self.checked_relations = tuple(sorted(checked - set(relations)))
        """Tables in which foreign keys look rows up."""

    @property
    def placement(self) -> Placement:
        """Where it may run."""
        if self._placement is None:
            self._placement = place_bound(self.bound)
        return self._placement

    def writes_only_temporary(self, catalog: SessionCatalog) -> bool:
        """Tell whether all it writes are temporary tables, which a read-only transaction may."""
        written = [
            relation_id
            for relation_id, letters in self.bound.privileges
            if set(letters) & set("awdD")
        ]
        tables = [catalog.snapshot.get(relation_id) for relation_id in written]
        return bool(tables) and all(
            isinstance(table, Table) and table.temporary_session for table in tables
        )

    def check_privileges(self, catalog: SessionCatalog) -> None:
        """Raise InsufficientPrivilege (42501) unless the role may run it.

        Once per plan, for the role is in the key. What views read and write, their owners must
        be allowed to.
        """
        for relation_id, letters in self.bound.privileges:
            self._check_privilege(catalog, relation_id, letters)
        for owner, relation_id, letters in self.bound.view_privileges:
            self._check_privilege(catalog.as_role(owner), relation_id, letters)
        self.checked_privileges = True

    def _check_privilege(self, catalog: SessionCatalog, relation_id: int, letters: str) -> None:
        relation = catalog.snapshot.get(relation_id)
        if not isinstance(relation, (Table, View, SequenceDescriptor)):
            return
        if isinstance(relation, Table) and not catalog.has_privilege(relation, letters):
            self._check_column_privileges(catalog, relation, letters)
        else:
            catalog.check_privilege(relation, letters)

    def _check_column_privileges(self, catalog: SessionCatalog, table: Table, letters: str) -> None:
        """Accept grants on every column the statement uses in place of one on the table."""
        found = False
        for relation_id, letter, positions in column_privileges(self.bound):
            if relation_id == table.id and letter in letters:
                catalog.check_column_privileges(table, letter, positions)
                found = True
        if not found:
            catalog.check_privilege(table, letters)


def _cascaded(bound: BoundStatement, catalog: SessionCatalog) -> list[int]:
    """Return the tables that foreign keys' actions may write, those actions' own included."""
    privileges = [*bound.privileges, *[entry[1:] for entry in bound.view_privileges]]
    pending = [relation_id for relation_id, letters in privileges if set(letters) & {"w", "d"}]
    found: dict[int, None] = {}
    while pending:
        table = catalog.snapshot.table(pending.pop())
        if table is None:
            continue
        for child_id in table.referenced_by:
            child = catalog.snapshot.table(child_id)
            if child is None or child_id in found:
                continue
            if any(
                key.referenced_table_id == table.id
                and not {key.on_delete, key.on_update} <= _CHECKS_ONLY
                for key in child.foreign_keys
            ):
                found[child_id] = None
                pending.append(child_id)
    return list(found)


def _checked(bound: BoundStatement, catalog: SessionCatalog, relation_ids: list[int]) -> set[int]:
    """Return the tables that the rows written refer to, or are referred to from."""
    privileges = [*bound.privileges, *[entry[1:] for entry in bound.view_privileges]]
    written = {relation_id for relation_id, letters in privileges if set(letters) & {"a", "w", "d"}}
    cascaded = set(relation_ids) - set(bound.relations)
    found: set[int] = set()
    for relation_id in written | cascaded:
        table = catalog.snapshot.table(relation_id)
        if table is not None:
            found.update(key.referenced_table_id for key in table.foreign_keys)
            found.update(table.referenced_by)
    return found


def writes_or_locks(bound: BoundStatement) -> bool:
    """Tell whether any privilege beyond reading is asked: data-modifying CTEs and FOR UPDATE do."""
    return any(set(letters) - {"r", "U"} for _, letters in bound.privileges)


class LruCache(OrderedDict[PlanKey, T]):
    """The newest ``limit`` entries, as far as their texts fit into ``text_bytes_max``.

    The first part of a key is the text.
    """

    def __init__(self, limit: int, text_bytes_max: int = CACHED_TEXT_BYTES_MAX) -> None:
        super().__init__()
        self._limit = limit
        self._text_bytes_left = text_bytes_max

    def find(self, key: PlanKey) -> T | None:
        """Return an entry and make it the newest."""
        found = self.get(key)
        if found is not None:
            self.move_to_end(key)
        return found

    def store(self, key: PlanKey, value: T) -> None:
        """Add an entry; the oldest ones go when there are too many, or too long ones."""
        if key not in self:
            self._text_bytes_left -= _text_bytes(key)
        self[key] = value
        while len(self) > self._limit or (self._text_bytes_left < 0 and len(self) > 1):
            oldest, _ = self.popitem(last=False)
            self._text_bytes_left += _text_bytes(oldest)


def _text_bytes(key: PlanKey) -> int:
    text = key[0]
    assert isinstance(text, str)
    return len(text)


class PlanCache:
    """Parsed statements and plans, shared by all sessions of a node."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._parsed: LruCache[Statement] = LruCache(entries_max)
        self._plans: LruCache[PreparedPlan] = LruCache(entries_max)
        self.normalized: LruCache[Any] = LruCache(entries_max)
        """Prepared statements of simple-protocol texts whose literals became parameters."""
        self.hits = 0
        self.misses = 0

    def parse_one(self, text: str) -> Statement | None:
        """Parse a text that may hold one statement (None: none at all), as Parse messages do."""
        found = self._parsed.find((text,))
        if found is not None:
            return found
        statements = parse_statements(text)
        if not statements:
            return None
        if len(statements) > 1:
            raise SqlSyntaxError("cannot insert multiple commands into a prepared statement")
        statement = statements[0].statement
        if len(text) <= TEXT_BYTES_MAX:
            self._parsed.store((text,), statement)
        return statement

    def parsed_single(self, text: str) -> Statement | None:
        """Return the statement of a text that was parsed before and held just one."""
        return self._parsed.find((text,))

    def remember_single(self, text: str, statement: Statement) -> None:
        """Keep a parsed statement for its text."""
        if len(text) <= TEXT_BYTES_MAX:
            self._parsed.store((text,), statement)

    def plan(
        self,
        statement: DmlStatement,
        text: str,
        parameter_types: Sequence[SqlType | None],
        catalog: SessionCatalog,
        *,
        plan_key: object,
        fixed_parameters: bool = False,
    ) -> PreparedPlan:
        """Return a plan, from the cache when ``text`` was planned under the same catalog."""
        if plan_key is None or not text or len(text) > TEXT_BYTES_MAX:
            return self._make(
                statement, parameter_types, catalog, fixed_parameters=fixed_parameters
            )
        key = (text, tuple(parameter_types), plan_key, fixed_parameters)
        found = self._plans.find(key)
        if found is not None:
            self.hits += 1
            return found
        self.misses += 1
        plan = self._make(statement, parameter_types, catalog, fixed_parameters=fixed_parameters)
        self._plans.store(key, plan)
        return plan

    def find(
        self, text: str, parameter_types: tuple[SqlType | None, ...], plan_key: object
    ) -> PreparedPlan | None:
        """Return a cached plan without parsing: the hot path of the simple protocol."""
        found = self._plans.find((text, parameter_types, plan_key))
        if found is not None:
            self.hits += 1
        return found

    def _make(
        self,
        statement: DmlStatement,
        parameter_types: Sequence[SqlType | None],
        catalog: SessionCatalog,
        *,
        fixed_parameters: bool,
    ) -> PreparedPlan:
        """Bind and plan; with ``fixed_parameters`` a further $n is UndefinedParameter.

        42P02, as in a simple query.
        """
        bound = bind_statement(
            statement, catalog, parameter_types, fixed_parameters=fixed_parameters
        )
        locking = statement.locking if isinstance(statement, (Select, SetOperation)) else ()
        name = f"SELECT FOR {locking[0].strength.upper()}" if locking else ""
        return PreparedPlan(bound, plan_statement(bound, catalog), catalog, name)


def is_dml(statement: Statement) -> bool:
    """Tell whether a statement is bound and planned, rather than executed from its AST."""
    return isinstance(statement, DML_CLASSES)


def as_dml(statement: Statement) -> DmlStatement:
    """Narrow a statement that ``is_dml``."""
    return cast("DmlStatement", statement)
