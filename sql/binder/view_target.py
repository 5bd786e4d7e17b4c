"""Views as the target of INSERT, UPDATE and DELETE: the simple ones are written through.

A view is automatically updatable when it selects from one table without anything that groups,
limits or repeats its rows; its columns that are plain columns of the table can be written.

Source: PostgreSQL docs, "CREATE VIEW", "Updatable Views".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from sql.ast.query import (
    ColumnRef,
    Expression,
    QualifiedName,
    Select,
    TableRef,
)
from sql.binder.bound import (
    BoolExpr,
    BoundExpr,
    ColumnVar,
    OutputColumn,
    TargetTable,
    ViewCheck,
)
from sql.binder.coerce import coerce_to_boolean
from sql.binder.dispatch import bind
from sql.binder.from_clause import find_relation
from sql.binder.scope import SYSTEM_COLUMNS, Item, Scope
from sql.binder.table_target import default_value, table_item, target_table
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import Column, Sequence, Table, View
from sql.errors import (
    FeatureNotSupported,
    InsufficientPrivilege,
    ObjectNotInPrerequisiteState,
    UndefinedColumn,
    WrongObjectType,
)
from sql.functions.updatable import NOT_SINGLE, view_obstacle
from sql.span import NO_SPAN
from sql.types.catalog import BOOL

if TYPE_CHECKING:
    from sql.binder.state import BindState
    from sql.span import Span


_VERBS = {"insert": "insert into", "update": "update", "delete": "delete from"}
_ENABLING = {
    "insert": ("inserting into", "INSERT"),
    "update": ("updating", "UPDATE"),
    "delete": ("deleting from", "DELETE"),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One updatable view on the way to the table.

    ``alias`` and ``names`` are what its query calls the relation below and that one's columns.
    """

    view: View
    query: Select
    alias: str
    names: tuple[str, ...]


@dataclass(slots=True)
class Destination:
    """What is written: a table, perhaps through updatable views, the named one first.

    ``columns`` are the names that the statement may use with the table's columns behind them,
    None where a view's column is an expression: ``computed`` has that column's name and view.
    ``defaults`` are what the views put in place of the table's defaults, by column position.
    """

    table: Table
    columns: dict[str, Column | None]
    layers: tuple[Layer, ...] = ()
    computed: dict[str, tuple[str, str]] = field(default_factory=dict)
    defaults: dict[int, Expression] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the relation that the statement names."""
        return self.layers[0].view.name if self.layers else self.table.name

    @property
    def is_view(self) -> bool:
        """Whether the statement names a view."""
        return bool(self.layers)

    def require(self, state: BindState, letters: str) -> None:
        """Note a privilege: the user's on what is named, each view's owner's on what it reads."""
        owner = state.view_owner
        for layer in self.layers:
            state.require(layer.view.id, letters)
            state.view_owner = layer.view.reads_as
        state.require(self.table.id, letters)
        state.view_owner = owner

    def target(self, state: BindState, *, writes_row: bool) -> TargetTable:
        """Bind what goes with writing to the table, the views' check options included."""
        target = target_table(state, self.table, writes_row=writes_row)
        if not writes_row or not any(layer.view.check_option for layer in self.layers):
            return target
        return replace(target, view_checks=self._view_checks(state, target.row_columns))

    def item(
        self,
        state: BindState,
        outputs: tuple[OutputColumn, ...],
        alias: str,
        *,
        user_alias: bool,
    ) -> Item:
        """Make the namespace item over ``outputs``, which are parallel to the table's columns."""
        if not self.layers:
            return table_item(self.table, alias, outputs, user_alias=user_alias)
        view = self.layers[0].view
        below = self._sources(state, outputs)[0]
        names, expressions = _shown(state, self.layers[0], below, alias)
        item = Item(alias, names, expressions, relation_id=view.id, has_user_alias=user_alias)
        item.table_name = view.name
        return item

    def _sources(self, state: BindState, outputs: tuple[OutputColumn, ...]) -> list[Item]:
        """Return the item that each layer's query reads, in the order of the layers."""
        innermost = self.layers[-1]
        base = table_item(self.table, innermost.alias, outputs)
        found = [Item(innermost.alias, list(innermost.names), base.expressions)]
        for upper, lower in zip(self.layers[-2::-1], self.layers[:0:-1], strict=True):
            _, expressions = _shown(state, lower, found[-1], upper.alias)
            found.append(Item(upper.alias, list(upper.names), expressions))
        return found[::-1]

    def _conditions(
        self, state: BindState, outputs: tuple[OutputColumn, ...]
    ) -> list[BoundExpr | None]:
        """Bind each layer's WHERE over the table's columns."""
        result: list[BoundExpr | None] = []
        for layer, source in zip(self.layers, self._sources(state, outputs), strict=True):
            where = layer.query.where
            if where is None:
                result.append(None)
                continue
            bound = _as_owner(state, layer, where, source)
            result.append(coerce_to_boolean(state, bound, "WHERE"))
        return result

    def condition(self, state: BindState, outputs: tuple[OutputColumn, ...]) -> BoundExpr | None:
        """Bind the views' WHERE over the table's columns, innermost first; None without."""
        if not self.layers:
            return None
        found = [c for c in reversed(self._conditions(state, outputs)) if c is not None]
        if len(found) > 1:
            return BoolExpr("and", tuple(found), BOOL)
        return found[0] if found else None

    def _view_checks(
        self, state: BindState, outputs: tuple[OutputColumn, ...]
    ) -> tuple[ViewCheck, ...]:
        """Bind what new rows must satisfy; inner views first, as the standard wants."""
        checks: list[ViewCheck] = []
        cascaded = False
        conditions = self._conditions(state, outputs)
        for layer, condition in zip(self.layers, conditions, strict=True):
            option = layer.view.check_option
            if condition is not None and (option or cascaded):
                checks.append(ViewCheck(layer.view.name, condition))
            cascaded = cascaded or option == "cascaded"
        return tuple(reversed(checks))

    def default(self, state: BindState, column: Column, span: Span = NO_SPAN) -> BoundExpr:
        """Bind the value of a column that gets none: the views' default or the table's."""
        expression = self.defaults.get(column.position)
        if expression is not None:
            column = msgspec.structs.replace(column, default=expression)
        return default_value(state, column, span)

    def writable(self, name: str, action: str, span: Span) -> Column:
        """Return the column to write; 42703, or 0A000 for an expression of a view."""
        column = self.columns.get(name)
        if column is not None:
            return column
        if name in self.computed:
            column_name, view_name = self.computed[name]
            raise FeatureNotSupported(
                f'cannot {_VERBS[action]} column "{column_name}" of view "{view_name}"',
                detail="View columns that are not columns of their base relation "
                "are not updatable.",
            )
        if name in SYSTEM_COLUMNS:
            raise FeatureNotSupported(f'cannot assign to system column "{name}"', span=span)
        raise UndefinedColumn(
            f'column "{name}" of relation "{self.name}" does not exist', span=span
        )


