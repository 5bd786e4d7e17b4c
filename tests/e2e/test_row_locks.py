"""FOR UPDATE and its kin: what is locked, NOWAIT, SKIP LOCKED, and a queue of jobs made of it."""

import json
import random
import threading

import psycopg
import pytest
from psycopg import errors

from tests.e2e import row_locks
from tests.e2e.actors import Stage, play
from tests.e2e.node_process import NodeProcess

pytestmark = pytest.mark.timeout(120)


def test_queries_lock_what_postgresql_locks(node: NodeProcess) -> None:
    expected = json.loads(row_locks.RECORDED.read_text())
    found = row_locks.outcomes(node.dsn())
    assert list(found) == list(expected), "record again: python -m tests.e2e.row_locks DSN"
    different = {q: (found[q], expected[q]) for q in expected if found[q] != expected[q]}
    assert not different


@pytest.fixture
def rows(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute(row_locks.SCHEMA)
    return connection


def test_a_row_locked_through_a_view_is_checked_again(
    node: NodeProcess, rows: psycopg.Connection
) -> None:
    """The condition on the view counts, too, when the row has changed meanwhile."""

    async def script(stage: Stage) -> None:
        writer, inner, outer = await stage.cast(3)
        await writer.run("UPDATE t SET v = 5 WHERE id = 1; UPDATE t SET id = 9 WHERE id = 2")
        inner.start("SELECT id, v FROM v1 WHERE v < 9 ORDER BY id FOR UPDATE")
        await stage.settle()
        outer.start("SELECT id, v FROM v1 WHERE v = 0 AND id = 1 FOR SHARE")
        await stage.settle()
        await writer.run("COMMIT")
        assert await inner.end() == [(1, 5), (3, 0)]
        await inner.run("COMMIT")
        assert await outer.end() == []

    play(node, script)


SKIPPING = [
    ("SELECT id FROM t ORDER BY id FOR UPDATE SKIP LOCKED", [3, 4, 5]),
    ("SELECT id FROM t ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED", [3, 4]),
    ("SELECT id FROM t ORDER BY id LIMIT 2 OFFSET 1 FOR UPDATE SKIP LOCKED", [4, 5]),
    ("SELECT id FROM t ORDER BY id DESC LIMIT 1 FOR UPDATE SKIP LOCKED", [5]),
    ("SELECT t.id FROM t JOIN p ON p.tid = t.id ORDER BY 1 FOR UPDATE OF t SKIP LOCKED", []),
    ("SELECT t.id FROM t JOIN p ON p.tid = t.id ORDER BY 1 FOR UPDATE OF p SKIP LOCKED", [1, 2]),
    ("SELECT id FROM (SELECT id FROM t FOR UPDATE SKIP LOCKED) s ORDER BY id LIMIT 1", [3]),
    ("WITH w AS (SELECT id FROM t ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) TABLE w", [3]),
    ("SELECT id FROM v1 ORDER BY id FOR UPDATE SKIP LOCKED", [3]),
    ("SELECT k FROM v2 FOR NO KEY UPDATE SKIP LOCKED", [3]),
    ("SELECT id FROM t WHERE id = 1 FOR KEY SHARE SKIP LOCKED", []),
    (
        "UPDATE t SET v = 1 WHERE id = "
        "(SELECT id FROM t ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id",
        [3],
    ),
    (
        "DELETE FROM t WHERE id IN "
        "(SELECT id FROM v1 ORDER BY id FOR UPDATE SKIP LOCKED) RETURNING id",
        [3],
    ),
]


@pytest.mark.parametrize(("query", "expected"), SKIPPING)
def test_skip_locked_passes_over_what_is_taken(
    node: NodeProcess, rows: psycopg.Connection, query: str, expected: list[int]
) -> None:
    holder = node.connect(autocommit=False)
    holder.execute("SELECT FROM t WHERE id < 3 FOR UPDATE")
    rows.execute("SET statement_timeout = '20s'")
    assert [row[0] for row in rows.execute(query).fetchall()] == expected


NOT_WAITING = [
    ("SELECT id FROM t FOR UPDATE NOWAIT", "t"),
    ("SELECT id FROM t WHERE id = 2 FOR KEY SHARE NOWAIT", "t"),
    ("SELECT id FROM v2, t WHERE k = id FOR SHARE OF v2 NOWAIT", "t"),
    ("SELECT * FROM t JOIN p ON p.tid = t.id FOR UPDATE OF p FOR SHARE OF t NOWAIT", "t"),
    ("SELECT (SELECT id FROM t WHERE id = 1 FOR UPDATE NOWAIT)", "t"),
    ("WITH w AS (SELECT id FROM t FOR UPDATE NOWAIT) TABLE w", "t"),
    ("SELECT id FROM t FOR UPDATE SKIP LOCKED FOR UPDATE NOWAIT", "t"),
]


@pytest.mark.parametrize(("query", "table"), NOT_WAITING)
def test_nowait_fails_at_once(
    node: NodeProcess, rows: psycopg.Connection, query: str, table: str
) -> None:
    holder = node.connect(autocommit=False)
    holder.execute("SELECT FROM t WHERE id < 3 FOR UPDATE")
    with pytest.raises(errors.LockNotAvailable) as caught:
        rows.execute(query)
    assert caught.value.diag.message_primary == (
        f'could not obtain lock on row in relation "{table}"'
    )
    holder.rollback()
    rows.execute(query)


def test_lock_table_nowait(node: NodeProcess, rows: psycopg.Connection) -> None:
    holder, other = node.connect(autocommit=False), node.connect(autocommit=False)
    holder.execute("LOCK TABLE t IN SHARE MODE")
    with pytest.raises(errors.LockNotAvailable, match='could not obtain lock on relation "t"'):
        other.execute("LOCK TABLE t IN ROW EXCLUSIVE MODE NOWAIT")


@pytest.mark.parametrize("source", ["job", "open_job"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_queue_of_jobs_serves_each_once(
    node: NodeProcess, connection: psycopg.Connection, source: str, seed: int
) -> None:
    """Eight workers take jobs with SKIP LOCKED; some fail, and their job is taken again."""
    jobs, workers = 120, 8
    connection.execute("CREATE TABLE job (id int PRIMARY KEY, taken_by int)")
    connection.execute(f"INSERT INTO job SELECT i FROM generate_series(1, {jobs}) i")
    connection.execute("CREATE VIEW open_job AS SELECT * FROM job WHERE taken_by IS NULL")
    connection.execute("CREATE TABLE done (id int, worker int)")
    faults: list[object] = []

    def work(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        with node.connect(autocommit=False) as own:
            while True:
                found = own.execute(
                    f"SELECT id FROM {source} WHERE taken_by IS NULL "
                    "ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
                ).fetchone()
                if found is None:
                    own.rollback()
                    if own.execute("SELECT count(*) FROM open_job").fetchone() == (0,):
                        return
                    own.rollback()
                    continue
                own.execute("UPDATE job SET taken_by = %s WHERE id = %s", (number, *found))
                own.execute("INSERT INTO done VALUES (%s, %s)", (*found, number))
                if chance.random() < 0.2:
                    own.rollback()
                else:
                    own.commit()

    def guarded(number: int) -> None:
        try:
            work(number)
        except (psycopg.Error, AssertionError) as error:
            faults.append((seed, number, error))

    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), f"seed {seed}: a worker waits"
    assert not faults
    done = connection.execute("SELECT id, worker FROM done ORDER BY id").fetchall()
    assert [row[0] for row in done] == list(range(1, jobs + 1)), f"seed {seed}"
    assert done == connection.execute("SELECT id, taken_by FROM job ORDER BY id").fetchall()
    assert len({row[1] for row in done}) > 1, f"seed {seed}: one worker did it all"
