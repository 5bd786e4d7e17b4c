"""Every literal, operation and order here was put to PostgreSQL 15; its answers are the tables.

Format of a table: JSON lines; the first names the columns, a line with "context" holds
DateStyle, IntervalStyle, TimeZone, extra_float_digits and bytea_output for the lines after it.
"""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sql.errors import SqlError
from sql.types import catalog, compare, numeric
from sql.types.base import SqlType
from sql.types.io import (
    FormatContext,
    binary_input,
    binary_output,
    text_input,
    wire_text_output,
)
from sql.types.typmod import apply_typmod

RECORDED = Path(__file__).parent / "recorded"


def lines(name: str) -> Iterator[Any]:
    with (RECORDED / name).open(encoding="utf-8") as file:
        next(file)
        for line in file:
            yield json.loads(line)


def attempt(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except SqlError as error:
        return [error.sqlstate, error.message, error.detail, error.hint]


def read(sql_type: SqlType, typmod: int, text: str, context: FormatContext) -> Any:
    """Cast a literal: interval's input needs the typmod, other types are fitted afterwards."""
    if sql_type is catalog.INTERVAL:
        return text_input(sql_type, context)(text, typmod)
    value = text_input(sql_type, context)(text, -1)
    return apply_typmod(sql_type, value, typmod, explicit=True)


@pytest.mark.parametrize("table", ["scalars", "datetimes", "intervals"])
def test_input_and_output_match_postgresql(table: str) -> None:
    faults = []
    context = FormatContext()
    for line in lines(f"{table}.jsonl"):
        if isinstance(line, dict):
            style, interval_style, zone, digits, bytea = line["context"]
            context = FormatContext(style, interval_style, zone, digits, bytea)
            continue
        name, typmod, text, *expected = line
        sql_type = catalog.type_by_name(name)
        assert sql_type is not None

        def show(sql_type=sql_type, typmod=typmod, text=text, context=context):
            value = read(sql_type, typmod, text, context)
            data = binary_output(sql_type, context)(value)
            again = binary_input(sql_type, context)(data)
            assert repr(again) == repr(value), (sql_type, text)
            return [wire_text_output(sql_type, context)(value).decode(), data.hex()]

        got = attempt(show)
        if got != expected:
            faults.append((context.date_style, context.time_zone, line, got))
    assert faults == []


OPERATIONS: dict[str, Callable[..., Decimal]] = {
    "add": numeric.add,
    "sub": numeric.subtract,
    "mul": numeric.multiply,
    "div": numeric.divide,
    "div_truncate": numeric.div_truncate,
    "mod": numeric.modulo,
    "power": numeric.power,
    "log2": numeric.log,
    "log": numeric.log,
    "ln": numeric.ln,
    "exp": numeric.exp,
    "sqrt": numeric.sqrt,
    "ceil": numeric.ceil,
    "floor": numeric.floor,
    "round": numeric.round_numeric,
    "trunc": numeric.trunc_numeric,
}


def operate(name: str, operands: list[str]) -> str:
    if name.startswith("toint_"):
        target = catalog.type_by_name(name.removeprefix("toint_"))
        assert target is not None
        return str(numeric.numeric_to_int(numeric.numeric_in(operands[0]), target))
    if name in {"roundn", "truncn"}:
        round_or_trunc = numeric.round_numeric if name == "roundn" else numeric.trunc_numeric
        return numeric.numeric_out(
            round_or_trunc(numeric.numeric_in(operands[0]), int(operands[1]))
        )
    return numeric.numeric_out(OPERATIONS[name](*map(numeric.numeric_in, operands)))


def test_numeric_arithmetic_matches_postgresql() -> None:
    unary = {"ln", "exp", "sqrt", "ceil", "floor", "round", "trunc", "log"}
    faults = []
    for name, *rest in lines("numeric.jsonl"):
        count = 1 if name in unary or name.startswith("toint_") else 2
        operands, expected = rest[:count], rest[count:]
        got = attempt(lambda name=name, operands=operands: [operate(name, operands)])
        if got[:2] != expected:
            faults.append((name, operands, expected, got))
    assert faults == []


def test_order_equality_and_hash_match_postgresql() -> None:
    for name, entries in lines("order.jsonl"):
        sql_type = catalog.type_by_name(name)
        assert sql_type is not None
        compares, equals = compare.compare(sql_type), compare.equals(sql_type)
        hash_key = compare.hash_key(sql_type) or (lambda value: value)
        values = [(text_input(sql_type)(text, -1), rank) for text, rank in entries]
        for left, left_rank in values:
            for right, right_rank in values:
                expected = (left_rank > right_rank) - (left_rank < right_rank)
                assert compares(left, right) == expected, (name, left, right)
                assert equals(left, right) == (expected == 0)
                assert (hash_key(left) == hash_key(right)) == (expected == 0)
                if expected == 0:
                    assert hash(hash_key(left)) == hash(hash_key(right))
