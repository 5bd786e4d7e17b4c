"""Functions and type inputs at the edges of their types: a datum or an SQL error, nothing else.

The seed is in the test's name.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import function_cases
import pytest

from sql.errors import SqlError
from sql.functions.builtin import REGISTRY
from sql.functions.registry import Function
from sql.types.catalog import all_types, type_by_name
from sql.types.io import text_input

if TYPE_CHECKING:
    from sql.types.base import SqlType

VALUES: Final = {
    "bool": ("t", "f"),
    "int2": ("0", "1", "-1", "-32768", "32767"),
    "int4": ("0", "1", "-1", "5", "-2147483648", "2147483647"),
    "int8": ("0", "1", "-1", "9223372036854775807", "-9223372036854775808"),
    "float4": ("0", "-0", "1.5", "NaN", "Infinity", "-Infinity", "3.4e38"),
    "float8": ("0", "-0", "1", "-1.5", "NaN", "Infinity", "-Infinity", "1e308", "-1e308", "5e-324"),
    "numeric": ("0", "1", "-1", "NaN", "Infinity", "-Infinity", "1e100", "-1.5", "0.0000000001"),
    "text": ("", "a", "%", "\\", "é", "{1,2}", "[", "^a*(b)?$", "2024-01-01", "YYYY-MM-DD",
             "FM999D99th", "hex", "UTC", "a.b", '"x', "\\1", "%s %I", "day", "month", "epoch"),
    "bytea": ("", "\\x00", "\\xff00ff"),
    "date": ("2024-02-29", "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31"),
    "time": ("00:00", "24:00", "12:34:56.789"),
    "timetz": ("00:00+00", "23:59:59-15:59"),
    "timestamp": ("2024-02-29 12:00", "infinity", "-infinity", "294276-12-31 23:59:59"),
    "timestamptz": ("2024-02-29 12:00+00", "infinity", "4713-01-01 00:00+00 BC"),
    "interval": ("0", "1 day", "-1 mon", "178000000 years", "2147483647 days", "1 mon 04:05:06.7"),
    "json": ("{}", "[]", "1", '"a"', "null", '{"a":[1,{"b":null}]}'),
    "jsonb": ("{}", "[]", "1", '"a"', "null", '{"a":[1,{"b":null}]}', "1e1000"),
    "_int4": ("{}", "{1,2}", "{{1,2},{3,4}}", "{NULL}", "[0:1]={5,6}"),
    "_text": ("{}", "{a,b}", "{NULL}", "{{a,b},{c,d}}"),
    "_float8": ("{}", "{1.5,NaN}"),
}  # fmt: skip
STAND_INS: Final = {
    "any": "int4", "anyelement": "int4", "anyarray": "_int4", "anynonarray": "int4",
    "anycompatible": "int4", "anycompatiblearray": "_int4", "anycompatiblenonarray": "int4",
}  # fmt: skip
ENDLESS: Final = frozenset(("repeat", "lpad", "rpad", "array_fill", "generate_series", "factorial"))
NEED_A_SESSION: Final = ("pg_", "has_", "to_reg", "txid", "set_config", "current_", "row_security")
CALLS: Final = 12


def argument_types(function: Function) -> tuple[SqlType, ...] | None:
    names = [STAND_INS.get(t.name, t.name) for t in function.arg_types]
    if any(name not in VALUES for name in names):
        return None
    return tuple(t for t in map(type_by_name, names) if t is not None)


@pytest.mark.parametrize("seed", [1, 2])
def test_functions(seed: int) -> None:
    rng = random.Random(seed)
    context = function_cases.make_context()
    called = 0
    for function in REGISTRY.by_oid.values():
        if not isinstance(function, Function) or function.is_async or function.name in ENDLESS:
            continue
        types = argument_types(function)
        if not types or function.name.startswith(NEED_A_SESSION) or function.name == "regclass":
            continue
        for _ in range(CALLS):
            texts = [rng.choice(VALUES[t.name]) for t in types]
            values = [text_input(t)(text, -1) for t, text in zip(types, texts, strict=True)]
            first = (context,) if function.needs_context else ()
            keywords = {"types": types} if function.needs_types else {}
            called += 1
            try:
                result = function.implementation(*first, *values, **keywords)
                if function.returns_set and result is not None:
                    for _row, _ in zip(result, range(50), strict=False):
                        pass
            except SqlError:
                continue
            except Exception as error:
                raise AssertionError(f"seed {seed}: {function.name} {texts}") from error
    assert called > 5000


@pytest.mark.parametrize("seed", [1, 2])
def test_type_inputs(seed: int) -> None:
    rng = random.Random(seed)
    pieces = [text for texts in VALUES.values() for text in texts]
    pieces += ["-", ":", "+", ".", " ", "e", "BC", "ago", "/", ",", "\x7f", "\U0001f600", "{", '"']
    for sql_type in all_types():
        if sql_type.kind == "p" or sql_type.name.lstrip("_").startswith(("reg", "acl")):
            continue
        read = text_input(sql_type, function_cases.make_context().format)
        for _ in range(60):
            text = "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 4)))
            try:
                read(text, -1)
            except SqlError:
                continue
            except Exception as error:
                raise AssertionError(f"seed {seed}: {sql_type.name} {text!r}") from error
