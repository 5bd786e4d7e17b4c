"""kill -9 at every step of a commit of DDL and rows: afterwards all of it is there, or nothing.

Each transaction creates tables, an index, a sequence and a view, alters, inserts, and marks itself
in a table that was there before; some drop what an earlier one has made, or truncate, or roll back.
The node dies at a place of ``nodedb.kv.fault_points`` that the round has chosen. What the writers
know of their transactions is in journals, as in ``writers``; ``KILL_SEED`` (printed) repeats the
choice of places.
"""

import itertools
import random
import signal
import threading
from pathlib import Path

import psycopg
import pytest

from nodedb.kv.fault_points import VARIABLE, Place
from tests.e2e.node_process import NodeProcess, running
from tests.fault.writers import (
    FLAGS,
    Journal,
    recount,
    require_no_orphans,
    seeded,
)

WRITERS = 3
ROWS = 5
DEATH_SECONDS = 60
DEATHS = (-signal.SIGKILL, -signal.SIGALRM)
# All that one commit passes, from the first byte of its log to the commit of the engine.
STEPS = [
    place for place in Place if place.phase in ("log_write", "fdatasync", "apply", "engine_commit")
]
# A commit applies three entries: rows, cleared storages, catalog. The node dies behind each.
ENTRIES = 3
ROUNDS = 2

CREATE = (
    "CREATE TABLE a_{n} (id serial PRIMARY KEY, v int NOT NULL)",
    "CREATE TABLE b_{n} (id int PRIMARY KEY, a int REFERENCES a_{n})",
    "CREATE SEQUENCE s_{n} START 10",
    "INSERT INTO a_{n} (v) SELECT g FROM generate_series(1, 5) g",
    "ALTER TABLE a_{n} ADD COLUMN n int DEFAULT {n}",
    "INSERT INTO b_{n} SELECT g, g FROM generate_series(1, 5) g",
    "CREATE INDEX i_{n} ON a_{n} (v)",
    "CREATE VIEW v_{n} AS SELECT id, n FROM a_{n}",
    "SELECT nextval('s_{n}')",
    "TRUNCATE emptied RESTART IDENTITY",
    "INSERT INTO emptied (n) VALUES ({n})",
    "INSERT INTO done VALUES ({n}, true)",
)
DROP = (
    "DROP TABLE a_{n}, b_{n} CASCADE",
    "DROP SEQUENCE s_{n}",
    "UPDATE done SET is_there = false WHERE n = {n}",
)
RELATIONS = ("a_{n}", "a_{n}_id_seq", "b_{n}", "i_{n}", "s_{n}", "v_{n}")


class DdlWriter(threading.Thread):
    """Commits schema changes until its connection breaks."""

    def __init__(
        self, node: NodeProcess, journal: Journal, numbers: "itertools.count[int]", seed: int
    ) -> None:
        super().__init__(daemon=True)
        self._node = node
        self._journal = journal
        self._numbers = numbers
        self._random = random.Random(seed)
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
        for statement in CREATE:
            connection.execute(statement.format(n=number))
        if self._random.random() < 0.2:
            connection.rollback()
            self._journal.write("undone", number)
            return
        self._journal.write("unknown", number)
        connection.commit()
        self._journal.write("done", number)
        if self._random.random() < 0.3:
            for statement in DROP:
                connection.execute(statement.format(n=number))
            self._journal.write("dropping", number)
            connection.commit()
            self._journal.write("dropped", number)


class DdlLoad:
    """The tables that are always there, the journals, and the checks after a restart."""

    def __init__(self, node: NodeProcess, chance: random.Random) -> None:
        self._node = node
        self._chance = chance
        self._numbers = itertools.count(1)
        self._journals = [
            Journal(node.store.with_name(f"ddl-journal-{number}")) for number in range(WRITERS)
        ]

    def create(self) -> None:
        """Create what all transactions share."""
        with self._node.connect() as connection:
            connection.execute("CREATE TABLE done (n int PRIMARY KEY, is_there bool)")
            connection.execute("CREATE TABLE emptied (id serial, n int)")

    def run_until_death(self) -> None:
        """Let the writers work until the node has died as planned."""
        writers = [
            DdlWriter(self._node, journal, self._numbers, self._chance.randrange(1 << 32))
            for journal in self._journals
        ]
        for writer in writers:
            writer.start()
        assert self._node.wait(DEATH_SECONDS) in DEATHS, self._node.log()
        for writer in writers:
            writer.join(DEATH_SECONDS)
            assert not writer.is_alive(), "a writer does not notice that the node is gone"
            assert writer.failure is None, writer.failure

    def words(self) -> dict[int, str]:
        """Return the last word about each transaction."""
        return {n: word for journal in self._journals for n, word in journal.read().items()}

    def check(self) -> int:
        """Compare catalog, rows and journals; returns how many transactions are there."""
        words = self.words()
        with self._node.connect() as connection:
            done = dict(connection.execute("SELECT n, is_there FROM done").fetchall())
            query = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            names = {name for (name,) in connection.execute(query)}
            for number, word in words.items():
                expected = {
                    "unknown": (None, True),
                    "done": (True,),
                    "undone": (None,),
                    "dropping": (True, False),
                    "dropped": (False,),
                }[word]
                assert done.get(number) in expected, (number, word, done.get(number))
            assert done.keys() <= words.keys(), "a transaction that nobody tried to commit"
            for number in words:
                there = {name.format(n=number) in names for name in RELATIONS}
                assert there == {done.get(number) is True}, (number, words[number], sorted(names))
                if done.get(number):
                    _check_tables(connection, number)
            _check_emptied(connection, set(done))
        return len(done)


