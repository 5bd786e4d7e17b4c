"""Assignment to elements and slices of arrays and to members of jsonb, as UPDATE and INSERT do it.

The binder calls these through functions that it makes itself: ``array_element_setter``,
``array_slice_setter`` and ``jsonb_setter`` return them. All take the old value first (None is an
empty array or container), then the new one, then the subscripts.

Source: PostgreSQL docs, "Arrays": "Modifying Arrays"; "JSON Types": "jsonb Subscripting".
"""

from itertools import product
from math import prod
from typing import Final

from sql.errors import (
    ArraySubscriptError,
    InvalidParameterValue,
    InvalidTextRepresentation,
    NullValueNotAllowed,
    ProgramLimitExceeded,
)
from sql.functions.registry import Function
from sql.types.array import ELEMENTS_MAX, EMPTY_ARRAY, ArrayValue
from sql.types.base import Datum, SqlType
from sql.types.catalog import INT4, JSONB, TEXT
from sql.types.json import JsonTree, jsonb_canonical, jsonb_parse

_Bounds = tuple[int | None, int | None]


def _check_size(count: int) -> None:
    if count > ELEMENTS_MAX:
        raise ProgramLimitExceeded(f"array size exceeds the maximum allowed ({ELEMENTS_MAX})")


def _check_subscripts(subscripts: tuple[int | None, ...]) -> None:
    if any(subscript is None for subscript in subscripts):
        raise NullValueNotAllowed("array subscript in assignment must not be null")


def _grown(array: ArrayValue, low: int, high: int) -> tuple[list[Datum], int]:
    """Return the elements of a one-dimensional array stretched to cover low..high.

    And its start.
    """
    start = array.lower_bounds[0]
    end = start + array.dims[0]
    before = max(start - low, 0)
    after = max(high + 1 - end, 0)
    _check_size(before + array.dims[0] + after)
    return [None] * before + list(array.elements) + [None] * after, start - before


def set_element(array: ArrayValue | None, value: Datum, *subscripts: int) -> ArrayValue:
    """Replace one element; a one-dimensional array grows to hold it. 2202E, 22004, 54000."""
    _check_subscripts(subscripts)
    if array is None or not array.dims:
        return ArrayValue((value,), (1,) * len(subscripts), subscripts)
    if len(subscripts) != len(array.dims):
        raise ArraySubscriptError("wrong number of array subscripts")
    if len(subscripts) == 1:
        at = subscripts[0]
        elements, start = _grown(array, at, at)
        elements[at - start] = value
        return ArrayValue(tuple(elements), (len(elements),), (start,))
    offset = 0
    for at, low, size in zip(subscripts, array.lower_bounds, array.dims, strict=True):
        if not low <= at < low + size:
            raise ArraySubscriptError("array subscript out of range")
        offset = offset * size + at - low
    elements = list(array.elements)
    elements[offset] = value
    return ArrayValue(tuple(elements), array.dims, array.lower_bounds)


def _fresh_slice(source: ArrayValue, bounds: tuple[_Bounds, ...]) -> ArrayValue:
    dims, lower_bounds = [], []
    for low, high in bounds:
        if low is None or high is None:
            raise ArraySubscriptError(
                "array slice subscript must provide both boundaries",
                detail="When assigning to a slice of an empty array value, "
                "slice boundaries must be fully specified.",
            )
        if high < low:
            raise ArraySubscriptError("upper bound cannot be less than lower bound")
        dims.append(high - low + 1)
        lower_bounds.append(low)
    count = prod(dims)
    _check_size(count)
    if len(source.elements) < count:
        raise ArraySubscriptError("source array too small")
    return ArrayValue(source.elements[:count], tuple(dims), tuple(lower_bounds))


def set_slice(
    array: ArrayValue | None, source: ArrayValue | None, bounds: tuple[_Bounds, ...]
) -> ArrayValue:
    """Replace a slice by the elements of ``source``; NULL changes nothing. None bounds are open."""
    if array is None:
        array = EMPTY_ARRAY
    if source is None:
        return array
    if not array.dims:
        return _fresh_slice(source, bounds)
    if len(bounds) > len(array.dims):
        raise ArraySubscriptError("wrong number of array subscripts")
    ranges = []
    for index, (start, size) in enumerate(zip(array.lower_bounds, array.dims, strict=True)):
        low, high = bounds[index] if index < len(bounds) else (None, None)
        low = start if low is None else low
        high = start + size - 1 if high is None else high
        if high < low:
            raise ArraySubscriptError("upper bound cannot be less than lower bound")
        if len(array.dims) > 1 and not (start <= low and high < start + size):
            raise ArraySubscriptError("array subscript out of range")
        ranges.append((low, high))
    count = prod(high - low + 1 for low, high in ranges)
    if len(source.elements) < count:
        raise ArraySubscriptError("source array too small")
    if len(array.dims) == 1:
        low, high = ranges[0]
        elements, start = _grown(array, low, high)
        elements[low - start : high + 1 - start] = source.elements[:count]
        return ArrayValue(tuple(elements), (len(elements),), (start,))
    return _replace_block(array, source, ranges)


