"""Planning UNION, INTERSECT, EXCEPT, WITH queries and row locks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.binder import bound as b
from sql.executor.aggregate import (
    AppendNode,
    DistinctNode,
    SetOperationNode,
)
from sql.executor.cte import (
    CteDefinitionPlan,
    CteScanNode,
    RecursiveUnionNode,
    WithNode,
    WorkTableNode,
)
from sql.executor.sort import LockRowsNode, LockTarget
from sql.planner import estimate as est
from sql.planner.codegen import (
    condition_function,
    positions,
)
from sql.planner.plan import (
    NOTHING,
    Planner,
    Want,
    code,
)
from sql.planner.walk import (
    conjuncts,
    free_columns,
    free_ctes,
    is_volatile,
    substitute,
    used_columns,
    walk,
)

if TYPE_CHECKING:
    from sql.executor.node import Node


def plan_set_operation(
    self: Planner, plan: b.SetOperationPlan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    """Plan UNION, INTERSECT and EXCEPT."""
    pushed = [c for c in conditions if not is_volatile(c)]
    sides = []
    for side in (plan.left, plan.right):
        mapping: dict[int, Any] = {
            c.id: b.ColumnVar(s.id, s.type, s.typmod)
            for c, s in zip(plan.columns, side.columns, strict=True)
        }
        ids = [c.id for c in side.columns]
        node = self.plan(side, [substitute(c, mapping) for c in pushed], set(ids), NOTHING)
        sides.append(self.pick(node, ids))
    layout = [c.id for c in plan.columns]
    left, right = sides
    result: Node
    if plan.operator == "union":
        result = AppendNode(layout, _flat_append(sides))
        result.rows = left.rows + right.rows
        result.total_cost = left.total_cost + right.total_cost
        for column, below in zip(layout, left.layout, strict=True):
            self.names[column] = self.names.get(below, "")
        if not plan.all:
            appended = result
            result = DistinctNode(result, self.hashed_rows(plan.columns, result))
            result.rows = appended.rows
            result.details.append(("Group Key", [b.ColumnVar(c.id, c.type) for c in plan.columns]))
    else:
        result = SetOperationNode(
            layout,
            left,
            right,
            plan.operator,
            self.hashed_rows(plan.left.columns, left),
            self.hashed_rows(plan.right.columns, right),
            keep_all=plan.all,
        )
        result.rows = left.rows
    self.nodes.append(result)
    result.total_cost = left.total_cost + right.total_cost + result.rows * est.CPU_TUPLE
    result.width = max(left.width, right.width)
    return self.finish(result, [c for c in conditions if c not in pushed])


def _flat_append(sides: list[Node]) -> list[Node]:
    """Chains of UNION ALL are one Append."""
    out: list[Node] = []
    for side in sides:
        if type(side) is AppendNode:
            out += side.children
        else:
            out.append(side)
    return out


def plan_with(
    self: Planner, plan: b.WithPlan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Plan WITH: definitions that are referenced once are inlined."""
    counts: dict[int, int] = {}
    for item in walk(plan):
        if isinstance(item, b.CteScan):
            counts[item.cte_id] = counts.get(item.cte_id, 0) + 1
    definitions = []
    for definition in plan.definitions:
        if _may_inline(definition, counts.get(definition.cte_id, 0)):
            self.cte_inline[definition.cte_id] = definition
            continue
        if counts.get(definition.cte_id, 0) == 0 and not definition.modifies:
            continue
        definitions.append(_define(self, definition))
    body = self.plan(plan.body, conditions, needed, want)
    if not definitions:
        return body
    node = WithNode(body, definitions)
    self.inherit(node, body)
    return node


def _may_inline(definition: b.CteDefinition, references: int) -> bool:
    if definition.step is not None or definition.modifies or definition.materialized is True:
        return False
    if is_volatile(definition.plan) or any(
        isinstance(i, b.LockPlan) for i in walk(definition.plan)
    ):
        return False
    return references == 1 or (
        definition.materialized is False and references > 0 and references == 1
    )


