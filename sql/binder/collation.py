"""Collation derivation: which collation each expression has, and errors where that is not clear.

One pass over a bound statement, run only when something in it has a collation of its own: a COLLATE
clause, a column declared with one, a call of ``pg_collation_for``. It takes the ``CollateExpr``
nodes out again and puts in place of functions the form they have under the collation found
(``sql.functions.collated``); what executes knows nothing of collations.

A derivation is explicit (from COLLATE), implicit (from a column or a type), or in conflict. Two
explicit ones must agree (42P21 at once). Two implicit ones that disagree, neither being the
default, are a conflict: an error (42P21) where rows are sorted or grouped by it, else only when a
function needs a collation while it runs (42P22), or no matter at all.

Source: PostgreSQL docs, "Collation Support", "Concepts".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sql.binder import bound as b
from sql.binder.tree import EXPRESSION_CLASSES, location, transform_children
from sql.errors import CollationMismatch
from sql.functions.collated import (
    ASCII_COLLATIONS,
    collatable,
    collation_of_type,
    extreme_function,
    extreme_without_collation,
    operator_under_c,
    operator_without_collation,
    shown_collation,
    under_c,
    without_collation,
)
from sql.functions.collated import DEFAULT as DEFAULT_COLLATION
from sql.functions.registry import Aggregate
from sql.span import NO_SPAN, Span
from sql.types.catalog import TEXT, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sql.catalog.descriptor import Table

NONE, IMPLICIT, CONFLICT, EXPLICIT = range(4)


class Derivation(NamedTuple):
    """How an expression came by its collation: stronger ones prevail.

    ``other`` is the second collation of a conflict.
    """

    strength: int
    collation: str = ""
    span: Span = NO_SPAN
    other: str = ""
    other_span: Span = NO_SPAN


NO_COLLATION: Final = Derivation(NONE)


def combine(left: Derivation, right: Derivation) -> Derivation:
    """Derive the collation of a function's inputs; 42P21 for two explicit ones."""
    if right.strength > left.strength:
        return right
    if (
        right.strength < left.strength
        or left.collation == right.collation
        or left.strength in (NONE, CONFLICT)
    ):
        return left
    if left.strength == EXPLICIT:
        raise CollationMismatch(
            "collation mismatch between explicit collations "
            f'"{left.collation}" and "{right.collation}"',
            span=right.span,
        )
    if left.collation == DEFAULT_COLLATION:
        return right
    if right.collation == DEFAULT_COLLATION:
        return left
    return Derivation(CONFLICT, left.collation, left.span, right.collation, right.span)


def implicit_mismatch(found: Derivation) -> CollationMismatch:
    """Make the error for a conflict where a collation must be known."""
    return CollationMismatch(
        f'collation mismatch between implicit collations "{found.collation}" and "{found.other}"',
        span=found.other_span,
        hint="You can choose the collation by applying the COLLATE clause "
        "to one or both expressions.",
    )


