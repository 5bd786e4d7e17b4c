"""Binding of scalar expressions: literals, column references, casts, conditionals, arrays, rows.

Calls are in ``calls``, comparisons of rows and lists in ``comparison``, sub-queries in
``subquery``.

Source: PostgreSQL docs, "Value Expressions", "Conditional Expressions".
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from sql.ast.query import (
    And,
    ArrayConstructor,
    BinaryOp,
    BitStringLiteral,
    BooleanLiteral,
    BooleanTest,
    Case,
    Coalesce,
    Collate,
    ColumnRef,
    CurrentOf,
    DefaultMarker,
    Expression,
    FieldSelect,
    GroupingSet,
    IntegerLiteral,
    IsNull,
    MinMax,
    Not,
    NullLiteral,
    NumericLiteral,
    OperatorName,
    Or,
    Parameter,
    QualifiedName,
    RowConstructor,
    SqlValueFunction,
    Star,
    StringLiteral,
    Subscript,
    TypeCast,
    TypeName,
    UnaryOp,
)
from sql.binder.bound import (
    ArrayExpr,
    BooleanTestExpr,
    BoolExpr,
    BoundExpr,
    CallExpr,
    CaseExpr,
    CaseOperand,
    CoalesceExpr,
    CollateExpr,
    ColumnVar,
    Const,
    FieldExpr,
    MinMaxExpr,
    NullTestExpr,
    RowExpr,
    SubqueryExpr,
    SubscriptExpr,
)
from sql.binder.coerce import (
    coerce,
    coerce_explicit,
    coerce_to_boolean,
    coerce_to_common,
    common_type_of,
    common_typmod,
    with_typmod,
)
from sql.binder.dispatch import HANDLERS, bind
from sql.binder.name_subscript import name_character
from sql.binder.operators import EQUALS, make_operator
from sql.binder.scope import (
    find_column,
    find_item,
    located,
    missing_column,
    missing_table,
    note_column,
    note_qualifier,
    system_column,
)
from sql.binder.tree import location
from sql.binder.type_names import resolve_type
from sql.catalog.descriptor import Table
from sql.errors import (
    CannotCoerce,
    DatatypeMismatch,
    FeatureNotSupported,
    IndeterminateDatatype,
    InvalidName,
    InvalidSchemaName,
    SqlError,
    SqlSyntaxError,
    UndefinedColumn,
    UndefinedObject,
    UndefinedParameter,
    UndefinedTable,
    WrongObjectType,
)
from sql.functions.collated import collatable
from sql.span import NO_SPAN, Span
from sql.types.catalog import (
    BOOL,
    DATE,
    INT4,
    INT8,
    JSONB,
    NAME,
    NUMERIC,
    RECORD,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    UNKNOWN,
    type_by_name,
)
from sql.types.numeric import numeric_in
from sql.types.typmod import typmod_in

if TYPE_CHECKING:
    from sql.binder.scope import Item, Scope
    from sql.binder.state import BindState, RecordShape
    from sql.types.base import SqlType

INT4_MAX: Final = 2**31 - 1
INT8_MAX: Final = 2**63 - 1
PARAMETERS_MAX: Final = 65535
COLLATIONS: Final = frozenset(("C", "POSIX", "default", "C.UTF-8", "C.utf8", "ucs_basic"))


# --- literals and parameters ---


def integer_const(value: int, span: Span) -> Const:
    """Make an int4, int8 or numeric constant, whichever holds the value."""
    if -INT4_MAX - 1 <= value <= INT4_MAX:
        return Const(value, INT4, span=span)
    if -INT8_MAX - 1 <= value <= INT8_MAX:
        return Const(value, INT8, span=span)
    return Const(Decimal(value), NUMERIC, span=span)


def _integer(_: BindState, node: IntegerLiteral, __: Scope) -> BoundExpr:
    return integer_const(node.value, node.span)


def _numeric(_: BindState, node: NumericLiteral, __: Scope) -> BoundExpr:
    return numeric_const(node.text, node.span)


def numeric_const(text: str, span: Span) -> Const:
    """Make the constant of a number's text.

    An integer type where it has the form of one and fits.
    """
    if text.lstrip("-").isdigit():
        return integer_const(int(text), span)
    return Const(numeric_in(text), NUMERIC, span=span)


def _string(_: BindState, node: StringLiteral, __: Scope) -> BoundExpr:
    return Const(node.value, UNKNOWN, span=node.span)


def _bit_string(_: BindState, node: BitStringLiteral, __: Scope) -> BoundExpr:
    raise FeatureNotSupported('type "bit" is not supported', span=node.span)


def _boolean(_: BindState, node: BooleanLiteral, __: Scope) -> BoundExpr:
    return Const(node.value, BOOL, span=node.span)


def _null(_: BindState, node: NullLiteral, __: Scope) -> BoundExpr:
    return Const(None, UNKNOWN, span=node.span)


def _parameter(state: BindState, node: Parameter, __: Scope) -> BoundExpr:
    if state.fixed_parameters or not 0 < node.number <= PARAMETERS_MAX:
        raise UndefinedParameter(f"there is no parameter ${node.number}", span=node.span)
    return state.parameter(node.number, node.span)


# --- columns ---


def _column(state: BindState, node: ColumnRef, scope: Scope) -> BoundExpr:
    if state.forbidden_column:
        raise FeatureNotSupported(state.forbidden_column, span=node.span)
    parts = node.parts
    if len(parts) == 1:
        name = parts[0]
        found = find_column(scope, name, node.span)
        if found is not None:
            level, item, position = found
            expression = item.expressions[position]
            note_column(state, level, item, expression)
            if state.recorder is not None:
                note_qualifier(state.recorder, node, level, item, scope)
            return located(expression, node.span)
        return _unqualified_other(state, name, node.span, scope)
    return _qualified(state, parts, node.span, scope)


def _unqualified_other(state: BindState, name: str, span: Span, scope: Scope) -> BoundExpr:
    level: Scope | None = scope
    while level is not None:
        for item in level.items:
            if item.columns_visible and not item.lateral_only:
                system = system_column(item, name, span)
                if system is not None:
                    return system
        level = level.parent
    relation = find_item(scope, name, span)
    if relation is not None:
        return whole_row(state, *relation, span)
    raise missing_column(scope, "", name, span)


def _qualified(state: BindState, parts: tuple[str, ...], span: Span, scope: Scope) -> BoundExpr:
    name = parts[-1]
    level, item = qualified_item(state, parts[:-1], span, scope, name)
    position = item.index.get(name)
    if position is None:
        system = system_column(item, name, span)
        if system is not None:
            return system
        notation = _column_function(state, whole_row(state, level, item, span), name, span)
        if notation is not None:
            return notation
        raise missing_column(scope, parts[-2], name, span)
    if position < 0:
        # The one check that is left to references through an alias: duplicate names inside it.
        from sql.errors import AmbiguousColumn  # noqa: PLC0415

        raise AmbiguousColumn(f'column reference "{name}" is ambiguous', span=span)
    expression = item.expressions[position]
    note_column(state, level, item, expression)
    return located(expression, span)


def qualified_item(
    state: BindState, qualifier: tuple[str, ...], span: Span, scope: Scope, column: str = "*"
) -> tuple[Scope, Item]:
    """Find the relation of ``[catalog.][schema.]table`` or raise 42P01."""
    relation_id = 0
    if len(qualifier) > 3:
        dotted = ".".join((*qualifier, column))
        raise SqlSyntaxError(
            f"improper qualified name (too many dotted names): {dotted}", span=span
        )
    if len(qualifier) == 3 and qualifier[0] != state.catalog.database_name:
        dotted = ".".join((*qualifier, column))
        raise FeatureNotSupported(
            f"cross-database references are not implemented: {dotted}", span=span
        )
    if len(qualifier) > 1:
        relation_id = _relation_id(state, qualifier[-2], qualifier[-1])
    found = None
    if relation_id >= 0:
        found = find_item(scope, qualifier[-1], span, relation_id)
    if found is None:
        raise missing_table(scope, qualifier[-1], span)
    return found


def _relation_id(state: BindState, schema: str, name: str) -> int:
    from sql.ast.query import QualifiedName  # noqa: PLC0415
    from sql.binder.from_clause import relation_oid  # noqa: PLC0415
    from sql.errors import InvalidSchemaName  # noqa: PLC0415

    try:
        relation = state.catalog.find_relation(QualifiedName(name, schema))
    except InvalidSchemaName:
        return -1
    return -1 if relation is None else relation_oid(relation)


def whole_row(state: BindState, level: Scope, item: Item, span: Span) -> BoundExpr:
    """Make the row of all of an item's columns; a scalar function's item is its one column."""
    for expression in item.expressions:
        note_column(state, level, item, expression)
    if item.whole_row_scalar:
        return located(item.expressions[0], span)
    items = tuple(located(e, span) for e in item.expressions)
    return RowExpr(items, tuple(item.names), RECORD, span=span)


def record_shape(state: BindState, expression: BoundExpr) -> RecordShape | None:
    """Return the fields of a record-typed expression, or None when they are not known."""
    if isinstance(expression, RowExpr):
        return tuple(
            (n, e.type, e.typmod) for n, e in zip(expression.names, expression.items, strict=True)
        )
    if isinstance(expression, ColumnVar):
        return state.record_shapes.get(expression.id)
    if isinstance(expression, CallExpr) and expression.function.columns:
        return tuple((n, t, -1) for n, t in expression.function.columns)
    if isinstance(expression, SubqueryExpr) and expression.kind == "scalar":
        columns = expression.plan.columns
        if len(columns) == 1:
            return state.record_shapes.get(columns[0].id)
        return tuple((c.name, c.type, c.typmod) for c in columns)
    return None


def _column_function(
    state: BindState, operand: BoundExpr, name: str, span: Span
) -> BoundExpr | None:
    from sql.binder.calls import call_by_name  # noqa: PLC0415

    return call_by_name(state, name, (operand,), span)


def _field(state: BindState, node: FieldSelect, scope: Scope) -> BoundExpr:
    operand = bind(state, node.operand, scope)
    if node.field == "*":
        raise FeatureNotSupported('row expansion via "*" is not supported here', span=node.span)
    try:
        return select_field(state, operand, node.field, node.span)
    except UndefinedColumn:
        if type(node.operand) is not ColumnRef or not isinstance(operand, RowExpr):
            raise
        # Of a table's row PostgreSQL speaks as of the table.
        raise UndefinedColumn(
            f"column {node.operand.parts[-1]}.{node.field} does not exist", span=node.operand.span
        ) from None


def select_field(state: BindState, operand: BoundExpr, name: str, span: Span) -> BoundExpr:
    """Take a field of a record, or call the function of that name (``(x).f`` is ``f(x)``)."""
    shape = record_shape(state, operand) if operand.type is RECORD else None
    if shape is not None:
        for index, (field, sql_type, typmod) in enumerate(shape):
            if field == name:
                if isinstance(operand, RowExpr):
                    return operand.items[index]
                return FieldExpr(operand, index, sql_type, typmod, span)
    notation = _column_function(state, operand, name, span)
    if notation is not None:
        return notation
    if operand.type is RECORD:
        raise UndefinedColumn(f'could not identify column "{name}" in record data type', span=span)
    raise WrongObjectType(
        f"column notation .{name} applied to type {operand.type.display_name}, "
        "which is not a composite type",
        span=location(operand),
    )


# --- casts and collations ---


def _cast(state: BindState, node: TypeCast, scope: Scope) -> BoundExpr:
    operand = node.operand
    if type(operand) is NullLiteral or type(operand) is RowConstructor:
        row = _row_of_table(state, node, scope)
        if row is not None:
            return row
    target, typmod = resolve_type(state.catalog, node.type_name)
    if type(operand) is ArrayConstructor and target.element is not None:
        bound = bind_array(state, operand, scope, target)
    else:
        bound = bind(state, operand, scope)
    if bound.type is target and typmod < 0:
        return bound
    return coerce_explicit(state, bound, target, typmod, node.span)


def _row_of_table(state: BindState, node: TypeCast, scope: Scope) -> BoundExpr | None:
    """Bind NULL or a row constructor cast to a table's row type; None for other types."""
    name = node.type_name
    if name.array_dimensions or name.modifiers or type_by_name(name.name) is not None:
        return None
    try:
        relation = state.catalog.find_relation(QualifiedName(name.name, name.schema))
    except SqlError:
        return None
    if not isinstance(relation, Table):
        return None
    columns = relation.visible_columns
    if type(node.operand) is NullLiteral:
        values: list[BoundExpr] = [Const(None, UNKNOWN, span=node.span) for _ in columns]
    else:
        assert type(node.operand) is RowConstructor
        values = [bind(state, item, scope) for item in node.operand.items]
    if len(values) != len(columns):
        few = "few" if len(values) < len(columns) else "many"
        raise CannotCoerce(
            f"cannot cast type record to {relation.name}",
            span=node.span,
            detail=f"Input has too {few} columns.",
        )
    items = tuple(
        coerce_explicit(state, value, column.type, column.typmod, node.span)
        for value, column in zip(values, columns, strict=True)
    )
    return RowExpr(items, tuple(c.name for c in columns), RECORD, span=node.span)


