"""The generated tables as objects: what PostgreSQL says about each function, operator and cast.

A signature's key is ``name(type,type)`` with pg_type names, for example ``round(numeric,int4)``.
"""

from typing import Final, NamedTuple

from sql.functions.cast_table import CASTS
from sql.functions.internal_table import INTERNALS
from sql.functions.operator_table import OPERATORS
from sql.functions.signature_table import SIGNATURES
from sql.types.base import SqlType
from sql.types.catalog import type_by_name


class Signature(NamedTuple):
    """One pg_proc row. ``kind``: f function, a, o, h aggregate (plain, ordered-set.

    Hypothetical), w window.
    """

    oid: int
    name: str
    kind: str
    volatility: str
    strict: bool
    returns_set: bool
    variadic: bool
    defaults: int
    direct_args: int
    result: SqlType
    arguments: tuple[SqlType, ...]
    argument_names: tuple[str, ...]
    columns: tuple[tuple[str, SqlType], ...]

    @property
    def key(self) -> str:
        """``name(type,type)``."""
        return f"{self.name}({','.join(t.name for t in self.arguments)})"


class OperatorRow(NamedTuple):
    """One pg_operator row; ``left`` is "" for prefix operators, ``comparison`` "" for most."""

    oid: int
    name: str
    left: str
    right: str
    function: int
    commutator: str
    negator: str
    comparison: str


class CastRow(NamedTuple):
    """One pg_cast row; ``function`` 0 unless ``method`` is "f"; "b" is binary coercible.

    "i" via text.
    """

    source: str
    target: str
    function: int
    context: str
    method: str


def _type(name: str) -> SqlType:
    result = type_by_name(name)
    assert result is not None, name
    return result


def _list(field: str) -> list[str]:
    return [] if field == "-" else field.split(",")


def _signature(line: str) -> Signature:
    oid, name, flags, defaults, direct, result, arguments, names, columns = line.split(" ")
    pairs = [column.split(":") for column in _list(columns)]
    return Signature(
        int(oid),
        name,
        flags[0],
        flags[1],
        flags[2] == "s",
        flags[3] == "r",
        flags[4] == "v",
        int(defaults),
        int(direct),
        _type(result),
        tuple(_type(a) for a in _list(arguments)),
        tuple(_list(names)),
        tuple((column, _type(type_name)) for column, type_name in pairs),
    )


def _operator(line: str) -> OperatorRow:
    oid, *fields = line.split(" ")
    name, left, right, function, commutator, negator, comparison = (
        "" if field == "-" and position != 0 else field for position, field in enumerate(fields)
    )
    return OperatorRow(int(oid), name, left, right, int(function), commutator, negator, comparison)


def _cast(line: str) -> CastRow:
    source, target, function, context, method = line.split(" ")
    return CastRow(source, target, int(function), context, method)


SIGNATURE_ROWS: Final = tuple(_signature(line) for line in SIGNATURES.splitlines())
SIGNATURE_BY_KEY: Final = {row.key: row for row in SIGNATURE_ROWS}
SIGNATURE_BY_OID: Final = {row.oid: row for row in SIGNATURE_ROWS}
INTERNAL_ROWS: Final = tuple(_signature(line) for line in INTERNALS.splitlines())
"""Functions that catalogs refer to (input of types, support of operators): named, not called."""
LISTED_FUNCTIONS: Final = {row.oid: row for row in (*INTERNAL_ROWS, *SIGNATURE_ROWS)}
OPERATOR_ROWS: Final = tuple(_operator(line) for line in OPERATORS.splitlines())
CAST_ROWS: Final = tuple(_cast(line) for line in CASTS.splitlines())
