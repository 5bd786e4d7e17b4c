"""FROM: tables, views, CTE references, sub-queries, functions and joins.

``bind_from`` fills the scope's items and returns the joined plan. While it runs, entries to the
left are in the scope as lateral-only: sub-queries see them only when LATERAL, functions always.

Source: PostgreSQL docs, "Table Expressions", "The FROM Clause".
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from sql.ast.query import (
    Alias,
    Expression,
    FromItem,
    FunctionCall,
    FunctionRef,
    JoinRef,
    SqlValueFunction,
    SubqueryRef,
    TableRef,
    TypeCast,
)
from sql.binder.bound import (
    BoolExpr,
    BoundExpr,
    CallExpr,
    CoalesceExpr,
    ColumnVar,
    CteScan,
    FunctionScan,
    JoinPlan,
    LogicalPlan,
    OneRow,
    OutputColumn,
    ProjectPlan,
    SequenceScan,
    TableScan,
    VirtualScan,
)
from sql.binder.calls import bind_from_function
from sql.binder.coerce import coerce_to_boolean, coerce_to_common, common_type_of, resolve_unknown
from sql.binder.cte import forbid_recursion
from sql.binder.dispatch import bind
from sql.binder.locking import handed_on
from sql.binder.operators import EQUALS, make_operator
from sql.binder.scope import AMBIGUOUS, CteEntry, Item, Scope, check_no_conflict, item_over
from sql.binder.state import BindState, var_of
from sql.binder.type_names import resolve_type
from sql.catalog.catalog import BindableRelation, VirtualTable
from sql.catalog.descriptor import Sequence, Table, View
from sql.errors import (
    AmbiguousColumn,
    DatatypeMismatch,
    FeatureNotSupported,
    InvalidColumnReference,
    InvalidRecursion,
    InvalidSchemaName,
    SqlSyntaxError,
    UndefinedColumn,
    UndefinedTable,
    WrongObjectType,
)
from sql.functions.json_records import RECORD_READERS, record_reader
from sql.functions.reg import is_index_name
from sql.types.base import NO_TYPMOD
from sql.types.catalog import BOOL, INT8, RECORD, VOID

if TYPE_CHECKING:
    from collections.abc import Sequence as SequenceOf

    from sql.functions.registry import Function

VIEW_DEPTH_MAX = 100


def relation_oid(relation: BindableRelation) -> int:
    """Return the OID of any relation."""
    return relation.oid if isinstance(relation, VirtualTable) else relation.id


def bind_from(state: BindState, items: tuple[FromItem, ...], scope: Scope) -> LogicalPlan:
    """Bind the FROM list into ``scope`` and return its plan; OneRow for an empty list."""
    if not items:
        return OneRow()
    plan: LogicalPlan | None = None
    for node in items:
        scope.lateral_refs = set()
        right, new_items = bind_from_item(state, node, scope)
        check_no_conflict(scope.items, new_items)
        plan = right if plan is None else _join(scope, "inner", plan, right, None)
        for item in new_items:
            item.lateral_only = True
            item.lateral_ok = True
        scope.items = [*scope.items, *new_items]
    for item in scope.items:
        item.lateral_only = False
    assert plan is not None
    return plan


def _join(
    scope: Scope, kind: str, left: LogicalPlan, right: LogicalPlan, condition: BoundExpr | None
) -> JoinPlan:
    refs = scope.lateral_refs
    lateral = bool(refs) and any(c.id in refs for c in left.columns)
    return JoinPlan(kind, left, right, condition, lateral)  # type: ignore[arg-type]


def bind_from_item(
    state: BindState, node: FromItem, scope: Scope
) -> tuple[LogicalPlan, list[Item]]:
    """Bind one FROM item; returns its plan and the namespace items it makes."""
    if isinstance(node, TableRef):
        plan, item = bind_table(state, node, scope)
    elif isinstance(node, SubqueryRef):
        plan, item = _bind_subquery(state, node, scope)
    elif isinstance(node, FunctionRef):
        plan, item = _bind_function(state, node, scope)
    else:
        return _bind_join(state, node, scope)
    scope.all_items.append(item)
    return plan, [item]


def _rename(names: list[str], alias: Alias | None, shown: str) -> list[str]:
    """Apply an alias's column list; 42P10 when it is too long."""
    if alias is None or not alias.columns:
        return names
    if len(alias.columns) > len(names):
        raise InvalidColumnReference(
            f'table "{shown}" has {len(names)} columns available '
            f"but {len(alias.columns)} columns specified"
        )
    return [*alias.columns, *names[len(alias.columns) :]]


