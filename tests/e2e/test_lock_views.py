"""What an operator sees: pg_locks, pg_stat_activity, pg_blocking_pids, and who may see it."""

import asyncio
import re
import time

import psycopg
import pytest

from tests.e2e.actors import Actor, Stage, play
from tests.e2e.node_process import NodeProcess, running

pytestmark = pytest.mark.timeout(120)

# PostgreSQL's wiki, "Lock Monitoring".
WHO_BLOCKS_WHOM = """
SELECT blocked_locks.pid, blocked_activity.usename, blocking_locks.pid, blocking_activity.usename,
       blocked_activity.query, blocking_activity.query
FROM pg_catalog.pg_locks blocked_locks
JOIN pg_catalog.pg_stat_activity blocked_activity ON blocked_activity.pid = blocked_locks.pid
JOIN pg_catalog.pg_locks blocking_locks
  ON blocking_locks.locktype = blocked_locks.locktype
 AND blocking_locks.database IS NOT DISTINCT FROM blocked_locks.database
 AND blocking_locks.relation IS NOT DISTINCT FROM blocked_locks.relation
 AND blocking_locks.page IS NOT DISTINCT FROM blocked_locks.page
 AND blocking_locks.tuple IS NOT DISTINCT FROM blocked_locks.tuple
 AND blocking_locks.virtualxid IS NOT DISTINCT FROM blocked_locks.virtualxid
 AND blocking_locks.transactionid IS NOT DISTINCT FROM blocked_locks.transactionid
 AND blocking_locks.classid IS NOT DISTINCT FROM blocked_locks.classid
 AND blocking_locks.objid IS NOT DISTINCT FROM blocked_locks.objid
 AND blocking_locks.objsubid IS NOT DISTINCT FROM blocked_locks.objsubid
 AND blocking_locks.pid != blocked_locks.pid
JOIN pg_catalog.pg_stat_activity blocking_activity ON blocking_activity.pid = blocking_locks.pid
WHERE NOT blocked_locks.granted AND blocking_locks.granted
"""

LOCKS = """
SELECT pid, locktype, relation::regclass::text, transactionid::text, classid, objid, objsubid,
       mode, granted
FROM pg_locks WHERE locktype <> 'virtualxid' AND pid <> pg_backend_pid()
ORDER BY pid, locktype, granted, mode
"""

# What holds, what waits, the type of the wait, and the mode waited for.
KINDS = [
    ("UPDATE t SET v = 1 WHERE id = 1", "UPDATE t SET v = 2 WHERE id = 1", "transactionid"),
    ("DELETE FROM t WHERE id = 1", "INSERT INTO child VALUES (1, 1)", "transactionid"),
    ("INSERT INTO t VALUES (7, 7)", "INSERT INTO t VALUES (7, 8)", "transactionid"),
    ("LOCK TABLE t", "SELECT * FROM t", "relation"),
    ("SELECT * FROM t", "DROP TABLE t CASCADE", "relation"),
    ("SELECT pg_advisory_xact_lock(3)", "SELECT pg_advisory_lock(3)", "advisory"),
    ("SELECT pg_advisory_lock_shared(1, -2)", "SELECT pg_advisory_xact_lock(1, -2)", "advisory"),
]


@pytest.fixture
def rows(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    connection.execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, 5) i")
    connection.execute("CREATE TABLE child (id int PRIMARY KEY, t_id int REFERENCES t)")
    return connection


async def activity(stage: Stage, actor: Actor, columns: str) -> tuple:
    return (
        await stage.look(f"SELECT {columns} FROM pg_stat_activity WHERE pid = {actor.process_id}")
    )[0]


