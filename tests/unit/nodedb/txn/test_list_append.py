"""List-append under random interleavings of one node's transactions, judged by the cycle checker.

A schedule is a few sessions with a few transactions each on three fresh keys. Every step, every
wait for a lock, the flush of the log and its end happen in an order drawn from the seed, so one
that fails can be run again. The end-to-end test of the same name does this with real clients and
time.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodedb.txn.checks import ALL_CHECKS, Checks
from nodedb.waiter import Waiter
from sql.catalog.descriptor import PRIMARY_INDEX_ID, Index, IndexKey
from sql.errors import DeadlockDetected, SerializationFailure
from sql.executor.store import KeySpan, TableAccess
from sql.types.catalog import INT4, TEXT
from tests.lib.catalog_fixture import make_table
from tests.serializability.checker import LEVELS, Anomaly, Level, check
from tests.serializability.history import Append, Operation, Outcome, Read, Shares, Transaction
from tests.serializability.list_append import SHAPES, Shape
from tests.unit.nodedb.txn.simulation import SimulatedNode, Task

if TYPE_CHECKING:
    from nodedb.txn.store import StatementStore
    from nodedb.txn.transaction import Transaction as NodeTransaction

LISTS = make_table("lists", [("k", INT4), ("v", TEXT)], primary_key=["k"], table_id=100)
ROWS = make_table(
    "entries",
    [("k", INT4), ("seq", INT4), ("value", INT4)],
    primary_key=["k", "seq", "value"],
    table_id=101,
)
INDEXED = make_table(
    "indexed",
    [("k", INT4), ("seq", INT4), ("value", INT4)],
    primary_key=["value"],
    table_id=102,
    indexes=[
        Index(
            id=900,
            name="entries_k",
            index_id=2,
            keys=(IndexKey(position=0), IndexKey(position=1)),
        )
    ],
)
KEYS: Final = 3
SESSIONS: Final = 4
TRANSACTIONS: Final = 3
SCHEDULES_PER_NODE: Final = 25
SCHEDULES: Final = 2_000
CAUGHT_WITHIN: Final = 3
"""So many seeds, of one node's schedules each, find a check that is off."""


class Schedules:
    """One node, on which one schedule after the other is run."""

    def __init__(self, seed: int, level: Level, checks: Checks = ALL_CHECKS) -> None:
        self.chance = random.Random(f"{seed} {level}")
        self.level = level
        self.node = SimulatedNode()
        self.node.transactions.checks = checks
        self.history: list[Transaction] = []
        self.shape: Shape = "list"
        self.first_key = 0
        self.next_value = 1
        self.moment = 0.0
        self.paused: list[Waiter[None]] = []

    def run(self) -> list[Transaction]:
        """Run one schedule; returns its history, with a last read of each key."""
        self.history = []
        self.shape = self.chance.choice(SHAPES[self.level])
        self.first_key += KEYS
        self._interleave([Task(self.session(number)) for number in range(SESSIONS)])
        self._interleave([Task(self.read_everything())])
        return self.history

    def _interleave(self, tasks: list[Task]) -> None:
        """Let the tasks and the loop go on by turns until all are done."""
        schedule, chance = self.node.schedule, self.chance
        while not all(task.done for task in tasks):
            if self.paused and (not schedule.ready or chance.random() < 0.7):
                self.paused.pop(chance.randrange(len(self.paused))).set_result(None)
            else:
                assert schedule.ready, "everybody waits"
                schedule.turn()
        for task in tasks:
            task.result()

    async def pause(self) -> None:
        waiter: Waiter[None] = Waiter()
        self.paused.append(waiter)
        await waiter

    def now(self) -> float:
        self.moment += 1
        return self.moment

    async def session(self, number: int) -> None:
        for _ in range(TRANSACTIONS):
            await self.pause()
            await self.transaction(number)

    async def transaction(self, session: int) -> None:
        """Run one transaction, which its client may roll back, and write it down."""
        done: list[Operation] = []
        began = self.now()
        transaction = self.begin()
        outcome: Outcome = "aborted"
        try:
            await self.operations(transaction, done)
            if self.chance.random() < 0.1:
                self.node.transactions.rollback(transaction)
            else:
                await self.node.transactions.commit(transaction)
                outcome = "ok"
        except (SerializationFailure, DeadlockDetected):
            self.node.transactions.rollback(transaction)
        number = len(self.history) + 1
        self.history.append(Transaction(number, session, began, self.now(), outcome, tuple(done)))

    def begin(self) -> NodeTransaction:
        transaction = self.node.begin()
        transaction.is_snapshot = self.level != "read committed"
        transaction.is_validated = self.level == "serializable"
        return transaction

    async def operations(self, transaction: NodeTransaction, done: list[Operation]) -> None:
        chance = self.chance
        for _ in range(chance.randrange(1, 5)):
            key = self.first_key + chance.randrange(KEYS)
            store = self.node.transactions.statement_store(transaction)
            if chance.random() < 0.5:
                done.append(await self.read(store, key))
            else:
                done.append(Append(key, self.next_value))
                self.next_value += 1
                await self.append(store, key, self.next_value - 1)
            self.node.transactions.end_statement(transaction)
            await self.pause()

    async def read_everything(self) -> None:
        """Read all keys in one transaction of a session of its own."""
        began, transaction = self.now(), self.begin()
        store = self.node.transactions.statement_store(transaction)
        done = [await self.read(store, self.first_key + at) for at in range(KEYS)]
        await self.node.transactions.commit(transaction)
        number = len(self.history) + 1
        self.history.append(Transaction(number, SESSIONS, began, self.now(), "ok", tuple(done)))

    # Lists

    async def read(self, store: StatementStore, key: int) -> Read:
        if self.shape == "list":
            row = await store.get(LISTS, (key,))
            return Read(key, tuple(map(int, row[1].split())) if row is not None else ())
        return Read(key, tuple(value for _, value in await self.entries(store, key)))

    async def entries(self, store: StatementStore, key: int) -> list[tuple[int, int]]:
        """Return (sequence number, value) of a list's rows in their order."""
        spans = [KeySpan((key,), (key,))]
        cursor = (
            store.scan(ROWS, spans)
            if self.shape == "rows"
            else store.scan_index(TableAccess(INDEXED), 2, spans)
        )
        rows: list[Any] = []
        while batch := await cursor.next_batch():
            rows += batch
        return sorted((seq, value) for _, seq, value in rows)

    async def append(self, store: StatementStore, key: int, value: int) -> None:
        if self.shape != "list":
            last = max((seq for seq, _ in await self.entries(store, key)), default=0)
            await self.pause()
            table = ROWS if self.shape == "rows" else INDEXED
            await store.insert(TableAccess(table), [(key, last + 1, value)])
            return
        access = TableAccess(LISTS)
        row = await store.get(LISTS, (key,)) if self.chance.random() < 0.5 else None
        if row is None:
            # INSERT ... ON CONFLICT (k) DO UPDATE
            found = await store.insert_or_conflict(access, (key, f" {value}"), (PRIMARY_INDEX_ID,))
        else:
            await self.pause()
            ((found, _),) = await store.lock(LISTS, [row], "no key update", "wait")
            assert found is not None, "lists are never deleted"
        if found is not None:
            await store.update(access, [found], [(key, f"{found[1]} {value}")])


