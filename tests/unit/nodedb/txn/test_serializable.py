"""SERIALIZABLE under random interleavings: the order of commits is a serial order.

Sessions read keys and ranges, through the clustered rows and through an index, and write rows that
depend on what they found. Afterwards the committed ones are run again one after the other, in the
order of their commit timestamps (who only read: of their snapshots), over a plain dictionary: each
must find what it found. That is stricter than serializable: it is serializable in commit order.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from nodedb.kv import group as group_module
from nodedb.kv import recent_writes
from nodedb.txn import manager as manager_module
from nodedb.txn.checks import ALL_CHECKS, Checks
from nodedb.waiter import Waiter
from sql.catalog.descriptor import Index, IndexKey
from sql.errors import DeadlockDetected, SerializationFailure, UniqueViolation
from sql.executor.store import KeySpan, TableAccess
from sql.types.catalog import INT4
from tests.lib.catalog_fixture import make_table
from tests.unit.nodedb.txn.simulation import SimulatedNode, Task

if TYPE_CHECKING:
    from nodedb.txn.store import StatementStore
    from nodedb.txn.transaction import Transaction

BY_GROUP = Index(id=900, name="t_grp", index_id=2, keys=(IndexKey(position=1),))
TABLE = make_table(
    "t",
    [("id", INT4), ("grp", INT4), ("v", INT4)],
    primary_key=["id"],
    table_id=100,
    indexes=[BY_GROUP],
)
ACCESS = TableAccess(TABLE)
IDS, GROUPS = 10, 3


class Get(NamedTuple):
    id: int

    def of(self, rows: dict[int, Any]) -> Any:
        return rows.get(self.id)


class Between(NamedTuple):
    first: int
    last: int

    def of(self, rows: dict[int, Any]) -> Any:
        return [rows[id_] for id_ in sorted(rows) if self.first <= id_ <= self.last]


class InGroup(NamedTuple):
    group: int

    def of(self, rows: dict[int, Any]) -> Any:
        return [rows[id_] for id_ in sorted(rows) if rows[id_][1] == self.group]


class Write(NamedTuple):
    id: int
    row: Any


class Committed(NamedTuple):
    """What a transaction did, in order: (what it looked at, what it found), or its writes."""

    timestamp: int
    is_writer: bool
    operations: list[Any]


class Histories:
    """Some sessions on one node, and what each of their transactions found and wrote."""

    def __init__(self, seed: int, checks: Checks = ALL_CHECKS) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.node = SimulatedNode()
        self.manager = self.node.transactions
        self.manager.checks = checks
        self.paused: list[Waiter[None]] = []
        self.committed: list[Committed] = []
        self.refused = 0
        self.timestamps: dict[int, int] = {}
        self._remember_timestamps("_rows_entry")
        self._remember_timestamps("_long_entry")

    def _remember_timestamps(self, name: str) -> None:
        make = getattr(self.manager, name)

        def made(transaction: Transaction) -> Any:
            payload, effects = make(transaction)
            self.timestamps[transaction.id] = effects.commit_timestamp
            return payload, effects

        setattr(self.manager, name, made)

    async def pause(self) -> None:
        waiter: Waiter[None] = Waiter()
        self.paused.append(waiter)
        await waiter

    async def look(self, store: StatementStore, what: Any) -> Any:
        if isinstance(what, Get):
            return await store.get(TABLE, (what.id,))
        if isinstance(what, Between):
            span = KeySpan((what.first,), (what.last,))
            cursor = store.scan(TABLE, [span], limit=self.chance.choice((1, None)))
        else:
            span = KeySpan((what.group,), (what.group,))
            cursor = store.scan_index(ACCESS, 2, [span], reverse=self.chance.random() < 0.3)
        rows = []
        while batch := await cursor.next_batch():
            rows += batch
        return sorted(rows)

    async def write(self, transaction: Transaction, operations: list[Any]) -> None:
        """Insert a row, or change or delete the one that is there."""
        chance = self.chance
        id_, row = chance.randrange(IDS), None
        store = self.manager.statement_store(transaction)
        old = await store.get(TABLE, (id_,))
        operations.append((Get(id_), old))
        if old is None or chance.random() < 0.7:
            row = (id_, chance.randrange(GROUPS), chance.randrange(99))
        if old is None:
            await store.insert(ACCESS, [row])
        else:
            ((newest, _),) = await store.lock(TABLE, [old], "update", "wait")
            if row is None:
                await store.delete(ACCESS, [newest])
            else:
                await store.update(ACCESS, [newest], [row])
        operations.append(Write(id_, row))
        self.manager.end_statement(transaction)

    async def steps(self, transaction: Transaction, operations: list[Any]) -> None:
        chance = self.chance
        for _ in range(chance.randrange(1, 4)):
            first = chance.randrange(IDS)
            last = chance.randrange(first, IDS)
            what = chance.choice((Get(first), Between(first, last), InGroup(first % GROUPS)))
            found = await self.look(self.manager.statement_store(transaction), what)
            operations.append((what, found))
            await self.pause()
            if transaction.is_validated and chance.random() < 0.6:
                await self.write(transaction, operations)
                await self.pause()

    async def transaction(self) -> None:
        manager = self.manager
        transaction = self.node.begin()
        transaction.is_snapshot = True
        transaction.is_validated = self.chance.random() < 0.9  # Else it is READ ONLY.
        operations: list[Any] = []
        try:
            await self.steps(transaction, operations)
            if self.chance.random() < 0.2:
                await manager.prepare_commit(transaction)
            await manager.commit(transaction)
        except (SerializationFailure, UniqueViolation, DeadlockDetected):
            self.refused += 1
            manager.rollback(transaction)
            return
        timestamp = self.timestamps.get(transaction.id)
        is_writer = timestamp is not None
        self.committed.append(Committed(timestamp or transaction.snapshot, is_writer, operations))

    async def session(self, count: int) -> None:
        for _ in range(count):
            await self.transaction()

    def run(self, sessions: int, transactions: int) -> None:
        chance, node = self.chance, self.node
        tasks = [Task(self.session(transactions)) for _ in range(sessions)]
        while not all(task.done for task in tasks):
            if self.paused and chance.random() < 0.7:
                self.paused.pop(chance.randrange(len(self.paused))).set_result(None)
            else:
                node.schedule.turn()
        for task in tasks:
            task.result()

    def anomaly(self) -> str | None:
        """Run what was committed again, one after the other; return the first wrong read."""
        rows: dict[int, Any] = {}
        # Who only read does so at a snapshot, that is after the commit of that timestamp.
        for one in sorted(self.committed, key=lambda c: (c.timestamp, not c.is_writer)):
            for operation in one.operations:
                if isinstance(operation, Write):
                    if operation.row is None:
                        rows.pop(operation.id, None)
                    else:
                        rows[operation.id] = operation.row
                    continue
                what, found = operation
                if what.of(rows) != found:
                    return f"seed {self.seed}: {what} gave {found}, serially {what.of(rows)}"
        return None


def histories(seed: int, checks: Checks = ALL_CHECKS) -> Histories:
    found = Histories(seed, checks)
    found.run(sessions=5, transactions=6)
    return found


@pytest.mark.parametrize("block", range(20))
def test_the_order_of_commits_is_a_serial_order(block: int) -> None:
    committed = refused = 0
    for seed in range(block * 50, block * 50 + 50):
        history = histories(seed)
        assert history.anomaly() is None
        manager = history.manager
        assert not manager._active
        assert not manager.recent_writes._watchers, f"seed {seed}"
        assert len(manager.locks) == 0, f"seed {seed}"
        committed += len(history.committed)
        refused += history.refused
    assert committed > refused > 0


@pytest.mark.parametrize("limit", ["READ_KEYS_MAX", "READ_RANGES_MAX", "RECENT_KEYS_MAX"])
def test_forgetting_details_costs_retries_and_nothing_else(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_writes, limit, 2)
    for seed in range(100):
        history = histories(seed)
        assert history.anomaly() is None
        assert history.committed, f"seed {seed}"


def test_bulk_commits_are_validated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "LONG_ROWS", 0)
    monkeypatch.setattr(manager_module, "APPLY_SLICE_ROWS", 1)
    for seed in range(100):
        assert histories(seed).anomaly() is None


@pytest.mark.parametrize("check", ["validates_reads", "first_committer_wins"])
def test_without_its_check_anomalies_are_found(check: str) -> None:
    checks = ALL_CHECKS._replace(**{check: False, "validates_reads": False})
    assert any(histories(seed, checks).anomaly() for seed in range(20))


@pytest.mark.parametrize("is_long", [False, True])
def test_a_commit_on_its_way_is_known_to_who_begins_meanwhile(
    is_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bulk commit is known before its slices, while they are applied, and behind others."""
    monkeypatch.setattr(group_module, "APPLY_SLICE_ROWS", 1)
    node = SimulatedNode()
    manager = node.transactions
    rows = [(number, 0, 0) for number in range(3)]

    async def insert(transaction: Transaction, rows: list[Any]) -> None:
        await manager.statement_store(transaction).insert(ACCESS, rows)

    writer = node.begin()
    node.finish(insert(writer, rows if is_long else rows[:1]))
    commit = node.start(manager.commit(writer))
    readers = []
    while not commit.done:
        reader = node.begin()
        reader.is_snapshot = reader.is_validated = True
        node.start(manager.statement_store(reader).get(TABLE, (0,)))
        readers.append(reader)
        node.schedule.turn()
    assert len(readers) > 1 + is_long
    for number, reader in enumerate(readers):
        node.start(insert(reader, [(10 + number, 0, 0)]))
        with pytest.raises(SerializationFailure):
            manager.validate(reader)
        manager.rollback(reader)
    assert not manager.recent_writes.is_watched
