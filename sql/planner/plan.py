"""From logical plans to physical nodes: filters pushed down, columns pruned, access paths and orders chosen.

``Planner.plan(logical, conditions, needed, want)`` returns a node that yields the rows of ``logical`` for which all ``conditions``
are true, with at least the ``needed`` columns in its layout, in the order ``want`` if that is cheap (``node.order`` tells).
Filters and projections become *stages* of the node below; they are compiled at the end, when a scan, its filter and its
projection are known to be one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log2
from typing import TYPE_CHECKING, Any, Final

from sql.binder import bound as b
from sql.executor.aggregate import (
    AggregateNode,
    AggregateSlot,
    AppendNode,
    DistinctNode,
    SetOperationNode,
    UniqueNode,
)
from sql.executor.cte import (
    CteDefinitionPlan,
    CteScanNode,
    RecursiveUnionNode,
    WithNode,
    WorkTableNode,
)
from sql.executor.join import LoopCode
from sql.executor.node import Node, OrderKey
from sql.executor.ordering import SortSpec
from sql.executor.scan import (
    EmptyNode,
    FunctionCall,
    FunctionScanNode,
    IndexScanNode,
    OneRowNode,
    OneTimeFilterNode,
    ProjectSetNode,
    SequenceScanNode,
    StagedNode,
    StageNode,
    TableScanNode,
    ValuesNode,
    VirtualScanNode,
)
from sql.executor.sort import LimitNode, LockRowsNode, LockTarget, SortNode
from sql.executor.window import WindowNode
from sql.planner import estimate as est
from sql.planner.access import (
    AccessPath,
    match_index,
    sargables,
    span_maker,
    usable_indexes,
)
from sql.planner.codegen import (
    Compiled,
    batch_function,
    condition_function,
    is_hashable,
    positions,
    row_function,
    value_function,
)
from sql.planner.loops import accumulate_function, key_rows_function
from sql.planner.subplan import SubPlan
from sql.planner.tables import table_access
from sql.planner.walk import (
    conjuncts,
    free_columns,
    free_ctes,
    has_subquery,
    is_volatile,
    returns_set,
    substitute,
    used_columns,
    walk,
)
from sql.planner.windows import window_loop
from sql.types.catalog import ANY as _ANY_TYPE
from sql.types.compare import hash_key, sort_key

if TYPE_CHECKING:
    from sql.catalog.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Want:
    """The order that would spare a sort above, and whether only the first rows are wanted."""

    order: tuple[OrderKey, ...] = ()
    first_rows: bool = False


NOTHING: Final = Want()


@dataclass(slots=True)
class Stage:
    """A filter and projection that wait to be compiled into their node."""

    node: StagedNode
    layout: tuple[int, ...]
    conditions: list[Any] = field(default_factory=list)
    expressions: list[Any] | None = None


def code(compiled: Compiled) -> LoopCode:
    """Make a compiled function known to the executor."""
    return LoopCode(compiled.call, is_async=compiled.is_async)


class Planner:
    """Plans one statement; not reusable."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.origins = est.ColumnOrigins()
        self.names: dict[int, Any] = {}
        self.non_null: dict[int, frozenset[int]] = {}
        self.constants: dict[int, frozenset[int]] = {}
        self.nodes: list[Node] = []
        self._stages: dict[int, Stage] = {}
        self._pending: list[Stage] = []
        self._cte_columns: dict[int, tuple[b.OutputColumn, ...]] = {}
        self._cte_inline: dict[int, b.CteDefinition] = {}
        self._cte_rows: dict[int, float] = {}
        self._work_tables: set[int] = set()
        self._correlated_ctes: set[int] = set()
        self._sub_plans: dict[int, SubPlan] = {}
        self.keep: list[Any] = []

    # Entry points.

    def plan_root(self, logical: Any) -> Node:
        """Plan a statement or sub-query whose layout must be exactly its columns."""
        wanted = tuple(c.id for c in logical.columns)
        node = self.plan(logical, [], set(wanted), NOTHING)
        return self.pick(node, wanted)

    def plan(self, logical: Any, conditions: list[Any], needed: set[int], want: Want) -> Node:
        """Plan a logical node; see the module."""
        return _HANDLERS[type(logical)](self, logical, conditions, needed, want)

    def compile_stages(self) -> None:
        """Compile every waiting stage, including those of sub-queries found on the way."""
        while self._pending:
            stage = self._pending.pop()
            if stage.expressions is not None and _is_identity(stage):
                stage.expressions = None
            if stage.expressions is None and not stage.conditions:
                continue
            compiled = batch_function(
                stage.conditions,
                stage.expressions,
                stage.layout,
                self.plan_subquery,
                self.non_null.get(id(stage.node), frozenset()),
            )
            stage.node.set_stage(
                compiled.call, is_async=compiled.is_async, filters=bool(stage.conditions)
            )
            stage.node.sub_plans += compiled.sub_plans

    # Stages.

    def finish(self, node: Node, conditions: list[Any]) -> Node:
        """Apply conditions on top of a node: constant ones once, sub-queries as semi-joins, the rest as a filter."""
        from sql.planner.semijoin import apply_semi_joins  # noqa: PLC0415 - joins plan their inputs with this class

        if not conditions:
            return node
        own = set(node.layout)
        once = [c for c in conditions if not (used_columns(c) & own) and not is_volatile(c)]
        rest = [c for c in conditions if c not in once]
        node, rest = apply_semi_joins(self, node, rest)
        if rest:
            node = self.filter(node, rest)
        if once:
            node = self.filter_once(node, once)
        return node

    def filter(self, node: Node, conditions: list[Any]) -> Node:
        """Add a filter stage."""
        rows = node.rows * est.combined(conditions, self.origins)
        cost = node.rows * est.CPU_OPERATOR * len(conditions)
        stage = self._stages.get(id(node))
        if not isinstance(node, StagedNode) or (stage is not None and stage.expressions is not None):
            node = self._stage_node(node)
            stage = None
        if stage is None:
            stage = self._new_stage(node)
        # Sub-queries last: they cost the most.
        stage.conditions += sorted(conditions, key=has_subquery)
        node.rows = max(1.0, rows)
        node.total_cost += cost
        node.details = [d for d in node.details if d[0] != "Filter"]
        node.details.append(("Filter", list(stage.conditions)))
        return node

    def filter_once(self, node: Node, conditions: list[Any]) -> Node:
        """Evaluate conditions without columns once."""
        if any(type(c) is b.Const and c.value is not True for c in conditions):
            empty: Node = EmptyNode(node.layout)
            empty.rows = 0.0
            empty.details.append(("One-Time Filter", [b.Const(False, conditions[0].type)]))  # noqa: FBT003
            return empty
        conditions = [c for c in conditions if type(c) is not b.Const]
        if not conditions:
            return node
        everything = conditions[0] if len(conditions) == 1 else b.BoolExpr(
            "and", tuple(conditions), conditions[0].type
        )
        compiled = condition_function(everything, {}, self.plan_subquery)
        result = OneTimeFilterNode(node, compiled.call, is_async=compiled.is_async)
        result.sub_plans += compiled.sub_plans
        result.details.append(("One-Time Filter", conditions))
        self._inherit(result, node)
        return result

    def project(self, node: Node, columns: Sequence[int], expressions: list[Any]) -> Node:
        """Compute expressions; the result's layout is ``columns``."""
        if not isinstance(node, StagedNode) or (
            (stage := self._stages.get(id(node))) is not None and stage.expressions is not None
        ):
            old = node
            node = self._stage_node(node)
            self.non_null[id(node)] = self.non_null.get(id(old), frozenset())
        stage = self._stages.get(id(node)) or self._new_stage(node)
        before = self.non_null.get(id(node), frozenset())
        passed = {
            e.id: c for c, e in zip(columns, expressions, strict=True) if type(e) is b.ColumnVar
        }
        stage.expressions = expressions
        node.layout = tuple(columns)
        node.order = tuple(_renamed_order(node.order, passed))
        self.constants[id(node)] = frozenset(
            passed[c] for c in self.constants.get(id(node), frozenset()) if c in passed
        )
        # The stage itself still reads the input's columns: both sets of ids stay known.
        self.non_null[id(node)] = before | {passed[c] for c in before if c in passed}
        node.total_cost += node.rows * est.CPU_OPERATOR * len(expressions)
        return node

    def pick(self, node: Node, columns: Sequence[int]) -> Node:
        """Make the layout exactly ``columns``."""
        wanted = tuple(columns)
        if node.layout == wanted:
            return node
        known = set(node.layout)
        assert known >= set(wanted), (wanted, node.layout)
        variables = [b.ColumnVar(c, _ANY_TYPE) for c in wanted]
        return self.project(node, wanted, variables)

    def sealed(self, node: Node) -> Node:
        """Return the node as a child of one that is no stage; nothing may be fused into it any more."""
        self.nodes.append(node)
        return node

    def _stage_node(self, node: Node) -> StageNode:
        result = StageNode(node.layout, node)
        self._inherit(result, node)
        return result

    def _new_stage(self, node: StagedNode) -> Stage:
        stage = Stage(node, node.layout)
        self._stages[id(node)] = stage
        self._pending.append(stage)
        self.nodes.append(node)  # Ids must not be reused while the maps live.
        return stage

    def _inherit(self, node: Node, below: Node) -> None:
        self.nodes += (node, below)
        node.rows, node.width = below.rows, below.width
        node.startup_cost, node.total_cost = below.startup_cost, below.total_cost
        node.order = below.order
        self.constants[id(node)] = self.constants.get(id(below), frozenset())
        self.non_null[id(node)] = self.non_null.get(id(below), frozenset())

    # Sub-queries.

    def plan_subquery(self, expression: b.SubqueryExpr) -> SubPlan:
        """Plan a sub-query of an expression."""
        known = self._sub_plans.get(id(expression))
        if known is not None:
            return known
        free = free_columns(expression.plan)
        ctes = free_ctes(expression.plan)
        correlated = bool(free) or bool(ctes & (self._work_tables | self._correlated_ctes))
        node = self.plan_root(expression.plan)
        test: Compiled | None = None
        hash_keys = None
        if expression.kind in {"any", "all"}:
            hash_keys = None if correlated else _hash_functions(expression)
            if hash_keys is None:
                assert expression.test is not None
                test = row_function(
                    [expression.test], positions(node.layout, "row"), self.plan_subquery, single=True
                )
        result = SubPlan(
            node,
            expression.kind,
            correlated=correlated,
            width=len(expression.plan.columns),
            test=None if test is None else test.call,
            tests_async=test is not None and test.is_async,
            hash_keys=hash_keys,
        )
        result.number = len(self._sub_plans) + 1
        self._sub_plans[id(expression)] = result
        self.nodes.append(node)
        self.keep.append(expression)
        return result

    # Sorting.

    def order_keys(self, items: Sequence[b.SortItem]) -> tuple[OrderKey, ...]:
        """Return sort items as an order if all are plain columns, else ()."""
        keys = []
        for item in items:
            if type(item.expression) is not b.ColumnVar:
                return ()
            keys.append((item.expression.id, item.descending, item.nulls_first))
        return tuple(keys)

    def satisfies(self, node: Node, wanted: Sequence[OrderKey]) -> bool:
        """Tell whether a node's order includes the wanted one; constant columns do not count."""
        constants = self.constants.get(id(node), frozenset())
        non_null = self.non_null.get(id(node), frozenset())
        have = [key for key in node.order if key[0] not in constants]
        need = [key for key in wanted if key[0] not in constants]
        if len(need) > len(have):
            return False
        return all(
            n[0] == h[0] and n[1] == h[1] and (n[2] == h[2] or n[0] in non_null)
            for n, h in zip(need, have, strict=False)
        )

    def sort(self, node: Node, items: Sequence[b.SortItem]) -> Node:
        """Sort a node unless its order already suits."""
        keys = self.order_keys(items)
        if keys and self.satisfies(node, keys):
            self.mark_ordered(node)
            return node
        compiled = key_rows_function(
            [item.expression for item in items], node.layout, self.plan_subquery, hashed=False
        )
        result = SortNode(node, code(compiled), sort_specs(items))
        self._inherit(result, node)
        result.order = keys
        result.sub_plans += compiled.sub_plans
        result.startup_cost = node.total_cost + 2 * est.CPU_OPERATOR * node.rows * log2(node.rows + 2)
        result.total_cost = result.startup_cost + est.CPU_OPERATOR * node.rows
        result.details.append(("Sort Key", list(items)))
        return result

    def mark_ordered(self, node: Node) -> None:
        """Note for EXPLAIN that a scan's order is used."""
        while node.children and not isinstance(node, TableScanNode):
            node = node.children[0]
        if isinstance(node, TableScanNode):
            node.uses_order = True

    def value(self, expression: Any | None) -> LoopCode | None:
        """Compile an expression without columns of this level."""
        if expression is None:
            return None
        return code(value_function([expression], self.plan_subquery, single=True))

    def hashed_rows(self, columns: Sequence[b.OutputColumn], node: Node) -> LoopCode:
        """Compile the hash keys of whole rows."""
        expressions = [b.ColumnVar(c.id, c.type) for c in columns]
        return code(key_rows_function(expressions, node.layout, self.plan_subquery, hashed=True))