def _replace_block(
    array: ArrayValue, source: ArrayValue, ranges: list[tuple[int, int]]
) -> ArrayValue:
    elements = list(array.elements)
    spans = [
        range(low - start, high + 1 - start)
        for (low, high), start in zip(ranges, array.lower_bounds, strict=True)
    ]
    for value, place in zip(source.elements, product(*spans), strict=False):
        offset = 0
        for at, size in zip(place, array.dims, strict=True):
            offset = offset * size + at
        elements[offset] = value
    return ArrayValue(tuple(elements), array.dims, array.lower_bounds)


def array_element_setter(array: SqlType, subscripts: int) -> Function:
    """Return the function that sets one element by that many int4 subscripts."""
    assert array.element is not None
    arg_types = (array, array.element, *(INT4,) * subscripts)
    return Function(0, "array_set_element", arg_types, array, set_element, strict=False)


def array_slice_setter(array: SqlType, given: tuple[tuple[bool, bool], ...]) -> Function:
    """Return the function that sets a slice; ``given`` says which bounds come as arguments."""

    def set_given_slice(
        old: ArrayValue | None, source: ArrayValue | None, *values: int
    ) -> ArrayValue:
        _check_subscripts(values)
        rest = iter(values)
        bounds = tuple(
            (next(rest) if low else None, next(rest) if high else None) for low, high in given
        )
        return set_slice(old, source, bounds)

    count = sum(low + high for low, high in given)
    arg_types = (array, array, *(INT4,) * count)
    return Function(0, "array_set_slice", arg_types, array, set_given_slice, strict=False)


# --- jsonb ---


def _step_into(
    tree: JsonTree, path: tuple[Datum, ...], value: JsonTree, level: int = 0
) -> JsonTree:
    """Return ``tree`` with ``value`` at ``path[level:]``; missing containers are made."""
    if level == len(path):
        return value
    step = path[level]
    if tree is _MISSING:
        tree = [] if isinstance(step, int) else {}
    if isinstance(tree, dict):
        key = str(step)
        tree[key] = _step_into(tree.get(key, _MISSING), path, value, level + 1)
        return tree
    if isinstance(tree, list):
        _set_item(tree, path, value, level)
        return tree
    raise InvalidParameterValue(
        "cannot replace existing key",
        detail="The path assumes key is a composite object, but it is a scalar value.",
    )


def _set_item(tree: list[JsonTree], path: tuple[Datum, ...], value: JsonTree, level: int) -> None:
    index = path[level]
    if not isinstance(index, int):
        raise InvalidTextRepresentation(
            f'path element at position {level + 1} is not an integer: "{index}"'
        )
    if index < 0:
        if -index > len(tree):
            raise InvalidParameterValue(
                f"path element at position {level + 1} is out of range: {index}"
            )
        index += len(tree)
    if index < len(tree):
        tree[index] = _step_into(tree[index], path, value, level + 1)
        return
    _check_size(index + 1)
    tree.extend([None] * (index - len(tree)))
    tree.append(_step_into(_MISSING, path, value, level + 1))


_MISSING: Final = object()


def set_jsonb(old: str | None, value: str | None, *path: Datum) -> str:
    """Set a member by keys (str) and indexes (int); NULL is stored as JSON's null. 22004, 22023."""
    if any(step is None for step in path):
        raise NullValueNotAllowed("jsonb subscript in assignment must not be null")
    tree = _MISSING if old is None else jsonb_parse(old)
    new = None if value is None else jsonb_parse(value)
    return jsonb_canonical(_step_into(tree, path, new))


def jsonb_setter(path: tuple[SqlType, ...]) -> Function:
    """Return the function that sets a member of jsonb; each step is int4 or text."""
    assert all(step in (INT4, TEXT) for step in path)
    return Function(0, "jsonb_set_subscript", (JSONB, JSONB, *path), JSONB, set_jsonb, strict=False)
