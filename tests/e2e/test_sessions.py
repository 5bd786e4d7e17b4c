"""Sessions side by side: locks, deadlocks, cancellation, timeouts, isolation, COPY."""

import io
import threading
import time

import psycopg
import pytest
from psycopg import errors

from tests.e2e.node_process import NodeProcess

WAIT_SECONDS = 30
pytestmark = pytest.mark.timeout(90)


def in_thread(action) -> tuple[threading.Thread, list]:
    """Start an action; its result or its error arrives in the list."""
    outcome: list = []

    def run() -> None:
        try:
            outcome.append(action())
        except psycopg.Error as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


def finish(thread: threading.Thread) -> None:
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive(), "still waiting"


def wait_for_waiters(observer: psycopg.Connection, count: int = 1) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        row = observer.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
        if row is not None and row[0] >= count:
            return
        assert time.monotonic() < deadline, "nobody waits for a lock"
        time.sleep(0.02)


@pytest.fixture
def rows(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)")
    connection.execute("INSERT INTO t VALUES (1, 0), (2, 0)")
    return connection


def test_a_writer_waits_for_the_row_and_sees_its_new_value(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    first, second = node.connect(autocommit=False), node.connect()
    first.execute("UPDATE t SET v = v + 1 WHERE id = 1")
    thread, outcome = in_thread(
        lambda: second.execute("UPDATE t SET v = v + 10 WHERE id = 1").rowcount
    )
    wait_for_waiters(rows)
    first.commit()
    finish(thread)
    assert outcome == [1]
    assert rows.execute("SELECT v FROM t WHERE id = 1").fetchone() == (11,)


def test_a_waiting_update_checks_its_condition_again(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    first, second = node.connect(autocommit=False), node.connect()
    first.execute("UPDATE t SET v = 5 WHERE id = 1")
    thread, outcome = in_thread(
        lambda: second.execute("UPDATE t SET v = 9 WHERE v = 0 AND id < 2").rowcount
    )
    wait_for_waiters(rows)
    first.commit()
    finish(thread)
    assert outcome == [0]
    assert rows.execute("SELECT v FROM t WHERE id = 1").fetchone() == (5,)


def test_a_waiting_insert_learns_of_the_duplicate(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    first, second = node.connect(autocommit=False), node.connect()
    first.execute("INSERT INTO t VALUES (3, 1)")
    thread, outcome = in_thread(lambda: second.execute("INSERT INTO t VALUES (3, 2)"))
    wait_for_waiters(rows)
    first.commit()
    finish(thread)
    assert isinstance(outcome[0], errors.UniqueViolation)
    assert outcome[0].diag.constraint_name == "t_pkey"
    assert outcome[0].diag.message_detail == "Key (id)=(3) already exists."


def test_a_waiting_insert_goes_on_after_a_rollback(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    first, second = node.connect(autocommit=False), node.connect()
    first.execute("INSERT INTO t VALUES (3, 1)")
    thread, outcome = in_thread(lambda: second.execute("INSERT INTO t VALUES (3, 2)").rowcount)
    wait_for_waiters(rows)
    first.rollback()
    finish(thread)
    assert outcome == [1]
    assert rows.execute("SELECT v FROM t WHERE id = 3").fetchone() == (2,)


def test_a_deadlock_costs_one_transaction(node: NodeProcess, rows: psycopg.Connection) -> None:
    first, second = node.connect(autocommit=False), node.connect(autocommit=False)
    first.execute("UPDATE t SET v = 1 WHERE id = 1")
    second.execute("UPDATE t SET v = 2 WHERE id = 2")
    thread, outcome = in_thread(lambda: first.execute("UPDATE t SET v = 1 WHERE id = 2").rowcount)
    wait_for_waiters(rows)
    try:
        second.execute("UPDATE t SET v = 2 WHERE id = 1")
        victim: object = None
    except errors.DeadlockDetected as error:
        victim = error
        second.rollback()
    finish(thread)
    deadlocks = [e for e in (victim, *outcome) if isinstance(e, errors.DeadlockDetected)]
    assert len(deadlocks) == 1
    assert deadlocks[0].diag.message_primary == "deadlock detected"


def test_lock_timeout_and_nowait_and_skip_locked(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    holder = node.connect(autocommit=False)
    holder.execute("SELECT * FROM t WHERE id = 1 FOR UPDATE")
    rows.execute("SET lock_timeout = '50ms'")
    with pytest.raises(errors.LockNotAvailable, match="canceling statement due to lock timeout"):
        rows.execute("UPDATE t SET v = 1 WHERE id = 1")
    with pytest.raises(
        errors.LockNotAvailable, match='could not obtain lock on row in relation "t"'
    ):
        rows.execute("SELECT * FROM t WHERE id = 1 FOR UPDATE NOWAIT")
    skipped = rows.execute("SELECT id FROM t ORDER BY id FOR UPDATE SKIP LOCKED").fetchall()
    assert skipped == [(2,)]
    assert rows.execute("SELECT v FROM t WHERE id = 1").fetchone() == (0,)
    holder.rollback()


def test_cancel_ends_a_long_statement(connection: psycopg.Connection) -> None:
    thread, outcome = in_thread(lambda: connection.execute("SELECT pg_sleep(25)"))
    deadline = time.monotonic() + WAIT_SECONDS
    while thread.is_alive():
        assert time.monotonic() < deadline, "the cancel request has no effect"
        connection.cancel_safe(timeout=10)
        thread.join(0.1)
    assert isinstance(outcome[0], errors.QueryCanceled)
    assert str(outcome[0]) == "canceling statement due to user request"
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_cancel_ends_a_wait_for_a_lock(node: NodeProcess, rows: psycopg.Connection) -> None:
    holder, waiter = node.connect(autocommit=False), node.connect()
    holder.execute("UPDATE t SET v = 1 WHERE id = 1")
    thread, outcome = in_thread(lambda: waiter.execute("UPDATE t SET v = 2 WHERE id = 1"))
    wait_for_waiters(rows)
    waiter.cancel_safe(timeout=10)
    finish(thread)
    assert isinstance(outcome[0], errors.QueryCanceled)
    holder.rollback()
    assert waiter.execute("UPDATE t SET v = 2 WHERE id = 1").rowcount == 1


def test_statement_timeout(connection: psycopg.Connection) -> None:
    connection.execute("SET statement_timeout = '100ms'")
    started = time.monotonic()
    with pytest.raises(errors.QueryCanceled, match="canceling statement due to statement timeout"):
        connection.execute("SELECT pg_sleep(25)")
    assert time.monotonic() - started < 20
    with pytest.raises(errors.QueryCanceled, match="canceling statement due to statement timeout"):
        connection.execute("SELECT count(*) FROM generate_series(1, 100000000)")
    connection.execute("RESET statement_timeout")
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_busy_statement_lets_others_run(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    busy = node.connect()
    busy.execute("SET statement_timeout = '3s'")
    thread, outcome = in_thread(
        lambda: busy.execute("SELECT count(*) FROM generate_series(1, 100000000)")
    )
    answered = 0
    while thread.is_alive() and answered < 20:
        connection.execute("SELECT 1")
        answered += 1
    was_busy = thread.is_alive()
    finish(thread)
    assert isinstance(outcome[0], errors.QueryCanceled)
    assert was_busy, "the others had to wait for the busy statement"
    assert answered == 20


def test_pg_terminate_backend(node: NodeProcess, connection: psycopg.Connection) -> None:
    victim = node.connect()
    done = connection.execute(
        "SELECT pg_terminate_backend(%s)", (victim.info.backend_pid,)
    ).fetchone()
    assert done == (True,)
    with pytest.raises(
        psycopg.OperationalError, match="terminating connection due to administrator command"
    ):
        victim.execute("SELECT 1")


def test_read_committed_sees_what_others_commit_between_statements(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    reader = node.connect(autocommit=False)
    assert reader.execute("SELECT sum(v) FROM t").fetchone() == (0,)
    rows.execute("UPDATE t SET v = 7 WHERE id = 1")
    assert reader.execute("SELECT sum(v) FROM t").fetchone() == (7,)
    reader.rollback()


def test_nobody_sees_uncommitted_rows_or_tables(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    writer = node.connect(autocommit=False)
    writer.execute("INSERT INTO t VALUES (3, 3)")
    writer.execute("CREATE TABLE hidden (a int)")
    writer.execute("INSERT INTO hidden VALUES (1)")
    assert writer.execute("SELECT count(*) FROM hidden").fetchone() == (1,)
    assert rows.execute("SELECT count(*) FROM t").fetchone() == (2,)
    with pytest.raises(errors.UndefinedTable):
        rows.execute("SELECT * FROM hidden")
    writer.commit()
    assert rows.execute("SELECT count(*) FROM t").fetchone() == (3,)
    assert rows.execute("SELECT count(*) FROM hidden").fetchone() == (1,)


def test_savepoints_undo_rows_and_tables(node: NodeProcess, rows: psycopg.Connection) -> None:
    with node.connect(autocommit=False) as writer:
        writer.execute("INSERT INTO t VALUES (3, 3)")
        writer.execute("SAVEPOINT a")
        writer.execute("CREATE TABLE undone (a int)")
        writer.execute("UPDATE t SET v = 100")
        with pytest.raises(errors.UniqueViolation):
            writer.execute("INSERT INTO t VALUES (1, 1)")
        with pytest.raises(errors.InFailedSqlTransaction):
            writer.execute("SELECT 1")
        writer.execute("ROLLBACK TO SAVEPOINT a")
        assert writer.execute("SELECT to_regclass('undone')").fetchone() == (None,)
        writer.commit()
    assert rows.execute("SELECT id, v FROM t ORDER BY id").fetchall() == [(1, 0), (2, 0), (3, 3)]


def test_listen_and_notify(node: NodeProcess, connection: psycopg.Connection) -> None:
    listener = node.connect()
    listener.execute("LISTEN news")
    connection.execute("NOTIFY news, 'first'")
    connection.execute("SELECT pg_notify('news', 'second')")
    received = list(listener.notifies(timeout=20, stop_after=2))
    assert [(n.channel, n.payload, n.pid) for n in received] == [
        ("news", "first", connection.info.backend_pid),
        ("news", "second", connection.info.backend_pid),
    ]


@pytest.mark.parametrize("format_name", ["text", "csv", "binary"])
def test_copy_round_trip(connection: psycopg.Connection, format_name: str) -> None:
    connection.execute("CREATE TABLE source (id int PRIMARY KEY, t text, n numeric, b bytea)")
    connection.execute(
        "INSERT INTO source "
        "SELECT i, CASE WHEN i % 7 = 0 THEN NULL ELSE 'tab\t\"' || i END, i / 3.0, "
        "decode(lpad(to_hex(i), 8, '0'), 'hex') FROM generate_series(1, 3000) i"
    )
    connection.execute("CREATE TABLE target (LIKE source)")
    buffer = io.BytesIO()
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY source TO STDOUT (FORMAT {format_name})") as copy_out:
            for chunk in copy_out:
                buffer.write(chunk)
        with cursor.copy(f"COPY target FROM STDIN (FORMAT {format_name})") as copy_in:
            copy_in.write(buffer.getvalue())
        assert cursor.rowcount == 3000
    difference = connection.execute(
        "SELECT count(*) FROM (TABLE source EXCEPT TABLE target) d"
    ).fetchone()
    assert difference == (0,)
    assert connection.execute("SELECT count(*) FROM target WHERE t IS NULL").fetchone() == (428,)


def test_a_bad_copy_leaves_nothing(rows: psycopg.Connection) -> None:
    with pytest.raises(errors.InvalidTextRepresentation) as caught:
        with rows.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
            copy.write(b"10\t1\n11\tbad\n")
    assert caught.value.diag.context == 'COPY t, line 2, column v: "bad"'
    assert rows.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_an_aborted_copy_leaves_nothing(rows: psycopg.Connection) -> None:
    class Stop(Exception):
        pass

    with pytest.raises(Stop), rows.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
        copy.write(b"10\t1\n")
        raise Stop
    assert rows.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_a_large_result_arrives_whole(connection: psycopg.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT i, repeat('x', 100) FROM generate_series(1, 50000) i")
        assert sum(row[0] for row in cursor) == 50_000 * 50_001 // 2


def test_cursors_fetch_in_pieces(node: NodeProcess, rows: psycopg.Connection) -> None:
    rows.execute("INSERT INTO t SELECT i, i FROM generate_series(3, 5000) i")
    with node.connect(autocommit=False) as reader, reader.cursor(name="c") as cursor:
        cursor.itersize = 700
        cursor.execute("SELECT id FROM t ORDER BY id")
        assert [row[0] for row in cursor] == list(range(1, 5001))