def _collate(state: BindState, node: Collate, scope: Scope) -> BoundExpr:
    operand = bind(state, node.operand, scope)
    # An unknown literal keeps its type: what gives it one does so below the clause.
    if operand.type is not UNKNOWN and not collatable(operand.type):
        raise DatatypeMismatch(
            f"collations are not supported by type {operand.type.display_name}", span=node.span
        )
    name = node.collation[-1]
    schema = node.collation[-2] if len(node.collation) > 1 else "pg_catalog"
    if state.catalog.schema_id(schema) is None:
        raise InvalidSchemaName(f'schema "{schema}" does not exist', span=node.span)
    if schema != "pg_catalog" or name not in COLLATIONS:
        shown = ".".join(node.collation)
        raise UndefinedObject(
            f'collation "{shown}" for encoding "UTF8" does not exist', span=node.span
        )
    state.collated = True
    return CollateExpr(operand, name, operand.type, operand.typmod, node.span)


# --- operators and logic ---


def _unary(state: BindState, node: UnaryOp, scope: Scope) -> BoundExpr:
    if node.operator.name == "-" and not node.operator.schema:
        operand_node = node.operand
        if type(operand_node) is IntegerLiteral:
            return integer_const(-operand_node.value, node.span)
        if type(operand_node) is NumericLiteral:
            return numeric_const("-" + operand_node.text, node.span)
    operand = bind(state, node.operand, scope)
    return make_operator(state, node.operator, None, operand, node.span)