def anomalies(seed: int, level: Level, checks: Checks) -> tuple[list[Anomaly], list[Transaction]]:
    """Run one node's schedules; returns the first bad one's anomalies, and all histories."""
    schedules = Schedules(seed, level, checks)
    histories: list[Transaction] = []
    for _ in range(SCHEDULES_PER_NODE):
        history = schedules.run()
        histories += history
        if found := check(history, level):
            return found, histories
    assert len(schedules.node.transactions.locks) == 0
    return [], histories


@pytest.mark.parametrize("level", LEVELS)
def test_no_schedule_shows_what_its_level_forbids(level: Level) -> None:
    histories: list[Transaction] = []
    for seed in range(SCHEDULES // SCHEDULES_PER_NODE):
        found, history = anomalies(seed, level, ALL_CHECKS)
        assert not found, f"seed {seed}\n" + "\n".join(map(str, found))
        histories += history
    shares = Shares.of(histories)
    print(f"{level}: {shares}")
    assert shares.committed_share >= 0.3
    assert shares.aborted > 0


@pytest.mark.parametrize(
    ("level", "check_off"),
    [
        ("read committed", "looks_again"),
        ("repeatable read", "first_committer_wins"),
        ("serializable", "validates_reads"),
    ],
)
def test_a_level_without_its_check_is_caught(level: Level, check_off: str) -> None:
    checks = ALL_CHECKS._replace(**{check_off: False})
    caught = [seed for seed in range(CAUGHT_WITHIN) if anomalies(seed, level, checks)[0]]
    assert caught, f"{level} without {check_off} looks right"


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_weaker_levels_do_show_what_they_allow(level: Level) -> None:
    """The schedules reach write skew at all; a serial execution would make these tests pass."""
    found: set[str] = set()
    for seed in range(5):
        schedules = Schedules(seed, level)
        for _ in range(SCHEDULES_PER_NODE):
            found |= {anomaly.name for anomaly in check(schedules.run(), "serializable")}
    assert "G2-item" in found
    assert ("G-single" in found) == (level == "read committed")


def test_the_same_seed_gives_the_same_history() -> None:
    first, second = (Schedules(7, "serializable") for _ in range(2))
    for _ in range(5):
        assert first.run() == second.run()