def _is_identity(stage: Stage) -> bool:
    """Tell whether a projection only renames columns."""
    assert stage.expressions is not None
    ids = [e.id if type(e) is b.ColumnVar else -1 for e in stage.expressions]
    return tuple(ids) == stage.layout


def _renamed_order(order: Sequence[OrderKey], passed: dict[int, int]) -> list[OrderKey]:
    result = []
    for column, descending, nulls_first in order:
        if column not in passed:
            break
        result.append((passed[column], descending, nulls_first))
    return result


def sort_specs(items: Sequence[b.SortItem]) -> list[SortSpec]:
    """Return the run-time rules of sort items."""
    return [SortSpec(sort_key(i.expression.type), i.descending, i.nulls_first) for i in items]


def _hash_functions(expression: b.SubqueryExpr) -> list[Callable[[Any], Any] | None] | None:
    if expression.kind != "any" or not expression.equalities:
        return None
    order = [variable.id for _, variable, _ in expression.equalities]
    if order != [c.id for c in expression.plan.columns]:
        return None
    keys = []
    for left, variable, operator in expression.equalities:
        if not hashable_operator(operator) or left.type is not variable.type:
            return None
        keys.append(hash_key(variable.type))
    return keys


def hashable_operator(operator: Any) -> bool:
    """Tell whether equal operands of an = operator have equal hash keys."""
    from sql.planner.access import compatible  # noqa: PLC0415 - named here where it is needed

    if operator is None or operator.comparison != "=" or operator.left is None:
        return False
    return compatible(operator.left, operator.right) and is_hashable(operator.left)


