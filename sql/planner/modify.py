"""INSERT, UPDATE and DELETE planned.

Verification and assignment functions compiled, foreign keys prepared.

``TargetCodes`` hands out the compiled target of any table: also of those that cascades reach,
which the binder binds when a cascade first gets there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.binder import bound as b
from sql.catalog.keys import key_positions
from sql.executor.foreign_keys import ForeignKeyWork
from sql.executor.modify import ConflictCode, DeleteNode, InsertNode, TargetCode, UpdateNode
from sql.executor.violations import RowFaults, ViewFaults
from sql.planner.codegen import (
    Compiled,
    Writer,
    batch_function,
    condition_function,
    positions,
    row_function,
    seal,
    value_function,
)
from sql.planner.plan import NOTHING, Planner, Want, code
from sql.planner.tables import bind_defaults, bind_target, target_access
from sql.planner.walk import used_columns

if TYPE_CHECKING:
    from sql.catalog.catalog import Catalog
    from sql.catalog.descriptor import Table
    from sql.executor.join import LoopCode
    from sql.executor.node import Node
    from sql.executor.store import LockStrength


class TargetCodes:
    """Compiled targets by table id, for one plan."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[int, TargetCode] = {}

    def of(self, target: b.TargetTable) -> TargetCode:
        """Return the code of a bound target."""
        known = self._known.get(target.table.id)
        if known is None:
            verify = verify_function(target, self._catalog)
            work = ForeignKeyWork.of(target.table, self._catalog, self)
            known = TargetCode(target_access(target), code(verify), work)
            self._known[target.table.id] = known
        return known

    def of_table(self, table: Table) -> TargetCode:
        """Return the code of a table that a cascade writes."""
        known = self._known.get(table.id)
        if known is not None:
            return known
        return self.of(bind_target(table, self._catalog))

    def defaults(self, table: Table, columns: tuple[int, ...]) -> LoopCode:
        """Return ``f(context) -> tuple`` of these columns' defaults (SET DEFAULT)."""
        return code(value_function(bind_defaults(table, columns, self._catalog), None))


def verify_function(target: b.TargetTable, catalog: Catalog) -> Compiled:
    """Compile ``verify(r, context) -> row`` of a table."""
    writer = Writer(None, columns=positions([c.id for c in target.row_columns]))
    _write_verify(writer, target, catalog)
    writer.line("return r")
    return seal(writer, "verify(r, context)")


def verify_rows_function(target: b.TargetTable, catalog: Catalog) -> Compiled:
    """Compile ``verify(rows, context) -> rows``, the same for many."""
    writer = Writer(None, columns=positions([c.id for c in target.row_columns]))
    writer.line("out = rows")
    if target.generated:
        writer.line("out = []")
    with writer.block("for r in rows:"):
        _write_verify(writer, target, catalog)
        if target.generated:
            writer.line("out.append(r)")
    writer.line("return out")
    return seal(writer, "verify(rows, context)")


def _write_verify(writer: Writer, target: b.TargetTable, catalog: Catalog) -> None:
    """Write what completes and checks the row ``r``."""
    table = target.table
    faults = RowFaults(table, catalog.schema_name(table.schema_id), {c.id: c for c in table.checks})
    if target.generated:
        made = {position: writer.emit(expression).code for position, expression in target.generated}
        items = [made.get(p, f"r[{p:d}]") for p in range(len(table.columns))]
        writer.line(f"r = ({', '.join(items)},)")
        writer.forget_columns()
    not_null = writer.constant(faults.not_null)
    for column in table.columns:
        if column.not_null and not column.dropped and not column.hidden:
            p = column.position
            writer.line(f"if r[{p:d}] is None: {not_null}(r, {p:d}, context)")
    check_fault = writer.constant(faults.check)
    for check in sorted(target.checks, key=lambda c: c.name):
        value = writer.emit(check.expression)
        writer.line(f"if {value.code} is False: {check_fault}(r, {check.check_id:d}, context)")


def view_check_function(planner: Planner, target: b.TargetTable) -> LoopCode | None:
    """Compile ``check(r, context) -> row`` of the views' check options, None without any."""
    if not target.view_checks:
        return None
    faults = ViewFaults(target.table, tuple(check.view for check in target.view_checks))
    layout = [c.id for c in target.row_columns]
    writer = Writer(planner.plan_subquery, columns=positions(layout))
    fault = writer.constant(faults.outside)
    for number, check in enumerate(target.view_checks):
        value = writer.emit(check.expression)
        writer.line(f"if {value.code} is not True: {fault}(r, {number:d}, context)")
    writer.line("return r")
    return code(seal(writer, "check(r, context)"))


def plan_modify(
    planner: Planner, plan: Any, conditions: list[Any], needed: set[int], want: Want
) -> Node:
    """Plan a data-modifying statement."""
    del needed, want
    codes = TargetCodes(planner.catalog)
    make = _insert if isinstance(plan, b.InsertPlan) else _change
    node = make(planner, plan, codes)
    node.kept = codes
    return planner.finish(node, conditions)


