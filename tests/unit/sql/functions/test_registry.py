"""The registry holds exactly what the tables and the implementations agree on; inline code equals the functions."""

import itertools
import math
from decimal import Decimal

import pytest

from sql.errors import SqlError
from sql.functions.builtin import REGISTRY
from sql.functions.implementation import AGGREGATES, FUNCTIONS
from sql.functions.inline import INLINE_GLOBALS
from sql.functions.registry import Function
from sql.functions.tables import SIGNATURE_BY_KEY
from sql.types.catalog import BOOL, DATE, FLOAT8, INT4, INT8, NUMERIC, TEXT, TIMESTAMP, VARCHAR

SAMPLES = {
    "bool": (True, False),
    "int2": (0, 1, -7, 3, 32767, -32768),
    "int4": (0, 1, -7, 3, 2147483647, -2147483648),
    "int8": (0, 1, -7, 3, 2**63 - 1, -(2**63)),
    "float4": (0.0, 1.5, -2.0, math.inf, math.nan, 1e30),
    "float8": (0.0, 1.5, -2.0, math.inf, -math.inf, math.nan, 1e308, 1e-308),
    "numeric": tuple(map(Decimal, ("0", "1.50", "-2", "NaN", "Infinity"))),
    "text": ("", "a", "B", "é ", " x "),
    "name": ("", "a", "B"),
    "bpchar": ("a  ", "a", "b"),
    "bytea": (b"", b"a", b"\xff"),
    "char": ("", "a"),
    "oid": (0, 16384),
    "date": (0, 1, 2**31 - 1),
    "timestamp": (0, 1),
    "timestamptz": (0, 1),
    "time": (0, 1),
    "timetz": ((0, 0), (3_600_000_000, -3600), (0, 3600)),
    "interval": ((1, 0, 0), (0, 30, 0), (0, 0, 5)),
    "uuid": (b"a" * 16, b"b" * 16),
    "xid": (1, 2),
    "xid8": (1, 2),
    "cid": (1, 2),
    "pg_lsn": (1, 2),
    "tid": ((0, 1), (1, 0)),
}
INLINED = [f for f in REGISTRY.by_oid.values() if isinstance(f, Function) and f.inline]


def test_every_implementation_has_a_signature() -> None:
    assert set(FUNCTIONS) | set(AGGREGATES) <= set(SIGNATURE_BY_KEY)


def outcome(call):
    try:
        return repr(call())
    except SqlError as error:
        return (error.sqlstate, error.message)


@pytest.mark.parametrize("function", INLINED, ids=lambda f: f"{f.name}-{f.oid}")
def test_inline_code_equals_the_function(function: Function) -> None:
    names = [f"a{n}" for n in range(len(function.arg_types))]
    source = function.inline.format(*names, t="t0")
    scope = dict(INLINE_GLOBALS)
    exec(f"def inlined({', '.join(names)}): return {source}", scope)
    for values in itertools.product(*(SAMPLES[t.name] for t in function.arg_types)):
        expected = outcome(lambda values=values: function.implementation(*values))
        assert outcome(lambda values=values: scope["inlined"](*values)) == expected, values


@pytest.mark.parametrize("sql_type", [BOOL, INT4, INT8, FLOAT8, NUMERIC, TEXT, DATE, TIMESTAMP])
def test_types_have_all_six_comparisons(sql_type) -> None:
    found = {
        name
        for name in ("=", "<>", "<", "<=", ">", ">=")
        for o in REGISTRY.operators[name]
        if o.left is o.right is sql_type and o.comparison == name
    }
    assert found == {"=", "<>", "<", "<=", ">", ">="}


def test_casts() -> None:
    cast = REGISTRY.find_cast(INT4, INT8)
    assert cast is not None
    assert cast.context == "implicit"
    assert cast.function is not None
    binary = REGISTRY.find_cast(VARCHAR, TEXT)
    assert binary is not None
    assert binary.function is None
    assert not binary.via_text
    assert REGISTRY.find_cast(TEXT, INT4) is None


def test_version_is_what_drivers_parse() -> None:
    (version,) = REGISTRY.functions["version"]
    assert version.implementation().startswith("PostgreSQL 15.0")
