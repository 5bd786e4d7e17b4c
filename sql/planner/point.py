"""Point plans: single-row statements by the whole clustering key, as generated functions.

A statement qualifies when its input is one table (or one VALUES row), every key column is
compared by ``=`` with a constant or parameter, and nothing in it awaits, except the values of
an INSERT (nextval of a serial column).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.binder import bound as b
from sql.planner.access import INT_BOUNDS, Sargable, sargables
from sql.planner.codegen import Compiled, Writer, condition_function, positions, row_function, seal
from sql.planner.modify import assigned_keys, verify_function
from sql.planner.physical import PointPlan
from sql.planner.tables import table_access, target_access
from sql.planner.walk import (
    called_functions,
    conjuncts,
    has_subquery,
    returns_set,
    substitute,
    used_columns,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sql.catalog.catalog import Catalog
    from sql.catalog.descriptor import Table
    from sql.types.base import SqlType


def point_plan(bound: b.BoundStatement, catalog: Catalog) -> PointPlan | None:
    """Return the point plan of a statement, or None."""
    plan = bound.plan
    if has_subquery(plan) or returns_set(plan):
        return None
    if isinstance(plan, b.InsertPlan | b.UpdatePlan) and plan.target.view_checks:
        return None
    if isinstance(plan, b.InsertPlan):
        return None if _awaits(plan.returning) else _insert(plan, catalog)
    if _awaits(plan):
        return None
    if type(plan) in {b.UpdatePlan, b.DeletePlan}:
        return _change(plan, catalog)
    if isinstance(plan, b.ProjectPlan):
        return _get(plan, catalog)
    return None


def _awaits(node: Any) -> bool:
    return any(function.is_async for function in called_functions(node))


def _single_table(plan: Any) -> tuple[b.TableScan, list[Any]] | None:
    conditions: list[Any] = []
    while isinstance(plan, b.FilterPlan):
        conditions += conjuncts(plan.condition)
        plan = plan.input
    return (plan, conditions) if isinstance(plan, b.TableScan) else None


def _split(scan: b.TableScan, conditions: list[Any]) -> tuple[list[Sargable], list[Any]] | None:
    """Return the equalities that fix the key, in key order, and the other conditions."""
    own = {c.id for c in scan.columns}
    found = {s.column: s for s in reversed(sargables(conditions, own)) if s.comparison == "="}
    chosen = []
    for position in scan.table.clustering_key:
        sargable = found.get(scan.columns[position].id)
        if sargable is None or used_columns(sargable.values):
            return None
        chosen.append(sargable)
    used = [s.condition for s in chosen]
    return chosen, [c for c in conditions if c not in used]


def _key_function(scan: b.TableScan, chosen: list[Sargable]) -> Callable[..., Any]:
    writer = Writer(None)
    codes = []
    for sargable, position in zip(chosen, scan.table.clustering_key, strict=True):
        value = writer.emit(sargable.values[0])
        column_type = scan.table.columns[position].type
        test = _unusable(value.code, sargable.values[0].type, column_type)
        if value.nullable:
            test = f"{value.code} is None" + (f" or {test}" if test else "")
        if test:
            writer.line(f"if {test}: return None")
        codes.append(value.code)
    writer.line(f"return ({', '.join(codes)},)")
    return seal(writer, "make_key(context)").call


def _unusable(code: str, value_type: SqlType, column_type: SqlType) -> str:
    bounds = INT_BOUNDS.get(column_type.name)
    if bounds is None or value_type is column_type:
        return ""
    return f"not {bounds[0]:d} <= {code} <= {bounds[1]:d}"


def _condition(conditions: list[Any], scan: b.TableScan) -> Callable[..., Any] | None:
    if not conditions:
        return None
    whole = (
        conditions[0]
        if len(conditions) == 1
        else b.BoolExpr("and", tuple(conditions), conditions[0].type)
    )
    return condition_function(whole, positions([c.id for c in scan.columns], "row"), None).call


def _project(expressions: Any, layout: list[int]) -> Callable[..., Any]:
    return row_function(expressions, positions(layout, "row"), None).call


def _get(plan: b.ProjectPlan, catalog: Catalog) -> PointPlan | None:
    source = _single_table(plan.input)
    if source is None:
        return None
    scan, conditions = source
    split = _split(scan, conditions)
    if split is None:
        return None
    chosen, rest = split
    return PointPlan(
        "get",
        table_access(catalog, scan.table),
        make_key=_key_function(scan, chosen),
        condition=_condition(rest, scan),
        project=_project(plan.expressions, [c.id for c in scan.columns]),
    )


def _change(plan: Any, catalog: Catalog) -> PointPlan | None:
    source = _single_table(plan.input)
    if source is None:
        return None
    scan, conditions = source
    split = _split(scan, conditions)
    if split is None:
        return None
    chosen, rest = split
    table = plan.target.table
    if _has_deferrable_key(table):
        return None
    layout = [c.id for c in scan.columns]
    common: dict[str, Any] = {
        "make_key": _key_function(scan, chosen),
        "condition": _condition(rest, scan),
    }
    access = target_access(plan.target)
    if isinstance(plan, b.DeletePlan):
        project = _project(plan.returning, layout) if plan.columns else None
        return PointPlan(
            "delete",
            access,
            project=project,
            needs_foreign_keys=bool(table.referenced_by),
            **common,
        )
    assignments = dict(plan.assignments)
    changed = frozenset(assignments) | {p for p, _ in plan.target.generated}
    expressions = [
        assignments.get(p, b.ColumnVar(c.id, c.type)) for p, c in enumerate(scan.columns)
    ]
    project = None
    if plan.columns:
        new_ids = [c.id for c in plan.target.row_columns]
        if used_columns(plan.returning) - set(new_ids):
            return None
        project = _project(plan.returning, new_ids)
    keys, made = assigned_keys(table, changed, assignments, positions(layout, "row"))
    referenced = bool(table.referenced_by)
    refers = any(changed.intersection(key.columns) for key in table.foreign_keys)
    return PointPlan(
        "update",
        access,
        make_row=_row_maker(plan.target, catalog, expressions, layout).call,
        project=project,
        needs_foreign_keys=referenced or refers,
        changes_key=bool(changed.intersection(table.clustering_key)),
        key_columns=keys,
        make_keys=None if made is None else made.call,
        changed_positions=changed,
        **common,
    )


def _row_maker(
    target: b.TargetTable, catalog: Catalog, expressions: list[Any], layout: list[int]
) -> Compiled:
    """Compile assignment and, unless the table has nothing to verify, verification after it."""
    verify = verify_function(target, catalog)
    writer = Writer(None, columns=positions(layout, "row"))
    display = writer.emit_tuple(expressions)
    trivial = (
        not target.generated
        and not target.checks
        and not any(c.not_null and not c.dropped and not c.hidden for c in target.table.columns)
    )
    if trivial:
        writer.line(f"return {display}")
    else:
        writer.line(f"return {writer.constant(verify.call)}({display}, context)")
    return seal(writer, "make_row(row, context)")


def _has_deferrable_key(table: Table) -> bool:
    """Tell whether writing the table may leave checks for later: not a matter of one step."""
    return any(index.deferrable for index in table.indexes)


def _insert(plan: b.InsertPlan, catalog: Catalog) -> PointPlan | None:
    if plan.conflict is not None or _has_deferrable_key(plan.target.table):
        return None
    mapping: dict[int, Any] = {}
    source = plan.input
    if isinstance(source, b.ValuesPlan) and len(source.rows) == 1:
        mapping = {c.id: e for c, e in zip(source.columns, source.rows[0], strict=True)}
    elif not isinstance(source, b.OneRow):
        return None
    null = b.Const(None, plan.target.row_columns[0].type)
    expressions = [null if v is None else substitute(v, mapping) for v in plan.values]
    layout = [c.id for c in plan.target.row_columns]
    table = plan.target.table
    made = _row_maker(plan.target, catalog, expressions, [])
    return PointPlan(
        "insert",
        target_access(plan.target),
        make_row=None if made.is_async else made.call,
        make_row_async=made.call if made.is_async else None,
        project=_project(plan.returning, layout) if plan.columns else None,
        needs_foreign_keys=bool(table.foreign_keys),
    )
