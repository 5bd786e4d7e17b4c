"""lock_timeout, statement_timeout and the two idle timeouts: what they end, and what is left."""

import re

import psycopg
import pytest
from psycopg import errors

from tests.e2e.actors import Stage, play
from tests.e2e.node_process import NodeProcess

pytestmark = pytest.mark.timeout(120)

KINDS = {
    "row": ("UPDATE t SET v = 1 WHERE id = 1", "UPDATE t SET v = 2 WHERE id = 1"),
    "scan": ("UPDATE t SET v = 1 WHERE id = 1", "UPDATE t SET v = 2"),
    "key": ("INSERT INTO t VALUES (7, 7)", "INSERT INTO t VALUES (7, 8)"),
    "parent": ("DELETE FROM t WHERE id = 1", "INSERT INTO child VALUES (1, 1)"),
    "table": ("LOCK TABLE t", "SELECT * FROM t"),
    "schema": ("SELECT * FROM t", "ALTER TABLE t ADD COLUMN w int"),
    "advisory": ("SELECT pg_advisory_xact_lock(3)", "SELECT pg_advisory_xact_lock(3)"),
    "session advisory": ("SELECT pg_advisory_xact_lock(4)", "SELECT pg_advisory_lock(4)"),
}
LIMITS = {
    "lock_timeout": ("55P03", "canceling statement due to lock timeout"),
    "statement_timeout": ("57014", "canceling statement due to statement timeout"),
}


@pytest.fixture
def rows(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    connection.execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, 5) i")
    connection.execute("CREATE TABLE child (id int PRIMARY KEY, t_id int REFERENCES t)")
    return connection


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_wait_is_cut_short(
    node: NodeProcess, rows: psycopg.Connection, kind: str, limit: str
) -> None:
    """Outside a block, in one, and after a savepoint, to which the block can go back."""
    hold, wait = KINDS[kind]
    sqlstate, message = LIMITS[limit]

    async def script(stage: Stage) -> None:
        holder, waiter = await stage.cast(2, begin="")
        await holder.run("BEGIN")
        await holder.run(hold)
        await waiter.run(f"SET {limit} = '40ms'")

        async def expect_failure() -> None:
            with pytest.raises(psycopg.Error) as caught:
                await waiter.run(wait)
            assert caught.value.diag.sqlstate == sqlstate
            assert caught.value.diag.message_primary == message

        await expect_failure()
        await waiter.run("BEGIN")
        await expect_failure()
        with pytest.raises(errors.InFailedSqlTransaction):
            await waiter.run("SELECT 1")
        assert await waiter.run("COMMIT") == "ROLLBACK"
        await waiter.run("BEGIN")
        await waiter.run("SELECT pg_advisory_xact_lock(8)")
        await waiter.run("SAVEPOINT a")
        await waiter.run("SELECT pg_advisory_xact_lock(9)")
        await expect_failure()
        left = (
            "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND objid IN (8, 9) "
            f"AND pid = {waiter.process_id} ORDER BY 1"
        )
        # What the savepoint covers is undone at once, as in PostgreSQL; the rest stays.
        assert await stage.look(left) == [(8,)]
        assert waiter.process_id not in await stage.waiting()
        await waiter.run("ROLLBACK TO a")
        await waiter.run(f"SET {limit} = 0")
        await holder.run("ROLLBACK")
        await waiter.run(wait)
        await waiter.run("COMMIT")
        await waiter.run("SELECT pg_advisory_unlock_all()")
        await stage.assert_nothing_is_left()

    play(node, script)


def test_a_failed_block_without_savepoints_lets_go_at_once(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    """As PostgreSQL, which aborts the transaction when the statement fails."""
    with node.connect(autocommit=False) as failed:
        failed.execute("UPDATE t SET v = 1 WHERE id = 1")
        with pytest.raises(errors.DivisionByZero):
            failed.execute("SELECT 1 / 0")
        rows.execute("SET statement_timeout = '20s'")
        assert rows.execute("UPDATE t SET v = 2 WHERE id = 1").rowcount == 1


def test_each_statement_and_each_lock_has_its_own_time(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    rows.execute("SET lock_timeout = '30ms'")
    rows.execute("SELECT pg_sleep(0.1)")
    rows.execute("UPDATE t SET v = 1 WHERE id = 1")
    rows.execute("SET statement_timeout = '5s'")
    for _ in range(3):
        rows.execute("SELECT pg_sleep(0.01)")
    holder = node.connect(autocommit=False)
    holder.execute("UPDATE t SET v = 1 WHERE id = 1")
    # The shorter one counts.
    with pytest.raises(errors.LockNotAvailable):
        rows.execute("UPDATE t SET v = 2 WHERE id = 1")
    rows.execute("SET lock_timeout = '5s'; SET statement_timeout = '30ms'")
    with pytest.raises(errors.QueryCanceled) as caught:
        rows.execute("UPDATE t SET v = 2 WHERE id = 1")
    assert re.fullmatch(
        r'while updating tuple \(\d+,\d+\) in relation "t"', caught.value.diag.context or ""
    )


def test_skip_locked_and_nowait_do_not_wait_for_the_timeout(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    holder = node.connect(autocommit=False)
    holder.execute("UPDATE t SET v = 1 WHERE id = 1")
    rows.execute("SET lock_timeout = '20s'")
    with pytest.raises(errors.LockNotAvailable, match="could not obtain lock on row"):
        rows.execute("SELECT * FROM t FOR UPDATE NOWAIT")
    assert len(rows.execute("SELECT * FROM t FOR UPDATE SKIP LOCKED").fetchall()) == 4


IDLE = [
    (
        "idle_in_transaction_session_timeout",
        "BEGIN; UPDATE t SET v = 5 WHERE id = 1",
        "25P03",
        "terminating connection due to idle-in-transaction timeout",
    ),
    (
        "idle_in_transaction_session_timeout",
        "BEGIN; SAVEPOINT a; UPDATE t SET v = 5 WHERE id = 1; SELECT 1 / 0",
        "25P03",
        "terminating connection due to idle-in-transaction timeout",
    ),
    (
        "idle_session_timeout",
        "SELECT pg_advisory_lock(1)",
        "57P05",
        "terminating connection due to idle-session timeout",
    ),
]


@pytest.mark.parametrize(("limit", "work", "sqlstate", "message"), IDLE)
def test_an_idle_session_is_ended_and_its_locks_with_it(
    node: NodeProcess,
    rows: psycopg.Connection,
    limit: str,
    work: str,
    sqlstate: str,
    message: str,
) -> None:
    async def script(stage: Stage) -> None:
        idle = await stage.actor()
        await idle.run(f"SET {limit} = '50ms'")
        idle.start(work)
        await idle.end_of_wait()
        await stage.until(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {idle.process_id}", 0)
        await stage.assert_nothing_is_left()
        with pytest.raises(psycopg.Error) as caught:
            await idle.run("SELECT 1")
        assert caught.value.diag.sqlstate == sqlstate
        assert caught.value.diag.severity == "FATAL"
        assert caught.value.diag.message_primary == message
        assert await stage.look("SELECT v FROM t WHERE id = 1") == [(0,)]

    play(node, script)
