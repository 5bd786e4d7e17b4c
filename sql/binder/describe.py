"""A compact text of bound plans and expressions, for golden tests and debugging.

One node per line, indented below its parent; columns are shown as ``name#id``. The form is for
people: it may change with any release and is not parsed by anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.binder import bound as b
from sql.binder.tree import PLAN_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def describe_plan(plan: b.LogicalPlan) -> str:
    """Return the plan as indented lines."""
    lines: list[str] = []
    _plan(plan, 0, lines)
    return "\n".join(lines)


def describe_expression(expression: b.BoundExpr) -> str:
    """Return an expression on one line; sub-queries only by their kind."""
    return _EXPRESSIONS[type(expression)](expression)


_e = describe_expression


def _join(expressions: Iterable[b.BoundExpr], separator: str = ", ") -> str:
    return separator.join(_e(e) for e in expressions)


def _columns(columns: Iterable[b.OutputColumn]) -> str:
    return ", ".join(f"{c.name}#{c.id}" for c in columns)


def _type(node: b.BoundExpr) -> str:
    suffix = f"({node.typmod})" if node.typmod >= 0 else ""
    return node.type.name + suffix


# --- expressions ---


def _const(node: b.Const) -> str:
    return f"{'NULL' if node.value is None else repr(node.value)}:{_type(node)}"


def _call(node: b.CallExpr) -> str:
    if node.operator is not None:
        if len(node.args) == 1:
            return f"({node.operator.name} {_e(node.args[0])})"
        return f"({_e(node.args[0])} {node.operator.name} {_e(node.args[1])})"
    return f"{node.function.name}({_join(node.args)})"


def _cast(node: b.CastExpr) -> str:
    mode = "" if node.explicit else "~"
    return f"{_e(node.operand)}::{mode}{_type(node)}[{node.method}]"


def _case(node: b.CaseExpr) -> str:
    operand = "" if node.operand is None else f" {_e(node.operand)}"
    whens = "".join(f" when {_e(c)} then {_e(r)}" for c, r in node.whens)
    default = "" if node.default is None else f" else {_e(node.default)}"
    return f"case{operand}{whens}{default} end"


def _subscript(node: b.SubscriptExpr) -> str:
    text = _e(node.operand)
    for lower, upper, is_slice in node.subscripts:
        first = "" if lower is None else _e(lower)
        last = "" if upper is None else _e(upper)
        text += f"[{first}:{last}]" if is_slice else f"[{first}]"
    return text


def _subquery(node: b.SubqueryExpr) -> str:
    test = "" if node.test is None else f" {_e(node.test)}"
    hashed = f" hash={len(node.equalities)}" if node.equalities else ""
    lines = describe_plan(node.plan).replace("\n", " / ")
    return f"{node.kind}{test}{hashed} {{{lines}}}"


_EXPRESSIONS: dict[type, Callable[[Any], str]] = {
    b.Const: _const,
    b.ParameterRef: lambda n: f"${n.index + 1}:{_type(n)}",
    b.ColumnVar: lambda n: f"{n.qualifier}{'.' if n.qualifier else ''}{n.name}#{n.id}",
    b.CallExpr: _call,
    b.CastExpr: _cast,
    b.CollateExpr: lambda n: f"({_e(n.operand)} collate {n.collation})",
    b.CastElement: lambda n: f"element:{n.type.name}",
    b.BoolExpr: lambda n: (
        f"(not {_e(n.operands[0])})" if n.kind == "not" else f"({_join(n.operands, f' {n.kind} ')})"
    ),
    b.NullTestExpr: lambda n: (
        f"({_e(n.operand)} is {'not ' if n.negated else ''}null{' row' if n.row else ''})"
    ),
    b.BooleanTestExpr: lambda n: f"({_e(n.operand)} is {'not ' if n.negated else ''}{n.value})",
    b.DistinctExpr: lambda n: (
        f"({_e(n.left)} is {'not ' if n.negated else ''}distinct from {_e(n.right)})"
    ),
    b.CaseExpr: _case,
    b.CaseOperand: lambda n: f"operand:{n.type.name}",
    b.CoalesceExpr: lambda n: f"coalesce({_join(n.args)})",
    b.NullIfExpr: lambda n: f"nullif({_e(n.left)}, {_e(n.comparison)})",
    b.MinMaxExpr: lambda n: f"{n.kind}({_join(n.args)})",
    b.ArrayExpr: lambda n: f"array[{_join(n.elements)}]",
    b.RowExpr: lambda n: f"row({_join(n.items)})",
    b.FieldExpr: lambda n: f"{_e(n.operand)}.{n.index}",
    b.SubscriptExpr: _subscript,
    b.ScalarArrayExpr: lambda n: (
        f"({_e(n.left)} {n.operator.name} {'any' if n.use_any else 'all'} {_e(n.array)})"
    ),
    b.RowCompareExpr: lambda n: f"(row({_join(n.left)}) {n.comparison} row({_join(n.right)}))",
    b.SubqueryExpr: _subquery,
    b.DomainDefault: lambda _: "default",
}


# --- plans ---


def _sort(items: Iterable[b.SortItem]) -> str:
    return ", ".join(
        _e(i.expression)
        + (" desc" if i.descending else "")
        + (" nulls first" if i.nulls_first else "")
        for i in items
    )


def _aggregate_call(call: b.AggregateCall) -> str:
    text = f"{call.aggregate.name}({'distinct ' if call.distinct else ''}{_join(call.args)}"
    if call.order_by:
        text += f" order by {_sort(call.order_by)}"
    text += ")"
    if call.direct:
        text += f" direct {_join(call.direct)}"
    return text if call.filter is None else f"{text} filter {_e(call.filter)}"


def _aggregate(node: b.AggregatePlan) -> str:
    parts = [f"{c.name}#{c.id}={_e(e)}" for c, e in node.groups]
    text = f"Aggregate by [{', '.join(parts)}]"
    if node.grouping_sets is not None:
        text += f" sets {list(node.grouping_sets)}"
    calls = [f"{c.name}#{c.id}={_aggregate_call(a)}" for c, a in node.aggregates]
    text += f" compute [{', '.join(calls)}]"
    if node.grouping_ids:
        text += f" grouping {[(c.id, i) for c, i in node.grouping_ids]}"
    return text


def _window(node: b.WindowPlan) -> str:
    calls = []
    for column, call in node.calls:
        filter_ = "" if call.filter is None else f" filter {_e(call.filter)}"
        calls.append(f"{column.name}#{column.id}={call.function.name}({_join(call.args)}){filter_}")
    frame = ""
    if node.frame is not None:
        frame = f" {node.frame.unit} {node.frame.start.kind}..{node.frame.end.kind}"
    over = f"partition [{_join(node.partition_by)}] order [{_sort(node.order_by)}]{frame}"
    return f"Window {over} compute [{', '.join(calls)}]"


def _project(node: b.ProjectPlan) -> str:
    pairs = zip(node.columns, node.expressions, strict=True)
    return "Project " + ", ".join(f"{c.name}#{c.id}={_e(e)}" for c, e in pairs)


def _assignments(items: Iterable[tuple[int, b.BoundExpr]]) -> str:
    return ", ".join(f"[{p}]={_e(e)}" for p, e in items)


def _insert(node: b.InsertPlan) -> str:
    values = ", ".join("-" if v is None else _e(v) for v in node.values)
    text = f"Insert {node.target.table.name} ({values})"
    if node.conflict is not None:
        conflict = node.conflict
        text += f" on conflict {list(conflict.arbiters)} {conflict.action}"
        if conflict.assignments:
            text += f" {_assignments(conflict.assignments)}"
        if conflict.where is not None:
            text += f" where {_e(conflict.where)}"
    return text + _write_tail(node)


def _write_tail(node: b.InsertPlan | b.UpdatePlan | b.DeletePlan) -> str:
    text = ""
    for check in node.target.checks:
        text += f" check {check.name} {_e(check.expression)}"
    for view_check in node.target.view_checks:
        text += f" check view {view_check.view} {_e(view_check.expression)}"
    if node.target.generated:
        text += f" generate {_assignments(node.target.generated)}"
    if node.returning:
        text += f" returning {_join(node.returning)}"
    return text


def _limit(node: b.LimitPlan) -> str:
    limit = "-" if node.limit is None else _e(node.limit)
    offset = "" if node.offset is None else f" offset {_e(node.offset)}"
    return f"Limit {limit}{offset}{' with ties' if node.ties else ''}"


def _cte(definition: b.CteDefinition) -> str:
    kind = "recursive " if definition.step is not None else ""
    kind += "modifying " if definition.modifies else ""
    return f"{kind}cte {definition.name}#{definition.cte_id} ({_columns(definition.columns)})"


_PLANS: dict[type, Callable[[Any], str]] = {
    b.OneRow: lambda _: "OneRow",
    b.TableScan: lambda n: f"TableScan {n.alias} ({_columns(n.columns)})",
    b.VirtualScan: lambda n: f"VirtualScan {n.alias} ({_columns(n.columns)})",
    b.SequenceScan: lambda n: f"SequenceScan {n.alias} ({_columns(n.columns)})",
    b.ValuesPlan: lambda n: (
        f"Values {' '.join(f'({_join(r)})' for r in n.rows)} as ({_columns(n.columns)})"
    ),
    b.FunctionScan: lambda n: (
        f"FunctionScan {_join(n.calls)}{' ordinality' if n.ordinality else ''} "
        f"as {n.alias} ({_columns(n.columns)})"
    ),
    b.ProjectSet: lambda n: (
        "ProjectSet " + ", ".join(f"{c.name}#{c.id}={_e(e)}" for c, e in n.sets)
    ),
    b.FilterPlan: lambda n: f"Filter {_e(n.condition)}",
    b.ProjectPlan: _project,
    b.JoinPlan: lambda n: (
        f"Join {n.kind}{' lateral' if n.lateral else ''}"
        + ("" if n.condition is None else f" on {_e(n.condition)}")
    ),
    b.AggregatePlan: _aggregate,
    b.WindowPlan: _window,
    b.DistinctPlan: lambda n: "Distinct" + ("" if n.keys is None else f" on {_join(n.keys)}"),
    b.SortPlan: lambda n: f"Sort {_sort(n.keys)}",
    b.LimitPlan: _limit,
    b.SetOperationPlan: lambda n: (
        f"SetOperation {n.operator}{' all' if n.all else ''} ({_columns(n.columns)})"
    ),
    b.WithPlan: lambda n: "With " + ", ".join(_cte(d) for d in n.definitions),
    b.CteScan: lambda n: f"CteScan {n.name}#{n.cte_id} ({_columns(n.columns)})",
    b.LockPlan: lambda n: (
        "Lock " + ", ".join(f"{k.scan.alias} {k.strength} {k.wait}" for k in n.locks)
    ),
    b.InsertPlan: _insert,
    b.UpdatePlan: lambda n: (
        f"Update {n.target.table.name} {_assignments(n.assignments)}{_write_tail(n)}"
    ),
    b.DeletePlan: lambda n: f"Delete {n.target.table.name}{_write_tail(n)}",
}
_CHILDREN = ("input", "left", "right", "body")
_KNOWN = frozenset(PLAN_CLASSES)


def _plan(plan: b.LogicalPlan, depth: int, lines: list[str]) -> None:
    lines.append("  " * depth + _PLANS[type(plan)](plan))
    if isinstance(plan, b.WithPlan):
        for definition in plan.definitions:
            _plan(definition.plan, depth + 1, lines)
            if definition.step is not None:
                _plan(definition.step, depth + 1, lines)
    for name in _CHILDREN:
        child: Any = getattr(plan, name, None)
        if type(child) in _KNOWN:
            _plan(child, depth + 1, lines)