# --- tables, views, CTEs ---


def find_relation(state: BindState, node: TableRef, scope: Scope | None = None) -> BindableRelation:
    """Find the relation of a TableRef; 42P01 at its place."""
    relation: BindableRelation | None
    name = node.name
    if node.relation_id:
        relation = state.catalog.relation_by_id(node.relation_id)
    else:
        try:
            relation = state.catalog.find_relation(name)
        except InvalidSchemaName:
            # In a query a missing schema is reported as a missing relation.
            relation = None
    if relation is None:
        shown = f"{name.schema}.{name.name}" if name.schema else name.name
        span = name.span if name.span.start >= 0 else node.span
        detail = hint = ""
        if scope is not None and not name.schema and scope.is_future_cte(name.name):
            detail = (
                f'There is a WITH item named "{name.name}", '
                "but it cannot be referenced from this part of the query."
            )
            hint = "Use WITH RECURSIVE, or re-order the WITH items to remove forward references."
        if is_index_name(state.catalog, name):
            raise WrongObjectType(f'"{name.name}" is an index', span=span)
        raise UndefinedTable(
            f'relation "{shown}" does not exist', span=span, detail=detail, hint=hint
        )
    if state.recorder is not None:
        state.recorder.relations[id(node)] = relation_oid(relation)
    return relation


def bind_table(state: BindState, node: TableRef, scope: Scope) -> tuple[LogicalPlan, Item]:
    """Bind a table, view, sequence, virtual table or CTE reference."""
    name = node.name
    if not name.schema and not node.relation_id:
        cte = scope.find_cte(name.name)
        if cte is not None:
            scope.reads_itself |= cte.is_recursive_self
            return _bind_cte(state, node, cte)
    relation = find_relation(state, node, scope)
    if isinstance(relation, Table):
        return scan_table(state, relation, node.alias, privilege="r")
    if isinstance(relation, View):
        return _bind_view(state, relation, node, scope)
    alias = node.alias.name if node.alias is not None else relation.name
    if isinstance(relation, VirtualTable):
        typmods = relation.typmods or (NO_TYPMOD,) * len(relation.columns)
        columns = tuple(
            state.new_column(n, t, typmod, relation.oid, i)
            for i, ((n, t), typmod) in enumerate(zip(relation.columns, typmods, strict=True), 1)
        )
        plan: LogicalPlan = VirtualScan(relation, columns, alias)
        state.relations[relation.oid] = None
        relation_id = relation.oid
    else:
        columns = tuple(
            state.new_column(n, t, -1, relation.id, i)
            for i, (n, t) in enumerate(
                (("last_value", INT8), ("log_cnt", INT8), ("is_called", BOOL)), 1
            )
        )
        plan = SequenceScan(relation, columns, alias)
        state.relations[relation.id] = None
        state.require(relation.id, "r")
        relation_id = relation.id
    names = _rename([c.name for c in columns], node.alias, alias)
    item = item_over(
        alias, names, columns, relation_id=relation_id, has_user_alias=node.alias is not None
    )
    return plan, item


