"""Comparison operators of all types, and the functions behind them.

Types whose Python comparison is PostgreSQL's are compared directly and inlined; float and
numeric treat NaN as
equal to itself and greater than everything; the rest goes through ``sql.types.compare``. The
collation is C:
strings compare by code point, which is UTF-8's byte order.

Source: PostgreSQL docs, "Comparison Functions and Operators".
"""

import operator
from collections.abc import Callable
from typing import Any, Final

from sql.functions.context import ExecutionContext
from sql.functions.implementation import FUNCTIONS, register
from sql.functions.inline import inline_global
from sql.functions.tables import OPERATOR_ROWS, SIGNATURE_BY_OID, OperatorRow
from sql.functions.zones import session_zone
from sql.types.base import (
    DATE_INFINITY,
    DATE_MINUS_INFINITY,
    TIMESTAMP_INFINITY,
    TIMESTAMP_MINUS_INFINITY,
    Datum,
    SqlType,
)
from sql.types.calendar import USECS_PER_DAY, USECS_PER_SECOND
from sql.types.catalog import type_by_name
from sql.types.compare import compare
from sql.types.interval import interval_span

_NATIVE: Final = frozenset(
    (
        "bool",
        "bytea",
        "char",
        "name",
        "int8",
        "int2",
        "int4",
        "text",
        "oid",
        "xid",
        "cid",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "uuid",
        "xid8",
        "pg_lsn",
        "tid",
    )
)
_NAN_AWARE: Final = frozenset(("float4", "float8", "numeric"))
_PYTHON_NAMES: Final = {"=": "==", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_PYTHON_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _nan_eq(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b))  # noqa: PLR0124


def _nan_ne(a: Any, b: Any) -> bool:
    return not _nan_eq(a, b)


def _nan_lt(a: Any, b: Any) -> bool:
    return bool(a < b if a == a and b == b else b != b and a == a)  # noqa: PLR0124


def _nan_le(a: Any, b: Any) -> bool:
    return bool(a <= b if a == a and b == b else b != b)  # noqa: PLR0124


_NAN_FUNCTIONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": _nan_eq,
    "<>": _nan_ne,
    "<": _nan_lt,
    "<=": _nan_le,
    ">": lambda a, b: _nan_lt(b, a),
    ">=": lambda a, b: _nan_le(b, a),
}
_NAN_TEMPLATES: Final = {
    "=": "({0} == {1} or ({0} != {0} and {1} != {1}))",
    "<>": "(not ({0} == {1} or ({0} != {0} and {1} != {1})))",
    "<": "({0} < {1} if {0} == {0} and {1} == {1} else ({1} != {1} and {0} == {0}))",
    "<=": "({0} <= {1} if {0} == {0} and {1} == {1} else {1} != {1})",
    ">": "({0} > {1} if {0} == {0} and {1} == {1} else ({0} != {0} and {1} == {1}))",
    ">=": "({0} >= {1} if {0} == {0} and {1} == {1} else {0} != {0})",
}


def _strip(value: str) -> str:
    return value.rstrip(" ")


def _timetz_key(value: tuple[int, int]) -> tuple[int, int]:
    return value[0] + value[1] * 1_000_000, value[1]


_KEYS: Final[dict[str, Callable[[Any], Any]]] = {
    "bpchar": _strip,
    "interval": interval_span,
    "timetz": _timetz_key,
}
inline_global("_interval_span", interval_span)
inline_global("_timetz_key", _timetz_key)
_KEY_TEMPLATES: Final = {
    "bpchar": "({0}.rstrip(' ') %s {1}.rstrip(' '))",
    "interval": "(_interval_span({0}) %s _interval_span({1}))",
    "timetz": "(_timetz_key({0}) %s _timetz_key({1}))",
}