def _define(self: Planner, definition: b.CteDefinition) -> CteDefinitionPlan:
    if free_columns((definition.plan, definition.step)) - {c.id for c in definition.columns}:
        self.correlated_ctes.add(definition.cte_id)
    if free_ctes((definition.plan, definition.step)) & self.correlated_ctes:
        self.correlated_ctes.add(definition.cte_id)
    node = self.plan_root(definition.plan)
    rows = node.rows
    if definition.step is not None:
        self.work_tables.add(definition.cte_id)
        step = self.plan_root(definition.step)
        self.work_tables.discard(definition.cte_id)
        keys = None
        if not definition.union_all:
            keys = self.hashed_rows(definition.plan.columns, node)
        first = node
        node = RecursiveUnionNode(first.layout, first, step, definition.cte_id, keys)
        node.rows = rows * 10
        node.total_cost = first.total_cost + step.total_cost * 10
        rows = node.rows
    self.cte_rows[definition.cte_id] = rows
    return CteDefinitionPlan(definition.cte_id, definition.name, node, modifies=definition.modifies)


def plan_cte_scan(
    self: Planner, plan: b.CteScan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Plan a reference to a CTE."""
    inline = self.cte_inline.get(plan.cte_id)
    if inline is not None:
        variables = tuple(b.ColumnVar(c.id, c.type, c.typmod) for c in inline.plan.columns)
        return self.plan(
            b.ProjectPlan(inline.plan, variables, plan.columns), conditions, needed, want
        )
    kind = WorkTableNode if plan.cte_id in self.work_tables else CteScanNode
    node = kind([c.id for c in plan.columns], plan.cte_id, plan.name, plan.alias)
    node.rows = self.cte_rows.get(plan.cte_id, 100.0)
    node.total_cost = node.rows * est.CPU_TUPLE
    for column in plan.columns:
        self.names[column.id] = f"{plan.alias or plan.name}.{column.name}"
    return self.finish(node, conditions)


def plan_lock(
    self: Planner, plan: b.LockPlan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Plan a locking clause."""
    below = _below_projection(plan)
    if below is not None:
        return self.plan(below, conditions, needed, want)
    columns = {c.id for lock in plan.locks for c in lock.scan.columns}
    for lock in plan.locks:
        self.locked.update(dict.fromkeys([c.id for c in lock.scan.columns], lock.strength))
    # Those from above, too: of a sub-query they are tested below, on rows that may change.
    checks = _recheck_conditions(plan) + conditions
    wanted = needed | columns | used_columns(tuple(checks))
    produced = {c.id for c in plan.columns}
    child = self.plan(plan.input, conditions, wanted & produced | needed, want)
    at = {column: number for number, column in enumerate(child.layout)}
    targets = [
        LockTarget(lock.scan.table, [at[c.id] for c in lock.scan.columns], lock.strength, lock.wait)
        for lock in plan.locks
    ]
    checks = [c for c in checks if used_columns(c) <= set(at)]
    recheck = None
    if checks:
        condition = (
            checks[0] if len(checks) == 1 else b.BoolExpr("and", tuple(checks), checks[0].type)
        )
        recheck = code(
            condition_function(condition, positions(child.layout, "row"), self.plan_subquery)
        )
    node = LockRowsNode(child, targets, recheck)
    self.inherit(node, child)
    return node


def _below_projection(plan: b.LockPlan) -> b.ProjectPlan | None:
    """Lock before the select list is computed: a row that changed must show its newest version."""
    source: b.LogicalPlan = plan.input
    keys: tuple[b.SortItem, ...] = ()
    if isinstance(source, b.SortPlan):
        keys = source.keys
        source = source.input
    if not isinstance(source, b.ProjectPlan) or is_volatile(source.expressions):
        return None
    mapping = {c.id: e for c, e in zip(source.columns, source.expressions, strict=True)}
    inner = source.input
    if keys:
        inner = b.SortPlan(inner, substitute(keys, mapping))
    return b.ProjectPlan(b.LockPlan(inner, plan.locks), source.expressions, source.columns)


def _recheck_conditions(plan: b.LockPlan) -> list[Any]:
    """Collect the WHERE and inner join conditions below a locking clause."""
    found: list[Any] = []
    below: list[Any] = [plan.input]
    while below:
        item = below.pop()
        if isinstance(item, b.FilterPlan):
            found += conjuncts(item.condition)
            below.append(item.input)
        elif type(item) in {b.SortPlan, b.LimitPlan}:
            below.append(item.input)
        elif isinstance(item, b.JoinPlan) and item.kind == "inner":
            found += conjuncts(item.condition)
            below += (item.left, item.right)
    return found
