"""Function calls: resolution, argument coercion, set-returning functions, function-notation casts.

Aggregates and window functions go on to ``aggregation`` and ``windows``, which register them with
their query level and return the column that will hold the result.

Source: PostgreSQL docs, "Value Expressions" (function calls), "Type Conversion": "Functions".
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from sql.ast.query import Expression, FunctionCall
from sql.binder.bound import ArrayExpr, BoundExpr, CallExpr, CollateExpr, Const
from sql.binder.coerce import coerce, resolve_unknown
from sql.binder.dispatch import HANDLERS, bind
from sql.binder.operators import polymorphic_signature
from sql.binder.resolve import POLYMORPHIC, Candidate, Routine
from sql.errors import (
    AmbiguousFunction,
    DatatypeMismatch,
    FeatureNotSupported,
    InvalidSchemaName,
    SqlSyntaxError,
    UndefinedFunction,
    WrongObjectType,
)
from sql.functions.json_records import RECORD_READERS, record_reader
from sql.functions.registry import Aggregate, Function, Operator, WindowFunction
from sql.types.base import SqlType
from sql.types.catalog import ANY, BOOL, FLOAT8, INT4, JSONB, RECORD, UNKNOWN, type_by_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql.binder.scope import Scope
    from sql.binder.state import BindState
    from sql.span import Span

CLAUSE_NOUNS = {
    "where": "WHERE",
    "having": "HAVING",
    "join": "JOIN conditions",
    "from function": "functions in FROM",
    "group": "GROUP BY",
    "limit": "LIMIT",
    "offset": "OFFSET",
    "returning": "RETURNING",
    "values": "VALUES",
    "update": "UPDATE",
    "filter": "FILTER",
    "check": "check constraints",
    "default": "DEFAULT expressions",
    "index": "index expressions",
    "predicate": "index predicates",
    "using": "transform expressions",
    "execute": "EXECUTE parameters",
    "generated": "column generation expressions",
    "copy": "COPY FROM WHERE conditions",
    "window": "window definitions",
    "frame": "window ROWS/RANGE/GROUPS",
    "on conflict": "ON CONFLICT DO UPDATE",
    "call": "CALL arguments",
    "from subquery": "FROM clause of their own query level",
}
SET_CLAUSES = frozenset(("select", "order", "group", "distinct", "from function"))


@contextmanager
def forbid_sets(scope: Scope, construct: str) -> Iterator[None]:
    """Raise 0A000 when a set-returning function was met inside ``construct``."""
    select = scope.select
    before = 0 if select is None else len(select.sets)
    yield
    if select is not None and len(select.sets) > before:
        raise FeatureNotSupported(
            f"set-returning functions are not allowed in {construct}",
            span=select.sets[before].span,
            hint="You might be able to move the set-returning function into a LATERAL FROM item.",
        )


def _call(state: BindState, node: FunctionCall, scope: Scope) -> BoundExpr:
    if node.syntax == "grouping":
        from sql.binder.aggregation import bind_grouping_call  # noqa: PLC0415

        return bind_grouping_call(state, node, scope)
    name = node.name[-1]
    if name in state.registry.aggregates or node.within_group:
        from sql.binder.aggregation import bind_aggregate_or_window  # noqa: PLC0415

        return bind_aggregate_or_window(state, node, scope)
    return bind_plain_call(state, node, scope)


def bind_plain_call(state: BindState, node: FunctionCall, scope: Scope) -> BoundExpr:
    """Bind a call whose name means no aggregate here."""
    args = bind_arguments(state, node.args, scope)
    candidate = resolve_call(state, node, args)
    if isinstance(candidate, SqlType):
        return _function_cast(state, args[0], candidate, node.span)
    routine = candidate.routine
    if isinstance(routine, WindowFunction):
        from sql.binder.windows import bind_window_function  # noqa: PLC0415

        return bind_window_function(state, node, candidate, args, scope)
    assert isinstance(routine, Function)
    _check_plain(node, routine)
    if routine.returns_set:
        return _register_set(state, candidate, args, node, scope)
    return build_call(state, candidate, args, node.span)


HANDLERS[FunctionCall] = _call


def bind_arguments(
    state: BindState, args: tuple[Expression, ...], scope: Scope
) -> tuple[BoundExpr, ...]:
    """Bind a call's arguments."""
    return tuple([bind(state, a, scope) for a in args])