def date_to_comparable(date: int) -> int:
    """Return the date's timestamp without overflow, for comparing only."""
    if date == DATE_INFINITY:
        return TIMESTAMP_INFINITY
    if date == DATE_MINUS_INFINITY:
        return TIMESTAMP_MINUS_INFINITY
    return date * USECS_PER_DAY


def _timestamp_to_utc(timestamp: int, context: ExecutionContext) -> int:
    if timestamp in (TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY):
        return timestamp
    return timestamp - session_zone(context).offset_at_local(timestamp) * USECS_PER_SECOND


def _to_utc(type_name: str, value: int, context: ExecutionContext) -> int:
    if type_name == "date":
        comparable = date_to_comparable(value)
        # Beyond the range of timestamps no zone matters, and the conversion would overflow.
        if abs(comparable) > TIMESTAMP_INFINITY - USECS_PER_DAY:
            return comparable
        return _timestamp_to_utc(comparable, context)
    return _timestamp_to_utc(value, context) if type_name == "timestamp" else value


def _with_key(
    key: Callable[[Any], Any], test: Callable[[Any, Any], bool]
) -> Callable[[Any, Any], bool]:
    return lambda a, b: test(key(a), key(b))


def _with_zone(
    left: str, right: str, test: Callable[[Any, Any], bool]
) -> Callable[[ExecutionContext, int, int], bool]:
    return lambda context, a, b: test(_to_utc(left, a, context), _to_utc(right, b, context))


def _with_compare(
    compared: Callable[[Any, Any], int], test: Callable[[Any, Any], bool]
) -> Callable[[Any, Any], bool]:
    return lambda a, b: test(compared(a, b), 0)


def _polymorphic(test: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    def compare_by_type(a: Datum, b: Datum, *, types: tuple[SqlType, ...]) -> bool:
        return test(compare(types[0])(a, b), 0)

    return compare_by_type


def _register_comparison(row: OperatorRow) -> None:
    key = SIGNATURE_BY_OID[row.function].key
    test = _PYTHON_OPERATORS[row.name]
    python_name = _PYTHON_NAMES[row.name]
    left, right = row.left, row.right
    if left in _NAN_AWARE:
        register(key, _NAN_FUNCTIONS[row.name], inline=_NAN_TEMPLATES[row.name])
    elif {left, right} == {"date", "timestamp"}:
        register(
            key,
            lambda a, b: test(
                date_to_comparable(a) if left == "date" else a,
                date_to_comparable(b) if right == "date" else b,
            ),
        )
    elif left != right and "timestamptz" in (left, right):
        register(key, _with_zone(left, right, test), context=True)
    elif left in _NATIVE and right in _NATIVE:
        register(key, test, inline=f"({{0}} {python_name} {{1}})")
    elif left in _KEYS:
        register(key, _with_key(_KEYS[left], test), inline=_KEY_TEMPLATES[left] % python_name)
    elif left in ("anyarray", "record"):
        register(key, _polymorphic(test), types=True)
    elif left in ("jsonb", "oidvector"):
        sql_type = type_by_name(left)
        assert sql_type is not None
        register(key, _with_compare(compare(sql_type), test))


def _register_all() -> None:
    for row in OPERATOR_ROWS:
        signature = SIGNATURE_BY_OID.get(row.function)
        if signature is None or signature.key in FUNCTIONS:
            continue
        if row.name in _PYTHON_OPERATORS and row.left:
            _register_comparison(row)


def _register_pattern_order() -> None:
    """Register the ``~<~`` family: it orders by bytes, as the C collation does anyway."""
    for suffix, name in (("lt", "<"), ("le", "<="), ("ge", ">="), ("gt", ">")):
        test = _PYTHON_OPERATORS[name]
        template = f"({{0}} {name} {{1}})"
        register(f"text_pattern_{suffix}(text,text)", test, inline=template)
        register(f"bpchar_pattern_{suffix}(bpchar,bpchar)", _with_key(_strip, test))


_register_all()
_register_pattern_order()
