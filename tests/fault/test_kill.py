"""kill -9 under eight writers: every acknowledged transaction is there afterwards, whole.

Each transaction writes one row into each of two tables. A client notes in its journal, before it
sends COMMIT, that the outcome is unknown, and after the answer, that the transaction is
acknowledged. After the restart each acknowledged transaction must stand in both tables, and each
unknown one in both or in none; nothing else may be there. The node keeps its store over all
rounds, so later rounds also find what earlier restarts lost.

The moment of the kill is random (the seed is printed; ``KILL_SEED`` repeats it). A thread
schedule cannot be repeated, so the seed gives the same delays, not the same run.
"""

import itertools
import os
import random
import threading
import time
from pathlib import Path

import psycopg
import pytest

from tests.e2e.node_process import NodeProcess, running

WRITERS = 8
ROUNDS = 3
ROUNDS_SLOW = 20
DELAY_SECONDS = (0.05, 1.5)
STOP_SECONDS = 30
# Small segments, so that rounds also hit the moment a segment is recycled.
FLAGS = ("--wal-segment-bytes", str(1 << 20))


class Journal:
    """What one writer knows of its transactions: one line per step, before the next step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a", encoding="ascii", buffering=1)

    def write(self, word: str, number: int) -> None:
        self._file.write(f"{word} {number}\n")

    def read(self) -> dict[int, str]:
        """Return the last word about each transaction."""
        lines = self._path.read_text(encoding="ascii").splitlines()
        return {int(number): word for word, number in (line.split() for line in lines)}


class Writer(threading.Thread):
    """Commits transactions one after the other until its connection breaks."""

    def __init__(
        self, node: NodeProcess, journal: Journal, numbers: "itertools.count[int]", seed: int
    ) -> None:
        super().__init__(daemon=True)
        self._node = node
        self._journal = journal
        self._numbers = numbers
        self._random = random.Random(seed)
        self.committed = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            with self._node.connect(autocommit=False) as connection:
                while True:
                    self._one(connection, next(self._numbers))
        except psycopg.OperationalError:
            pass  # The node is gone, as intended.
        except Exception as error:  # noqa: BLE001  the round reports it
            self.failure = error

    def _one(self, connection: psycopg.Connection, number: int) -> None:
        payload = "x" * self._random.randrange(600)
        connection.execute("INSERT INTO a VALUES (%s, %s)", (number, payload))
        connection.execute("INSERT INTO b VALUES (%s, %s)", (number, payload))
        connection.execute("UPDATE counters SET n = n + 1 WHERE id = %s", (number % 4,))
        if self._random.random() < 0.1:
            connection.rollback()
            self._journal.write("undone", number)
            return
        self._journal.write("unknown", number)
        connection.commit()
        self._journal.write("done", number)
        self.committed += 1


def check(node: NodeProcess, journals: list[Journal]) -> int:
    """Compare tables and journals; returns how many transactions are there."""
    with node.connect() as connection:
        first = dict(connection.execute("SELECT id, md5(payload) FROM a").fetchall())
        second = dict(connection.execute("SELECT id, md5(payload) FROM b").fetchall())
        by_index = {
            row[0]
            for row in connection.execute("SELECT id FROM a WHERE length >= 0 ORDER BY length")
        }
        counted = connection.execute("SELECT sum(n) FROM counters").fetchone()
    words: dict[int, str] = {}
    for journal in journals:
        words |= journal.read()
    lost = sorted(n for n, word in words.items() if word == "done" and n not in first)
    revived = sorted(n for n, word in words.items() if word == "undone" and n in first)
    assert not lost, f"acknowledged, but not there: {lost}"
    assert not revived, f"rolled back, but there: {revived}"
    assert first == second, f"torn: {sorted(first.keys() ^ second.keys())}"
    assert not set(first) - set(words), "rows that nobody tried to commit"
    assert by_index == set(first), f"index and table differ: {sorted(by_index ^ set(first))}"
    assert counted == (len(first),), "the counters differ from the number of transactions"
    return len(first)


def run_rounds(store: Path, rounds: int) -> None:
    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"KILL_SEED={seed}")
    chance = random.Random(seed)
    numbers = itertools.count(1)
    journals = [Journal(store.with_name(f"journal-{i}")) for i in range(WRITERS)]
    with running(store, *FLAGS) as node:
        with node.connect() as connection:
            connection.execute(
                "CREATE TABLE a (id bigint PRIMARY KEY, payload text, "
                "length int GENERATED ALWAYS AS (length(payload)) STORED)"
            )
            connection.execute("CREATE TABLE b (id bigint PRIMARY KEY, payload text)")
            connection.execute("CREATE INDEX a_length ON a (length)")
            connection.execute("CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL)")
            connection.execute("INSERT INTO counters SELECT i, 0 FROM generate_series(0, 3) i")
        for number in range(rounds):
            one_round(node, journals, numbers, chance)
            node.start()
            print(f"round {number}: {check(node, journals)} transactions")


def one_round(
    node: NodeProcess,
    journals: list[Journal],
    numbers: "itertools.count[int]",
    chance: random.Random,
) -> None:
    """Write from all sides, kill the node at a random moment, wait until all have noticed."""
    writers = [Writer(node, journal, numbers, chance.randrange(1 << 32)) for journal in journals]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + STOP_SECONDS
    while not any(writer.committed for writer in writers):
        assert time.monotonic() < deadline, "nobody commits anything"
        assert not any(writer.failure for writer in writers), [writer.failure for writer in writers]
        time.sleep(0.005)
    time.sleep(chance.uniform(*DELAY_SECONDS))
    node.kill()
    for writer in writers:
        writer.join(STOP_SECONDS)
        assert not writer.is_alive(), "a writer does not notice that the node is gone"
        assert writer.failure is None, writer.failure


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    run_rounds(tmp_path / "store", ROUNDS)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_acknowledged_is_lost_in_many_rounds(tmp_path: Path) -> None:
    run_rounds(tmp_path / "store", ROUNDS_SLOW)
