"""EXPLAIN: a physical plan as PostgreSQL's tree text or JSON, with actual counts under ANALYZE.

Source: PostgreSQL docs, "EXPLAIN", "Using EXPLAIN".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sql.executor.cte import WithNode
from sql.executor.deparse import Deparser
from sql.executor.join import HashJoinNode, IndexJoinNode, NestedLoopNode
from sql.executor.modify import ModifyNode
from sql.executor.node import INSTRUMENTATION, Measure, Node
from sql.executor.scan import OneRowNode, StageNode, TableScanNode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql.functions.context import ExecutionContext

_JOIN_TYPES = {
    "inner": "Inner",
    "left": "Left",
    "right": "Right",
    "full": "Full",
    "semi": "Semi",
    "anti": "Anti",
}


_DETAIL_RANK = {"Output": 0, "Group Key": 1, "Index Cond": 2, "Filter": 9}


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """EXPLAIN's options; ``planning_us`` is the time that planning took, for SUMMARY."""

    analyze: bool = False
    verbose: bool = False
    costs: bool = True
    timing: bool = True
    summary: bool = False
    format: str = "text"
    planning_us: int = 0


async def explain_lines(plan: Any, options: ExplainOptions, context: ExecutionContext) -> list[str]:
    """Return EXPLAIN's output lines; with ``analyze`` the statement runs first."""
    execution_us = 0
    if options.analyze:
        context.cache[INSTRUMENTATION] = {}
        started = context.clock()
        execution = plan.open(context)
        try:
            while await execution.next_batch():
                await context.checkpoint()
        finally:
            execution.close()
        execution_us = context.clock() - started
    if options.format == "json":
        return _json_lines(plan, options, context, execution_us)
    lines = tree_lines(plan, options, context)
    if options.summary or options.analyze:
        lines.append(f"Planning Time: {options.planning_us / 1000:.3f} ms")
    if options.analyze:
        lines.append(f"Execution Time: {execution_us / 1000:.3f} ms")
    return lines


@dataclass(slots=True)
class Entry:
    """A node as EXPLAIN shows it: stages that only compute have melted into their input."""

    node: Node
    title: str
    details: list[tuple[str, str]]
    children: list[tuple[str, Entry]]


def tree_lines(plan: Any, options: ExplainOptions, context: ExecutionContext | None) -> list[str]:
    """Return the plan tree's lines."""
    tree = _entry(plan.root, _deparser(plan, options), options, plan)
    measures = None if context is None else context.cache.get(INSTRUMENTATION)
    lines: list[str] = []
    _write(tree, lines, 0, "", options, measures)
    return lines


def _deparser(plan: Any, options: ExplainOptions) -> Deparser:
    relations = {n.rpartition(".")[0] for n in plan.names.values() if isinstance(n, str)}
    return Deparser(plan.names, qualify=options.verbose or len(relations) > 1)


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _entry(node: Node, deparser: Deparser, options: ExplainOptions, plan: Any) -> Entry:
    details: list[tuple[str, str]] = []
    children: list[tuple[str, Entry]] = []
    definitions: list[tuple[str, Entry]] = []
    sub_plans: list[Any] = []
    while True:
        details += [(label, _detail(label, value, deparser)) for label, value in node.details]
        sub_plans += node.sub_plans
        if isinstance(node, WithNode):
            for definition in node.definitions:
                definitions.append(  # noqa: PERF401
                    (f"CTE {definition.name}", _entry(definition.node, deparser, options, plan))
                )
            node = node.children[0]
        elif type(node) is StageNode and not isinstance(node.children[0], OneRowNode):
            node = node.children[0]
        else:
            break
    for number, child in enumerate(node.children):
        entry = _entry(child, deparser, options, plan)
        if isinstance(node, HashJoinNode) and number == 1:
            entry = Entry(child, "Hash", [], [("", entry)])
        elif isinstance(node, IndexJoinNode) and number == 1:
            entry.title = _inner_index_title(child)
        elif isinstance(node, NestedLoopNode) and number == 1 and entry.children:
            entry = Entry(child, "Materialize", [], [("", entry)])
        children.append(("", entry))
    seen: set[int] = set()
    for sub_plan in sub_plans:
        if id(sub_plan) not in seen:
            seen.add(id(sub_plan))
            label = (
                f"SubPlan {sub_plan.number}"
                if sub_plan.correlated or sub_plan.kind in {"any", "all"}
                else (f"InitPlan {sub_plan.number} (returns ${sub_plan.number - 1})")
            )
            definitions.append((label, _entry(sub_plan.node, deparser, options, plan)))
    if options.verbose and node.layout and not isinstance(node, ModifyNode):
        output = ", ".join(deparser.column_name(c) for c in node.layout)
        details.insert(0, ("Output", output))
    return Entry(node, node.title(), details, definitions + children)


