"""Statements outside blocks that lose against another transaction run again by themselves."""

from __future__ import annotations

import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors

if TYPE_CHECKING:
    from tests.e2e.node_process import NodeProcess

SNAPSHOT_LEVELS = ("repeatable read", "serializable")
INCREMENT = "UPDATE counter SET n = n + 1 WHERE id = 1"
WAIT_SECONDS = 20.0


@pytest.fixture(autouse=True)
def table(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE counter (id int PRIMARY KEY, n int)")
    connection.execute("INSERT INTO counter VALUES (1, 0), (2, 0)")
    connection.execute("CREATE SEQUENCE s")


def restarts(node: NodeProcess) -> float:
    with urllib.request.urlopen(f"{node.http_url}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("nodedb_statement_restarts_total "):
                return float(line.split()[1])
    raise AssertionError("no such metric")


def at_level(node: NodeProcess, level: str) -> psycopg.Connection:
    connection = node.connect()
    connection.execute(f"SET default_transaction_isolation = '{level}'")
    return connection


def wait_until_locked(observer: psycopg.Connection, waiter: psycopg.Connection) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    query = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
    while observer.execute(query, (waiter.info.backend_pid,)).fetchone() != ("Lock",):
        assert time.monotonic() < deadline, "it does not wait"


def beaten(node: NodeProcess, loser: psycopg.Connection, statement: str, **how: Any) -> Any:
    """Have a statement wait for a row that somebody else then changes; return its rows."""
    winner, observer = node.connect(autocommit=False), node.connect()
    winner.execute(INCREMENT)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: loser.execute(statement, **how))
        wait_until_locked(observer, loser)
        winner.commit()
        cursor = running.result(WAIT_SECONDS)
    return cursor.fetchall() if cursor.description else cursor.statusmessage


@pytest.mark.parametrize("level", SNAPSHOT_LEVELS)
@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize(
    "statement",
    [f"{INCREMENT} RETURNING n", "UPDATE counter SET n = n + 1 RETURNING n - id"],
    ids=["point", "scan"],
)
def test_who_has_lost_a_row_runs_again(
    node: NodeProcess, level: str, statement: str, prepare: bool
) -> None:
    loser = at_level(node, level)
    before = restarts(node)
    rows = beaten(node, loser, statement, prepare=prepare)
    assert rows in ([(2,)], [(1,), (-1,)])
    assert restarts(node) > before


@pytest.mark.parametrize("level", SNAPSHOT_LEVELS)
def test_a_simple_query_runs_again(node: NodeProcess, level: str) -> None:
    loser = psycopg.ClientCursor(at_level(node, level)).connection
    loser.cursor_factory = psycopg.ClientCursor
    assert beaten(node, loser, INCREMENT) == "UPDATE 1"
    assert beaten(node, loser, "DELETE FROM counter WHERE n >= 2") == "DELETE 1"


@pytest.mark.parametrize("level", SNAPSHOT_LEVELS)
@pytest.mark.parametrize(
    "condition",
    ["nextval('s') > 0", "pg_try_advisory_lock(7)", "pg_advisory_unlock_all() IS NOT NULL"],
)
def test_what_cannot_be_taken_back_is_not_done_twice(
    node: NodeProcess, level: str, condition: str
) -> None:
    loser = at_level(node, level)
    with pytest.raises(errors.SerializationFailure):
        beaten(node, loser, f"UPDATE counter SET n = n + 1 WHERE {condition}")


@pytest.mark.parametrize("level", SNAPSHOT_LEVELS)
def test_in_a_block_the_client_is_told(node: NodeProcess, level: str) -> None:
    loser = at_level(node, level)
    loser.execute("BEGIN")
    with pytest.raises(errors.SerializationFailure, match="due to concurrent update"):
        beaten(node, loser, INCREMENT)
    assert loser.info.transaction_status == psycopg.pq.TransactionStatus.INERROR


@pytest.mark.parametrize("level", SNAPSHOT_LEVELS)
def test_many_increments_at_once_all_count(node: NodeProcess, level: str) -> None:
    threads, each = 8, 25
    barrier = threading.Barrier(threads)

    def work(number: int) -> None:
        connection = at_level(node, level)
        barrier.wait(WAIT_SECONDS)
        for _ in range(each):
            if number % 2:
                connection.execute(INCREMENT)
            else:
                connection.execute("UPDATE counter SET n = n + 1 WHERE id + 0 = 1", prepare=True)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    found = node.connect().execute("SELECT n FROM counter WHERE id = 1").fetchone()
    assert found == (threads * each,)


def test_write_skew_outside_blocks_is_run_again(node: NodeProcess) -> None:
    """Each of many sessions adds a row only if there are fewer than ten."""
    insert = "INSERT INTO counter SELECT max(id) + 1, 0 FROM counter HAVING count(*) < 10"

    def work(_: int) -> None:
        connection = at_level(node, "serializable")
        for _ in range(10):
            try:
                connection.execute(insert)
            except errors.UniqueViolation:
                continue

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert node.connect().execute("SELECT count(*) FROM counter").fetchone() == (10,)


def test_injected_errors_reach_a_retry_loop_and_then_end(connection: psycopg.Connection) -> None:
    connection.execute("SET nodedb.inject_retry_errors = on")
    connection.execute(INCREMENT)  # Outside a block there is nothing to repeat.
    failures = 0
    for _ in range(8):
        try:
            with connection.transaction():
                connection.execute("SELECT 1")
                connection.execute(INCREMENT)
        except errors.SerializationFailure as error:
            failures += "injected by nodedb.inject_retry_errors" in str(error)
    assert failures == 6
    connection.execute("SET nodedb.inject_retry_errors = off")
    with connection.transaction():
        connection.execute(INCREMENT)
    assert connection.execute("SELECT n FROM counter WHERE id = 1").fetchone() == (4,)