class _Pass:
    """One run over a statement. ``outputs`` are the derivations of the columns seen so far."""

    def __init__(self) -> None:
        self.outputs: dict[int, Derivation] = {}
        self._calls: set[int] = set()
        self._ctes: dict[int, tuple[Derivation, ...]] = {}
        self._case_operands: list[Derivation] = []

    # --- columns ---

    def declare(self, columns: Sequence[b.OutputColumn], table: Table) -> None:
        """Take in a table's columns."""
        for output, column in zip(columns, table.columns, strict=True):
            if column.collation:
                self.outputs[output.id] = Derivation(IMPLICIT, column.collation)

    def _publish(self, columns: Iterable[b.OutputColumn], found: Iterable[Derivation]) -> None:
        self.outputs.update((c.id, d) for c, d in zip(columns, found, strict=True))

    def _output(self, column: b.OutputColumn) -> Derivation:
        found = self.outputs.get(column.id)
        return _of_type(column.type, NO_SPAN) if found is None else found

    # --- expressions ---

    def expression(self, node: Any) -> Any:
        """Rewrite an expression that stands on its own."""
        return self.derive(node)[0]

    def target(self, node: Any) -> Any:
        """Rewrite an expression that rows are sorted or grouped by; 42P21 for a conflict."""
        new, found = self.derive(node)
        _require_determined(found)
        return new

    def derive(self, node: Any) -> tuple[Any, Derivation]:
        """Return the rewritten expression and its derivation."""
        special = _SPECIAL.get(type(node))
        if special is not None:
            return special(self, node)
        return self._general(node)

    def _general(self, node: Any) -> tuple[Any, Derivation]:
        new, inputs = self._inputs(node)
        return self._applied(new, inputs), _result(node, inputs)

    def _inputs(self, node: Any) -> tuple[Any, Derivation]:
        inputs = NO_COLLATION

        def visit(child: Any) -> Any:
            nonlocal inputs
            new, found = self.derive(child)
            inputs = combine(inputs, found)
            return new

        return transform_children(node, visit), inputs

    def _applied(self, node: Any, inputs: Derivation) -> Any:
        """Return a node in the form it has with this input collation."""
        if inputs.strength == CONFLICT:
            make = _WITHOUT_COLLATION.get(type(node))
        elif inputs.collation in ASCII_COLLATIONS:
            make = _UNDER_C.get(type(node))
        else:
            return node
        return node if make is None else make(node)

    def column(self, node: b.ColumnVar) -> tuple[Any, Derivation]:
        """Derive a column reference: of a lower query it is implicit, whatever it was there."""
        found = self.outputs.get(node.id)
        if found is None:
            return node, _of_type(node.type, node.span)
        if node.id in self._calls or node.span.start < 0:
            # An aggregate's place in the tree, or a reference that nobody wrote.
            return node, found
        return node, _implicit(found, node.span)

    def leaf(self, node: Any) -> tuple[Any, Derivation]:
        """Derive a constant or parameter."""
        return node, _of_type(node.type, node.span)

    def case_operand(self, node: b.CaseOperand) -> tuple[Any, Derivation]:
        """Derive the operand inside a simple CASE's comparisons."""
        return node, self._case_operands[-1]

    def collate(self, node: b.CollateExpr) -> tuple[Any, Derivation]:
        """Take a COLLATE clause out."""
        operand, _ = self.derive(node.operand)
        found = Derivation(EXPLICIT, node.collation, node.span)
        if type(operand) is b.Const:
            return operand, found
        # No longer a plain column: its origin is not the result's.
        new = b.CastExpr(operand, node.type, "relabel", typmod=node.typmod, span=node.span)
        return new, found

    def cast(self, node: b.CastExpr) -> tuple[Any, Derivation]:
        """Derive a cast; how elements are converted does not count."""
        operand, inputs = self.derive(node.operand)
        new = node if operand is node.operand else replace(node, operand=operand)
        return new, _result(node, inputs)

    def call(self, node: b.CallExpr) -> tuple[Any, Derivation]:
        """Derive a call; ``pg_collation_for`` is answered here."""
        if node.function.name == "pg_collation_for":
            return self._collation_for(node)
        return self._general(node)

    def _collation_for(self, node: b.CallExpr) -> tuple[Any, Derivation]:
        argument = node.args[0]
        new, inputs = self._inputs(node)
        result = _of_type(TEXT, location(node))
        if argument.type is not UNKNOWN and not collatable(argument.type):
            return new, result
        known = inputs.strength in (IMPLICIT, EXPLICIT)
        shown = shown_collation(inputs.collation) if known else None
        return b.Const(shown, TEXT, span=node.span), result

    def case(self, node: b.CaseExpr) -> tuple[Any, Derivation]:
        """Derive CASE: only its results count."""
        operand = node.operand
        if operand is not None:
            operand, found = self.derive(operand)
            self._case_operands.append(_implicit(found, NO_SPAN))
        inputs = NO_COLLATION
        whens: list[tuple[b.BoundExpr, b.BoundExpr]] = []
        for condition, result in node.whens:
            tested = self.expression(condition)
            new, found = self.derive(result)
            inputs = combine(inputs, found)
            whens.append((tested, new))
        default = node.default
        if default is not None:
            default, found = self.derive(default)
            inputs = combine(inputs, found)
        if operand is not None:
            self._case_operands.pop()
        new_case = replace(node, operand=operand, whens=tuple(whens), default=default)
        return new_case, _result(node, inputs)

    def null_if(self, node: b.NullIfExpr) -> tuple[Any, Derivation]:
        """Derive NULLIF: both sides of its comparison count."""
        left = self.expression(node.left)
        inputs = NO_COLLATION
        comparison: Any = node.comparison
        if isinstance(comparison, b.CallExpr):
            _, inputs = self._inputs(comparison)
        new = replace(node, left=left, comparison=self.expression(comparison))
        return new, _result(node, inputs)

    def row(self, node: b.RowExpr) -> tuple[Any, Derivation]:
        """Derive a row: its fields are independent and it has no collation."""
        return transform_children(node, self.expression), NO_COLLATION

    def field_of(self, node: b.FieldExpr) -> tuple[Any, Derivation]:
        """Derive a field: it has its type's collation."""
        new = transform_children(node, self.expression)
        return new, _of_type(node.type, location(node))

    def row_comparison(self, node: b.RowCompareExpr) -> tuple[Any, Derivation]:
        """Derive ``(a, b) < (c, d)``: each pair has a collation of its own."""
        left: list[b.BoundExpr] = []
        right: list[b.BoundExpr] = []
        equals, less = list(node.equals), list(node.less)
        for at, (one, two) in enumerate(zip(node.left, node.right, strict=True)):
            new_one, first = self.derive(one)
            new_two, second = self.derive(two)
            left.append(new_one)
            right.append(new_two)
            if combine(first, second).strength == CONFLICT:
                equals[at] = operator_without_collation(equals[at])
                less[at] = operator_without_collation(less[at])
        new = replace(
            node, left=tuple(left), right=tuple(right), equals=tuple(equals), less=tuple(less)
        )
        return new, NO_COLLATION

    def subquery(self, node: b.SubqueryExpr) -> tuple[Any, Derivation]:
        """Derive a sub-query: as a value it has its column's collation, implicitly."""
        plan = self.plan(node.plan)
        test = None if node.test is None else self.expression(node.test)
        pairs = node.equalities if test is node.test else _pairs(node, test)
        new = replace(node, plan=plan, test=test, equalities=pairs)
        if node.kind not in ("scalar", "array") or not collatable(node.type):
            return new, NO_COLLATION
        columns = node.plan.columns
        found = self._output(columns[0]) if columns else NO_COLLATION
        return new, _implicit(found, found.span if found.span.start >= 0 else location(node))

    # --- plans ---

    def plan(self, node: Any) -> Any:
        """Rewrite a plan: what it reads first, then its own expressions."""
        special = _PLANS.get(type(node))
        if special is not None:
            return special(self, node)
        return transform_children(node, self.part)

    def part(self, node: Any) -> Any:
        """Rewrite a plan, a part of one, or an expression that stands on its own."""
        kind = type(node)
        if kind in _EXPRESSIONS:
            return self.derive(node)[0]
        return self.plan(node)

    def scan(self, node: b.TableScan) -> Any:
        """Take in a table's columns."""
        self.declare(node.columns, node.table)
        return node

    def values(self, node: b.ValuesPlan) -> Any:
        """Derive each column of VALUES from all its rows."""
        derived = [[self.derive(item) for item in row] for row in node.rows]
        found: list[Derivation] = []
        for at in range(len(node.columns)):
            merged = NO_COLLATION
            for row in derived:
                merged = combine(merged, row[at][1])
            found.append(_implicit(merged, merged.span))
        self._publish(node.columns, found)
        return replace(node, rows=tuple(tuple(new for new, _ in row) for row in derived))

    def functions(self, node: b.FunctionScan) -> Any:
        """Derive a scalar function's column from its arguments."""
        calls: list[b.BoundExpr] = []
        at = 0
        for call, width in zip(node.calls, node.widths, strict=True):
            new, found = self.derive(call)
            calls.append(new)
            column = node.columns[at]
            if width == 1 and column.type is call.type and found.strength != NONE:
                self.outputs[column.id] = _implicit(found, NO_SPAN)
            at += width
        return replace(node, calls=tuple(calls))

    def project(self, node: b.ProjectPlan) -> Any:
        """Derive the columns of a select list."""
        source = self.plan(node.input)
        expressions: list[b.BoundExpr] = []
        for column, expression in zip(node.columns, node.expressions, strict=True):
            new, found = self.derive(expression)
            expressions.append(new)
            if type(expression) is not b.ColumnVar or expression.id != column.id:
                self.outputs[column.id] = found
        return replace(node, input=source, expressions=tuple(expressions))

    def project_sets(self, node: b.ProjectSet) -> Any:
        """Derive set-returning calls."""
        source = self.plan(node.input)
        return replace(node, input=source, sets=self._named(node.sets, self.derive))

    def _named(
        self,
        items: tuple[tuple[b.OutputColumn, Any], ...],
        derive: Callable[[Any], tuple[Any, Derivation]],
    ) -> tuple[tuple[b.OutputColumn, Any], ...]:
        """Derive calls whose columns stand for them in the expressions above."""
        result = []
        for column, call in items:
            new, found = derive(call)
            self.outputs[column.id] = found
            self._calls.add(column.id)
            result.append((column, new))
        return tuple(result)

    def aggregate(self, node: b.AggregatePlan) -> Any:
        """Derive groups and aggregates."""
        source = self.plan(node.input)
        groups = self._named(node.groups, self._group)
        aggregates = self._named(node.aggregates, self._aggregate_call)
        return replace(node, input=source, groups=groups, aggregates=aggregates)

    def _group(self, expression: Any) -> tuple[Any, Derivation]:
        new, found = self.derive(expression)
        _require_determined(found)
        if type(expression) is b.ColumnVar:
            # The place of a plain column is where it is used, which its references know.
            found = found._replace(span=NO_SPAN)
        return new, found

    def _aggregate_call(self, call: b.AggregateCall) -> tuple[Any, Derivation]:
        inputs = NO_COLLATION
        direct: list[b.BoundExpr] = []
        for argument in call.direct:
            new, found = self.derive(argument)
            inputs = combine(inputs, found)
            direct.append(new)
        ordered = call.aggregate.ordered_set
        args: list[b.BoundExpr] = []
        for argument in call.args:
            new, found = self.derive(argument)
            if call.distinct or ordered:
                _require_determined(found)
            if not ordered or len(call.args) == 1:
                inputs = combine(inputs, found)
            args.append(new)
        new_call = replace(
            call,
            aggregate=_aggregate_for(call.aggregate, inputs),
            args=tuple(args),
            direct=tuple(direct),
            order_by=tuple(self._sort_item(item) for item in call.order_by),
            filter=None if call.filter is None else self.expression(call.filter),
        )
        return new_call, _of_call(call.type, inputs, call.args)

    def window(self, node: b.WindowPlan) -> Any:
        """Derive window calls and their windows."""
        source = self.plan(node.input)
        return replace(
            node,
            input=source,
            partition_by=tuple(self.target(key) for key in node.partition_by),
            order_by=tuple(self._sort_item(item) for item in node.order_by),
            calls=self._named(node.calls, self._window_call),
        )

    def _window_call(self, call: b.WindowCall) -> tuple[Any, Derivation]:
        inputs = NO_COLLATION
        args: list[b.BoundExpr] = []
        for argument in call.args:
            new, found = self.derive(argument)
            inputs = combine(inputs, found)
            args.append(new)
        function = call.function
        if isinstance(function, Aggregate):
            function = _aggregate_for(function, inputs)
        filter_ = None if call.filter is None else self.expression(call.filter)
        new_call = replace(call, function=function, args=tuple(args), filter=filter_)
        return new_call, _of_call(call.type, inputs, call.args)

    def _sort_item(self, item: b.SortItem) -> b.SortItem:
        new = self.target(item.expression)
        return item if new is item.expression else replace(item, expression=new)

    def sort(self, node: b.SortPlan) -> Any:
        """Refuse sorting by what has no collation."""
        source = self.plan(node.input)
        return replace(node, input=source, keys=tuple(self._sort_item(k) for k in node.keys))

    def distinct(self, node: b.DistinctPlan) -> Any:
        """Refuse DISTINCT over what has no collation."""
        source = self.plan(node.input)
        if node.keys is None:
            for column in source.columns:
                _require_determined(self._output(column))
            return replace(node, input=source)
        return replace(node, input=source, keys=tuple(self.target(key) for key in node.keys))

    def set_operation(self, node: b.SetOperationPlan) -> Any:
        """Derive columns from both sides; only UNION ALL may leave a conflict."""
        left, right = self.plan(node.left), self.plan(node.right)
        found: list[Derivation] = []
        for one, two in zip(left.columns, right.columns, strict=True):
            merged = combine(self._output(one), self._output(two))
            if not (node.operator == "union" and node.all):
                _require_determined(merged)
            found.append(_implicit(merged, NO_SPAN))
        self._publish(node.columns, found)
        return replace(node, left=left, right=right)

    def with_(self, node: b.WithPlan) -> Any:
        """Derive WITH queries before what reads them."""
        definitions = tuple(self._definition(d) for d in node.definitions)
        return replace(node, definitions=definitions, body=self.plan(node.body))

    def _definition(self, definition: b.CteDefinition) -> b.CteDefinition:
        plan = self.plan(definition.plan)
        starts = [self._output(column) for column in plan.columns[: len(definition.columns)]]
        found = tuple(_implicit(start, NO_SPAN) for start in starts)
        self._ctes[definition.cte_id] = found
        self._publish(definition.columns, found)
        step = definition.step
        if step is not None:
            step = self.plan(step)
            self._check_recursion(definition, starts, step)
        return replace(definition, plan=plan, step=step)

    def _check_recursion(
        self, definition: b.CteDefinition, starts: list[Derivation], step: b.LogicalPlan
    ) -> None:
        """Refuse a recursive term that would change the collation of a column."""
        pairs = zip(starts, step.columns, self._ctes[definition.cte_id], strict=False)
        for number, (start, column, known) in enumerate(pairs, 1):
            overall = combine(start, self._output(column))
            if not definition.union_all:
                _require_determined(overall)
            if overall.strength != CONFLICT and overall.collation != known.collation:
                raise CollationMismatch(
                    f'recursive query "{definition.name}" column {number} has collation '
                    f'"{known.collation}" in non-recursive term '
                    f'but collation "{overall.collation}" overall',
                    span=start.span,
                    hint="Use the COLLATE clause to set the collation of the non-recursive term.",
                )

    def cte_scan(self, node: b.CteScan) -> Any:
        """Take in the columns of a WITH query."""
        found = self._ctes.get(node.cte_id)
        if found is not None:
            self._publish(node.columns, found)
        return node

    def target_table(self, node: b.TargetTable) -> Any:
        """Rewrite the checks and other expressions of a written table."""
        self.declare(node.row_columns, node.table)
        return replace(
            node,
            checks=tuple(
                replace(check, expression=self.expression(check.expression))
                for check in node.checks
            ),
            generated=tuple((at, self.expression(e)) for at, e in node.generated),
            index_expressions={
                index: tuple(self.expression(key) for key in keys)
                for index, keys in node.index_expressions.items()
            },
            index_predicates={
                index: self.expression(predicate)
                for index, predicate in node.index_predicates.items()
            },
        )

    def insert(self, node: b.InsertPlan) -> Any:
        """Take in the columns that ON CONFLICT names."""
        conflict = node.conflict
        if conflict is not None:
            for columns in (conflict.existing_columns, conflict.excluded_columns):
                if columns:
                    self.declare(columns, node.target.table)
        return transform_children(node, self.part)


