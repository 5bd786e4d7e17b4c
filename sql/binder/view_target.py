"""Views as the target of INSERT, UPDATE and DELETE: the simple ones are written through.

A view is automatically updatable when it selects from one table without anything that groups, limits or repeats
its rows; its columns that are plain columns of the table can be written.

Source: PostgreSQL docs, "CREATE VIEW", "Updatable Views".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sql.ast.query import ColumnRef, FunctionCall, Query, Select, SetOperation, TableRef, Values
from sql.binder.bound import BoundExpr, OutputColumn
from sql.binder.coerce import coerce_to_boolean
from sql.binder.dispatch import bind
from sql.binder.scope import Item, Scope
from sql.catalog.descriptor import Column, Table, View
from sql.errors import FeatureNotSupported, ObjectNotInPrerequisiteState

if TYPE_CHECKING:
    from sql.binder.state import BindState

_VERBS = {"insert": "insert into", "update": "update", "delete": "delete from"}
_ENABLING = {
    "insert": ("inserting into", "INSERT"),
    "update": ("updating", "UPDATE"),
    "delete": ("deleting from", "DELETE"),
}


@dataclass(slots=True)
class ViewTarget:
    """An updatable view over ``table``; ``columns`` by view column name, None where not writable."""

    view: View
    table: Table
    query: Select
    base_alias: str
    columns: dict[str, Column | None]

    def item(
        self, outputs: tuple[OutputColumn, ...], alias: str, *, user_alias: bool
    ) -> Item:
        """Make the namespace item of the view's columns over the table's ``outputs``."""
        from sql.binder.bound import ColumnVar  # noqa: PLC0415

        names: list[str] = []
        expressions: list[BoundExpr] = []
        for name, column in self.columns.items():
            if column is None:
                raise FeatureNotSupported(
                    f'writing to view "{self.view.name}" is not supported: '
                    f'column "{name}" is an expression'
                )
            output = outputs[column.position]
            names.append(name)
            expressions.append(ColumnVar(output.id, output.type, output.typmod, name, alias))
        item = Item(
            alias, names, expressions, relation_id=self.view.id, has_user_alias=user_alias
        )
        item.table_name = self.view.name
        return item

    def condition(self, state: BindState, outputs: tuple[OutputColumn, ...]) -> BoundExpr | None:
        """Bind the view's WHERE over the table's columns."""
        from sql.binder.table_target import table_item  # noqa: PLC0415

        if self.query.where is None:
            return None
        scope = Scope(None, "where")
        scope.items = scope.all_items = [table_item(self.table, self.base_alias, outputs)]
        trackers, state.trackers = state.trackers, []
        owner, state.view_owner = state.view_owner, self.view.owner
        try:
            bound = bind(state, self.query.where, scope)
        finally:
            state.trackers, state.view_owner = trackers, owner
        return coerce_to_boolean(state, bound, "WHERE")


def view_target(state: BindState, view: View, action: str) -> ViewTarget:
    """Return how to write through the view; 55000 with PostgreSQL's reason when that is impossible."""
    query = view.query
    reason = _obstacle(query)
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
    alias = source.name.name if source.alias is None else source.alias.name
    return ViewTarget(view, table, query, alias, columns)


def _obstacle(query: Query) -> str:
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
    if any(isinstance(t.expression, FunctionCall) for t in query.targets):
        return "Views that return aggregate functions are not automatically updatable."
    if len(query.from_items) != 1 or not isinstance(query.from_items[0], TableRef):
        return (
            "Views that do not select from a single table or view are not automatically updatable."
        )
    return ""


def _not_updatable(view: View, action: str, detail: str) -> ObjectNotInPrerequisiteState:
    doing, event = _ENABLING[action]
    return ObjectNotInPrerequisiteState(
        f'cannot {_VERBS[action]} view "{view.name}"',
        detail=detail,
        hint=f"To enable {doing} the view, provide an INSTEAD OF {event} trigger "
        f"or an unconditional ON {event} DO INSTEAD rule.",
    )