def _binary(state: BindState, node: BinaryOp, scope: Scope) -> BoundExpr:
    left_node, right_node = node.left, node.right
    if type(left_node) is RowConstructor:
        from sql.binder.comparison import bind_row_operator  # noqa: PLC0415

        compared = bind_row_operator(state, node, scope)
        if compared is not None:
            return compared
    left = bind(state, left_node, scope)
    right = bind(state, right_node, scope)
    return make_operator(state, node.operator, left, right, node.span)


def _and(state: BindState, node: And, scope: Scope) -> BoundExpr:
    return _logic(state, "AND", node.operands, scope, node.span)


def _or(state: BindState, node: Or, scope: Scope) -> BoundExpr:
    return _logic(state, "OR", node.operands, scope, node.span)


def _logic(
    state: BindState, word: str, operands: tuple[Expression, ...], scope: Scope, span: Span
) -> BoundExpr:
    bound = tuple(coerce_to_boolean(state, bind(state, o, scope), word) for o in operands)
    return BoolExpr("and" if word == "AND" else "or", bound, BOOL, span=span)


def _not(state: BindState, node: Not, scope: Scope) -> BoundExpr:
    operand = coerce_to_boolean(state, bind(state, node.operand, scope), "NOT")
    return BoolExpr("not", (operand,), BOOL, span=node.span)


