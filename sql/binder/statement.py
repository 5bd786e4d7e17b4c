"""Entry points: binding whole statements and stand-alone expressions.

``bind_statement`` is for queries and DML; ``bind_expression`` for the expressions of DDL and COPY,
where ``purpose`` says what they may contain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

# Imported for their handlers of expression classes.
from sql.binder import comparison, expression, subquery
from sql.binder.bound import BoundExpr, BoundStatement, CallExpr, CastExpr, OutputColumn
from sql.binder.coerce import coerce_assignment, coerce_to_boolean, resolve_unknown
from sql.binder.collation import assign_collations, assign_to_expression
from sql.binder.dispatch import HANDLERS, bind
from sql.binder.query import bind_query
from sql.binder.resolve import Resolver
from sql.binder.scope import Scope, item_over
from sql.binder.state import BindState, BoundQuery
from sql.binder.tree import location, walk
from sql.errors import (
    DatatypeMismatch,
    InvalidObjectDefinition,
    StatementTooComplex,
)
from sql.functions.builtin import REGISTRY
from sql.types.base import NO_TYPMOD, SqlType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sql.ast.query import DmlStatement, Expression
    from sql.catalog.catalog import Catalog
    from sql.functions.registry import Registry

Purpose = Literal[
    "default", "check", "generated", "index", "predicate", "using", "copy", "execute", "limit"
]
Kind = Literal["select", "insert", "update", "delete"]

_KINDS: Final[dict[str, Kind]] = {"Insert": "insert", "Update": "update", "Delete": "delete"}
_RESOLVERS: Final[dict[int, Resolver]] = {}
_SUBQUERY: Final = {
    "default": "cannot use subquery in DEFAULT expression",
    "check": "cannot use subquery in check constraint",
    "generated": "cannot use subquery in column generation expression",
    "index": "cannot use subquery in index expression",
    "predicate": "cannot use subquery in index predicate",
    "using": "cannot use subquery in transform expression",
    "copy": "cannot use subquery in COPY FROM WHERE condition",
    "execute": "cannot use subquery in EXECUTE parameter",
}
_BOOLEAN: Final = {"check": "CHECK", "predicate": "WHERE", "copy": "WHERE"}
_IMMUTABLE: Final = {
    "index": "functions in index expression must be marked IMMUTABLE",
    "predicate": "functions in index predicate must be marked IMMUTABLE",
    "generated": "generation expression is not immutable",
}
_HANDLER_MODULES: Final = (comparison, expression, subquery)


def resolver_for(registry: Registry) -> Resolver:
    """Return the registry's resolver, whose memory is shared by all statements."""
    found = _RESOLVERS.get(id(registry))
    if found is None:
        found = _RESOLVERS[id(registry)] = Resolver(registry)
    return found


def new_state(
    catalog: Catalog, registry: Registry, parameter_types: Sequence[SqlType | None]
) -> BindState:
    """Make the state of one binding run."""
    assert HANDLERS
    return BindState(catalog, resolver_for(registry), parameter_types, _bind_below)


def _bind_below(state: BindState, query: DmlStatement, scope: Scope | None) -> BoundQuery:
    return bind_query(state, query, scope)


def bind_statement(
    statement: DmlStatement,
    catalog: Catalog,
    parameter_types: Sequence[SqlType | None] = (),
    *,
    registry: Registry = REGISTRY,
    fixed_parameters: bool = False,
) -> BoundStatement:
    """Resolve names and types of a query or DML statement; None leaves a parameter's type open.

    With ``fixed_parameters`` there are no parameters (42P02), as in the simple protocol. Raises the
    errors of PostgreSQL's parse analysis (classes 42, 0A, 22), and 54001 for too deep nesting.
    """
    state = new_state(catalog, registry, parameter_types)
    state.fixed_parameters = fixed_parameters
    try:
        bound = bind_query(state, statement, None)
        plan = assign_collations(bound.plan) if state.collated else bound.plan
    except RecursionError:
        raise too_deep() from None
    name = type(statement).__name__
    kind = _KINDS.get(name, "select")
    return BoundStatement(
        kind,
        plan,
        bound.columns,
        state.final_parameters(),
        tuple(state.relations),
        tuple(state.privileges),
        has_returning=bool(getattr(statement, "returning", ())),
        volatile=state.volatile,
        view_privileges=tuple(state.view_privileges),
        insert_columns=tuple(state.insert_columns.items()),
    )


