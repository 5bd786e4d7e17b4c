"""What waits are called: transactionid, tuple, relation, object, advisory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nodedb.kv.lock_waits import advisory_place, blockers_of, context_of, described, wait_of
from nodedb.kv.lock_waits import tuple_place as place_of
from nodedb.kv.locks import (
    ACCESS_EXCLUSIVE,
    ADVISORY_EXCLUSIVE,
    ROW_KEY_SHARE,
    ROW_NO_KEY_UPDATE,
    ROW_SHARE_LOCK,
    ROW_UPDATE,
    CatalogResource,
    LockOwner,
    LockRequest,
    LockTable,
)

if TYPE_CHECKING:
    from collections.abc import Hashable


class Owner:
    def __init__(self, number: int) -> None:
        self.started = number * 100
        self.is_expendable = False
        self.deadlock_name = str(number)
        self.held: list[Hashable] = []
        self.waiting: LockRequest | None = None


class Names:
    """Database 5, table 16400 called t; keys that begin with r are rows."""

    def database_id(self, owner: LockOwner) -> int:
        del owner
        return 5

    def relation(self, key: bytes) -> tuple[int, str]:
        return (16400, "t" if self.is_row(key) else "t_pkey") if key != b"unknown" else (0, "")

    def is_row(self, key: bytes) -> bool:
        return key.startswith(b"r")


def queue(resource: Hashable, *modes: int) -> tuple[list[Owner], list[LockRequest]]:
    """Let owners ask for a resource one after the other; the first ones that may have it do."""
    table = LockTable()
    owners = [Owner(number) for number in range(1, len(modes) + 1)]
    for owner, mode in zip(owners, modes, strict=True):
        if not table.try_acquire(owner, resource, mode):
            table.enqueue(owner, resource, mode, purpose="updating")
    return owners, [owner.waiting for owner in owners if owner.waiting is not None]


def test_only_the_first_in_line_for_a_row_waits_for_a_transaction() -> None:
    owners, requests = queue(b"row", ROW_UPDATE, *[ROW_NO_KEY_UPDATE] * 3)
    waits = [wait_of(request, Names()) for request in requests]
    assert [(w.locktype, w.mode, w.tuple_mode) for w in waits] == [
        ("transactionid", "ShareLock", "ExclusiveLock"),
        ("tuple", "ExclusiveLock", ""),
        ("tuple", "ExclusiveLock", ""),
    ]
    assert [w.other for w in waits] == [owners[0], owners[1], owners[1]]
    assert [blockers_of(request, Names()) for request in requests] == [
        [owners[0]],
        [owners[1]],
        [owners[1], owners[2]],
    ]


def test_everybody_waits_for_the_transaction_that_inserts_a_key() -> None:
    owners, requests = queue(b"key", ROW_UPDATE, ROW_UPDATE, ROW_UPDATE)
    waits = [wait_of(request, Names()) for request in requests]
    assert [(w.locktype, w.tuple_mode, w.other) for w in waits] == [
        ("transactionid", "", owners[0])
    ] * 2
    assert [blockers_of(request, Names()) for request in requests] == [[owners[0]]] * 2


def test_whoever_conflicts_with_the_line_alone_waits_for_the_tuple() -> None:
    owners, requests = queue(b"row", ROW_KEY_SHARE, ROW_UPDATE, ROW_SHARE_LOCK)
    assert wait_of(requests[1], Names()) == ("tuple", "RowShareLock", owners[1], "")
    assert blockers_of(requests[0], Names()) == [owners[0]]


@pytest.mark.parametrize(
    ("mode", "tuple_mode"),
    [
        (ROW_SHARE_LOCK, "RowShareLock"),
        (ROW_NO_KEY_UPDATE, "ExclusiveLock"),
        (ROW_KEY_SHARE, "AccessShareLock"),
        (ROW_UPDATE, "AccessExclusiveLock"),
    ],
)
def test_the_tuple_lock_is_as_strong_as_the_row_lock(mode: int, tuple_mode: str) -> None:
    _, requests = queue(b"row", ROW_UPDATE, mode)
    assert wait_of(requests[0], Names()).tuple_mode == tuple_mode


def test_other_locks_are_called_what_they_are() -> None:
    cases: dict[Hashable, tuple[int, str]] = {
        16400: (ACCESS_EXCLUSIVE, "AccessExclusiveLock on relation 16400 of database 5"),
        ("advisory", 5, -1): (
            ADVISORY_EXCLUSIVE,
            "ExclusiveLock on advisory lock [5,4294967295,4294967295,1]",
        ),
        ("advisory", 5, -1, 7): (
            ADVISORY_EXCLUSIVE,
            "ExclusiveLock on advisory lock [5,4294967295,7,2]",
        ),
        CatalogResource("object", 2200): (
            ACCESS_EXCLUSIVE,
            "AccessExclusiveLock on object 2200 of database 5",
        ),
        CatalogResource("relation", 2200, "new"): (
            ACCESS_EXCLUSIVE,
            "ShareLock on transaction 100",
        ),
    }
    for resource, (mode, text) in cases.items():
        owners, requests = queue(resource, mode, mode)
        assert described(requests[0], Names()) == text
        assert blockers_of(requests[0], Names()) == [owners[0]]
        assert context_of(requests[0], Names()) == ""


def test_a_row_is_described_by_the_blocker_that_counts() -> None:
    owners, requests = queue(b"row", ROW_UPDATE, ROW_UPDATE, ROW_UPDATE)
    page, number = place_of(b"row")
    in_line = f"AccessExclusiveLock on tuple ({page},{number}) of relation 16400 of database 5"
    assert described(requests[1], Names()) == in_line
    assert described(requests[1], Names(), owners[1]) == in_line
    assert described(requests[1], Names(), owners[0]) == "ShareLock on transaction 100"


def test_an_error_has_a_context_only_where_a_transaction_is_waited_for() -> None:
    _, requests = queue(b"row", ROW_UPDATE, ROW_UPDATE, ROW_UPDATE)
    page, number = place_of(b"row")
    assert context_of(requests[0], Names()) == (
        f'while updating tuple ({page},{number}) in relation "t"'
    )
    assert context_of(requests[1], Names()) == ""
    _, requests = queue(b"key", ROW_UPDATE, ROW_UPDATE)
    page, number = place_of(b"key")
    assert context_of(requests[0], Names()) == (
        f'while inserting index tuple ({page},{number}) in relation "t_pkey"'
    )
    _, requests = queue(b"unknown", ROW_UPDATE, ROW_UPDATE)
    assert context_of(requests[0], Names()) == ""


def test_places_fit_their_columns() -> None:
    places = {place_of(b"%d" % number) for number in range(2000)}
    assert len(places) == 2000
    assert all(0 <= page < 2**31 and 0 < number < 2**15 for page, number in places)
    assert advisory_place(("advisory", 5, 1 << 40)) == (5, 256, 0, 1)
