"""What the kill tests share: writers with journals, and the checks after a restart.

Each transaction writes one row into each of two tables. A client notes in its journal, before it
sends COMMIT, that the outcome is unknown, and after the answer, that the transaction is
acknowledged.
"""

import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP, VSHARD_COUNT
from nodedb.catalog.metadata import MetadataState
from nodedb.kv.group import DataGroup
from nodedb.kv.keys import HEADER, HEADER_BYTES, SCHEMA_CHANGE_STORAGE_ID, index_prefix
from nodedb.kv.replicator import Replicator
from nodedb.storage.lmdb_engine import LmdbEngine
from nodedb.storage.store import Store
from nodedb.storage.wal import Wal
from nodedb.txn.sequences import sequence_key
from sql.catalog.descriptor import PRIMARY_INDEX_ID, Sequence, Table
from tests.e2e.node_process import NodeProcess
from tests.unit.nodedb.txn.simulation import SimulatedSchedule

WRITERS = 8
STOP_SECONDS = 30
# Small segments, so that rounds also hit the moment a segment is recycled.
SEGMENT_BYTES = 1 << 20
FLAGS = ("--wal-segment-bytes", str(SEGMENT_BYTES))
# A transaction now and then has more than a segment: it gets a file of its own, removed later.
LARGE_SHARE = 0.01
LARGE_BYTES = SEGMENT_BYTES * 5 // 4


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
    """Commits transactions one after the other until its connection breaks, or ``limit``."""

    def __init__(
        self,
        node: NodeProcess,
        journal: Journal,
        numbers: "itertools.count[int]",
        seed: int,
        limit: int = 0,
    ) -> None:
        super().__init__(daemon=True)
        self._node = node
        self._journal = journal
        self._numbers = numbers
        self._random = random.Random(seed)
        self._limit = limit
        self.committed = 0
        self.was_cut_off = False
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            with self._node.connect(autocommit=False) as connection:
                while not self._limit or self.committed < self._limit:
                    self._one(connection, next(self._numbers))
        except psycopg.OperationalError:
            self.was_cut_off = True  # The node is gone, as intended.
        except Exception as error:  # noqa: BLE001  the round reports it
            self.failure = error

    def _one(self, connection: psycopg.Connection, number: int) -> None:
        is_large = self._random.random() < LARGE_SHARE
        payload = "x" * (LARGE_BYTES // 2 if is_large else self._random.randrange(600))
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


class Load:
    """The tables, the journals, and the writers of one test."""

    def __init__(self, node: NodeProcess, chance: random.Random) -> None:
        self.node = node
        self.chance = chance
        self._numbers = itertools.count(1)
        self._journals = [
            Journal(node.store.with_name(f"journal-{number}")) for number in range(WRITERS)
        ]

    def create(self) -> None:
        """Create the tables."""
        with self.node.connect() as connection:
            connection.execute(
                "CREATE TABLE a (id bigint PRIMARY KEY, payload text, "
                "length int GENERATED ALWAYS AS (length(payload)) STORED)"
            )
            connection.execute("CREATE TABLE b (id bigint PRIMARY KEY, payload text)")
            connection.execute("CREATE INDEX a_length ON a (length)")
            connection.execute("CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL)")
            connection.execute("INSERT INTO counters SELECT i, 0 FROM generate_series(0, 3) i")

    def start(self, limit: int = 0) -> list[Writer]:
        """Start the writers."""
        writers = [
            Writer(self.node, journal, self._numbers, self.chance.randrange(1 << 32), limit)
            for journal in self._journals
        ]
        for writer in writers:
            writer.start()
        return writers

    def check(self) -> int:
        """Compare tables and journals; returns how many transactions are there."""
        with self.node.connect() as connection:
            first = dict(connection.execute("SELECT id, md5(payload) FROM a").fetchall())
            second = dict(connection.execute("SELECT id, md5(payload) FROM b").fetchall())
            by_index = {
                row[0]
                for row in connection.execute("SELECT id FROM a WHERE length >= 0 ORDER BY length")
            }
            counted = connection.execute("SELECT sum(n) FROM counters").fetchone()
        words: dict[int, str] = {}
        for journal in self._journals:
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

    def go_on(self) -> None:
        """Let the recovered node do all kinds of work, and check again."""
        before = self.check()
        with self.node.connect() as connection:
            connection.execute("CREATE TABLE more AS SELECT id FROM a")
            connection.execute("ALTER TABLE more ADD PRIMARY KEY (id)")
            connection.execute("DROP TABLE more")
        writers = self.start(limit=5)
        join(writers)
        assert not any(writer.was_cut_off for writer in writers), self.node.log()
        assert self.check() == before + sum(writer.committed for writer in writers)


def until_one_has_committed(writers: list[Writer]) -> None:
    """Wait for the first acknowledged transaction."""
    deadline = time.monotonic() + STOP_SECONDS
    while not any(writer.committed for writer in writers):
        assert time.monotonic() < deadline, "nobody commits anything"
        assert not any(writer.failure for writer in writers), [writer.failure for writer in writers]
        if all(writer.was_cut_off for writer in writers):
            return
        time.sleep(0.005)


def join(writers: list[Writer]) -> None:
    """Wait until all writers have ended as they should."""
    for writer in writers:
        writer.join(STOP_SECONDS)
        assert not writer.is_alive(), "a writer does not notice that the node is gone"
        assert writer.failure is None, writer.failure


def seeded(variable: str) -> random.Random:
    """Return chance from the seed in an environment variable, else from a new one; print it."""
    seed = int(os.environ.get(variable, "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"{variable}={seed}")
    return random.Random(seed)


@contextlib.contextmanager
def recovered(path: Path) -> Iterator[tuple[MetadataState, DataGroup]]:
    """Recover a dead node's store here, for a look at it.

    Nothing of this recovery is kept, so the node's own has the same work before it.
    """
    store = Store(str(path))
    engine = LmdbEngine(store.engine_path)
    wal = Wal(store.log_directory(), segment_bytes=SEGMENT_BYTES)
    failures: list[Exception] = []
    try:
        replicator = Replicator(wal, engine, SimulatedSchedule(), failures.append)
        metadata, group = MetadataState(engine), DataGroup(FIRST_DATA_GROUP, engine)
        replicator.start_group(METADATA_GROUP, metadata)
        replicator.start_group(FIRST_DATA_GROUP, group)
        yield metadata, group
        assert not failures, failures
    finally:
        engine.abandon()
        engine.close()
        wal.close()
        store.close()


def recount(path: Path) -> None:
    """Recover a dead node's store here, and count what its counters per vshard claim."""
    with recovered(path) as (_, group):
        keys, sizes = [0] * VSHARD_COUNT, [0] * VSHARD_COUNT
        for key, value in group.rows.scan(b"\0", None, 1 << 30):
            if len(value) > HEADER_BYTES:
                vshard = HEADER.unpack_from(value)[1]
                keys[vshard] += 1
                sizes[vshard] += len(key) + len(value) - HEADER_BYTES
        assert list(group.vshard_keys) == keys, "keys per vshard"
        assert list(group.vshard_bytes) == sizes, "bytes per vshard"
        assert sum(keys), "an empty store"


def require_no_orphans(path: Path) -> None:
    """Recover a dead node's store here; every key must belong to something in its catalog.

    What is marked to be cleared may still be there: the collector takes it away.
    """
    with recovered(path) as (metadata, group):
        known = [(SCHEMA_CHANGE_STORAGE_ID).to_bytes(4, "big"), *group.clearing]
        for table in metadata.catalog.all(Table):
            known.append(index_prefix(table.storage_id, PRIMARY_INDEX_ID))
            known += [index_prefix(table.storage_id, index.index_id) for index in table.indexes]
        known += [sequence_key(s.storage_id) for s in metadata.catalog.all(Sequence)]
        prefixes = tuple(known)
        for space in (group.rows, group.history):
            for key, _ in space.scan(b"\0", None, 1 << 30):
                assert key.startswith(prefixes), f"a key of nothing: {key.hex()}"
