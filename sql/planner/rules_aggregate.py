"""Planning aggregation: groups, grouping sets, the slots of aggregates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.binder import bound as b
from sql.executor.aggregate import (
    AggregateNode,
    AggregateSlot,
)
from sql.executor.ordering import SortSpec
from sql.planner import estimate as est
from sql.planner.access import index_keys, usable_indexes
from sql.planner.codegen import (
    positions,
    row_function,
)
from sql.planner.loops import accumulate_function, sums_of_averages
from sql.planner.plan import (
    NOTHING,
    Planner,
    Want,
    code,
    sort_specs,
)
from sql.planner.walk import (
    has_subquery,
    is_volatile,
    substitute,
    used_columns,
)
from sql.types.catalog import BOOL, INT8
from sql.types.compare import sort_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sql.executor.node import Node


def plan_aggregate(
    self: Planner, plan: b.AggregatePlan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    """Plan GROUP BY; conditions on group columns go below it."""
    by_index = _extremes(plan)
    if by_index is not None:
        return self.plan(by_index, conditions, _needed, _want)
    groups = {c.id: e for c, e in plan.groups}
    pushed: list[Any] = []
    if plan.grouping_sets is None and plan.groups:
        pushed = [
            c
            for c in conditions
            if used_columns(c)
            and used_columns(c) & {o.id for o in plan.columns} <= set(groups)
            and not is_volatile(c)
            and not is_volatile(tuple(groups.values()))
        ]
    below = used_columns((tuple(e for _, e in plan.groups), tuple(a for _, a in plan.aggregates)))
    child = self.plan(plan.input, [substitute(c, groups) for c in pushed], below, NOTHING)
    node = aggregate_node(self, plan, child)
    return self.finish(node, [c for c in conditions if c not in pushed])


def _extremes(plan: b.AggregatePlan) -> b.ProjectPlan | None:
    """Rewrite MIN and MAX over one table as first rows of scans in index order.

    As PostgreSQL does: each becomes a sub-query ``SELECT x ... WHERE x IS NOT NULL ORDER BY x
    LIMIT 1``. None unless an index, or the clustering key, leads with each column.
    """
    if plan.groups or plan.grouping_sets is not None or plan.grouping_ids or not plan.aggregates:
        return None
    source: b.LogicalPlan = plan.input
    while isinstance(source, b.FilterPlan):
        source = source.input
    if not isinstance(source, b.TableScan) or is_volatile(plan.input) or has_subquery(plan.input):
        return None
    leading = {
        keys[0].column
        for index in (None, *usable_indexes(source.table))
        if (keys := index_keys(source, index))
    }
    columns = {c.id: c for c in source.columns}
    described = zip(source.columns, source.table.columns, strict=True)
    not_null = {c.id for c, d in described if d.not_null}
    expressions = []
    for _, call in plan.aggregates:
        argument = call.args[0] if len(call.args) == 1 else None
        if (
            call.aggregate.code not in {"min", "max"}
            or not isinstance(argument, b.ColumnVar)
            or argument.id not in leading
            or call.filter is not None
        ):
            return None
        is_max = call.aggregate.code == "max"
        present = plan.input
        if argument.id not in not_null:
            test = b.NullTestExpr(argument, negated=True, type=BOOL)
            present = b.FilterPlan(plan.input, test)
        ordered = b.SortPlan(present, (b.SortItem(argument, is_max, is_max),))
        first = b.LimitPlan(ordered, b.Const(1, INT8), None)
        only = b.ProjectPlan(first, (argument,), (columns[argument.id],))
        expressions.append(b.SubqueryExpr("scalar", only, call.type))
    return b.ProjectPlan(b.OneRow(), tuple(expressions), plan.columns)


def aggregate_node(self: Planner, plan: b.AggregatePlan, child: Node) -> AggregateNode:
    """Build the aggregation over a planned input."""
    calls = [_normal_call(call) for _, call in plan.aggregates]
    expressions = [e for _, e in plan.groups]
    every = tuple(range(len(expressions)))
    sets = [every] if plan.grouping_sets is None else list(plan.grouping_sets)
    loops, groupings, grouped = [], [], []
    sub_plans: list[Any] = []
    non_null = self.non_null.get(id(child), frozenset())
    sums = sums_of_averages(calls)
    for chosen in sets:
        keys = [e if number in chosen else None for number, e in enumerate(expressions)]
        compiled = accumulate_function(
            keys, calls, child.layout, self.plan_subquery, non_null=non_null, sums=sums
        )
        sub_plans += compiled.sub_plans
        loops.append(code(compiled))
        grouped.append(bool(chosen))
        groupings.append(
            tuple(_grouping_id(arguments, chosen) for _, arguments in plan.grouping_ids)
        )
    group_layout = [c.id for c, _ in plan.groups]
    slots = [_aggregate_slot(self, call, expressions, group_layout, child.layout) for call in calls]
    for number, average in sums.items():
        slots[number].average = average
    node = AggregateNode(
        [c.id for c in plan.columns],
        child,
        loops,
        slots,
        group_count=len(expressions),
        grouping_values=groupings,
        grouped=grouped,
    )
    node.sub_plans += sub_plans
    node.rows = 1.0
    for expression in expressions:
        node.rows *= self.origins.distinct(expression)
    node.rows = max(1.0, min(node.rows, child.rows)) if expressions else 1.0
    node.startup_cost = child.total_cost + child.rows * est.CPU_OPERATOR * (1 + len(calls))
    node.total_cost = node.startup_cost + node.rows * est.CPU_TUPLE
    node.width = 8 * len(plan.columns)
    if expressions:
        node.details.append(("Group Key", expressions))
    for column, made in (*plan.groups, *plan.aggregates):
        self.name_column(column.id, made)
    return node


def _normal_call(call: b.AggregateCall) -> b.AggregateCall:
    """Make an ordered set's sorted expressions its arguments."""
    if call.aggregate.ordered_set and not call.args:
        args = tuple(item.expression for item in call.order_by)
        return b.AggregateCall(
            call.aggregate, args, call.type, call.distinct, call.order_by, call.filter, call.direct
        )
    return call


