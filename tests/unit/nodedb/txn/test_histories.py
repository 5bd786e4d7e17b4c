"""Random interleavings of transactions on one node, with power losses.

Nothing acknowledged is lost, nothing is torn.

Sessions transfer money, count under a row lock, fight for unique keys, roll back, use savepoints,
and meet deadlocks. Every transaction that counts also logs itself, so the counter says how many log
rows there must be.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from nodedb.kv.keys import HEADER_BYTES
from nodedb.waiter import Waiter
from sql.catalog.descriptor import Sequence
from sql.errors import DeadlockDetected, UniqueViolation
from sql.executor.store import TableAccess
from sql.types.catalog import INT4, INT8
from tests.fault.simulated_disk import PowerLoss, SimulatedDisk
from tests.lib.catalog_fixture import make_table
from tests.unit.nodedb.txn.simulation import SimulatedNode, Task

if TYPE_CHECKING:
    from nodedb.txn.transaction import Transaction

BANK = make_table("bank", [("id", INT4), ("balance", INT8)], primary_key=["id"], table_id=100)
LOG = make_table("log", [("id", INT8), ("counted", INT4)], primary_key=["id"], table_id=101)
NAMES = make_table(
    "names", [("id", INT4), ("name", INT4)], primary_key=["id"], table_id=102, unique=[["name"]]
)
SERIAL = Sequence(
    id=200, name="s", schema_id=2200, type_oid=20, start=1, increment=1,
    min_value=1, max_value=1 << 60,
)  # fmt: skip
COUNTER = 0
ACCOUNTS = 6


async def drain(cursor: Any) -> list[Any]:
    rows = []
    while batch := await cursor.next_batch():
        rows += batch
    return rows


class History:
    """Some sessions on a node that may lose its power, and what they were told."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.node = SimulatedNode(SimulatedDisk(seed), segment_bytes=1 << 16)
        self.acknowledged: set[int] = set()
        self.drawn: list[int] = []
        self.next_log_id = 0
        self.paused: list[Waiter[None]] = []
        self.deadlocks = 0
        self.tasks: list[Task] = []
        rows = [(n, 0) for n in range(ACCOUNTS)]
        transaction = self.node.begin()
        self.node.finish(self.write(transaction, "insert", BANK, rows))
        self.node.finish(self.node.transactions.commit(transaction))

    async def write(self, transaction: Transaction, verb: str, table: Any, *rows: Any) -> None:
        store = self.node.transactions.statement_store(transaction)
        await getattr(store, verb)(TableAccess(table), *rows)
        self.node.transactions.end_statement(transaction)

    async def pause(self) -> None:
        waiter: Waiter[None] = Waiter()
        self.paused.append(waiter)
        await waiter

    async def add(self, transaction: Transaction, account: int, amount: int) -> None:
        """UPDATE bank SET balance = balance + amount WHERE id = account.

        Re-checked after the lock.
        """
        store = self.node.transactions.statement_store(transaction)
        row = await store.get(BANK, (account,))
        assert row is not None
        await self.pause()
        ((newest, _),) = await store.lock(BANK, [row], "no key update", "wait")
        assert newest is not None
        await store.update(TableAccess(BANK), [newest], [(account, newest[1] + amount)])
        self.node.transactions.end_statement(transaction)

    async def rename(self, transaction: Transaction) -> None:
        """Insert, upsert, update or delete somebody's unique name."""
        chance = self.chance
        row = (chance.randrange(8), chance.randrange(8))
        store = self.node.transactions.statement_store(transaction)
        access = TableAccess(NAMES)
        kind = chance.randrange(4)
        if kind == 0:
            await store.insert(access, [row])
        elif kind == 1:
            arbiter = chance.choice((1, 2))
            found = await store.insert_or_conflict(access, row, (arbiter,))
            if found is not None:
                await store.update(access, [found], [(found[0], row[1]) if arbiter == 1 else found])
        else:
            rows = await drain(store.scan(NAMES, reverse=chance.random() < 0.5))
            if rows:
                old = chance.choice(rows)
                await self.pause()
                ((newest, _),) = await store.lock(NAMES, [old], "update", "wait")
                if newest is not None and kind == 2:
                    await store.update(access, [newest], [row])
                elif newest is not None:
                    await store.delete(access, [newest])
        await self.pause()
        self.node.transactions.end_statement(transaction)

    async def session(self, count: int) -> None:
        for _ in range(count):
            await self.transaction()

    async def transaction(self) -> None:
        node, chance = self.node, self.chance
        transaction = node.begin()
        self.next_log_id += 1
        log_id = self.next_log_id
        try:
            await self.steps(transaction, log_id)
        except (DeadlockDetected, UniqueViolation) as error:
            self.deadlocks += isinstance(error, DeadlockDetected)
            node.transactions.rollback(transaction)
            return
        if chance.random() < 0.1:
            node.transactions.rollback(transaction)
            return
        await node.transactions.commit(transaction)
        self.acknowledged.add(log_id)

    async def steps(self, transaction: Transaction, log_id: int) -> None:
        chance = self.chance
        counted = chance.random() < 0.5
        await self.write(transaction, "insert", LOG, [(log_id, int(counted))])
        if counted:
            await self.add(transaction, COUNTER, 1)
        for _ in range(chance.randrange(3)):
            await self.pause()
            mark = transaction.mark()
            if chance.random() < 0.5:
                amount = chance.randrange(1, 9)
                await self.add(transaction, chance.randrange(1, ACCOUNTS), amount)
                await self.add(transaction, chance.randrange(1, ACCOUNTS), -amount)
            else:
                await self.rename(transaction)
            if chance.random() < 0.2:
                self.node.transactions.rollback_to(transaction, mark, release_locks=True)
        if chance.random() < 0.2:
            self.drawn.append(await self.node.sequences.next_value(SERIAL))

    def run(self, sessions: int, transactions: int) -> None:
        """Interleave sessions until all are done, or the power fails."""
        chance, node = self.chance, self.node
        self.paused = []
        tasks = self.tasks = [Task(self.session(transactions)) for _ in range(sessions)]
        while not all(task.done for task in tasks):
            choice = chance.random()
            if self.paused and choice < 0.8:
                self.paused.pop(chance.randrange(len(self.paused))).set_result(None)
            elif choice < 0.97 or node.schedule.ready:
                node.schedule.turn()
            elif choice < 0.99:
                node.schedule.advance(0.3)
            else:
                node.transactions.raise_watermark(node.group.last_timestamp)
                node.transactions.collect(b"\0", 50)
            assert (
                self.paused
                or node.schedule.ready
                or choice >= 0.8
                or all(task.done for task in tasks)
            ), f"seed {self.seed}: everybody waits"
        for task in tasks:
            task.result()
        node.schedule.run()

    def read(self, table: Any, index_id: int = 0) -> list[Any]:
        node = self.node
        transaction = node.begin()
        store = node.transactions.statement_store(transaction)
        access = TableAccess(table)
        cursor = store.scan_index(access, index_id) if index_id else store.scan(table)
        rows: list[Any] = node.finish(drain(cursor))
        node.transactions.rollback(transaction)
        return rows

    def check(self) -> None:
        """Compare what is there with what was acknowledged."""
        label = f"seed {self.seed}"
        balances = dict(self.read(BANK))
        log = dict(self.read(LOG))
        assert self.acknowledged <= log.keys(), label
        assert balances.pop(COUNTER) == sum(log.values()), label
        assert sum(balances.values()) == 0, label
        names = self.read(NAMES)
        assert sorted(names, key=lambda row: row[1]) == self.read(NAMES, 2), label
        assert len({row[1] for row in names}) == len(names), label
        assert len(set(self.drawn)) == len(self.drawn), label
        self.check_counters(label)

    def check_counters(self, label: str) -> None:
        group = self.node.group
        live = [(k, v) for k, v in group.rows.scan(b"\0", None, 1 << 30) if len(v) > HEADER_BYTES]
        assert sum(group.vshard_keys) == len(live), label
        assert sum(group.vshard_bytes) == sum(len(k) + len(v) - HEADER_BYTES for k, v in live), (
            label
        )

    def lose_power(self) -> None:
        Task.bury(self.tasks)
        keep = self.chance.random() < 0.5
        self.node = self.node.restarted(
            keep_last_commit=keep, power_loss=self.chance.random() < 0.8
        )


