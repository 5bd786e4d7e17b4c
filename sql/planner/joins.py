"""Joins: the order of inner joins, the method of each join, outer joins that are really inner ones.

Chains of inner joins become a set of relations and a set of conditions; the order is found
greedily (smallest result next), relations that depend on others (LATERAL) after those. Filters
between inner joins join the set.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from sql.binder import bound as b
from sql.errors import FeatureNotSupported
from sql.executor.join import (
    DependentJoinNode,
    HashJoinNode,
    IndexJoinNode,
    JoinNode,
    NestedLoopNode,
)
from sql.executor.node import Node
from sql.executor.scan import TableScanNode
from sql.planner import estimate as est
from sql.planner.access import compatible, index_keys, usable_indexes
from sql.planner.codegen import is_hashable
from sql.planner.loops import (
    JoinKey,
    JoinShape,
    build_function,
    key_rows_function,
    probe_function,
    unmatched_function,
)
from sql.planner.plan import NOTHING, Planner, Want, code
from sql.planner.tables import table_access
from sql.planner.walk import conjuncts, free_columns, is_volatile, used_columns

if TYPE_CHECKING:
    from sql.planner.loops import JoinKind

INDEX_LOOKUP_COST: Final = 0.35
"""Cost of one batched look-up by key, in units of sequential pages."""


@dataclass(slots=True)
class Relation:
    """One input of a chain of inner joins."""

    logical: Any
    columns: set[int]
    depends_on: set[int]
    conditions: list[Any] = field(default_factory=list)
    node: Node | None = None


def plan_join(
    planner: Planner, plan: b.JoinPlan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Plan a join and everything joined to it by inner joins."""
    stable = [c for c in conditions if not is_volatile(c)]
    volatile = [c for c in conditions if is_volatile(c)]
    below = needed | used_columns(tuple(volatile))
    kind = _simplified(plan, stable)
    if kind == "inner":
        node = _inner(planner, plan, stable, below, want)
    else:
        node = _outer(planner, plan, kind, stable, below, want)
    return planner.finish(node, volatile)


# Inner joins.