def _check_tables(connection: psycopg.Connection, number: int) -> None:
    """Read one transaction's objects in all ways, and write to them."""
    run = connection.execute
    expected = [(i, i, number) for i in range(1, ROWS + 1)]
    assert run(f"SELECT id, v, n FROM a_{number} ORDER BY id").fetchall()[:ROWS] == expected
    assert run(f"SELECT id FROM v_{number} ORDER BY id").fetchall()[:ROWS] == [
        (i[0],) for i in expected
    ]
    for value in range(1, ROWS + 1):
        found = run(f"SELECT id FROM a_{number} WHERE v = %s", (value,)).fetchall()
        assert found == [(value,)], "the index differs from its table"
    assert run(f"SELECT count(*) FROM b_{number} JOIN a_{number} x ON a = x.id").fetchone() == (
        ROWS,
    )
    # Sequences go on where they were, or behind: what was reserved may be lost, never repeated.
    (following,) = run(f"SELECT nextval('s_{number}')").fetchone() or (0,)
    assert following > 10, following
    (new_id,) = run(f"INSERT INTO a_{number} (v) VALUES (0) RETURNING id").fetchone() or (0,)
    assert new_id > ROWS, new_id
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        run(f"INSERT INTO b_{number} VALUES (1000, 1000000)")
    run(f"DELETE FROM a_{number} WHERE v = 0")


def _check_emptied(connection: psycopg.Connection, done: set[int]) -> None:
    """Every transaction has truncated the table, restarted its sequence, and inserted one row."""
    rows = connection.execute("SELECT id, n FROM emptied").fetchall()
    if not done:
        assert rows == []
        return
    assert [row[0] for row in rows] == [1], rows
    assert rows[0][1] in done, "the row of a transaction that is not there"


def run_rounds(store: Path, plans: list[str], chance: random.Random) -> None:
    with running(store, *FLAGS, "--fault-injection") as node:
        load = DdlLoad(node, chance)
        load.create()
        node.kill()
        for number, plan in enumerate(plans):
            print(f"round {number}: {plan}")
            node.environment = {VARIABLE: plan}
            node.start()
            load.run_until_death()
            recount(store)
            require_no_orphans(store)
            node.environment = {}
            node.start()
            print(f"{load.check()} transactions")
            node.kill()


def nth_of(place: Place, chance: random.Random) -> int:
    """Choose how often a place is passed before the fatal time: some ten commits, or flushes."""
    return chance.randint(2, 5) if place.phase == "engine_commit" else chance.randint(5, 25)


@pytest.mark.timeout(300)
def test_a_commit_of_ddl_is_there_as_a_whole_or_not(tmp_path: Path) -> None:
    chance = seeded("KILL_SEED")
    places = [Place.APPLY_ENTRY, *chance.sample(STEPS, ROUNDS - 1)]
    run_rounds(tmp_path / "store", [f"{p.value}:{nth_of(p, chance)}" for p in places], chance)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_commit_of_ddl_may_die_at_every_step(tmp_path: Path) -> None:
    chance = seeded("KILL_SEED")
    plans = [f"{place.value}:{nth_of(place, chance)}" for place in STEPS]
    first = nth_of(Place.APPLY_ENTRY, chance)
    plans += [f"{Place.APPLY_ENTRY.value}:{first + number}" for number in range(ENTRIES)]
    plans += [f"{place.value}:{nth_of(place, chance)}+700" for place in STEPS]
    chance.shuffle(plans)
    run_rounds(tmp_path / "store", plans, chance)
