"""What compiled expressions call besides SQL functions.

Array subscripts, ANY/ALL over arrays, row tests.

Source: PostgreSQL docs, "Arrays", "Row and Array Comparisons", "Comparison Functions and
Operators".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sql.errors import ArraySubscriptError, NullValueNotAllowed, SqlError
from sql.types.array import EMPTY_ARRAY, ArrayValue
from sql.types.base import NO_TYPMOD
from sql.types.io import text_input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sql.span import Span
    from sql.types.base import Datum, SqlType
    from sql.types.io import FormatContext


MISSING: Final = object()
"""What the cache of sub-query results answers before the first evaluation."""


def read_literal(target: SqlType, context: FormatContext, text: str, place: Span) -> Datum:
    """Read a literal of the statement. Raises its type's input errors, at its place."""
    try:
        return text_input(target, context)(text, NO_TYPMOD)
    except SqlError as error:
        raise error.at(place) from None


def nest_arrays(values: Sequence[ArrayValue | None]) -> ArrayValue:
    """Make an array one dimension higher.

    ArraySubscriptError (2202E) unless the dimensions match.
    """
    first = next((v for v in values if v is not None), None)
    dims = () if first is None else first.dims
    elements: list[Datum] = []
    for value in values:
        if (value.dims if value is not None else ()) != dims:
            raise ArraySubscriptError(
                "multidimensional arrays must have array expressions with matching dimensions"
            )
        if value is not None:
            elements += value.elements
    if not elements:
        return EMPTY_ARRAY
    assert first is not None
    return ArrayValue(tuple(elements), (len(values), *dims), (1, *first.lower_bounds))


def array_element(array: ArrayValue, indexes: tuple[int | None, ...]) -> Datum:
    """Return one element; NULL when an index is NULL.

    Out of bounds or the count is not the dimensions'.
    """
    if len(indexes) != len(array.dims):
        return None
    at = 0
    for index, size, low in zip(indexes, array.dims, array.lower_bounds, strict=True):
        if index is None or not low <= index < low + size:
            return None
        at = at * size + index - low
    return array.elements[at]


def array_slice(
    array: ArrayValue, bounds: tuple[tuple[int | None, int | None, bool, bool], ...]
) -> ArrayValue | None:
    """Return a sub-array; ``bounds``.

    (lower, upper, lower was given, upper was given) per dimension.

    A given bound that is NULL makes the result NULL; omitted ones are the dimension's.
    """
    if any(
        (low is None and has_low) or (up is None and has_up) for low, up, has_low, has_up in bounds
    ):
        return None
    if not array.dims or len(bounds) > len(array.dims):
        return EMPTY_ARRAY
    ranges = []
    for number, (size, low) in enumerate(zip(array.dims, array.lower_bounds, strict=True)):
        start, end = low, low + size - 1
        if number < len(bounds):
            lower, upper, _, _ = bounds[number]
            start = start if lower is None else max(start, lower)
            end = end if upper is None else min(end, upper)
        if start > end:
            return EMPTY_ARRAY
        ranges.append(range(start - low, end - low + 1))
    offsets = [0]
    for size, picked in zip(array.dims, ranges, strict=True):
        offsets = [base * size + index for base in offsets for index in picked]
    return ArrayValue(tuple(array.elements[at] for at in offsets), tuple(map(len, ranges)))


def compare_any(
    call: Callable[[Datum, Datum], Any],
    left: Datum,
    array: ArrayValue | None,
    strict: bool,  # noqa: FBT001
) -> bool | None:
    """Return ``left op ANY (array)``."""
    return _fold(call, left, array, strict=strict, stop=True)


def compare_all(
    call: Callable[[Datum, Datum], Any],
    left: Datum,
    array: ArrayValue | None,
    strict: bool,  # noqa: FBT001
) -> bool | None:
    """Return ``left op ALL (array)``."""
    return _fold(call, left, array, strict=strict, stop=False)


def _fold(
    call: Callable[[Datum, Datum], Any],
    left: Datum,
    array: ArrayValue | None,
    *,
    strict: bool,
    stop: bool,
) -> bool | None:
    if array is None:
        return None
    if not array.elements:
        return not stop
    if left is None and strict:
        return None
    result: bool | None = not stop
    for element in array.elements:
        value: bool | None = None
        if element is not None or not strict:
            value = call(left, element)
        if value is stop:
            return stop
        if value is None:
            result = None
    return result


def greatest(to_key: Callable[[Datum], Any] | None, values: tuple[Datum, ...]) -> Datum:
    """Return the greatest non-NULL value, None without any."""
    present = [value for value in values if value is not None]
    return max(present, key=to_key) if present else None


def least(to_key: Callable[[Datum], Any] | None, values: tuple[Datum, ...]) -> Datum:
    """Return the least non-NULL value, None without any."""
    present = [value for value in values if value is not None]
    return min(present, key=to_key) if present else None


def row_is_null(row: tuple[Datum, ...] | None) -> bool:
    """Return ``row IS NULL``: true when every field is."""
    return row is None or all(field is None for field in row)


def row_is_not_null(row: tuple[Datum, ...] | None) -> bool:
    """Return ``row IS NOT NULL``: true when no field is NULL."""
    return row is not None and None not in row


def cast_array(
    convert: Callable[[Datum, Any], Datum], array: ArrayValue, context: Any
) -> ArrayValue:
    """Convert every element."""
    return ArrayValue(
        tuple([convert(element, context) for element in array.elements]),
        array.dims,
        array.lower_bounds,
    )


def require_frame_offset(value: Datum, message: str) -> Datum:
    """Return a value that must not be NULL; NullValueNotAllowed (22004)."""
    if value is None:
        raise NullValueNotAllowed(message)
    return value
