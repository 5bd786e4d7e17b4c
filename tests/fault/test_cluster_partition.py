"""Partitions by the fault hook, and a leader frozen and thawed."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.e2e.cluster_process import ClusterProcess, http, query, running_cluster, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFUSED_SECONDS_MAX = 12.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcess]:
    with running_cluster(tmp_path, 3, "--fault-injection") as cluster:
        query(cluster.nodes[0], "CREATE TABLE t (id int PRIMARY KEY, v int)")
        query(cluster.nodes[0], "INSERT INTO t VALUES (1, 0)")
        for node in cluster.nodes:
            wait_for(lambda node=node: "t" in names(node), 10, "the table on every node")
        yield cluster


def names(node: object) -> set[str]:
    return {row[0] for row in query(node, "SELECT relname FROM pg_class WHERE relkind = 'r'")}  # type: ignore[arg-type]


def isolate(cluster: ClusterProcess, victim: object) -> None:
    """Cut a node off from the others, seen from all of them."""
    place = cluster.nodes.index(victim)  # type: ignore[arg-type]
    for number, node in enumerate(cluster.nodes):
        peers = [cluster.rpc[place]] if number != place else ["*"]
        status, _ = http(node, "/debug/fault", {"cut": [{"peer": peer} for peer in peers]})
        assert status == 200


def heal(cluster: ClusterProcess) -> None:
    for node in cluster.nodes:
        assert http(node, "/debug/fault", {})[0] == 200


@pytest.mark.timeout(300)
def test_a_minority_refuses_writes_and_serves_the_rest(cluster: ClusterProcess) -> None:
    victim = cluster.leader(1)
    others = [node for node in cluster.nodes if node is not victim]
    with psycopg.connect(victim.dsn(), autocommit=True) as connection:
        isolate(cluster, victim)
        # A majority goes on.
        wait_for(lambda: writes(others[0], 2), 20, "a write at the majority")
        # The minority refuses, in time, in these words.
        began = time.monotonic()
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("INSERT INTO t VALUES (3, 0)")
        assert time.monotonic() - began < REFUSED_SECONDS_MAX
        assert caught.value.sqlstate == "57P03"
        assert "1" in (caught.value.diag.message_detail or "")
        connection.execute("SET statement_timeout = '1s'")
        began = time.monotonic()
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("UPDATE t SET v = 9")
        assert time.monotonic() - began < 3
        assert caught.value.sqlstate in ("57P03", "57014")
        connection.execute("RESET statement_timeout")
        # What needs nobody else is served.
        assert connection.execute("SHOW server_version").fetchone()
        assert connection.execute("SELECT count(*) FROM pg_class").fetchone()
        assert len(connection.execute("SHOW NODES").fetchall()) == 3
        connection.execute("SET nodedb.read_consistency = 'eventual'")
        assert connection.execute("SELECT id FROM t ORDER BY id").fetchall() == [(1,)]
        connection.execute("SET nodedb.read_consistency = 'strong'")
        assert http(victim, "/health/live")[0] == 200
        wait_for(lambda: http(victim, "/health/ready")[0] == 503, 10, "unreadiness")
        heal(cluster)
        # It catches up by itself, and the same connection goes on.
        wait_for(lambda: http(victim, "/health/ready")[0] == 200, 30, "readiness again")
        rows = wait_for(
            lambda: connection.execute("SELECT id FROM t ORDER BY id").fetchall(), 10, "rows"
        )
        assert rows == [(1,), (2,)]
        connection.execute("INSERT INTO t VALUES (4, 0)")


def writes(node: object, number: int) -> bool:
    try:
        query(node, f"INSERT INTO t VALUES ({number}, 0)")  # type: ignore[arg-type]
    except psycopg.errors.UniqueViolation:
        return True
    except psycopg.Error:
        return False
    return True


@pytest.mark.timeout(300)
def test_a_thawed_leader_serves_no_old_row(cluster: ClusterProcess) -> None:
    """Frozen with SIGSTOP while another is elected, it must answer with what was written then."""
    for number in range(3):
        freeze_and_thaw(cluster, number + 1)


def freeze_and_thaw(cluster: ClusterProcess, value: int) -> None:
    leader = cluster.leader(1)
    other = next(node for node in cluster.nodes if node is not leader)
    with psycopg.connect(leader.dsn(), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone()
        leader.signal(signal.SIGSTOP)
        # Asked while it is frozen: read from the socket when it thaws.
        answer: list[object] = []

        def ask() -> None:
            row = connection.execute("SELECT v FROM t WHERE id = 1").fetchone()
            answer.append(row)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            wait_for(lambda: updates(other, value), 30, "a new leader's write")
        finally:
            leader.signal(signal.SIGCONT)
        asking.join(30)
        assert answer == [(value,)]
    wait_for(lambda: http(leader, "/health/ready")[0] == 200, 30, "the thawed node in step")


def updates(node: object, value: int) -> bool:
    try:
        query(node, f"UPDATE t SET v = {value} WHERE id = 1")  # type: ignore[arg-type]
    except psycopg.Error:
        return False
    return True
