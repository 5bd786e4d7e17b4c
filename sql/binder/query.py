"""SELECT, VALUES and set operations: from the syntax to a logical plan.

The plan of a SELECT is, from the bottom: FROM, WHERE, grouping, HAVING, windows, set-returning
functions, the projection (with hidden sort keys), DISTINCT, ORDER BY, row locks, LIMIT, and a
projection that drops hidden columns.

Source: PostgreSQL docs, "SELECT", "VALUES", "Combining Queries".
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from sql.ast.query import (
    Expression,
    GroupingSet,
    RowConstructor,
    Select,
    SetOperation,
    SortKey,
    Values,
)
from sql.binder.aggregation import Grouping, SelectContext
from sql.binder.bound import (
    BoundExpr,
    ColumnVar,
    Const,
    DistinctPlan,
    FilterPlan,
    LimitPlan,
    LockPlan,
    LogicalPlan,
    OutputColumn,
    ProjectPlan,
    ProjectSet,
    RowExpr,
    RowLock,
    SetOperationPlan,
    SortItem,
    SortPlan,
    TableScan,
    ValuesPlan,
    WithPlan,
)
from sql.binder.coerce import (
    coerce_to_boolean,
    coerce_to_common,
    coerce_to_required,
    common_type_of,
    common_typmod,
    resolve_unknown,
)
from sql.binder.collation import assign_collations
from sql.binder.cte import bind_with
from sql.binder.dispatch import bind
from sql.binder.expression import record_shape
from sql.binder.from_clause import bind_from
from sql.binder.locking import STRENGTH_WORDS, bind_locks, check_locking
from sql.binder.scope import Scope
from sql.binder.sorting import require_equality, require_ordering
from sql.binder.state import BindState, BoundQuery, var_of
from sql.binder.targets import (
    SortEntry,
    TargetEntry,
    bind_distinct_on,
    bind_order_by,
    bind_targets,
    check_distinct,
    find_target,
    note_targets,
    sort_items,
)
from sql.binder.tree import expression_key, location, walk
from sql.binder.windows import bind_window_clause, group_windows, plan_windows, scope_has
from sql.errors import (
    CannotCoerce,
    DatatypeMismatch,
    FeatureNotSupported,
    InvalidColumnReference,
    InvalidRecursion,
    SqlSyntaxError,
    TooManyColumns,
)
from sql.span import NO_SPAN, Span
from sql.types.catalog import INT8, RECORD, UNKNOWN

if TYPE_CHECKING:
    from sql.ast.query import DmlStatement

CUBE_ELEMENTS_MAX = 12
GROUPING_SETS_MAX = 4096
COLUMNS_MAX = 1664
_NO_ORIGIN = (0, 0)


def bind_query(
    state: BindState, node: DmlStatement, parent: Scope | None, *, resolve: bool = True
) -> BoundQuery:
    """Bind a query below ``parent``; with ``resolve`` unknown output columns become text."""
    kind = type(node)
    if kind is Select:
        return bind_select(state, node, parent, resolve=resolve)  # type: ignore[arg-type]
    if kind is Values:
        return _bind_values(state, node, parent)  # type: ignore[arg-type]
    if kind is SetOperation:
        return _bind_set_operation(state, node, parent)  # type: ignore[arg-type]
    from sql.binder.dml import bind_modification  # noqa: PLC0415

    return bind_modification(state, node, parent)


# --- SELECT ---


def bind_select(
    state: BindState, node: Select, parent: Scope | None, *, resolve: bool
) -> BoundQuery:
    """Bind one SELECT."""
    scope = Scope(parent)
    select = scope.select = SelectContext()
    definitions = () if node.with_clause is None else bind_with(state, node.with_clause, scope)
    if node.into is not None:
        raise SqlSyntaxError("SELECT ... INTO is not allowed here", span=node.into.span)
    scope.locking = node.locking
    plan = bind_from(state, node.from_items, scope)
    if node.windows:
        bind_window_clause(state, node.windows, scope)
    scope.clause = "select"
    entries = bind_targets(state, node.targets, scope)
    if len(entries) > COLUMNS_MAX:
        raise TooManyColumns(f"target lists can have at most {COLUMNS_MAX} entries")
    if node.where is not None:
        scope.clause = "where"
        condition = coerce_to_boolean(state, bind(state, node.where, scope), "WHERE")
        if state.recorder is not None:
            state.recorder.bound[id(node.where)] = condition
        plan = FilterPlan(plan, condition)
    having: BoundExpr | None = None
    if node.having is not None:
        scope.clause = "having"
        having = coerce_to_boolean(state, bind(state, node.having, scope), "HAVING")
    order: list[SortEntry] = []
    if node.order_by:
        scope.clause = "order"
        order = bind_order_by(state, node.order_by, entries, scope)
    groups: list[BoundExpr] = []
    sets: list[tuple[int, ...]] | None = None
    if node.group_by:
        scope.clause = "group"
        groups, sets = _bind_group_by(state, node, entries, scope)
    keys: list[int] | None = None
    if node.distinct_on is not None:
        scope.clause = "distinct"
        if node.distinct_on:
            keys = bind_distinct_on(state, node.distinct_on, entries, order, scope)
        else:
            check_distinct(state, entries, order)
    limit, offset = _bind_limits(state, node.limit, node.offset, scope)
    if resolve:
        for entry in entries:
            if entry.expression.type is UNKNOWN:
                entry.expression = resolve_unknown(state, entry.expression)
    if select.aggregates and scope.reads_itself:
        raise InvalidRecursion(
            "aggregate functions are not allowed in a recursive query's recursive term",
            span=select.first_aggregate,
        )
    grouped = bool(node.group_by or select.aggregates or having is not None or select.groupings)
    if node.locking:
        check_locking(node, select, grouped=grouped)
    if state.recorder is not None and not grouped and node.distinct_on is None:
        note_targets(state.recorder, node.targets, entries)
    if grouped:
        plan = _group(state, plan, scope, entries, having, groups, sets)
    if select.windows:
        plan = plan_windows(plan, select.windows)
    if select.sets:
        plan = _project_sets(plan, select)
    is_outermost = parent is None and not node.order_by and node.distinct_on is None
    builder = _Projection(state, plan, entries, is_outermost=is_outermost)
    locks = bind_locks(state, node.locking, node.from_items, scope) if node.locking else ()
    for lock in locks:
        builder.pass_through(lock.scan)
    plan = builder.plan()
    plan = _finish(builder, plan, node, order, keys, limit, offset, locks)
    if definitions:
        plan = WithPlan(definitions, plan)
    return BoundQuery(plan, builder.visible)


def _group(
    state: BindState,
    plan: LogicalPlan,
    scope: Scope,
    entries: list[TargetEntry],
    having: BoundExpr | None,
    groups: list[BoundExpr],
    sets: list[tuple[int, ...]] | None,
) -> LogicalPlan:
    select = scope.select
    assert select is not None
    grouping = Grouping(state, scope, groups, sets)
    for entry in entries:
        entry.expression = grouping.over_groups(entry.expression)
    if having is not None:
        having = grouping.over_groups(having)
    group_windows(select.windows, grouping)
    for call in select.sets:
        call.call = grouping.over_groups(call.call)  # type: ignore[assignment]
    plan = grouping.plan(plan, select)
    return plan if having is None else FilterPlan(plan, having)


def _project_sets(plan: LogicalPlan, select: SelectContext) -> LogicalPlan:
    for level in range(max(s.level for s in select.sets) + 1):
        sets = tuple((s.column, s.call) for s in select.sets if s.level == level)
        plan = ProjectSet(plan, sets, plan.columns + tuple(c for c, _ in sets))
    return plan


def _resolve_row(state: BindState, row: RowExpr, *, is_outermost: bool) -> BoundExpr:
    """Give a row's unknown fields a type; literals that only go to the client keep theirs."""
    if not is_outermost:
        return resolve_unknown(state, row)
    items = tuple(
        item if type(item) is Const else resolve_unknown(state, item) for item in row.items
    )
    return RowExpr(items, row.names, row.type, span=row.span)


