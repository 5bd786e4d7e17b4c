"""ON CONFLICT: which unique indexes arbitrate, and the update of the row in the way.

Storage refuses an arbiter that is deferrable, when there is a row to insert.

Source: PostgreSQL docs, "INSERT", "ON CONFLICT Clause".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sql.ast.query import ColumnRef, ConflictTarget, OnConflict
from sql.binder.bound import BoundExpr, ConflictPlan, TargetTable
from sql.binder.coerce import coerce_to_boolean
from sql.binder.dispatch import bind
from sql.binder.scope import Item, Scope
from sql.binder.table_target import row_columns
from sql.binder.tree import expression_key
from sql.catalog.descriptor import PRIMARY_INDEX_ID, Index, Table
from sql.errors import (
    InvalidColumnReference,
    SqlSyntaxError,
    UndefinedObject,
    WrongObjectType,
)

if TYPE_CHECKING:
    from sql.binder.state import BindState
    from sql.binder.view_target import Destination


def bind_conflict(
    state: BindState,
    node: OnConflict,
    target: TargetTable,
    destination: Destination,
    alias: str,
    outer: Scope,
) -> ConflictPlan:
    """Bind ON CONFLICT for an INSERT into ``target``, known as ``alias``."""
    table = target.table
    if node.target is None:
        if node.action == "update":
            raise SqlSyntaxError(
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                span=node.span,
                hint="For example, ON CONFLICT (column_name).",
            )
        arbiters: tuple[int, ...] = ()
    elif node.target.constraint:
        arbiters = (_constraint_index(table, node.target),)
    else:
        arbiters = _infer(state, node.target, target, destination)
    if node.action == "nothing":
        return ConflictPlan("nothing", arbiters)
    from sql.binder.dml import bind_assignments  # noqa: PLC0415

    destination.require(state, "w")
    destination.require(state, "r")
    existing = row_columns(state, table)
    excluded = row_columns(state, table)
    scope = Scope(outer.parent, "update")
    scope.ctes = outer.ctes
    items: list[Item] = [
        destination.item(state, existing, alias, user_alias=alias != destination.name),
        destination.item(state, excluded, "excluded", user_alias=True),
    ]
    scope.items = scope.all_items = items
    assignments = bind_assignments(state, node.assignments, destination, scope)
    where: BoundExpr | None = None
    if node.where is not None:
        scope.clause = "where"
        where = coerce_to_boolean(state, bind(state, node.where, scope), "WHERE")
    return ConflictPlan("update", arbiters, existing, excluded, assignments, where)


def _constraint_index(table: Table, target: ConflictTarget) -> int:
    name = target.constraint
    found = 0
    if table.primary_name and table.primary_name == name:
        found = PRIMARY_INDEX_ID
    for index in table.indexes:
        if index.constraint and index.name == name:
            found = index.index_id
    if not found:
        is_other = any(c.name == name for c in table.checks) or any(
            f.name == name for f in table.foreign_keys
        )
        if is_other:
            raise WrongObjectType("constraint in ON CONFLICT clause has no associated index")
        raise UndefinedObject(f'constraint "{name}" for table "{table.name}" does not exist')
    return found


def _infer(
    state: BindState, node: ConflictTarget, target: TargetTable, destination: Destination
) -> tuple[int, ...]:
    table = target.table
    scope = Scope(None, "index")
    scope.items = scope.all_items = [
        destination.item(state, target.row_columns, destination.name, user_alias=False)
    ]
    positions: set[int] = set()
    keys: set[object] = set()
    by_id = {c.id: i for i, c in enumerate(target.row_columns)}
    for expression in node.expressions:
        if isinstance(expression, ColumnRef):
            # PostgreSQL points to the list, not into it.
            expression = ColumnRef(expression.parts, node.span)  # noqa: PLW2901
        bound = bind(state, expression, scope)
        if isinstance(expression, ColumnRef) and expression_key(bound) in by_id:
            positions.add(by_id[expression_key(bound)])
        else:
            keys.add(expression_key(bound))
    where: BoundExpr | None = None
    if node.where is not None:
        scope.clause = "predicate"
        where = coerce_to_boolean(state, bind(state, node.where, scope), "WHERE")
    found: list[int] = []
    if not keys and table.primary_name and set(table.clustering_key) == positions:
        found.append(PRIMARY_INDEX_ID)
    found.extend(
        i.index_id
        for i in table.indexes
        if i.unique
        and i.state in ("public", "young")
        and _matches(i, target, positions, keys, where)
    )
    if not found:
        raise InvalidColumnReference(
            "there is no unique or exclusion constraint matching the ON CONFLICT specification"
        )
    return tuple(found)


def _matches(
    index: Index,
    target: TargetTable,
    positions: set[int],
    keys: set[object],
    where: BoundExpr | None,
) -> bool:
    if {k.position for k in index.keys if k.expression is None} != positions:
        return False
    expressions = target.index_expressions.get(index.index_id, ())
    own = {
        expression_key(e)
        for e, k in zip(expressions, index.keys, strict=False)
        if k.expression is not None
    }
    if own != keys:
        return False
    predicate = target.index_predicates.get(index.index_id)
    if predicate is None:
        return True
    return where is not None and expression_key(where) == expression_key(predicate)
