"""Aggregates over one column: counts, sums, averages, extremes, collections and ordered sets.

A state is None until the first row where PostgreSQL answers NULL for no rows. States are owned
by the
executor: ``step`` may change one in place and returns it.

Source: PostgreSQL docs, "Aggregate Functions".
"""

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from sql.errors import (
    ArraySubscriptError,
    NullValueNotAllowed,
    NumericValueOutOfRange,
)
from sql.functions.arithmetic import check_int, float_add, round_float4
from sql.functions.implementation import AggregateImplementation, register_aggregate
from sql.functions.intervals import interval_add, interval_divide, interval_multiply
from sql.types import numeric
from sql.types.array import EMPTY_ARRAY, ArrayValue
from sql.types.base import Datum, SqlType
from sql.types.catalog import type_by_name
from sql.types.compare import compare

_NATIVE_ORDER: Final = (
    "int8",
    "int4",
    "int2",
    "oid",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "text",
    "xid8",
)


def _none() -> None:
    return None


def _same(state: Any) -> Any:
    return state


def _merge_optional(merge: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def combine(a: Any, b: Any) -> Any:
        if a is None:
            return b
        return a if b is None else merge(a, b)

    return combine


def _fold(
    signature: str,
    merge: Callable[[Any, Any], Any],
    *,
    code: str = "",
    finish: Callable[[Any], Any] = _same,
) -> None:
    """Register an aggregate whose state is the answer so far: one value, NULL before the first."""

    def step(state: Any, value: Any) -> Any:
        return value if state is None else merge(state, value)

    register_aggregate(
        signature,
        AggregateImplementation(_none, step, finish, combine=_merge_optional(merge), code=code),
    )


def _count_rows(state: int) -> int:
    return state + 1


def _count_values(state: int, _value: Datum) -> int:
    return state + 1


def _register_counts() -> None:
    register_aggregate(
        "count()",
        AggregateImplementation(int, _count_rows, _same, combine=operator.add, code="count_star"),
    )
    register_aggregate(
        "count(any)",
        AggregateImplementation(int, _count_values, _same, combine=operator.add, code="count"),
    )


def _finish_bigint(state: int | None) -> int | None:
    return None if state is None else check_int(state, 8)


def _finish_numeric(state: int | None) -> Decimal | None:
    return None if state is None else Decimal(state)


def _finish_sum(state: Decimal | None) -> Decimal | None:
    return None if state is None else numeric.checked(state)


def _add_single(a: float, b: float) -> float:
    return round_float4(float_add(a, b))


def _register_sums() -> None:
    _fold("sum(int2)", operator.add, code="sum_int", finish=_finish_bigint)
    _fold("sum(int4)", operator.add, code="sum_int", finish=_finish_bigint)
    # sum(int8) is numeric: the running Python int cannot overflow.
    _fold("sum(int8)", operator.add, code="sum_int", finish=_finish_numeric)
    _fold("sum(numeric)", numeric.add_exactly, code="sum_numeric", finish=_finish_sum)
    _fold("sum(float8)", float_add, code="sum_float")
    _fold("sum(float4)", _add_single)
    _fold("sum(interval)", interval_add)


def _average_step(add: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def step(state: list[Any] | None, value: Any) -> list[Any]:
        if state is None:
            return [1, value]
        state[0] += 1
        state[1] = add(state[1], value)
        return state

    return step


def _average(
    signature: str,
    add: Callable[[Any, Any], Any],
    divide: Callable[[Any, int], Any],
    *,
    code: str = "",
) -> None:
    def finish(state: list[Any] | None) -> Any:
        return None if state is None else divide(state[1], state[0])

    def merge(a: list[Any], b: list[Any]) -> list[Any]:
        return [a[0] + b[0], add(a[1], b[1])]

    register_aggregate(
        signature,
        AggregateImplementation(
            _none, _average_step(add), finish, combine=_merge_optional(merge), code=code
        ),
    )


def _divide_int(total: int, count: int) -> Decimal:
    return numeric.divide(Decimal(total), Decimal(count))


def _divide_numeric(total: Decimal, count: int) -> Decimal:
    return numeric.divide(numeric.checked(total), Decimal(count))


def _register_averages() -> None:
    for name in ("int2", "int4", "int8"):
        _average(f"avg({name})", operator.add, _divide_int, code="avg_int")
    _average("avg(numeric)", numeric.add_exactly, _divide_numeric, code="avg_numeric")
    _average("avg(float8)", float_add, operator.truediv, code="avg_float")
    _average("avg(float4)", float_add, operator.truediv, code="avg_float")
    _average(
        "avg(interval)", interval_add, lambda total, count: interval_divide(total, float(count))
    )


def _smaller(compared: Callable[[Any, Any], int]) -> Callable[[Any, Any], Any]:
    # Of equal values that look different (1 day, 24:00:00) the later one is kept.
    return lambda a, b: a if compared(a, b) < 0 else b


def _larger(compared: Callable[[Any, Any], int]) -> Callable[[Any, Any], Any]:
    return lambda a, b: a if compared(a, b) > 0 else b


def _register_extremes() -> None:
    for name in _NATIVE_ORDER:
        _fold(f"min({name})", lambda a, b: b if b < a else a, code="min")
        _fold(f"max({name})", lambda a, b: b if b > a else a, code="max")
    for name in ("float4", "float8", "numeric", "timetz", "interval", "bpchar"):
        sql_type = type_by_name(name)
        assert sql_type is not None
        _fold(f"min({name})", _smaller(compare(sql_type)), code="min")
        _fold(f"max({name})", _larger(compare(sql_type)), code="max")
    for name, choose in (("min", _smaller), ("max", _larger)):
        register_aggregate(
            f"{name}(anyarray)",
            AggregateImplementation(
                _extreme_state(choose), _extreme_step, operator.itemgetter(0), needs_types=True
            ),
        )


def _extreme_state(
    choose: Callable[[Callable[[Any, Any], int]], Callable[[Any, Any], Any]],
) -> Callable[[tuple[SqlType, ...]], list[Any]]:
    return lambda types: [None, choose(compare(types[0]))]


def _extreme_step(state: list[Any], value: Datum) -> list[Any]:
    state[0] = value if state[0] is None else state[1](state[0], value)
    return state


def _register_logic() -> None:
    _fold("bool_and(bool)", operator.and_, code="bool_and")
    _fold("every(bool)", operator.and_, code="bool_and")
    _fold("bool_or(bool)", operator.or_, code="bool_or")
    for name in ("int2", "int4", "int8"):
        _fold(f"bit_and({name})", operator.and_)
        _fold(f"bit_or({name})", operator.or_)
        _fold(f"bit_xor({name})", operator.xor)


def _string_step(state: list[Any] | None, value: Any, delimiter: Any) -> list[Any] | None:
    if value is None:
        return state
    if state is None:
        return [value]
    if delimiter is not None:
        state.append(delimiter)
    state.append(value)
    return state


def _array_step(state: list[Any] | None, value: Datum) -> list[Any]:
    if state is None:
        return [value]
    state.append(value)
    return state


def _finish_array(state: list[Any] | None) -> ArrayValue | None:
    return None if state is None else ArrayValue(tuple(state))


def _nested_array_step(state: list[Any] | None, value: ArrayValue | None) -> list[Any]:
    if value is None:
        raise NullValueNotAllowed("cannot accumulate null arrays")
    if not value.dims:
        raise ArraySubscriptError("cannot accumulate empty arrays")
    if state is None:
        return [value]
    if state[0].dims != value.dims:
        raise ArraySubscriptError("cannot accumulate arrays of different dimensionality")
    state.append(value)
    return state


def _finish_nested_array(state: list[ArrayValue] | None) -> ArrayValue | None:
    if state is None:
        return None
    first = state[0]
    elements = tuple([element for value in state for element in value.elements])
    return ArrayValue(elements, (len(state), *first.dims), (1, *first.lower_bounds))


def _concatenate(a: list[Any], b: list[Any]) -> list[Any]:
    return a + b


def _register_collections() -> None:
    for signature, empty in (("string_agg(text,text)", ""), ("string_agg(bytea,bytea)", b"")):
        register_aggregate(
            signature,
            AggregateImplementation(
                _none,
                _string_step,
                lambda state, empty=empty: None if state is None else empty.join(state),
                strict=False,
                grows=True,
            ),
        )
    register_aggregate(
        "array_agg(anynonarray)",
        AggregateImplementation(
            _none,
            _array_step,
            _finish_array,
            strict=False,
            combine=_merge_optional(_concatenate),
            grows=True,
        ),
    )
    register_aggregate(
        "array_agg(anyarray)",
        AggregateImplementation(
            _none, _nested_array_step, _finish_nested_array, strict=False, grows=True
        ),
    )


def _check_fraction(fraction: float) -> None:
    if not 0.0 <= fraction <= 1.0:
        raise NumericValueOutOfRange(f"percentile value {fraction:g} is not between 0 and 1")


def _disc(values: list[Any], fraction: float) -> Any:
    _check_fraction(fraction)
    position = fraction * len(values)
    index = int(position)
    return values[max(index if index < position else index - 1, 0)]


def _cont(values: list[Any], fraction: float, between: Callable[[Any, Any, float], Any]) -> Any:
    _check_fraction(fraction)
    position = fraction * (len(values) - 1)
    index = int(position)
    if index == position:
        return values[index]
    return between(values[index], values[index + 1], position - index)


def _between_floats(low: float, high: float, share: float) -> float:
    return low + share * (high - low)


def _between_intervals(low: Any, high: Any, share: float) -> Any:
    difference = interval_add(high, tuple([-field for field in low]))
    return interval_add(low, interval_multiply(difference, share))


def _percentile(
    compute: Callable[[list[Any], float], Any],
) -> Callable[[list[Any] | None, float | None], Any]:
    def finish(state: list[Any] | None, fraction: float | None) -> Any:
        if fraction is None:
            return None
        if state is None:
            _check_fraction(fraction)
            return None
        return compute(state, fraction)

    return finish


def _percentiles(
    compute: Callable[[list[Any], float], Any],
) -> Callable[[list[Any] | None, ArrayValue | None], Any]:
    def finish(state: list[Any] | None, fractions: ArrayValue | None) -> Any:
        if state is None or fractions is None:
            return None
        if not fractions.dims:
            return EMPTY_ARRAY
        found = [None if f is None else compute(state, f) for f in fractions.elements]
        return ArrayValue(tuple(found), fractions.dims, fractions.lower_bounds)

    return finish


def _mode_state(types: tuple[SqlType, ...]) -> list[Any]:
    """Return [best, its count, current, its count, comparison]."""
    return [None, 0, None, 0, compare(types[-1])]


def _mode_step(state: list[Any], value: Datum) -> list[Any]:
    if state[3] and state[4](state[2], value) == 0:
        state[3] += 1
    else:
        state[2] = value
        state[3] = 1
    if state[3] > state[1]:
        state[0] = state[2]
        state[1] = state[3]
    return state


def _register_ordered_sets() -> None:
    def between_floats(values: list[Any], fraction: float) -> Any:
        return _cont(values, fraction, _between_floats)

    def between_intervals(values: list[Any], fraction: float) -> Any:
        return _cont(values, fraction, _between_intervals)

    for argument, compute in (
        ("anyelement", _disc),
        ("float8", between_floats),
        ("interval", between_intervals),
    ):
        name = "percentile_disc" if argument == "anyelement" else "percentile_cont"
        for direct, finish in (
            ("float8", _percentile(compute)),
            ("_float8", _percentiles(compute)),
        ):
            register_aggregate(
                f"{name}({direct},{argument})",
                AggregateImplementation(_none, _array_step, finish, grows=True),
            )
    register_aggregate(
        "mode(anyelement)",
        AggregateImplementation(_mode_state, _mode_step, operator.itemgetter(0), needs_types=True),
    )


_register_counts()
_register_sums()
_register_averages()
_register_extremes()
_register_logic()
_register_collections()
_register_ordered_sets()
