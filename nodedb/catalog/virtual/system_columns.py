"""The generated list of PostgreSQL's system tables and views, read into values."""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple

from nodedb.catalog.virtual.columns_table import COLUMNS
from sql.catalog.descriptor import INFORMATION_SCHEMA_ID, PG_CATALOG_ID
from sql.types.base import NO_TYPMOD, SqlType
from sql.types.catalog import type_by_name

_COLUMN: Final = re.compile(r"(\w+):(\w+)(?:\((\d+)\))?")


class SystemColumn(NamedTuple):
    """A column; ``typmod`` is that of a domain, as of information_schema's yes_or_no."""

    name: str
    type: SqlType
    typmod: int


class SystemTable(NamedTuple):
    """A table or view of pg_catalog or information_schema."""

    oid: int
    schema_id: int
    name: str
    is_view: bool
    columns: tuple[SystemColumn, ...]


@cache
def system_tables() -> tuple[SystemTable, ...]:
    """Return all of them, in the order of the list."""
    result: list[SystemTable] = []
    for line in COLUMNS.splitlines():
        oid, kind, name, *columns = line.split(" ")
        schema_id = INFORMATION_SCHEMA_ID if kind[0] == "i" else PG_CATALOG_ID
        read = tuple(_column(text) for text in columns)
        result.append(SystemTable(int(oid), schema_id, name, kind[1] == "v", read))
    return tuple(result)


def _column(text: str) -> SystemColumn:
    match = _COLUMN.fullmatch(text)
    assert match is not None, text
    name, type_name, typmod = match.groups()
    sql_type = type_by_name(type_name)
    assert sql_type is not None, text
    return SystemColumn(name, sql_type, NO_TYPMOD if typmod is None else int(typmod))
