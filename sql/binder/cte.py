"""WITH: plain, recursive and data-modifying queries.

Source: PostgreSQL docs, "WITH Queries (Common Table Expressions)".
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from sql.ast.query import (
    CommonTable,
    Delete,
    Insert,
    SetOperation,
    TableRef,
    Update,
    WithClause,
)
from sql.binder.bound import CteDefinition, OutputColumn
from sql.binder.scope import CteEntry
from sql.errors import (
    DatatypeMismatch,
    DuplicateAlias,
    FeatureNotSupported,
    InvalidColumnReference,
    InvalidRecursion,
    SqlSyntaxError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql.binder.scope import Scope
    from sql.binder.state import BindState, BoundQuery

_MODIFICATIONS = (Insert, Update, Delete)


def mentions(node: Any, name: str) -> bool:
    """Tell whether the syntax below ``node`` names an unqualified relation ``name``."""
    if isinstance(node, TableRef):
        return node.name.name == name and not node.name.schema and not node.relation_id
    if isinstance(node, tuple):
        return any(mentions(item, name) for item in node)
    if isinstance(node, msgspec.Struct):
        return any(mentions(getattr(node, f), name) for f in node.__struct_fields__)
    return False


def bind_with(state: BindState, clause: WithClause, scope: Scope) -> tuple[CteDefinition, ...]:
    """Bind the WITH queries into the scope, in an order that respects their references."""
    names: set[str] = set()
    for table in clause.tables:
        if table.name in names:
            raise DuplicateAlias(
                f'WITH query name "{table.name}" specified more than once', span=table.span
            )
        names.add(table.name)
        if isinstance(table.statement, _MODIFICATIONS) and scope.parent is not None:
            raise FeatureNotSupported(
                "WITH clause containing a data-modifying statement must be at the top level",
                span=table.span,
            )
    scope.ctes = {}
    tables = list(clause.tables)
    if clause.recursive:
        tables = _in_dependency_order(tables)
    definitions = []
    scope.future_ctes = {t.name for t in tables}
    for table in tables:
        scope.future_ctes.discard(table.name)
        if table.search is not None or table.cycle is not None:
            if not clause.recursive or not mentions(table.statement, table.name):
                raise SqlSyntaxError("WITH query is not recursive", span=table.span)
            scope.ctes[table.name] = entry = _bind_traversal(state, table, scope)
            assert entry.definition is not None
            definitions.append(entry.definition)
            continue
        if clause.recursive and mentions(table.statement, table.name):
            entry = _bind_recursive(state, table, scope)
        else:
            entry = _bind_plain(state, table, scope)
        scope.ctes[table.name] = entry
        assert entry.definition is not None
        definitions.append(entry.definition)
    return tuple(definitions)


def _in_dependency_order(tables: list[CommonTable]) -> list[CommonTable]:
    """Sort so that each query follows those it reads; mutual recursion is 0A000."""
    by_name = {t.name: t for t in tables}
    done: dict[str, CommonTable] = {}
    active: set[str] = set()

    def visit(table: CommonTable) -> None:
        if table.name in done:
            return
        if table.name in active:
            raise FeatureNotSupported(
                "mutual recursion between WITH items is not implemented", span=table.span
            )
        active.add(table.name)
        for other in by_name.values():
            if other is not table and mentions(table.statement, other.name):
                visit(other)
        active.discard(table.name)
        done[table.name] = table

    for table in tables:
        visit(table)
    return list(done.values())


def _names(table: CommonTable, columns: tuple[OutputColumn, ...]) -> list[str]:
    names = [c.name for c in columns]
    if len(table.columns) > len(names):
        raise InvalidColumnReference(
            f'WITH query "{table.name}" has {len(names)} columns available '
            f"but {len(table.columns)} columns specified",
            span=table.span,
        )
    return [*table.columns, *names[len(table.columns) :]]


def _new_id(state: BindState) -> int:
    state.next_id += 1
    return state.next_id


def _bind_plain(state: BindState, table: CommonTable, scope: Scope) -> CteEntry:
    clause, scope.clause = scope.clause, "with"
    bound = state.bind_query(state, table.statement, scope)
    scope.clause = clause
    names = _names(table, bound.columns)
    modifies = isinstance(table.statement, _MODIFICATIONS)
    returns = bool(bound.columns) or not modifies
    cte_id = _new_id(state)
    definition = CteDefinition(
        cte_id,
        table.name,
        bound.plan,
        bound.columns,
        table.materialized,
        modifies=modifies,
    )
    return CteEntry(table.name, cte_id, names, bound.columns, definition, has_returning=returns)


def _bind_recursive(state: BindState, table: CommonTable, scope: Scope) -> CteEntry:
    node = table.statement
    name = table.name
    if isinstance(node, _MODIFICATIONS):
        raise InvalidRecursion(
            f'recursive query "{name}" must not contain data-modifying statements',
            span=table.span,
        )
    if not isinstance(node, SetOperation) or node.operator != "union":
        raise InvalidRecursion(
            f'recursive query "{name}" does not have the form '
            "non-recursive-term UNION [ALL] recursive-term",
            span=table.span,
        )
    _check_recursive_clauses(node)
    assert scope.ctes is not None
    guard = CteEntry(name, 0, [], ())
    guard.forbidden = (
        f'recursive reference to query "{name}" must not appear within its non-recursive term'
    )
    inner = scope
    if node.with_clause is not None:
        raise FeatureNotSupported("WITH inside a recursive query is not supported", span=table.span)
    scope.ctes[name] = guard
    start = state.bind_query(state, node.left, inner)
    names = _names(table, start.columns)
    cte_id = _new_id(state)
    # Rows come from both terms, so the columns trace to no table.
    columns = tuple(OutputColumn(c.id, c.name, c.type, c.typmod) for c in start.columns)
    entry = CteEntry(name, cte_id, names, columns, is_recursive_self=True)
    scope.ctes[name] = entry
    step = _bind_step(state, node, name, start, inner)
    if entry.recursive_refs == 0:
        raise InvalidRecursion(
            f'recursive query "{name}" does not have the form '
            "non-recursive-term UNION [ALL] recursive-term",
            span=table.span,
        )
    definition = CteDefinition(
        cte_id,
        name,
        start.plan,
        columns,
        table.materialized,
        step=step.plan,
        union_all=node.all,
    )
    return CteEntry(name, cte_id, names, columns, definition)


def _bind_traversal(state: BindState, table: CommonTable, scope: Scope) -> CteEntry:
    from sql.binder.traversal import expand_traversal  # noqa: PLC0415

    return _bind_plain(state, expand_traversal(state, table, scope), scope)


def _check_recursive_clauses(node: SetOperation) -> None:
    order = node.order_by[0].expression if node.order_by else None
    for present, word in (
        (order, "ORDER BY"),
        (node.offset, "OFFSET"),
        (node.limit, "LIMIT"),
        (node.locking[0] if node.locking else None, "FOR UPDATE/SHARE"),
    ):
        if present is not None:
            raise FeatureNotSupported(
                f"{word} in a recursive query is not implemented", span=present.span
            )


def _bind_step(
    state: BindState, node: SetOperation, name: str, start: BoundQuery, scope: Scope
) -> BoundQuery:
    from sql.binder.query import (  # noqa: PLC0415
        bind_query,
        check_widths,
        output_expression,
        with_types,
    )
    from sql.binder.state import BoundQuery as Result  # noqa: PLC0415
    from sql.binder.tree import location  # noqa: PLC0415

    bound = bind_query(state, node.right, scope, resolve=False)
    check_widths(node, start, bound)
    pairs = zip(start.columns, bound.columns, strict=True)
    for index, (first, second) in enumerate(pairs, 1):
        common = state.resolver.common_type_or_conflict([first.type, second.type])
        if isinstance(common, tuple):
            raise DatatypeMismatch(
                f"UNION types {first.type.display_name} and {second.type.display_name} "
                "cannot be matched",
                span=location(output_expression(bound, index - 1)),
            )
        if common is not first.type:
            raise DatatypeMismatch(
                f'recursive query "{name}" column {index} has type {first.type.display_name} '
                f"in non-recursive term but type {common.display_name} overall",
                span=location(output_expression(start, index - 1)),
                hint="Cast the output of the non-recursive term to the correct type.",
            )
    typed = with_types(state, bound, list(start.columns), "UNION")
    return Result(typed, typed.columns)


@contextmanager
def forbid_recursion(scope: Scope | None, where: str) -> Iterator[None]:
    """Refuse recursive references inside ``where`` ("a subquery", "an outer join"), 42P19."""
    changed: list[CteEntry] = []
    level = scope
    while level is not None:
        if level.ctes:
            for entry in level.ctes.values():
                if entry.is_recursive_self and not entry.forbidden:
                    entry.forbidden = (
                        f'recursive reference to query "{entry.name}" '
                        f"must not appear within {where}"
                    )
                    changed.append(entry)
        level = level.parent
    try:
        yield
    finally:
        for entry in changed:
            entry.forbidden = ""
