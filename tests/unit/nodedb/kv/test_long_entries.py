"""Entries that are applied in slices.

All or nothing for every reader, the log's order, crashes amid them, exact counters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cluster.ids import FIRST_DATA_GROUP, VSHARD_COUNT
from nodedb.kv.effects import (
    LongWrites,
    RowWrites,
    Write,
    decode_effects,
    encode_effects,
    encode_long,
    encode_slice,
)
from nodedb.kv.fault_points import Place
from nodedb.kv.group import APPLY_SLICE_ROWS
from nodedb.kv.keys import HEADER, HEADER_BYTES, index_prefix, vshard_of
from nodedb.txn.manager import LONG_ROWS
from sql.executor.store import TableAccess
from sql.types.catalog import INT4, TEXT
from tests.lib.catalog_fixture import make_table
from tests.unit.nodedb.txn.simulation import SimulatedNode

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from nodedb.waiter import Waiter

PREFIX = index_prefix(100, 1)
END = index_prefix(100, 2)
OLD_ROWS = 3000
NEW_ROWS = 3 * APPLY_SLICE_ROWS


class Killed(Exception):
    """The process ends here."""


def key_of(number: int) -> bytes:
    return PREFIX + number.to_bytes(8, "big")


def write(number: int, payload: bytes) -> Write:
    key = key_of(number)
    return vshard_of(key[6:]), key, payload


def propose(node: SimulatedNode, writes: list[Write]) -> Waiter[int]:
    effects = RowWrites(node.transactions.allocate_timestamp(), 1, writes)
    return node.replicator.propose(FIRST_DATA_GROUP, encode_effects(effects), effects)


def now(coroutine: Coroutine[Any, None, Any]) -> Any:
    """Run what must not wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def seen(node: SimulatedNode) -> dict[bytes, bytes]:
    """What a scan sees; the two kinds of scan and the look-ups must agree."""
    group = node.group
    timestamp = group.last_timestamp
    items, bound = group.scan(PREFIX, END, timestamp, 1 << 20)
    assert bound is None
    values: list[bytes] = []
    start: bytes | None = PREFIX
    while start is not None:
        part, start = group.scan_values(start, END, timestamp, 700, 1 << 20)
        values += part
    assert [value[HEADER_BYTES:] for value in values] == [payload for _, payload in items]
    found = dict(items)
    for number in range(0, NEW_ROWS + 10, 97):
        key = key_of(number)
        expected = found.get(key)
        assert group.newest(key) == expected
        assert group.newest_version(key)[1] == expected
        assert group.read(key, timestamp) == expected
    return found


def check_counters(node: SimulatedNode) -> None:
    keys, sizes = [0] * VSHARD_COUNT, [0] * VSHARD_COUNT
    for key, value in node.group.rows.scan(b"\0", None, 1 << 20):
        if len(value) > HEADER_BYTES:
            vshard = HEADER.unpack_from(value)[1]
            keys[vshard] += 1
            sizes[vshard] += len(key) + len(value) - HEADER_BYTES
    assert list(node.group.vshard_keys) == keys
    assert list(node.group.vshard_bytes) == sizes


def changes() -> list[Write]:
    """Deletes, updates and inserts, the deletes of absent keys included."""
    found = [write(n, b"") for n in range(0, NEW_ROWS, 5)]
    return found + [write(n, b"new %d" % n) for n in range(NEW_ROWS) if n % 5]


BEFORE = {key_of(n): b"old" for n in range(OLD_ROWS)}
AFTER = {key_of(n): b"new %d" % n for n in range(NEW_ROWS) if n % 5}


def filled(**options: Any) -> SimulatedNode:
    node = SimulatedNode(**options)
    propose(node, [write(n, b"old") for n in range(OLD_ROWS)])
    node.schedule.run()
    assert seen(node) == BEFORE
    return node


def test_readers_see_all_of_it_or_nothing() -> None:
    node = filled()
    waiter = propose(node, changes())
    turns = 0
    while not waiter.done:
        assert seen(node) == BEFORE
        node.schedule.turn()
        turns += 1
    assert turns > NEW_ROWS // APPLY_SLICE_ROWS
    assert seen(node) == AFTER
    check_counters(node)


def test_what_follows_is_durable_at_once_and_takes_effect_in_order() -> None:
    node = filled()
    long = propose(node, changes())
    node.schedule.turn()
    assert not long.done
    follower = propose(node, [write(1, b"later")])
    another = propose(node, [write(NEW_ROWS + 1, b"long too"), *changes()[:-1]])
    node.schedule.turn()
    assert node.wal.durable_index(FIRST_DATA_GROUP) == long_index(node) + 3
    assert not follower.done
    assert node.group.newest(key_of(1)) == b"old"
    while not long.done:
        assert not follower.done
        node.schedule.turn()
    assert follower.done
    assert node.group.newest(key_of(1)) == b"later"
    assert not another.done
    node.schedule.run()
    assert another.done
    assert node.group.newest(key_of(NEW_ROWS + 1)) == b"long too"
    check_counters(node)


