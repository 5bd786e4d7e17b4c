"""Names of the reg types and the pg_get_...def functions over a small catalog."""

import pytest

from sql.ast.query import BinaryOp, ColumnRef, IntegerLiteral, OperatorName, QualifiedName
from sql.catalog.descriptor import Check, Column, ForeignKey, Index, IndexKey, Role, Schema, Table
from sql.catalog.snapshot import CatalogSnapshot
from sql.errors import SqlError
from sql.functions.builtin import REGISTRY
from sql.functions.reg import RegResolver
from sql.types.catalog import (
    REGCLASS,
    REGNAMESPACE,
    REGOPERATOR,
    REGPROC,
    REGPROCEDURE,
    REGROLE,
    REGTYPE,
)

GREATER = BinaryOp(OperatorName(">"), ColumnRef(("c",)), IntegerLiteral(1))
COLUMNS = (
    Column(name="a", type_oid=23, position=0, number=1),
    Column(name="B", type_oid=25, position=1, number=2),
    Column(name="c", type_oid=23, position=2, number=3),
)
TABLE = Table(
    id=20000,
    name="t",
    schema_id=2200,
    storage_id=1,
    columns=COLUMNS,
    clustering_key=(0,),
    primary_name="t_pkey",
    primary_id=20001,
    checks=(Check(id=20003, name="t_check", expression=GREATER),),
    foreign_keys=(
        ForeignKey(
            id=20004,
            name="t_fk",
            columns=(2,),
            referenced_table_id=20000,
            referenced_columns=(0,),
            referenced_index_id=1,
            on_delete="cascade",
        ),
    ),
    indexes=(
        Index(
            id=20005,
            name="i",
            index_id=2,
            keys=(IndexKey(position=1), IndexKey(position=2, descending=True, nulls_first=True)),
            predicate=GREATER,
            unique=True,
            constraint=True,
            constraint_id=20006,
        ),
    ),
)
HIDDEN = Table(
    id=20010,
    name="Odd name",
    schema_id=16385,
    storage_id=2,
    columns=COLUMNS,
    clustering_key=(0,),
)


class SmallCatalog:
    """A database with schemas public (on the path) and other (not)."""

    database_id = 5
    database_name = "db"
    user_id = 10

    def __init__(self) -> None:
        self.snapshot = CatalogSnapshot().with_changes(
            [
                Schema(id=2200, name="public", database_id=5),
                Schema(id=16385, name="other", database_id=5),
                Role(id=10, name="postgres", superuser=True),
                TABLE,
                HIDDEN,
            ],
            [],
            schema_version=1,
            next_id=30000,
        )

    def search_path_ids(self) -> tuple[int, ...]:
        return (11, 2200)

    def schema_name(self, schema_id: int) -> str:
        return {11: "pg_catalog", 2200: "public", 16385: "other"}[schema_id]

    def schema_id(self, name: str) -> int | None:
        return {"pg_catalog": 11, "public": 2200, "other": 16385}.get(name)

    def find_relation(self, name: QualifiedName):
        return self.snapshot.relation(self.schema_id(name.schema) or 0, name.name)

    def relation_by_id(self, relation_id: int):
        found = self.snapshot.get(relation_id)
        return found if isinstance(found, Table) else None


class SmallContext:
    catalog = SmallCatalog()


def call(key: str, *arguments):
    name = key.partition("(")[0]
    for function in REGISTRY.functions[name]:
        if f"{name}({','.join(t.name for t in function.arg_types)})" == key:
            return function.implementation(SmallContext(), *arguments)
    raise LookupError(key)