def _check_plain(node: FunctionCall, routine: Function) -> None:
    shown = ".".join(node.name)
    problem = ""
    if node.star:
        problem = f"{shown}(*) specified, but {shown} is not an aggregate function"
    elif node.distinct:
        problem = f"DISTINCT specified, but {shown} is not an aggregate function"
    elif node.within_group:
        problem = f"WITHIN GROUP specified, but {shown} is not an aggregate function"
    elif node.order_by:
        problem = f"ORDER BY specified, but {shown} is not an aggregate function"
    elif node.filter is not None:
        problem = f"FILTER specified, but {shown} is not an aggregate function"
    elif node.over is not None:
        problem = f"OVER specified, but {shown} is not a window function nor an aggregate function"
    if problem:
        raise WrongObjectType(problem, span=node.span)
    assert routine is not None


# PostgreSQL has forms of these for types that are not here (macaddr, bit, multirange), and none of
# all the forms is preferred: where the argument's type is not known it cannot choose.
_HAS_ABSENT_FORMS: Final = frozenset({"trunc", "bit_count", "unnest"})


def resolve_call(
    state: BindState, node: FunctionCall, args: tuple[BoundExpr, ...]
) -> Candidate | SqlType:
    """Choose the routine of a call, or the target type of a function-notation cast; 42883.

    42725.
    """
    if any(node.arg_names):
        _check_named(node)
    schema = node.name[-2] if len(node.name) > 1 else ""
    name = node.name[-1]
    if schema and schema != "pg_catalog":
        if state.catalog.schema_id(schema) is None:
            raise InvalidSchemaName(f'schema "{schema}" does not exist', span=node.span)
        name = f"{schema}.{name}"
        if name not in state.registry.functions:
            raise _no_function(node, args)
    actual = tuple(a.type for a in args)
    found = choose_routine(
        state, name, actual, node.arg_names, variadic=node.variadic, star=node.star
    )
    if found == "ambiguous" or (name in _HAS_ABSENT_FORMS and actual == (UNKNOWN,)):
        raise AmbiguousFunction(
            f"function {_signature(node, args)} is not unique",
            span=node.span,
            hint="Could not choose a best candidate function. "
            "You might need to add explicit type casts.",
        )
    if found is None:
        raise _no_function(node, args)
    return found


def _check_named(node: FunctionCall) -> None:
    seen: set[str] = set()
    for name, arg in zip(node.arg_names, node.args, strict=True):
        if name:
            if name in seen:
                raise SqlSyntaxError(f'argument name "{name}" used more than once', span=arg.span)
            seen.add(name)
        elif seen:
            raise SqlSyntaxError("positional argument cannot follow named argument", span=arg.span)


def choose_routine(
    state: BindState,
    name: str,
    actual: tuple[SqlType, ...],
    names: tuple[str, ...] = (),
    *,
    variadic: bool = False,
    star: bool = False,
) -> Candidate | SqlType | Literal["ambiguous"] | None:
    """Choose by name and argument types alone (see ``resolve_call``)."""
    resolver = state.resolver
    candidates = resolver.function_candidates(name, len(actual), names, variadic=variadic)
    exact = [
        c
        for c in candidates
        if all(a is d for a, d in zip(actual, c.types, strict=True)) or (star and not actual)
    ]
    if exact:
        return exact[0]
    if len(actual) == 1 and not any(names) and not variadic:
        target = type_by_name(name)
        if target is not None and _is_function_cast(state, actual[0], target):
            return target
    if not candidates:
        return None
    return resolver.choose(candidates, actual)


