"""Names in scope: what a column reference may mean at each place of a statement.

A ``Scope`` is one query level. Its ``items`` are the FROM entries that are visible right now, in
the manner of PostgreSQL's namespace list: an item may be visible as a relation (``t.a``), as a
source of bare column names (``a``), both, or only to LATERAL. ``all_items`` remembers every entry
of the level for error messages. Scopes are linked to the enclosing query's.

Source: PostgreSQL docs, "Table Expressions", "Lexical Structure" (column references).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sql.binder.bound import ColumnVar, Const, CteDefinition, OutputColumn, TableScan
from sql.binder.fuzzy import column_hint
from sql.catalog.descriptor import FIRST_USER_ID
from sql.errors import (
    AmbiguousColumn,
    DuplicateAlias,
    FeatureNotSupported,
    InvalidColumnReference,
    SqlError,
    UndefinedColumn,
    UndefinedTable,
)
from sql.span import NO_SPAN, Span
from sql.types.catalog import OID

if TYPE_CHECKING:
    from sql.ast.query import ColumnRef, LockingClause
    from sql.binder.aggregation import SelectContext
    from sql.binder.bound import BoundExpr
    from sql.binder.state import BindState, Recorder

AMBIGUOUS = -1
SYSTEM_COLUMNS = frozenset(("ctid", "xmin", "xmax", "cmin", "cmax"))


class Item:
    """One FROM entry. ``expressions[i]`` is what column ``names[i]`` stands for.

    Hidden ones are absent.
    """

    __slots__ = (
        "alias",
        "columns_visible",
        "expressions",
        "has_user_alias",
        "ids",
        "index",
        "is_join",
        "lateral_ok",
        "lateral_only",
        "names",
        "relation_id",
        "relation_visible",
        "scan",
        "table_name",
        "whole_row_scalar",
    )

    def __init__(
        self,
        alias: str,
        names: list[str],
        expressions: list[BoundExpr],
        *,
        relation_id: int = 0,
        has_user_alias: bool = False,
        scan: TableScan | None = None,
    ) -> None:
        self.alias = alias
        self.names = names
        self.expressions = expressions
        self.relation_id = relation_id
        self.has_user_alias = has_user_alias
        self.scan = scan
        self.table_name = alias if scan is None else scan.table.name
        self.relation_visible = True
        self.columns_visible = True
        self.lateral_only = False
        self.lateral_ok = True
        self.is_join = False
        self.whole_row_scalar = False
        index: dict[str, int] = {}
        for position, name in enumerate(names):
            index[name] = AMBIGUOUS if name in index else position
        self.index = index


def item_over(
    alias: str,
    names: list[str],
    columns: tuple[OutputColumn, ...],
    *,
    relation_id: int = 0,
    has_user_alias: bool = False,
) -> Item:
    """Make the item of a plan's output columns under (possibly renamed) ``names``."""
    expressions: list[BoundExpr] = [
        ColumnVar(c.id, c.type, c.typmod, n, alias) for c, n in zip(columns, names, strict=True)
    ]
    return Item(alias, names, expressions, relation_id=relation_id, has_user_alias=has_user_alias)


@dataclass(slots=True)
class CteEntry:
    """A WITH query in scope; ``definition`` is None while its own recursive term is being bound."""

    name: str
    cte_id: int
    names: list[str]
    columns: tuple[OutputColumn, ...]
    definition: CteDefinition | None = None
    recursive_refs: int = 0
    is_recursive_self: bool = False
    forbidden: str = ""
    has_returning: bool = True


class Scope:
    """One query level."""

    __slots__ = (
        "all_items",
        "clause",
        "ctes",
        "depth",
        "future_ctes",
        "items",
        "lateral_active",
        "lateral_refs",
        "locking",
        "parent",
        "reads_itself",
        "select",
    )

    def __init__(self, parent: Scope | None = None, clause: str = "select") -> None:
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.items: list[Item] = []
        self.all_items: list[Item] = []
        self.ctes: dict[str, CteEntry] | None = None
        self.clause = clause
        self.lateral_active = False
        self.lateral_refs: set[int] = set()
        self.locking: tuple[LockingClause, ...] = ()
        self.select: SelectContext | None = None
        self.reads_itself = False
        self.future_ctes: set[str] = set()

    def is_future_cte(self, name: str) -> bool:
        """Tell whether a WITH item of this name comes later, out of reach."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.future_ctes:
                return True
            scope = scope.parent
        return False

    def find_cte(self, name: str) -> CteEntry | None:
        """Find a WITH query by name, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            if scope.ctes is not None:
                found = scope.ctes.get(name)
                if found is not None:
                    return found
            scope = scope.parent
        return None


def check_no_conflict(items: list[Item], new: list[Item]) -> None:
    """Raise 42712 when a visible relation name of ``new`` is already one of ``items``."""
    seen = {i.alias: i for i in items if i.relation_visible and i.alias}
    for item in new:
        if not item.relation_visible or not item.alias:
            continue
        other = seen.get(item.alias)
        if other is None:
            continue
        both_plain = (
            item.relation_id
            and other.relation_id
            and not item.has_user_alias
            and not other.has_user_alias
            and item.relation_id != other.relation_id
        )
        if not both_plain:
            raise DuplicateAlias(f'table name "{item.alias}" specified more than once')


Found = tuple[Scope, Item, int]


