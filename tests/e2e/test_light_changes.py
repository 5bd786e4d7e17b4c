"""ALTER TABLE that touches no row, and validation that stops no writer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from tests.e2e.node_process import NodeProcess

# One after the other on the same table; PostgreSQL 15 keeps the table's file at each of them.
LIGHT = [
    "ALTER a TYPE varchar(20)",
    "ALTER a TYPE text",
    "ALTER n TYPE numeric(8, 2)",
    "ALTER n TYPE numeric",
    "ALTER ts TYPE timestamptz",
    "ALTER ts TYPE timestamp",
    "ALTER i TYPE int USING i",
    "ADD COLUMN d1 int DEFAULT 5",
    "ADD COLUMN d2 timestamptz DEFAULT now()",
    "ADD COLUMN d3 text",
    "ADD COLUMN d4 int NOT NULL DEFAULT 7",
    "DROP COLUMN d1",
    "ALTER d4 SET DEFAULT 8",
    "ALTER d4 DROP NOT NULL",
    "ADD CONSTRAINT c CHECK (id > 0) NOT VALID",
    "VALIDATE CONSTRAINT c",
]
STORAGE = "SELECT relfilenode FROM pg_class WHERE relname = 't'"


def test_light_changes_rewrite_nothing(connection: psycopg.Connection) -> None:
    connection.execute("SET timezone = 'UTC'")
    connection.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a varchar(10), n numeric(6, 2), ts timestamp, i int)"
    )
    connection.execute(
        "INSERT INTO t SELECT g, 'a' || g, g + 0.25, timestamp '2020-01-01' + g * interval '1 h', g"
        " FROM generate_series(1, 1000) g"
    )
    for column in ("a", "n", "ts"):
        connection.execute(f"CREATE INDEX ON t ({column})")
    before = connection.execute(STORAGE).fetchone()
    for action in LIGHT:
        connection.execute(f"ALTER TABLE t {action}")
        assert connection.execute(STORAGE).fetchone() == before, action
    for condition in ("a = 'a77'", "n = 77.25", "ts = '2020-01-04 05:00'"):
        query = f"SELECT id, d4 FROM t WHERE {condition}"
        assert "Index Scan" in connection.execute(f"EXPLAIN {query}").fetchall()[0][0]
        assert connection.execute(query).fetchall() == [(77, 7)], condition
    connection.execute("ALTER TABLE t ALTER i TYPE int USING i + 1")
    assert connection.execute(STORAGE).fetchone() != before
    assert connection.execute("SELECT i FROM t WHERE id = 77").fetchone() == (78,)


def test_an_expression_over_a_column_outlives_its_type_rightly(
    connection: psycopg.Connection,
) -> None:
    connection.execute("SET timezone = 'UTC'")
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, a varchar(10))")
    connection.execute("INSERT INTO t SELECT g, 'A' || g FROM generate_series(1, 100) g")
    connection.execute("CREATE INDEX ON t (lower(a))")
    connection.execute("ALTER TABLE t ALTER a TYPE text")
    assert connection.execute("SELECT id FROM t WHERE lower(a) = 'a7'").fetchall() == [(7,)]


@pytest.mark.parametrize("kind", ["check", "foreign key"])
def test_validation_and_writers_do_not_wait_for_each_other(
    node: NodeProcess, connection: psycopg.Connection, kind: str
) -> None:
    connection.execute("CREATE TABLE parent (id int PRIMARY KEY)")
    connection.execute("INSERT INTO parent SELECT generate_series(1, 1000)")
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, p int)")
    connection.execute("INSERT INTO t SELECT g, g FROM generate_series(1, 900) g")
    constraint = "CHECK (p > 0)" if kind == "check" else "FOREIGN KEY (p) REFERENCES parent"
    connection.execute(f"ALTER TABLE t ADD CONSTRAINT c {constraint} NOT VALID")
    writer = node.connect(options="-c lock_timeout=2000")
    writer.execute("BEGIN")
    writer.execute("UPDATE t SET p = p + 1 WHERE id = 1")
    connection.execute("SET lock_timeout = 2000")
    connection.execute("BEGIN")
    connection.execute("ALTER TABLE t VALIDATE CONSTRAINT c")
    writer.execute("UPDATE t SET p = p + 1 WHERE id = 2")
    writer.execute("INSERT INTO t VALUES (1000, 1000)")
    writer.execute("INSERT INTO parent VALUES (2000)")
    writer.execute("COMMIT")
    connection.execute("COMMIT")
    assert connection.execute(
        "SELECT convalidated FROM pg_constraint WHERE conname = 'c'"
    ).fetchone() == (True,)
    with pytest.raises(psycopg.errors.IntegrityError):
        writer.execute("INSERT INTO t VALUES (1001, -1)")


def test_validation_finds_old_rows(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
    connection.execute("INSERT INTO t VALUES (-1)")
    connection.execute("ALTER TABLE t ADD CONSTRAINT c CHECK (id > 0) NOT VALID")
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("ALTER TABLE t VALIDATE CONSTRAINT c")
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("INSERT INTO t VALUES (-2)")