def too_deep() -> StatementTooComplex:
    """Make the error for a statement nested beyond what the interpreter's stack holds."""
    return StatementTooComplex(
        "stack depth limit exceeded", hint="Simplify the statement: it is nested too deeply."
    )


def bind_expression(
    expr: Expression,
    columns: Sequence[OutputColumn],
    catalog: Catalog,
    *,
    target_type: SqlType | None = None,
    target_typmod: int = NO_TYPMOD,
    purpose: Purpose | str,
    relation: str = "",
    column: str = "",
    collations: Sequence[str] = (),
    registry: Registry = REGISTRY,
) -> BoundExpr:
    """Bind one expression over a row of ``columns``, whose collations are in ``collations``.

    With ``target_type`` the result is coerced as for assignment to column ``column``; checks,
    predicates and COPY's WHERE are boolean. ``purpose`` chooses PostgreSQL's refusals (0A000,
    42803, 42P20, 42P17); ``relation`` qualifies columns.
    """
    state = new_state(catalog, registry, ())
    state.fixed_parameters = True
    state.forbidden_subquery = _SUBQUERY.get(purpose, "")
    if purpose == "default":
        state.forbidden_column = "cannot use column reference in DEFAULT expression"
    scope = Scope(None, purpose)
    names = [c.name for c in columns]
    scope.items = scope.all_items = [item_over(relation, names, tuple(columns))]
    try:
        bound = bind(state, expr, scope)
    except RecursionError:
        raise too_deep() from None
    if purpose in _BOOLEAN:
        bound = coerce_to_boolean(state, bound, _BOOLEAN[purpose])
    elif target_type is not None:
        bound = _to_target(state, bound, target_type, target_typmod, purpose, column)
    else:
        bound = resolve_unknown(state, bound)
    if state.collated or any(collations):
        bound = assign_to_expression(bound, columns, collations)
    message = _IMMUTABLE.get(purpose)
    if message is not None and not is_immutable(bound):
        raise InvalidObjectDefinition(message)
    return bound


def _to_target(
    state: BindState,
    bound: BoundExpr,
    target: SqlType,
    typmod: int,
    purpose: str,
    column: str,
) -> BoundExpr:
    if state.resolver.can_coerce(bound.type, target, "assignment"):
        return coerce_assignment(state, bound, target, typmod, column)
    name = bound.type.display_name
    hint = "You will need to rewrite or cast the expression."
    if purpose == "default":
        message = (
            f'column "{column}" is of type {target.display_name} '
            f"but default expression is of type {name}"
        )
    elif purpose == "generated":
        message = (
            f'column "{column}" is of type {target.display_name} '
            f"but generation expression is of type {name}"
        )
    elif purpose == "execute":
        raise DatatypeMismatch(
            f"parameter ${column} of type {name} cannot be coerced "
            f"to the expected type {target.display_name}",
            span=location(bound),
            hint=hint,
        )
    elif purpose == "using":
        message = (
            f'result of USING clause for column "{column}" cannot be cast automatically '
            f"to type {target.display_name}"
        )
        hint = "You might need to add an explicit cast."
    else:
        message = (
            f'column "{column}" is of type {target.display_name} but expression is of type {name}'
        )
    raise DatatypeMismatch(message, hint=hint)


def is_immutable(bound: BoundExpr) -> bool:
    """Tell whether an expression depends on nothing but its columns."""
    for node in walk(bound):
        if isinstance(node, CallExpr) and node.function.volatility != "immutable":
            return False
        if isinstance(node, CastExpr):
            cast = node.cast
            if cast is not None and cast.function is not None:
                if cast.function.volatility != "immutable":
                    return False
            elif node.method == "text" and _text_cast_depends_on_session(node):
                return False
    return True


def _text_cast_depends_on_session(node: CastExpr) -> bool:
    """Tell whether a cast by text reads or writes dates, intervals or reg types."""
    for sql_type in (node.operand.type, node.type):
        element = sql_type.element or sql_type
        if element.category in ("D", "T") or element.name.startswith("reg"):
            return True
    return False


def expression_type_name(bound: BoundExpr) -> str:
    """Return the expression's type as PostgreSQL shows it in messages."""
    return bound.type.display_name
