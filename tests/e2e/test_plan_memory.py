"""However many different texts arrive, the node keeps a bounded number of plans and texts."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess, running
from tests.fuzz.target import resident_bytes

MIB = 1 << 20
# Beyond the plans that the cache holds.
WARM_TEXTS = 2500
TEXTS = 3000
# Left: up to 5000 texts of pg_stat_statements, and what the allocator does not give back.
GROWTH_BYTES = 8 * MIB


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with running(tmp_path / "store") as node:
        yield node


def run(connection: psycopg.Connection, numbers: range) -> None:
    """Run reads and writes whose texts were never seen before and cannot share a plan."""
    for number in numbers:
        texts = (
            f"SELECT v AS c{number} FROM t WHERE id = 5",
            f"SELECT count(*) AS c{number} FROM t a JOIN t b USING (id) WHERE a.v > 'a'",
            f"INSERT INTO child (t_id) VALUES (1) RETURNING id AS c{number}",
            f"UPDATE t SET v = 'w' WHERE id = 3 RETURNING v AS c{number}",
        )
        connection.execute(texts[number % 4], prepare=False)


def test_distinct_texts(node: NodeProcess) -> None:
    with node.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> 'bad'))")
        connection.execute("INSERT INTO t SELECT n, 'v' FROM generate_series(1, 100) n")
        connection.execute("CREATE TABLE child (id serial PRIMARY KEY, t_id int REFERENCES t)")
        run(connection, range(WARM_TEXTS))
        before = resident_bytes(node.process_id)
        run(connection, range(WARM_TEXTS, WARM_TEXTS + TEXTS))
        grown = resident_bytes(node.process_id) - before
    assert grown <= GROWTH_BYTES, f"{grown / MIB:.1f} MiB for {TEXTS} texts"
