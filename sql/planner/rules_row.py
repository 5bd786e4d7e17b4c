"""Planning nodes with one input that pass rows on.

Filters, projections, windows, DISTINCT, sorts and limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.binder import bound as b
from sql.executor.aggregate import (
    DistinctNode,
    UniqueNode,
)
from sql.executor.scan import (
    ProjectSetNode,
    StagedNode,
    StageNode,
    TableScanNode,
)
from sql.executor.sort import LimitNode, LockRowsNode, SortNode
from sql.executor.window import WindowNode
from sql.planner import estimate as est
from sql.planner.loops import key_rows_function
from sql.planner.plan import (
    NOTHING,
    Planner,
    Want,
    code,
    renamed_order,
)
from sql.planner.rules_scan import function_call
from sql.planner.walk import (
    conjuncts,
    has_subquery,
    is_volatile,
    returns_set,
    substitute,
    used_columns,
)
from sql.planner.windows import window_loop
from sql.types.catalog import ANY as _ANY_TYPE

if TYPE_CHECKING:
    from sql.executor.node import Node, OrderKey


def plan_project_set(
    self: Planner, plan: b.ProjectSet, conditions: list[Any], needed: set[int], _want: Want
) -> Node:
    """Plan set-returning functions of a select list."""
    below = needed | used_columns(tuple(e for _, e in plan.sets)) | used_columns(tuple(conditions))
    own = {c.id for c in plan.input.columns}
    pushed = [
        c for c in conditions if used_columns(c) and used_columns(c) <= own and not is_volatile(c)
    ]
    child = self.plan(plan.input, pushed, below & own, NOTHING)
    calls = [
        function_call(self, expression, child.layout, 1, composite=False)
        for _, expression in plan.sets
    ]
    node = ProjectSetNode((*child.layout, *(c.id for c, _ in plan.sets)), child, calls)
    node.rows, node.total_cost = child.rows * 10, child.total_cost + child.rows * 10 * est.CPU_TUPLE
    return self.finish(node, [c for c in conditions if c not in pushed])


def plan_filter(
    self: Planner, plan: b.FilterPlan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Hand conditions to the input; volatile ones stay above."""
    own = conjuncts(plan.condition)
    volatile = [c for c in conditions if is_volatile(c)]
    if not volatile:
        return self.plan(plan.input, own + conditions, needed, want)
    stable = [c for c in conditions if c not in volatile]
    below = needed | used_columns(tuple(volatile))
    return self.finish(self.plan(plan.input, own + stable, below, want), volatile)


