"""Clients that write a table while its indexes are built, and the check that they are right."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.node_process import NodeProcess

VALUES = 500
"""Different values of the indexed column."""
WAIT_SECONDS = 60.0


def make_table(connection: psycopg.Connection, rows: int) -> None:
    """Make ``t`` with so many rows."""
    connection.execute("CREATE TABLE t (id bigint PRIMARY KEY, v int, note text)")
    for start in range(1, rows + 1, 100_000):
        connection.execute(
            "INSERT INTO t SELECT g, g %% %s, 'n' || g FROM generate_series(%s::int, %s::int) g",
            (VALUES, start, min(start + 99_999, rows)),
        )


class Load:
    """``count`` clients that insert, update and delete rows of ``t`` until stopped.

    Some rows are everybody's. Errors are kept, but for those of a node that was killed.
    """

    def __init__(self, node: NodeProcess, rows: int, count: int, seed: int) -> None:
        self.seed = seed
        self.errors: list[str] = []
        self.writes = 0
        self.slowest = 0.0
        self.is_stopping = threading.Event()
        self.node_is_gone = False
        self._rows = rows
        self._node = node
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        chance = random.Random(self.seed * 1000 + number)
        following = self._rows + 1 + (self.seed * 100 + number) * 100_000_000
        own: list[int] = []
        try:
            with psycopg.connect(self._node.dsn(), autocommit=True) as connection:
                while not self.is_stopping.is_set():
                    began = time.monotonic()
                    choice = chance.random()
                    if choice < 0.3:
                        connection.execute(
                            "INSERT INTO t VALUES (%s, %s, 'new')",
                            (following, chance.randrange(VALUES)),
                        )
                        own.append(following)
                        following += 1
                    elif choice < 0.4 and own:
                        connection.execute("DELETE FROM t WHERE id = %s", (own.pop(),))
                    elif choice < 0.5:
                        victim = chance.randrange(1, self._rows)
                        connection.execute("DELETE FROM t WHERE id = %s", (victim,))
                    elif choice < 0.6:
                        with connection.transaction():
                            for row in sorted(chance.sample(range(1, self._rows), 3)):
                                connection.execute("UPDATE t SET v = v + 1 WHERE id = %s", (row,))
                            if chance.random() < 0.3:
                                raise psycopg.Rollback
                    else:
                        connection.execute(
                            "UPDATE t SET v = %s WHERE id = %s",
                            (chance.randrange(VALUES), chance.randrange(1, self._rows)),
                        )
                    self.writes += 1
                    self.slowest = max(self.slowest, time.monotonic() - began)
        except psycopg.Error as error:
            if not (self.node_is_gone and isinstance(error, psycopg.OperationalError)):
                self.errors.append(f"client {number}: {error!r}")

    def report(self, what: str) -> None:
        """Print what was measured, and demand that no write failed."""
        print(f"{what}: {self.writes} writes, the slowest {self.slowest * 1000:.0f} ms")
        assert not self.errors, f"seed {self.seed}: {self.errors}"
        assert self.writes > 0


def check_index(connection: psycopg.Connection) -> int:
    """Compare ``t_v`` with the table, up and down; returns the number of rows."""
    rows = connection.execute("SELECT id, v FROM t").fetchall()
    expected: dict[int, list[int]] = {}
    for number, value in rows:
        expected.setdefault(value, []).append(number)
    query = "SELECT id FROM t WHERE v = %s"
    plan = connection.execute(f"EXPLAIN {query}", (7,)).fetchall()
    assert "Index Scan using t_v" in plan[0][0], plan
    for value in range(max(expected) + 2):
        found = sorted(number for (number,) in connection.execute(query, (value,)))
        assert found == sorted(expected.get(value, [])), value
    for order, keys in (("DESC", sorted(expected, reverse=True)), ("ASC", sorted(expected))):
        query = f"SELECT v FROM t ORDER BY v {order} LIMIT 2000"
        plan = connection.execute(f"EXPLAIN {query}").fetchall()
        assert any("Index Scan" in line for (line,) in plan), plan
        found = [value for (value,) in connection.execute(query)]
        assert found == sorted(found, reverse=order == "DESC")
        counts = Counter(found)
        for value in keys[: len(counts) - 1]:
            assert counts[value] == len(expected[value]), (order, value)
    return len(rows)


def wait_until(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Ask again until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.01)


class Statement(threading.Thread):
    """A statement that runs in a session of its own; ``end`` gives its error, None for success."""

    def __init__(self, node: NodeProcess, text: str) -> None:
        super().__init__()
        self.connection = node.connect()
        self.process_id = self.connection.info.backend_pid
        self._text = text
        self._error: psycopg.Error | None = None
        self.start()

    def run(self) -> None:
        try:
            self.connection.execute(self._text)
        except psycopg.Error as error:
            self._error = error

    def end(self) -> psycopg.Error | None:
        self.join(WAIT_SECONDS)
        assert not self.is_alive(), self._text
        return self._error
