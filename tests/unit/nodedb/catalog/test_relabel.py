"""Type changes that rewrite no row, as recorded from PostgreSQL 15 by ``pg_relation_filenode``."""

import pytest

from nodedb.catalog.ddl.relabel import is_relabel
from sql.binder.type_names import resolve_type
from sql.catalog.descriptor import Column
from sql.parser import parse_statements
from tests.lib.catalog_fixture import FixtureCatalog, make_table

# (old type, new type, whether PostgreSQL 15 keeps the file)
RECORDED = [
    ("varchar(10)", "varchar(20)", True),
    ("varchar(20)", "varchar(15)", False),
    ("varchar(20)", "varchar", True),
    ("varchar", "text", True),
    ("text", "varchar", True),
    ("varchar", "varchar(20)", False),
    ("numeric(6,2)", "numeric(8,2)", True),
    ("numeric(8,2)", "numeric(8,3)", False),
    ("numeric(8,2)", "numeric(7,2)", False),
    ("numeric(8,2)", "numeric", True),
    ("numeric", "numeric(10,2)", False),
    ("timestamp", "timestamptz", True),
    ("timestamptz", "timestamp", True),
    ("timestamp(3)", "timestamp(6)", True),
    ("timestamp(3)", "timestamp", True),
    ("timestamp", "timestamp(2)", False),
    ("int", "bigint", False),
    ("bigint", "int", False),
    ("char(5)", "char(8)", False),
    ("char(8)", "text", False),
    ("interval(2)", "interval(4)", True),
    ("interval(4)", "interval", True),
    ("time(2)", "time(4)", True),
    ("real", "float8", False),
]


def column(type_text: str) -> Column:
    statement = parse_statements(f"CREATE TABLE t (a {type_text})")[0].statement
    found, typmod = resolve_type(FixtureCatalog([]), statement.elements[0].type_name)
    return make_table("t", [("a", found, {"typmod": typmod})]).columns[0]


@pytest.mark.parametrize(("old", "new", "keeps"), RECORDED)
def test_as_recorded(old: str, new: str, keeps: bool) -> None:
    assert is_relabel(column(old), column(new), is_utc=True) is keeps


def test_timestamps_change_their_zone_only_where_there_is_none() -> None:
    assert not is_relabel(column("timestamp"), column("timestamptz"), is_utc=False)
    assert is_relabel(column("timestamp(3)"), column("timestamp"), is_utc=False)
