"""Planning the leaves: tables by their best access path, VALUES, functions, virtual tables."""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING, Any, Final

from sql.binder import bound as b
from sql.executor.scan import (
    FunctionCall,
    FunctionScanNode,
    IndexScanNode,
    OneRowNode,
    SequenceScanNode,
    TableScanNode,
    ValuesNode,
    VirtualScanNode,
)
from sql.planner import estimate as est
from sql.planner.access import (
    AccessPath,
    Sargable,
    hashable_operator,
    index_keys,
    match_index,
    sargables,
    span_maker,
)
from sql.planner.codegen import (
    Compiled,
    positions,
    row_function,
    value_function,
)
from sql.planner.indexes import readable_indexes
from sql.planner.tables import table_access
from sql.planner.walk import (
    free_columns,
    free_ctes,
    returns_set,
    used_columns,
)

FIRST_ROWS: Final = 10.0
"""Rows that a LIMIT is taken to want."""

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sql.executor.node import Node, OrderKey
    from sql.planner.plan import (
        Planner,
        Want,
    )


def plan_one_row(
    self: Planner, _plan: b.OneRow, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    """Plan SELECT without FROM."""
    node = OneRowNode(())
    node.total_cost = est.CPU_TUPLE
    return self.finish(node, conditions)


def plan_table_scan(
    self: Planner, plan: b.TableScan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Choose the access path of a table."""
    self.origins.add(plan)
    table = plan.table
    own = {c.id for c in plan.columns}
    for column in plan.columns:
        self.names[column.id] = f"{plan.alias}.{column.name}"
    pushed = [c for c in conditions if not has_semi_join_form(c)]
    readable = readable_indexes(self.catalog, plan, pushed)
    found = sargables(readable.conditions, own | readable.columns)
    for sargable in found:
        sargable.condition = readable.originals.get(id(sargable.condition), sargable.condition)
    indexed = {k.column for i in (None, *readable.indexes) for k in index_keys(plan, i)} & own
    looked_up = [s for c in conditions if (s := _in_subquery(self, c, indexed)) is not None]
    found += looked_up
    rows = est.table_rows(table)
    best: tuple[float, AccessPath, bool] | None = None
    for index in [None, *readable.indexes]:
        pseudo = () if index is None else readable.pseudo.get(index.index_id, ())
        path = match_index(plan, index, found, pseudo)
        cost, reverse = _path_cost(self, path, rows, pushed, want)
        if best is None or cost < best[0] * 0.999:
            best = (cost, path, reverse)
    assert best is not None
    for sargable in looked_up:
        if sargable not in best[1].fixed:
            self.sub_plans.pop(id(sargable.values[0]))
    node = _scan_node(self, plan, best[1], reverse=best[2])
    read = needed | used_columns(tuple(conditions))
    positions_read = [n for n, c in enumerate(plan.columns) if c.id in read]
    if len(positions_read) < len(plan.columns):
        node.columns = frozenset(positions_read)
    used = [s.condition for s in [*best[1].fixed, *best[1].ranges] if s.exact]
    fetched = rows * _share(self, best[1])
    node.rows = max(1.0, fetched)
    node.width = est.table_width(table)
    node.total_cost = best[0]
    node.startup_cost = 0.0 if best[1].index is None else 0.15
    not_null = frozenset(
        c.id
        for c, d in zip(plan.columns, table.columns, strict=True)
        if d.not_null and not d.dropped
    ) | {plan.columns[p].id for p in table.clustering_key}
    self.non_null[id(node)] = not_null
    self.nodes.append(node)
    never = [s.condition for s in found if s.comparison == "null" and s.column in not_null]
    if never:
        return self.filter_once(node, [b.Const(False, never[0].type)])  # noqa: FBT003
    return self.finish(node, [c for c in conditions if c not in used])


def has_semi_join_form(condition: Any) -> bool:
    """Tell whether a condition is a (negated) sub-query."""
    if isinstance(condition, b.BoolExpr) and condition.kind == "not":
        condition = condition.operands[0]
    return isinstance(condition, b.SubqueryExpr)


def _in_subquery(self: Planner, condition: Any, indexed: set[int]) -> Sargable | None:
    """Take ``column IN (uncorrelated sub-query)`` as look-ups of the sub-query's rows."""
    if not isinstance(condition, b.SubqueryExpr) or condition.kind != "any":
        return None
    if len(condition.equalities) != 1 or len(condition.plan.columns) != 1:
        return None
    left, variable, operator = condition.equalities[0]
    if (
        not isinstance(left, b.ColumnVar)
        or left.id not in indexed
        or variable.id != condition.plan.columns[0].id
        or left.type is not variable.type
        or not hashable_operator(operator)
        or free_columns(condition.plan)
        or free_ctes(condition.plan)
    ):
        return None
    array = b.SubqueryExpr("array", condition.plan, condition.type)
    share = self.plan_subquery(array).node.rows / self.origins.distinct(left)
    return Sargable(left.id, "in", (array,), condition, share=min(1.0, share))


def _share(self: Planner, path: AccessPath) -> float:
    """Estimate the share of the rows that a path fetches."""
    share = 1.0
    for sargable in [*path.fixed, *path.ranges]:
        share *= sargable.share or 1.0
    plain = [s.condition for s in [*path.fixed, *path.ranges] if s.share is None]
    return share * est.combined(list(dict.fromkeys(plain)), self.origins)


def _path_cost(
    self: Planner, path: AccessPath, rows: float, conditions: list[Any], want: Want
) -> tuple[float, bool]:
    """Return (cost, scan backwards) of a path, a sort above included when it would be needed."""
    width = est.table_width(path.table)
    share = _share(self, path)
    if path.fixed and path.is_point and (path.index is None or path.index.unique):  # noqa: SIM102
        if all(s.comparison == "=" for s in path.fixed):
            share = min(share, 1.0 / max(rows, 1.0))
    fetched = max(1.0, rows * share)
    per_row = est.CPU_TUPLE + est.PAGE * width / 8192
    if path.index is None:
        cost = fetched * per_row + (0.3 if path.used else 0.0)
    else:
        cost = 0.4 + fetched * (per_row + est.CPU_TUPLE + est.RANDOM_PAGE)
    if any(s.share is not None for s in path.fixed):
        cost += fetched * est.RANDOM_PAGE
    reverse = False
    if want.order:
        forward, backward = _order_matches(path, want.order)
        if forward or backward:
            reverse = not forward
            if want.first_rows:
                filters = [c for c in conditions if not any(c is u for u in path.used)]
                wanted = FIRST_ROWS / max(est.combined(filters, self.origins), 1e-9)
                cost = 0.4 + cost * min(1.0, wanted / fetched)
        else:
            cost += 2 * est.CPU_OPERATOR * fetched * log2(fetched + 2)
    return cost, reverse


def _order_matches(path: AccessPath, wanted: tuple[OrderKey, ...]) -> tuple[bool, bool]:
    constants = path.constants()
    not_null = {k.column for k in path.keys if k.not_null}
    have = [k for k in path.order() if k[0] not in constants]
    need = [k for k in wanted if k[0] not in constants]
    if len(need) > len(have):
        return False, False
    forward = backward = True
    for n, h in zip(need, have, strict=False):
        same = n[0] == h[0]
        safe = n[0] in not_null
        forward = forward and same and n[1] == h[1] and (safe or n[2] == h[2])
        backward = backward and same and n[1] != h[1] and (safe or n[2] != h[2])
    return forward, backward


def _scan_node(
    self: Planner, plan: b.TableScan, path: AccessPath, *, reverse: bool
) -> TableScanNode:
    layout = [c.id for c in plan.columns]
    options: dict[str, Any] = {"reverse": reverse}
    sub_plans: list[Any] = []
    if path.used:
        expressions, make = span_maker(path)
        values = value_function(expressions, self.plan_subquery)
        options["spans"], options["spans_async"] = compose_spans(values, make)
        sub_plans = list(values.sub_plans)
    node: TableScanNode
    if path.index is None:
        node = TableScanNode(layout, plan.table, plan.alias, **options)
    else:
        access = table_access(self.catalog, plan.table)
        node = IndexScanNode(layout, access, path.index.index_id, plan.alias, **options)
    node.sub_plans += sub_plans
    order = path.order()
    if reverse:
        order = tuple((c, not d, not n) for c, d, n in order)
    node.order = order
    self.constants[id(node)] = path.constants()
    if path.used:
        node.details.append(("Index Cond", list(dict.fromkeys(path.used))))
    self.nodes.append(node)
    return node


def compose_spans(values: Compiled, make: Callable[..., Any]) -> tuple[Callable[..., Any], bool]:
    """Return ``f(context) -> spans`` and whether it must be awaited."""
    compute = values.call
    if values.is_async:

        async def spans_async(context: Any) -> Any:
            return make(await compute(context))

        return spans_async, True
    return (lambda context: make(compute(context))), False


def plan_virtual_scan(
    self: Planner, plan: b.VirtualScan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    """Plan a system table."""
    node = VirtualScanNode([c.id for c in plan.columns], plan.table, plan.alias)
    node.rows = 100.0
    node.total_cost = 10.0
    for column in plan.columns:
        self.names[column.id] = f"{plan.alias}.{column.name}"
    return self.finish(node, conditions)


def plan_sequence_scan(
    self: Planner, plan: b.SequenceScan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    """Plan a scan of a sequence."""
    node = SequenceScanNode([c.id for c in plan.columns], plan.sequence)
    return self.finish(node, conditions)


def plan_values(
    self: Planner, plan: b.ValuesPlan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    """Plan VALUES."""
    rows = []
    sub_plans: list[Any] = []
    constant = all(isinstance(e, b.Const) for row in plan.rows for e in row)
    for row in plan.rows:
        if constant:
            rows.append((_constant_row(tuple(e.value for e in row)), False))  # type: ignore[union-attr]
            continue
        compiled = value_function(row, self.plan_subquery)
        rows.append((compiled.call, compiled.is_async))
        sub_plans += compiled.sub_plans
    node = ValuesNode([c.id for c in plan.columns], rows, plan.alias)
    node.sub_plans += sub_plans
    node.rows = float(max(1, len(rows)))
    node.total_cost = node.rows * est.CPU_TUPLE
    for column in plan.columns:
        self.names[column.id] = f"{plan.alias or chr(34) + '*VALUES*' + chr(34)}.{column.name}"
    return self.finish(node, conditions)


def _constant_row(row: tuple[Any, ...]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda _context: row


def function_call(
    self: Planner, expression: Any, layout: Sequence[int], width: int, *, composite: bool
) -> FunctionCall:
    """Compile one call of a function scan or select list."""
    compiled = row_function([expression], positions(layout, "row"), self.plan_subquery, single=True)
    return FunctionCall(
        compiled.call,
        is_async=compiled.is_async,
        returns_set=returns_set(expression),
        spread=composite,
        width=width,
    )


def plan_function_scan(
    self: Planner, plan: b.FunctionScan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    """Plan functions in FROM."""
    calls = []
    for expression, width in zip(plan.calls, plan.widths, strict=True):
        composite = width != 1 or (
            isinstance(expression, b.CallExpr) and len(expression.function.columns) == 1
        )
        calls.append(function_call(self, expression, (), width, composite=composite))
    node = FunctionScanNode(
        [c.id for c in plan.columns], calls, plan.alias, ordinality=plan.ordinality
    )
    first = plan.calls[0]
    node.function_name = first.function.name if isinstance(first, b.CallExpr) else plan.alias
    node.rows = 1000.0 if returns_set(plan.calls) else 1.0
    node.total_cost = node.rows * est.CPU_TUPLE
    for column in plan.columns:
        self.names[column.id] = f"{plan.alias}.{column.name}"
    return self.finish(node, conditions)
