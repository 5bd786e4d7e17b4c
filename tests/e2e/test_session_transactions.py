"""Transaction blocks over both protocols, message by message, and what rolls back with them."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from tests.e2e.node_process import NodeProcess
from tests.e2e.raw_client import RawClient, bind, describe, execute, parse, query, run

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def raw(node: NodeProcess) -> Iterator[RawClient]:
    client = RawClient(node.host, node.port)
    client.simple("CREATE TABLE t (id int PRIMARY KEY, v text)")
    client.simple("INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 5) g")
    yield client
    client.close()


def tags(answers: list) -> list:
    """Return command tags, error codes and the final status."""
    return [value for kind, value in answers if kind in "CEZ"]


def rows(answers: list) -> list:
    return [value for kind, value in answers if kind == "D"]


def test_a_batch_is_one_transaction(raw: RawClient) -> None:
    insert = "INSERT INTO t VALUES ({}, 'x')".format
    assert tags(raw.batch(run(insert(6)), run(insert(6)), run(insert(7)))) == [
        "INSERT 0 1",
        "23505",
        "I",
    ]
    assert rows(raw.batch(run("SELECT count(*) FROM t"))) == [("5",)]
    assert tags(raw.batch(run(insert(6)), run("COMMIT"), run("SELECT 1/0"))) == [
        "INSERT 0 1",
        "COMMIT",
        "22012",
        "I",
    ]
    assert rows(raw.batch(run("SELECT count(*) FROM t"))) == [("6",)]


def test_a_simple_query_is_one_transaction(raw: RawClient) -> None:
    raw.simple(
        "INSERT INTO t VALUES (6, 'x'); INSERT INTO t VALUES (7, 'x'); SELECT 1/0; INSERT INTO t VALUES (8, 'x')"
    )
    assert rows(raw.simple("SELECT count(*) FROM t")) == [("5",)]
    raw.simple("INSERT INTO t VALUES (6, 'x'); COMMIT; INSERT INTO t VALUES (7, 'x'); SELECT 1/0")
    assert rows(raw.simple("SELECT max(id) FROM t")) == [("6",)]
    assert (
        tags(raw.simple("INSERT INTO t VALUES (8, 'x'); BEGIN; INSERT INTO t VALUES (9, 'x')"))[-1]
        == "T"
    )
    raw.simple("ROLLBACK")
    assert rows(raw.simple("SELECT max(id) FROM t")) == [("6",)]


def test_a_failed_block_refuses_everything_but_its_end(raw: RawClient) -> None:
    raw.batch(parse("SELECT id FROM t", "s"))
    assert tags(raw.simple("BEGIN; SELECT 1/0; SELECT 1"))[-1] == "E"
    assert tags(raw.simple("SELECT 1")) == ["25P02", "E"]
    assert tags(raw.batch(parse("SELECT 1"))) == ["25P02", "E"]
    assert tags(raw.batch(bind(statement="s"))) == ["25P02", "E"]
    assert tags(raw.batch(describe("S", "s"))) == ["25P02", "E"]
    assert tags(raw.batch(run("COMMIT"))) == ["ROLLBACK", "I"]


def test_vacuum_needs_a_transaction_of_its_own(raw: RawClient) -> None:
    assert tags(raw.batch(run("VACUUM t"))) == ["VACUUM", "I"]
    assert tags(raw.batch(run("INSERT INTO t VALUES (9, 'x')"), run("VACUUM t"))) == [
        "INSERT 0 1",
        "25001",
        "I",
    ]
    assert tags(raw.simple("SELECT 1; DISCARD ALL"))[-2:] == ["25001", "I"]


def test_portals_are_suspended_and_resumed_across_syncs(raw: RawClient) -> None:
    raw.simple("BEGIN")
    first = raw.batch(
        parse("SELECT id FROM t ORDER BY id", "s"), bind(portal="p", statement="s"), execute("p", 2)
    )
    assert rows(first) == [("1",), ("2",)]
    assert ("s", None) in first
    rest = raw.batch(execute("p", 2), execute("p"), execute("p"))
    assert rows(rest) == [("3",), ("4",), ("5",)]
    assert tags(rest) == ["SELECT 1", "SELECT 0", "T"]
    raw.simple("COMMIT")
    assert tags(raw.batch(execute("p"))) == ["34000", "I"]


def test_a_portal_ends_with_the_savepoint_it_was_made_in(raw: RawClient) -> None:
    scan = parse("SELECT id FROM t ORDER BY id")
    raw.simple("BEGIN")
    raw.batch(scan, bind(portal="outer"), execute("outer", 1))
    raw.simple("SAVEPOINT a")
    raw.batch(scan, bind(portal="inner"), execute("inner", 1))
    raw.simple("ROLLBACK TO a")
    assert rows(raw.batch(execute("outer", 1))) == [("2",)]
    assert tags(raw.batch(execute("inner", 1))) == ["34000", "E"]
    raw.simple("ROLLBACK")


def test_a_statement_without_rows_runs_once(raw: RawClient) -> None:
    raw.simple("BEGIN")
    raw.batch(parse("INSERT INTO t VALUES (9, 'x')"), bind(portal="p"), execute("p"))
    assert tags(raw.batch(execute("p"))) == ["55000", "E"]
    raw.simple("ROLLBACK")
    assert tags(raw.batch(parse("SHOW work_mem"), bind(), execute(), execute())) == [
        "SHOW",
        "SHOW",
        "I",
    ]


def test_execute_goes_on_where_fetch_stopped(raw: RawClient) -> None:
    raw.simple("BEGIN; DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id; FETCH 2 FROM c")
    assert rows(raw.batch(execute("c", 2))) == [("3",), ("4",)]
    assert rows(raw.simple("FETCH ALL FROM c")) == [("5",)]
    raw.simple("ROLLBACK")


def test_a_cached_plan_must_not_change_its_result(raw: RawClient) -> None:
    raw.batch(parse("SELECT * FROM t WHERE id = $1", "s"))
    assert rows(raw.batch(bind("1", statement="s"), execute())) == [("1", "v1")]
    raw.simple("ALTER TABLE t ADD w int")
    assert tags(raw.batch(bind("1", statement="s"), execute())) == ["0A000", "I"]
    raw.simple("ALTER TABLE t DROP w")
    assert rows(raw.batch(bind("1", statement="s"), execute())) == [("1", "v1")]


def test_reported_parameters_follow_rollbacks(raw: RawClient) -> None:
    raw.simple("SET application_name = 'outside'")
    raw.simple("BEGIN; SET application_name = 'inside'")
    assert raw.parameters["application_name"] == "inside"
    raw.simple("SAVEPOINT a; SET application_name = 'deeper'; ROLLBACK TO a")
    assert raw.parameters["application_name"] == "inside"
    raw.simple("SELECT 1/0")
    raw.simple("ROLLBACK")
    assert raw.parameters["application_name"] == "outside"
    raw.simple("SELECT 1/0")
    raw.simple("SELECT 1")
    assert raw.parameters["application_name"] == "outside"


def test_a_vanished_client_lets_go_of_its_locks(node: NodeProcess, raw: RawClient) -> None:
    raw.simple("BEGIN; UPDATE t SET v = 'mine' WHERE id = 1")
    raw.send(query("SELECT pg_sleep(60)"))
    raw.close()
    with node.connect() as other:
        other.execute("SET lock_timeout = '20s'")
        assert other.execute("UPDATE t SET v = 'theirs' WHERE id = 1").rowcount == 1


@pytest.mark.parametrize("chain", ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN"])
def test_a_chained_block_keeps_its_modes(connection: psycopg.Connection, chain: str) -> None:
    connection.execute("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE")
    connection.execute(chain)
    shown = [
        connection.execute(f"SHOW transaction_{name}").fetchone()
        for name in ("isolation", "read_only", "deferrable")
    ]
    assert shown == [("serializable",), ("on",), ("on",)]
    connection.execute("ROLLBACK")
    with pytest.raises(
        errors.NoActiveSqlTransaction, match="can only be used in transaction blocks"
    ):
        connection.execute(chain)


def test_modes_are_settled_by_the_first_query(connection: psycopg.Connection) -> None:
    for statement, message in (
        (
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "ISOLATION LEVEL must be called before any query",
        ),
        ("SET TRANSACTION DEFERRABLE", "DEFERRABLE must be called before any query"),
    ):
        connection.execute("BEGIN")
        connection.execute("SHOW work_mem")
        connection.execute("SELECT 1")
        with pytest.raises(errors.ActiveSqlTransaction, match=message):
            connection.execute(statement)
        connection.execute("ROLLBACK")
    connection.execute("BEGIN READ ONLY")
    connection.execute("SAVEPOINT a")
    with pytest.raises(errors.ActiveSqlTransaction, match="inside a read-only transaction"):
        connection.execute("SET TRANSACTION READ WRITE")
    connection.execute("ROLLBACK")


def test_read_only_transactions_name_what_they_refuse(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
    connection.execute("CREATE TEMP TABLE mine (id int)")
    for statement, name in (
        ("INSERT INTO t VALUES (1)", "INSERT"),
        ("SELECT * FROM t FOR UPDATE", "SELECT FOR UPDATE"),
        ("TRUNCATE t", "TRUNCATE TABLE"),
        ("DROP TABLE t", "DROP TABLE"),
        ("ALTER TABLE t RENAME TO u", "ALTER TABLE"),
        ("GRANT SELECT ON t TO public", "GRANT"),
        ("EXPLAIN ANALYZE DELETE FROM t", "DELETE"),
    ):
        connection.execute("BEGIN READ ONLY")
        with pytest.raises(errors.ReadOnlySqlTransaction) as caught:
            connection.execute(statement)
        assert (
            caught.value.diag.message_primary == f"cannot execute {name} in a read-only transaction"
        )
        connection.execute("ROLLBACK")
    connection.execute("BEGIN READ ONLY")
    connection.execute("INSERT INTO mine VALUES (1)")
    connection.execute("EXPLAIN INSERT INTO t VALUES (1)")
    connection.execute("COMMIT")


def test_savepoints_bring_dropped_and_truncated_rows_back(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
    connection.execute("INSERT INTO t VALUES (1), (2)")
    connection.execute("BEGIN")
    for statement in ("DROP TABLE t", "TRUNCATE t"):
        connection.execute("SAVEPOINT a")
        connection.execute(statement)
        connection.execute("ROLLBACK TO a")
    connection.execute("COMMIT")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_deferred_checks_go_with_their_savepoint(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE p (id int PRIMARY KEY)")
    connection.execute("CREATE TABLE c (id int REFERENCES p DEFERRABLE INITIALLY DEFERRED)")
    connection.execute("BEGIN")
    connection.execute("SAVEPOINT a")
    connection.execute("INSERT INTO c VALUES (1)")
    connection.execute("ROLLBACK TO a")
    connection.execute("COMMIT")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO c VALUES (1)")
    connection.execute("SAVEPOINT a")
    connection.execute("ROLLBACK TO a")
    with pytest.raises(errors.ForeignKeyViolation):
        connection.execute("COMMIT")


def test_roles_go_back_with_the_transaction(connection: psycopg.Connection) -> None:
    connection.execute("DROP ROLE IF EXISTS ferry")
    connection.execute("CREATE ROLE ferry")
    who = "SELECT current_user, session_user"
    connection.execute("BEGIN")
    connection.execute("SET LOCAL ROLE ferry")
    assert connection.execute(who).fetchone() == ("ferry", "nodedb")
    connection.execute("COMMIT")
    assert connection.execute(who).fetchone() == ("nodedb", "nodedb")
    connection.execute("BEGIN")
    connection.execute("SET SESSION AUTHORIZATION ferry")
    assert connection.execute("SHOW is_superuser").fetchone() == ("off",)
    connection.execute("ROLLBACK")
    assert connection.execute(who).fetchone() == ("nodedb", "nodedb")
    assert connection.execute("SHOW is_superuser").fetchone() == ("on",)
    connection.execute("DROP ROLE ferry")


def test_holdable_cursors_survive_only_a_commit(connection: psycopg.Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("DECLARE kept CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 3) g")
    connection.execute("FETCH 1 FROM kept")
    connection.execute("COMMIT")
    connection.execute("BEGIN")
    connection.execute("DECLARE lost CURSOR WITH HOLD FOR SELECT 1")
    connection.execute("ROLLBACK")
    assert connection.execute("FETCH ALL FROM kept").fetchall() == [(2,), (3,)]
    with pytest.raises(errors.InvalidCursorName):
        connection.execute("FETCH lost")
    connection.execute("CLOSE ALL")
    assert connection.execute("SELECT count(*) FROM pg_cursors").fetchone() == (0,)


CHANGES = (
    "UPDATE t SET v = v + 1 WHERE id = 1",
    "UPDATE t SET v = v + 1 WHERE v > 0 AND w < 2",
    "SELECT * FROM t WHERE id = 1 FOR UPDATE",
    "DELETE FROM t WHERE id = 1",
    "INSERT INTO t VALUES (9, 1, 1) ON CONFLICT (id) DO UPDATE SET v = 5",
)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("change", CHANGES)
def test_snapshot_transactions_read_one_state_and_never_overwrite(
    node: NodeProcess, connection: psycopg.Connection, level: str, change: str
) -> None:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int, w int)")
    connection.execute("CREATE INDEX ON t (w)")
    connection.execute("INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)")
    connection.execute(f"BEGIN ISOLATION LEVEL {level}")
    before = connection.execute("SELECT * FROM t ORDER BY id").fetchall()
    with node.connect() as other:
        other.execute("INSERT INTO t VALUES (9, 9, 9)")
        other.execute("UPDATE t SET v = 10 WHERE id = 1")
    assert connection.execute("SELECT * FROM t ORDER BY id").fetchall() == before
    assert connection.execute("SELECT v FROM t WHERE id = 1").fetchone() == (1,)
    assert connection.execute("SELECT v FROM t WHERE w = 9").fetchone() is None
    with pytest.raises(errors.SerializationFailure) as caught:
        connection.execute(change)
    assert (
        caught.value.diag.message_primary == "could not serialize access due to concurrent update"
    )
    connection.execute("ROLLBACK")


def test_a_snapshot_transaction_names_a_concurrent_delete(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    connection.execute("INSERT INTO t VALUES (1, 1)")
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    connection.execute("SELECT 1 FROM t")
    with node.connect() as other:
        other.execute("DELETE FROM t")
    with pytest.raises(errors.SerializationFailure, match="due to concurrent delete"):
        connection.execute("UPDATE t SET v = 2 WHERE id = 1")


def test_a_snapshot_transaction_sees_its_own_writes(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    connection.execute("INSERT INTO t VALUES (1, 1)")
    connection.execute("UPDATE t SET v = v + 1 WHERE id = 1")
    connection.execute("UPDATE t SET v = v + 1 WHERE v = 2")
    assert connection.execute("SELECT v FROM t").fetchall() == [(3,)]
    connection.execute("COMMIT")
