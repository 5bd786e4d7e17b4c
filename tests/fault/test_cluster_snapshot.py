"""A replica that is far behind catches up by snapshot, while the others serve."""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.e2e.cluster_process import ClusterProcess, query, running_cluster, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.node_process import NodeProcess


def snapshots_of(node: NodeProcess) -> int:
    """Return how many snapshots a node has installed since it first started."""
    return node.log().count("installed the snapshot")


def has_another(node: NodeProcess, count: int) -> bool:
    return snapshots_of(node) > count


def write_entries(cluster: ClusterProcess, count: int, clients: int = 16) -> None:
    """Commit so many transactions, each an entry of its own."""
    numbers = iter(range(count))
    lock = threading.Lock()

    def write() -> None:
        with psycopg.connect(cluster.leader(1).dsn(), autocommit=True) as connection:
            while True:
                with lock:
                    batch = [n for _, n in zip(range(100), numbers, strict=False)]
                if not batch:
                    return
                for number in batch:
                    connection.execute("UPDATE t SET n = n + 1 WHERE id = %s", [number % 5000])

    threads = [threading.Thread(target=write) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def index_of(node: NodeProcess) -> int:
    return int(dict(query(node, "SHOW RAFT GROUP 1"))["last_applied"])


def is_in_step(cluster: ClusterProcess, node: NodeProcess) -> bool:
    try:
        return index_of(node) >= index_of(cluster.leader(1))
    except psycopg.Error:
        return False


def digest(node: NodeProcess) -> tuple[object, ...]:
    with psycopg.connect(node.dsn(), autocommit=True) as connection:
        connection.execute("SET nodedb.read_consistency = 'eventual'")
        rows = connection.execute("SELECT count(*), sum(n), sum(hashtext(v)) FROM t").fetchone()
        assert rows is not None
        return rows


def run(directory: Path, entries: int) -> None:
    with running_cluster(directory) as cluster:
        query(cluster.nodes[0], "CREATE TABLE t (id int PRIMARY KEY, n int, v text)")
        query(
            cluster.nodes[0],
            "INSERT INTO t SELECT i, 0, repeat(md5(i::text), 10) FROM generate_series(0, 4999) i",
        )
        leader = cluster.leader(1)
        behind = next(node for node in cluster.nodes if node is not leader)
        for number in range(2):  # a second snapshot in a row is harmless
            behind.kill()
            began = time.monotonic()
            write_entries(cluster, entries)
            written = time.monotonic() - began
            first = int(dict(query(cluster.leader(1), "SHOW RAFT GROUP 1"))["first_index"])
            installed = snapshots_of(behind)
            began = time.monotonic()
            behind.start()
            wait_for(lambda: is_in_step(cluster, behind), 120, "a replica in step")
            print(
                f"round {number}: {entries} entries in {written:.0f} s, log begins at {first}, "
                f"in step after {time.monotonic() - began:.1f} s"
            )
            assert first > 2, "the log was compacted"
            # It is said a moment after it has taken effect.
            wait_for(partial(has_another, behind, installed), 10, "a snapshot's end")
            assert digest(behind) == digest(cluster.leader(1))
        # Killed amid a snapshot, and again.
        behind.kill()
        write_entries(cluster, entries // 4)
        for _ in range(3):
            behind.start()
            time.sleep(random.uniform(0.0, 0.5))  # a moment at random, not a wait
            behind.kill()
        behind.start()
        wait_for(lambda: is_in_step(cluster, behind), 120, "a replica in step")
        assert digest(behind) == digest(cluster.leader(1))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_thousand_entries_behind(tmp_path: Path) -> None:
    run(tmp_path, 200_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_thousand_entries_behind(tmp_path: Path) -> None:
    run(tmp_path, 20_000)
