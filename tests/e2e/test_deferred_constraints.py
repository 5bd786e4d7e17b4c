"""DEFERRABLE constraints and SET CONSTRAINTS: when they are checked, and by whom they are seen."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from tests.e2e.node_process import NodeProcess

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def db(node: NodeProcess) -> Iterator[psycopg.Connection]:
    with node.connect() as connection:
        connection.execute(
            "CREATE TABLE d (id int PRIMARY KEY, a int UNIQUE DEFERRABLE INITIALLY DEFERRED,"
            " b int UNIQUE DEFERRABLE, c int CONSTRAINT plain UNIQUE)"
        )
        connection.execute("INSERT INTO d SELECT g, g, g, g FROM generate_series(1, 3) g")
        yield connection


def rows(connection: psycopg.Connection, text: str) -> list:
    return connection.execute(text).fetchall()


def test_a_deferred_key_is_checked_at_commit(db: psycopg.Connection) -> None:
    with pytest.raises(errors.UniqueViolation) as caught, db.transaction():
        db.execute("INSERT INTO d VALUES (9, 2, 9, 9)")
        assert rows(db, "SELECT id FROM d WHERE a = 2 ORDER BY id") == [(2,), (9,)]
    diagnostics = caught.value.diag
    assert diagnostics.message_detail == "Key (a)=(2) already exists."
    assert (diagnostics.schema_name, diagnostics.constraint_name) == ("public", "d_a_key")
    assert rows(db, "SELECT count(*) FROM d") == [(3,)]
    with db.transaction():
        db.execute("INSERT INTO d VALUES (9, 2, 9, 9)")
        db.execute("UPDATE d SET a = 20 WHERE id = 2")
    assert rows(db, "SELECT a, id FROM d ORDER BY a") == [(1, 1), (2, 9), (3, 3), (20, 2)]
    with pytest.raises(errors.UniqueViolation):
        db.execute("INSERT INTO d VALUES (10, 20, 10, 10)")


def test_an_immediate_key_is_checked_after_the_statement(db: psycopg.Connection) -> None:
    db.execute("UPDATE d SET b = b + 1")
    assert rows(db, "SELECT b FROM d ORDER BY b") == [(2,), (3,), (4,)]
    with pytest.raises(errors.UniqueViolation), db.transaction():
        db.execute("INSERT INTO d VALUES (9, 9, 2, 9)")
    with pytest.raises(errors.UniqueViolation):
        db.execute("UPDATE d SET c = c + 1")


def test_set_constraints_checks_what_becomes_immediate(db: psycopg.Connection) -> None:
    db.execute("BEGIN")
    db.execute("SET CONSTRAINTS d_b_key DEFERRED")
    db.execute("INSERT INTO d VALUES (9, 2, 2, 9)")
    db.execute("SAVEPOINT s")
    with pytest.raises(errors.UniqueViolation, match="d_b_key"):
        db.execute("SET CONSTRAINTS d_b_key IMMEDIATE")
    db.execute("ROLLBACK TO s")
    db.execute("UPDATE d SET b = 90 WHERE id = 9")
    db.execute("SET CONSTRAINTS public.d_b_key IMMEDIATE")
    with pytest.raises(errors.UniqueViolation, match="d_a_key"):
        db.execute("COMMIT")
    assert rows(db, "SELECT count(*) FROM d") == [(3,)]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nosuch", errors.UndefinedObject),
        ("public.nosuch", errors.UndefinedObject),
        ("nosuch.d_a_key", errors.InvalidSchemaName),
        ("plain", errors.WrongObjectType),
        ("d_a_key, nosuch", errors.UndefinedObject),
    ],
)
def test_set_constraints_of_something_else(
    db: psycopg.Connection, name: str, error: type[psycopg.Error]
) -> None:
    with pytest.raises(error), db.transaction():
        db.execute(f"SET CONSTRAINTS {name} DEFERRED")
    with db.transaction():
        db.execute("SET CONSTRAINTS plain IMMEDIATE")


def test_going_back_to_a_savepoint_takes_modes_and_rows_along(db: psycopg.Connection) -> None:
    with pytest.raises(errors.UniqueViolation, match="d_b_key"), db.transaction():
        db.execute("SAVEPOINT s")
        db.execute("SET CONSTRAINTS ALL DEFERRED")
        db.execute("INSERT INTO d VALUES (9, 2, 2, 9)")
        db.execute("ROLLBACK TO s")
        db.execute("INSERT INTO d VALUES (9, 9, 2, 9)")
    with pytest.raises(errors.UniqueViolation, match="d_a_key"), db.transaction():
        db.execute("INSERT INTO d VALUES (9, 2, 9, 9)")
        db.execute("SAVEPOINT s")
        db.execute("DELETE FROM d WHERE id = 9")
        db.execute("SET CONSTRAINTS ALL IMMEDIATE")
        db.execute("ROLLBACK TO s")


def test_a_deferrable_primary_key(db: psycopg.Connection) -> None:
    db.execute("CREATE TABLE p (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text)")
    db.execute("INSERT INTO p VALUES (1, 'a'), (2, 'b')")
    with db.transaction():
        db.execute("UPDATE p SET id = 2 WHERE v = 'a'")
        db.execute("UPDATE p SET id = 1 WHERE v = 'b'")
    assert rows(db, "SELECT * FROM p ORDER BY id") == [(1, "b"), (2, "a")]
    with pytest.raises(errors.UniqueViolation, match="p_pkey"):
        db.execute("INSERT INTO p VALUES (1, 'c')")
    with pytest.raises(errors.NotNullViolation):
        db.execute("INSERT INTO p VALUES (NULL, 'c')")
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        db.execute("CREATE TABLE r (a int REFERENCES p)")
    db.execute("CREATE TABLE copied (LIKE p INCLUDING ALL)")
    assert (
        rows(
            db,
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p'"
            " AND conrelid IN ('p'::regclass, 'copied'::regclass)",
        )
        == [("PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED",)] * 2
    )


def test_an_index_becomes_a_deferrable_constraint(db: psycopg.Connection) -> None:
    db.execute("CREATE TABLE i (a int)")
    db.execute("INSERT INTO i VALUES (1), (2)")
    db.execute("CREATE UNIQUE INDEX ia ON i (a)")
    db.execute("ALTER TABLE i ADD CONSTRAINT ia UNIQUE USING INDEX ia DEFERRABLE")
    db.execute("UPDATE i SET a = a + 1")
    assert rows(db, "SELECT a FROM i ORDER BY a") == [(2,), (3,)]
    with pytest.raises(errors.UniqueViolation):
        db.execute("INSERT INTO i VALUES (3)")


def test_on_conflict_refuses_a_deferrable_arbiter(db: psycopg.Connection) -> None:
    for target in ("", "(a)", "ON CONSTRAINT d_b_key"):
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            db.execute(f"INSERT INTO d VALUES (9, 9, 9, 9) ON CONFLICT {target} DO NOTHING")
        db.execute(f"INSERT INTO d SELECT 9 WHERE false ON CONFLICT {target} DO NOTHING")
    db.execute("INSERT INTO d VALUES (1, 9, 9, 9) ON CONFLICT (id) DO NOTHING")


def test_two_sessions_and_one_key(db: psycopg.Connection, node: NodeProcess) -> None:
    with node.connect() as other:
        db.execute("BEGIN")
        db.execute("INSERT INTO d VALUES (8, 80, 8, 8)")
        other.execute("SET lock_timeout = 100")
        with pytest.raises(errors.LockNotAvailable):
            other.execute("INSERT INTO d VALUES (9, 80, 9, 9)")
        db.execute("COMMIT")
        with pytest.raises(errors.UniqueViolation):
            other.execute("INSERT INTO d VALUES (9, 80, 9, 9)")


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("ALTER TABLE d ADD COLUMN x int", "ALTER TABLE"),
        ("TRUNCATE d", "TRUNCATE"),
        ("DROP TABLE d", "DROP TABLE"),
        ("CREATE INDEX ON d (c)", "CREATE INDEX"),
    ],
)
def test_tables_with_waiting_checks_stay_as_they_are(
    db: psycopg.Connection, command: str, shown: str
) -> None:
    message = f'cannot {shown} "d" because it has pending trigger events'
    with pytest.raises(errors.ObjectInUse, match=message), db.transaction():
        db.execute("INSERT INTO d VALUES (9, 2, 9, 9)")
        db.execute(command)
    with db.transaction():
        db.execute("INSERT INTO d VALUES (9, 9, 9, 9)")
        db.execute(command)


def test_a_deferred_foreign_key_that_is_dropped_is_not_checked(db: psycopg.Connection) -> None:
    db.execute("CREATE TABLE parent (id int PRIMARY KEY)")
    db.execute("CREATE TABLE child (p int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
    with db.transaction():
        db.execute("INSERT INTO child VALUES (1)")
        db.execute("DROP TABLE parent CASCADE")
    assert rows(db, "SELECT * FROM child") == [(1,)]


def test_copy_checks_at_its_end_or_at_commit(db: psycopg.Connection) -> None:
    copy = "COPY d FROM STDIN"
    with pytest.raises(errors.UniqueViolation, match="d_b_key"), db.cursor().copy(copy) as data:
        data.write_row((9, 9, 2, 9))
    with pytest.raises(errors.UniqueViolation, match="d_a_key"), db.cursor().copy(copy) as data:
        data.write_row((9, 2, 9, 9))
    assert rows(db, "SELECT count(*) FROM d") == [(3,)]