def _insert(planner: Planner, plan: b.InsertPlan, codes: TargetCodes) -> Node:
    values = tuple(v for v in plan.values if v is not None)
    child = planner.plan(plan.input, [], used_columns(values), NOTHING)
    row_ids = [c.id for c in plan.target.row_columns]
    null = b.Const(None, plan.target.row_columns[0].type)
    child = planner.project(child, row_ids, [null if v is None else v for v in plan.values])
    child = planner.sealed(child)
    target = codes.of(plan.target)
    returning = None
    if plan.columns:
        returning = code(batch_function([], plan.returning, row_ids, planner.plan_subquery))
    conflict = None if plan.conflict is None else _conflict(planner, plan, plan.conflict)
    node = InsertNode([c.id for c in plan.columns], child, target, returning, conflict)
    node.view_check = view_check_function(planner, plan.target)
    _costs(planner, node, child)
    if plan.conflict is not None:
        node.details.append(("Conflict Resolution", plan.conflict.action.upper()))
    return node


def _conflict(planner: Planner, plan: b.InsertPlan, conflict: b.ConflictPlan) -> ConflictCode:
    if conflict.action == "nothing":
        return ConflictCode(conflict.arbiters, None, None, frozenset(), None)
    layout = [c.id for c in (*conflict.existing_columns, *conflict.excluded_columns)]
    columns = positions(layout, "row")
    assigned = dict(conflict.assignments)
    items: list[Any] = [
        assigned.get(p, b.ColumnVar(c.id, c.type, c.typmod))
        for p, c in enumerate(conflict.existing_columns)
    ]
    where = None
    if conflict.where is not None:
        where = code(condition_function(conflict.where, columns, planner.plan_subquery))
    changed = frozenset(assigned) | {p for p, _ in plan.target.generated}
    assign = code(row_function(items, columns, planner.plan_subquery))
    is_strong = bool(changed & key_positions(plan.target.table))
    strength: LockStrength = "update" if is_strong else "no key update"
    return ConflictCode(conflict.arbiters, assign, where, changed, strength)


def _change(planner: Planner, plan: Any, codes: TargetCodes) -> Node:
    is_update = isinstance(plan, b.UpdatePlan)
    scan_ids = [c.id for c in plan.scan.columns]
    assignments = dict(plan.assignments) if is_update else {}
    row_ids = {c.id for c in plan.target.row_columns}
    needed = (
        set(scan_ids) | used_columns(tuple(assignments.values())) | used_columns(plan.condition)
    )
    needed |= used_columns(plan.returning) - row_ids if is_update else used_columns(plan.returning)
    produced = {c.id for c in plan.input.columns}
    child = planner.sealed(planner.plan(plan.input, [], needed & produced, NOTHING))
    target = codes.of(plan.target)
    columns = positions(child.layout, "row")
    at = {column: number for number, column in enumerate(child.layout)}
    condition = None
    if plan.condition is not None:
        condition = code(condition_function(plan.condition, columns, planner.plan_subquery))
    returning = None
    if plan.columns:
        layout = [c.id for c in plan.target.row_columns] if is_update else []
        seen = set(layout)
        # Ids of the new row win over the same ids of the old one, should the binder share them.
        full = [*layout, *(c if c not in seen else -1 - n for n, c in enumerate(child.layout))]
        returning = code(batch_function([], plan.returning, full, planner.plan_subquery))
    changed = frozenset(assignments) | {p for p, _ in plan.target.generated}
    keys, made = assigned_keys(plan.target.table, changed, assignments, columns)
    strong = not is_update or bool(keys)
    kind = UpdateNode if is_update else DeleteNode
    node = kind(
        [c.id for c in plan.columns],
        child,
        target,
        returning,
        positions=[at[c] for c in scan_ids],
        condition=condition,
        strength="update" if strong else "no key update",
    )
    node.alias = plan.scan.alias
    if isinstance(node, UpdateNode):
        items = [
            assignments.get(p, b.ColumnVar(c.id, c.type, c.typmod))
            for p, c in enumerate(plan.scan.columns)
        ]
        node.set_assignments(code(row_function(items, columns, planner.plan_subquery)), changed)
        node.keys = None if made is None else (keys, code(made))
        node.view_check = view_check_function(planner, plan.target)
    _costs(planner, node, child)
    return node


def assigned_keys(
    table: Table, changed: frozenset[int], assignments: dict[int, Any], columns: Any
) -> tuple[tuple[int, ...], Compiled | None]:
    """Return the columns of unique keys that are assigned, and what computes their new values.

    None when that cannot be done twice, before the row is locked and after.
    """
    keys = tuple(sorted(changed & key_positions(table)))
    assigned = [assignments.get(p) for p in keys]
    if not keys or not all(map(_is_plain, assigned)):
        return keys, None
    return keys, row_function(assigned, columns, None)


def _is_plain(expression: Any) -> bool:
    """Tell whether an expression gives the same however often it is computed, and does no work."""
    while isinstance(expression, b.CastExpr):
        expression = expression.operand
    return isinstance(expression, (b.Const, b.ParameterRef, b.ColumnVar))


def _costs(planner: Planner, node: Node, child: Node) -> None:
    planner.nodes += (node, child)
    node.rows = child.rows if node.layout else 0.0
    node.total_cost = child.total_cost
    node.startup_cost = child.startup_cost
    node.width = child.width