def _shown(
    state: BindState, layer: Layer, below: Item, alias: str
) -> tuple[list[str], list[BoundExpr]]:
    """Return the names and expressions of a view's columns over what its query reads."""
    names: list[str] = []
    expressions: list[BoundExpr] = []
    for column, target in zip(layer.view.columns, layer.query.targets, strict=True):
        node = target.expression
        place = below.index.get(node.parts[-1]) if isinstance(node, ColumnRef) else None
        bound = _as_owner(state, layer, node, below) if place is None else below.expressions[place]
        if isinstance(bound, ColumnVar):
            bound = ColumnVar(bound.id, bound.type, bound.typmod, column.name, alias)
        names.append(column.name)
        expressions.append(bound)
    return names, expressions


def _as_owner(state: BindState, layer: Layer, node: Expression, source: Item) -> BoundExpr:
    scope = Scope(None, "where")
    scope.items = scope.all_items = [source]
    trackers, state.trackers = state.trackers, []
    owner, state.view_owner = state.view_owner, layer.view.reads_as
    try:
        return bind(state, node, scope)
    finally:
        state.trackers, state.view_owner = trackers, owner


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
    reason = view_obstacle(state.registry, view.query, with_columns=action != "delete")
    if reason:
        raise _not_updatable(view, action, reason)
    query = view.query
    assert isinstance(query, Select)
    source = query.from_items[0]
    assert isinstance(source, TableRef)
    catalog = state.catalog
    relation = catalog.relation_by_id(source.relation_id) or catalog.find_relation(source.name)
    state.relations[view.id] = None
    if isinstance(relation, View):
        inner = _view_destination(state, relation, action)
        below = [c.name for c in relation.columns]
    elif isinstance(relation, Table):
        inner = Destination(relation, dict(relation.column_by_name))
        below = [c.name for c in relation.visible_columns]
    else:
        raise _not_updatable(view, action, NOT_SINGLE)
    renamed = () if source.alias is None else source.alias.columns
    names = (*renamed, *below[len(renamed) :])
    alias = source.name.name if source.alias is None else source.alias.name
    inner_names = dict(zip(names, below, strict=True))
    columns: dict[str, Column | None] = {}
    computed: dict[str, tuple[str, str]] = {}
    defaults = dict(inner.defaults)
    for shown, target in zip(view.columns, query.targets, strict=True):
        node = target.expression
        name = inner_names.get(node.parts[-1], "") if isinstance(node, ColumnRef) else ""
        column = columns[shown.name] = inner.columns.get(name)
        if column is None:
            computed[shown.name] = inner.computed.get(name, (shown.name, view.name))
        elif shown.default is not None:
            defaults[column.position] = shown.default
    layer = Layer(view, query, alias, names)
    return Destination(inner.table, columns, (layer, *inner.layers), computed, defaults)


def _not_updatable(view: View, action: str, detail: str) -> ObjectNotInPrerequisiteState:
    doing, event = _ENABLING[action]
    return ObjectNotInPrerequisiteState(
        f'cannot {_VERBS[action]} view "{view.name}"',
        detail=detail,
        hint=f"To enable {doing} the view, provide an INSTEAD OF {event} trigger "
        f"or an unconditional ON {event} DO INSTEAD rule.",
    )
