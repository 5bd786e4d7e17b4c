"""System tables about what is built in: types, functions, operators, casts.

Source: PostgreSQL docs, "System Catalogs"; the rows come from generated tables.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from nodedb.catalog.virtual.registry import CatalogView, Record, system_table
from nodedb.catalog.virtual.static_table import ROWS
from nodedb.catalog.virtual.system_columns import system_tables
from sql.catalog.descriptor import PG_CATALOG_ID, SUPERUSER_ID
from sql.functions.builtin import REGISTRY
from sql.functions.tables import (
    CAST_ROWS,
    INTERNAL_ROWS,
    LISTED_FUNCTIONS,
    OPERATOR_ROWS,
    Signature,
)
from sql.types.array import ArrayValue
from sql.types.catalog import ANY, OID, REGPROC, TEXT, VARCHAR, type_by_name
from sql.types.io import text_input

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sql.types.base import Datum, SqlType

INTERNAL_LANGUAGE: Final = 12
DEFAULT_TABLESPACE: Final = 1663


@cache
def _columns(table: str) -> tuple[tuple[str, SqlType], ...]:
    [found] = (
        item for item in system_tables() if item.name == table and item.schema_id == PG_CATALOG_ID
    )
    return tuple((c.name, OID if c.type is REGPROC else c.type) for c in found.columns)


@cache
def static_rows(table: str) -> tuple[Record, ...]:
    """Return the generated rows of a catalog."""
    columns = _columns(table)
    readers = [text_input(sql_type) for _, sql_type in columns]
    result: list[Record] = []
    for line in ROWS[table].strip("\n").split("\n"):
        record: dict[str, Datum] = {}
        for (column, _), read, text in zip(columns, readers, line.split("\t"), strict=True):
            record[column] = None if text == "\\N" else read(text, -1)
        result.append(record)
    return tuple(result)


def _register(table: str) -> None:
    @system_table(table)
    def rows(_view: CatalogView) -> tuple[Record, ...]:
        return static_rows(table)


for _table in (
    "pg_type",
    "pg_am",
    "pg_opfamily",
    "pg_opclass",
    "pg_amop",
    "pg_collation",
    "pg_language",
):
    _register(_table)


@cache
def _operator_classes() -> dict[tuple[int, int], int]:
    return {
        (row["opcmethod"], row["opcintype"]): row["oid"]
        for row in static_rows("pg_opclass")
        if row["opcdefault"]
    }


def default_operator_class(sql_type: SqlType, method: int) -> int:
    """Return the OID of a type's default operator class."""
    stand_in = TEXT if sql_type is VARCHAR else sql_type
    oid = 2277 if stand_in.is_array and stand_in.name[0] == "_" else stand_in.oid
    return _operator_classes().get((method, oid), 0)


@system_table("pg_proc")
def pg_proc(_view: CatalogView) -> Iterator[Record]:
    """Functions, aggregates and window functions that nodedb has or other catalogs refer to."""
    referenced = {row.oid for row in INTERNAL_ROWS}
    for row in LISTED_FUNCTIONS.values():
        if row.oid in REGISTRY.by_oid or row.oid in referenced:
            yield _procedure(row)