# Leaves.


def _one_row(self: Planner, _plan: b.OneRow, conditions: list[Any], _needed: set[int], _want: Want) -> Node:
    node = OneRowNode(())
    node.total_cost = est.CPU_TUPLE
    return self.finish(node, conditions)


def plan_table_scan(
    self: Planner, plan: b.TableScan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Choose the access path of a table."""
    del needed
    self.origins.add(plan)
    table = plan.table
    own = {c.id for c in plan.columns}
    for column in plan.columns:
        self.names[column.id] = f"{plan.alias}.{column.name}"
    pushed = [c for c in conditions if not has_semi_join_form(c)]
    found = sargables(pushed, own)
    rows = est.table_rows(table)
    best: tuple[float, AccessPath, bool] | None = None
    for index in [None, *usable_indexes(table)]:
        path = match_index(plan, index, found)
        cost, reverse = _path_cost(self, path, rows, table, want)
        if best is None or cost < best[0] * 0.999:
            best = (cost, path, reverse)
    assert best is not None
    node = _scan_node(self, plan, best[1], reverse=best[2])
    used = [s.condition for s in [*best[1].fixed, *best[1].ranges] if s.exact]
    fetched = rows * est.combined(list(dict.fromkeys(best[1].used)), self.origins)
    node.rows = max(1.0, fetched)
    node.width = est.table_width(table)
    node.total_cost = best[0]
    node.startup_cost = 0.0 if best[1].index is None else 0.15
    not_null = frozenset(
        c.id for c, d in zip(plan.columns, table.columns, strict=True) if d.not_null and not d.dropped
    ) | {plan.columns[p].id for p in table.clustering_key}
    self.non_null[id(node)] = not_null
    self.nodes.append(node)
    return self.finish(node, [c for c in conditions if c not in used])


def has_semi_join_form(condition: Any) -> bool:
    """Tell whether a condition is a (negated) sub-query."""
    if type(condition) is b.BoolExpr and condition.kind == "not":
        condition = condition.operands[0]
    return type(condition) is b.SubqueryExpr


def _path_cost(
    self: Planner, path: AccessPath, rows: float, table: Any, want: Want
) -> tuple[float, bool]:
    """Return (cost, scan backwards) of a path, a sort above included when it would be needed."""
    width = est.table_width(table)
    share = est.combined(list(dict.fromkeys(path.used)), self.origins)
    if path.fixed and path.is_point and (path.index is None or path.index.unique):
        share = min(share, len(path.fixed) / max(rows, 1.0))
    fetched = max(1.0, rows * share)
    per_row = est.CPU_TUPLE + est.PAGE * width / 8192
    if path.index is None:
        cost = fetched * per_row + (0.3 if path.used else 0.0)
    else:
        cost = 0.4 + fetched * (per_row + est.CPU_TUPLE + est.RANDOM_PAGE)
    reverse = False
    if want.order:
        forward, backward = _order_matches(path, want.order)
        if forward or backward:
            reverse = not forward
            if want.first_rows:
                cost = 0.4 + cost * 0.02
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
    if path.used:
        expressions, make = span_maker(path)
        values = value_function(expressions, self.plan_subquery)
        options["spans"], options["spans_async"] = compose_spans(values, make)
    node: TableScanNode
    if path.index is None:
        node = TableScanNode(layout, plan.table, plan.alias, **options)
    else:
        access = table_access(self.catalog, plan.table)
        node = IndexScanNode(layout, access, path.index.index_id, plan.alias, **options)
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


def _virtual_scan(
    self: Planner, plan: b.VirtualScan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    node = VirtualScanNode([c.id for c in plan.columns], plan.table, plan.alias)
    node.rows = 100.0
    node.total_cost = 10.0
    for column in plan.columns:
        self.names[column.id] = f"{plan.alias}.{column.name}"
    return self.finish(node, conditions)


def _sequence_scan(
    self: Planner, plan: b.SequenceScan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    node = SequenceScanNode([c.id for c in plan.columns], plan.sequence)
    return self.finish(node, conditions)


def _values(
    self: Planner, plan: b.ValuesPlan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    rows = []
    sub_plans: list[Any] = []
    constant = all(type(e) is b.Const for row in plan.rows for e in row)
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
        self.names[column.id] = f'{plan.alias or chr(34) + "*VALUES*" + chr(34)}.{column.name}'
    return self.finish(node, conditions)


def _constant_row(row: tuple[Any, ...]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda _context: row


def function_call(self: Planner, expression: Any, layout: Sequence[int], width: int, *, composite: bool) -> FunctionCall:
    """Compile one call of a function scan or select list."""
    compiled = row_function([expression], positions(layout, "row"), self.plan_subquery, single=True)
    return FunctionCall(
        compiled.call,
        is_async=compiled.is_async,
        returns_set=returns_set(expression),
        spread=composite,
        width=width,
    )


def _function_scan(
    self: Planner, plan: b.FunctionScan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    calls = []
    for expression, width in zip(plan.calls, plan.widths, strict=True):
        composite = width != 1 or (
            type(expression) is b.CallExpr and len(expression.function.columns) == 1
        )
        calls.append(function_call(self, expression, (), width, composite=composite))
    node = FunctionScanNode([c.id for c in plan.columns], calls, plan.alias, ordinality=plan.ordinality)
    first = plan.calls[0]
    node.function_name = first.function.name if type(first) is b.CallExpr else plan.alias
    node.rows = 1000.0 if returns_set(plan.calls) else 1.0
    node.total_cost = node.rows * est.CPU_TUPLE
    for column in plan.columns:
        self.names[column.id] = f"{plan.alias}.{column.name}"
    return self.finish(node, conditions)


# One input.


def _project_set(
    self: Planner, plan: b.ProjectSet, conditions: list[Any], needed: set[int], _want: Want
) -> Node:
    below = needed | used_columns(tuple(e for _, e in plan.sets)) | used_columns(tuple(conditions))
    own = {c.id for c in plan.input.columns}
    pushed = [c for c in conditions if used_columns(c) and used_columns(c) <= own and not is_volatile(c)]
    child = self.plan(plan.input, pushed, below & own, NOTHING)
    calls = [
        function_call(self, expression, child.layout, 1, composite=False) for _, expression in plan.sets
    ]
    node = ProjectSetNode((*child.layout, *(c.id for c, _ in plan.sets)), child, calls)
    node.rows, node.total_cost = child.rows * 10, child.total_cost + child.rows * 10 * est.CPU_TUPLE
    return self.finish(node, [c for c in conditions if c not in pushed])


def _filter(self: Planner, plan: b.FilterPlan, conditions: list[Any], needed: set[int], want: Want) -> Node:
    own = conjuncts(plan.condition)
    volatile = [c for c in conditions if is_volatile(c)]
    if not volatile:
        return self.plan(plan.input, own + conditions, needed, want)
    stable = [c for c in conditions if c not in volatile]
    below = needed | used_columns(tuple(volatile))
    return self.finish(self.plan(plan.input, own + stable, below, want), volatile)


def _project(
    self: Planner, plan: b.ProjectPlan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    mapping = {c.id: e for c, e in zip(plan.columns, plan.expressions, strict=True)}
    opaque = {
        column for column, e in mapping.items() if is_volatile(e) or has_subquery(e) or returns_set(e)
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
        if type(expression) is not b.ColumnVar:
            order = []
            break
        order.append((expression.id, descending, nulls_first))
    child = self.plan(plan.input, pushed, used_columns(tuple(expressions)), Want(tuple(order), want.first_rows))
    ids = [e.id if type(e) is b.ColumnVar else -1 for e in expressions]
    if tuple(ids) == child.layout and len(set(columns)) == len(columns) and len(set(ids)) == len(ids):
        node = _rename(self, child, columns)
    else:
        node = self.project(child, columns, expressions)
    for column, expression in zip(columns, expressions, strict=True):
        known = type(expression) is b.ColumnVar and expression.id in self.names
        self.names[column] = self.names[expression.id] if known else expression
    return self.finish(node, kept)


def _rename(self: Planner, node: Node, columns: list[int]) -> Node:
    """Give a node's columns new ids without touching rows, by a projection that is never compiled."""
    stage = self._stages.get(id(node))  # noqa: SLF001 - same module
    if stage is not None and stage.expressions is None:
        variables = [b.ColumnVar(c, _ANY_TYPE) for c in node.layout]
        return self.project(node, columns, variables)
    if isinstance(node, StagedNode) and stage is None:
        variables = [b.ColumnVar(c, _ANY_TYPE) for c in node.layout]
        return self.project(node, columns, variables)
    passed = dict(zip(node.layout, columns, strict=True))
    result = node
    result.layout = tuple(columns)
    result.order = tuple(_renamed_order(node.order, passed))
    self.constants[id(node)] = frozenset(
        passed[c] for c in self.constants.get(id(node), frozenset()) if c in passed
    )
    self.non_null[id(node)] = frozenset(
        passed[c] for c in self.non_null.get(id(node), frozenset()) if c in passed
    )
    return result


def _aggregate(
    self: Planner, plan: b.AggregatePlan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    groups = {c.id: e for c, e in plan.groups}
    pushed: list[Any] = []
    if plan.grouping_sets is None and plan.groups:
        pushed = [
            c
            for c in conditions
            if used_columns(c) and used_columns(c) & {o.id for o in plan.columns} <= set(groups)
            and not is_volatile(c) and not is_volatile(tuple(groups.values()))
        ]
    below = used_columns((tuple(e for _, e in plan.groups), tuple(a for _, a in plan.aggregates)))
    child = self.plan(plan.input, [substitute(c, groups) for c in pushed], below, NOTHING)
    node = aggregate_node(self, plan, child)
    return self.finish(node, [c for c in conditions if c not in pushed])


def aggregate_node(self: Planner, plan: b.AggregatePlan, child: Node) -> AggregateNode:
    """Build the aggregation over a planned input."""
    calls = [_normal_call(call) for _, call in plan.aggregates]
    expressions = [e for _, e in plan.groups]
    every = tuple(range(len(expressions)))
    sets = [every] if plan.grouping_sets is None else list(plan.grouping_sets)
    loops, groupings, grouped = [], [], []
    sub_plans: list[Any] = []
    non_null = self.non_null.get(id(child), frozenset())
    for chosen in sets:
        keys = [e if number in chosen else None for number, e in enumerate(expressions)]
        compiled = accumulate_function(keys, calls, child.layout, self.plan_subquery, non_null=non_null)
        sub_plans += compiled.sub_plans
        loops.append(code(compiled))
        grouped.append(bool(chosen))
        groupings.append(tuple(_grouping_id(arguments, chosen) for _, arguments in plan.grouping_ids))
    group_layout = [c.id for c, _ in plan.groups]
    slots = [_aggregate_slot(self, call, expressions, group_layout) for call in calls]
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
    for column, expression in (*plan.groups, *plan.aggregates):
        known = type(expression) is b.ColumnVar and expression.id in self.names
        self.names[column.id] = self.names[expression.id] if known else expression
    return node


def _normal_call(call: b.AggregateCall) -> b.AggregateCall:
    """An ordered set's sorted expressions are its arguments."""
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
    self: Planner, call: b.AggregateCall, groups: list[Any], group_layout: list[int]
) -> AggregateSlot:
    specs = sort_specs(call.order_by)
    if call.distinct and not specs:
        specs = [SortSpec(sort_key(arg.type), False, False) for arg in call.args]  # noqa: FBT003
    direct = None
    if call.direct:
        columns = positions(group_layout, "row")
        for number, group in enumerate(groups):
            if type(group) is b.ColumnVar:
                columns[group.id] = f"row[{number:d}]"
        direct = code(row_function(call.direct, columns, self.plan_subquery))
    return AggregateSlot(
        call.aggregate,
        tuple(arg.type for arg in (*call.direct, *call.args)),
        args=len(call.args),
        distinct=call.distinct,
        specs=specs,
        direct=direct,
    )


def _window(self: Planner, plan: b.WindowPlan, conditions: list[Any], needed: set[int], _want: Want) -> Node:
    partition = {e.id for e in plan.partition_by if type(e) is b.ColumnVar}
    own = {c.id for c in plan.columns}
    pushed = [
        c for c in conditions
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
    self._inherit(node, child)  # noqa: SLF001 - same module
    node.total_cost += child.rows * est.CPU_OPERATOR * 4
    return self.finish(node, kept)


def _distinct(
    self: Planner, plan: b.DistinctPlan, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    if plan.keys is None:
        pushed = [c for c in conditions if not is_volatile(c)]
        child = self.plan(plan.input, pushed, {c.id for c in plan.columns}, want)
        child = self.pick(child, [c.id for c in plan.columns])
        node: Node = DistinctNode(child, self.hashed_rows(plan.columns, child))
        self._inherit(node, child)  # noqa: SLF001 - same module
        node.details.append(("Group Key", [b.ColumnVar(c.id, c.type, name=c.name) for c in plan.columns]))
        return self.finish(node, [c for c in conditions if c not in pushed])
    below = needed | used_columns(plan.keys) | used_columns(tuple(conditions))
    child = self.plan(plan.input, [], below, Want(first_rows=want.first_rows, order=want.order))
    keys = key_rows_function(plan.keys, child.layout, self.plan_subquery, hashed=True)
    node = UniqueNode(child, code(keys))
    self._inherit(node, child)  # noqa: SLF001 - same module
    return self.finish(node, conditions)


def _sort(self: Planner, plan: b.SortPlan, conditions: list[Any], needed: set[int], want: Want) -> Node:
    below = needed | used_columns(plan.keys)
    wanted = Want(self.order_keys(plan.keys), want.first_rows)
    child = self.plan(plan.input, conditions, below, wanted)
    return self.sort(child, plan.keys)


def _limit(self: Planner, plan: b.LimitPlan, conditions: list[Any], needed: set[int], want: Want) -> Node:
    below = needed | used_columns(tuple(conditions)) | used_columns(plan.ties)
    first_rows = type(plan.limit) is not b.Const or (plan.limit.value is not None and plan.limit.value < 10_000)
    child = self.plan(plan.input, [], below, Want(want.order, plan.limit is not None and first_rows))
    ties = None
    if plan.ties:
        expressions = [item.expression for item in plan.ties]
        ties = code(key_rows_function(expressions, child.layout, self.plan_subquery, hashed=True))
    node = LimitNode(child, self.value(plan.limit), self.value(plan.offset), ties)
    self._inherit(node, child)  # noqa: SLF001 - same module
    count = plan.limit.value if type(plan.limit) is b.Const else None
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
        stage = self._stages.get(id(node))  # noqa: SLF001 - same module
        if isinstance(node, SortNode):
            node.bound = limit.needed
            return
        if isinstance(node, LockRowsNode):
            node.bound = limit.needed
            return
        if stage is not None and stage.conditions:
            return
        if isinstance(node, TableScanNode):
            node.limit_hint = limit.needed
            return
        if not isinstance(node, StageNode):
            return
        node = node.children[0]


# Several inputs.


def _set_operation(
    self: Planner, plan: b.SetOperationPlan, conditions: list[Any], _needed: set[int], _want: Want
) -> Node:
    pushed = [c for c in conditions if not is_volatile(c)]
    sides = []
    for side in (plan.left, plan.right):
        mapping: dict[int, Any] = {
            c.id: b.ColumnVar(s.id, s.type, s.typmod) for c, s in zip(plan.columns, side.columns, strict=True)
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


def _with(self: Planner, plan: b.WithPlan, conditions: list[Any], needed: set[int], want: Want) -> Node:
    counts: dict[int, int] = {}
    for item in walk(plan):
        if type(item) is b.CteScan:
            counts[item.cte_id] = counts.get(item.cte_id, 0) + 1
    definitions = []
    for definition in plan.definitions:
        if _may_inline(definition, counts.get(definition.cte_id, 0)):
            self._cte_inline[definition.cte_id] = definition  # noqa: SLF001 - same module
            continue
        if counts.get(definition.cte_id, 0) == 0 and not definition.modifies:
            continue
        definitions.append(_define(self, definition))
    body = self.plan(plan.body, conditions, needed, want)
    if not definitions:
        return body
    node = WithNode(body, definitions)
    self._inherit(node, body)  # noqa: SLF001 - same module
    return node


def _may_inline(definition: b.CteDefinition, references: int) -> bool:
    if definition.step is not None or definition.modifies or definition.materialized is True:
        return False
    if is_volatile(definition.plan) or any(type(i) is b.LockPlan for i in walk(definition.plan)):
        return False
    return references == 1 or (definition.materialized is False and references > 0 and references == 1)


def _define(self: Planner, definition: b.CteDefinition) -> CteDefinitionPlan:
    if free_columns((definition.plan, definition.step)) - {c.id for c in definition.columns}:
        self._correlated_ctes.add(definition.cte_id)  # noqa: SLF001 - same module
    if free_ctes((definition.plan, definition.step)) & self._correlated_ctes:  # noqa: SLF001
        self._correlated_ctes.add(definition.cte_id)  # noqa: SLF001
    node = self.plan_root(definition.plan)
    rows = node.rows
    if definition.step is not None:
        self._work_tables.add(definition.cte_id)  # noqa: SLF001
        step = self.plan_root(definition.step)
        self._work_tables.discard(definition.cte_id)  # noqa: SLF001
        keys = None
        if not definition.union_all:
            keys = self.hashed_rows(definition.plan.columns, node)
        first = node
        node = RecursiveUnionNode(first.layout, first, step, definition.cte_id, keys)
        node.rows = rows * 10
        node.total_cost = first.total_cost + step.total_cost * 10
        rows = node.rows
    self._cte_rows[definition.cte_id] = rows  # noqa: SLF001
    return CteDefinitionPlan(definition.cte_id, definition.name, node, modifies=definition.modifies)


def _cte_scan(self: Planner, plan: b.CteScan, conditions: list[Any], needed: set[int], want: Want) -> Node:
    inline = self._cte_inline.get(plan.cte_id)  # noqa: SLF001 - same module
    if inline is not None:
        variables = tuple(b.ColumnVar(c.id, c.type, c.typmod) for c in inline.plan.columns)
        return self.plan(b.ProjectPlan(inline.plan, variables, plan.columns), conditions, needed, want)
    kind = WorkTableNode if plan.cte_id in self._work_tables else CteScanNode  # noqa: SLF001
    node = kind([c.id for c in plan.columns], plan.cte_id, plan.name, plan.alias)
    node.rows = self._cte_rows.get(plan.cte_id, 100.0)  # noqa: SLF001
    node.total_cost = node.rows * est.CPU_TUPLE
    for column in plan.columns:
        self.names[column.id] = f"{plan.alias or plan.name}.{column.name}"
    return self.finish(node, conditions)


def _lock(self: Planner, plan: b.LockPlan, conditions: list[Any], needed: set[int], want: Want) -> Node:
    columns = {c.id for lock in plan.locks for c in lock.scan.columns}
    checks = _recheck_conditions(plan)
    below = needed | columns | used_columns(tuple(checks))
    produced = {c.id for c in plan.columns}
    child = self.plan(plan.input, conditions, below & produced | needed, want)
    at = {column: number for number, column in enumerate(child.layout)}
    targets = [
        LockTarget(lock.scan.table, [at[c.id] for c in lock.scan.columns], lock.strength, lock.wait)
        for lock in plan.locks
    ]
    checks = [c for c in checks if used_columns(c) <= set(at)]
    recheck = None
    if checks:
        condition = checks[0] if len(checks) == 1 else b.BoolExpr("and", tuple(checks), checks[0].type)
        recheck = code(condition_function(condition, positions(child.layout, "row"), self.plan_subquery))
    node = LockRowsNode(child, targets, recheck)
    self._inherit(node, child)  # noqa: SLF001 - same module
    return node


def _recheck_conditions(plan: b.LockPlan) -> list[Any]:
    """Collect the WHERE and inner join conditions below a locking clause."""
    found: list[Any] = []
    below: list[Any] = [plan.input]
    while below:
        item = below.pop()
        if type(item) is b.FilterPlan:
            found += conjuncts(item.condition)
            below.append(item.input)
        elif type(item) in {b.SortPlan, b.LimitPlan}:
            below.append(item.input)
        elif type(item) is b.JoinPlan and item.kind == "inner":
            found += conjuncts(item.condition)
            below += (item.left, item.right)
    return found


def _join(self: Planner, plan: b.JoinPlan, conditions: list[Any], needed: set[int], want: Want) -> Node:
    from sql.planner.joins import plan_join  # noqa: PLC0415 - joins plan their inputs with this class

    return plan_join(self, plan, conditions, needed, want)


def _modify(self: Planner, plan: Any, conditions: list[Any], _needed: set[int], _want: Want) -> Node:
    from sql.planner.modify import plan_modify  # noqa: PLC0415 - it plans its input with this class

    return self.finish(plan_modify(self, plan), conditions)


Handler = Callable[[Planner, Any, list[Any], set[int], Want], Node]
_HANDLERS: Final[dict[type, Handler]] = {
    b.OneRow: _one_row,
    b.TableScan: plan_table_scan,
    b.VirtualScan: _virtual_scan,
    b.SequenceScan: _sequence_scan,
    b.ValuesPlan: _values,
    b.FunctionScan: _function_scan,
    b.ProjectSet: _project_set,
    b.FilterPlan: _filter,
    b.ProjectPlan: _project,
    b.JoinPlan: _join,
    b.AggregatePlan: _aggregate,
    b.WindowPlan: _window,
    b.DistinctPlan: _distinct,
    b.SortPlan: _sort,
    b.LimitPlan: _limit,
    b.SetOperationPlan: _set_operation,
    b.WithPlan: _with,
    b.CteScan: _cte_scan,
    b.LockPlan: _lock,
    b.InsertPlan: _modify,
    b.UpdatePlan: _modify,
    b.DeletePlan: _modify,
}
