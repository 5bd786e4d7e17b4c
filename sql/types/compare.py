"""Order and equality of datums, as PostgreSQL's default btree and hash operators have them.

``sort_key`` returns None where Python's own order of the datums is right already. Keys of one type
are totally ordered and hashable; two datums are equal exactly when their keys are.
NULLs never reach the functions here, except as array elements and record fields.

Source: PostgreSQL docs, "Comparison Functions and Operators", "Index Types".
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from sql.types.array import ArrayValue
from sql.types.base import Datum, SqlType
from sql.types.catalog import (
    BPCHAR,
    FLOAT4,
    FLOAT8,
    INTERVAL,
    JSONB,
    NUMERIC,
    RECORD,
    TIMETZ,
)
from sql.types.interval import interval_span
from sql.types.io import record_types
from sql.types.json import jsonb_order

KeyFunction = Callable[[Datum], Any]
USECS_PER_SECOND: Final = 1_000_000


class _Highest:
    """Above every other value and equal to itself only: NaN among numbers, NULL in arrays."""

    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        return False

    def __le__(self, other: object) -> bool:
        return self is other

    def __gt__(self, other: object) -> bool:
        return self is not other

    def __ge__(self, other: object) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 0x6E616E


HIGHEST: Final = _Highest()


def _number_key(value: float | Decimal) -> Any:
    return value if value == value else HIGHEST  # noqa: PLR0124 - only NaN differs from itself


def _bpchar_key(value: str) -> str:
    return value.rstrip(" ")


def _timetz_key(value: tuple[int, int]) -> tuple[int, int]:
    """Order by the instant, then by zone: equal means both equal."""
    return value[0] + value[1] * USECS_PER_SECOND, value[1]


_KEYS: Final[dict[SqlType, KeyFunction]] = {
    FLOAT4: _number_key,
    FLOAT8: _number_key,
    NUMERIC: _number_key,
    BPCHAR: _bpchar_key,
    INTERVAL: interval_span,
    TIMETZ: _timetz_key,
    JSONB: jsonb_order,
}
_made: Final[dict[SqlType, KeyFunction]] = {}


def sort_key(sql_type: SqlType) -> KeyFunction | None:
    """Return a function from datum to ordered key, or None when datums order themselves."""
    found = _KEYS.get(sql_type)
    if found is None and (sql_type.element is not None or sql_type is RECORD):
        found = _made.get(sql_type)
        if found is None:
            make = _record_key if sql_type is RECORD else _array_key(sql_type)
            found = _made[sql_type] = make
    return found


def hash_key(sql_type: SqlType) -> KeyFunction | None:
    """Return a function from datum to hashable key of its equality class, or None: the datum."""
    return sort_key(sql_type)


def _array_key(sql_type: SqlType) -> KeyFunction:
    """Order arrays by elements (NULL highest), then count, dimensions, sizes and bounds."""
    assert sql_type.element is not None
    element_key = sort_key(sql_type.element)

    def key(value: ArrayValue) -> tuple[Any, ...]:
        elements: tuple[Any, ...] = value.elements
        if element_key is not None:
            elements = tuple(HIGHEST if item is None else (element_key(item)) for item in elements)
        elif None in elements:
            elements = tuple(HIGHEST if item is None else item for item in elements)
        return elements, len(value.dims), value.dims, value.lower_bounds

    # A NULL must stay above a NaN, whose key is HIGHEST as well.
    if sql_type.element in (FLOAT4, FLOAT8, NUMERIC):
        return _number_array_key
    return key


def _number_array_key(value: ArrayValue) -> tuple[Any, ...]:
    elements = tuple((1, 0) if item is None else (0, _number_key(item)) for item in value.elements)
    return elements, len(value.dims), value.dims, value.lower_bounds


def _record_key(value: tuple[Datum, ...]) -> tuple[Any, ...]:
    keys: list[Any] = []
    for field, sql_type in zip(value, record_types(value), strict=True):
        if field is None:
            keys.append((1, 0))
            continue
        key = sort_key(sql_type)
        keys.append((0, field if key is None else key(field)))
    return tuple(keys)


def equals(sql_type: SqlType) -> Callable[[Datum, Datum], bool]:
    """Return the ``=`` of two datums of a type."""
    key = sort_key(sql_type)
    if key is None:
        return _plain_equals
    return lambda left, right: bool(key(left) == key(right))


def compare(sql_type: SqlType) -> Callable[[Datum, Datum], int]:
    """Return the three-way comparison of two datums of a type: -1, 0 or 1."""
    key = sort_key(sql_type)
    if key is None:
        return _plain_compare

    def compare_by_key(left: Datum, right: Datum) -> int:
        left, right = key(left), key(right)
        return -1 if left < right else 1 if right < left else 0

    return compare_by_key


def _plain_equals(left: Datum, right: Datum) -> bool:
    return bool(left == right)


def _plain_compare(left: Datum, right: Datum) -> int:
    return -1 if left < right else 1 if right < left else 0