def _is_null(state: BindState, node: IsNull, scope: Scope) -> BoundExpr:
    operand = bind(state, node.operand, scope)
    if operand.type is UNKNOWN and isinstance(operand, Const):
        operand = coerce(state, operand, TEXT)
    is_row = operand.type is RECORD
    return NullTestExpr(operand, node.negated, BOOL, is_row, span=node.span)


def _boolean_test(state: BindState, node: BooleanTest, scope: Scope) -> BoundExpr:
    word = f"IS {'NOT ' if node.negated else ''}{node.value.upper()}"
    operand = coerce_to_boolean(state, bind(state, node.operand, scope), word)
    return BooleanTestExpr(operand, node.value, node.negated, BOOL, span=node.span)


# --- conditionals ---


def _case(state: BindState, node: Case, scope: Scope) -> BoundExpr:
    from sql.binder.calls import forbid_sets  # noqa: PLC0415

    with forbid_sets(scope, "CASE"):
        operand: BoundExpr | None = None
        if node.operand is not None:
            operand = bind(state, node.operand, scope)
            if operand.type is UNKNOWN:
                operand = coerce(state, operand, TEXT)
        conditions: list[BoundExpr] = []
        results: list[BoundExpr] = []
        for when in node.whens:
            condition = bind(state, when.condition, scope)
            if operand is not None:
                placeholder = CaseOperand(operand.type, operand.typmod, operand.span)
                condition = make_operator(state, EQUALS, placeholder, condition, when.span)
            conditions.append(coerce_to_boolean(state, condition, "CASE/WHEN"))
            results.append(bind(state, when.result, scope))
        default = None if node.default is None else bind(state, node.default, scope)
    # The default counts first when types are matched, as error messages show.
    ordered = [Const(None, UNKNOWN) if default is None else default, *results]
    target = common_type_of(state, ordered, "CASE")
    results = [coerce_to_common(state, r, target, "CASE/WHEN") for r in results]
    if default is not None:
        default = coerce_to_common(state, default, target, "CASE/ELSE")
    branches = results if default is None else [*results, default]
    return CaseExpr(
        operand,
        tuple(zip(conditions, results, strict=True)),
        default,
        target,
        common_typmod(branches, target),
        node.span,
    )