def _procedure(row: Signature) -> Record:
    arguments = tuple(argument.oid for argument in row.arguments)
    last = row.arguments[-1] if row.arguments else None
    variadic = 0
    if row.variadic and last is not None:
        variadic = last.element.oid if last.element is not None else ANY.oid
    kind = "a" if row.kind in "aoh" else row.kind
    outputs = row.columns if row.result.name == "record" else ()
    all_types = (*arguments, *(t.oid for _, t in outputs))
    names = tuple(row.argument_names)
    if outputs and len(names) < len(all_types):
        names = (*(names or ("",) * len(arguments)), *(name for name, _ in outputs))
    return {
        "oid": row.oid,
        "proname": row.name,
        "pronamespace": PG_CATALOG_ID,
        "proowner": SUPERUSER_ID,
        "prolang": INTERNAL_LANGUAGE,
        "procost": 1.0,
        "prorows": 1000.0 if row.returns_set else 0.0,
        "provariadic": variadic,
        "prosupport": 0,
        "prokind": kind,
        "prosecdef": False,
        "proleakproof": False,
        "proisstrict": row.strict,
        "proretset": row.returns_set,
        "provolatile": row.volatility,
        "proparallel": "s",
        "pronargs": len(arguments),
        "pronargdefaults": row.defaults,
        "prorettype": row.result.oid,
        "proargtypes": ArrayValue(arguments, (len(arguments),), (0,)),
        "proallargtypes": ArrayValue(all_types) if outputs else None,
        "proargmodes": ArrayValue(("i",) * len(arguments) + ("o",) * len(outputs))
        if outputs
        else None,
        "proargnames": ArrayValue(names) if names else None,
        "prosrc": row.name if kind == "f" else "aggregate_dummy",
    }


@system_table("pg_aggregate")
def pg_aggregate(_view: CatalogView) -> Iterator[Record]:
    """List the aggregates that nodedb has."""
    for record in static_rows("pg_aggregate"):
        if record["aggfnoid"] in REGISTRY.by_oid:
            yield record


def _oid_of(name: str) -> int:
    found = type_by_name(name) if name else None
    return 0 if found is None else found.oid


@system_table("pg_operator")
def pg_operator(_view: CatalogView) -> Iterator[Record]:
    """Operators that nodedb has."""
    for row in OPERATOR_ROWS:
        operator = REGISTRY.operator_by_oid.get(row.oid)
        if operator is None:
            continue
        yield {
            "oid": row.oid,
            "oprname": row.name,
            "oprnamespace": PG_CATALOG_ID,
            "oprowner": SUPERUSER_ID,
            "oprkind": "b" if row.left else "l",
            "oprcanmerge": row.comparison == "=",
            "oprcanhash": row.comparison == "=",
            "oprleft": _oid_of(row.left),
            "oprright": _oid_of(row.right),
            "oprresult": operator.result.oid,
            "oprcom": 0,
            "oprnegate": 0,
            "oprcode": row.function,
            "oprrest": 0,
            "oprjoin": 0,
        }


@system_table("pg_cast")
def pg_cast(_view: CatalogView) -> Iterator[Record]:
    """Casts."""
    for number, row in enumerate(CAST_ROWS):
        yield {
            "oid": 10035 + number,
            "castsource": _oid_of(row.source),
            "casttarget": _oid_of(row.target),
            "castfunc": row.function,
            "castcontext": row.context,
            "castmethod": row.method,
        }


@system_table("pg_tablespace")
def pg_tablespace(_view: CatalogView) -> Iterator[Record]:
    """List the two tablespaces every cluster has."""
    for oid, name in ((DEFAULT_TABLESPACE, "pg_default"), (1664, "pg_global")):
        yield {"oid": oid, "spcname": name, "spcowner": SUPERUSER_ID}


@system_table("pg_extension")
def pg_extension(_view: CatalogView) -> Iterator[Record]:
    """plpgsql, which clients expect to be there."""
    yield {
        "oid": 13625,
        "extname": "plpgsql",
        "extowner": SUPERUSER_ID,
        "extnamespace": PG_CATALOG_ID,
        "extrelocatable": False,
        "extversion": "1.0",
    }


@system_table("pg_available_extensions")
def pg_available_extensions(_view: CatalogView) -> Iterator[Record]:
    """List the extensions that can be named in CREATE EXTENSION."""
    yield {
        "name": "plpgsql",
        "default_version": "1.0",
        "installed_version": "1.0",
        "comment": "PL/pgSQL procedural language",
    }


@system_table("pg_available_extension_versions")
def pg_available_extension_versions(_view: CatalogView) -> Iterator[Record]:
    """Their versions."""
    yield {
        "name": "plpgsql",
        "version": "1.0",
        "installed": True,
        "superuser": True,
        "trusted": True,
        "relocatable": False,
        "schema": "pg_catalog",
        "comment": "PL/pgSQL procedural language",
    }