def _implicit(found: Derivation, span: Span) -> Derivation:
    """Return what a reference to such a column derives."""
    if found.strength in (IMPLICIT, EXPLICIT):
        return Derivation(IMPLICIT, found.collation, span)
    return NO_COLLATION


def _of_type(sql_type: Any, span: Span) -> Derivation:
    if not collatable(sql_type):
        return NO_COLLATION
    return Derivation(IMPLICIT, collation_of_type(sql_type), span)


def _result(node: Any, inputs: Derivation) -> Derivation:
    """Derive a result: its inputs' collation, else its type's."""
    if not collatable(node.type):
        return NO_COLLATION
    return inputs if inputs.strength > NONE else _of_type(node.type, location(node))


def _of_call(sql_type: Any, inputs: Derivation, args: tuple[b.BoundExpr, ...]) -> Derivation:
    if not collatable(sql_type):
        return NO_COLLATION
    if inputs.strength > NONE:
        return inputs
    return _of_type(sql_type, location(args[0]) if args else NO_SPAN)


def _require_determined(found: Derivation) -> None:
    if found.strength == CONFLICT:
        raise implicit_mismatch(found)


def _aggregate_for(aggregate: Aggregate, inputs: Derivation) -> Aggregate:
    return extreme_without_collation(aggregate) if inputs.strength == CONFLICT else aggregate


