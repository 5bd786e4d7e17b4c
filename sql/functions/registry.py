"""Signatures of functions, operators, casts and aggregates, and the tables to look them up.

An implementation takes and returns datums (``sql.types.base``). ``strict`` ones never see None: the
compiled expression answers NULL without calling. ``inline`` is a Python expression template with
``{0}``, ``{1}``... for the arguments (each is a simple name, never None) that the code generator
pastes in place of the call; it may use only builtins and must compute exactly what
``implementation`` does, errors included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sql.types.base import SqlType

Volatility = Literal["immutable", "stable", "volatile"]


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A scalar or set-returning function.

    ``implementation(*args)``; with ``needs_context`` the ExecutionContext comes first; with
    ``is_async`` it is a coroutine function. ``returns_set``: it returns an iterable of datums (of
    tuples when ``columns`` is set). ``variadic``: the last entry of ``arg_types`` is an array type
    (or ANY); the implementation receives the array (``ArrayValue``), for VARIADIC "any" all
    arguments one by one. ``defaults`` trailing arguments may be left out; the implementation then
    gets fewer. ``needs_types``: the tuple of the actual argument types (SqlType) is passed as
    keyword ``types`` (polymorphic functions such as array_agg, jsonb_build_object, format).
    """

    oid: int
    name: str
    arg_types: tuple[SqlType, ...]
    return_type: SqlType
    implementation: Callable[..., Any]
    strict: bool = True
    volatility: Volatility = "immutable"
    needs_context: bool = False
    needs_types: bool = False
    is_async: bool = False
    returns_set: bool = False
    columns: tuple[tuple[str, SqlType], ...] = ()
    variadic: bool = False
    defaults: int = 0
    arg_names: tuple[str, ...] = ()
    inline: str = ""
    schema: str = "pg_catalog"
    result_name: str = ""
    """Name of the one OUT column, if the result is a scalar (json_array_elements: ``value``)."""


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """An aggregate.

    ``create()`` makes a state, ``step(state, *args)`` returns the new one, ``finish(state)`` the
    datum.

    ``strict``: rows with a NULL argument are skipped before ``step``. ``combine(a, b)`` merges
    partial states. ``ordered_set``: direct arguments come first in ``arg_types`` and are passed to
    ``finish(state, *direct)``; the rest are the sorted ones. ``code`` names a fast path the
    executor has of its own: count_star, count, sum_int, sum_numeric, sum_float, min, max, avg_int,
    avg_numeric, avg_float, bool_and, bool_or, or "". ``needs_types``: ``create(types)`` receives
    the actual argument types. ``state_bytes``: with ``grows`` the state keeps its inputs
    (array_agg, string_agg): they are charged to memory.
    """

    oid: int
    name: str
    arg_types: tuple[SqlType, ...]
    return_type: SqlType
    create: Callable[..., Any]
    step: Callable[..., Any]
    finish: Callable[..., Any]
    strict: bool = True
    combine: Callable[[Any, Any], Any] | None = None
    code: str = ""
    ordered_set: bool = False
    direct_args: int = 0
    hypothetical: bool = False
    """``rank(args) WITHIN GROUP``: as many sorted arguments as direct ones."""
    variadic: bool = False
    needs_types: bool = False
    needs_context: bool = False
    """``create`` gets the ExecutionContext first: json_agg writes in the session's time zone."""
    grows: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class WindowFunction:
    """A pure window function (row_number, rank, lag...): computed by the executor by name."""

    oid: int
    name: str
    arg_types: tuple[SqlType, ...]
    return_type: SqlType
    defaults: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """An operator; ``left`` None for prefix. ``function`` computes it.

    ``commutator`` and ``negator`` are names ("" none). ``comparison`` is "=", "<>", "<", "<=", ">",
    ">=" for the btree operators of a type's default ordering (index conditions, merge and hash
    joins), else "".
    """

    oid: int
    name: str
    left: SqlType | None
    right: SqlType
    function: Function
    commutator: str = ""
    negator: str = ""
    comparison: str = ""

    @property
    def result(self) -> SqlType:
        """Type of the result."""
        return self.function.return_type


CastContext = Literal["implicit", "assignment", "explicit"]


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """A cast.

    ``function`` None means binary coercible (same datum) unless ``via_text``: output then input.

    ``function.implementation(datum)`` converts without typmod; length coercion is
    ``sql.types.typmod.apply_typmod``.
    """

    source: SqlType
    target: SqlType
    context: CastContext
    function: Function | None = None
    via_text: bool = False


class Registry:
    """All built-ins, by name and by OID.

    Built once at import of ``sql.functions.builtin`` and then read-only.
    """

    def __init__(self) -> None:
        self.functions: dict[str, list[Function]] = {}
        self.aggregates: dict[str, list[Aggregate]] = {}
        self.windows: dict[str, list[WindowFunction]] = {}
        self.operators: dict[str, list[Operator]] = {}
        self.casts: dict[tuple[int, int], Cast] = {}
        self.by_oid: dict[int, Function | Aggregate | WindowFunction] = {}
        self.operator_by_oid: dict[int, Operator] = {}

    def add_function(self, function: Function) -> None:
        """Register; OIDs are unique. Outside of pg_catalog the key has the schema's name."""
        assert function.oid not in self.by_oid, function
        outside = "" if function.schema == "pg_catalog" else f"{function.schema}."
        self.functions.setdefault(outside + function.name, []).append(function)
        self.by_oid[function.oid] = function

    def add_aggregate(self, aggregate: Aggregate) -> None:
        """Register; OIDs are unique."""
        assert aggregate.oid not in self.by_oid, aggregate
        self.aggregates.setdefault(aggregate.name, []).append(aggregate)
        self.by_oid[aggregate.oid] = aggregate

    def add_window(self, function: WindowFunction) -> None:
        """Register; OIDs are unique."""
        assert function.oid not in self.by_oid, function
        self.windows.setdefault(function.name, []).append(function)
        self.by_oid[function.oid] = function

    def add_operator(self, operator: Operator) -> None:
        """Register; OIDs are unique."""
        assert operator.oid not in self.operator_by_oid, operator
        self.operators.setdefault(operator.name, []).append(operator)
        self.operator_by_oid[operator.oid] = operator

    def add_cast(self, cast: Cast) -> None:
        """Register the one cast between two types."""
        self.casts[cast.source.oid, cast.target.oid] = cast

    def find_cast(self, source: SqlType, target: SqlType) -> Cast | None:
        """Return the direct cast, or None."""
        return self.casts.get((source.oid, target.oid))