def _is_function_cast(state: BindState, source: SqlType, target: SqlType) -> bool:
    if target.kind == "p":
        return False
    if source is UNKNOWN:
        return True
    method, _ = state.resolver.pathway(source, target, "explicit")
    if method == "text":
        return not (source is RECORD and target.category == "S")
    # Casts by a function are found as that function; without one of this name they serve as well.
    return method in ("relabel", "function")


def _function_cast(state: BindState, operand: BoundExpr, target: SqlType, span: Span) -> BoundExpr:
    return coerce(state, operand, target, "explicit", span)


def _signature(node: FunctionCall, args: tuple[BoundExpr, ...]) -> str:
    names = node.arg_names or ("",) * len(args)
    shown = ", ".join(
        f"{n} => {a.type.display_name}" if n else a.type.display_name
        for n, a in zip(names, args, strict=True)
    )
    return f"{'.'.join(node.name)}({shown})"


def _no_function(node: FunctionCall, args: tuple[BoundExpr, ...]) -> UndefinedFunction:
    message = f"function {_signature(node, args)} does not exist"
    if node.order_by and not node.within_group:
        hint = (
            "No aggregate function matches the given name and argument types. "
            "Perhaps you misplaced ORDER BY; ORDER BY must appear after all regular "
            "arguments of the aggregate."
        )
    else:
        hint = (
            "No function matches the given name and argument types. "
            "You might need to add explicit type casts."
        )
    return UndefinedFunction(message, span=node.span, hint=hint)


def call_by_name(
    state: BindState, name: str, args: tuple[BoundExpr, ...], span: Span
) -> BoundExpr | None:
    """Call a plain function by name, or apply the cast of that type name.

    None when neither exists.
    """
    found = choose_routine(state, name, tuple(a.type for a in args))
    if isinstance(found, SqlType):
        return _function_cast(state, args[0], found, span)
    if not isinstance(found, Candidate) or not isinstance(found.routine, Function):
        return None
    if found.routine.returns_set:
        return None
    return build_call(state, found, args, span)


def build_call(
    state: BindState, candidate: Candidate, args: tuple[BoundExpr, ...], span: Span
) -> CallExpr:
    """Make the call of a chosen function with coerced and packed arguments."""
    function = candidate.routine
    assert isinstance(function, Function)
    if function.volatility == "volatile":
        state.volatile = True
    bound, result = prepare_arguments(state, candidate, args, span)
    if function.name in RECORD_READERS:
        return _record_call(state, function, bound, span)
    if any(t in POLYMORPHIC for _, t in function.columns):
        columns = tuple(
            (n, polymorphic_signature(state, candidate.types, args, t)[1])
            for n, t in function.columns
        )
        function = replace(function, columns=columns)
    return CallExpr(function, bound, result, span=span)


def _record_call(
    state: BindState, function: Function, args: tuple[BoundExpr, ...], span: Span
) -> CallExpr:
    """Give json_populate_record and its kin the columns of their first argument."""
    from sql.binder.expression import record_shape  # noqa: PLC0415

    if "_populate_" in function.name and args[0].type is not RECORD:
        raise DatatypeMismatch(f"first argument of {function.name} must be a row type")
    shape = record_shape(state, args[0]) if args[0].type is RECORD else None
    if shape is not None:
        function = record_reader(function, shape)
    return CallExpr(function, args, RECORD, span=span)