class _Projection:
    """Builds the ProjectPlan of a SELECT from its entries, visible ones first."""

    def __init__(
        self,
        state: BindState,
        source: LogicalPlan,
        entries: list[TargetEntry],
        *,
        is_outermost: bool,
    ) -> None:
        self._source = source
        origins = state.origins
        self.outputs: list[BoundExpr] = []
        self._columns: list[OutputColumn] = []
        self._expressions: list[BoundExpr] = []
        visible: list[OutputColumn] = []
        for entry in entries:
            expression = entry.expression
            table_oid = number = 0
            if type(expression) is ColumnVar:
                table_oid, number = origins.get(expression.id, _NO_ORIGIN)
            elif type(expression) is RowExpr:
                expression = _resolve_row(state, expression, is_outermost=is_outermost)
            column = state.new_column(
                entry.name, expression.type, expression.typmod, table_oid, number
            )
            if expression.type is RECORD:
                shape = record_shape(state, expression)
                if shape is not None:
                    state.record_shapes[column.id] = shape
            self._columns.append(column)
            self._expressions.append(expression)
            self.outputs.append(var_of(column))
            if not entry.hidden:
                visible.append(column)
        self.visible = tuple(visible)

    @property
    def has_hidden(self) -> bool:
        """Tell whether there is anything to drop at the end."""
        return len(self._columns) > len(self.visible)

    def pass_through(self, scan: TableScan) -> None:
        """Keep all of a scan's columns, under their own ids, for row locks."""
        for column in scan.columns:
            self._columns.append(column)
            self._expressions.append(var_of(column))

    def plan(self) -> ProjectPlan:
        """Return the projection."""
        return ProjectPlan(self._source, tuple(self._expressions), tuple(self._columns))