def _coalesce(state: BindState, node: Coalesce, scope: Scope) -> BoundExpr:
    from sql.binder.calls import forbid_sets  # noqa: PLC0415

    with forbid_sets(scope, "COALESCE"):
        args = [bind(state, a, scope) for a in node.args]
    target = common_type_of(state, args, "COALESCE")
    bound = tuple(coerce_to_common(state, a, target, "COALESCE") for a in args)
    return CoalesceExpr(bound, target, common_typmod(bound, target), node.span)


def _min_max(state: BindState, node: MinMax, scope: Scope) -> BoundExpr:
    from sql.binder.sorting import require_ordering  # noqa: PLC0415

    word = node.kind.upper()
    args = [bind(state, a, scope) for a in node.args]
    target = common_type_of(state, args, word)
    bound = tuple(coerce_to_common(state, a, target, word) for a in args)
    require_ordering(state, bound[0], comparison=True)
    return MinMaxExpr(node.kind, bound, target, common_typmod(bound, target), node.span)


# --- arrays and rows ---


def _array(state: BindState, node: ArrayConstructor, scope: Scope) -> BoundExpr:
    return bind_array(state, node, scope, None)


def bind_array(
    state: BindState, node: ArrayConstructor, scope: Scope, target: SqlType | None
) -> BoundExpr:
    """Bind ARRAY[...]; ``target`` is the array type of a cast around it.

    Which decides for its elements.
    """
    elements: list[BoundExpr] = []
    nested = False
    for element in node.elements:
        if type(element) is ArrayConstructor:
            nested = True
            elements.append(bind_array(state, element, scope, target))
        else:
            bound = bind(state, element, scope)
            if bound.type.element is not None:
                nested = True
            elements.append(bound)
    if target is not None:
        return _array_of_target(state, node, elements, target, nested=nested)
    if not elements:
        raise IndeterminateDatatype(
            "cannot determine type of empty array",
            span=node.span,
            hint="Explicitly cast to the desired type, for example ARRAY[]::integer[].",
        )
    common = common_type_of(state, elements, "ARRAY")
    array = common if nested else common.array
    if array is None:
        raise UndefinedObject(
            f"could not find array type for data type {common.display_name}", span=node.span
        )
    items = tuple(coerce_to_common(state, e, common, "ARRAY") for e in elements)
    return ArrayExpr(items, array, nested, common_typmod(items, common), node.span)