def _grouping_id(arguments: tuple[int, ...], chosen: tuple[int, ...]) -> int:
    value = 0
    for argument in arguments:
        value = value * 2 + (argument not in chosen)
    return value


def _aggregate_slot(
    self: Planner,
    call: b.AggregateCall,
    groups: list[Any],
    group_layout: list[int],
    layout: Sequence[int],
) -> AggregateSlot:
    specs = sort_specs(call.order_by)
    if call.distinct and not specs:
        specs = [SortSpec(sort_key(arg.type), False, False) for arg in call.args]  # noqa: FBT003
    direct = None
    if call.direct:
        columns = positions(group_layout, "row")
        for number, group in enumerate(groups):
            if isinstance(group, b.ColumnVar):
                columns[group.id] = f"row[{number:d}]"
        direct = code(row_function(call.direct, columns, self.plan_subquery))
    return AggregateSlot(
        call.aggregate,
        tuple(arg.type for arg in (*call.direct, *call.args)),
        args=len(call.args),
        distinct=call.distinct,
        specs=specs,
        direct=direct,
        sample=_sample(call, layout),
    )


def _sample(call: b.AggregateCall, layout: Sequence[int]) -> Any:
    """Compile what a slot keeps of a row, None if those are columns or it is not safe to repeat."""
    kept = (*call.args, *(item.expression for item in call.order_by))
    if call.filter is not None or all(isinstance(e, b.ColumnVar) for e in kept):
        return None
    if is_volatile(kept) or has_subquery(kept):
        return None
    compiled = row_function(kept, positions(layout, "row"), None)
    return None if compiled.is_async else compiled.call
