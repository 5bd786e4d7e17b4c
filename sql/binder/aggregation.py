"""Aggregates, GROUP BY and what may stand beside them.

While a SELECT's expressions are bound, aggregate, window and set-returning calls are registered in
the ``SelectContext`` of their query level and replaced by references to columns that the plan will
compute. An aggregate belongs to the innermost level that its arguments use. Afterwards ``Grouping``
rewrites the expressions over the grouped rows, which is where 42803 comes from.

Source: PostgreSQL docs, "Aggregate Expressions", "GROUP BY Clause", "GROUPING SETS, CUBE, and
ROLLUP".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sql.binder.bound import (
    AggregateCall,
    AggregatePlan,
    BoundExpr,
    CallExpr,
    ColumnVar,
    Const,
    LogicalPlan,
    OutputColumn,
    ParameterRef,
    SortItem,
    SubqueryExpr,
)
from sql.binder.calls import (
    CLAUSE_NOUNS,
    bind_arguments,
    prepare_arguments,
    resolve_call,
)
from sql.binder.coerce import coerce_to_boolean, resolve_unknown
from sql.binder.dispatch import bind
from sql.binder.hypothetical import HYPOTHETICAL, bind_hypothetical
from sql.binder.sorting import require_equality, require_ordering, sort_item
from sql.binder.state import Tracker, var_of
from sql.binder.tree import EXPRESSION_CLASSES, expression_key, transform, transform_children
from sql.errors import (
    FeatureNotSupported,
    GroupingError,
    InvalidColumnReference,
    WrongObjectType,
)
from sql.functions.registry import Aggregate
from sql.span import NO_SPAN, Span
from sql.types.base import SqlType
from sql.types.catalog import INT4

if TYPE_CHECKING:
    from sql.ast.query import FunctionCall, SortKey
    from sql.binder.resolve import Candidate
    from sql.binder.scope import Scope
    from sql.binder.state import BindState
    from sql.binder.windows import WindowSpec

AGGREGATE_CLAUSES: Final = frozenset(("select", "having", "order", "distinct", "window"))


@dataclass(slots=True)
class SetCall:
    """A set-returning call of a select list; ``level`` counts from 0.

    Above the calls it contains.
    """

    column: OutputColumn
    call: CallExpr
    level: int
    span: Span


class SelectContext:
    """What one SELECT computes besides its plain expressions."""

    __slots__ = (
        "_aggregate_keys",
        "aggregates",
        "first_aggregate",
        "groupings",
        "sets",
        "windows",
    )

    def __init__(self) -> None:
        self.aggregates: list[tuple[OutputColumn, AggregateCall]] = []
        self._aggregate_keys: dict[Any, OutputColumn] = {}
        self.first_aggregate = NO_SPAN
        self.windows: list[WindowSpec] = []
        self.sets: list[SetCall] = []
        self.groupings: list[tuple[OutputColumn, tuple[BoundExpr, ...], Span]] = []

    def add_aggregate(self, state: BindState, call: AggregateCall) -> OutputColumn:
        """Register an aggregate; equal ones are computed once."""
        key = expression_key(call)
        column = self._aggregate_keys.get(key)
        if column is None:
            column = state.new_column(call.aggregate.name, call.type)
            self._aggregate_keys[key] = column
            self.aggregates.append((column, call))
        return column

    def add_set(self, state: BindState, call: CallExpr, name: str) -> BoundExpr:
        """Register a set-returning call and return its column."""
        inner = {s.column.id: s.level for s in self.sets}
        level = 0
        if inner:
            from sql.binder.tree import walk  # noqa: PLC0415

            for node in walk(call):
                if type(node) is ColumnVar and node.id in inner:
                    level = max(level, inner[node.id] + 1)
        column = state.new_column(name, call.type)
        if call.function.columns:
            state.record_shapes[column.id] = tuple((n, t, -1) for n, t in call.function.columns)
        self.sets.append(SetCall(column, call, level, call.span))
        return var_of(column, span=call.span)


# --- aggregate calls ---


def bind_aggregate_or_window(state: BindState, node: FunctionCall, scope: Scope) -> BoundExpr:
    """Bind a call of a name that has aggregates: an aggregate, or one over a window."""
    if node.within_group and node.name[-1] in HYPOTHETICAL:
        return bind_hypothetical(state, node, scope)
    tracker = Tracker()
    state.trackers.append(tracker)
    try:
        args = bind_arguments(state, node.args, scope)
        sorted_args = tuple(
            resolve_unknown(state, bind(state, k.expression, scope)) for k in node.within_group
        )
        order_by = _bind_order(state, node.order_by, scope)
        filter_ = None
        if node.filter is not None and node.over is None:
            filter_ = _bind_filter(state, node, scope)
    finally:
        state.trackers.pop()
    candidate = resolve_call(state, node, (*args, *sorted_args))
    if isinstance(candidate, SqlType) or not isinstance(candidate.routine, Aggregate):
        return _not_an_aggregate(state, node, scope)
    _check_call(node, candidate.routine)
    if node.over is not None:
        from sql.binder.windows import bind_window_aggregate  # noqa: PLC0415

        _propagate(state, tracker)
        return bind_window_aggregate(state, node, candidate, args, tracker, scope)
    return _register(
        state, node, candidate, (*args, *sorted_args), order_by, filter_, tracker, scope
    )


def _not_an_aggregate(state: BindState, node: FunctionCall, scope: Scope) -> BoundExpr:
    """Bind a plain function that shares an aggregate's name."""
    from sql.binder.calls import bind_plain_call  # noqa: PLC0415

    return bind_plain_call(state, node, scope)


