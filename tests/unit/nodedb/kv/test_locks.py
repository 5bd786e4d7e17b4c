"""The lock table: conflicts, fairness, upgrades, release, deadlocks."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from nodedb.kv.locks import (
    ACCESS_EXCLUSIVE,
    ACCESS_SHARE,
    ADVISORY_EXCLUSIVE,
    ADVISORY_SHARE,
    CONFLICTS,
    MODE_NAMES,
    ROW_EXCLUSIVE,
    ROW_KEY_SHARE,
    ROW_NO_KEY_UPDATE,
    ROW_SHARE_LOCK,
    ROW_UPDATE,
    SHARE,
    LockOwner,
    LockRequest,
    LockTable,
)
from sql.errors import DeadlockDetected

if TYPE_CHECKING:
    from collections.abc import Hashable

    from nodedb.waiter import Waiter


class Owner:
    def __init__(self, started: int, name: str = "") -> None:
        self.started = started
        self.is_expendable = False
        self.deadlock_name = name or str(started)
        self.held: list[Hashable] = []
        self.waiting: LockRequest | None = None


class Bench:
    def __init__(self, count: int) -> None:
        self.table = LockTable()
        self.owners = [Owner(n) for n in range(count)]

    def take(self, number: int, resource: Hashable, mode: int = ROW_UPDATE) -> Waiter[None] | None:
        owner = self.owners[number]
        if self.table.try_acquire(owner, resource, mode):
            return None
        return self.table.enqueue(owner, resource, mode)


def test_conflicts_are_symmetric_and_named() -> None:
    for mode, mask in CONFLICTS.items():
        assert MODE_NAMES[mode]
        for other, other_mask in CONFLICTS.items():
            assert bool(mask & other) == bool(other_mask & mode), (mode, other)


def test_key_share_lets_updates_of_other_columns_pass() -> None:
    bench = Bench(3)
    assert bench.take(0, b"k", ROW_KEY_SHARE) is None
    assert bench.take(1, b"k", ROW_NO_KEY_UPDATE) is None
    assert bench.take(2, b"k", ROW_UPDATE) is not None


def test_an_uncontended_row_lock_is_released_without_trace() -> None:
    bench = Bench(2)
    owner = bench.owners[0]
    assert bench.table.claim(owner, b"k")
    assert bench.table.claim(owner, b"k")
    assert owner.held == [b"k"]
    assert not bench.table.claim(bench.owners[1], b"k")
    bench.table.release_all(owner)
    assert len(bench.table) == 0
    assert owner.held == []


def test_waiters_are_served_in_order() -> None:
    bench = Bench(4)
    assert bench.take(0, b"k") is None
    waits = [bench.take(n, b"k") for n in (1, 2, 3)]
    for number, waiter in enumerate(waits, 1):
        assert waiter is not None
        assert not waiter.done
        bench.table.release_all(bench.owners[number - 1])
        assert waiter.done
    bench.table.release_all(bench.owners[3])
    assert len(bench.table) == 0


def test_a_newcomer_does_not_overtake_a_conflicting_waiter() -> None:
    bench = Bench(3)
    assert bench.take(0, b"k", ROW_SHARE_LOCK) is None
    writer = bench.take(1, b"k", ROW_UPDATE)
    reader = bench.take(2, b"k", ROW_SHARE_LOCK)
    assert writer is not None
    assert reader is not None
    bench.table.release_all(bench.owners[0])
    assert (writer.done, reader.done) == (True, False)
    bench.table.release_all(bench.owners[1])
    assert reader.done


def test_shared_waiters_are_granted_together() -> None:
    bench = Bench(3)
    assert bench.take(0, 7, ACCESS_EXCLUSIVE) is None
    waits = [bench.take(n, 7, ACCESS_SHARE) for n in (1, 2)]
    bench.table.release_all(bench.owners[0])
    assert all(waiter is not None and waiter.done for waiter in waits)


def test_an_upgrade_goes_before_those_who_wait_for_it() -> None:
    bench = Bench(3)
    assert bench.take(0, b"k", ROW_SHARE_LOCK) is None
    assert bench.take(1, b"k", ROW_SHARE_LOCK) is None
    stranger = bench.take(2, b"k", ROW_UPDATE)
    upgrade = bench.take(0, b"k", ROW_UPDATE)
    assert stranger is not None
    assert upgrade is not None
    bench.table.release_all(bench.owners[1])
    assert (upgrade.done, stranger.done) == (True, False)
    bench.table.release_all(bench.owners[0])
    assert stranger.done


def test_two_upgrades_are_a_deadlock_of_the_younger() -> None:
    bench = Bench(2)
    assert bench.take(0, b"k", ROW_SHARE_LOCK) is None
    assert bench.take(1, b"k", ROW_SHARE_LOCK) is None
    first = bench.take(0, b"k", ROW_UPDATE)
    assert first is not None
    with pytest.raises(DeadlockDetected):
        bench.take(1, b"k", ROW_UPDATE)
    assert bench.owners[1].waiting is None
    bench.table.release_all(bench.owners[1])
    assert first.done


def test_the_youngest_of_a_cycle_is_the_victim_even_when_another_closes_it() -> None:
    bench = Bench(3)
    for number in range(3):
        assert bench.take(number, b"%d" % number) is None
    first = bench.take(1, b"2")
    youngest = bench.take(2, b"0")
    closing = bench.take(0, b"1")
    assert youngest is not None
    assert isinstance(youngest.error, DeadlockDetected)
    assert bench.owners[2].waiting is None
    assert closing is not None
    assert not closing.done
    bench.table.release_all(bench.owners[2])
    assert first is not None
    assert first.done


def test_the_deadlock_report_reads_as_postgresqls() -> None:
    bench = Bench(2)
    assert bench.take(0, b"a") is None
    assert bench.take(1, 16400, SHARE) is None
    assert bench.take(0, 16400, ROW_EXCLUSIVE) is not None
    with pytest.raises(DeadlockDetected) as caught:
        bench.take(1, b"a")
    assert caught.value.detail == (
        "Process 1 waits for ShareLock on transaction 0; blocked by process 0.\n"
        "Process 0 waits for RowExclusiveLock on relation 16400 of database 0; "
        "blocked by process 1."
    )


def test_advisory_locks_are_named_by_their_parts() -> None:
    bench = Bench(2)
    one, two = ("advisory", 5, (1 << 32) + 2), ("advisory", 5, 3, -1)
    assert bench.take(0, one, ADVISORY_EXCLUSIVE) is None
    assert bench.take(1, two, ADVISORY_EXCLUSIVE) is None
    assert bench.take(0, two, ADVISORY_SHARE) is not None
    with pytest.raises(DeadlockDetected) as caught:
        bench.take(1, one, ADVISORY_EXCLUSIVE)
    assert "ExclusiveLock on advisory lock [5,1,2,1]" in caught.value.detail
    assert "ShareLock on advisory lock [5,3,4294967295,2]" in caught.value.detail


def test_both_owners_of_a_session_never_conflict() -> None:
    table = LockTable()
    session, transaction, other = Owner(0, "7"), Owner(9, "7"), Owner(10, "8")
    key = ("advisory", 1, 1)
    assert table.try_acquire(session, key, ADVISORY_SHARE)
    assert table.try_acquire(transaction, key, ADVISORY_EXCLUSIVE)
    assert not table.try_acquire(other, key, ADVISORY_SHARE)
    waiter = table.enqueue(other, key, ADVISORY_SHARE)
    table.release_all(transaction)
    assert waiter.done


def test_a_cycle_through_both_owners_of_a_session_is_found() -> None:
    table = LockTable()
    session, transaction, other = Owner(0, "7"), Owner(9, "7"), Owner(10, "8")
    key = ("advisory", 1, 1)
    assert table.try_acquire(session, key, ADVISORY_EXCLUSIVE)
    assert table.try_acquire(other, b"row", ROW_UPDATE)
    mine = table.enqueue(transaction, b"row", ROW_UPDATE)
    assert not table.try_acquire(other, key, ADVISORY_EXCLUSIVE)
    with pytest.raises(DeadlockDetected):
        table.enqueue(other, key, ADVISORY_EXCLUSIVE)
    table.release_all(other)
    assert mine.done


def test_giving_up_lets_those_behind_go_on() -> None:
    bench = Bench(3)
    assert bench.take(0, b"k", ROW_SHARE_LOCK) is None
    writer = bench.take(1, b"k", ROW_UPDATE)
    reader = bench.take(2, b"k", ROW_SHARE_LOCK)
    assert writer is not None
    assert reader is not None
    writer.set_error(RuntimeError("timeout"))
    bench.table.forget(bench.owners[1])
    assert reader.done
    bench.table.forget(bench.owners[1])
    assert bench.owners[1].held == []


def test_an_error_after_the_grant_changes_nothing() -> None:
    bench = Bench(2)
    assert bench.take(0, b"k") is None
    waiter = bench.take(1, b"k")
    assert waiter is not None
    bench.table.release_all(bench.owners[0])
    assert not waiter.set_error(RuntimeError("too late"))
    bench.table.forget(bench.owners[1])
    assert bench.owners[1].held == [b"k"]


def test_releasing_since_a_mark_keeps_what_was_held_before() -> None:
    bench = Bench(2)
    owner = bench.owners[0]
    assert bench.take(0, b"a") is None
    mark = len(owner.held)
    assert bench.take(0, b"b") is None
    assert bench.take(0, b"a") is None
    waiter = bench.take(1, b"b")
    assert waiter is not None
    bench.table.release_since(owner, mark)
    assert waiter.done
    assert owner.held == [b"a"]
    assert not bench.table.claim(bench.owners[1], b"a")


def test_a_lock_strengthened_after_a_savepoint_gets_its_old_strength_back() -> None:
    bench = Bench(3)
    owner = bench.owners[0]
    assert bench.take(0, b"k", ROW_KEY_SHARE) is None
    mark = len(owner.held)
    assert bench.take(0, b"k", ROW_SHARE_LOCK) is None
    inner = len(owner.held)
    assert bench.take(0, b"k", ROW_UPDATE) is None
    sharer, writer = bench.take(1, b"k", ROW_SHARE_LOCK), bench.take(2, b"k", ROW_NO_KEY_UPDATE)
    assert sharer is not None
    assert writer is not None
    bench.table.release_since(owner, inner)
    assert (sharer.done, writer.done) == (True, False)
    bench.table.release_all(bench.owners[1])
    assert not writer.done
    bench.table.release_since(owner, mark)
    assert writer.done
    assert bench.take(1, b"k", ROW_UPDATE) is not None
    bench.table.release_all(bench.owners[2])
    bench.table.release_all(owner)
    assert bench.owners[1].waiting is None


def test_giving_up_an_advisory_lock_leaves_nothing_behind() -> None:
    bench = Bench(1)
    owner, key = bench.owners[0], ("advisory", 1, 1)
    for _ in range(3):
        assert bench.take(0, key, ADVISORY_SHARE) is None
        assert bench.take(0, key, ADVISORY_EXCLUSIVE) is None
        assert bench.table.release(owner, key, ADVISORY_SHARE)
        assert bench.table.release(owner, key, ADVISORY_EXCLUSIVE)
    assert owner.held == []
    assert len(bench.table) == 0


def test_one_mode_of_a_shared_lock_can_be_released() -> None:
    bench = Bench(2)
    key = ("advisory", 1, 1)
    assert bench.take(0, key, ADVISORY_SHARE) is None
    assert bench.take(0, key, ADVISORY_EXCLUSIVE) is None
    waiter = bench.take(1, key, ADVISORY_SHARE)
    assert waiter is not None
    assert bench.table.release(bench.owners[0], key, ADVISORY_EXCLUSIVE)
    assert waiter.done
    assert not bench.table.release(bench.owners[0], key, ADVISORY_EXCLUSIVE)
    assert bench.table.release(bench.owners[0], key, ADVISORY_SHARE)
    assert bench.owners[0].held == []


def test_a_strong_mode_that_is_gone_hinders_nobody() -> None:
    bench = Bench(3)
    assert bench.take(0, 5, ROW_EXCLUSIVE) is None
    assert bench.take(1, 5, ACCESS_SHARE) is None
    bench.table.release_all(bench.owners[0])
    assert bench.take(2, 5, SHARE) is None


def test_a_queue_of_a_thousand_is_cheap_to_search() -> None:
    bench = Bench(1001)
    assert bench.take(1000, b"a") is None
    assert bench.take(0, b"b") is None
    for number in range(1, 1000):
        assert bench.take(number, b"b") is not None
    assert bench.take(0, b"a") is not None
    with pytest.raises(DeadlockDetected):
        bench.take(1000, b"b")


@pytest.mark.parametrize("seed", range(40))
def test_random_schedules_end_with_everybody_served(seed: int) -> None:
    chance = random.Random(seed)
    bench = Bench(8)
    modes = (ROW_KEY_SHARE, ROW_SHARE_LOCK, ROW_NO_KEY_UPDATE, ROW_UPDATE)
    for _ in range(400):
        number = chance.randrange(8)
        owner = bench.owners[number]
        if owner.waiting is not None:
            continue
        if chance.random() < 0.3:
            bench.table.release_all(owner)
            continue
        try:
            bench.take(number, b"%d" % chance.randrange(4), chance.choice(modes))
        except DeadlockDetected:
            bench.table.release_all(owner)
        for victim in bench.owners:
            assert len(set(victim.held)) == len(victim.held)
        granted: dict[Hashable, list[tuple[LockOwner, int]]] = {}
        for resource, holder, bits, is_granted in bench.table.entries():
            if is_granted:
                granted.setdefault(resource, []).append((holder, bits))
        for holders in granted.values():
            for holder, bits in holders:
                for other, other_bits in holders:
                    if holder is not other:
                        assert not any(m & bits and CONFLICTS[m] & other_bits for m in modes)
    while any(owner.held or owner.waiting for owner in bench.owners):
        runnable = [o for o in bench.owners if o.waiting is None and o.held]
        assert runnable, f"seed {seed}: nobody can run: an unseen deadlock"
        bench.table.release_all(chance.choice(runnable))
    assert len(bench.table) == 0


def test_many_row_locks_are_taken_and_let_go_of_together() -> None:
    bench = Bench(3)
    one, two, _ = bench.owners
    keys = [b"key %d" % n for n in range(5000)]
    assert bench.table.claim_all(one, keys)
    assert len(bench.table) == len(one.held) == 5000
    for owner in (one, two):
        assert not bench.table.claim_all(owner, [b"fresh", keys[7]])
    assert not two.held
    assert bench.table.try_acquire(one, 12, ACCESS_EXCLUSIVE)
    assert bench.table.holds(one, 12, ACCESS_EXCLUSIVE)
    assert not bench.table.holds(one, 12, ACCESS_SHARE)
    assert not bench.table.holds(two, 12, ACCESS_EXCLUSIVE)
    assert not bench.table.holds(one, keys[0], ACCESS_EXCLUSIVE)
    first = bench.take(1, keys[3000])
    second = bench.take(2, keys[3000])
    assert first is not None
    assert second is not None
    bench.table.release_all(one)
    assert first.done
    assert not second.done
    assert len(bench.table) == 1
    bench.table.release_all(two)
    assert second.done
    bench.table.release_all(bench.owners[2])
    assert len(bench.table) == 0
