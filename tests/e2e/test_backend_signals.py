"""pg_cancel_backend and pg_terminate_backend: on whom, by whom, amid what."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from tests.e2e.actors import Stage, play
from tests.e2e.node_process import NodeProcess

pytestmark = pytest.mark.timeout(120)

# What a session holds for the other one to wait for, and what that waits with.
WAITS = [
    ("UPDATE t SET v = 1 WHERE id = 1", "UPDATE t SET v = 2 WHERE id = 1"),
    ("INSERT INTO t VALUES (7, 7)", "INSERT INTO t VALUES (7, 8)"),
    ("LOCK TABLE t", "SELECT * FROM t"),
    ("SELECT pg_advisory_lock(3)", "SELECT pg_advisory_lock(3)"),
    ("SELECT pg_advisory_lock(4)", "SELECT pg_advisory_xact_lock(4)"),
    ("SELECT 1", "SELECT pg_sleep(60)"),
]


@pytest.fixture
def rows(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    connection.execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, 5) i")
    connection.execute("CREATE TABLE mark (a int)")
    return connection


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize(("hold", "wait"), WAITS)
def test_amid_a_wait(
    node: NodeProcess, rows: psycopg.Connection, hold: str, wait: str, function: str
) -> None:
    async def script(stage: Stage) -> None:
        holder, waiter = await stage.cast(2)
        await holder.run(hold)
        await waiter.run("INSERT INTO mark VALUES (1)")
        waiter.start(wait)
        await stage.until(
            "SELECT wait_event_type IN ('Lock', 'Timeout') FROM pg_stat_activity "
            f"WHERE pid = {waiter.process_id}",
            True,
        )
        assert await stage.look(f"SELECT {function}({waiter.process_id})") == [(True,)]
        await waiter.end_of_wait()
        if function == "pg_cancel_backend":
            assert isinstance(waiter.outcome, errors.QueryCanceled)
            assert waiter.outcome.diag.message_primary == "canceling statement due to user request"
            with pytest.raises(errors.InFailedSqlTransaction):
                await waiter.run("SELECT 1")
            await waiter.run("ROLLBACK")
        else:
            assert isinstance(waiter.outcome, errors.AdminShutdown)
            assert waiter.outcome.diag.severity == "FATAL"
            assert waiter.outcome.diag.message_primary == (
                "terminating connection due to administrator command"
            )
        await holder.run("ROLLBACK")
        await holder.run("SELECT pg_advisory_unlock_all()")
        await stage.assert_nothing_is_left()
        assert await stage.look("SELECT * FROM mark") == []

    play(node, script)


def test_on_itself(node: NodeProcess, connection: psycopg.Connection) -> None:
    with pytest.raises(errors.QueryCanceled, match="canceling statement due to user request"):
        connection.execute("SELECT pg_cancel_backend(pg_backend_pid())")
    assert connection.execute("SELECT 1").fetchone() == (1,)
    other = node.connect()
    with pytest.raises(
        errors.AdminShutdown, match="terminating connection due to administrator command"
    ):
        other.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def test_an_idle_session_is_not_cancelled(node: NodeProcess, rows: psycopg.Connection) -> None:
    with node.connect(autocommit=False) as other:
        other.execute("UPDATE t SET v = 1 WHERE id = 1")
        assert rows.execute(
            "SELECT pg_cancel_backend(%s)", (other.info.backend_pid,)
        ).fetchone() == (True,)
        other.execute("UPDATE t SET v = v + 1 WHERE id = 1")
        other.commit()
    assert rows.execute("SELECT v FROM t WHERE id = 1").fetchone() == (2,)


def test_amid_a_result(node: NodeProcess, rows: psycopg.Connection) -> None:
    with node.connect() as other, other.cursor() as cursor:
        rows_of = cursor.stream("SELECT i, repeat('x', 1000) FROM generate_series(1, 500000) i")
        next(rows_of)
        rows.execute("SELECT pg_cancel_backend(%s)", (other.info.backend_pid,))
        with pytest.raises(errors.QueryCanceled):
            for _ in rows_of:
                pass
        assert other.execute("SELECT 1").fetchone() == (1,)


def test_amid_commits_each_is_whole(node: NodeProcess, rows: psycopg.Connection) -> None:
    """A commit under way is not cancelled: what was acknowledged is there, and nothing else."""

    async def script(stage: Stage) -> None:
        writer = await stage.actor()
        acknowledged = []
        for number in range(100, 160):
            writer.start(
                f"INSERT INTO t SELECT {number} * 1000 + i, 0 FROM generate_series(1, 200) i"
            )
            await stage.look(f"SELECT pg_cancel_backend({writer.process_id})")
            await writer.end_of_wait()
            if isinstance(writer.outcome, psycopg.Error):
                assert isinstance(writer.outcome, errors.QueryCanceled)
            else:
                acknowledged.append((number, 200))
        assert (
            await stage.look(
                "SELECT id / 1000, count(*) FROM t WHERE id > 1000 GROUP BY 1 ORDER BY 1"
            )
            == acknowledged
        )
        print(f"{len(acknowledged)} of 60 committed")

    play(node, script)


def test_unknown_sessions_are_warned_of(connection: psycopg.Connection) -> None:
    notices: list[tuple[str | None, ...]] = []
    connection.add_notice_handler(
        lambda d: notices.append((d.severity, d.sqlstate, d.message_primary))
    )
    for call in ("pg_cancel_backend(99999)", "pg_terminate_backend(99999)"):
        assert connection.execute(f"SELECT {call}").fetchone() == (False,)
    assert connection.execute("SELECT pg_terminate_backend(-5, 100)").fetchone() == (False,)
    assert notices == [
        ("WARNING", "01000", f"PID {number} is not a PostgreSQL backend process")
        for number in (99999, 99999, -5)
    ]
    assert connection.execute("SELECT pg_cancel_backend(NULL)").fetchone() == (None,)
    with pytest.raises(errors.NumericValueOutOfRange, match='"timeout" must not be negative'):
        connection.execute("SELECT pg_terminate_backend(99999, -1)")


def test_terminate_with_a_timeout_waits_for_the_end(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    other = node.connect()
    process_id = other.info.backend_pid
    assert connection.execute(
        "SELECT pg_terminate_backend(%s, 20000), "
        "(SELECT count(*) FROM pg_stat_activity WHERE pid = %s)",
        (process_id, process_id),
    ).fetchone() == (True, 0)


@pytest.fixture
def roles(connection: psycopg.Connection) -> Iterator[None]:
    names = ("one_role", "other_role", "signaller")
    for name in names:
        connection.execute(f"DROP ROLE IF EXISTS {name}")
        connection.execute(f"CREATE ROLE {name} LOGIN")
    connection.execute("GRANT pg_signal_backend TO signaller")
    yield
    for name in names:
        connection.execute(f"DROP ROLE {name}")


def test_who_may(node: NodeProcess, connection: psycopg.Connection, roles: None) -> None:
    with (
        node.connect(user="one_role") as one,
        node.connect(user="other_role") as other,
        node.connect(user="signaller") as signaller,
    ):
        target, root = other.info.backend_pid, connection.info.backend_pid
        refusals = {
            ("pg_cancel_backend", target): "must be a member of the role whose query is being "
            "canceled or member of pg_signal_backend",
            ("pg_terminate_backend", target): "must be a member of the role whose process is being "
            "terminated or member of pg_signal_backend",
            ("pg_cancel_backend", root): "must be a superuser to cancel superuser query",
            ("pg_terminate_backend", root): "must be a superuser to terminate superuser process",
        }
        for (function, process_id), message in refusals.items():
            with pytest.raises(errors.InsufficientPrivilege) as caught:
                one.execute(f"SELECT {function}({process_id})")
            assert caught.value.diag.message_primary == message
        with pytest.raises(errors.InsufficientPrivilege):
            signaller.execute(f"SELECT pg_cancel_backend({root})")
        cancel = f"SELECT pg_cancel_backend({target})"
        assert signaller.execute(cancel).fetchone() == (True,)
        connection.execute("GRANT other_role TO one_role")
        assert one.execute(cancel).fetchone() == (True,)
        assert one.execute(f"SELECT pg_terminate_backend({target})").fetchone() == (True,)
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")