def _check_call(node: FunctionCall, aggregate: Aggregate) -> None:
    shown = ".".join(node.name)
    if node.star:
        return
    if aggregate.ordered_set and not node.within_group:
        raise WrongObjectType(
            f"WITHIN GROUP is required for ordered-set aggregate {shown}", span=node.span
        )
    if node.within_group and not aggregate.ordered_set:
        raise WrongObjectType(
            f"{shown} is not an ordered-set aggregate, so it cannot have WITHIN GROUP",
            span=node.span,
        )
    if aggregate.ordered_set and node.over is not None:
        raise FeatureNotSupported(
            f"OVER is not supported for ordered-set aggregate {shown}", span=node.span
        )
    if not node.args and not node.within_group:
        raise WrongObjectType(
            f"{shown}(*) must be used to call a parameterless aggregate function",
            span=node.span,
        )


def _bind_filter(state: BindState, node: FunctionCall, scope: Scope) -> BoundExpr:
    assert node.filter is not None
    clause, scope.clause = scope.clause, "filter"
    try:
        return coerce_to_boolean(state, bind(state, node.filter, scope), "FILTER")
    finally:
        scope.clause = clause


def _bind_order(state: BindState, keys: tuple[SortKey, ...], scope: Scope) -> tuple[SortItem, ...]:
    items = []
    for key in keys:
        expression = resolve_unknown(state, bind(state, key.expression, scope))
        require_ordering(state, expression)
        items.append(sort_item(expression, descending=key.descending, nulls_first=key.nulls_first))
    return tuple(items)


def _propagate(state: BindState, tracker: Tracker) -> None:
    for outer in state.trackers:
        outer.depths |= tracker.depths
        outer.aggregates.extend(tracker.aggregates)
        outer.windows.extend(tracker.windows)


def _register(
    state: BindState,
    node: FunctionCall,
    candidate: Candidate,
    args: tuple[BoundExpr, ...],
    order_by: tuple[SortItem, ...],
    filter_: BoundExpr | None,
    tracker: Tracker,
    scope: Scope,
) -> BoundExpr:
    aggregate = candidate.routine
    assert isinstance(aggregate, Aggregate)
    depth = _level(tracker, scope)
    target = scope
    while target.depth > depth:
        assert target.parent is not None
        target = target.parent
    _check_placement(node, tracker, target, depth)
    prepared, result = prepare_arguments(state, candidate, args, node.span)
    if node.star:
        prepared = ()
    if aggregate.ordered_set:
        call = _ordered_set(node, aggregate, prepared, result, filter_)
    else:
        if node.distinct:
            _check_distinct(state, prepared, order_by)
        call = AggregateCall(aggregate, prepared, result, node.distinct, order_by, filter_)
    for outer in state.trackers:
        outer.aggregates.append((depth, node.span))
        outer.depths.add(depth)
    assert target.select is not None
    if not target.select.aggregates:
        target.select.first_aggregate = node.span
    column = target.select.add_aggregate(state, call)
    return var_of(column, span=node.span)


