"""Window functions and window definitions.

Source: PostgreSQL docs, "Window Function Calls", "SELECT", "WINDOW Clause".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sql.ast.query import FrameBound, FunctionCall, WindowDefinition, WindowFrame
from sql.binder.bound import (
    BoundExpr,
    ColumnVar,
    LogicalPlan,
    OutputColumn,
    SortItem,
    WindowCall,
    WindowPlan,
)
from sql.binder.calls import CLAUSE_NOUNS, prepare_arguments
from sql.binder.coerce import coerce, coerce_to_boolean, coerce_to_required, resolve_unknown
from sql.binder.dispatch import bind
from sql.binder.sorting import require_equality, require_ordering, sort_item
from sql.binder.state import var_of
from sql.binder.tree import expression_key, location, walk
from sql.errors import (
    FeatureNotSupported,
    InvalidColumnReference,
    UndefinedObject,
    WindowingError,
    WrongObjectType,
)
from sql.functions.registry import Aggregate, WindowFunction
from sql.types.catalog import DATE, INT8, INTERVAL, TIME, TIMESTAMP, TIMESTAMPTZ, TIMETZ

if TYPE_CHECKING:
    from sql.binder.aggregation import Grouping
    from sql.binder.resolve import Candidate
    from sql.binder.scope import Scope
    from sql.binder.state import BindState, Tracker
    from sql.types.base import SqlType

WINDOW_CLAUSES: Final = frozenset(("select", "order", "distinct"))
_DATETIME: Final = frozenset((DATE, TIME, TIMETZ, TIMESTAMP, TIMESTAMPTZ, INTERVAL))


@dataclass(slots=True)
class WindowSpec:
    """One window of a SELECT with the calls over it."""

    name: str
    partition_by: tuple[BoundExpr, ...]
    order_by: tuple[SortItem, ...]
    frame: WindowFrame | None
    start_offset: BoundExpr | None
    end_offset: BoundExpr | None
    calls: list[tuple[OutputColumn, WindowCall]] = field(default_factory=list)
    copied_order: bool = False

    def key(self) -> Any:
        """Return a value that is equal for windows that mean the same."""
        return (
            tuple(expression_key(p) for p in self.partition_by),
            tuple(expression_key(o) for o in self.order_by),
            self.frame,
            None if self.start_offset is None else expression_key(self.start_offset),
            None if self.end_offset is None else expression_key(self.end_offset),
        )


def bind_window_clause(
    state: BindState, definitions: tuple[WindowDefinition, ...], scope: Scope
) -> None:
    """Bind WINDOW name AS (...), in order; later ones may copy earlier ones."""
    assert scope.select is not None
    for definition in definitions:
        if any(w.name == definition.name for w in scope.select.windows):
            raise WindowingError(
                f'window "{definition.name}" is already defined', span=definition.span
            )
        scope.select.windows.append(_bind_definition(state, definition, scope))


def bind_window_function(
    state: BindState,
    node: FunctionCall,
    candidate: Candidate,
    args: tuple[BoundExpr, ...],
    scope: Scope,
) -> BoundExpr:
    """Bind row_number() and its kind."""
    shown = ".".join(node.name)
    if node.over is None:
        raise WrongObjectType(f"window function {shown} requires an OVER clause", span=node.span)
    if node.filter is not None:
        raise FeatureNotSupported(
            "FILTER is not implemented for non-aggregate window functions", span=node.span
        )
    return _bind_over(state, node, candidate, args, scope)


def bind_window_aggregate(
    state: BindState,
    node: FunctionCall,
    candidate: Candidate,
    args: tuple[BoundExpr, ...],
    tracker: Tracker,
    scope: Scope,
) -> BoundExpr:
    """Bind an aggregate with OVER."""
    if tracker.windows:
        raise WindowingError("window function calls cannot be nested", span=tracker.windows[0])
    return _bind_over(state, node, candidate, args, scope)


def _bind_over(
    state: BindState,
    node: FunctionCall,
    candidate: Candidate,
    args: tuple[BoundExpr, ...],
    scope: Scope,
) -> BoundExpr:
    assert node.over is not None
    if node.distinct:
        raise FeatureNotSupported(
            "DISTINCT is not implemented for window functions", span=node.span
        )
    if node.order_by:
        raise FeatureNotSupported(
            "aggregate ORDER BY is not implemented for window functions", span=node.span
        )
    select = scope.select
    if select is None or scope.clause not in WINDOW_CLAUSES:
        noun = CLAUSE_NOUNS.get(scope.clause, scope.clause.upper())
        raise WindowingError(f"window functions are not allowed in {noun}", span=node.span)
    filter_ = None
    if node.filter is not None:
        filter_ = coerce_to_boolean(state, bind(state, node.filter, scope), "FILTER")
    ids = {c.id for w in select.windows for c, _ in w.calls}
    for argument in args:
        for inner in walk(argument):
            if type(inner) is ColumnVar and inner.id in ids:
                raise WindowingError("window function calls cannot be nested", span=inner.span)
    routine = candidate.routine
    assert isinstance(routine, Aggregate | WindowFunction)
    prepared, result = prepare_arguments(state, candidate, args, node.span)
    if node.star:
        prepared = ()
    spec = _find_window(state, node.over, scope)
    column = state.new_column(node.name[-1], result)
    spec.calls.append((column, WindowCall(routine, prepared, result, filter_)))
    for outer in state.trackers:
        outer.windows.append(node.span)
    return var_of(column, span=node.span)


def _find_window(state: BindState, over: WindowDefinition, scope: Scope) -> WindowSpec:
    select = scope.select
    assert select is not None
    if over.is_reference:
        for known in select.windows:
            if known.name == over.base:
                return known
        raise UndefinedObject(f'window "{over.base}" does not exist', span=over.span)
    clause, scope.clause = scope.clause, "window"
    try:
        spec = _bind_definition(state, over, scope)
    finally:
        scope.clause = clause
    key = spec.key()
    for known in select.windows:
        if not known.name and known.key() == key:
            return known
    select.windows.append(spec)
    return spec


def _bind_definition(state: BindState, definition: WindowDefinition, scope: Scope) -> WindowSpec:
    base = _base_window(definition, scope)
    clause, scope.clause = scope.clause, "window"
    try:
        partition_by = tuple(
            resolve_unknown(state, bind(state, p, scope)) for p in definition.partition_by
        )
        for expression in partition_by:
            require_equality(state, expression)
        order_by: list[SortItem] = []
        for key in definition.order_by:
            expression = resolve_unknown(state, bind(state, key.expression, scope))
            require_ordering(state, expression)
            order_by.append(
                sort_item(expression, descending=key.descending, nulls_first=key.nulls_first)
            )
        if base is not None:
            partition_by = base.partition_by
            order_by = order_by or list(base.order_by)
        frame = definition.frame
        start = end = None
        if frame is not None:
            scope.clause = "frame"
            start = _frame_offset(state, definition, frame, frame.start, order_by, scope)
            end = _frame_offset(state, definition, frame, frame.end, order_by, scope)
            if frame.unit == "groups" and not order_by:
                raise WindowingError(
                    "GROUPS mode requires an ORDER BY clause", span=definition.span
                )
    finally:
        scope.clause = clause
    return WindowSpec(definition.name, partition_by, tuple(order_by), frame, start, end)


def _base_window(definition: WindowDefinition, scope: Scope) -> WindowSpec | None:
    if not definition.base:
        return None
    assert scope.select is not None
    name = definition.base
    base = next((w for w in scope.select.windows if w.name == name), None)
    if base is None:
        raise UndefinedObject(f'window "{name}" does not exist', span=definition.span)
    if definition.partition_by:
        raise WindowingError(
            f'cannot override PARTITION BY clause of window "{name}"', span=definition.span
        )
    if definition.order_by and base.order_by:
        raise WindowingError(
            f'cannot override ORDER BY clause of window "{name}"', span=definition.span
        )
    if base.frame is not None:
        hint = ""
        if not definition.order_by and definition.frame is None:
            hint = "Omit the parentheses in this OVER clause."
        raise WindowingError(
            f'cannot copy window "{name}" because it has a frame clause',
            span=definition.span,
            hint=hint,
        )
    return base


def _frame_offset(
    state: BindState,
    definition: WindowDefinition,
    frame: WindowFrame,
    bound: FrameBound,
    order_by: list[SortItem],
    scope: Scope,
) -> BoundExpr | None:
    if bound.offset is None:
        return None
    word = frame.unit.upper()
    offset = bind(state, bound.offset, scope)
    if frame.unit == "range":
        if len(order_by) != 1:
            raise WindowingError(
                "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column",
                span=definition.span,
            )
        offset = _range_offset(state, offset, order_by[0].expression.type)
    else:
        offset = coerce_to_required(state, offset, INT8, word)
    for inner in walk(offset):
        if type(inner) is ColumnVar and scope_has(scope, inner.id):
            raise InvalidColumnReference(
                f"argument of {word} must not contain variables", span=location(offset)
            )
    return offset


def scope_has(scope: Scope, column_id: int) -> bool:
    """Tell whether a column belongs to this query level."""
    return any(
        isinstance(e, ColumnVar) and e.id == column_id
        for item in scope.all_items
        for e in item.expressions
    )


def _range_offset(state: BindState, offset: BoundExpr, sort_type: SqlType) -> BoundExpr:
    wanted = INTERVAL if sort_type in _DATETIME else sort_type
    if sort_type.category not in ("N", "D", "T"):
        raise FeatureNotSupported(
            "RANGE with offset PRECEDING/FOLLOWING is not supported for column type "
            f"{sort_type.display_name}",
            span=location(offset),
        )
    if not state.resolver.can_coerce(offset.type, wanted, "implicit"):
        raise FeatureNotSupported(
            "RANGE with offset PRECEDING/FOLLOWING is not supported for column type "
            f"{sort_type.display_name} and offset type {offset.type.display_name}",
            span=location(offset),
            hint="Cast the offset value to an appropriate type.",
        )
    return coerce(state, offset, wanted)


def group_windows(windows: list[WindowSpec], grouping: Grouping) -> None:
    """Rewrite the windows of a grouped SELECT over its groups."""
    over = grouping.over_groups
    for spec in windows:
        spec.partition_by = tuple(over(p) for p in spec.partition_by)
        spec.order_by = tuple(
            SortItem(over(o.expression), o.descending, o.nulls_first) for o in spec.order_by
        )
        spec.calls = [(c, _over_groups(call, grouping)) for c, call in spec.calls]


def plan_windows(source: LogicalPlan, windows: list[WindowSpec]) -> LogicalPlan:
    """Stack the WindowPlans of a SELECT's used windows."""
    for spec in windows:
        if spec.calls:
            source = WindowPlan(
                source,
                spec.partition_by,
                spec.order_by,
                spec.frame,
                spec.start_offset,
                spec.end_offset,
                tuple(spec.calls),
            )
    return source


def _over_groups(call: WindowCall, grouping: Grouping) -> WindowCall:
    over = grouping.over_groups
    filter_ = None if call.filter is None else over(call.filter)
    return WindowCall(call.function, tuple(over(a) for a in call.args), call.type, filter_)
