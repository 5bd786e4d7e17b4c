"""A load on a cluster by clients that retry nothing: what they were told, and what they saw."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from tests.e2e.cluster_process import ClusterProcess

ALLOWED_IN_BLOCKS = frozenset(("40001", "40003", "57P01"))


class Load:
    """Writers in blocks and of single statements, readers, and writers of definitions.

    All of them over a multi-host DSN.

    ``acknowledged`` are the ids whose COMMIT was answered, ``unknown`` those with 40003 or a lost
    connection at COMMIT. ``surprises`` are errors that a client must not see.
    """

    def __init__(self, cluster: ClusterProcess, *, writers: int = 4, readers: int = 2) -> None:
        self._cluster = cluster
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._next_id = 0
        self.acknowledged: set[int] = set()
        self.unknown: set[int] = set()
        self.errors: Counter[str] = Counter()
        self.surprises: list[str] = []
        self.acknowledged_at: list[float] = []
        """Monotonic times of acknowledged writes, in order."""
        self.read_count = 0
        # A single statement is done once, whoever dies: its client sees no error but a lost node.
        targets = [self._write, self._write_alone] * ((writers + 1) // 2)
        targets += [self._read] * readers + [self._define, self._define_alone]
        self._threads = [
            threading.Thread(target=target, args=(number,)) for number, target in enumerate(targets)
        ]

    def start(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def first_write_after(self, moment: float) -> float | None:
        """Return how long after a moment the next write that began after it was acknowledged."""
        with self._lock:
            times = [at for at in self.acknowledged_at if at > moment]
        return min(times) - moment if times else None

    # Clients

    def _dsn(self, number: int) -> str:
        """Return a multi-host DSN that prefers another node for each client."""
        nodes = self._cluster.nodes
        start = number % len(nodes)
        return self._cluster.dsn(nodes[start:] + nodes[:start])

    def _connect(self, number: int) -> psycopg.Connection | None:
        while not self._is_over.is_set():
            try:
                return psycopg.connect(self._dsn(number), autocommit=True)
            except psycopg.OperationalError:
                self._is_over.wait(0.05)
        return None

    def _take_id(self) -> int:
        with self._lock:
            self._next_id += 1
            return self._next_id

    def _note(self, error: psycopg.Error, *, in_block: bool) -> bool:
        """Count an error; True if the connection is lost."""
        state = error.sqlstate or "lost"
        is_lost = error.sqlstate is None or state in ("57P01", "57P02")
        with self._lock:
            self.errors[state] += 1
            if not is_lost and not (in_block and state in ALLOWED_IN_BLOCKS):
                self.surprises.append(f"{state} {'in' if in_block else 'outside'} a block: {error}")
        return is_lost

    def _write(self, number: int) -> None:
        while (connection := self._connect(number)) is not None:
            with connection:
                while not self._is_over.is_set():
                    if not self._write_one(connection):
                        break
                else:
                    return

    def _write_one(self, connection: psycopg.Connection) -> bool:
        """Insert one id in an explicit block; False when the connection is gone."""
        number = self._take_id()
        is_committing = False
        began = time.monotonic()
        try:
            connection.execute("BEGIN")
            connection.execute("INSERT INTO load VALUES (%s, 0)", [number])
            connection.execute("UPDATE load SET n = n + 1 WHERE id = %s", [number])
            is_committing = True
            connection.execute("COMMIT")
        except psycopg.Error as error:
            is_lost = self._note(error, in_block=True)
            if is_committing and (is_lost or error.sqlstate == "40003"):
                with self._lock:
                    self.unknown.add(number)
            if is_lost or connection.closed:
                return False
            try:
                connection.execute("ROLLBACK")
            except psycopg.Error as second:
                return not self._note(second, in_block=True)
            return True
        with self._lock:
            self.acknowledged.add(number)
            self.acknowledged_at.append(began if began > time.monotonic() else time.monotonic())
        return True

    def _write_alone(self, number: int) -> None:
        """Insert ids in statements that commit by themselves, some prepared, some with answers."""
        while (connection := self._connect(number)) is not None:
            with connection:
                try:
                    while not self._is_over.is_set():
                        taken = self._take_id()
                        try:
                            cursor = connection.execute(
                                "INSERT INTO load VALUES (%s, 1) RETURNING id", [taken]
                            )
                        except psycopg.Error:
                            with self._lock:
                                self.unknown.add(taken)
                            raise
                        assert cursor.fetchall() == [(taken,)]
                        with self._lock:
                            self.acknowledged.add(taken)
                            self.acknowledged_at.append(time.monotonic())
                    return
                except psycopg.Error as error:
                    self._note(error, in_block=False)

    def _read(self, number: int) -> None:
        while (connection := self._connect(number)) is not None:
            with connection:
                try:
                    while not self._is_over.is_set():
                        with self._lock:
                            wanted = len(self.acknowledged)
                        row = connection.execute("SELECT count(*) FROM load").fetchone()
                        assert row is not None
                        if row[0] < wanted:
                            self.surprises.append(f"read {row[0]} of {wanted} acknowledged rows")
                        self.read_count += 1
                    return
                except psycopg.Error as error:
                    self._note(error, in_block=False)

    def _define(self, number: int) -> None:
        """Make and drop tables in blocks."""
        count = 0
        while (connection := self._connect(number)) is not None:
            with connection:
                try:
                    while not self._is_over.is_set():
                        count += 1
                        connection.execute("BEGIN")
                        connection.execute(f"CREATE TABLE made_{count} (a int PRIMARY KEY)")
                        connection.execute(f"INSERT INTO made_{count} VALUES (1)")
                        connection.execute("COMMIT")
                        connection.execute("BEGIN")
                        connection.execute(f"DROP TABLE made_{count}")
                        connection.execute("COMMIT")
                    return
                except psycopg.Error as error:
                    if not self._note(error, in_block=True) and not connection.closed:
                        self._roll_back(connection)

    def _define_alone(self, number: int) -> None:
        """Make, change and drop tables in statements of their own."""
        count = 0
        while (connection := self._connect(number)) is not None:
            with connection:
                try:
                    while not self._is_over.is_set():
                        count += 1
                        name = f"alone_{count}"
                        connection.execute(f"CREATE TABLE {name} (a int PRIMARY KEY, b text)")
                        connection.execute(f"ALTER TABLE {name} ADD COLUMN c int DEFAULT 7")
                        connection.execute(f"INSERT INTO {name} VALUES (1, 'x')")
                        row = connection.execute(f"SELECT a, b, c FROM {name}").fetchone()
                        assert row == (1, "x", 7), row
                        connection.execute(f"DROP TABLE {name}")
                    return
                except psycopg.Error as error:
                    self._note(error, in_block=False)

    def _roll_back(self, connection: psycopg.Connection) -> None:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error as error:
            self._note(error, in_block=True)