def _inner(
    planner: Planner, plan: b.JoinPlan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    relations: list[Relation] = []
    pool = list(conditions)
    _flatten(
        b.JoinPlan("inner", plan.left, plan.right, plan.condition, plan.lateral), relations, pool
    )
    everything = {c for relation in relations for c in relation.columns}
    for relation in relations:
        relation.depends_on &= everything
    joins: list[Any] = []
    for condition in pool:
        used = used_columns(condition) & everything
        home = [r for r in relations if used <= r.columns and used]
        if home and not is_volatile(condition):
            home[0].conditions.append(condition)
        else:
            joins.append(condition)
    if len(relations) == 2 and relations[1].depends_on:
        want = Want(want.order, want.first_rows)
    for relation in relations:
        relation.node = planner.plan(
            relation.logical,
            relation.conditions,
            _visible(relation, needed, joins, relations),
            NOTHING,
        )
    return _order(planner, relations, joins, needed, everything)


def _visible(
    relation: Relation, needed: set[int], joins: list[Any], relations: list[Relation]
) -> set[int]:
    wanted = needed | used_columns(tuple(joins))
    for other in relations:
        wanted |= other.depends_on
    return wanted & relation.columns


def _flatten(plan: Any, relations: list[Relation], pool: list[Any]) -> None:
    if isinstance(plan, b.JoinPlan) and (
        plan.kind == "inner" or _simplified(plan, pool) == "inner"
    ):
        pool += conjuncts(plan.condition)
        _flatten(plan.left, relations, pool)
        _flatten(plan.right, relations, pool)
    elif isinstance(plan, b.FilterPlan) and not is_volatile(plan.condition):
        pool += conjuncts(plan.condition)
        _flatten(plan.input, relations, pool)
    else:
        relations.append(Relation(plan, {c.id for c in plan.columns}, free_columns(plan)))


def _order(
    planner: Planner,
    relations: list[Relation],
    joins: list[Any],
    needed: set[int],
    everything: set[int],
) -> Node:
    remaining = list(relations)
    start = min(
        (r for r in remaining if not r.depends_on),
        key=lambda r: _node(r).rows,
        default=remaining[0],
    )
    start = _cheapest_start(planner, remaining, joins) or start
    remaining.remove(start)
    current, joined = _node(start), set(start.columns)
    pending = list(joins)
    ready = [c for c in pending if used_columns(c) & everything <= joined]
    pending = [c for c in pending if c not in ready]
    current = planner.finish(current, ready)
    while remaining:
        best = None
        for relation in remaining:
            if not relation.depends_on <= joined:
                continue
            usable = _usable(pending, joined | relation.columns, everything)
            keys = [c for c in usable if equality_sides(c, joined, relation.columns)]
            rows = current.rows * _node(relation).rows * est.combined(usable, planner.origins)
            rank = (not keys and not relation.depends_on, rows)
            if best is None or rank < best[0]:
                best = (rank, relation, usable)
        assert best is not None, "lateral references form a cycle"
        _, relation, usable = best
        pending = [c for c in pending if c not in usable]
        remaining.remove(relation)
        wanted = needed | used_columns(tuple(pending))
        for other in remaining:
            wanted |= other.depends_on
        current = join_nodes(
            planner,
            "inner",
            current,
            _node(relation),
            usable,
            wanted,
            logical=relation.logical,
            depends_on=relation.depends_on,
        )
        joined |= relation.columns
    return planner.finish(current, pending)


def _node(relation: Relation) -> Node:
    assert relation.node is not None
    return relation.node


def _cheapest_start(
    planner: Planner, relations: list[Relation], joins: list[Any]
) -> Relation | None:
    """Try every connected pair first: the pair with the fewest rows contains the start."""
    best: tuple[float, float, Relation] | None = None
    everything = {c for r in relations for c in r.columns}
    for one in relations:
        if one.depends_on:
            continue
        for two in relations:
            if one is two or two.depends_on:
                continue
            usable = _usable(joins, one.columns | two.columns, everything)
            if not any(equality_sides(c, one.columns, two.columns) for c in usable):
                continue
            rows = _node(one).rows * _node(two).rows * est.combined(usable, planner.origins)
            rank = (rows, _node(one).rows, one)
            if best is None or rank[:2] < best[:2]:
                best = rank
    return None if best is None else best[2]


def _usable(conditions: list[Any], columns: set[int], everything: set[int]) -> list[Any]:
    return [c for c in conditions if used_columns(c) & everything <= columns]


# Outer joins.


def _outer(
    planner: Planner,
    plan: b.JoinPlan,
    kind: Any,
    conditions: list[Any],
    needed: set[int],
    want: Want,
) -> Node:
    left_plan, right_plan = plan.left, plan.right
    if kind == "right":
        kind, left_plan, right_plan = "left", plan.right, plan.left
    left = {c.id for c in left_plan.columns}
    right = {c.id for c in right_plan.columns}
    if planner.locked:
        _refuse_locks(planner, right if kind == "left" else left | right)
    own = conjuncts(plan.condition)
    left_conditions: list[Any] = []
    right_conditions: list[Any] = []
    above, on = [], []
    for condition in conditions:
        used = used_columns(condition) & (left | right)
        if kind == "left" and used and used <= left:
            left_conditions.append(condition)
        else:
            above.append(condition)
    for condition in own:
        used = used_columns(condition) & (left | right)
        if kind == "left" and used and used <= right and not is_volatile(condition):
            right_conditions.append(condition)
        else:
            on.append(condition)
    depends_on = free_columns(right_plan) & left
    visible = needed | used_columns((tuple(above), tuple(on))) | depends_on
    left_want = want if kind == "left" else NOTHING
    left_node = planner.plan(left_plan, left_conditions, visible & left, left_want)
    right_node = planner.plan(right_plan, right_conditions, visible & right, NOTHING)
    node = join_nodes(
        planner,
        kind,
        left_node,
        right_node,
        on,
        needed | used_columns(tuple(above)),
        logical=right_plan,
        depends_on=depends_on,
    )
    return planner.finish(node, above)


def _refuse_locks(planner: Planner, nullable: set[int]) -> None:
    """Refuse to lock rows that may not be there (0A000)."""
    found = next((s for column, s in planner.locked.items() if column in nullable), None)
    if found is not None:
        raise FeatureNotSupported(
            f"FOR {found.upper()} cannot be applied to the nullable side of an outer join"
        )


def _simplified(plan: b.JoinPlan, conditions: list[Any]) -> str:
    """Turn an outer join into a stricter one when a condition above refuses NULL-extended rows."""
    kind: str = plan.kind
    if kind == "inner" or not conditions:
        return kind
    left = {c.id for c in plan.left.columns}
    right = {c.id for c in plan.right.columns}
    refused: set[int] = set()
    for condition in conditions:
        refused |= refused_nulls(condition)
    if kind in {"left", "full"} and refused & right:
        kind = {"left": "inner", "full": "right"}[kind]
    if kind in {"right", "full"} and refused & left:
        kind = {"right": "inner", "full": "left"}[kind]
    return kind


def refused_nulls(condition: Any) -> set[int]:
    """Return columns that cannot be NULL where the condition is true."""
    kind = type(condition)
    if kind is b.NullTestExpr and condition.negated and not condition.row:
        return _strict_columns(condition.operand)
    if kind is b.BoolExpr and condition.kind == "and":
        return set().union(*map(refused_nulls, condition.operands))
    if kind is b.BoolExpr and condition.kind == "or":
        return set.intersection(*map(refused_nulls, condition.operands))
    if kind is b.ScalarArrayExpr and condition.use_any and condition.operator.function.strict:
        return _strict_columns(condition.left)
    if kind in {b.CallExpr, b.ColumnVar}:
        return _strict_columns(condition)
    return set()


def _strict_columns(expression: Any) -> set[int]:
    """Return columns whose being NULL makes the expression NULL."""
    kind = type(expression)
    if kind is b.ColumnVar:
        return {expression.id}
    if kind is b.CallExpr and expression.function.strict and not expression.function.returns_set:
        return set().union(*map(_strict_columns, expression.args)) if expression.args else set()
    if kind is b.CastExpr and expression.method != "function":
        return _strict_columns(expression.operand)
    if kind is b.CastExpr and expression.cast is not None and expression.cast.function is not None:
        return _strict_columns(expression.operand) if expression.cast.function.strict else set()
    return set()


# Methods.


def equality_sides(condition: Any, left: set[int], right: set[int]) -> JoinKey | None:
    """Return the hash key of an equality between both sides, or None."""
    null_safe = False
    if isinstance(condition, b.DistinctExpr) and condition.negated:
        null_safe, operator, sides = True, condition.equals, (condition.left, condition.right)
    elif (
        isinstance(condition, b.CallExpr)
        and condition.operator is not None
        and len(condition.args) == 2
    ):
        operator, sides = condition.operator, condition.args
    else:
        return None
    if (
        operator.comparison != "="
        or operator.left is None
        or not compatible(operator.left, operator.right)
    ):
        return None
    if not is_hashable(operator.left) or is_volatile(sides):
        return None
    used = used_columns(sides[0]), used_columns(sides[1])
    if not used[0] or not used[1]:
        return None
    both = left | right
    if used[0] & both <= left and used[1] & both <= right and used[0] & left and used[1] & right:
        return JoinKey(sides[0], sides[1], operator.left, null_safe)
    if used[1] & both <= left and used[0] & both <= right and used[1] & left and used[0] & right:
        return JoinKey(sides[1], sides[0], operator.left, null_safe)
    return None


def join_nodes(
    planner: Planner,
    kind: JoinKind,
    left: Node,
    right: Node,
    conditions: list[Any],
    needed: set[int],
    *,
    logical: Any = None,
    depends_on: set[int] | frozenset[int] = frozenset(),
) -> Node:
    """Join two planned inputs by the cheapest method that can do this kind of join."""
    left_columns, right_columns = set(left.layout), set(right.layout)
    keys, key_conditions, residual = [], [], []
    for condition in conditions:
        key = equality_sides(condition, left_columns, right_columns)
        if key is None:
            residual.append(condition)
        else:
            keys.append(key)
            key_conditions.append(_oriented(condition, key))
    semi = kind in {"semi", "anti"}
    output = [c for c in left.layout if c in needed or semi]
    if not semi:
        output += [c for c in right.layout if c in needed]
    rows = _join_rows(planner, kind, left, right, conditions)
    node: Node
    if depends_on:
        node = _dependent(planner, kind, left, right, conditions, output, depends_on)
    else:
        node = _try_index_join(
            planner, kind, left, right, keys, conditions, output, logical
        ) or _hash_or_loop(planner, kind, left, right, keys, key_conditions, residual, output)
    node.rows = rows
    node.width = left.width + (0 if semi else right.width)
    planner.nodes += (node, left, right)
    safe = (
        planner.non_null.get(id(left), frozenset())
        if kind in {"inner", "left", "semi", "anti"}
        else frozenset()
    )
    if kind == "inner":
        safe |= planner.non_null.get(id(right), frozenset())
    planner.non_null[id(node)] = safe
    if isinstance(node, HashJoinNode):
        if residual:
            node.details.append(("Join Filter", residual))
    elif conditions and not isinstance(node, IndexJoinNode):
        node.details.append(("Join Filter", conditions))
    return node


def _join_rows(
    planner: Planner, kind: str, left: Node, right: Node, conditions: list[Any]
) -> float:
    rows = max(1.0, left.rows * right.rows * est.combined(conditions, planner.origins))
    if kind in {"left", "full"}:
        rows = max(rows, left.rows)
    if kind == "full":
        rows = max(rows, right.rows)
    if kind in {"semi", "anti"}:
        rows = max(1.0, left.rows * 0.5)
    return rows


def _oriented(condition: Any, key: JoinKey) -> Any:
    """Write an equality with the left input's side first, as EXPLAIN does."""
    if not isinstance(condition, b.CallExpr) or condition.args[0] is key.left:
        return condition
    return replace(condition, args=(key.left, key.right))


def _both(conditions: list[Any]) -> Any:
    if not conditions:
        return None
    if len(conditions) == 1:
        return conditions[0]
    return b.BoolExpr("and", tuple(conditions), conditions[0].type)


def _hash_or_loop(
    planner: Planner,
    kind: JoinKind,
    left: Node,
    right: Node,
    keys: list[JoinKey],
    conditions: list[Any],
    residual: list[Any],
    output: list[int],
) -> JoinNode:
    if kind == "inner" and right.rows > left.rows * 1.5:
        left, right = right, left
        keys = [JoinKey(k.right, k.left, k.type, k.null_safe) for k in keys]
        conditions = [_oriented(c, k) for c, k in zip(conditions, keys, strict=True)]
    shape = JoinShape(kind, tuple(keys), left.layout, right.layout, _both(residual), tuple(output))
    probe = probe_function(shape, planner.plan_subquery)
    unmatched = unmatched_function(shape).call if kind in {"full", "right"} else None
    node: JoinNode
    if keys:
        build = build_function(keys, right.layout, planner.plan_subquery)
        node = HashJoinNode(
            output, left, right, kind, code(probe), code(build), unmatched, key_count=len(keys)
        )
        node.details.append(("Hash Cond", conditions))
        node.startup_cost = right.total_cost + right.rows * est.CPU_TUPLE
        node.total_cost = node.startup_cost + left.total_cost + left.rows * est.CPU_TUPLE
    else:
        node = NestedLoopNode(output, left, right, kind, code(probe), unmatched)
        pairs = left.rows * right.rows
        node.total_cost = left.total_cost + right.total_cost + pairs * est.CPU_OPERATOR
    node.sub_plans += probe.sub_plans
    if kind != "full":
        node.order = left.order
        planner.constants[id(node)] = planner.constants.get(id(left), frozenset())
    return node


def _dependent(
    planner: Planner,
    kind: JoinKind,
    left: Node,
    right: Node,
    conditions: list[Any],
    output: list[int],
    depends_on: set[int] | frozenset[int],
) -> JoinNode:
    shape = JoinShape(kind, (), left.layout, right.layout, _both(conditions), tuple(output))
    probe = probe_function(shape, planner.plan_subquery)
    at = {column: number for number, column in enumerate(left.layout)}
    parameters = [(column, at[column]) for column in sorted(depends_on)]
    node = DependentJoinNode(output, left, right, kind, code(probe), parameters)
    node.total_cost = left.total_cost + left.rows * max(right.total_cost, est.CPU_TUPLE)
    node.order = left.order
    node.sub_plans += probe.sub_plans
    planner.constants[id(node)] = planner.constants.get(id(left), frozenset())
    return node


def _try_index_join(
    planner: Planner,
    kind: JoinKind,
    left: Node,
    right: Node,
    keys: list[JoinKey],
    conditions: list[Any],
    output: list[int],
    logical: Any,
) -> JoinNode | None:
    """Return an index join if the right side is a table with a fitting index, for few left rows."""
    if (
        kind not in {"inner", "left", "semi", "anti"}
        or not keys
        or not isinstance(logical, b.TableScan)
    ):
        return None
    if type(right) is not TableScanNode or right.spans is not None:
        # A secondary index or spans were better for this table already.
        return None
    if left.rows * INDEX_LOOKUP_COST > right.total_cost:
        return None
    scan = logical
    by_column = {
        k.right.id: k for k in keys if isinstance(k.right, b.ColumnVar) and not k.null_safe
    }
    found = _best_index(scan, by_column)
    if found is None:
        return None
    index, columns = found
    full_key = index is None and len(columns) == len(scan.table.clustering_key)
    if index is None and not full_key:
        return None
    key_values = [by_column[c].left for c in columns]
    compiled = key_rows_function(key_values, left.layout, planner.plan_subquery, hashed=False)
    residual = _both(conditions)
    shape = JoinShape(kind, (), left.layout, right.layout, residual, tuple(output), paired=True)
    probe = probe_function(shape, planner.plan_subquery)
    access = table_access(planner.catalog, scan.table)
    node = IndexJoinNode(
        output,
        left,
        right,
        kind,
        code(probe),
        access=access,
        index_id=None if index is None else index.index_id,
        keys=code(compiled),
    )
    right.index_join_name = index.name if index is not None else right.index_name()
    right.details.insert(0, ("Index Cond", [c for c in conditions if _mentions(c, set(columns))]))
    node.total_cost = left.total_cost + left.rows * INDEX_LOOKUP_COST
    node.order = left.order
    node.sub_plans += probe.sub_plans
    planner.constants[id(node)] = planner.constants.get(id(left), frozenset())
    return node


def _mentions(condition: Any, columns: set[int]) -> bool:
    return bool(used_columns(condition) & columns)


def _best_index(scan: b.TableScan, by_column: dict[int, JoinKey]) -> tuple[Any, list[int]] | None:
    """Prefer the whole clustering key, then the index with the longest fixed prefix."""
    best: tuple[Any, list[int]] | None = None
    for index in [None, *usable_indexes(scan.table)]:
        columns = []
        for key in index_keys(scan, index):
            join_key = by_column.get(key.column)
            if (
                join_key is None
                or join_key.type is not key.type
                or join_key.left.type is not key.type
            ):
                break
            columns.append(key.column)
        if index is None and len(columns) < len(scan.table.clustering_key):
            continue
        if columns and (best is None or len(columns) > len(best[1])):
            best = (index, columns)
    return best