def _ordered_set(
    node: FunctionCall,
    aggregate: Aggregate,
    prepared: tuple[BoundExpr, ...],
    result: SqlType,
    filter_: BoundExpr | None,
) -> AggregateCall:
    count = len(node.args)
    direct, plain = prepared[:count], prepared[count:]
    order_by = tuple(
        sort_item(e, descending=k.descending, nulls_first=k.nulls_first)
        for e, k in zip(plain, node.within_group, strict=True)
    )
    return AggregateCall(aggregate, plain, result, order_by=order_by, filter=filter_, direct=direct)


def _check_distinct(
    state: BindState, args: tuple[BoundExpr, ...], order_by: tuple[SortItem, ...]
) -> None:
    keys = {expression_key(a) for a in args}
    for item in order_by:
        if expression_key(item.expression) not in keys:
            raise InvalidColumnReference(
                "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list",
                span=item.expression.span,
            )
    for arg in args:
        require_equality(state, arg)


def _level(tracker: Tracker, scope: Scope) -> int:
    depths = [d for d in tracker.depths if d <= scope.depth]
    return max(depths) if depths else scope.depth


def _check_placement(node: FunctionCall, tracker: Tracker, target: Scope, depth: int) -> None:
    for level, span in tracker.aggregates:
        if level == depth:
            raise GroupingError("aggregate function calls cannot be nested", span=span)
    if tracker.windows:
        raise GroupingError(
            "aggregate function calls cannot contain window function calls",
            span=tracker.windows[0],
        )
    if tracker.sets:
        raise FeatureNotSupported(
            "aggregate function calls cannot contain set-returning function calls",
            span=tracker.sets[0],
            hint="You might be able to move the set-returning function into a LATERAL FROM item.",
        )
    if target.select is None or target.clause not in AGGREGATE_CLAUSES:
        noun = CLAUSE_NOUNS.get(target.clause, target.clause.upper())
        raise GroupingError(f"aggregate functions are not allowed in {noun}", span=node.span)


def bind_grouping_call(state: BindState, node: FunctionCall, scope: Scope) -> BoundExpr:
    """Bind GROUPING(...); its arguments are matched to the grouping expressions later."""
    select = scope.select
    if select is None or scope.clause not in AGGREGATE_CLAUSES:
        noun = CLAUSE_NOUNS.get(scope.clause, scope.clause.upper())
        raise GroupingError(f"grouping operations are not allowed in {noun}", span=node.span)
    args = bind_arguments(state, node.args, scope)
    column = state.new_column("grouping", INT4)
    select.groupings.append((column, args, node.span))
    return var_of(column, span=node.span)


# --- grouping ---