def _pairs(node: b.SubqueryExpr, test: Any) -> tuple[Any, ...]:
    """Find the equalities of a rewritten test; () when one is not a plain one any more."""
    inner = {pair[1].id for pair in node.equalities}
    parts = test.operands if isinstance(test, b.BoolExpr) else (test,)
    pairs = []
    for part in parts:
        if not isinstance(part, b.CallExpr) or part.operator is None:
            return ()
        column = part.args[-1]
        if part.operator.comparison != "=" or not isinstance(column, b.ColumnVar):
            return ()
        if column.id not in inner:
            return ()
        pairs.append((part.args[0], column, part.operator))
    return tuple(pairs)


# --- forms of nodes ---


def _call_without(node: b.CallExpr) -> Any:
    function = without_collation(node.function)
    if function is node.function:
        return node
    operator = None if node.operator is None else operator_without_collation(node.operator)
    return replace(node, function=function, operator=operator)


def _call_under_c(node: b.CallExpr) -> Any:
    function = under_c(node.function)
    if function is node.function:
        return node
    operator = None if node.operator is None else operator_under_c(node.operator)
    return replace(node, function=function, operator=operator)


def _extreme_without(node: b.MinMaxExpr) -> Any:
    types = tuple(argument.type for argument in node.args)
    return b.CallExpr(
        extreme_function(node.kind, types), node.args, node.type, typmod=node.typmod, span=node.span
    )


