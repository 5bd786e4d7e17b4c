"""``REGISTRY``: every built-in function, operator, cast, aggregate and window function.

Importing the modules below fills ``implementation.FUNCTIONS`` and ``AGGREGATES``; here they are
joined with
the signature, operator and cast tables.
"""

from typing import Final

from sql.functions import (
    aggregates,
    arithmetic,
    arrays,
    binary_strings,
    casts,
    comparison,
    datetime_fields,
    datetimes,
    definitions,
    descriptions,
    formatting,
    hashing,
    intervals,
    json_functions,
    json_records,
    mathematics,
    number_format,
    object_information,
    patterns,
    privileges,
    statistics,
    strings,
    system,
)
from sql.functions.implementation import AGGREGATES, FUNCTIONS
from sql.functions.information_schema import INFORMATION_SCHEMA_FUNCTIONS
from sql.functions.registry import (
    Aggregate,
    Cast,
    CastContext,
    Function,
    Operator,
    Registry,
    Volatility,
    WindowFunction,
)
from sql.functions.tables import (
    CAST_ROWS,
    OPERATOR_ROWS,
    SIGNATURE_BY_KEY,
    Signature,
)
from sql.types.catalog import RECORD, type_by_name

MODULES: Final = (
    aggregates,
    arithmetic,
    arrays,
    binary_strings,
    casts,
    comparison,
    datetime_fields,
    datetimes,
    definitions,
    descriptions,
    formatting,
    hashing,
    intervals,
    json_functions,
    json_records,
    mathematics,
    number_format,
    object_information,
    patterns,
    privileges,
    statistics,
    strings,
    system,
)
_VOLATILITY: Final[dict[str, Volatility]] = {"i": "immutable", "s": "stable", "v": "volatile"}
_CONTEXT: Final[dict[str, CastContext]] = {"i": "implicit", "a": "assignment", "e": "explicit"}
WINDOW_FUNCTIONS: Final = frozenset(
    (
        "row_number",
        "rank",
        "dense_rank",
        "percent_rank",
        "cume_dist",
        "ntile",
        "lag",
        "lead",
        "first_value",
        "last_value",
        "nth_value",
    )
)


def _add_functions(registry: Registry) -> None:
    for key, implementation in FUNCTIONS.items():
        row = SIGNATURE_BY_KEY[key]
        is_row = row.result is RECORD
        registry.add_function(
            Function(
                oid=row.oid,
                name=row.name,
                arg_types=row.arguments,
                return_type=row.result,
                implementation=implementation.function,
                strict=row.strict,
                volatility=_VOLATILITY[row.volatility],
                needs_context=implementation.needs_context,
                needs_types=implementation.needs_types,
                is_async=implementation.is_async,
                returns_set=row.returns_set,
                columns=row.columns if is_row else (),
                result_name=row.columns[0][0] if row.columns and not is_row else "",
                variadic=row.variadic,
                defaults=row.defaults,
                arg_names=row.argument_names,
                inline=implementation.inline,
            )
        )


def _add_aggregates(registry: Registry) -> None:
    for key, implementation in AGGREGATES.items():
        row = SIGNATURE_BY_KEY[key]
        registry.add_aggregate(
            Aggregate(
                oid=row.oid,
                name=row.name,
                arg_types=row.arguments,
                return_type=row.result,
                create=implementation.create,
                step=implementation.step,
                finish=implementation.finish,
                strict=implementation.strict,
                combine=implementation.combine,
                code=implementation.code,
                ordered_set=row.kind in "oh",
                hypothetical=row.kind == "h",
                direct_args=row.direct_args,
                variadic=row.variadic,
                needs_types=implementation.needs_types,
                needs_context=implementation.needs_context,
                grows=implementation.grows,
            )
        )


def _is_window(row: Signature) -> bool:
    return row.kind == "w" and row.name in WINDOW_FUNCTIONS


def _add_windows(registry: Registry) -> None:
    for row in SIGNATURE_BY_KEY.values():
        if _is_window(row):
            registry.add_window(
                WindowFunction(row.oid, row.name, row.arguments, row.result, row.defaults)
            )


def _add_operators(registry: Registry) -> None:
    for row in OPERATOR_ROWS:
        function = registry.by_oid.get(row.function)
        right = type_by_name(row.right)
        if not isinstance(function, Function) or right is None:
            continue
        comparison = row.comparison
        registry.add_operator(
            Operator(
                row.oid,
                row.name,
                type_by_name(row.left),
                right,
                function,
                row.commutator,
                row.negator,
                comparison,
            )
        )


def _add_casts(registry: Registry) -> None:
    for row in CAST_ROWS:
        source = type_by_name(row.source)
        target = type_by_name(row.target)
        assert source is not None
        assert target is not None
        function = registry.by_oid.get(row.function)
        if row.method == "f" and not isinstance(function, Function):
            continue
        registry.add_cast(
            Cast(
                source,
                target,
                _CONTEXT[row.context],
                function if isinstance(function, Function) else None,
                via_text=row.method == "i",
            )
        )


def _build() -> Registry:
    registry = Registry()
    _add_functions(registry)
    for function in INFORMATION_SCHEMA_FUNCTIONS:
        registry.add_function(function)
    _add_aggregates(registry)
    _add_windows(registry)
    _add_operators(registry)
    _add_casts(registry)
    return registry


REGISTRY: Final = _build()
