"""DDL in a cluster: seen everywhere, one entry per transaction, together with its rows."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.e2e.cluster_process import ClusterProcess, query, running_cluster, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcess]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def catalog_changes(cluster: ClusterProcess) -> int:
    return int(dict(query(cluster.nodes[0], "SHOW SCHEMA VERSION"))["catalog_changes"])


def tables(node: object, like: str) -> set[str]:
    rows = query(node, "SELECT relname FROM pg_class WHERE relname LIKE %s", like)  # type: ignore[arg-type]
    return {row[0] for row in rows}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_it_is_seen_where_it_was_acknowledged_at_once_and_elsewhere_soon(
    cluster: ClusterProcess, place: int
) -> None:
    name = f"seen_{place}"
    with psycopg.connect(cluster.nodes[place].dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {name} (a int PRIMARY KEY, b text)")
        found = connection.execute("SELECT relname FROM pg_class WHERE relname = %s", [name])
        assert found.fetchall() == [(name,)]
    for node in cluster.nodes:
        wait_for(lambda node=node: tables(node, name), 5, f"{name} on every node")
    query(cluster.nodes[(place + 1) % 3], f"DROP TABLE {name}")
    for node in cluster.nodes:
        wait_for(lambda node=node: not tables(node, name), 5, f"the end of {name} on every node")


def test_a_block_of_five_statements_is_one_entry(cluster: ClusterProcess) -> None:
    before = catalog_changes(cluster)
    with psycopg.connect(cluster.nodes[2].dsn()) as connection:
        connection.execute("CREATE TABLE five_a (id int PRIMARY KEY)")
        connection.execute("CREATE TABLE five_b (id int REFERENCES five_a)")
        connection.execute("CREATE INDEX five_i ON five_b (id)")
        connection.execute("CREATE SEQUENCE five_s")
        connection.execute("CREATE VIEW five_v AS SELECT * FROM five_a")
        assert tables(cluster.nodes[0], "five%") == set()
        connection.commit()
    wait_for(lambda: len(tables(cluster.nodes[0], "five%")) >= 5, 5, "all of it on node 1")
    wait_for(lambda: catalog_changes(cluster) == before + 1, 5, "one catalog change")


def test_rows_and_definitions_commit_together(cluster: ClusterProcess) -> None:
    query(cluster.nodes[0], "CREATE TABLE kept_rows (a int)")
    with psycopg.connect(cluster.nodes[1].dsn()) as connection:
        connection.execute("INSERT INTO kept_rows VALUES (1)")
        connection.execute("CREATE TABLE made AS SELECT generate_series(1, 1000) AS n")
        connection.execute("INSERT INTO made VALUES (0)")
        connection.commit()
    for node in cluster.nodes:
        assert query(node, "SELECT count(*), min(n) FROM made") == [(1001, 0)]
        assert query(node, "SELECT a FROM kept_rows") == [(1,)]
    with psycopg.connect(cluster.nodes[2].dsn()) as connection:
        connection.execute("INSERT INTO kept_rows VALUES (2)")
        connection.execute("ALTER TABLE kept_rows ADD COLUMN b int DEFAULT 7")
        connection.rollback()
    for node in cluster.nodes:
        assert query(node, "SELECT * FROM kept_rows") == [(1,)]


def test_nobody_sees_rows_without_the_definition_that_came_with_them(
    cluster: ClusterProcess,
) -> None:
    """A reader that never stops finds both halves of each transaction, or none."""
    query(cluster.nodes[0], "CREATE TABLE steps (n int)")
    is_over = threading.Event()
    torn: list[object] = []

    def read(place: int) -> None:
        with psycopg.connect(cluster.nodes[place].dsn(), autocommit=True) as connection:
            while not is_over.is_set():
                row = connection.execute(
                    "SELECT (SELECT count(*) FROM steps), "
                    "(SELECT count(*) FROM pg_class WHERE relname LIKE 'step\\_%')"
                ).fetchone()
                assert row is not None
                if row[0] != row[1]:
                    torn.append(row)

    leader = cluster.nodes.index(cluster.leader())
    readers = [threading.Thread(target=read, args=(leader,)) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(30):
        with psycopg.connect(cluster.nodes[number % 3].dsn()) as connection:
            connection.execute("INSERT INTO steps VALUES (%s)", [number])
            connection.execute(f"CREATE TABLE step_{number} (a int)")
            connection.commit()
    is_over.set()
    for reader in readers:
        reader.join()
    assert torn == []
    assert query(cluster.nodes[0], "SELECT count(*) FROM steps") == [(30,)]