_WITHOUT_COLLATION: Final[dict[type, Callable[[Any], Any]]] = {
    b.CallExpr: _call_without,
    b.DistinctExpr: lambda n: replace(n, equals=operator_without_collation(n.equals)),
    b.ScalarArrayExpr: lambda n: replace(n, operator=operator_without_collation(n.operator)),
    b.MinMaxExpr: _extreme_without,
}
_UNDER_C: Final[dict[type, Callable[[Any], Any]]] = {
    b.CallExpr: _call_under_c,
    b.ScalarArrayExpr: lambda n: replace(n, operator=operator_under_c(n.operator)),
}
_SPECIAL: Final[dict[type, Callable[[_Pass, Any], tuple[Any, Derivation]]]] = {
    b.ColumnVar: _Pass.column,
    b.Const: _Pass.leaf,
    b.ParameterRef: _Pass.leaf,
    b.DomainDefault: _Pass.leaf,
    b.CaseOperand: _Pass.case_operand,
    b.CollateExpr: _Pass.collate,
    b.CastExpr: _Pass.cast,
    b.CallExpr: _Pass.call,
    b.CaseExpr: _Pass.case,
    b.NullIfExpr: _Pass.null_if,
    b.RowExpr: _Pass.row,
    b.FieldExpr: _Pass.field_of,
    b.RowCompareExpr: _Pass.row_comparison,
    b.SubqueryExpr: _Pass.subquery,
}
_PLANS: Final[dict[type, Callable[[_Pass, Any], Any]]] = {
    b.TableScan: _Pass.scan,
    b.ValuesPlan: _Pass.values,
    b.FunctionScan: _Pass.functions,
    b.ProjectPlan: _Pass.project,
    b.ProjectSet: _Pass.project_sets,
    b.AggregatePlan: _Pass.aggregate,
    b.WindowPlan: _Pass.window,
    b.SortPlan: _Pass.sort,
    b.DistinctPlan: _Pass.distinct,
    b.SetOperationPlan: _Pass.set_operation,
    b.WithPlan: _Pass.with_,
    b.CteScan: _Pass.cte_scan,
    b.TargetTable: _Pass.target_table,
    b.InsertPlan: _Pass.insert,
}
_EXPRESSIONS: Final = frozenset(EXPRESSION_CLASSES)


def assign_collations(plan: b.LogicalPlan) -> b.LogicalPlan:
    """Return a statement's plan with its collations worked in; 42P21."""
    result: b.LogicalPlan = _Pass().plan(plan)
    return result


def assign_to_expression(
    expression: b.BoundExpr, columns: Sequence[b.OutputColumn], collations: Sequence[str]
) -> b.BoundExpr:
    """Return a stand-alone expression over ``columns`` with its collations worked in; 42P21."""
    run = _Pass()
    for column, collation in zip(columns, collations, strict=False):
        if collation:
            run.outputs[column.id] = Derivation(IMPLICIT, collation)
    result: b.BoundExpr = run.expression(expression)
    return result


def assign_to_target(target: b.TargetTable) -> b.TargetTable:
    """Return the expressions of a table that is written without a statement."""
    result: b.TargetTable = _Pass().target_table(target)
    return result