def long_index(node: SimulatedNode) -> int:
    return node.replicator.applied_index(FIRST_DATA_GROUP)


def test_closing_amid_an_entry_applies_the_rest() -> None:
    node = filled()
    waiter = propose(node, changes())
    node.schedule.turn()
    node.schedule.turn()
    assert not waiter.done
    node.replicator.close()
    assert waiter.done
    assert seen(node) == AFTER
    again = node.restarted()
    assert seen(again) == AFTER
    check_counters(again)


@pytest.mark.parametrize("keep_last_commit", [True, False])
@pytest.mark.parametrize("slices", range(NEW_ROWS // APPLY_SLICE_ROWS + 1))
@pytest.mark.parametrize("commits", [0, 1, 2])
def test_a_crash_amid_an_entry_loses_and_doubles_nothing(
    slices: int, commits: int, *, keep_last_commit: bool
) -> None:
    node = filled()
    node.replicator.commit()
    waiter = propose(node, changes())
    node.schedule.turn()
    for number in range(slices):
        node.schedule.turn()
        if number < commits:
            node.replicator.commit()
    assert not waiter.done
    again = node.restarted(keep_last_commit=keep_last_commit)
    assert seen(again) == AFTER
    check_counters(again)
    once_more = again.restarted(keep_last_commit=keep_last_commit)
    assert seen(once_more) == AFTER
    check_counters(once_more)


def test_a_crash_in_recovery_amid_an_entry_loses_nothing() -> None:
    node = filled()
    node.replicator.commit()
    propose(node, changes())
    node.schedule.turn()
    node.schedule.turn()
    node.replicator.commit()

    def kill(place: Place) -> None:
        if place is Place.RECOVERY_ENTRY:
            raise Killed

    node.disk.kill()
    node.engine.crash(keep_last_commit=True)
    with pytest.raises(Killed):
        SimulatedNode(node.disk, node.engine, schedule=node.schedule, pass_place=kill)
    again = node.restarted()
    assert seen(again) == AFTER
    check_counters(again)


def test_slices_are_one_entry_in_the_log() -> None:
    writes = changes()[:5000]
    for size in (1, 7, 15, 16, 2048, 5000):
        cut = [writes[at : at + size] for at in range(0, len(writes), size)]
        parts = [encode_slice(part) for part in cut]
        payload = encode_long(77, 5, [len(part) for part in cut], parts)
        assert decode_effects(payload) == RowWrites(77, 5, writes)
        assert [w for part in LongWrites(77, parts).slices() for w in part] == writes
        assert not parts


TABLE = make_table("wide", [("id", INT4), ("name", TEXT)], primary_key=["id"], table_id=100)


def test_a_long_transaction_is_prepared_in_slices() -> None:
    node = SimulatedNode()
    transaction = node.begin()
    rows = [(n, f"row {n}") for n in range(LONG_ROWS + 1)]

    async def load() -> None:
        store = node.transactions.statement_store(transaction)
        await store.insert(TableAccess(TABLE), rows)
        node.transactions.end_statement(transaction)

    async def commit() -> None:
        await node.transactions.prepare_commit(transaction)
        assert not transaction.writes
        await node.transactions.commit(transaction)

    node.finish(load())
    locks = len(node.transactions.locks)
    assert locks >= len(rows)
    task = node.start(commit())
    turns = 0
    while not task.done:
        reader = node.begin()
        store = node.transactions.statement_store(reader)
        assert now(store.get(TABLE, (1,))) is None
        node.transactions.rollback(reader)
        node.schedule.turn()
        turns += 1
    task.result()
    assert turns > 2 * LONG_ROWS // APPLY_SLICE_ROWS
    assert len(node.transactions.locks) == 0
    store = node.transactions.statement_store(node.begin())
    assert now(store.get(TABLE, (LONG_ROWS,))) == rows[-1]
    check_counters(node)
    again = node.restarted()
    store = again.transactions.statement_store(again.begin())
    assert now(store.get(TABLE, (LONG_ROWS,))) == rows[-1]
    check_counters(again)


def test_a_prepared_transaction_may_still_roll_back() -> None:
    node = SimulatedNode()
    transaction = node.begin()

    async def load() -> None:
        store = node.transactions.statement_store(transaction)
        await store.insert(TableAccess(TABLE), [(n, "x") for n in range(LONG_ROWS + 1)])
        await node.transactions.prepare_commit(transaction)

    node.finish(load())
    node.transactions.rollback(transaction)
    assert len(node.transactions.locks) == 0
    store = node.transactions.statement_store(node.begin())
    assert now(store.get(TABLE, (1,))) is None
