"""Which views can be written: those that select plain columns from one table or such a view.

Source: PostgreSQL docs, "CREATE VIEW", "Updatable Views".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sql.ast.query import ColumnRef, FunctionCall, Query, Select, SetOperation, TableRef, Values
from sql.catalog.descriptor import Table, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from sql.functions.registry import Registry

NOT_SINGLE: Final = (
    "Views that do not select from a single table or view are not automatically updatable."
)


def view_obstacle(registry: Registry, query: Query, *, with_columns: bool) -> str:
    """Return why a view with this query cannot be written, "" when it can.

    ``with_columns``: also when no column of it is a plain column, as INSERT and UPDATE need.
    """
    if isinstance(query, SetOperation):
        return "Views containing UNION, INTERSECT, or EXCEPT are not automatically updatable."
    if isinstance(query, Values):
        return NOT_SINGLE
    clause = ""
    if query.distinct_on is not None:
        clause = "DISTINCT"
    elif query.group_by:
        clause = "GROUP BY"
    elif query.having is not None:
        clause = "HAVING"
    elif query.with_clause is not None:
        clause = "WITH"
    elif query.limit is not None or query.offset is not None:
        clause = "LIMIT or OFFSET"
    if clause:
        return f"Views containing {clause} are not automatically updatable."
    for target in query.targets:
        what = _special_call(registry, target.expression)
        if what:
            return f"Views that return {what} functions are not automatically updatable."
    if len(query.from_items) != 1 or not isinstance(query.from_items[0], TableRef):
        return NOT_SINGLE
    if with_columns and not any(isinstance(t.expression, ColumnRef) for t in query.targets):
        return "Views that have no updatable columns are not automatically updatable."
    return ""


def _special_call(registry: Registry, node: object) -> str:
    if isinstance(node, FunctionCall):
        name = node.name[-1]
        if node.over is not None:
            return "window"
        if name in registry.aggregates:
            return "aggregate"
        if any(f.returns_set for f in registry.functions.get(name, ())):
            return "set-returning"
    if isinstance(node, tuple):
        return next((w for w in (_special_call(registry, i) for i in node) if w), "")
    if isinstance(node, msgspec.Struct):
        values = (getattr(node, f) for f in node.__struct_fields__)
        return next((w for w in (_special_call(registry, v) for v in values) if w), "")
    return ""


def writable_columns(
    find: Callable[[int], object], registry: Registry, relation: object
) -> frozenset[str] | None:
    """Follow views to their table with ``find``, which returns the object of an OID.

    Return the columns that INSERT and UPDATE may set, None when no row can be written at all.

    An empty set means that rows can be deleted only.
    """
    if isinstance(relation, Table):
        return frozenset(relation.column_by_name)
    if not isinstance(relation, View) or view_obstacle(
        registry, relation.query, with_columns=False
    ):
        return None
    query = relation.query
    assert isinstance(query, Select)
    source = query.from_items[0]
    assert isinstance(source, TableRef)
    below = find(source.relation_id)
    writable = writable_columns(find, registry, below)
    if writable is None:
        return None
    shown = below.visible_columns if isinstance(below, Table) else getattr(below, "columns", ())
    names = [column.name for column in shown]
    renamed = () if source.alias is None else source.alias.columns
    inner = dict(zip((*renamed, *names[len(renamed) :]), names, strict=True))
    return frozenset(
        column.name
        for column, target in zip(relation.columns, query.targets, strict=True)
        if isinstance(target.expression, ColumnRef)
        and inner.get(target.expression.parts[-1]) in writable
    )