def prepare_arguments(
    state: BindState, candidate: Candidate, args: tuple[BoundExpr, ...], span: Span
) -> tuple[tuple[BoundExpr, ...], SqlType]:
    """Coerce arguments, put named ones in order, pack variadic ones.

    Returns them and the result type.
    """
    routine = candidate.routine
    assert not isinstance(routine, Operator)
    declared = candidate.types
    result = routine.return_type
    if not POLYMORPHIC.isdisjoint(declared):
        types, result = polymorphic_signature(state, declared, args, result)
    else:
        types = declared
    if routine.name in _SHOWING:
        state.collated |= routine.name == "pg_collation_for"
        if type(args[0]) in _LITERALS:
            # What is shown of a literal is what it is before anything gives it a type.
            return args, result
    coerced = tuple([_argument(state, a, t) for a, t in zip(args, types, strict=True)])
    if candidate.order:
        coerced = tuple(
            _gap(routine.arg_types[parameter]) if call < 0 else coerced[call]
            for parameter, call in enumerate(candidate.order)
        )
    last = coerced[-1] if coerced else None
    if (
        isinstance(last, ArrayExpr)
        and routine_is_variadic_any(routine)
        and not candidate.expanded
        and not last.nested
    ):
        return (*coerced[:-1], *last.elements), result
    if candidate.expanded and declared[-1] is not ANY:
        coerced = _pack_variadic(coerced, candidate.expanded, span)
    return coerced, result


_SHOWING: Final = frozenset(("pg_typeof", "pg_collation_for"))
_LITERALS: Final = frozenset((Const, CollateExpr))


def routine_is_variadic_any(routine: Routine) -> bool:
    """Tell whether a function takes any number of arguments of any types."""
    return getattr(routine, "variadic", False) and routine.arg_types[-1] is ANY


_GAP_VALUES: Final = {INT4: 0, FLOAT8: 0.0, BOOL: False, JSONB: "{}"}


def _gap(declared: SqlType) -> BoundExpr:
    """Fill in the default of an argument before one that was given by name.

    The signatures do not hold default values; of the built-ins with such gaps all have the neutral
    value of the type.
    """
    return Const(_GAP_VALUES.get(declared), declared)


def _argument(state: BindState, argument: BoundExpr, declared: SqlType) -> BoundExpr:
    if argument.type is declared:
        return argument
    if declared is ANY or declared is RECORD:
        return _unknown_any(state, argument)
    return coerce(state, argument, declared)


def _unknown_any(state: BindState, argument: BoundExpr) -> BoundExpr:
    if argument.type is UNKNOWN and not isinstance(argument, Const):
        return argument
    return resolve_unknown(state, argument)


def _pack_variadic(args: tuple[BoundExpr, ...], count: int, span: Span) -> tuple[BoundExpr, ...]:
    fixed = len(args) - count
    rest = args[fixed:]
    element = rest[0].type
    assert element.array is not None
    return (*args[:fixed], ArrayExpr(rest, element.array, span=span))


def _register_set(
    state: BindState,
    candidate: Candidate,
    args: tuple[BoundExpr, ...],
    node: FunctionCall,
    scope: Scope,
) -> BoundExpr:
    call = build_call(state, candidate, args, node.span)
    if scope.clause == "from function":
        raise FeatureNotSupported(
            "set-returning functions must appear at top level of FROM", span=node.span
        )
    select = scope.select
    if select is None or scope.clause not in SET_CLAUSES:
        noun = CLAUSE_NOUNS.get(scope.clause, scope.clause.upper())
        raise FeatureNotSupported(
            f"set-returning functions are not allowed in {noun}", span=node.span
        )
    for tracker in state.trackers:
        tracker.sets.append(node.span)
    return select.add_set(state, call, node.name[-1])


def bind_from_function(
    state: BindState, node: Expression, scope: Scope
) -> tuple[BoundExpr, Function | None]:
    """Bind a call at the top level of FROM; returns it and the function when it is a plain call."""
    if type(node) is not FunctionCall or node.syntax == "grouping":
        return bind(state, node, scope), None
    name = node.name[-1]
    if name in state.registry.aggregates or node.star:
        return bind(state, node, scope), None
    args = bind_arguments(state, node.args, scope)
    candidate = resolve_call(state, node, args)
    if isinstance(candidate, SqlType):
        return _function_cast(state, args[0], candidate, node.span), None
    if isinstance(candidate.routine, Aggregate | WindowFunction):
        return bind(state, node, scope), None
    routine: Routine | Operator = candidate.routine
    assert isinstance(routine, Function)
    _check_plain(node, routine)
    return build_call(state, candidate, args, node.span), routine
