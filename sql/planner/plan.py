"""The planner's state and its common moves: stages, sorts, sub-queries.

The nodes' rules are in ``sql.planner.rules_*``.

``Planner.plan(logical, conditions, needed, want)`` returns a node that yields the rows of
``logical`` for which all ``conditions`` are true, with at least the ``needed`` columns in its
layout, in the order ``want`` if that is cheap (``node.order`` tells). Filters and projections
become *stages* of the node below; they are compiled at the end, when a scan, its filter and its
projection are known to be one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log2
from typing import TYPE_CHECKING, Any, Final

from sql.binder import bound as b
from sql.executor.join import LoopCode
from sql.executor.node import Node, OrderKey
from sql.executor.ordering import SortSpec
from sql.executor.scan import (
    EmptyNode,
    OneRowNode,
    OneTimeFilterNode,
    StagedNode,
    StageNode,
    TableScanNode,
)
from sql.executor.sort import SortNode
from sql.planner import estimate as est
from sql.planner.access import hashable_operator
from sql.planner.codegen import (
    Compiled,
    batch_function,
    condition_function,
    positions,
    row_function,
    value_function,
)
from sql.planner.loops import key_rows_function
from sql.planner.subplan import SubPlan
from sql.planner.walk import (
    free_columns,
    free_ctes,
    has_subquery,
    is_volatile,
    used_columns,
)
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


Handler = Callable[["Planner", Any, list[Any], set[int], Want], Node]
SemiJoins = Callable[["Planner", Node, list[Any]], tuple[Node, list[Any]]]


class Planner:
    """Plans one statement; not reusable."""

    def __init__(
        self, catalog: Catalog, handlers: dict[type, Handler], semi_joins: SemiJoins
    ) -> None:
        self.catalog = catalog
        self._handlers = handlers
        self._semi_joins = semi_joins
        self.origins = est.ColumnOrigins()
        self.names: dict[int, Any] = {}
        self.non_null: dict[int, frozenset[int]] = {}
        self.constants: dict[int, frozenset[int]] = {}
        self.nodes: list[Node] = []
        self.stages: dict[int, Stage] = {}
        self.pending: list[Stage] = []
        self.cte_columns: dict[int, tuple[b.OutputColumn, ...]] = {}
        self.cte_inline: dict[int, b.CteDefinition] = {}
        self.cte_rows: dict[int, float] = {}
        self.work_tables: set[int] = set()
        self.correlated_ctes: set[int] = set()
        self.locked: dict[int, str] = {}
        """Columns of the tables whose rows are locked, with the strength."""
        self.sub_plans: dict[int, SubPlan] = {}
        self.keep: list[Any] = []

    # Entry points.

    def plan_root(self, logical: Any) -> Node:
        """Plan a statement or sub-query whose layout must be exactly its columns."""
        wanted = tuple(c.id for c in logical.columns)
        node = self.plan(logical, [], set(wanted), NOTHING)
        return self.pick(node, wanted)

    def plan(self, logical: Any, conditions: list[Any], needed: set[int], want: Want) -> Node:
        """Plan a logical node; see the module."""
        return self._handlers[type(logical)](self, logical, conditions, needed, want)

    def compile_stages(self) -> None:
        """Compile every waiting stage, including those of sub-queries found on the way."""
        while self.pending:
            stage = self.pending.pop()
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
        """Apply conditions on top of a node.

        Constant ones once, sub-queries as semi-joins, the rest as a filter.
        """
        if not conditions:
            return node
        own = set(node.layout)
        once = [c for c in conditions if not (used_columns(c) & own) and not is_volatile(c)]
        rest = [c for c in conditions if c not in once]
        node, rest = self._semi_joins(self, node, rest)
        if rest:
            node = self.filter(node, rest)
        if once:
            node = self.filter_once(node, once)
        return node

    def filter(self, node: Node, conditions: list[Any]) -> Node:
        """Add a filter stage."""
        rows = node.rows * est.combined(conditions, self.origins)
        cost = node.rows * est.CPU_OPERATOR * len(conditions)
        stage = self.stages.get(id(node))
        if not isinstance(node, StagedNode) or (
            stage is not None and stage.expressions is not None
        ):
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
        if any(isinstance(c, b.Const) and c.value is not True for c in conditions):
            empty: Node = EmptyNode(node.layout)
            empty.rows = 0.0
            empty.details.append(("One-Time Filter", [b.Const(False, conditions[0].type)]))  # noqa: FBT003
            return empty
        conditions = [c for c in conditions if not isinstance(c, b.Const)]
        if not conditions:
            return node
        everything = (
            conditions[0]
            if len(conditions) == 1
            else b.BoolExpr("and", tuple(conditions), conditions[0].type)
        )
        compiled = condition_function(everything, {}, self.plan_subquery)
        result = OneTimeFilterNode(node, compiled.call, is_async=compiled.is_async)
        result.sub_plans += compiled.sub_plans
        result.details.append(("One-Time Filter", conditions))
        self.inherit(result, node)
        return result

    def project(self, node: Node, columns: Sequence[int], expressions: list[Any]) -> Node:
        """Compute expressions; the result's layout is ``columns``."""
        widens = not isinstance(node, OneRowNode) and _widens(expressions)
        if (
            not isinstance(node, StagedNode)
            or (widens and not isinstance(node, StageNode))
            or ((stage := self.stages.get(id(node))) is not None and stage.expressions is not None)
        ):
            old = node
            node = self._stage_node(node)
            self.non_null[id(node)] = self.non_null.get(id(old), frozenset())
        if isinstance(node, StageNode):
            node.widens = node.widens or widens
        stage = self.stages.get(id(node)) or self._new_stage(node)
        before = self.non_null.get(id(node), frozenset())
        passed = {
            e.id: c for c, e in zip(columns, expressions, strict=True) if isinstance(e, b.ColumnVar)
        }
        stage.expressions = expressions
        node.layout = tuple(columns)
        node.order = tuple(renamed_order(node.order, passed))
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
        """Return the node as a child of one that is no stage.

        Nothing may be fused into it any more.
        """
        self.nodes.append(node)
        return node

    def _stage_node(self, node: Node) -> StageNode:
        result = StageNode(node.layout, node)
        self.inherit(result, node)
        return result

    def _new_stage(self, node: StagedNode) -> Stage:
        stage = Stage(node, node.layout)
        self.stages[id(node)] = stage
        self.pending.append(stage)
        self.nodes.append(node)  # Ids must not be reused while the maps live.
        return stage

    def inherit(self, node: Node, below: Node) -> None:
        """Start a node's estimates and properties from those of its input."""
        self.nodes += (node, below)
        node.rows, node.width = below.rows, below.width
        node.startup_cost, node.total_cost = below.startup_cost, below.total_cost
        node.order = below.order
        self.constants[id(node)] = self.constants.get(id(below), frozenset())
        self.non_null[id(node)] = self.non_null.get(id(below), frozenset())

    # Sub-queries.

    def plan_subquery(self, expression: b.SubqueryExpr) -> SubPlan:
        """Plan a sub-query of an expression."""
        known = self.sub_plans.get(id(expression))
        if known is not None:
            return known
        free = free_columns(expression.plan)
        ctes = free_ctes(expression.plan)
        correlated = bool(free) or bool(ctes & (self.work_tables | self.correlated_ctes))
        if expression.kind == "exists":
            # Its select list is never evaluated.
            node = self.plan(expression.plan, [], set(), NOTHING)
        else:
            node = self.plan_root(expression.plan)
        test: Compiled | None = None
        hash_keys = None
        if expression.kind in {"any", "all"}:
            hash_keys = None if correlated else _hash_functions(expression)
            if hash_keys is None:
                assert expression.test is not None
                test = row_function(
                    [expression.test],
                    positions(node.layout, "row"),
                    self.plan_subquery,
                    single=True,
                )
        result = SubPlan(
            node,
            expression.kind,
            correlated=correlated,
            columns=expression.plan.columns,
            test=None if test is None else test.call,
            tests_async=test is not None and test.is_async,
            hash_keys=hash_keys,
        )
        result.number = len(self.sub_plans) + 1
        self.sub_plans[id(expression)] = result
        self.nodes.append(node)
        self.keep.append(expression)
        return result

    def name_column(self, column_id: int, expression: Any) -> None:
        """Give EXPLAIN a name for a computed column.

        The table column's, or the expression itself.
        """
        source = expression.id if isinstance(expression, b.ColumnVar) else -1
        self.names[column_id] = self.names.get(source, expression)

    # Sorting.

    def order_keys(self, items: Sequence[b.SortItem]) -> tuple[OrderKey, ...]:
        """Return sort items as an order if all are plain columns, else ()."""
        keys = []
        for item in items:
            if not isinstance(item.expression, b.ColumnVar):
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
        self.inherit(result, node)
        result.order = keys
        result.sub_plans += compiled.sub_plans
        result.startup_cost = node.total_cost + 2 * est.CPU_OPERATOR * node.rows * log2(
            node.rows + 2
        )
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
    ids = [e.id if isinstance(e, b.ColumnVar) else -1 for e in stage.expressions]
    return tuple(ids) == stage.layout


_PASSED: Final = {b.ColumnVar, b.Const, b.ParameterRef}


def _widens(expressions: Sequence[Any]) -> bool:
    """Tell whether expressions make values of any size."""
    return any(
        type(e) not in _PASSED and e.type.length < 0 and e.type.name != "numeric"
        for e in expressions
    )


def renamed_order(order: Sequence[OrderKey], passed: dict[int, int]) -> list[OrderKey]:
    """Return an order in terms of new column ids, up to the first column that has none."""
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