def _inner_index_title(child: Node) -> str:
    name = getattr(child, "index_join_name", "") or ""
    if isinstance(child, TableScanNode):
        alias = "" if child.alias in {"", child.table.name} else f" {child.alias}"
        return f"Index Scan using {name or child.index_name()} on {child.table.name}{alias}"
    return child.title()


def _detail(label: str, value: Any, deparser: Deparser) -> str:
    if isinstance(value, str):
        return value
    if label in {"Sort Key", "Group Key"}:
        return deparser.list(value)
    return deparser.conditions(value)


def _write(
    entry: Entry, lines: list[str], column: int, label: str, options: ExplainOptions, measures: Any
) -> None:
    """Write a node whose title begins at ``column``."""
    arrow = "" if column == 0 else "->  "
    if label:
        lines.append(" " * (column - 6) + label)
    lines.append(
        " " * (column - len(arrow)) + arrow + entry.title + _numbers(entry.node, options, measures)
    )
    margin = " " * (column + 2)
    for name, text in sorted(entry.details, key=lambda d: _DETAIL_RANK.get(d[0], 5)):
        lines.append(f"{margin}{name}: {text}")
        if name == "Filter" and measures is not None:
            measure = measures.get(id(entry.node))
            if measure is not None and measure.removed:
                lines.append(
                    f"{margin}Rows Removed by Filter: {measure.removed // max(1, measure.loops)}"
                )
    for name, child in entry.children:
        _write(child, lines, column + (8 if name else 6), name, options, measures)


def _numbers(node: Node, options: ExplainOptions, measures: Any) -> str:
    parts = []
    if options.costs:
        parts.append(
            f"(cost={node.startup_cost:.2f}..{node.total_cost:.2f} "
            f"rows={max(1, round(node.rows)):d} width={node.width})"
        )
    if options.analyze and measures is not None:
        measure: Measure | None = measures.get(id(node))
        if measure is None or not measure.loops:
            parts.append("(never executed)")
        else:
            loops = measure.loops
            timing = ""
            if options.timing:
                first, total = measure.first_us / 1000 / loops, measure.total_us / 1000 / loops
                timing = f"time={first:.3f}..{total:.3f} "
            parts.append(f"(actual {timing}rows={round(measure.rows / loops)} loops={loops})")
    return "  " + " ".join(parts) if parts else ""


def _json_lines(
    plan: Any, options: ExplainOptions, context: ExecutionContext, execution_us: int
) -> list[str]:
    tree = _entry(plan.root, _deparser(plan, options), options, plan)
    measures = context.cache.get(INSTRUMENTATION)
    result: dict[str, Any] = {"Plan": _json_entry(tree, "", options, measures)}
    if options.summary or options.analyze:
        result["Planning Time"] = round(options.planning_us / 1000, 3)
    if options.analyze:
        result["Triggers"] = []
        result["Execution Time"] = round(execution_us / 1000, 3)
    return json.dumps([result], indent=2).split("\n")


def _json_entry(entry: Entry, label: str, options: ExplainOptions, measures: Any) -> dict[str, Any]:
    node = entry.node
    title = entry.title
    out: dict[str, Any] = {"Node Type": title.partition(" on ")[0].partition(" using ")[0]}
    kind = getattr(node, "kind", None)
    if kind is not None and title != "Hash":
        out["Node Type"] = getattr(node, "method", "Nested Loop")
        if out["Node Type"] == "Hash":
            out["Node Type"] = "Hash Join"
        out["Join Type"] = _JOIN_TYPES[kind]
    if isinstance(node, ModifyNode):
        out["Node Type"], out["Operation"] = "ModifyTable", node.verb
    out["Parallel Aware"] = False
    out["Async Capable"] = False
    if label:
        out["Parent Relationship"] = "SubPlan" if label.startswith("SubPlan") else "InitPlan"
        out["Subplan Name"] = label
    if isinstance(node, TableScanNode):
        if " using " in title:
            out["Index Name"] = title.partition(" using ")[2].partition(" on ")[0]
        out["Relation Name"] = node.table.name
        out["Alias"] = node.alias or node.table.name
    if options.costs:
        out |= {
            "Startup Cost": round(node.startup_cost, 2),
            "Total Cost": round(node.total_cost, 2),
            "Plan Rows": max(1, round(node.rows)),
            "Plan Width": node.width,
        }
    if options.analyze and measures is not None:
        measure = measures.get(id(node)) or Measure()
        loops = max(1, measure.loops)
        if options.timing:
            out["Actual Startup Time"] = round(measure.first_us / 1000 / loops, 3)
            out["Actual Total Time"] = round(measure.total_us / 1000 / loops, 3)
        out["Actual Rows"] = round(measure.rows / loops)
        out["Actual Loops"] = measure.loops
    for name, text in entry.details:
        out[name] = text.split(", ") if name in {"Sort Key", "Group Key", "Output"} else text
    plans = [_json_entry(child, name, options, measures) for name, child in entry.children]
    if plans:
        out["Plans"] = plans
    return out