@pytest.mark.parametrize("seed", range(60))
def test_interleaved_transactions_keep_every_invariant(seed: int) -> None:
    history = History(seed)
    history.run(sessions=5, transactions=8)
    history.check()
    assert len(history.node.transactions.locks) == 0
    assert not history.node.transactions._active


@pytest.mark.parametrize("seed", range(1000, 1060))
def test_acknowledged_transactions_survive_power_losses_whole(seed: int) -> None:
    history = History(seed)
    for _ in range(4):
        history.node.disk.operations_left = history.chance.randrange(2, 60)
        try:
            history.run(sessions=4, transactions=8)
            history.node.disk.operations_left = -1
        except PowerLoss:
            pass
        last = history.node.group.last_timestamp
        history.lose_power()
        assert history.node.oracle.last >= max(history.node.group.last_timestamp, 1)
        assert history.node.transactions.allocate_timestamp() > last
        history.node.schedule.run()
        history.check()


def test_deadlocks_do_happen_in_these_histories() -> None:
    found = 0
    for seed in range(20):
        history = History(seed)
        history.run(sessions=6, transactions=6)
        found += history.deadlocks
    assert found > 0


def test_recovering_twice_gives_the_same_state() -> None:
    history = History(5)
    history.run(sessions=4, transactions=10)
    history.lose_power()
    first = list(history.node.group.rows.scan(b"\0", None, 1 << 30))
    counters = list(history.node.group.vshard_keys)
    history.lose_power()
    assert list(history.node.group.rows.scan(b"\0", None, 1 << 30)) == first
    assert list(history.node.group.vshard_keys) == counters
    history.check()
