"""Array functions and operators.

Elements compare with the ``=`` of their type; functions that must know it take the arguments'
types.

Source: PostgreSQL docs, "Array Functions and Operators".
"""

from collections.abc import Callable, Iterator
from math import prod
from typing import Final

from sql.errors import (
    ArraySubscriptError,
    DataException,
    FeatureNotSupported,
    NullValueNotAllowed,
    ProgramLimitExceeded,
)
from sql.functions.context import ExecutionContext
from sql.functions.implementation import implements
from sql.types.array import DIMENSIONS_MAX, ELEMENTS_MAX, EMPTY_ARRAY, ArrayValue
from sql.types.base import Datum, SqlType
from sql.types.compare import equals, hash_key
from sql.types.io import text_output

# What one more reference in a tuple takes.
_REFERENCE_BYTES: Final = 8

Types = tuple[SqlType, ...]


def _element_type(array_type: SqlType) -> SqlType:
    element = array_type.element
    assert element is not None, array_type
    return element


def _same(types: Types) -> Callable[[Datum, Datum], bool]:
    """Return IS NOT DISTINCT FROM for the elements of the first argument."""
    equal = equals(_element_type(types[0]))

    def same(a: Datum, b: Datum) -> bool:
        if a is None or b is None:
            return a is b
        return equal(a, b)

    return same


@implements("array_length(anyarray,int4)")
def _array_length(array: ArrayValue, dimension: int) -> int | None:
    return array.dims[dimension - 1] if 1 <= dimension <= len(array.dims) else None


@implements("array_lower(anyarray,int4)")
def _array_lower(array: ArrayValue, dimension: int) -> int | None:
    return array.lower_bounds[dimension - 1] if 1 <= dimension <= len(array.dims) else None


@implements("array_upper(anyarray,int4)")
def _array_upper(array: ArrayValue, dimension: int) -> int | None:
    if not 1 <= dimension <= len(array.dims):
        return None
    return array.lower_bounds[dimension - 1] + array.dims[dimension - 1] - 1


@implements("array_ndims(anyarray)")
def _array_ndims(array: ArrayValue) -> int | None:
    return len(array.dims) or None


@implements("array_dims(anyarray)")
def _array_dims(array: ArrayValue) -> str | None:
    if not array.dims:
        return None
    return "".join(
        f"[{low}:{low + size - 1}]"
        for low, size in zip(array.lower_bounds, array.dims, strict=True)
    )


@implements("cardinality(anyarray)")
def _cardinality(array: ArrayValue) -> int:
    return len(array.elements)


def _check_one_dimension(array: ArrayValue) -> None:
    if len(array.dims) > 1:
        raise DataException("argument must be empty or one-dimensional array")


@implements("array_append(anycompatiblearray,anycompatible)")
def _array_append(array: ArrayValue | None, value: Datum) -> ArrayValue:
    array = array or EMPTY_ARRAY
    _check_one_dimension(array)
    elements = (*array.elements, value)
    return ArrayValue(elements, (len(elements),), array.lower_bounds or (1,))


@implements("array_prepend(anycompatible,anycompatiblearray)")
def _array_prepend(value: Datum, array: ArrayValue | None) -> ArrayValue:
    array = array or EMPTY_ARRAY
    _check_one_dimension(array)
    elements = (value, *array.elements)
    return ArrayValue(elements, (len(elements),), array.lower_bounds or (1,))


def _incompatible(detail: str) -> ArraySubscriptError:
    return ArraySubscriptError("cannot concatenate incompatible arrays", detail=detail)