def scan_table(
    state: BindState, table: Table, alias: Alias | None, privilege: str
) -> tuple[TableScan, Item]:
    """Make the scan of a table and its namespace item (dropped and hidden columns have no name)."""
    shown = table.name if alias is None else alias.name
    table_id = table.id
    columns = []
    names: list[str] = []
    expressions: list[BoundExpr] = []
    next_id = state.next_id
    origins = state.origins
    for column in table.columns:
        next_id += 1
        output = OutputColumn(
            next_id, column.name, column.type, column.typmod, table_id, column.number
        )
        columns.append(output)
        origins[next_id] = (table_id, column.number)
        if column.collation:
            state.collated = True
        if not column.hidden and not column.dropped:
            names.append(column.name)
            expressions.append(ColumnVar(next_id, column.type, column.typmod, column.name, shown))
    state.next_id = next_id
    state.relations[table_id] = None
    if privilege:
        state.require(table_id, privilege)
    scan = TableScan(table, tuple(columns), shown)
    if alias is not None and alias.columns:
        names = _rename(names, alias, shown)
    item = Item(
        shown,
        names,
        expressions,
        relation_id=table_id,
        has_user_alias=alias is not None,
        scan=scan,
    )
    return scan, item


def _bind_view(
    state: BindState, view: View, node: TableRef, scope: Scope
) -> tuple[LogicalPlan, Item]:
    """Expand a view: its stored query is bound outside of any scope.

    With its owner's privileges.
    """
    alias = node.alias.name if node.alias is not None else view.name
    state.relations[view.id] = None
    state.require(view.id, "r")
    owner, state.view_owner = state.view_owner, view.reads_as
    forbidden, state.forbidden_column = state.forbidden_column, ""
    trackers, state.trackers = state.trackers, []
    recorder, state.recorder = state.recorder, None
    try:
        bound = state.bind_query(state, handed_on(view.query, alias, scope, is_view=True), None)
    finally:
        state.recorder = recorder
        state.view_owner = owner
        state.forbidden_column = forbidden
        state.trackers = trackers
    names = [c.name for c in view.columns]
    columns = tuple(
        OutputColumn(c.id, n, c.type, c.typmod, view.id, i)
        for i, (c, n) in enumerate(zip(bound.columns, names, strict=True), 1)
    )
    state.origins.update((c.id, (c.table_oid, c.column_number)) for c in columns)
    plan = ProjectPlan(bound.plan, tuple(var_of(c) for c in bound.columns), columns)
    renamed = _rename(names, node.alias, alias)
    item = item_over(
        alias, renamed, columns, relation_id=view.id, has_user_alias=node.alias is not None
    )
    return plan, item


def _bind_cte(state: BindState, node: TableRef, cte: CteEntry) -> tuple[LogicalPlan, Item]:
    if cte.forbidden:
        raise InvalidRecursion(cte.forbidden, span=node.name.span)
    if cte.is_recursive_self:
        cte.recursive_refs += 1
        if cte.recursive_refs > 1:
            raise InvalidRecursion(
                f'recursive reference to query "{cte.name}" must not appear more than once',
                span=node.name.span,
            )
    if not cte.has_returning:
        raise FeatureNotSupported(
            f'WITH query "{cte.name}" does not have a RETURNING clause', span=node.name.span
        )
    alias = node.alias.name if node.alias is not None else cte.name
    columns = []
    for name, column in zip(cte.names, cte.columns, strict=True):
        new = state.new_column(
            name, column.type, column.typmod, column.table_oid, column.column_number
        )
        shape = state.record_shapes.get(column.id)
        if shape is not None:
            state.record_shapes[new.id] = shape
        columns.append(new)
    outputs = tuple(columns)
    names = _rename(list(cte.names), node.alias, alias)
    plan = CteScan(cte.cte_id, cte.name, outputs, alias)
    return plan, item_over(alias, names, outputs, has_user_alias=node.alias is not None)


# --- sub-queries and functions ---