def _array_of_target(
    state: BindState,
    node: ArrayConstructor,
    elements: list[BoundExpr],
    target: SqlType,
    *,
    nested: bool,
) -> BoundExpr:
    element_type = target if nested else target.element
    assert element_type is not None
    items: list[BoundExpr] = []
    for element in elements:
        wanted = element_type
        if not state.resolver.can_coerce(element.type, wanted, "explicit"):
            raise CannotCoerce(
                f"cannot cast type {element.type.display_name} to {wanted.display_name}",
                span=location(element),
            )
        items.append(coerce(state, element, wanted, "explicit"))
    return ArrayExpr(tuple(items), target, nested, span=node.span)


def _subscript(state: BindState, node: Subscript, scope: Scope) -> BoundExpr:
    chain: list[Subscript] = []
    base: Expression = node
    while type(base) is Subscript:
        chain.append(base)
        base = base.operand
    chain.reverse()
    operand = bind(state, base, scope)
    if operand.type is JSONB:
        return _jsonb_subscripts(state, operand, chain, scope)
    if operand.type is NAME and len(chain) == 1:
        return bind(state, name_character(chain[0]), scope)
    if operand.type.element is None:
        raise DatatypeMismatch(
            f"cannot subscript type {operand.type.display_name} "
            "because it does not support subscripting",
            span=location(operand),
        )
    is_slice = any(s.is_slice for s in chain)
    subscripts: list[tuple[BoundExpr | None, BoundExpr | None, bool]] = []
    for part in chain:
        lower = None if part.lower is None else bind_subscript_index(state, part.lower, scope)
        upper = None if part.upper is None else bind_subscript_index(state, part.upper, scope)
        if is_slice and not part.is_slice:
            # Beside a slice, a plain subscript n means 1:n.
            subscripts.append((Const(1, INT4), lower, True))
        else:
            subscripts.append((lower, upper, part.is_slice))
    result = operand.type if is_slice else operand.type.element
    return SubscriptExpr(operand, tuple(subscripts), result, operand.typmod, node.span)


def bind_subscript_index(state: BindState, node: Expression, scope: Scope) -> BoundExpr:
    """Bind an array subscript as int4; 42804."""
    bound = bind(state, node, scope)
    if not state.resolver.can_coerce(bound.type, INT4, "assignment"):
        raise DatatypeMismatch("array subscript must have type integer", span=location(bound))
    return coerce(state, bound, INT4, "assignment")


def _jsonb_subscripts(
    state: BindState, operand: BoundExpr, chain: list[Subscript], scope: Scope
) -> BoundExpr:
    result = operand
    for part in chain:
        if part.is_slice:
            place = part.upper or part.lower or part
            raise DatatypeMismatch("jsonb subscript does not support slices", span=place.span)
        index = bind_jsonb_subscript(state, part, scope)
        result = make_operator(state, OperatorName("->"), result, index, part.span)
    return result


def bind_jsonb_subscript(state: BindState, part: Subscript, scope: Scope) -> BoundExpr:
    """Bind a subscript of jsonb as int4 or text; 42804."""
    assert part.lower is not None
    index = bind(state, part.lower, scope)
    if index.type is INT4 or index.type is TEXT:
        return index
    if index.type is UNKNOWN:
        return coerce(state, index, TEXT)
    if state.resolver.can_coerce(index.type, INT4, "implicit"):
        return coerce(state, index, INT4)
    if state.resolver.can_coerce(index.type, TEXT, "implicit"):
        return coerce(state, index, TEXT)
    raise DatatypeMismatch(
        f"subscript type {index.type.display_name} is not supported",
        span=location(index),
        hint="jsonb subscript must be coercible to either integer or text.",
    )