@pytest.mark.parametrize(
    ("sql_type", "text", "oid", "shown"),
    [
        (REGCLASS, "t", 20000, "t"),
        (REGCLASS, " PUBLIC . T ", 20000, "t"),
        (REGCLASS, "t_pkey", 20001, "t_pkey"),
        (REGCLASS, "public.i", 20005, "i"),
        (REGCLASS, 'other."Odd name"', 20010, 'other."Odd name"'),
        (REGCLASS, "20000", 20000, "t"),
        (REGCLASS, "-", 0, "-"),
        (REGTYPE, "int", 23, "integer"),
        (REGTYPE, "Character Varying(10)", 1043, "character varying"),
        (REGTYPE, "timestamp(3) with time zone", 1184, "timestamp with time zone"),
        (REGTYPE, "pg_catalog.int4[]", 1007, "integer[]"),
        (REGTYPE, '"char"', 18, '"char"'),
        (REGTYPE, "_text", 1009, "text[]"),
        (REGNAMESPACE, "other", 16385, "other"),
        (REGROLE, "postgres", 10, "postgres"),
        (REGPROC, "now", 1299, "now"),
        (REGPROCEDURE, "lower(text)", 870, "lower(text)"),
        (REGOPERATOR, "+(integer,int4)", 551, "+(integer,integer)"),
    ],
)
def test_names_both_ways(sql_type, text: str, oid: int, shown: str) -> None:
    resolver = RegResolver(SmallCatalog())
    assert resolver.input(sql_type, text) == oid
    assert resolver.output(sql_type, oid) == shown


@pytest.mark.parametrize(
    ("sql_type", "text", "sqlstate", "message"),
    [
        (REGCLASS, "Nope", "42P01", 'relation "nope" does not exist'),
        (REGCLASS, "nope.t", "42P01", 'relation "nope.t" does not exist'),
        (REGCLASS, "a..b", "42602", "invalid name syntax"),
        (REGTYPE, "nope", "42704", 'type "nope" does not exist'),
        (REGROLE, "nope", "42704", 'role "nope" does not exist'),
        (REGNAMESPACE, "nope", "3F000", 'schema "nope" does not exist'),
        (REGPROC, "nope", "42883", 'function "nope" does not exist'),
        (REGPROC, "sum", "42725", 'more than one function named "sum"'),
        (REGPROCEDURE, "nope(int)", "42883", 'function "nope(int)" does not exist'),
        (REGPROCEDURE, "lower", "22P02", "expected a left parenthesis"),
    ],
)
def test_missing_names(sql_type, text: str, sqlstate: str, message: str) -> None:
    with pytest.raises(SqlError) as caught:
        RegResolver(SmallCatalog()).input(sql_type, text)
    assert (caught.value.sqlstate, caught.value.message) == (sqlstate, message)


def test_unknown_oids_have_no_name() -> None:
    resolver = RegResolver(SmallCatalog())
    for sql_type in (REGCLASS, REGTYPE, REGROLE, REGNAMESPACE, REGPROC, REGPROCEDURE):
        assert resolver.output(sql_type, 4_000_000) is None


@pytest.mark.parametrize(
    ("oid", "definition"),
    [
        (20002, "PRIMARY KEY (a)"),
        (20003, "CHECK ((c > 1))"),
        (20004, "FOREIGN KEY (c) REFERENCES t(a) ON DELETE CASCADE"),
        (20006, 'UNIQUE ("B", c)'),
        (1, None),
    ],
)
def test_constraint_definitions(oid: int, definition: str | None) -> None:
    assert call("pg_get_constraintdef(oid)", oid) == definition


def test_index_definitions() -> None:
    assert call("pg_get_indexdef(oid)", 20001) == (
        "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (a)"
    )
    assert call("pg_get_indexdef(oid)", 20005) == (
        'CREATE UNIQUE INDEX i ON public.t USING btree ("B", c DESC) WHERE (c > 1)'
    )
    assert call("pg_get_indexdef(oid,int4,bool)", 20005, 1, True) == '"B"'
    assert call("pg_get_indexdef(oid)", 1) is None


def test_visibility_and_privileges() -> None:
    assert call("pg_table_is_visible(oid)", 20000) is True
    assert call("pg_table_is_visible(oid)", 20010) is False
    assert call("pg_table_is_visible(oid)", 1) is None
    assert call("has_table_privilege(text,text)", "t", "SELECT, insert with grant option") is True
    with pytest.raises(SqlError, match='unrecognized privilege type: "foo"'):
        call("has_table_privilege(text,text)", "t", "foo")
    with pytest.raises(SqlError, match='role "nobody" does not exist'):
        call("has_table_privilege(name,text,text)", "nobody", "t", "select")
    assert call("to_regclass(text)", "nope") is None