def _bind_subquery(state: BindState, node: SubqueryRef, scope: Scope) -> tuple[LogicalPlan, Item]:
    active, scope.lateral_active = scope.lateral_active, node.lateral
    clause, scope.clause = scope.clause, "from subquery"
    try:
        alias = "" if node.alias is None else node.alias.name
        query = handed_on(node.query, alias, scope, is_view=False)
        bound = state.bind_query(state, query, scope)
    finally:
        scope.lateral_active = active
        scope.clause = clause
    shown = "" if node.alias is None else node.alias.name
    names = _rename([c.name for c in bound.columns], node.alias, shown)
    item = item_over(shown, names, bound.columns, has_user_alias=node.alias is not None)
    return bound.plan, item


def _function_name(node: object) -> str:
    if isinstance(node, FunctionCall):
        return node.name[-1]
    if isinstance(node, SqlValueFunction):
        return node.name
    if isinstance(node, TypeCast):
        return node.type_name.name
    return type(node).__name__.lower()


def _spread_unnest(node: FunctionRef) -> tuple[Expression, ...]:
    """``unnest(a, b)`` is several calls side by side."""
    call = node.calls[0]
    if (
        len(node.calls) == 1
        and isinstance(call, FunctionCall)
        and call.name[-1] == "unnest"
        and len(call.args) > 1
        and not any(call.arg_names)
    ):
        return tuple(FunctionCall(call.name, (a,), span=call.span) for a in call.args)
    return node.calls


def _bind_function(state: BindState, node: FunctionRef, scope: Scope) -> tuple[LogicalPlan, Item]:
    written_calls = _spread_unnest(node)
    active, scope.lateral_active = scope.lateral_active, True
    clause, scope.clause = scope.clause, "from function"
    try:
        bound = [bind_from_function(state, call, scope) for call in written_calls]
    finally:
        scope.lateral_active = active
        scope.clause = clause
    alias = node.alias
    shown = _function_name(written_calls[0]) if alias is None else alias.name
    columns: list[OutputColumn] = []
    widths: list[int] = []
    calls: list[BoundExpr] = []
    scalar = False
    for written, (expression, function) in zip(written_calls, bound, strict=True):
        expression = resolve_unknown(state, expression)  # noqa: PLW2901 - the typed form
        if isinstance(expression, CallExpr) and function is not None:
            function = expression.function  # noqa: PLW2901 - perhaps made for its argument
        made, scalar = _function_columns(
            state, node, written, expression, function, single=len(bound) == 1
        )
        if isinstance(expression, CallExpr) and expression.function.name in RECORD_READERS:
            expression = _record_call(expression, made)  # noqa: PLW2901
        calls.append(expression)
        columns.extend(made)
        widths.append(len(made))
    if node.ordinality:
        columns.append(state.new_column("ordinality", INT8))
    names = _rename([c.name for c in columns], alias, shown)
    outputs = tuple(
        OutputColumn(c.id, n, c.type, c.typmod) for c, n in zip(columns, names, strict=True)
    )
    plan = FunctionScan(tuple(calls), tuple(widths), node.ordinality, outputs, shown)
    item = item_over(shown, names, outputs, has_user_alias=alias is not None)
    item.whole_row_scalar = scalar and len(outputs) == 1
    return plan, item


def _record_call(call: CallExpr, columns: list[OutputColumn]) -> CallExpr:
    """Give json_to_record and its kin the columns of the definition list."""
    shape = tuple((c.name, c.type, c.typmod) for c in columns)
    return CallExpr(record_reader(call.function, shape), call.args, RECORD, span=call.span)


