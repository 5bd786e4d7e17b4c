"""Views as the target of INSERT, UPDATE and DELETE: the simple ones are written through.

A view is automatically updatable when it selects from one table without anything that groups,
limits or repeats its rows; its columns that are plain columns of the table can be written.

Source: PostgreSQL docs, "CREATE VIEW", "Updatable Views".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from sql.ast.query import (
    ColumnRef,
    Expression,
    FunctionCall,
    QualifiedName,
    Query,
    Select,
    SetOperation,
    TableRef,
    Values,
)
from sql.binder.bound import BoundExpr, ColumnVar, OutputColumn
from sql.binder.coerce import coerce_to_boolean
from sql.binder.dispatch import bind
from sql.binder.from_clause import find_relation
from sql.binder.scope import SYSTEM_COLUMNS, Item, Scope
from sql.binder.table_target import table_item
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import Column, Sequence, Table, View
from sql.errors import (
    FeatureNotSupported,
    InsufficientPrivilege,
    ObjectNotInPrerequisiteState,
    UndefinedColumn,
    WrongObjectType,
)

if TYPE_CHECKING:
    from sql.binder.state import BindState
    from sql.span import Span

_VERBS = {"insert": "insert into", "update": "update", "delete": "delete from"}
_ENABLING = {
    "insert": ("inserting into", "INSERT"),
    "update": ("updating", "UPDATE"),
    "delete": ("deleting from", "DELETE"),
}


@dataclass(slots=True)
class Destination:
    """What is written: a table, perhaps through an updatable view of it.

    ``columns`` are the names that the statement may use with the table's columns behind them,
    None where a view's column is an expression.
    """

    table: Table
    columns: dict[str, Column | None]
    view: View | None = None
    query: Select | None = None

    @property
    def name(self) -> str:
        """The name of the relation that the statement names."""
        return self.table.name if self.view is None else self.view.name

    def require(self, state: BindState, letters: str) -> None:
        """Note a privilege: on the view for the user, on its table for the view's owner."""
        if self.view is None:
            state.require(self.table.id, letters)
            return
        state.require(self.view.id, letters)
        owner, state.view_owner = state.view_owner, self.view.owner
        state.require(self.table.id, letters)
        state.view_owner = owner

    def item(
        self,
        state: BindState,
        outputs: tuple[OutputColumn, ...],
        alias: str,
        *,
        user_alias: bool,
    ) -> Item:
        """Make the namespace item over ``outputs``, which are parallel to the table's columns."""
        if self.view is None or self.query is None:
            return table_item(self.table, alias, outputs, user_alias=user_alias)
        names: list[str] = []
        expressions: list[BoundExpr] = []
        scope = self._base_scope(outputs)
        for (name, column), target in zip(self.columns.items(), self.query.targets, strict=True):
            names.append(name)
            if column is None:
                expressions.append(self._as_owner(state, target.expression, scope))
                continue
            output = outputs[column.position]
            expressions.append(ColumnVar(output.id, output.type, output.typmod, name, alias))
        item = Item(alias, names, expressions, relation_id=self.view.id, has_user_alias=user_alias)
        item.table_name = self.view.name
        return item

    def _base_scope(self, outputs: tuple[OutputColumn, ...]) -> Scope:
        assert self.query is not None
        source = self.query.from_items[0]
        assert isinstance(source, TableRef)
        alias = source.name.name if source.alias is None else source.alias.name
        scope = Scope(None, "where")
        scope.items = scope.all_items = [table_item(self.table, alias, outputs)]
        return scope

    def _as_owner(self, state: BindState, node: Expression, scope: Scope) -> BoundExpr:
        assert self.view is not None
        trackers, state.trackers = state.trackers, []
        owner, state.view_owner = state.view_owner, self.view.owner
        try:
            return bind(state, node, scope)
        finally:
            state.trackers, state.view_owner = trackers, owner

    def condition(self, state: BindState, outputs: tuple[OutputColumn, ...]) -> BoundExpr | None:
        """Bind the view's WHERE over the table's columns; None for a table."""
        if self.query is None or self.query.where is None:
            return None
        bound = self._as_owner(state, self.query.where, self._base_scope(outputs))
        return coerce_to_boolean(state, bound, "WHERE")

    def writable(self, name: str, action: str, span: Span) -> Column:
        """Return the column to write; 42703, or 0A000 for an expression of a view."""
        column = self.columns.get(name)
        if column is not None:
            return column
        if name in self.columns:
            raise FeatureNotSupported(
                f'cannot {_VERBS[action]} column "{name}" of view "{self.name}"',
                detail="View columns that are not columns of their base relation "
                "are not updatable.",
            )
        if name in SYSTEM_COLUMNS:
            raise FeatureNotSupported(f'cannot assign to system column "{name}"', span=span)
        raise UndefinedColumn(
            f'column "{name}" of relation "{self.name}" does not exist', span=span
        )


