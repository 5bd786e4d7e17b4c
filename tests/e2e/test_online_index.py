"""CREATE INDEX on a table in use: nobody waits, nothing fails, and the index is right.

The large one (a million rows, eight writers, a node killed in the middle) is ``slow``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.e2e.node_process import running
from tests.e2e.online_load import (
    WAIT_SECONDS,
    Load,
    Statement,
    check_index,
    make_table,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.node_process import NodeProcess

LONG_SECONDS = 900.0
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = 't_v'::regclass"
PROGRESS = (
    "SELECT pid, phase, lockers_total, current_locker_pid, tuples_done, command, "
    "relid::regclass::text FROM pg_stat_progress_create_index"
)


def index_names(connection: psycopg.Connection) -> set[str]:
    return {
        name
        for (name,) in connection.execute(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 't'::regclass"
        )
    }


# Under load


@pytest.mark.parametrize("concurrently", ["", "CONCURRENTLY"])
def test_writers_go_on_while_an_index_is_built(
    node: NodeProcess, connection: psycopg.Connection, concurrently: str
) -> None:
    make_table(connection, 20_000)
    with Load(node, 20_000, count=4, seed=1) as load:
        wait_until(lambda: load.writes > 20 or load.errors, "writers")
        began = time.monotonic()
        connection.execute(f"CREATE INDEX {concurrently} t_v ON t (v)")
        print(f"20000 rows: built in {time.monotonic() - began:.2f} s")
        done = load.writes
        wait_until(lambda: load.writes > done + 20 or load.errors, "writers")
    load.report("20000 rows")
    check_index(connection)


def test_a_build_goes_on_after_a_crash(store: Path) -> None:
    rows = 20_000
    with running(store) as node:
        connection = node.connect()
        make_table(connection, rows)
        with Load(node, rows, count=2, seed=2) as load:
            crash_amid_build(node, load, rows // 10)
        load.report("until the crash")
        with Load(node, rows, count=2, seed=3) as load:
            connection = node.connect()
            wait_until(lambda: connection.execute(VALID).fetchone() == (True,), "the index")
        load.report("after it")
        check_index(connection)
        assert connection.execute(PROGRESS).fetchall() == []
        assert "resuming CREATE INDEX" in node.log()


def crash_amid_build(
    node: NodeProcess, load: Load, rows: int, seconds: float = WAIT_SECONDS
) -> None:
    """Kill the node once a build has done so many rows, and start it again."""
    watcher = node.connect()
    statement = Statement(node, "CREATE INDEX t_v ON t (v)")

    def is_under_way() -> bool:
        found = watcher.execute(PROGRESS).fetchone()
        return load.errors != [] or (found is not None and found[4] >= rows)

    wait_until(is_under_way, "the backfill", seconds)
    load.node_is_gone = True
    node.kill()
    assert isinstance(statement.end(), psycopg.OperationalError)
    load.is_stopping.set()
    node.start()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_rows_under_load(store: Path) -> None:
    rows = 1_000_000
    with running(store) as node:
        connection = node.connect()
        make_table(connection, rows)
        with Load(node, rows, count=8, seed=4) as load:
            wait_until(lambda: load.writes > 100 or load.errors, "writers")
            began = time.monotonic()
            connection.execute("CREATE INDEX t_v ON t (v)")
            print(f"{rows} rows: built in {time.monotonic() - began:.1f} s")
        load.report(f"{rows} rows")
        print(f"{check_index(connection)} rows compared")
        connection.execute("DROP INDEX t_v")
        with Load(node, rows, count=8, seed=5) as load:
            crash_amid_build(node, load, rows // 3, LONG_SECONDS)
        load.report("until the crash")
        with Load(node, rows, count=8, seed=6) as load:
            connection = node.connect()
            wait_until(lambda: connection.execute(VALID).fetchone() == (True,), "it", LONG_SECONDS)
        load.report("after it")
        print(f"{check_index(connection)} rows compared")


# What a build waits for, and what waits for it


def test_a_build_waits_for_older_writers_and_nobody_for_it(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    make_table(connection, 100)
    writer = node.connect()
    writer.execute("BEGIN")
    writer.execute("UPDATE t SET v = -1 WHERE id = 1")
    statement = Statement(node, "CREATE INDEX t_v ON t (v)")
    wait_until(
        lambda: (
            connection.execute(PROGRESS).fetchall()
            == [
                (
                    statement.process_id,
                    "waiting for writers before build",
                    1,
                    writer.info.backend_pid,
                    0,
                    "CREATE INDEX",
                    "t",
                )
            ]
        ),
        "the wait for the writer",
    )
    assert connection.execute(VALID).fetchone() == (False,)
    assert connection.execute(
        "SELECT indisready FROM pg_index WHERE indexrelid = 't_v'::regclass"
    ).fetchone() == (False,)
    connection.execute("UPDATE t SET v = -2 WHERE id = 2")
    connection.execute("INSERT INTO t VALUES (1000, -3)")
    connection.execute("DELETE FROM t WHERE id = 3")
    writer.execute("COMMIT")
    assert statement.end() is None
    assert connection.execute("SELECT v FROM t WHERE v < 0 ORDER BY v").fetchall() == [
        (-3,),
        (-2,),
        (-1,),
    ]
    assert connection.execute(VALID).fetchone() == (True,)


def test_a_row_that_is_locked_is_waited_for_alone(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    make_table(connection, 2000)
    holder = node.connect()
    holder.execute("BEGIN")
    holder.execute("SELECT * FROM t WHERE id = 700 FOR UPDATE")
    statement = Statement(node, "CREATE INDEX t_v ON t (v)")
    wait_until(
        lambda: [row[4] for row in connection.execute(PROGRESS)] == [699], "the rows before it"
    )
    for number in (1, 699, 701, 2000):
        connection.execute("UPDATE t SET v = 5 WHERE id = %s", (number,))
    holder.execute("UPDATE t SET v = 6 WHERE id = 700")
    holder.execute("COMMIT")
    assert statement.end() is None
    check_index(connection)


def test_a_deadlock_with_a_writer_is_the_builds_loss(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    make_table(connection, 100)
    writer = node.connect()
    writer.execute("BEGIN")
    writer.execute("UPDATE t SET v = 1 WHERE id = 1")
    statement = Statement(node, "CREATE INDEX t_v ON t (v)")
    wait_until(lambda: connection.execute(PROGRESS).fetchall(), "the build")
    writer.execute("ALTER TABLE t ADD COLUMN more int")
    error = statement.end()
    assert isinstance(error, psycopg.errors.DeadlockDetected)
    writer.execute("COMMIT")
    assert index_names(connection) == {"t_pkey"}


def test_a_second_build_of_the_same_table_waits(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    make_table(connection, 100)
    writer = node.connect()
    writer.execute("BEGIN")
    writer.execute("UPDATE t SET v = 1 WHERE id = 1")
    first = Statement(node, "CREATE INDEX CONCURRENTLY t_v ON t (v)")
    wait_until(lambda: connection.execute(PROGRESS).fetchall(), "the first")
    second = Statement(node, "CREATE INDEX CONCURRENTLY t_note ON t (note)")
    wait_until(
        lambda: (
            connection.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 't'::regclass"
            ).fetchone()
            == (1,)
        ),
        "the second",
    )
    assert len(connection.execute(PROGRESS).fetchall()) == 1
    writer.execute("COMMIT")
    assert first.end() is None
    assert second.end() is None
    assert index_names(connection) == {"t_pkey", "t_v", "t_note"}


def test_an_old_snapshot_does_not_read_a_young_index(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    make_table(connection, 1000)
    reader = node.connect()
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (1000,)
    connection.execute("CREATE UNIQUE INDEX t_note ON t (note)")
    connection.execute("DELETE FROM t WHERE note = 'n5'")
    assert reader.execute("SELECT id FROM t WHERE note = 'n5'").fetchall() == [(5,)]
    plan = connection.execute("EXPLAIN SELECT id FROM t WHERE note = 'n5'").fetchall()
    assert "Index Scan using t_note" in plan[0][0]
    reader.execute("INSERT INTO t VALUES (2000, 1, 'n7') ON CONFLICT (note) DO NOTHING")
    reader.execute("COMMIT")
    assert reader.execute("SELECT id FROM t WHERE note = 'n7'").fetchall() == [(7,)]


# What fails a build


def test_duplicates_remove_the_index_and_free_its_name(connection: psycopg.Connection) -> None:
    make_table(connection, 600)
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        connection.execute("CREATE UNIQUE INDEX t_v ON t (v)")
    assert caught.value.diag.message_primary == 'could not create unique index "t_v"'
    assert caught.value.diag.message_detail == "Key (v)=(1) is duplicated."
    assert caught.value.diag.constraint_name == "t_v"
    assert caught.value.diag.table_name == "t"
    assert index_names(connection) == {"t_pkey"}
    connection.execute("DELETE FROM t WHERE id > 500")
    connection.execute("CREATE UNIQUE INDEX t_v ON t (v)")
    check_index(connection)


def test_concurrently_leaves_an_invalid_index(connection: psycopg.Connection) -> None:
    make_table(connection, 600)
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY t_v ON t (v)")
    assert connection.execute(VALID).fetchone() == (False,)
    with pytest.raises(psycopg.errors.DuplicateTable):
        connection.execute("CREATE INDEX t_v ON t (v)")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        connection.execute("ALTER TABLE t ADD CONSTRAINT t_v UNIQUE USING INDEX t_v")
    assert caught.value.diag.message_primary == 'index "t_v" is not valid'
    with pytest.raises(psycopg.errors.InvalidColumnReference):
        connection.execute("INSERT INTO t VALUES (1, 1) ON CONFLICT (v) DO NOTHING")
    plan = connection.execute("EXPLAIN SELECT * FROM t WHERE v = 7").fetchall()
    assert "Seq Scan" in plan[0][0]
    connection.execute("DELETE FROM t WHERE id > 500")
    connection.execute("REINDEX INDEX t_v")
    assert connection.execute(VALID).fetchone() == (True,)
    check_index(connection)
    connection.execute("DROP INDEX t_v")
    assert index_names(connection) == {"t_pkey"}


def test_an_expression_that_fails_ends_the_build(connection: psycopg.Connection) -> None:
    make_table(connection, 600)
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("CREATE INDEX t_v ON t ((1 / (v - 7)))")
    assert index_names(connection) == {"t_pkey"}


@pytest.mark.parametrize("concurrently", ["", "CONCURRENTLY"])
@pytest.mark.parametrize("how", ["cancel", "timeout", "terminate"])
def test_a_build_that_is_interrupted(
    node: NodeProcess, connection: psycopg.Connection, concurrently: str, how: str
) -> None:
    make_table(connection, 100)
    writer = node.connect()
    writer.execute("BEGIN")
    writer.execute("UPDATE t SET v = 1 WHERE id = 1")
    text = f"CREATE INDEX {concurrently} t_v ON t (v)"
    if how == "timeout":
        with pytest.raises(psycopg.errors.QueryCanceled):
            node.connect(options="-c statement_timeout=200").execute(text)
    else:
        statement = Statement(node, text)
        wait_until(lambda: connection.execute(PROGRESS).fetchall(), "the build")
        if how == "cancel":
            connection.execute("SELECT pg_cancel_backend(%s)", (statement.process_id,))
            assert isinstance(statement.end(), psycopg.errors.QueryCanceled)
        else:
            connection.execute("SELECT pg_terminate_backend(%s)", (statement.process_id,))
            assert isinstance(statement.end(), psycopg.OperationalError)
    wait_until(lambda: not connection.execute(PROGRESS).fetchall(), "the end of the build")
    expected = {"t_pkey", "t_v"} if concurrently else {"t_pkey"}
    assert index_names(connection) == expected
    writer.execute("COMMIT")
    connection.execute("DROP INDEX IF EXISTS t_v")
    connection.execute("CREATE INDEX t_v ON t (v)")
    check_index(connection)


def test_a_pipeline_is_one_transaction(node: NodeProcess, connection: psycopg.Connection) -> None:
    make_table(connection, 100)
    with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline():
        connection.execute("CREATE INDEX t_v ON t (v)")
        connection.execute("SELECT 1 / (SELECT 0)")
    assert index_names(connection) == {"t_pkey"}


def test_a_block_keeps_its_own_way(node: NodeProcess, connection: psycopg.Connection) -> None:
    make_table(connection, 100)
    other = node.connect(options="-c lock_timeout=100")
    connection.execute("BEGIN")
    connection.execute("CREATE INDEX t_v ON t (v)")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        other.execute("UPDATE t SET v = 1 WHERE id = 1")
    connection.execute("ROLLBACK")
    assert index_names(connection) == {"t_pkey"}
    with pytest.raises(psycopg.errors.ActiveSqlTransaction):
        connection.execute("BEGIN; CREATE INDEX CONCURRENTLY t_v ON t (v)")