@implements("array_cat(anycompatiblearray,anycompatiblearray)")
def _array_cat(a: ArrayValue | None, b: ArrayValue | None) -> ArrayValue | None:
    if a is None or b is None:
        return a if b is None else b
    if not a.dims or not b.dims:
        return a if not b.dims else b
    elements = a.elements + b.elements
    if len(a.dims) == len(b.dims):
        if a.dims[1:] != b.dims[1:] or a.lower_bounds[1:] != b.lower_bounds[1:]:
            raise _incompatible(
                "Arrays with differing element dimensions are not compatible for concatenation."
            )
        return ArrayValue(elements, (a.dims[0] + b.dims[0], *a.dims[1:]), a.lower_bounds)
    if abs(len(a.dims) - len(b.dims)) != 1:
        raise _incompatible(
            f"Arrays of {len(a.dims)} and {len(b.dims)} dimensions are not compatible for concatenation."  # noqa: E501
        )
    outer, inner = (a, b) if len(a.dims) > len(b.dims) else (b, a)
    if outer.dims[1:] != inner.dims:
        raise _incompatible(
            "Arrays with differing dimensions are not compatible for concatenation."
        )
    return ArrayValue(elements, (outer.dims[0] + 1, *outer.dims[1:]), outer.lower_bounds)


@implements("array_position(anycompatiblearray,anycompatible)", types=True)
@implements("array_position(anycompatiblearray,anycompatible,int4)", types=True)
def _array_position(
    array: ArrayValue | None, value: Datum, start: int | None = 1, *, types: Types
) -> int | None:
    if array is None:
        return None
    if start is None:
        raise NullValueNotAllowed("initial position must not be null")
    if len(array.dims) > 1:
        raise FeatureNotSupported(
            "searching for elements in multidimensional arrays is not supported"
        )
    if not array.dims:
        return None
    same = _same(types)
    low = array.lower_bounds[0]
    for position, element in enumerate(array.elements, low):
        if position >= start and same(element, value):
            return position
    return None


@implements("array_positions(anycompatiblearray,anycompatible)", types=True)
def _array_positions(array: ArrayValue | None, value: Datum, *, types: Types) -> ArrayValue | None:
    if array is None:
        return None
    if len(array.dims) > 1:
        raise FeatureNotSupported(
            "searching for elements in multidimensional arrays is not supported"
        )
    if not array.dims:
        return EMPTY_ARRAY
    same = _same(types)
    low = array.lower_bounds[0]
    return ArrayValue(
        tuple([n for n, element in enumerate(array.elements, low) if same(element, value)])
    )


@implements("array_remove(anycompatiblearray,anycompatible)", types=True)
def _array_remove(array: ArrayValue | None, value: Datum, *, types: Types) -> ArrayValue | None:
    if array is None:
        return None
    if len(array.dims) > 1:
        raise FeatureNotSupported("removing elements from multidimensional arrays is not supported")
    same = _same(types)
    kept = tuple([element for element in array.elements if not same(element, value)])
    if len(kept) == len(array.elements):
        return array
    return ArrayValue(kept, (len(kept),), array.lower_bounds) if kept else EMPTY_ARRAY


@implements("array_replace(anycompatiblearray,anycompatible,anycompatible)", types=True)
def _array_replace(
    array: ArrayValue | None, old: Datum, new: Datum, *, types: Types
) -> ArrayValue | None:
    if array is None:
        return None
    same = _same(types)
    elements = tuple([new if same(element, old) else element for element in array.elements])
    return ArrayValue(elements, array.dims, array.lower_bounds)


@implements("trim_array(anyarray,int4)")
def _trim_array(array: ArrayValue, count: int) -> ArrayValue:
    length = array.dims[0] if array.dims else 0
    if not 0 <= count <= length:
        raise ArraySubscriptError(f"number of elements to trim must be between 0 and {length}")
    kept = length - count
    if kept == 0:
        return EMPTY_ARRAY
    inner = prod(array.dims[1:])
    return ArrayValue(array.elements[: kept * inner], (kept, *array.dims[1:]))