@pytest.mark.parametrize(("hold", "want", "event"), KINDS)
def test_who_waits_for_what(
    node: NodeProcess, rows: psycopg.Connection, hold: str, want: str, event: str
) -> None:
    async def script(stage: Stage) -> None:
        holder, waiter = await stage.cast(2)
        await holder.run(hold)
        waiter.start(want)
        await stage.settle()
        assert await activity(stage, waiter, "wait_event_type, wait_event, state, query") == (
            "Lock",
            event,
            "active",
            want,
        )
        assert await activity(stage, holder, "wait_event_type, wait_event, state, query") == (
            "Client",
            "ClientRead",
            "idle in transaction",
            hold,
        )
        assert await stage.look(
            f"SELECT pg_blocking_pids({waiter.process_id}), pg_blocking_pids({holder.process_id}), "
            f"pg_isolation_test_session_is_blocked({waiter.process_id}, "
            f"ARRAY[{holder.process_id}]), pg_safe_snapshot_blocking_pids({waiter.process_id})"
        ) == [([holder.process_id], [], True, [])]
        assert await stage.look(WHO_BLOCKS_WHOM) == [
            (waiter.process_id, "nodedb", holder.process_id, "nodedb", want, hold)
        ]
        # It waits in one place, since a moment ago, under its own virtual transaction.
        assert await stage.look(
            "SELECT locktype, waitstart BETWEEN now() - interval '1 minute' AND clock_timestamp(), "
            "fastpath, virtualtransaction = (SELECT virtualxid FROM pg_locks v "
            f"WHERE locktype = 'virtualxid' AND pid = {waiter.process_id}) "
            f"FROM pg_locks WHERE NOT granted AND pid = {waiter.process_id}"
        ) == [(event, True, False, True)]
        await holder.run("ROLLBACK")
        await holder.run("SELECT pg_advisory_unlock_all()")
        await waiter.end()
        await waiter.run("ROLLBACK")
        await waiter.run("SELECT pg_advisory_unlock_all()")
        await stage.assert_nothing_is_left()

    play(node, script)