def _finish(
    builder: _Projection,
    plan: LogicalPlan,
    node: Select,
    order: list[SortEntry],
    keys: list[int] | None,
    limit: BoundExpr | None,
    offset: BoundExpr | None,
    locks: tuple[RowLock, ...],
) -> LogicalPlan:
    items = sort_items(order, builder.outputs)
    if keys is not None:
        sorted_on = {e.target for e in order}
        rest = tuple(SortItem(builder.outputs[k]) for k in keys if k not in sorted_on)
        plan = SortPlan(plan, (*items, *rest))
        plan = DistinctPlan(plan, tuple(builder.outputs[k] for k in keys))
    else:
        if node.distinct_on is not None:
            plan = DistinctPlan(plan)
        if items:
            plan = SortPlan(plan, items)
    if locks:
        plan = LockPlan(plan, locks)
    if node.with_ties and not items:
        raise SqlSyntaxError("WITH TIES cannot be specified without ORDER BY clause")
    if limit is not None or offset is not None:
        plan = LimitPlan(plan, limit, offset, items if node.with_ties else ())
    if builder.has_hidden:
        visible = builder.visible
        plan = ProjectPlan(plan, tuple(var_of(c) for c in visible), visible)
    return plan


def _bind_limits(
    state: BindState, limit: Expression | None, offset: Expression | None, scope: Scope
) -> tuple[BoundExpr | None, BoundExpr | None]:
    if limit is None and offset is None:
        return None, None
    bound_offset = _bind_limit(state, offset, scope, "OFFSET")
    return _bind_limit(state, limit, scope, "LIMIT"), bound_offset


def _bind_limit(
    state: BindState, node: Expression | None, scope: Scope, word: str
) -> BoundExpr | None:
    if node is None:
        return None
    scope.clause = word.lower()
    result = coerce_to_required(state, bind(state, node, scope), INT8, word)
    if type(result) is Const:
        return None if result.value is None else result
    for inner in walk(result):
        if type(inner) is ColumnVar and scope_has(scope, inner.id):
            raise InvalidColumnReference(
                f"argument of {word} must not contain variables", span=inner.span
            )
    return result


