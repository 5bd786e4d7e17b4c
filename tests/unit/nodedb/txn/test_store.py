"""One statement's view of rows: reads, writes, uniqueness, conflicts with other transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nodedb.kv.locks import ACCESS_EXCLUSIVE
from nodedb.txn.scan import BATCH_BYTES, FIRST_BATCH_ROWS
from sql.catalog.descriptor import Index, IndexKey, Table
from sql.errors import (
    DeadlockDetected,
    DiskFull,
    LockNotAvailable,
    QueryCanceled,
    SnapshotTooOld,
    UniqueViolation,
)
from sql.executor.store import IndexEntryMaker, KeySpan, TableAccess
from sql.types.catalog import INT4, TEXT
from tests.lib.catalog_fixture import make_table
from tests.unit.nodedb.txn.simulation import SimulatedNode, Task

if TYPE_CHECKING:
    from nodedb.txn.store import StatementStore
    from nodedb.txn.transaction import Transaction

COLUMNS = [("id", INT4), ("u", INT4), ("v", TEXT)]


def index(name: str, *positions: int, **fields: Any) -> Index:
    keys = tuple(IndexKey(position=p) for p in positions)
    return Index(id=900 + fields["index_id"], name=name, keys=keys, **fields)


def unique_table(**fields: Any) -> Table:
    return make_table(
        "t",
        COLUMNS,
        primary_key=["id"],
        table_id=100,
        indexes=[
            index("t_u_key", 1, index_id=2, unique=True, **fields),
            index("t_v", 2, index_id=3),
        ],
    )


PLAIN = make_table("t", COLUMNS, primary_key=["id"], table_id=100)
UNIQUE = unique_table()


class Session:
    """Runs store calls in transactions of its own."""

    def __init__(self, node: SimulatedNode, table: Table = UNIQUE, makers: Any = ()) -> None:
        self.node = node
        self.table = table
        self.access = TableAccess(table, makers)
        self.transaction: Transaction = node.begin()

    def store(self) -> StatementStore:
        return self.node.transactions.statement_store(self.transaction)

    async def insert(self, *rows: tuple[Any, ...]) -> None:
        await self.store().insert(self.access, rows)
        self.node.transactions.end_statement(self.transaction)

    async def change(self, old: tuple[Any, ...], new: tuple[Any, ...] | None) -> bool:
        store = self.store()
        (found,) = await store.lock(self.table, [old], "update", "wait")
        if found.row is None:
            return False
        if new is None:
            await store.delete(self.access, [found.row])
        else:
            await store.update(self.access, [found.row], [new])
        self.node.transactions.end_statement(self.transaction)
        return True

    async def upsert(self, row: tuple[Any, ...], *arbiters: int) -> Any:
        found = await self.store().insert_or_conflict(self.access, row, arbiters)
        self.node.transactions.end_statement(self.transaction)
        return found

    async def commit(self) -> None:
        transaction, self.transaction = self.transaction, self.node.begin()
        await self.node.transactions.commit(transaction)

    def rollback(self) -> None:
        self.node.transactions.rollback(self.transaction)
        self.transaction = self.node.begin()

    def rows(self) -> Any:
        return self.node.finish(read_all(self.store().scan(self.table)))

    def by_index(self, index_id: int, **options: Any) -> Any:
        return self.node.finish(read_all(self.store().scan_index(self.access, index_id, **options)))


async def read_all(cursor: Any) -> list[Any]:
    rows = []
    while batch := await cursor.next_batch():
        assert len(batch) <= 1024
        rows += batch
    return rows


def filled(table: Table = UNIQUE, rows: Any = ((1, 10, "a"), (2, 20, "b"))) -> SimulatedNode:
    node = SimulatedNode()
    session = Session(node, table)
    node.finish(session.insert(*rows))
    node.finish(session.commit())
    return node


def test_a_statement_sees_earlier_commands_and_not_its_own() -> None:
    node = filled()
    session = Session(node)
    store = session.store()
    node.finish(store.insert(session.access, [(3, 30, "c")]))
    assert node.finish(store.get(UNIQUE, (3,))) is None
    assert node.finish(store.current().get(UNIQUE, (3,))) == (3, 30, "c")
    node.transactions.end_statement(session.transaction)
    assert session.rows() == [(1, 10, "a"), (2, 20, "b"), (3, 30, "c")]
    assert Session(node).rows() == [(1, 10, "a"), (2, 20, "b")]


def test_a_statements_snapshot_stands_still_while_others_commit() -> None:
    node = filled()
    reader, writer = Session(node), Session(node)
    store = reader.store()
    node.finish(writer.change((1, 10, "a"), (1, 11, "z")))
    node.finish(writer.change((2, 20, "b"), None))
    node.finish(writer.insert((3, 20, "c")))
    node.finish(writer.commit())
    assert node.finish(read_all(store.scan(UNIQUE))) == [(1, 10, "a"), (2, 20, "b")]
    assert node.finish(read_all(store.scan_index(reader.access, 2))) == [(1, 10, "a"), (2, 20, "b")]
    assert reader.rows() == [(1, 11, "z"), (3, 20, "c")]


def test_a_bulk_insert_goes_in_whole_with_its_entries() -> None:
    node = SimulatedNode()
    session = Session(node)
    rows = [(n, -n, f"t{n % 7}") for n in range(3000)]
    node.finish(session.insert(*rows))
    assert session.rows() == rows
    node.finish(session.commit())
    assert session.rows() == rows
    assert session.by_index(2, reverse=True) == rows
    assert [row[2] for row in session.by_index(3)] == sorted(row[2] for row in rows)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_a_duplicate_in_the_same_statement_is_refused(count: int) -> None:
    node = SimulatedNode()
    session = Session(node, PLAIN)
    rows = [(n, 0, "") for n in range(count)]
    with pytest.raises(UniqueViolation) as caught:
        node.finish(session.insert(*rows, rows[0]))
    assert caught.value.message == 'duplicate key value violates unique constraint "t_pkey"'
    assert caught.value.detail == "Key (id)=(0) already exists."


@pytest.mark.parametrize("count", [1, 20])
def test_a_key_that_was_deleted_is_free_again(count: int) -> None:
    node = filled()
    session = Session(node)
    node.finish(session.change((1, 10, "a"), None))
    node.finish(session.insert(*[(1 + 10 * n, 100 + n, "new") for n in range(count)]))
    node.finish(session.commit())
    assert session.rows()[0] == (1, 100, "new")


def test_an_insert_waits_for_the_same_key_and_then_fails() -> None:
    node = SimulatedNode()
    first, second, third = Session(node), Session(node), Session(node)
    node.finish(first.insert((5, 1, "")))
    by_key = Task(second.insert((4, 4, ""), (5, 2, "")))
    by_unique = Task(third.insert((6, 1, "")))
    assert not by_key.done
    assert not by_unique.done
    node.finish(first.commit())
    for task, name in ((by_key, "t_pkey"), (by_unique, "t_u_key")):
        assert isinstance(task.error, UniqueViolation)
        assert task.error.constraint == name


def test_an_insert_waits_for_the_same_key_and_takes_it_after_a_rollback() -> None:
    node = SimulatedNode()
    first, second = Session(node), Session(node)
    node.finish(first.insert((5, 1, "first")))
    task = Task(second.insert(*[(n, n, "second") for n in range(1, 12)]))
    assert not task.done
    first.rollback()
    task.result()
    node.finish(second.commit())
    assert len(second.rows()) == 11


def test_nulls_are_distinct_unless_told_otherwise() -> None:
    for distinct in (True, False):
        table = unique_table(nulls_not_distinct=not distinct)
        node = SimulatedNode()
        session = Session(node, table)
        if distinct:
            node.finish(session.insert((1, None, ""), (2, None, "")))
            assert len(session.by_index(2)) == 2
            node.finish(session.change((1, None, ""), (1, 5, "")))
            node.finish(session.change((2, None, ""), None))
            assert session.by_index(2) == [(1, 5, "")]
        else:
            with pytest.raises(UniqueViolation) as caught:
                node.finish(session.insert((1, None, ""), (2, None, "")))
            assert caught.value.detail == "Key (u)=(null) already exists."


def test_a_partial_unique_index_looks_only_at_its_rows() -> None:
    partial = Index(
        id=902,
        name="part",
        index_id=2,
        unique=True,
        keys=(IndexKey(position=-1, type_oid=INT4.oid),),
    )
    table = make_table("t", COLUMNS, primary_key=["id"], table_id=100, indexes=[partial])
    makers = (IndexEntryMaker(2, lambda row: (row[1] * 2,) if row[2] == "live" else None),)
    node = SimulatedNode()
    session = Session(node, table, makers)
    node.finish(session.insert((1, 1, "dead"), (2, 1, "dead"), (3, 1, "live")))
    assert session.by_index(2) == [(3, 1, "live")]
    node.finish(session.change((3, 1, "live"), (3, 1, "dead")))
    assert session.by_index(2) == []
    node.finish(session.change((1, 1, "dead"), (1, 1, "live")))
    node.finish(session.commit())
    assert session.by_index(2, spans=[KeySpan((2,), (2,))]) == [(1, 1, "live")]


def test_an_update_may_move_keys_and_entries() -> None:
    node = filled()
    session = Session(node)
    node.finish(session.change((1, 10, "a"), (7, 10, "a")))
    node.finish(session.commit())
    assert session.rows() == [(2, 20, "b"), (7, 10, "a")]
    assert session.by_index(2) == [(7, 10, "a"), (2, 20, "b")]
    assert session.by_index(3, reverse=True) == [(2, 20, "b"), (7, 10, "a")]
    with pytest.raises(UniqueViolation):
        node.finish(session.change((7, 10, "a"), (2, 10, "a")))
    session.rollback()
    with pytest.raises(UniqueViolation):
        node.finish(session.change((7, 10, "a"), (7, 20, "a")))


def test_rows_changed_meanwhile_come_back_in_their_newest_version() -> None:
    node = filled()
    reader, writer = Session(node), Session(node)
    store = reader.store()
    old = node.finish(read_all(store.scan(UNIQUE)))
    node.finish(writer.change((1, 10, "a"), (1, 10, "new")))
    node.finish(writer.change((2, 20, "b"), None))
    waiting = Task(store.lock(UNIQUE, old, "no key update", "wait"))
    assert not waiting.done
    node.finish(writer.commit())
    assert waiting.result() == [((1, 10, "new"), True), (None, True)]


def test_nowait_and_skip_do_not_wait() -> None:
    node = filled()
    first, second = Session(node), Session(node)
    rows = first.rows()
    node.finish(first.store().lock(UNIQUE, rows[:1], "update", "wait"))
    assert node.finish(second.store().lock(UNIQUE, rows, "share", "skip")) == [
        (None, True),
        ((2, 20, "b"), False),
    ]
    with pytest.raises(LockNotAvailable, match='could not obtain lock on row in relation "t"'):
        node.finish(second.store().lock(UNIQUE, rows, "share", "nowait"))


def test_lock_timeout_and_cancel_end_a_wait() -> None:
    node = filled()
    first, second = Session(node), Session(node)
    rows = first.rows()
    node.finish(first.store().lock(UNIQUE, rows, "update", "wait"))
    second.transaction.lock_timeout_ms = 100
    task = Task(second.change(rows[0], None))
    node.schedule.advance(0.05)
    assert not task.done
    node.schedule.advance(0.06)
    assert isinstance(task.error, LockNotAvailable)
    second.transaction.lock_timeout_ms = 0
    task = Task(second.change(rows[0], None))
    second.transaction.interrupts.interrupt(QueryCanceled("cancel"))
    assert isinstance(task.error, QueryCanceled)
    assert second.transaction.waiting is None
    first.rollback()
    assert node.finish(second.change(rows[0], None))


def test_on_conflict_waits_and_meets_the_other_row() -> None:
    for arbiters in ((2,), ()):
        node = SimulatedNode()
        first, second = Session(node), Session(node)
        node.finish(first.insert((1, 10, "first")))
        task = Task(second.upsert((2, 10, "second"), *arbiters))
        assert not task.done
        node.finish(first.commit())
        assert task.result() == (1, 10, "first")


def test_on_conflict_do_nothing_leaves_the_row_unlocked() -> None:
    node = filled()
    first, second = Session(node), Session(node)
    for arbiters in ((1,), (2,), ()):
        store = first.store()
        found = store.insert_or_conflict(first.access, (1, 10, ""), arbiters, None)
        assert node.finish(found) == (1, 10, "a")
        assert first.transaction.held == []
    assert node.finish(second.change((1, 10, "a"), None))


def test_on_conflict_inserts_after_a_rollback() -> None:
    node = SimulatedNode()
    first, second = Session(node), Session(node)
    node.finish(first.insert((1, 10, "first")))
    task = Task(second.upsert((2, 10, "second"), 2))
    first.rollback()
    assert task.result() is None
    node.finish(second.commit())
    assert second.rows() == [(2, 10, "second")]


def test_on_conflict_does_not_deadlock_with_an_update_of_the_same_row() -> None:
    node = filled()
    updater, upserter = Session(node), Session(node)
    node.finish(updater.store().lock(UNIQUE, [(1, 10, "a")], "update", "wait"))
    task = Task(upserter.upsert((9, 10, "new"), 2))
    assert not task.done
    node.finish(updater.store().update(updater.access, [(1, 10, "a")], [(1, 15, "a")]))
    node.finish(updater.commit())
    assert task.result() is None
    node.finish(upserter.commit())
    assert upserter.by_index(2) == [(9, 10, "new"), (1, 15, "a"), (2, 20, "b")]


def test_a_conflict_on_another_index_than_the_arbiter_is_an_error() -> None:
    node = filled()
    session = Session(node)
    with pytest.raises(UniqueViolation):
        node.finish(session.upsert((1, 99, ""), 2))
    session.rollback()
    assert node.finish(session.upsert((1, 99, ""), 1)) == (1, 10, "a")
    assert not session.store().written_by_command(UNIQUE, (1, 10, "a"))


def test_crossed_updates_are_a_deadlock_of_the_younger() -> None:
    node = filled()
    first, second = Session(node), Session(node)
    node.finish(first.change((1, 10, "a"), (1, 10, "x")))
    node.finish(second.change((2, 20, "b"), (2, 20, "y")))
    waiting = Task(first.change((2, 20, "b"), (2, 20, "x")))
    with pytest.raises(DeadlockDetected):
        node.finish(second.change((1, 10, "a"), (1, 10, "y")))
    second.rollback()
    assert waiting.result()


def test_a_thousand_sessions_may_fail_on_one_key_in_a_row() -> None:
    node = SimulatedNode()
    first = Session(node, PLAIN)
    node.finish(first.insert((1, 0, "")))
    sessions = [Session(node, PLAIN) for _ in range(1000)]

    async def insert_or_roll_back(session: Session) -> bool:
        try:
            await session.insert((1, 0, ""))
        except UniqueViolation:
            session.rollback()
            return False
        return True

    tasks = [Task(insert_or_roll_back(session)) for session in sessions]
    node.finish(first.commit())
    assert [task.result() for task in tasks] == [False] * 1000


def test_rolling_back_to_a_savepoint_restores_rows_locks_and_size() -> None:
    node = filled()
    session, other = Session(node), Session(node)
    node.finish(session.change((1, 10, "a"), (1, 10, "kept")))
    mark, size = session.transaction.mark(), session.transaction.byte_count
    session.rows()
    node.finish(session.change((1, 10, "kept"), (1, 10, "gone")))
    node.finish(session.change((2, 20, "b"), None))
    node.finish(session.insert((3, 30, "c")))
    assert session.rows() == [(1, 10, "gone"), (3, 30, "c")]
    node.transactions.rollback_to(session.transaction, mark, release_locks=True)
    assert session.rows() == [(1, 10, "kept"), (2, 20, "b")]
    assert session.transaction.byte_count == size
    node.finish(session.insert((4, 40, "d")))
    assert session.rows() == [(1, 10, "kept"), (2, 20, "b"), (4, 40, "d")]
    assert node.finish(other.change((2, 20, "b"), None))


def test_spans_that_overlap_give_each_row_once_in_order() -> None:
    node = filled(PLAIN, [(n, n, "") for n in range(10)])
    session = Session(node, PLAIN)
    node.finish(session.insert((100, 0, "")))
    spans = [KeySpan((5,), (100,)), KeySpan((1,), (6,)), KeySpan((6,), (6,)), KeySpan((8,), (3,))]
    for reverse in (False, True):
        cursor = session.store().scan(PLAIN, spans, reverse=reverse, limit=2)
        found = [row[0] for row in node.finish(read_all(cursor))]
        assert found == sorted([*range(1, 10), 100], reverse=reverse)


def test_a_scan_of_many_buffered_rows_comes_in_batches() -> None:
    node = filled(PLAIN, [(n, 0, "old") for n in range(0, 9000, 3)])
    session = Session(node, PLAIN)
    node.finish(session.insert(*[(n, 0, "new") for n in range(9000) if n % 3]))
    for reverse in (False, True):
        cursor = session.store().scan(PLAIN, reverse=reverse)
        found = [row[0] for row in node.finish(read_all(cursor))]
        assert found == sorted(range(9000), reverse=reverse)


def test_a_full_disk_refuses_a_commit_and_leaves_rows_and_indexes_as_they_were() -> None:
    node = filled()
    session = Session(node)
    node.finish(session.insert((3, 30, "c" * 3_000_000)))
    node.disk.quota = 0
    with pytest.raises(DiskFull):
        node.finish(session.commit())
    node.disk.quota = 1 << 30
    assert session.rows() == session.by_index(2) == [(1, 10, "a"), (2, 20, "b")]
    node.finish(session.insert((3, 30, "small")))
    node.finish(session.commit())
    assert node.restarted().group.last_timestamp == node.group.last_timestamp


def test_the_watermark_stays_below_running_snapshots_for_an_hour() -> None:
    node = filled(PLAIN)
    reader, writer = Session(node, PLAIN), Session(node, PLAIN)
    store = reader.store()
    node.finish(writer.change((1, 10, "a"), (1, 10, "b")))
    node.finish(writer.commit())

    def collect() -> None:
        node.transactions.raise_watermark(node.group.last_timestamp)
        node.schedule.run()
        position: bytes | None = b"\0"
        while position is not None:
            position, _ = node.transactions.collect(position, 10)

    collect()
    assert node.finish(store.get(PLAIN, (1,))) == (1, 10, "a")
    node.schedule.advance(3601)
    collect()
    with pytest.raises(SnapshotTooOld):
        node.finish(store.get(PLAIN, (1,)))


def test_rowids_grow_in_the_order_of_insertion() -> None:
    table = make_table("r", [("v", INT4)], table_id=100)
    node = SimulatedNode()
    session = Session(node, table)
    node.finish(session.insert(*[(n, None) for n in range(5)]))
    node.finish(session.insert((5, None)))
    assert [row[0] for row in session.rows()] == list(range(6))
    assert len({row[1] for row in session.rows()}) == 6


def test_a_coroutine_torn_down_amid_its_commit_keeps_the_locks() -> None:
    node = filled(PLAIN)
    first, second = Session(node, PLAIN), Session(node, PLAIN)
    node.finish(first.change((1, 10, "a"), (1, 10, "new")))
    task = Task(first.commit())
    waiting = Task(second.change((1, 10, "a"), None))
    Task.bury([task])
    node.schedule.run()
    assert not waiting.done
    assert second.rows()[0] == (1, 10, "new")


def test_whoever_has_the_table_alone_needs_no_row_locks() -> None:
    node = filled(PLAIN)
    session, other = Session(node, PLAIN), Session(node, PLAIN)
    locks = node.transactions.locks
    rows = [(n, n, "x") for n in range(100, 200)]
    assert locks.try_acquire(session.transaction, PLAIN.id, ACCESS_EXCLUSIVE)
    node.finish(session.insert(*rows))
    assert len(locks) == 1
    node.finish(session.commit())
    assert len(locks) == 0
    node.finish(other.insert(*[(n, n, "y") for n in range(200, 300)]))
    assert len(locks) == 100
    other.rollback()
    assert len(session.rows()) == 102


@pytest.mark.parametrize("taken", [0, 57, 99])
def test_a_bulk_insert_stops_at_the_first_row_that_is_there(taken: int) -> None:
    node = filled(PLAIN)
    session = Session(node, PLAIN)
    rows = [(n, n, "x") for n in range(1000, 1100)]
    node.finish(session.insert(rows[taken]))
    with pytest.raises(UniqueViolation):
        node.finish(session.insert(*rows))
    session.rollback()
    with pytest.raises(UniqueViolation):
        node.finish(session.insert(*rows, rows[taken]))
    session.rollback()
    node.finish(session.insert(*rows))
    node.finish(session.change(rows[taken], None))
    node.finish(session.insert(rows[taken]))
    node.finish(session.commit())
    assert len(session.rows()) == 102


def test_a_batch_of_wide_rows_is_short() -> None:
    node = filled(PLAIN)
    writer = Session(node, PLAIN)
    width = BATCH_BYTES // 8
    for n in range(1000, 1100):
        node.finish(writer.insert((n, n, "w" * width)))
        node.finish(writer.commit())
    for reverse in (False, True):
        for own in (False, True):
            reader = Session(node, PLAIN)
            if own:
                node.finish(reader.insert((5000, 1, "own")))
            cursor = reader.store().scan(PLAIN, reverse=reverse)
            found = 0
            longest = 0
            while batch := node.finish(cursor.next_batch()):
                found += len(batch)
                longest = max(longest, sum(len(row[2]) for row in batch))
            assert found == 102 + own
            # The first batch is made before anything is known of the rows' width.
            assert longest <= FIRST_BATCH_ROWS * width
            if not (reverse or own):
                assert longest <= 4 * BATCH_BYTES
            reader.rollback()


def test_columns_nobody_reads_need_not_be_there() -> None:
    node = filled(PLAIN)
    session = Session(node, PLAIN)
    for own in (False, True):
        if own:
            node.finish(session.insert((3, 30, "c")))
        cursor = session.store().scan(PLAIN, columns=frozenset({1}))
        rows = node.finish(read_all(cursor))
        assert [row[1] for row in rows] == [10, 20, 30][: 2 + own]
        nothing = node.finish(read_all(session.store().scan(PLAIN, columns=frozenset())))
        assert [len(row) for row in nothing] == [3] * (2 + own)
