"""Aggregates give what PostgreSQL answered for the same rows, and NULL (or 0) for none."""

import pytest
from function_cases import make_context, matches

from sql.functions.builtin import REGISTRY
from sql.functions.registry import Aggregate
from sql.types.base import SqlType
from sql.types.catalog import type_by_name
from sql.types.io import text_input, text_output

INTS = ("1", "5", None, "-3", "5")
FLOATS = ("1.5", "2.25", None, "-0.1", "0.3")
NUMERICS = ("1.5", "2.25", None, "-0.125")


def find(name: str, types: tuple[SqlType, ...]) -> Aggregate:
    for aggregate in REGISTRY.aggregates[name]:
        if len(aggregate.arg_types) == len(types) and all(
            declared is actual or matches(declared, actual)
            for declared, actual in zip(aggregate.arg_types, types, strict=True)
        ):
            return aggregate
    raise LookupError(name)


def compute(
    name: str, type_names: str, rows: list[tuple[str | None, ...]], result: str
) -> str | None:
    types = tuple(type_by_name(t) for t in type_names.split(",") if t)
    aggregate = find(name, types)
    context = make_context()
    leading = (context,) if aggregate.needs_context else ()
    state = aggregate.create(*leading, *((types,) if aggregate.needs_types else ()))
    for row in rows:
        values = [
            None if text is None else text_input(sql_type, context.format)(text, -1)
            for sql_type, text in zip(types, row, strict=True)
        ]
        if not (aggregate.strict and None in values):
            state = aggregate.step(state, *values)
    answer = aggregate.finish(state)
    return None if answer is None else text_output(type_by_name(result), context.format)(answer)


@pytest.mark.parametrize(
    ("name", "type_names", "values", "result", "answer"),
    [
        ("count", "any", INTS, "int8", "4"),
        ("sum", "int4", INTS, "int8", "8"),
        ("avg", "int4", INTS, "numeric", "2.0000000000000000"),
        ("min", "int4", INTS, "int4", "-3"),
        ("max", "int4", INTS, "int4", "5"),
        ("bit_or", "int4", INTS, "int4", "-3"),
        ("sum", "numeric", NUMERICS, "numeric", "3.625"),
        ("max", "float8", ("1", "NaN", "Infinity"), "float8", "NaN"),
        ("bool_and", "bool", ("t", "f", None), "bool", "f"),
        ("bool_or", "bool", ("t", "f", None), "bool", "t"),
        ("max", "interval", ("1 mon", "31 days"), "interval", "31 days"),
        ("array_agg", "int4", ("1", None, "2"), "_int4", "{1,NULL,2}"),
        ("array_agg", "_int4", ("{1,2}", "{3,4}"), "_int4", "{{1,2},{3,4}}"),
        ("json_agg", "int4", ("1", None), "json", "[1, null]"),
        ("jsonb_agg", "text", ("b", None), "jsonb", '["b", null]'),
    ],
)
def test_one_column(name: str, type_names: str, values, result: str, answer: str) -> None:
    names = "int4" if type_names == "any" else type_names
    assert compute(name, names, [(value,) for value in values], result) == answer


@pytest.mark.parametrize("name", ["sum", "avg", "min", "max", "bit_and", "variance", "stddev_pop"])
def test_no_rows_are_null(name: str) -> None:
    assert compute(name, "int4", [], "numeric") is None


def test_count_of_no_rows_is_zero() -> None:
    assert compute("count", "int4", [], "int8") == "0"


def test_string_agg_skips_nulls_and_keeps_delimiters() -> None:
    rows = [("a", "-"), (None, "+"), ("b", "/")]
    assert compute("string_agg", "text,text", rows, "text") == "a/b"


def test_object_agg_writes_pairs() -> None:
    rows = [("x", "1"), ("y", None)]
    assert compute("json_object_agg", "text,int4", rows, "json") == '{ "x" : 1, "y" : null }'


def test_bigint_sum_overflow_becomes_numeric() -> None:
    rows = [(str(2**63 - 1),), (str(2**63 - 1),)]
    assert compute("sum", "int8", rows, "numeric") == "18446744073709551614"