# --- GROUP BY ---


def _bind_group_by(
    state: BindState, node: Select, entries: list[TargetEntry], scope: Scope
) -> tuple[list[BoundExpr], list[tuple[int, ...]] | None]:
    binder = _GroupBinder(state, entries, scope)
    factors = [binder.expand(item) for item in node.group_by]
    # Hidden entries were only a way to find equal expressions: grouping keeps its own list.
    while entries and entries[-1].hidden and len(entries) > binder.entry_count:
        entries.pop()
    if not binder.has_sets:
        return binder.groups, None
    total = 1
    for factor in factors:
        total *= len(factor)
    if total > GROUPING_SETS_MAX:
        raise TooManyColumns(f"too many grouping sets present (maximum {GROUPING_SETS_MAX})")
    sets: list[tuple[int, ...]] = []
    for combination in product(*factors):
        merged = tuple(dict.fromkeys(i for part in combination for i in part))
        if not node.group_distinct or sorted(merged) not in [sorted(s) for s in sets]:
            sets.append(merged)
    return binder.groups, sets


class _GroupBinder:
    def __init__(self, state: BindState, entries: list[TargetEntry], scope: Scope) -> None:
        self._state = state
        self._entries = entries
        self._scope = scope
        self.entry_count = len(entries)
        self.groups: list[BoundExpr] = []
        self._by_key: dict[Any, int] = {}
        self.has_sets = False

    def expand(self, node: Expression) -> list[tuple[int, ...]]:
        """Return the grouping sets of one GROUP BY item, as indexes into ``groups``."""
        if isinstance(node, RowConstructor) and not node.explicit:
            return [tuple(self._index(i) for i in node.items)]
        if not isinstance(node, GroupingSet):
            return [(self._index(node),)]
        self.has_sets = True
        if node.kind == "empty":
            return [()]
        if node.kind == "sets":
            return [s for item in node.items for s in self.expand(item)]
        parts = [self._element(item) for item in node.items]
        if node.kind == "rollup":
            return [tuple(i for part in parts[:n] for i in part) for n in range(len(parts), -1, -1)]
        if len(parts) > CUBE_ELEMENTS_MAX:
            raise TooManyColumns(f"CUBE is limited to {CUBE_ELEMENTS_MAX} elements", span=node.span)
        return [
            tuple(i for bit, part in enumerate(parts) if mask >> bit & 1 for i in part)
            for mask in range((1 << len(parts)) - 1, -1, -1)
        ]

    def _element(self, node: Expression) -> tuple[int, ...]:
        return self.expand(node)[0]

    def _index(self, node: Expression) -> int:
        target = find_target(self._state, node, self._entries, self._scope, "GROUP BY")
        entry = self._entries[target]
        entry.expression = resolve_unknown(self._state, entry.expression)
        expression = entry.expression
        self._check(expression, node)
        require_equality(self._state, expression, span=node.span)
        key = expression_key(expression)
        index = self._by_key.get(key)
        if index is None:
            index = self._by_key[key] = len(self.groups)
            self.groups.append(expression)
        return index

    def _check(self, expression: BoundExpr, node: Expression) -> None:
        """Refuse aggregates and window calls that came in by an output name or position."""
        from sql.errors import GroupingError, WindowingError  # noqa: PLC0415

        select = self._scope.select
        assert select is not None
        if not select.aggregates and not select.windows:
            return
        aggregates = {c.id for c, _ in select.aggregates}
        windows = {c.id for w in select.windows for c, _ in w.calls}
        for inner in walk(expression):
            if type(inner) is ColumnVar:
                if inner.id in aggregates:
                    raise GroupingError(
                        "aggregate functions are not allowed in GROUP BY", span=inner.span
                    )
                if inner.id in windows:
                    raise WindowingError(
                        "window functions are not allowed in GROUP BY", span=inner.span
                    )
        assert node is not None