class Grouping:
    """The grouped form of one SELECT: rewrites expressions and builds the AggregatePlan."""

    def __init__(
        self,
        state: BindState,
        scope: Scope,
        groups: list[BoundExpr],
        sets: list[tuple[int, ...]] | None,
    ) -> None:
        self._state = state
        self._scope = scope
        self._groups: list[tuple[OutputColumn, BoundExpr]] = []
        self._by_key: dict[Any, OutputColumn] = {}
        self._sets = sets
        self._complex = False
        self._in_subquery = False
        for expression in groups:
            self._add_group(expression)
        self._written = len(groups)
        self._local = _local_columns(scope)

    def _add_group(self, expression: BoundExpr) -> OutputColumn:
        name = expression.name if isinstance(expression, ColumnVar) else "group"
        origin = self._state.origins.get(getattr(expression, "id", 0), (0, 0))
        column = self._state.new_column(name, expression.type, expression.typmod, *origin)
        if isinstance(expression, ColumnVar):
            shape = self._state.record_shapes.get(expression.id)
            if shape is not None:
                self._state.record_shapes[column.id] = shape
        else:
            self._complex = True
        self._groups.append((column, expression))
        self._by_key.setdefault(expression_key(expression), column)
        return column

    def over_groups(self, expression: BoundExpr) -> BoundExpr:
        """Rewrite an expression over the grouped rows. Raises GroupingError (42803)."""
        result: BoundExpr = transform(expression, self._rewrite)
        return result

    def _rewrite(self, node: Any) -> Any:
        kind = type(node)
        if kind is ColumnVar:
            column = self._by_key.get(node.id)
            if column is None:
                if node.id not in self._local:
                    return node
                column = self._dependent(node)
            return ColumnVar(
                column.id, node.type, node.typmod, node.name, node.qualifier, node.span
            )
        if kind is Const or kind is ParameterRef:
            return node
        if self._complex and kind in _EXPRESSIONS:
            column = self._by_key.get(expression_key(node))
            if column is not None:
                return var_of(column, span=node.span)
        if kind is SubqueryExpr and not self._in_subquery:
            self._in_subquery = True
            try:
                return transform_children(node, self._rewrite)
            finally:
                self._in_subquery = False
        return None

    def _dependent(self, node: ColumnVar) -> OutputColumn:
        """Add a column that the grouped primary key of its table determines, or raise 42803."""
        if not self._key_is_grouped(node):
            name = f"{node.qualifier}.{node.name}" if node.qualifier else node.name
            if self._in_subquery:
                message = f'subquery uses ungrouped column "{name}" from outer query'
            else:
                message = (
                    f'column "{name}" must appear in the GROUP BY clause '
                    "or be used in an aggregate function"
                )
            raise GroupingError(message, span=node.span)
        position = len(self._groups)
        column = self._add_group(
            ColumnVar(node.id, node.type, node.typmod, node.name, node.qualifier)
        )
        if self._sets is not None:
            self._sets = [(*s, position) for s in self._sets]
        return column

    def _key_is_grouped(self, node: ColumnVar) -> bool:
        for item in self._scope.all_items:
            scan = item.scan
            if scan is None or not scan.table.primary_name:
                continue
            if not any(c.id == node.id for c in scan.columns):
                continue
            everywhere = set(range(self._written))
            for indexes in self._sets or ():
                everywhere &= set(indexes)
            grouped = {
                e.id
                for i, (_, e) in enumerate(self._groups)
                if i in everywhere and isinstance(e, ColumnVar)
            }
            return all(scan.columns[p].id in grouped for p in scan.table.clustering_key)
        return False

    def plan(self, source: LogicalPlan, context: SelectContext) -> AggregatePlan:
        """Build the plan node; call it after everything has been rewritten."""
        aggregates = tuple((c, self._with_direct(call)) for c, call in context.aggregates)
        groupings = tuple(
            (column, tuple(self._group_index(a, span) for a in args))
            for column, args, span in context.groupings
        )
        sets = None if self._sets is None else tuple(self._sets)
        return AggregatePlan(source, tuple(self._groups), aggregates, sets, groupings)

    def _with_direct(self, call: AggregateCall) -> AggregateCall:
        for argument in call.direct:
            self.over_groups(argument)
        return call

    def _group_index(self, argument: BoundExpr, span: Span) -> int:
        key = expression_key(argument)
        for index, (_, expression) in enumerate(self._groups[: self._written]):
            if expression_key(expression) == key:
                return index
        raise GroupingError(
            "arguments to GROUPING must be grouping expressions of the associated query level",
            span=argument.span if argument.span.start >= 0 else span,
        )


_EXPRESSIONS: Final = frozenset(EXPRESSION_CLASSES)


def _local_columns(scope: Scope) -> set[int]:
    return {e.id for item in scope.all_items for e in item.expressions if isinstance(e, ColumnVar)}