def plan_project(
    self: Planner, plan: b.ProjectPlan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Plan a projection: needed columns only, conditions rewritten for its input."""
    mapping = {c.id: e for c, e in zip(plan.columns, plan.expressions, strict=True)}
    opaque = {
        column
        for column, e in mapping.items()
        if is_volatile(e) or has_subquery(e) or returns_set(e)
    }
    pushed, kept = [], []
    for condition in conditions:
        if is_volatile(condition) or used_columns(condition) & opaque:
            kept.append(condition)
        else:
            pushed.append(substitute(condition, mapping))
    wanted = needed | used_columns(tuple(kept))
    columns = [c.id for c in plan.columns if c.id in wanted or is_volatile(mapping[c.id])]
    expressions = [mapping[c] for c in columns]
    order: list[OrderKey] = []
    for column, descending, nulls_first in want.order:
        expression = mapping.get(column)
        if not isinstance(expression, b.ColumnVar):
            order = []
            break
        order.append((expression.id, descending, nulls_first))
    child = self.plan(
        plan.input, pushed, used_columns(tuple(expressions)), Want(tuple(order), want.first_rows)
    )
    ids = [e.id if isinstance(e, b.ColumnVar) else -1 for e in expressions]
    if (
        tuple(ids) == child.layout
        and len(set(columns)) == len(columns)
        and len(set(ids)) == len(ids)
    ):
        node = _rename(self, child, columns)
    else:
        node = self.project(child, columns, expressions)
    for column, expression in zip(columns, expressions, strict=True):
        self.name_column(column, expression)
    return self.finish(node, kept)


def _rename(self: Planner, node: Node, columns: list[int]) -> Node:
    """Give a node's columns new ids without touching rows.

    By a projection that is never compiled.
    """
    stage = self.stages.get(id(node))
    if stage is not None and stage.expressions is None:
        variables = [b.ColumnVar(c, _ANY_TYPE) for c in node.layout]
        return self.project(node, columns, variables)
    if isinstance(node, StagedNode) and stage is None:
        variables = [b.ColumnVar(c, _ANY_TYPE) for c in node.layout]
        return self.project(node, columns, variables)
    passed = dict(zip(node.layout, columns, strict=True))
    result = node
    result.layout = tuple(columns)
    result.order = tuple(renamed_order(node.order, passed))
    self.constants[id(node)] = frozenset(
        passed[c] for c in self.constants.get(id(node), frozenset()) if c in passed
    )
    self.non_null[id(node)] = frozenset(
        passed[c] for c in self.non_null.get(id(node), frozenset()) if c in passed
    )
    return result


def plan_window(
    self: Planner, plan: b.WindowPlan, conditions: list[Any], needed: set[int], _want: Want
) -> Node:
    """Plan window calls over sorted input."""
    partition = {e.id for e in plan.partition_by if isinstance(e, b.ColumnVar)}
    own = {c.id for c in plan.columns}
    pushed = [
        c
        for c in conditions
        if used_columns(c) & own and used_columns(c) & own <= partition and not is_volatile(c)
    ]
    kept = [c for c in conditions if c not in pushed]
    inside = {c.id for c in plan.input.columns}
    used = used_columns((plan.partition_by, plan.order_by, tuple(c for _, c in plan.calls)))
    below = ((needed | used_columns(tuple(kept))) & inside) | used
    items = [b.SortItem(e) for e in plan.partition_by] + list(plan.order_by)
    child = self.plan(plan.input, pushed, below, Want(self.order_keys(items)))
    if items:
        child = self.sort(child, items)
    loop = window_loop(self, plan, child)
    node = WindowNode((*child.layout, *(c.id for c, _ in plan.calls)), child, loop)
    self.inherit(node, child)
    node.total_cost += child.rows * est.CPU_OPERATOR * 4
    return self.finish(node, kept)


def plan_distinct(
    self: Planner, plan: b.DistinctPlan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Plan DISTINCT and DISTINCT ON."""
    if plan.keys is None:
        pushed = [c for c in conditions if not is_volatile(c)]
        child = self.plan(plan.input, pushed, {c.id for c in plan.columns}, want)
        child = self.pick(child, [c.id for c in plan.columns])
        node: Node = DistinctNode(child, self.hashed_rows(plan.columns, child))
        self.inherit(node, child)
        node.details.append(
            ("Group Key", [b.ColumnVar(c.id, c.type, name=c.name) for c in plan.columns])
        )
        return self.finish(node, [c for c in conditions if c not in pushed])
    below = needed | used_columns(plan.keys) | used_columns(tuple(conditions))
    child = self.plan(plan.input, [], below, Want(first_rows=want.first_rows, order=want.order))
    keys = key_rows_function(plan.keys, child.layout, self.plan_subquery, hashed=True)
    node = UniqueNode(child, code(keys))
    self.inherit(node, child)
    return self.finish(node, conditions)


def plan_sort(
    self: Planner, plan: b.SortPlan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Plan ORDER BY, asking the input for the order first."""
    below = needed | used_columns(plan.keys)
    wanted = Want(self.order_keys(plan.keys), want.first_rows)
    child = self.plan(plan.input, conditions, below, wanted)
    return self.sort(child, plan.keys)


def plan_limit(
    self: Planner, plan: b.LimitPlan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Plan LIMIT and tell the nodes below how many rows suffice."""
    below = needed | used_columns(tuple(conditions)) | used_columns(plan.ties)
    first_rows = not isinstance(plan.limit, b.Const) or (
        plan.limit.value is not None and plan.limit.value < 10_000
    )
    child = self.plan(
        plan.input, [], below, Want(want.order, plan.limit is not None and first_rows)
    )
    ties = None
    if plan.ties:
        expressions = [item.expression for item in plan.ties]
        ties = code(key_rows_function(expressions, child.layout, self.plan_subquery, hashed=True))
    node = LimitNode(child, self.value(plan.limit), self.value(plan.offset), ties)
    self.inherit(node, child)
    count = plan.limit.value if isinstance(plan.limit, b.Const) else None
    node.rows = min(child.rows, float(count)) if count is not None else child.rows
    if child.rows > 0 and plan.limit is not None:
        share = min(1.0, node.rows / child.rows)
        node.total_cost = child.startup_cost + (child.total_cost - child.startup_cost) * share
    if plan.limit is not None and ties is None:
        _push_bound(self, node, child)
    return self.finish(node, conditions)


def _push_bound(self: Planner, limit: LimitNode, node: Node) -> None:
    """Tell the nodes below how many rows suffice, as far as rows pass one to one."""
    while True:
        stage = self.stages.get(id(node))
        if isinstance(node, SortNode):
            node.bound = limit.bounds.needed
            return
        if isinstance(node, LockRowsNode):
            node.bound = limit.bounds.needed
            return
        if stage is not None and stage.conditions:
            return
        if isinstance(node, TableScanNode):
            node.limit_hint = limit.bounds.needed
            return
        if not isinstance(node, StageNode):
            return
        node = node.children[0]