def find_destination(
    state: BindState, name: QualifiedName, action: str, relation_id: int = 0
) -> Destination:
    """Find what to write: 42P01, 42809, 42501, or 55000 for a view that is not updatable."""
    relation = find_relation(state, TableRef(name, relation_id=relation_id, span=name.span))
    if isinstance(relation, Table):
        return Destination(relation, dict(relation.column_by_name))
    if isinstance(relation, VirtualTable):
        kind = "view" if relation.is_view else "table"
        raise InsufficientPrivilege(f"permission denied for {kind} {relation.name}")
    if isinstance(relation, Sequence):
        raise WrongObjectType(f'cannot change sequence "{relation.name}"')
    return _view_destination(state, relation, action)


def _view_destination(state: BindState, view: View, action: str) -> Destination:
    query = view.query
    reason = _obstacle(state, query)
    if reason:
        raise _not_updatable(view, action, reason)
    assert isinstance(query, Select)
    source = query.from_items[0]
    assert isinstance(source, TableRef)
    table = state.catalog.relation_by_id(source.relation_id) or state.catalog.find_relation(
        source.name
    )
    if isinstance(table, View):
        raise FeatureNotSupported(
            f'writing to view "{view.name}" is not supported: it reads another view'
        )
    if not isinstance(table, Table):
        raise _not_updatable(
            view,
            action,
            "Views that do not select from a single table or view are not automatically updatable.",
        )
    if view.check_option:
        raise FeatureNotSupported(
            f'writing to view "{view.name}" is not supported: it has a CHECK OPTION'
        )
    columns: dict[str, Column | None] = {}
    for shown, target in zip(view.columns, query.targets, strict=True):
        node = target.expression
        column = table.column_by_name.get(node.parts[-1]) if isinstance(node, ColumnRef) else None
        columns[shown.name] = column
    state.relations[view.id] = None
    return Destination(table, columns, view, query)


def _obstacle(state: BindState, query: Query) -> str:
    clause = ""
    if isinstance(query, SetOperation):
        return "Views containing UNION, INTERSECT, or EXCEPT are not automatically updatable."
    if isinstance(query, Values):
        return (
            "Views that do not select from a single table or view are not automatically updatable."
        )
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
        what = _special_call(state, target.expression)
        if what:
            return f"Views that return {what} functions are not automatically updatable."
    if len(query.from_items) != 1 or not isinstance(query.from_items[0], TableRef):
        return (
            "Views that do not select from a single table or view are not automatically updatable."
        )
    return ""


def _special_call(state: BindState, node: object) -> str:
    if isinstance(node, FunctionCall):
        name = node.name[-1]
        if node.over is not None:
            return "window"
        if name in state.registry.aggregates:
            return "aggregate"
        if any(f.returns_set for f in state.registry.functions.get(name, ())):
            return "set-returning"
    if isinstance(node, tuple):
        return next((w for w in (_special_call(state, i) for i in node) if w), "")
    if isinstance(node, msgspec.Struct):
        values = (getattr(node, f) for f in node.__struct_fields__)
        return next((w for w in (_special_call(state, v) for v in values) if w), "")
    return ""


def _not_updatable(view: View, action: str, detail: str) -> ObjectNotInPrerequisiteState:
    doing, event = _ENABLING[action]
    return ObjectNotInPrerequisiteState(
        f'cannot {_VERBS[action]} view "{view.name}"',
        detail=detail,
        hint=f"To enable {doing} the view, provide an INSTEAD OF {event} trigger "
        f"or an unconditional ON {event} DO INSTEAD rule.",
    )