def find_column(scope: Scope, name: str, span: Span) -> Found | None:
    """Find a bare column name, innermost level first; None when there is none.

    Raises AmbiguousColumn (42702).
    """
    level: Scope | None = scope
    while level is not None:
        found: Found | None = None
        for item in level.items:
            if not item.columns_visible:
                continue
            if item.lateral_only and not level.lateral_active:
                continue
            position = item.index.get(name)
            if position is None:
                continue
            if found is not None or position == AMBIGUOUS:
                raise AmbiguousColumn(f'column reference "{name}" is ambiguous', span=span)
            check_lateral(item, span)
            found = (level, item, position)
        if found is not None:
            return found
        level = level.parent
    return None


def check_lateral(item: Item, span: Span) -> None:
    """Raise 42P10 where the join's kind forbids the lateral reference."""
    if item.lateral_only and not item.lateral_ok:
        raise InvalidColumnReference(
            f'invalid reference to FROM-clause entry for table "{item.alias}"',
            span=span,
            detail="The combining JOIN type must be INNER or LEFT for a LATERAL reference.",
        )


def find_item(
    scope: Scope, name: str, span: Span, relation_id: int = 0
) -> tuple[Scope, Item] | None:
    """Find a relation by its visible name (and by OID when it was written with a schema)."""
    level: Scope | None = scope
    while level is not None:
        found: Item | None = None
        for item in level.items:
            if not item.relation_visible or item.alias != name:
                continue
            if item.lateral_only and not level.lateral_active:
                continue
            if relation_id and (item.relation_id != relation_id or item.has_user_alias):
                continue
            if found is not None:
                raise DuplicateAlias(f'table reference "{name}" is ambiguous', span=span)
            check_lateral(item, span)
            found = item
        if found is not None:
            return level, found
        level = level.parent
    return None


def missing_table(scope: Scope, name: str, span: Span) -> SqlError:
    """Make PostgreSQL's error for a qualifier that names nothing visible (42P01)."""
    candidate = _any_level_item(scope, name)
    if candidate is None:
        return UndefinedTable(f'missing FROM-clause entry for table "{name}"', span=span)
    message = f'invalid reference to FROM-clause entry for table "{name}"'
    if candidate.alias != name:
        visible = find_item(scope, candidate.alias, NO_SPAN)
        if visible is not None and visible[1] is candidate:
            hint = f'Perhaps you meant to reference the table alias "{candidate.alias}".'
            return UndefinedTable(message, span=span, hint=hint)
    return UndefinedTable(
        message,
        span=span,
        hint=f'There is an entry for table "{candidate.alias}", '
        "but it cannot be referenced from this part of the query.",
    )


def _any_level_item(scope: Scope, name: str) -> Item | None:
    level: Scope | None = scope
    while level is not None:
        for item in level.all_items:
            if item.alias == name and not item.is_join:
                return item
            if item.table_name == name:
                return item
        level = level.parent
    return None


def missing_column(scope: Scope, qualifier: str, name: str, span: Span) -> UndefinedColumn:
    """Make PostgreSQL's error for a column that does not exist (42703), with its spelling hint."""
    message = (
        f"column {qualifier}.{name} does not exist"
        if qualifier
        else f'column "{name}" does not exist'
    )
    entries: list[tuple[str, list[str]]] = []
    level: Scope | None = scope
    while level is not None:
        entries.extend((i.alias, i.names) for i in level.all_items if not i.is_join)
        level = level.parent
    return UndefinedColumn(message, span=span, hint=column_hint(entries, qualifier, name))


def system_column(item: Item, name: str, span: Span) -> BoundExpr | None:
    """Return a table's system column: only tableoid is there; the physical ones are 0A000."""
    if item.scan is None:
        is_system_table = 0 < item.relation_id < FIRST_USER_ID
        return (
            Const(item.relation_id, OID, span=span)
            if is_system_table and name == "tableoid"
            else None
        )
    if name == "tableoid":
        return Const(item.scan.table.id, OID, span=span)
    if name in SYSTEM_COLUMNS:
        raise FeatureNotSupported(f'system column "{name}" is not supported', span=span)
    return None


def _is_hidden(item: Item, level: Scope, scope: Scope) -> bool:
    """Tell whether qualifying with the item's name would find another, or nothing."""
    if item.is_join or not item.alias or not item.relation_visible:
        return True
    inner: Scope | None = scope
    while inner is not None and inner is not level:
        if any(other.alias == item.alias for other in inner.items):
            return True
        inner = inner.parent
    return sum(other.alias == item.alias for other in level.items) > 1


def note_qualifier(
    recorder: Recorder, node: ColumnRef, level: Scope, item: Item, scope: Scope
) -> None:
    """Remember for a view to which FROM entry an unqualified column belongs."""
    if not _is_hidden(item, level, scope):
        recorder.qualifiers[id(node)] = item.alias


def located(expression: BoundExpr, span: Span) -> BoundExpr:
    """Return the column expression with the reference's place."""
    if type(expression) is ColumnVar:
        e = expression
        return ColumnVar(e.id, e.type, e.typmod, e.name, e.qualifier, span)
    return expression


def note_lateral(level: Scope, item: Item, expression: Any) -> None:
    """Remember that a lateral item's column was used, so that the join is marked lateral."""
    if item.lateral_only and type(expression) is ColumnVar:
        level.lateral_refs.add(expression.id)


def note_column(state: BindState, level: Scope, item: Item, expression: BoundExpr) -> None:
    """Tell lateral joins and enclosing aggregates that a column of ``level`` was used."""
    if item.lateral_only:
        note_lateral(level, item, expression)
    for tracker in state.trackers:
        tracker.depths.add(level.depth)