@implements("array_fill(anyelement,_int4)", "array_fill(anyelement,_int4,_int4)", context=True)
def _array_fill(
    context: ExecutionContext,
    value: Datum,
    dims: ArrayValue | None,
    lower_bounds: ArrayValue | None = None,
) -> ArrayValue:
    if dims is None:
        raise NullValueNotAllowed("dimension array or low bound array cannot be null")
    for part in (dims, lower_bounds):
        if part is not None and len(part.dims) > 1:
            raise ArraySubscriptError(
                "wrong number of array subscripts",
                detail="Dimension array must be one dimensional.",
            )
        if part is not None and None in part.elements:
            raise NullValueNotAllowed("dimension values cannot be null")
    sizes = dims.elements
    if not sizes:
        return EMPTY_ARRAY
    if len(sizes) > DIMENSIONS_MAX:
        raise ProgramLimitExceeded(
            f"number of array dimensions ({len(sizes)}) exceeds the maximum allowed ({DIMENSIONS_MAX})"  # noqa: E501
        )
    lows = lower_bounds.elements if lower_bounds is not None else (1,) * len(sizes)
    if len(lows) != len(sizes):
        raise ArraySubscriptError(
            "wrong number of array subscripts",
            detail="Low bound array has different size than dimensions array.",
        )
    if min(sizes) < 0 or prod(sizes) > ELEMENTS_MAX:
        raise ProgramLimitExceeded(f"array size exceeds the maximum allowed ({ELEMENTS_MAX})")
    count = prod(sizes)
    context.memory.check(count * _REFERENCE_BYTES)
    return ArrayValue((value,) * count, tuple(sizes), tuple(lows)) if count else EMPTY_ARRAY


@implements("array_to_string(anyarray,text)", context=True, types=True)
@implements("array_to_string(anyarray,text,text)", context=True, types=True)
def _array_to_string(
    context: ExecutionContext,
    array: ArrayValue | None,
    delimiter: str | None,
    null_text: str | None = None,
    *,
    types: Types,
) -> str | None:
    if array is None or delimiter is None:
        return None
    write = text_output(_element_type(types[0]), context.format)
    parts: list[str] = []
    for element in array.elements:
        if element is not None:
            parts.append(write(element))
        elif null_text is not None:
            parts.append(null_text)
    return delimiter.join(parts)


def _keys(array: ArrayValue, array_type: SqlType) -> list[Datum]:
    key = hash_key(_element_type(array_type))
    values = [element for element in array.elements if element is not None]
    return values if key is None else [key(value) for value in values]


def _contains(outer: ArrayValue, inner: ArrayValue, types: Types) -> bool:
    # NULL equals nothing here, so a NULL on the inner side is never found.
    if None in inner.elements:
        return False
    return set(_keys(outer, types[0])).issuperset(_keys(inner, types[0]))


@implements("arraycontains(anyarray,anyarray)", types=True)
def _array_contains(a: ArrayValue, b: ArrayValue, *, types: Types) -> bool:
    return _contains(a, b, types)


@implements("arraycontained(anyarray,anyarray)", types=True)
def _array_contained(a: ArrayValue, b: ArrayValue, *, types: Types) -> bool:
    return _contains(b, a, types)


@implements("arrayoverlap(anyarray,anyarray)", types=True)
def _array_overlap(a: ArrayValue, b: ArrayValue, *, types: Types) -> bool:
    return not set(_keys(a, types[0])).isdisjoint(_keys(b, types[0]))


@implements("unnest(anyarray)")
def _unnest(array: ArrayValue) -> tuple[Datum, ...]:
    return array.elements


@implements("generate_subscripts(anyarray,int4)", "generate_subscripts(anyarray,int4,bool)")
def _generate_subscripts(
    array: ArrayValue,
    dimension: int,
    reverse: bool = False,  # noqa: FBT001, FBT002
) -> Iterator[int]:
    if not 1 <= dimension <= len(array.dims):
        return iter(())
    low = array.lower_bounds[dimension - 1]
    subscripts = range(low, low + array.dims[dimension - 1])
    return reversed(subscripts) if reverse else iter(subscripts)
