"""Window functions: from bound calls to what the executor computes per partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.executor.join import LoopCode
from sql.executor.window import FrameSpec, WindowCallSpec, WindowLoop
from sql.functions.builtin import REGISTRY
from sql.functions.registry import Aggregate
from sql.planner.codegen import condition_function, positions, row_function, value_function
from sql.planner.loops import key_rows_function
from sql.types.compare import sort_key

if TYPE_CHECKING:
    from sql.binder import bound as b
    from sql.executor.node import Node
    from sql.planner.codegen import Compiled
    from sql.planner.plan import Planner


def _code(compiled: Compiled) -> LoopCode:
    return LoopCode(compiled.call, is_async=compiled.is_async)


def window_loop(planner: Planner, plan: b.WindowPlan, child: Node) -> WindowLoop:
    """Compile the parts of a window: partition keys, peer keys, arguments, frame."""
    layout = child.layout
    sub = planner.plan_subquery
    calls = []
    for _, call in plan.calls:
        args = row_function(call.args, positions(layout, "row"), sub)
        condition = None
        if call.filter is not None:
            condition = _code(condition_function(call.filter, positions(layout, "row"), sub))
        calls.append(
            WindowCallSpec(
                call.function,
                tuple(a.type for a in call.args),
                _code(args),
                condition,
                is_aggregate=isinstance(call.function, Aggregate),
            )
        )
    partition = _code(key_rows_function(plan.partition_by, layout, sub, hashed=True))
    order = [item.expression for item in plan.order_by]
    peers = _code(key_rows_function(order, layout, sub, hashed=True))
    return WindowLoop(partition, peers, _frame(planner, plan, layout), tuple(calls))


def _offset(planner: Planner, expression: Any | None) -> LoopCode | None:
    if expression is None:
        return None
    return _code(value_function([expression], planner.plan_subquery, single=True))


def _frame(planner: Planner, plan: b.WindowPlan, layout: tuple[int, ...]) -> FrameSpec:
    frame = plan.frame
    if frame is None:
        return FrameSpec(
            "range",
            "unbounded_preceding",
            "current_row",
            "no_others",
            None,
            None,
            None,
            None,
            has_order=bool(plan.order_by),
            descending=False,
        )
    value = add = None
    descending = False
    if frame.unit == "range" and (plan.start_offset is not None or plan.end_offset is not None):
        item = plan.order_by[0]
        descending = item.descending
        value = _code(
            row_function(
                [item.expression], positions(layout, "row"), planner.plan_subquery, single=True
            )
        )
        add = _range_bound(item.expression.type, plan)
    return FrameSpec(
        frame.unit,
        frame.start.kind,
        frame.end.kind,
        frame.exclusion,
        _offset(planner, plan.start_offset),
        _offset(planner, plan.end_offset),
        value,
        add,
        has_order=bool(plan.order_by),
        descending=descending,
    )


def _range_bound(sql_type: Any, plan: b.WindowPlan) -> Any:
    """Return ``f(value, offset, sign) -> sort key`` of value + sign * offset."""
    offset = plan.start_offset if plan.start_offset is not None else plan.end_offset
    assert offset is not None
    to_key = sort_key(sql_type)

    def find(name: str) -> Any:
        for operator in REGISTRY.operators.get(name, ()):
            if operator.left is sql_type and operator.right is offset.type:
                return operator.function.implementation
        return None

    plus, minus = find("+"), find("-")

    def bound(value: Any, amount: Any, sign: int) -> Any:
        compute = plus if sign > 0 else minus
        if compute is None:
            result = value + sign * amount
        else:
            try:
                result = compute(value, amount)
            except ArithmeticError:
                result = value + sign * amount
        return result if to_key is None else to_key(result)

    return bound