def _function_columns(
    state: BindState,
    node: FunctionRef,
    written: object,
    expression: BoundExpr,
    function: Function | None,
    *,
    single: bool,
) -> tuple[list[OutputColumn], bool]:
    """Return the columns of one call, and whether its result is scalar."""
    from sql.binder.expression import record_shape  # noqa: PLC0415

    alias = node.alias
    span = expression.span
    if alias is not None and alias.column_types and single:
        if expression.type is not RECORD:
            raise SqlSyntaxError(
                'a column definition list is only allowed for functions returning "record"',
                span=alias.types_span,
            )
        if function is not None and function.columns:
            raise SqlSyntaxError(
                "a column definition list is redundant for a function with OUT parameters",
                span=alias.types_span,
            )
        types = [resolve_type(state.catalog, t) for t in alias.column_types]
        return [
            state.new_column(n, t, m) for n, (t, m) in zip(alias.columns, types, strict=True)
        ], False
    if function is not None and function.columns:
        if function.name in RECORD_READERS and isinstance(expression, CallExpr):
            shape = record_shape(state, expression.args[0]) or ()
            return [state.new_column(n, t, m) for n, t, m in shape], False
        made = expression.function if isinstance(expression, CallExpr) else function
        return [state.new_column(n, t) for n, t in made.columns], False
    if expression.type is RECORD:
        raise SqlSyntaxError(
            'a column definition list is required for functions returning "record"', span=span
        )
    if expression.type is VOID and function is not None and function.returns_set:
        raise DatatypeMismatch("function in FROM cannot return void", span=span)
    name = getattr(function, "result_name", "") if function is not None else ""
    if not name:
        # A scalar result is named after the alias when there is one, else after the function.
        name = alias.name if alias is not None and single else _function_name(written)
    return [state.new_column(name, expression.type, expression.typmod)], True


# --- joins ---


def _bind_join(state: BindState, node: JoinRef, scope: Scope) -> tuple[LogicalPlan, list[Item]]:
    outer_items = scope.items
    with _recursion_rule(scope, forbidden=node.kind in ("right", "full")):
        left, left_items = bind_from_item(state, node.left, scope)
    refs, scope.lateral_refs = scope.lateral_refs, set()
    lateral_ok = node.kind in ("inner", "left", "cross")
    for item in left_items:
        item.lateral_only = True
        item.lateral_ok = lateral_ok
    scope.items = [*outer_items, *left_items]
    try:
        with _recursion_rule(scope, forbidden=node.kind in ("left", "full")):
            right, right_items = bind_from_item(state, node.right, scope)
    finally:
        scope.items = outer_items
    check_no_conflict(left_items, right_items)
    both = [*left_items, *right_items]
    for item in both:
        item.lateral_only = False
        item.lateral_ok = True
    kind = "inner" if node.kind == "cross" else node.kind
    using = node.using
    if node.natural:
        using = _common_names(left_items, right_items)
    condition: BoundExpr | None = None
    merged: list[tuple[str, BoundExpr]] = []
    if using:
        condition, merged = _bind_using(state, node, using, left_items, right_items)
    elif node.condition is not None:
        condition = _bind_condition(state, node, both, scope)
    plan = _join(scope, kind, left, right, condition)
    scope.lateral_refs |= refs
    return plan, _join_items(node, both, merged, using, left_items, right_items, scope)


def _recursion_rule(scope: Scope, *, forbidden: bool) -> AbstractContextManager[None]:
    return forbid_recursion(scope, "an outer join") if forbidden else nullcontext()


def _bind_condition(state: BindState, node: JoinRef, both: list[Item], scope: Scope) -> BoundExpr:
    assert node.condition is not None
    items, scope.items = scope.items, both
    active, scope.lateral_active = scope.lateral_active, True
    clause, scope.clause = scope.clause, "join"
    try:
        # Entries further left are no part of the join: they are found only for error messages.
        condition = bind(state, node.condition, scope)
    finally:
        scope.items, scope.lateral_active, scope.clause = items, active, clause
    condition = coerce_to_boolean(state, condition, "JOIN/ON")
    if state.recorder is not None:
        state.recorder.bound[id(node.condition)] = condition
    return condition