# --- VALUES ---


def bind_value_rows(
    state: BindState, rows: tuple[tuple[Expression, ...], ...], scope: Scope
) -> list[list[BoundExpr]]:
    """Bind the rows of VALUES, which must have one length."""
    scope.clause = "values"
    width = len(rows[0])
    result = []
    for row in rows:
        if len(row) != width:
            raise SqlSyntaxError(
                "VALUES lists must all be the same length",
                span=row[0].span if row else NO_SPAN,
            )
        result.append([bind(state, item, scope) for item in row])
    return result


def _bind_values(state: BindState, node: Values, parent: Scope | None) -> BoundQuery:
    scope = Scope(parent)
    definitions = () if node.with_clause is None else bind_with(state, node.with_clause, scope)
    rows = bind_value_rows(state, node.rows, scope)
    columns = []
    for position in range(len(rows[0])):
        column = [row[position] for row in rows]
        common = common_type_of(state, column, "VALUES")
        coerced = [coerce_to_common(state, e, common, "VALUES") for e in column]
        for row, expression in zip(rows, coerced, strict=True):
            row[position] = expression
        columns.append(
            state.new_column(f"column{position + 1}", common, common_typmod(coerced, common))
        )
    outputs = tuple(columns)
    plan: LogicalPlan = ValuesPlan(tuple(tuple(r) for r in rows), outputs, "*VALUES*")
    plan = _order_and_limit(
        state, plan, outputs, node.order_by, node.limit, node.offset, scope, is_set=False
    )
    if definitions:
        plan = WithPlan(definitions, plan)
    return BoundQuery(plan, outputs)


def _order_and_limit(
    state: BindState,
    plan: LogicalPlan,
    outputs: tuple[OutputColumn, ...],
    order_by: tuple[SortKey, ...],
    limit: Expression | None,
    offset: Expression | None,
    scope: Scope,
    *,
    is_set: bool,
) -> LogicalPlan:
    """Add ORDER BY and LIMIT over a VALUES list or a set operation."""
    from sql.binder.scope import item_over  # noqa: PLC0415

    if order_by:
        scope.items = [item_over("" if is_set else "*VALUES*", [c.name for c in outputs], outputs)]
        scope.clause = "order"
        entries = [TargetEntry(c.name, var_of(c)) for c in outputs]
        order = bind_order_by(state, order_by, entries, scope)
        for sort in order:
            if sort.target >= len(outputs) and is_set:
                raise FeatureNotSupported(
                    "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                    span=location(entries[sort.target].expression),
                    detail="Only result column names can be used, not expressions or functions.",
                    hint="Add the expression/function to every SELECT, "
                    "or move the UNION into a FROM clause.",
                )
        plan = SortPlan(plan, sort_items(order, [e.expression for e in entries]))
    bound_limit, bound_offset = _bind_limits(state, limit, offset, scope)
    if bound_limit is not None or bound_offset is not None:
        plan = LimitPlan(plan, bound_limit, bound_offset)
    return plan


# --- set operations ---


def _bind_set_operation(state: BindState, node: SetOperation, parent: Scope | None) -> BoundQuery:
    scope = Scope(parent)
    definitions = () if node.with_clause is None else bind_with(state, node.with_clause, scope)
    if node.locking:
        word = STRENGTH_WORDS[node.locking[0].strength]
        raise FeatureNotSupported(f"{word} is not allowed with UNION/INTERSECT/EXCEPT")
    left = bind_query(state, node.left, scope, resolve=False)
    right = bind_query(state, node.right, scope, resolve=False)
    plan, outputs = combine(state, node, left, right)
    if state.collated and node.order_by:
        # A conflict between the sides comes before what ORDER BY may have wrong.
        assign_collations(plan)
    plan = _order_and_limit(
        state, plan, outputs, node.order_by, node.limit, node.offset, scope, is_set=True
    )
    if definitions:
        plan = WithPlan(definitions, plan)
    return BoundQuery(plan, outputs)


