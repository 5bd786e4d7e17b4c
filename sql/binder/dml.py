"""INSERT, UPDATE and DELETE.

Source: PostgreSQL docs, "INSERT", "UPDATE", "DELETE", "Returning Data from Modified Rows".
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from sql.ast.node import Node
from sql.ast.query import (
    Assignment,
    DefaultMarker,
    Delete,
    DmlStatement,
    Expression,
    FunctionCall,
    Insert,
    Query,
    RowConstructor,
    ScalarSubquery,
    Select,
    SetOperation,
    Target,
    Update,
    Values,
)
from sql.binder.bound import (
    BoolExpr,
    BoundExpr,
    ColumnVar,
    Const,
    DeletePlan,
    FilterPlan,
    InsertPlan,
    JoinPlan,
    LogicalPlan,
    OneRow,
    OutputColumn,
    ParameterRef,
    ProjectPlan,
    TableScan,
    UpdatePlan,
    ValuesPlan,
    WithPlan,
)
from sql.binder.coerce import coerce_to_boolean, resolve_unknown
from sql.binder.comparison import bind_row_subquery
from sql.binder.conflict import bind_conflict
from sql.binder.cte import bind_with
from sql.binder.dispatch import bind
from sql.binder.from_clause import bind_from, scan_table
from sql.binder.scope import Item, Scope, check_no_conflict, item_over
from sql.binder.state import BindState, BoundQuery, Tracker, var_of
from sql.binder.subscript_target import Slot, slot_of
from sql.binder.targets import bind_targets
from sql.binder.tree import location
from sql.binder.view_target import Destination, find_destination
from sql.errors import (
    DuplicateColumn,
    FeatureNotSupported,
    GeneratedAlways,
    SqlSyntaxError,
)
from sql.span import NO_SPAN
from sql.types.catalog import BOOL, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sql.ast.query import Alias
    from sql.catalog.descriptor import Column


def bind_modification(state: BindState, node: DmlStatement, parent: Scope | None) -> BoundQuery:
    """Bind a data-modifying statement; its output columns are those of RETURNING."""
    if isinstance(node, Insert):
        return _bind_insert(state, node, parent)
    if isinstance(node, Update):
        return _bind_update(state, node, parent)
    assert isinstance(node, Delete)
    return _bind_delete(state, node, parent)


# --- INSERT ---


def _bind_insert(state: BindState, node: Insert, parent: Scope | None) -> BoundQuery:
    scope = Scope(parent, "values")
    definitions = () if node.with_clause is None else bind_with(state, node.with_clause, scope)
    destination = find_destination(state, node.table, "insert")
    table = destination.table
    destination.require(state, "a")
    columns = _insert_columns(node, destination)
    state.insert_columns[table.id] = tuple(c.position for c in columns) if node.source else ()
    target = destination.target(state, writes_row=True)
    alias = node.alias or destination.name
    row = destination.item(state, target.row_columns, alias, user_alias=bool(node.alias))
    scope.all_items = [row]  # Not visible in the source, but errors know of it.
    source, given = _insert_source(state, node, columns, scope, destination)
    values = _insert_values(state, node, destination, given)
    conflict = None
    if node.on_conflict is not None:
        conflict = bind_conflict(state, node.on_conflict, target, destination, alias, scope)
    hidden = []
    if conflict is not None and conflict.excluded_columns:
        hidden.append(item_over("excluded", [], ()))
    returning, outputs = _bind_returning(state, node.returning, scope, [row], destination, hidden)
    plan: LogicalPlan = InsertPlan(target, source, values, conflict, returning, outputs)
    if definitions:
        plan = WithPlan(definitions, plan)
    return BoundQuery(plan, outputs)


def _insert_columns(node: Insert, destination: Destination) -> list[Slot]:
    """Return the target columns in the order of the given expressions."""
    if not node.columns:
        if not destination.is_view:
            return [slot_of(c) for c in destination.table.visible_columns]
        # Those before the first expression: what is more fails once the values are counted.
        writable = itertools.takewhile(lambda c: c is not None, destination.columns.values())
        return [slot_of(column) for column in writable if column is not None]
    result: list[Slot] = []
    spans = node.column_spans or (node.span,) * len(node.columns)
    subscripts = node.column_subscripts or ((),) * len(node.columns)
    whole: set[int] = set()
    parts: set[int] = set()
    for name, span, steps in zip(node.columns, spans, subscripts, strict=True):
        slot = slot_of(destination.writable(name, "insert", span), steps, span)
        if slot.position in whole or (not steps and slot.position in parts):
            raise DuplicateColumn(f'column "{name}" specified more than once', span=span)
        (parts if steps else whole).add(slot.position)
        result.append(slot)
    return result


_Given = dict[int, BoundExpr | None]
"""By column position: the value, or None for DEFAULT."""


def _insert_source(
    state: BindState, node: Insert, columns: list[Slot], scope: Scope, destination: Destination
) -> tuple[LogicalPlan, _Given]:
    source = node.source
    if source is None:
        return OneRow(), {}
    if isinstance(source, Values) and not (
        source.order_by or source.limit or source.offset or source.with_clause
    ):
        if len(source.rows) == 1:
            row = source.rows[0]
            if any(_has_set_call(state, item) for item in row):
                _forbid_defaults(row)
                targets = tuple(Target(item, span=item.span) for item in row)
                return _from_query(state, node, Select(targets), columns, scope, destination)
            _check_count(node, columns, row, destination)
            return OneRow(), _single_row(state, node, row, columns, scope)
        return _many_rows(state, node, source, columns, scope, destination)
    return _from_query(state, node, source, columns, scope, destination)


def _has_set_call(state: BindState, node: object) -> bool:
    """Tell whether the syntax calls a set-returning function: then VALUES may make many rows."""
    if isinstance(node, FunctionCall) and any(
        f.returns_set for f in state.registry.functions.get(node.name[-1], ())
    ):
        return True
    if isinstance(node, tuple):
        return any(_has_set_call(state, item) for item in node)
    if isinstance(node, Node) and not isinstance(node, Select | Values | SetOperation):
        return any(_has_set_call(state, getattr(node, f)) for f in node.__struct_fields__)
    return False


def _forbid_defaults(row: tuple[Expression, ...]) -> None:
    for item in row:
        if type(item) is DefaultMarker:
            raise FeatureNotSupported(
                "DEFAULT beside a set-returning function is not supported", span=item.span
            )


def _check_count(
    node: Insert,
    columns: list[Slot],
    items: tuple[Expression, ...] | list[BoundExpr],
    destination: Destination,
) -> None:
    names = tuple(destination.columns)
    if not node.columns and len(columns) < len(items) <= len(names):
        destination.writable(names[len(columns)], "insert", node.span)
    if len(items) > len(columns):
        extra = items[len(columns)]
        raise SqlSyntaxError("INSERT has more expressions than target columns", span=extra.span)
    if node.columns and len(items) < len(columns):
        spans = node.column_spans
        span = spans[len(items)] if spans else NO_SPAN
        raise SqlSyntaxError("INSERT has more target columns than expressions", span=span)


def _single_row(
    state: BindState,
    node: Insert,
    row: tuple[Expression, ...],
    columns: list[Slot],
    scope: Scope,
) -> _Given:
    given: _Given = {}
    for item, column in zip(row, columns, strict=False):
        if type(item) is DefaultMarker:
            _forbid_default_part(column)
            given[column.position] = None
            continue
        _check_writable(node, column.column)
        value = column.coerce(state, bind(state, item, scope), item.span)
        given[column.position] = column.stored(state, value, given.get(column.position), scope)
    return given


def _forbid_default_part(slot: Slot) -> None:
    if slot.subscripts:
        raise FeatureNotSupported("cannot set an array element to DEFAULT", span=slot.span)


def _check_writable(node: Insert, column: Column) -> None:
    """Raise 428C9 for values given to generated columns and GENERATED ALWAYS identities."""
    if column.generated is not None:
        raise GeneratedAlways(
            f'cannot insert a non-DEFAULT value into column "{column.name}"',
            detail=f'Column "{column.name}" is a generated column.',
        )
    if column.identity == "always" and not node.overriding:
        raise GeneratedAlways(
            f'cannot insert a non-DEFAULT value into column "{column.name}"',
            detail=f'Column "{column.name}" is an identity column defined as GENERATED ALWAYS.',
            hint="Use OVERRIDING SYSTEM VALUE to override.",
        )


def _many_rows(
    state: BindState,
    node: Insert,
    source: Values,
    columns: list[Slot],
    scope: Scope,
    destination: Destination,
) -> tuple[LogicalPlan, _Given]:
    width = len(source.rows[0])
    for row in source.rows:
        if len(row) != width:
            raise SqlSyntaxError("VALUES lists must all be the same length", span=row[0].span)
    _check_count(node, columns, source.rows[0], destination)
    columns = columns[:width]
    # A column that is DEFAULT in every row is no value at all, as generated columns require.
    omitted = {i for i in range(width) if all(type(row[i]) is DefaultMarker for row in source.rows)}
    kept = [i for i in range(width) if i not in omitted]
    for i in kept:
        _check_writable(node, columns[i].column)
    rows = []
    for row in source.rows:
        values = []
        for i in kept:
            item, column = row[i], columns[i]
            if type(item) is DefaultMarker:
                _forbid_default_part(column)
                values.append(destination.default(state, column.column, item.span))
                continue
            values.append(column.coerce(state, bind(state, item, scope), item.span))
        rows.append(tuple(values))
    outputs = tuple(
        state.new_column(columns[i].column.name, columns[i].type, columns[i].typmod) for i in kept
    )
    plan = ValuesPlan(tuple(rows), outputs, "*VALUES*")
    given: _Given = {columns[i].position: None for i in omitted}
    for i, output in zip(kept, outputs, strict=True):
        slot = columns[i]
        given[slot.position] = slot.stored(state, var_of(output), given.get(slot.position), scope)
    return plan, given


def _from_query(
    state: BindState,
    node: Insert,
    source: Query,
    columns: list[Slot],
    scope: Scope,
    destination: Destination,
) -> tuple[LogicalPlan, _Given]:
    from sql.binder.query import bind_query  # noqa: PLC0415

    bound = bind_query(state, source, scope, resolve=False)
    places = [location(e) for e in _query_expressions(bound)]
    items: list[BoundExpr] = [var_of(c, span=p) for c, p in zip(bound.columns, places, strict=True)]
    _check_count(node, columns, items, destination)
    for column in columns[: len(bound.columns)]:
        _check_writable(node, column.column)
    plan = bound.plan
    outputs = bound.columns
    if any(c.type is UNKNOWN for c in outputs):
        plan, outputs = _read_unknowns(state, bound, columns)
    given: _Given = {}
    for column, output, place in zip(columns, outputs, places, strict=False):
        value = column.coerce(state, var_of(output, span=place))
        given[column.position] = column.stored(state, value, given.get(column.position), scope)
    return plan, given


def _query_expressions(bound: BoundQuery) -> tuple[BoundExpr, ...]:
    from sql.binder.query import output_expression  # noqa: PLC0415

    if isinstance(bound.plan, ProjectPlan):
        return bound.plan.expressions
    return tuple(output_expression(bound, i) for i in range(len(bound.columns)))


def _read_unknowns(
    state: BindState, bound: BoundQuery, columns: list[Slot]
) -> tuple[LogicalPlan, tuple[OutputColumn, ...]]:
    """Give unknown literals of the select list the types of the target columns."""
    plan = bound.plan
    on_top = isinstance(plan, ProjectPlan)
    expressions: list[BoundExpr] = []
    outputs = []
    for expression, output, column in zip(
        _query_expressions(bound), bound.columns, columns, strict=False
    ):
        value = expression if on_top else var_of(output)
        if value.type is UNKNOWN:
            if isinstance(value, Const | ParameterRef):
                value = column.coerce(state, value)
            else:
                value = resolve_unknown(state, value)
            output = state.new_column(output.name, value.type, value.typmod)  # noqa: PLW2901
        expressions.append(value)
        outputs.append(output)
    source = plan.input if isinstance(plan, ProjectPlan) else plan
    result = tuple(outputs)
    return ProjectPlan(source, tuple(expressions), result), result


def _insert_values(
    state: BindState, node: Insert, destination: Destination, given: _Given
) -> tuple[BoundExpr | None, ...]:
    values: list[BoundExpr | None] = []
    for column in destination.table.columns:
        if column.hidden or column.dropped or column.generated is not None:
            values.append(None)
            continue
        value = given.get(column.position)
        if value is not None and column.identity and node.overriding == "user":
            value = None
        values.append(destination.default(state, column) if value is None else value)
    return tuple(values)


# --- RETURNING ---


def _bind_returning(
    state: BindState,
    targets: tuple[Target, ...],
    scope: Scope,
    items: list[Item],
    destination: Destination,
    hidden: Sequence[Item] = (),
) -> tuple[tuple[BoundExpr, ...], tuple[OutputColumn, ...]]:
    if not targets:
        return (), ()
    destination.require(state, "r")
    scope.items = items
    scope.all_items = [*items, *hidden]
    scope.clause = "returning"
    entries = bind_targets(state, targets, scope)
    columns = []
    expressions = []
    for entry in entries:
        expression = resolve_unknown(state, entry.expression)
        expressions.append(expression)
        origin = (0, 0)
        if isinstance(expression, ColumnVar):
            origin = state.origins.get(expression.id, origin)
        columns.append(state.new_column(entry.name, expression.type, expression.typmod, *origin))
    return tuple(expressions), tuple(columns)


# --- UPDATE ---


def _bind_update(state: BindState, node: Update, parent: Scope | None) -> BoundQuery:
    scope = Scope(parent)
    definitions = () if node.with_clause is None else bind_with(state, node.with_clause, scope)
    alias: Alias | None = node.table.alias
    destination = find_destination(state, node.table.name, "update", node.table.relation_id)
    destination.require(state, "w")
    tracker = Tracker()
    state.trackers.append(tracker)
    scan, item = _scan(state, destination, alias)
    plan = _with_from(state, scan, item, node.from_items, scope)
    scope.clause = "where"
    condition = destination.condition(state, scan.columns)
    if node.where is not None:
        written = coerce_to_boolean(state, bind(state, node.where, scope), "WHERE")
        condition = written if condition is None else BoolExpr("and", (condition, written), BOOL)
    if condition is not None:
        plan = FilterPlan(plan, condition)
    # After WHERE, as in PostgreSQL: of two errors the one in WHERE is reported.
    scope.clause = "update"
    assignments = bind_assignments(state, node.assignments, destination, scope)
    state.trackers.pop()
    if scope.depth in tracker.depths:
        destination.require(state, "r")
    target = destination.target(state, writes_row=True)
    new_row = destination.item(state, target.row_columns, item.alias, user_alias=alias is not None)
    others = scope.items[1:]
    returning, outputs = _bind_returning(
        state, node.returning, scope, [new_row, *others], destination
    )
    result: LogicalPlan = UpdatePlan(target, scan, plan, assignments, condition, returning, outputs)
    if definitions:
        result = WithPlan(definitions, result)
    return BoundQuery(result, outputs)


def _scan(
    state: BindState, destination: Destination, alias: Alias | None
) -> tuple[TableScan, Item]:
    scan, item = scan_table(state, destination.table, alias, privilege="")
    if destination.is_view:
        shown = destination.name if alias is None else alias.name
        item = destination.item(state, scan.columns, shown, user_alias=alias is not None)
    return scan, item


def _with_from(
    state: BindState,
    scan: LogicalPlan,
    item: Item,
    from_items: tuple[object, ...],
    scope: Scope,
) -> LogicalPlan:
    """Join the target with FROM or USING; the target comes first in the namespace."""
    if not from_items:
        scope.items = [item]
        scope.all_items = [item]
        return scan
    scope.all_items.append(item)
    right = bind_from(state, from_items, scope)  # type: ignore[arg-type]
    check_no_conflict([item], scope.items)
    scope.items = [item, *scope.items]
    return JoinPlan("inner", scan, right, None)


def bind_assignments(
    state: BindState, assignments: tuple[Assignment, ...], destination: Destination, scope: Scope
) -> tuple[tuple[int, BoundExpr], ...]:
    """Bind SET: (position, value) in the order written; 42601 for a column set twice."""
    result: dict[int, BoundExpr] = {}
    whole: set[int] = set()
    target = scope.items[0]
    for assignment in assignments:
        spans = assignment.column_spans or (assignment.span,)
        columns = [
            destination.writable(name, "update", span)
            for name, span in zip(assignment.columns, spans, strict=True)
        ]
        for column, value in zip(
            columns, _assigned_values(state, assignment, columns, scope), strict=True
        ):
            slot = slot_of(column, assignment.subscripts, assignment.span)
            position = column.position
            if position in whole or (position in result and not slot.subscripts):
                raise SqlSyntaxError(f'multiple assignments to same column "{column.name}"')
            if not slot.subscripts:
                whole.add(position)
            if value is None:
                _forbid_default_part(slot)
                if column.generated is None:
                    result[position] = destination.default(state, column)
                continue
            _check_updatable(column)
            coerced = slot.coerce(state, value, assignment.span)
            before = result.get(position)
            if slot.subscripts and before is None:
                before = target.expressions[target.index[assignment.columns[0]]]
            result[position] = slot.stored(state, coerced, before, scope)
    return tuple(result.items())


def _check_updatable(column: Column) -> None:
    """Raise 428C9 for generated columns and GENERATED ALWAYS identities."""
    if column.generated is not None:
        what = "a generated column"
    elif column.identity == "always":
        what = "an identity column defined as GENERATED ALWAYS"
    else:
        return
    raise GeneratedAlways(
        f'column "{column.name}" can only be updated to DEFAULT',
        detail=f'Column "{column.name}" is {what}.',
    )


def _assigned_values(
    state: BindState, assignment: Assignment, columns: list[Column], scope: Scope
) -> list[BoundExpr | None]:
    """Return the values of one assignment, None for DEFAULT."""
    value = assignment.value
    if len(columns) == 1 and not isinstance(value, RowConstructor):
        return [_value_or_default(state, value, scope)]
    if isinstance(value, RowConstructor):
        if len(columns) == 1 and len(value.items) != 1:
            return [_value_or_default(state, value, scope)]
        if len(value.items) != len(columns):
            raise SqlSyntaxError(
                "number of columns does not match number of values", span=value.span
            )
        return [_value_or_default(state, item, scope) for item in value.items]
    if isinstance(value, ScalarSubquery):
        fields = bind_row_subquery(state, value, scope)
        if len(fields) != len(columns):
            raise SqlSyntaxError(
                "number of columns does not match number of values", span=value.span
            )
        return list(fields)
    raise FeatureNotSupported(
        "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
        span=value.span,
    )


def _value_or_default(state: BindState, node: Expression, scope: Scope) -> BoundExpr | None:
    return None if type(node) is DefaultMarker else bind(state, node, scope)


# --- DELETE ---


def _bind_delete(state: BindState, node: Delete, parent: Scope | None) -> BoundQuery:
    scope = Scope(parent)
    definitions = () if node.with_clause is None else bind_with(state, node.with_clause, scope)
    alias = node.table.alias
    destination = find_destination(state, node.table.name, "delete", node.table.relation_id)
    destination.require(state, "d")
    tracker = Tracker()
    state.trackers.append(tracker)
    scan, item = _scan(state, destination, alias)
    plan = _with_from(state, scan, item, node.using, scope)
    scope.clause = "where"
    condition = destination.condition(state, scan.columns)
    if node.where is not None:
        written = coerce_to_boolean(state, bind(state, node.where, scope), "WHERE")
        condition = written if condition is None else BoolExpr("and", (condition, written), BOOL)
    if condition is not None:
        plan = FilterPlan(plan, condition)
    state.trackers.pop()
    if scope.depth in tracker.depths:
        destination.require(state, "r")
    target = destination.target(state, writes_row=False)
    returning, outputs = _bind_returning(
        state, node.returning, scope, list(scope.items), destination
    )
    result: LogicalPlan = DeletePlan(target, scan, plan, condition, returning, outputs)
    if definitions:
        result = WithPlan(definitions, result)
    return BoundQuery(result, outputs)
