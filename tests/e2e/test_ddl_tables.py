"""Schema changes over tables with rows, in transactions, and temporary tables."""

import psycopg
import pytest
from psycopg import errors

from tests.e2e.node_process import NodeProcess


def rows(connection: psycopg.Connection, query: str) -> list[tuple]:
    return connection.execute(query).fetchall()


@pytest.fixture
def filled(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, a int, b text)")
    connection.execute("INSERT INTO t SELECT n, n * 10, 'v' || n FROM generate_series(1, 5) n")
    return connection


def test_adding_columns_with_defaults(filled: psycopg.Connection) -> None:
    filled.execute("ALTER TABLE t ADD c int DEFAULT 7, ADD d float8 DEFAULT random(), ADD e serial")
    filled.execute("ALTER TABLE t ADD g int GENERATED ALWAYS AS (a + 1) STORED")
    assert rows(filled, "SELECT id, c, e, g FROM t ORDER BY id") == [
        (n, 7, n, n * 10 + 1) for n in range(1, 6)
    ]
    assert rows(filled, "SELECT count(DISTINCT d) FROM t") == [(5,)]


def test_not_null_is_checked_against_the_rows(filled: psycopg.Connection) -> None:
    with pytest.raises(errors.NotNullViolation, match='column "c" of relation "t" contains null'):
        filled.execute("ALTER TABLE t ADD c int NOT NULL")
    filled.execute("INSERT INTO t VALUES (6)")
    with pytest.raises(errors.NotNullViolation, match='column "a" of relation "t" contains null'):
        filled.execute("ALTER TABLE t ALTER a SET NOT NULL")
    filled.execute("UPDATE t SET a = 0 WHERE a IS NULL")
    filled.execute("ALTER TABLE t ALTER a SET NOT NULL")
    with pytest.raises(errors.NotNullViolation):
        filled.execute("INSERT INTO t VALUES (7)")


def test_changing_a_type(filled: psycopg.Connection) -> None:
    filled.execute("ALTER TABLE t ALTER b TYPE int USING substr(b, 2)::int, ALTER a TYPE text")
    assert rows(filled, "SELECT a, b FROM t WHERE id = 3") == [("30", 3)]
    with pytest.raises(errors.InvalidDatetimeFormat):
        filled.execute("ALTER TABLE t ALTER b TYPE date USING 'x'")


def test_rewriting_leaves_out_what_is_not_valid(filled: psycopg.Connection) -> None:
    filled.execute("ALTER TABLE t ADD CONSTRAINT small CHECK (a < 30) NOT VALID")
    with pytest.raises(errors.CheckViolation):
        filled.execute("ALTER TABLE t VALIDATE CONSTRAINT small")
    filled.execute("ALTER TABLE t ALTER a TYPE bigint")
    assert rows(filled, "SELECT count(*) FROM t WHERE a >= 30") == [(3,)]
    with pytest.raises(errors.CheckViolation, match="new row"):
        filled.execute("INSERT INTO t VALUES (9, 99)")


def test_changing_the_primary_key(filled: psycopg.Connection) -> None:
    filled.execute("ALTER TABLE t DROP CONSTRAINT t_pkey")
    filled.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(errors.UniqueViolation, match='could not create unique index "t_pkey"'):
        filled.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
    filled.execute("DELETE FROM t WHERE a IS NULL")
    filled.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
    assert rows(filled, "SELECT a FROM t WHERE id = 1") == [(10,)]


def test_savepoints_undo_schema_changes(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
        connection.execute("INSERT INTO t VALUES (1, 'one')")
        connection.execute("SAVEPOINT s")
        connection.execute("ALTER TABLE t ADD w int DEFAULT 5")
        connection.execute("ROLLBACK TO s")
        connection.execute("TRUNCATE t")
        connection.execute("ROLLBACK TO s")
    assert rows(connection, "SELECT * FROM t") == [(1, "one")]


def test_a_rolled_back_truncate_keeps_the_rows(filled: psycopg.Connection) -> None:
    with filled.transaction():
        filled.execute("SAVEPOINT s")
        filled.execute("TRUNCATE t")
        filled.execute("ROLLBACK TO s")
        filled.execute("INSERT INTO t VALUES (6)")
    assert rows(filled, "SELECT count(*) FROM t") == [(6,)]


def test_temporary_tables_are_each_sessions_own(node: NodeProcess) -> None:
    with node.connect() as first, node.connect() as second:
        for connection, value in ((first, 1), (second, 2)):
            connection.execute("CREATE TEMP TABLE scratch (a int)")
            connection.execute("INSERT INTO scratch VALUES (%s)", [value])
        assert rows(first, "SELECT * FROM scratch") == [(1,)]
        assert rows(second, "SELECT * FROM pg_temp.scratch") == [(2,)]
    with node.connect() as third, pytest.raises(errors.UndefinedTable):
        third.execute("SELECT * FROM scratch")


def test_on_commit(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TEMP TABLE kept (a int) ON COMMIT DELETE ROWS")
    with connection.transaction():
        connection.execute("INSERT INTO kept VALUES (1), (2)")
        assert rows(connection, "SELECT count(*) FROM kept") == [(2,)]
        connection.execute("CREATE TEMP TABLE gone (a int) ON COMMIT DROP")
        connection.execute("INSERT INTO gone SELECT a FROM kept")
        connection.execute("CREATE TEMP TABLE made ON COMMIT DROP AS SELECT 1 AS x")
        assert rows(connection, "SELECT x, a FROM made, gone ORDER BY a") == [(1, 1), (1, 2)]
    assert rows(connection, "SELECT count(*) FROM kept") == [(0,)]
    for name in ("gone", "made"):
        with pytest.raises(errors.UndefinedTable):
            connection.execute(f"SELECT * FROM {name}")
    connection.execute("CREATE TEMP TABLE filled ON COMMIT DELETE ROWS AS SELECT 1 AS x")
    assert rows(connection, "SELECT count(*) FROM filled") == [(0,)]