def test_the_queue_for_a_row_looks_as_in_postgresql(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    rows.execute("DROP TABLE child")

    async def script(stage: Stage) -> None:
        actors = await stage.cast(4)
        await actors[0].run("UPDATE t SET v = 1 WHERE id = 1")
        for actor in actors[1:]:
            actor.start("UPDATE t SET v = 2 WHERE id = 1")
            await stage.settle()
        holder, first, second, third = (actor.process_id for actor in actors)
        xid = (await activity(stage, actors[0], "backend_xid::text"))[0]
        xids = [(await activity(stage, actor, "backend_xid::text"))[0] for actor in actors]
        assert len(set(xids)) == 4
        nothing = (None, None, None)

        def table(process_id: int) -> tuple:
            return (process_id, "relation", "t", None, *nothing, "RowExclusiveLock", True)

        def own(number: int) -> tuple:
            process_id = actors[number].process_id
            return (
                process_id,
                "transactionid",
                None,
                xids[number],
                *nothing,
                "ExclusiveLock",
                True,
            )

        def row(process_id: int, *, granted: bool) -> tuple:
            return (process_id, "tuple", "t", None, *nothing, "ExclusiveLock", granted)

        assert await stage.look(LOCKS) == [
            *(table(holder), own(0)),
            table(first),
            (first, "transactionid", None, xid, *nothing, "ShareLock", False),
            *(own(1), row(first, granted=True)),
            *(table(second), own(2), row(second, granted=False)),
            *(table(third), own(3), row(third, granted=False)),
        ]
        places = await stage.look(
            "SELECT DISTINCT page >= 0, tuple > 0, page, tuple FROM pg_locks WHERE page IS NOT NULL"
        )
        assert len(places) == 1
        assert places[0][:2] == (True, True)
        found = await stage.look(
            "SELECT pid, wait_event, pg_blocking_pids(pid) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' ORDER BY pid"
        )
        assert found == [
            (first, "transactionid", [holder]),
            (second, "tuple", [first]),
            (third, "tuple", [first, second]),
        ]
        for actor in actors:
            await actor.end()
            await actor.run("COMMIT")

    play(node, script)


def test_advisory_locks_are_shown_by_their_halves(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    connection.execute(
        "SELECT pg_advisory_lock((1::bigint << 40) + 7), pg_advisory_lock(-1), "
        "pg_advisory_lock(-1, 5), pg_advisory_lock_shared(6, -7)"
    )
    shown = connection.execute(
        "SELECT classid, objid, objsubid, mode, granted, transactionid, relation, "
        "virtualtransaction ~ '/0$', database = (SELECT oid FROM pg_database "
        "WHERE datname = current_database()) "
        "FROM pg_locks WHERE locktype = 'advisory' ORDER BY objsubid, classid, objid"
    ).fetchall()
    most = 2**32 - 1
    assert [row[:4] for row in shown] == [
        (256, 7, 1, "ExclusiveLock"),
        (most, most, 1, "ExclusiveLock"),
        (6, most - 6, 2, "ShareLock"),
        (most, 5, 2, "ExclusiveLock"),
    ]
    assert {row[4:7] for row in shown} == {(True, None, None)}
    assert {row[8] for row in shown} == {True}


def test_every_mode_of_a_table_lock_has_postgresqls_name(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    modes = {
        "ACCESS SHARE": "AccessShareLock",
        "ROW SHARE": "RowShareLock",
        "ROW EXCLUSIVE": "RowExclusiveLock",
        "SHARE UPDATE EXCLUSIVE": "ShareUpdateExclusiveLock",
        "SHARE": "ShareLock",
        "SHARE ROW EXCLUSIVE": "ShareRowExclusiveLock",
        "EXCLUSIVE": "ExclusiveLock",
        "ACCESS EXCLUSIVE": "AccessExclusiveLock",
    }
    with node.connect(autocommit=False) as holder:
        for mode in modes:
            holder.execute(f"LOCK TABLE t IN {mode} MODE")
        found = rows.execute(
            "SELECT mode FROM pg_locks WHERE locktype = 'relation' AND relation = %s::regclass",
            ("t",),
        ).fetchall()
        assert [row[0] for row in found] == list(modes.values())


STATES = "state, wait_event_type, wait_event, xact_start IS NULL, backend_xid IS NULL"


def test_the_states_of_a_session(node: NodeProcess, rows: psycopg.Connection) -> None:
    async def script(stage: Stage) -> None:
        actor = await stage.actor()
        idle = ("idle", "Client", "ClientRead", True, True)
        assert await activity(stage, actor, STATES) == idle
        assert await activity(stage, actor, "query, query_start, backend_xmin") == ("", None, None)
        await actor.run("BEGIN; SELECT * FROM t")
        in_block = ("idle in transaction", "Client", "ClientRead", False, True)
        assert await activity(stage, actor, STATES) == in_block
        await actor.run("UPDATE t SET v = 1 WHERE id = 1")
        assert await activity(stage, actor, STATES) == (*in_block[:4], False)
        assert await stage.look(
            "SELECT backend_xid::text = transactionid::text FROM pg_stat_activity JOIN pg_locks "
            f"USING (pid) WHERE pid = {actor.process_id} AND locktype = 'transactionid'"
        ) == [(True,)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            await actor.run("SELECT 1 / 0")
        aborted = ("idle in transaction (aborted)", "Client", "ClientRead", True, True)
        assert await activity(stage, actor, STATES) == aborted
        await actor.run("ROLLBACK")
        assert await activity(stage, actor, STATES) == idle
        await actor.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM t")
        xmin = await activity(stage, actor, "backend_xmin::text")
        assert xmin[0] is not None
        await actor.run("SELECT * FROM t")
        assert await activity(stage, actor, "backend_xmin::text") == xmin
        await actor.run("COMMIT")
        actor.start("SELECT pg_sleep(30)")
        await stage.until(
            f"SELECT wait_event FROM pg_stat_activity WHERE pid = {actor.process_id}", "PgSleep"
        )
        assert await activity(stage, actor, STATES) == ("active", "Timeout", "PgSleep", False, True)
        await stage.look(f"SELECT pg_cancel_backend({actor.process_id})")
        await actor.end_of_wait()
        itself = await stage.look(
            "SELECT state, wait_event, state_change >= query_start, query_start >= xact_start "
            "FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        )
        assert itself == [("active", None, True, True)]

    play(node, script)


def test_a_client_that_does_not_read_is_waited_for(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    async def script(stage: Stage) -> None:
        actor = await stage.actor()
        # Sent past the driver, which would read the answer.
        pgconn = actor.connection.pgconn
        pgconn.send_query(b"SELECT repeat('x', 10000) FROM generate_series(1, 20000)")
        while pgconn.flush():
            pass
        event = f"SELECT wait_event FROM pg_stat_activity WHERE pid = {actor.process_id}"
        await stage.until(event, "ClientWrite")
        assert await stage.look(f"SELECT pg_terminate_backend({actor.process_id}, 20000)") == [
            (True,)
        ]
        await stage.until(
            f"SELECT count(*) FROM pg_stat_activity WHERE pid = {actor.process_id}", 0
        )

    play(node, script)


def test_a_copy_that_waits_for_its_data(node: NodeProcess, rows: psycopg.Connection) -> None:
    with node.connect() as source, source.cursor() as cursor, cursor.copy("COPY t FROM STDIN"):
        deadline = time.monotonic() + 30
        query = "SELECT state, wait_event FROM pg_stat_activity WHERE pid = %s"
        while rows.execute(query, (source.info.backend_pid,)).fetchone() != (
            "active",
            "ClientRead",
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_facts_about_a_session(node: NodeProcess, connection: psycopg.Connection) -> None:
    with node.connect(application_name="an application") as other:
        other.execute("SELECT 'its query'")
        found = connection.execute(
            "SELECT datname, usename, application_name, client_addr::text, client_port > 0, "
            "client_hostname, backend_type, leader_pid, query_id, query, "
            "backend_start <= query_start FROM pg_stat_activity WHERE pid = %s",
            (other.info.backend_pid,),
        ).fetchone()
        assert found == (
            *("nodedb", "nodedb", "an application", "127.0.0.1", True, None),
            *("client backend", None, None, "SELECT 'its query'", True),
        )
        functions = connection.execute(
            "SELECT pg_stat_get_backend_pid(i) = pid, pg_stat_get_backend_dbid(i) = datid, "
            "pg_stat_get_backend_userid(i) = usesysid, pg_stat_get_backend_activity(i) = query, "
            "pg_stat_get_backend_activity_start(i) = query_start, "
            "pg_stat_get_backend_start(i) = backend_start, "
            "pg_stat_get_backend_client_port(i) = client_port, "
            "pg_stat_get_backend_wait_event(i) = wait_event, "
            "pg_stat_get_backend_wait_event_type(i) = wait_event_type, "
            "pg_stat_get_backend_xact_start(i) IS NOT DISTINCT FROM xact_start "
            "FROM pg_stat_get_backend_idset() i JOIN pg_stat_activity a "
            "ON pg_stat_get_backend_pid(i) = a.pid WHERE a.pid = %s",
            (other.info.backend_pid,),
        ).fetchall()
        assert functions == [(True,) * 10]
    assert connection.execute(
        "SELECT pg_stat_get_backend_pid(-1), pg_stat_get_backend_activity(-1)"
    ).fetchone() == (None, "<backend information not available>")


def test_a_long_statement_is_shown_in_part(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    connection.execute(f"SELECT '{'ä' * 2000}'")
    with node.connect() as other:
        shown = other.execute(
            "SELECT query FROM pg_stat_activity WHERE pid = %s", (connection.info.backend_pid,)
        ).fetchone()
    assert shown == ("SELECT '" + "ä" * 507,)


@pytest.fixture
def roles(connection: psycopg.Connection):
    names = ("one_role", "other_role", "watcher")
    for name in names:
        connection.execute(f"DROP ROLE IF EXISTS {name}")
        connection.execute(f"CREATE ROLE {name} LOGIN")
    connection.execute("GRANT pg_read_all_stats TO watcher")
    yield
    for name in names:
        connection.execute(f"DROP ROLE {name}")


def test_others_sessions_show_little(
    node: NodeProcess, connection: psycopg.Connection, roles: None
) -> None:
    """As PostgreSQL 15 shows them to a role without the privilege."""
    with (
        node.connect(user="other_role", application_name="known") as other,
        node.connect(user="one_role") as own,
        node.connect(user="watcher") as watcher,
    ):
        other.execute("BEGIN; SELECT txid_current()")
        process_id = other.info.backend_pid
        cursor = own.execute("SELECT * FROM pg_stat_activity WHERE pid = %s", (process_id,))
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        row = dict(zip(names, cursor.fetchone() or (), strict=True))
        shown = {name for name, value in row.items() if value is not None}
        assert shown - {"backend_xmin"} == {
            *("datid", "datname", "pid", "usesysid", "usename", "application_name"),
            *("backend_xid", "query"),
        }
        assert row["query"] == "<insufficient privilege>"
        facts = "SELECT pg_stat_get_backend_activity(%s), pg_stat_get_backend_wait_event(%s)"
        assert own.execute(facts, (process_id, process_id)).fetchone() == (
            "<insufficient privilege>",
            "<insufficient privilege>",
        )
        query = "SELECT state, query FROM pg_stat_activity WHERE pid = %s"
        full = ("idle in transaction", "BEGIN; SELECT txid_current()")
        assert watcher.execute(query, (process_id,)).fetchone() == full
        connection.execute("GRANT other_role TO one_role")
        assert own.execute(query, (process_id,)).fetchone() == full


def test_counters_of_a_database(node: NodeProcess, rows: psycopg.Connection) -> None:
    query = (
        "SELECT numbackends, xact_commit, xact_rollback, deadlocks, conflicts, sessions, "
        "pg_stat_get_db_xact_commit(datid) - xact_commit, "
        "pg_stat_get_db_deadlocks(datid) - deadlocks "
        "FROM pg_stat_database WHERE datname = current_database()"
    )

    async def script(stage: Stage) -> None:
        one, two = await stage.cast(2, begin="")
        before = (await stage.look(query))[0]
        for actor in (one, two):
            await actor.run("BEGIN")
            await actor.run("SELECT 1")
        await one.run("UPDATE t SET v = 1 WHERE id = 1")
        await two.run("UPDATE t SET v = 1 WHERE id = 2")
        one.start("UPDATE t SET v = 1 WHERE id = 2")
        await stage.settle()
        two.start("UPDATE t SET v = 1 WHERE id = 1")
        await two.end_of_wait()
        await two.run("ROLLBACK")
        await one.end()
        await one.run("COMMIT")
        await one.run("SELECT * FROM t WHERE id = 1")
        with pytest.raises(psycopg.errors.UniqueViolation):
            await one.run("INSERT INTO t VALUES (1, 1)")
        assert one.is_done
        after = (await stage.look(query))[0]
        assert after[0] == before[0]
        # Two of them ours, the others the observer's.
        assert after[1] >= before[1] + 2
        assert after[2:6] == (before[2] + 2, before[3] + 1, 0, before[5])
        assert after[6:] == (0, 0)

    play(node, script)


def test_long_waits_are_logged(tmp_path) -> None:
    with running(tmp_path / "store") as node:
        with node.connect() as connection:
            connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
            connection.execute("INSERT INTO t VALUES (1, 0)")

        async def script(stage: Stage) -> None:
            holder, waiter, quiet = await stage.cast(3)
            await holder.run("UPDATE t SET v = 1 WHERE id = 1")
            await waiter.run("SET deadlock_timeout = '10ms'; SET log_lock_waits = on")
            waiter.start("UPDATE t SET v = 2 WHERE id = 1")
            await stage.settle()
            quiet.start("UPDATE t SET v = 3 WHERE id = 1")
            await stage.settle()
            deadline = time.monotonic() + 30
            still = (
                rf"process {waiter.process_id} still waiting for ShareLock on transaction \d+ "
                rf"after \d+\.\d+ ms; process holding the lock: {holder.process_id}; "
                rf"wait queue: {waiter.process_id}"
            )
            while not re.search(still, node.log()):
                assert time.monotonic() < deadline, node.log()
                await asyncio.sleep(0.01)
            await holder.run("COMMIT")
            await waiter.end()
            acquired = rf"process {waiter.process_id} acquired .* after \d+\.\d+ ms"
            while not re.search(acquired, node.log()):
                assert time.monotonic() < deadline, node.log()
                await asyncio.sleep(0.01)
            assert f"process {quiet.process_id} still" not in node.log()

        play(node, script)


def test_a_commit_that_waits_for_its_flush(
    node: NodeProcess, connection: psycopg.Connection
) -> None:
    """Somebody commits all the time; now and then the observer finds it at that."""

    async def script(stage: Stage) -> None:
        writer = await stage.actor()
        await writer.run("CREATE TABLE long (id int, a text)")
        query = (
            "SELECT wait_event_type, wait_event, state FROM pg_stat_activity "
            f"WHERE pid = {writer.process_id}"
        )
        deadline = time.monotonic() + 60
        found: set[tuple] = set()
        while ("IO", "WALSync", "active") not in found:
            assert time.monotonic() < deadline, found
            if writer.is_done:
                writer.start("INSERT INTO long SELECT i, 'x' FROM generate_series(1, 10000) i")
            found |= set(await stage.look(query))
        await writer.end()

    play(node, script)