def _row(state: BindState, node: RowConstructor, scope: Scope) -> BoundExpr:
    from sql.binder.targets import expand_row_items  # noqa: PLC0415

    items = expand_row_items(state, node.items, scope)
    names = tuple(f"f{n}" for n in range(1, len(items) + 1))
    # Unknown literals stay so: a comparison field by field may still give them a type.
    return RowExpr(tuple(items), names, RECORD, span=node.span)


# --- special values ---

_USER_FUNCTIONS: Final = {
    "current_role": "current_user",
    "current_user": "current_user",
    "user": "current_user",
    "session_user": "session_user",
    "current_catalog": "current_database",
    "current_schema": "current_schema",
}
_CLOCK_TYPES: Final = {
    "current_date": DATE,
    "current_time": TIMETZ,
    "current_timestamp": TIMESTAMPTZ,
    "localtime": TIME,
    "localtimestamp": TIMESTAMP,
}


def _value_function(state: BindState, node: SqlValueFunction, _: Scope) -> BoundExpr:
    from sql.binder.calls import call_by_name  # noqa: PLC0415

    name = _USER_FUNCTIONS.get(node.name)
    if name is not None:
        call = call_by_name(state, name, (), node.span)
        assert call is not None, name
        return call
    target = _CLOCK_TYPES[node.name]
    now = call_by_name(state, "now", (), node.span)
    assert now is not None
    result = coerce(state, now, target, "assignment", node.span)
    if node.precision is None:
        return result
    typmod = typmod_in(target, (node.precision,), ())
    return with_typmod(result, typmod, explicit=True, span=node.span)


def _star(state: BindState, node: Star, scope: Scope) -> BoundExpr:
    """Bind ``t.*`` where no list takes its columns: it is t's row."""
    if node.qualifier:
        level, item = qualified_item(state, node.qualifier, node.span, scope)
        return whole_row(state, level, item, node.span)
    raise SqlSyntaxError('syntax error at or near "*"', span=node.span)


def _default_marker(_: BindState, node: DefaultMarker, __: Scope) -> BoundExpr:
    raise SqlSyntaxError("DEFAULT is not allowed in this context", span=node.span)


def _current_of(_: BindState, node: CurrentOf, __: Scope) -> BoundExpr:
    raise FeatureNotSupported("WHERE CURRENT OF is not supported", span=node.span)


def _grouping_set(_: BindState, node: GroupingSet, __: Scope) -> BoundExpr:
    raise SqlSyntaxError("grouping sets are only allowed in GROUP BY", span=node.span)


HANDLERS.update(
    {
        IntegerLiteral: _integer,
        NumericLiteral: _numeric,
        StringLiteral: _string,
        BitStringLiteral: _bit_string,
        BooleanLiteral: _boolean,
        NullLiteral: _null,
        Parameter: _parameter,
        ColumnRef: _column,
        FieldSelect: _field,
        TypeCast: _cast,
        Collate: _collate,
        UnaryOp: _unary,
        BinaryOp: _binary,
        And: _and,
        Or: _or,
        Not: _not,
        IsNull: _is_null,
        BooleanTest: _boolean_test,
        Case: _case,
        Coalesce: _coalesce,
        MinMax: _min_max,
        ArrayConstructor: _array,
        Subscript: _subscript,
        RowConstructor: _row,
        SqlValueFunction: _value_function,
        Star: _star,
        DefaultMarker: _default_marker,
        CurrentOf: _current_of,
        GroupingSet: _grouping_set,
    }
)
__all__ = [
    "NO_SPAN",
    "InvalidName",
    "TypeName",
    "UndefinedTable",
    "bind",
    "record_shape",
    "select_field",
    "whole_row",
]