def combine(
    state: BindState, node: SetOperation, left: BoundQuery, right: BoundQuery
) -> tuple[LogicalPlan, tuple[OutputColumn, ...]]:
    """Bring both sides of a set operation to common types and join them."""
    word = node.operator.upper()
    check_widths(node, left, right)
    outputs = []
    pairs = zip(left.columns, right.columns, strict=True)
    for index, (a, b) in enumerate(pairs):
        sides = (output_expression(left, index), output_expression(right, index))
        common = common_type_of(state, sides, word)
        typmod = a.typmod if a.type is common and b.type is common and a.typmod == b.typmod else -1
        column = state.new_column(a.name, common, typmod)
        if not node.all:
            require_equality(state, Const(None, common), span=location(sides[0]))
        shape = state.record_shapes.get(a.id)
        if shape is not None:
            state.record_shapes[column.id] = shape
        outputs.append(column)
    left_plan = with_types(state, left, outputs, word)
    right_plan = with_types(state, right, outputs, word)
    result = tuple(outputs)
    return SetOperationPlan(node.operator, node.all, left_plan, right_plan, result), result


def check_widths(node: SetOperation, left: BoundQuery, right: BoundQuery) -> None:
    """Raise 42601 unless both sides have as many columns."""
    if len(left.columns) != len(right.columns):
        span = NO_SPAN
        if right.columns:
            span = location(output_expression(right, 0))
        raise SqlSyntaxError(
            f"each {node.operator.upper()} query must have the same number of columns", span=span
        )


def _output_project(plan: LogicalPlan) -> LogicalPlan:
    while isinstance(plan, LimitPlan | SortPlan | LockPlan | DistinctPlan | FilterPlan):
        plan = plan.input
    if isinstance(plan, WithPlan):
        return _output_project(plan.body)
    return plan


def output_expression(query: BoundQuery, index: int) -> BoundExpr:
    """Return what computes an output column, for its place and for unknown literals."""
    column = query.columns[index]
    plan = _output_project(query.plan)
    if isinstance(plan, ProjectPlan):
        for output, expression in zip(plan.columns, plan.expressions, strict=True):
            if output.id == column.id:
                return expression
    if isinstance(plan, ValuesPlan):
        return plan.rows[0][index]
    if isinstance(plan, SetOperationPlan):
        place = location(output_expression(BoundQuery(plan.left, plan.left.columns), index))
        return var_of(column, span=place)
    return var_of(column)


def with_types(
    state: BindState, query: BoundQuery, wanted: list[OutputColumn], word: str
) -> LogicalPlan:
    """Return the query's plan with its columns cast to the wanted types.

    A literal of unknown type is read as the wanted type where it stands, in the projection.
    """
    if all(c.type is w.type for c, w in zip(query.columns, wanted, strict=True)):
        return query.plan
    plan = query.plan
    expressions: list[BoundExpr] = []
    inside = _output_project(plan)
    in_place = inside is plan and isinstance(plan, ProjectPlan)
    for index, (column, want) in enumerate(zip(query.columns, wanted, strict=True)):
        expression = output_expression(query, index)
        if not in_place and expression.type is not UNKNOWN:
            expression = var_of(column, span=location(expression))
        if not state.resolver.can_coerce(expression.type, want.type, "implicit"):
            raise CannotCoerce(
                f"{word} could not convert type {expression.type.display_name} "
                f"to {want.type.display_name}",
                span=location(expression),
            )
        expressions.append(coerce_to_common(state, expression, want.type, word))
    columns = tuple(state.new_column(w.name, w.type, w.typmod) for w in wanted)
    if in_place:
        assert isinstance(plan, ProjectPlan)
        return ProjectPlan(plan.input, tuple(expressions), columns)
    return ProjectPlan(plan, tuple(expressions), columns)


__all__ = [
    "DatatypeMismatch",
    "Span",
    "bind_query",
    "bind_select",
    "bind_value_rows",
    "check_widths",
    "combine",
    "require_ordering",
    "with_types",
]
