"""EXISTS and correlated IN as semi- and anti-joins.

``EXISTS (SELECT ... FROM input WHERE condition)`` is a semi-join when the correlation stands in
the WHERE alone: its equalities become hash keys, the rest a condition on the pair of rows. NOT
EXISTS is the anti-join. An uncorrelated IN stays a hashed sub-plan, and NOT IN too, for its
NULLs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.binder import bound as b
from sql.planner.joins import equality_sides, join_nodes
from sql.planner.plan import NOTHING
from sql.planner.walk import (
    conjuncts,
    free_columns,
    has_subquery,
    is_volatile,
    returns_set,
    substitute,
    used_columns,
)

if TYPE_CHECKING:
    from sql.executor.node import Node
    from sql.planner.plan import Planner


def apply_semi_joins(planner: Planner, node: Node, conditions: list[Any]) -> tuple[Node, list[Any]]:
    """Join what can be joined; returns the new node and the conditions that remain."""
    remaining = []
    for condition in conditions:
        joined = _try(planner, node, condition)
        if joined is None:
            remaining.append(condition)
        else:
            node = joined
    return node, remaining


def _try(planner: Planner, node: Node, condition: Any) -> Node | None:
    negated = isinstance(condition, b.BoolExpr) and condition.kind == "not"
    subquery = condition.operands[0] if negated else condition
    if not isinstance(subquery, b.SubqueryExpr):
        return None
    found = _decorrelated(subquery, negated=negated)
    if found is None:
        return None
    source, tests = found
    own = {c.id for c in source.columns}
    outer = set(node.layout)
    inside: list[Any] = []
    across: list[Any] = []
    for test in tests:
        (across if used_columns(test) - own else inside).append(test)
    if any(used_columns(t) - own - outer for t in across) or has_subquery(tuple(across)):
        return None
    if not any(equality_sides(t, outer, own) for t in across):
        return None
    needed = used_columns(tuple(across)) & own
    right = planner.plan(source, inside, needed, NOTHING)
    logical = source if isinstance(source, b.TableScan) else None
    return join_nodes(
        planner,
        "anti" if negated else "semi",
        node,
        right,
        across,
        set(node.layout),
        logical=logical,
    )


def _decorrelated(subquery: b.SubqueryExpr, *, negated: bool) -> tuple[Any, list[Any]] | None:
    """Return the input without free columns and all the conditions above it."""
    if not free_columns(subquery.plan):
        return None
    plan: Any = subquery.plan
    tests: list[Any] = []
    if subquery.kind == "any":
        if negated or subquery.test is None:
            return None
        tests = conjuncts(subquery.test)
    elif subquery.kind != "exists":
        return None
    while True:
        if (
            type(plan) in {b.SortPlan, b.DistinctPlan} and getattr(plan, "keys", None) is None
        ) or isinstance(plan, b.SortPlan):
            plan = plan.input
        elif isinstance(plan, b.ProjectPlan):
            if is_volatile(plan.expressions) or returns_set(plan.expressions):
                return None
            mapping = {c.id: e for c, e in zip(plan.columns, plan.expressions, strict=True)}
            tests = [substitute(t, mapping) for t in tests]
            plan = plan.input
        elif isinstance(plan, b.FilterPlan):
            if is_volatile(plan.condition):
                return None
            tests += conjuncts(plan.condition)
            plan = plan.input
        else:
            break
    if type(plan) in {b.OneRow, b.LimitPlan} or free_columns(plan):
        return None
    return plan, tests
