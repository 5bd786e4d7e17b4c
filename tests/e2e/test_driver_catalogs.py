"""What pgjdbc and Npgsql ask the catalogs, shortened; answers recorded from PostgreSQL."""

import psycopg
import pytest
from psycopg import errors


@pytest.fixture
def table(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute(
        "CREATE TABLE jt (a int, b text, c int, PRIMARY KEY (c, a)); CREATE INDEX ON jt (b, (a + 1))"
    )
    return connection


def test_primary_key_columns_of_jdbc(table: psycopg.Connection) -> None:
    found = table.execute(
        "SELECT r.column_name, r.key_seq, r.pk_name FROM (SELECT a.attname AS column_name,"
        " (information_schema._pg_expandarray(i.indkey)).n AS key_seq, ci.relname AS pk_name,"
        " information_schema._pg_expandarray(i.indkey) AS keys, a.attnum AS a_attnum"
        " FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON ct.oid = a.attrelid"
        " JOIN pg_catalog.pg_index i ON a.attrelid = i.indrelid"
        " JOIN pg_catalog.pg_class ci ON ci.oid = i.indexrelid"
        " WHERE ct.relname = 'jt' AND i.indisprimary) r"
        " WHERE r.a_attnum = (r.keys).x ORDER BY r.key_seq"
    )
    assert found.fetchall() == [("c", 1, "jt_pkey"), ("a", 2, "jt_pkey")]


def test_expanded_arrays_have_the_type_of_their_elements(connection: psycopg.Connection) -> None:
    found = connection.execute(
        "SELECT x, n, pg_typeof(x) FROM information_schema._pg_expandarray(ARRAY['q', 'r'])"
    )
    assert found.fetchall() == [("q", 1, "text"), ("r", 2, "text")]
    found = connection.execute("SELECT information_schema._pg_expandarray(ARRAY[5, 6])::text")
    assert found.fetchall() == [("(5,1)",), ("(6,2)",)]
    for call in ("_pg_expandarray(ARRAY[1])", "information_schema.abs(1)"):
        with pytest.raises(errors.UndefinedFunction):
            connection.execute(f"SELECT {call}")


def test_functions_of_types_are_listed(connection: psycopg.Connection) -> None:
    found = connection.execute(
        "SELECT typname, typinput::text, typreceive::text FROM pg_type"
        " WHERE typinput = 'pg_catalog.array_in'::regproc AND typname = '_int4'"
    )
    assert found.fetchall() == [("_int4", "array_in", "array_recv")]
    found = connection.execute(
        "SELECT t.typname FROM pg_type t LEFT JOIN pg_proc p ON p.oid = t.typreceive"
        " WHERE p.oid IS NULL AND t.typreceive <> 0 AND t.oid < 16384"
    )
    assert found.fetchall() == []
    found = connection.execute(
        "SELECT CASE WHEN p.proname = 'array_recv' THEN 'a' ELSE t.typtype END, t.typname"
        " FROM pg_type t JOIN pg_proc p ON p.oid = t.typreceive"
        " WHERE t.typname IN ('int4', '_int4') ORDER BY 2"
    )
    assert found.fetchall() == [("a", "_int4"), ("b", "int4")]


def test_yes_or_no_is_three_characters_long(connection: psycopg.Connection) -> None:
    cursor = connection.execute(
        "SELECT is_nullable, data_type FROM information_schema.columns LIMIT 1"
    )
    assert [column.internal_size for column in cursor.description] == [None, None]
    assert [column.display_size for column in cursor.description] == [3, None]


@pytest.mark.parametrize(
    ("literal", "error", "position"),
    [
        ("'nope'::regtype", errors.UndefinedObject, 8),
        ("'abs'::regproc", errors.AmbiguousFunction, 8),
        ("'nosuch'::regproc", errors.UndefinedFunction, 8),
        ("'abs(nosuch)'::regprocedure", errors.UndefinedObject, 8),
        ("'nosuch'::regrole", errors.UndefinedObject, 8),
        ("'nosuch'::regnamespace", errors.InvalidSchemaName, 8),
        ("'+(int4)'::regoperator", errors.UndefinedParameter, 8),
        ("to_regprocedure('abs(')", errors.InvalidTextRepresentation, None),
        ("to_regprocedure('abs(nosuch)')", errors.UndefinedObject, None),
        ("has_function_privilege('nosuch()', 'execute')", errors.UndefinedFunction, None),
        ("has_sequence_privilege('pg_class', 'usage')", errors.WrongObjectType, None),
        ("has_language_privilege('nosuch', 'usage')", errors.UndefinedObject, None),
        ("pg_database_size('nosuch')", errors.InvalidCatalogName, None),
    ],
)
def test_names_that_do_not_exist(
    connection: psycopg.Connection, literal: str, error: type[Exception], position: int | None
) -> None:
    with pytest.raises(error) as caught:
        connection.execute(f"SELECT {literal}")
    shown = caught.value.diag.statement_position  # type: ignore[attr-defined]
    assert shown == (None if position is None else str(position))


def test_ambiguous_names_are_shown_with_their_schema(connection: psycopg.Connection) -> None:
    found = connection.execute(
        "SELECT 1397::regproc::text, 'now'::regproc::text, 1397::regprocedure::text,"
        " to_regproc('abs'), to_regproc('nosuch')"
    )
    assert found.fetchone() == ("pg_catalog.abs", "now", "abs(integer)", None, None)


def test_comments_belong_to_a_catalog(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE c (a int); COMMENT ON TABLE c IS 'text'")
    found = connection.execute(
        "SELECT obj_description('c'::regclass, 'pg_class'),"
        " obj_description('c'::regclass, 'pg_namespace'), obj_description(1, 'pg_class'),"
        " shobj_description(1, 'pg_database'), shobj_description(1, 'nosuch')"
    )
    assert found.fetchone() == ("text", None, None, "default template for new databases", None)


def test_the_node_knows_when_it_started(connection: psycopg.Connection) -> None:
    found = connection.execute(
        "SELECT pg_postmaster_start_time() BETWEEN now() - interval '1 hour' AND now()"
    )
    assert found.fetchone() == (True,)