def _visible_columns(items: SequenceOf[Item]) -> list[tuple[str, BoundExpr]]:
    return [
        (n, e)
        for item in items
        if item.columns_visible
        for n, e in zip(item.names, item.expressions, strict=True)
    ]


def _common_names(left: list[Item], right: list[Item]) -> tuple[str, ...]:
    names = {n for n, _ in _visible_columns(right)}
    return tuple(n for n, _ in _visible_columns(left) if n in names)


def _using_column(columns: list[tuple[str, BoundExpr]], name: str, side: str) -> BoundExpr:
    found = [e for n, e in columns if n == name]
    if not found:
        raise UndefinedColumn(
            f'column "{name}" specified in USING clause does not exist in {side} table'
        )
    if len(found) > 1:
        raise AmbiguousColumn(f'common column name "{name}" appears more than once in {side} table')
    return found[0]


def _bind_using(
    state: BindState,
    node: JoinRef,
    using: tuple[str, ...],
    left_items: list[Item],
    right_items: list[Item],
) -> tuple[BoundExpr, list[tuple[str, BoundExpr]]]:
    lefts = _visible_columns(left_items)
    rights = _visible_columns(right_items)
    parts: list[BoundExpr] = []
    merged: list[tuple[str, BoundExpr]] = []
    seen: set[str] = set()
    for name in using:
        if name in seen:
            from sql.errors import DuplicateColumn  # noqa: PLC0415

            raise DuplicateColumn(f'column name "{name}" appears more than once in USING clause')
        seen.add(name)
        left = _using_column(lefts, name, "left")
        right = _using_column(rights, name, "right")
        parts.append(make_operator(state, EQUALS, left, right, node.span))
        merged.append((name, _merge(state, node.kind, left, right)))
    condition = parts[0] if len(parts) == 1 else BoolExpr("and", tuple(parts), BOOL)
    return condition, merged


def _merge(state: BindState, kind: str, left: BoundExpr, right: BoundExpr) -> BoundExpr:
    """Return what a USING column shows: the side that is never null-extended.

    Or COALESCE for FULL.
    """
    common = common_type_of(state, (left, right), "JOIN/USING")
    first = coerce_to_common(state, left, common, "JOIN/USING")
    second = coerce_to_common(state, right, common, "JOIN/USING")
    if kind == "right":
        return second
    if kind == "full":
        typmod = first.typmod if first.typmod == second.typmod else -1
        return CoalesceExpr((first, second), common, typmod)
    return first


def _join_items(
    node: JoinRef,
    both: list[Item],
    merged: list[tuple[str, BoundExpr]],
    using: tuple[str, ...],
    left_items: list[Item],
    right_items: list[Item],
    scope: Scope,
) -> list[Item]:
    if not merged and node.alias is None:
        return both
    names = [n for n, _ in merged]
    expressions = [e for _, e in merged]
    shared = set(using)
    for name, expression in (*_visible_columns(left_items), *_visible_columns(right_items)):
        if name not in shared:
            names.append(name)
            expressions.append(expression)
    shown = "" if node.alias is None else node.alias.name
    joined = Item(shown, _rename(names, node.alias, shown), expressions)
    joined.is_join = True
    joined.relation_visible = node.alias is not None
    if node.alias is not None:
        scope.all_items.append(joined)
        return [joined]
    result = []
    for item in both:
        item.columns_visible = False
        if item.relation_visible:
            result.append(item)
    result.append(joined)
    if node.using_alias:
        only = Item(node.using_alias, [n for n, _ in merged], [e for _, e in merged])
        only.columns_visible = False
        only.is_join = True
        result.append(only)
    return result


__all__ = [
    "AMBIGUOUS",
    "CallExpr",
    "Sequence",
    "WrongObjectType",
    "bind_from",
    "bind_from_item",
    "bind_table",
    "find_relation",
    "relation_oid",
    "scan_table",
]
