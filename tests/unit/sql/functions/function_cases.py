"""Calls of built-ins as text, and how to run one: shared by the recorded test and its recorder.

A case is ``name(type,...) <- argument | argument``, types concrete, ``\\N`` for NULL.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from sql.errors import SqlError
from sql.functions.builtin import REGISTRY
from sql.functions.context import ExecutionContext, MemoryBudget
from sql.functions.reg import RegResolver
from sql.functions.registry import Function
from sql.types.base import SqlType
from sql.types.catalog import type_by_name
from sql.types.io import FormatContext, text_input, text_output

POLYMORPHIC = ("anyelement", "anycompatible", "anynonarray", "any", "anycompatiblenonarray")
POLYMORPHIC_ARRAYS = ("anyarray", "anycompatiblearray")
NOW = 750_000_000_000_000


class FakeSession:
    """Only what the recorded functions reach."""

    process_id = 42
    user_name = session_user_name = "postgres"
    client_address = ""
    client_port = 0

    def get_setting(self, name: str) -> str | None:
        return {"timezone": "America/New_York"}.get(name.lower())


def make_context(zone: str = "America/New_York") -> ExecutionContext:
    return ExecutionContext(
        parameters=(),
        catalog=None,
        format_context=FormatContext(time_zone=zone, now=NOW, reg_resolver=RegResolver(None)),
        session=FakeSession(),
        store=None,
        memory=MemoryBudget(1 << 20),
        clock=lambda: NOW,
        statement_timestamp=NOW,
        transaction_timestamp=NOW,
        rng=random.Random(1),
        checkpoint=lambda: None,
    )


def parse_case(line: str) -> tuple[str, list[SqlType], list[str | None]]:
    head, _, tail = line.partition(" <-")
    name, _, type_list = head.strip().partition("(")
    types = [type_by_name(t) for t in type_list.rstrip(")").split(",") if t]
    texts = tail[1:].split(" | ") if types else []
    arguments = [None if text == "\\N" else text.replace("\\n", "\n") for text in texts]
    assert len(types) == len(arguments), line
    return name, types, arguments


def matches(declared: SqlType, actual: SqlType) -> bool:
    if declared.name in POLYMORPHIC:
        return declared.name not in ("anynonarray",) or not actual.is_array
    return declared is actual or (declared.name in POLYMORPHIC_ARRAYS and actual.is_array)


def find_function(name: str, types: list[SqlType]) -> Function:
    for function in REGISTRY.functions.get(name, ()):
        declared = list(function.arg_types)
        if function.variadic and declared[-1].name == "any":
            declared = declared[:-1] + [declared[-1]] * (len(types) - len(declared) + 1)
        if not len(declared) - function.defaults <= len(types) <= len(declared):
            continue
        if all(matches(d, a) for d, a in zip(declared, types, strict=False)):
            return function
    raise LookupError(f"{name}({types}) is not registered")


def result_type(function: Function, types: list[SqlType]) -> SqlType:
    result = function.return_type
    actual = next((t for d, t in zip(function.arg_types, types, strict=False) if d is result), None)
    if actual is not None:
        return actual
    if result.name in POLYMORPHIC:
        array = next(t for t in types if t.is_array)
        return array.element
    if result.name in POLYMORPHIC_ARRAYS:
        return next(t.array for t in types if t.array is not None)
    return result


def run_case(line: str, context: ExecutionContext) -> str:
    """Return the answer's text, \\N, or ``SQLSTATE: message``."""
    try:
        return _run(line, context)
    except SqlError as error:
        return f"{error.sqlstate}: {error.message}"


def _run(line: str, context: ExecutionContext) -> str:
    name, types, texts = parse_case(line)
    function = find_function(name, types)
    values = [
        None if text is None else text_input(sql_type, context.format)(text, -1)
        for sql_type, text in zip(types, texts, strict=True)
    ]
    if function.strict and None in values:
        return "" if function.returns_set else "\\N"
    keywords = {"types": tuple(types)} if function.needs_types else {}
    leading = (context,) if function.needs_context else ()
    result = function.implementation(*leading, *values, **keywords)
    if function.is_async:
        result = asyncio.run(result)
    write = text_output(result_type(function, types), context.format)
    if not function.returns_set:
        return shown(result, write)
    if function.columns:
        writers = [text_output(t, context.format) for _, t in function.columns]
        return "; ".join(
            ",".join(shown(v, w) for v, w in zip(row, writers, strict=True)) for row in result
        )
    return "; ".join(shown(item, write) for item in result)


def shown(value: Any, write: Callable[[Any], str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "\\N" if value is None else write(value).replace("\n", "\\n")
