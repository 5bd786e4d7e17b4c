"""Deferrable unique keys: shared for a while, checked when the statement ends or when told."""

from __future__ import annotations

from typing import Any

import pytest

from nodedb.txn.deferred import keys_to_check
from sql.errors import ObjectNotInPrerequisiteState, UniqueViolation
from sql.executor.store import KeySpan
from tests.unit.nodedb.txn.simulation import SimulatedNode, Task
from tests.unit.nodedb.txn.test_store import Session, filled, unique_table

IMMEDIATE = unique_table(deferrable=True)
DEFERRED = unique_table(deferrable=True, initially_deferred=True)
THREE = [(n, n, str(n)) for n in range(1, 4)]


def check_all(session: Session) -> None:
    keys = keys_to_check(session.transaction)
    session.node.transactions.check_keys(session.transaction, keys)


def is_waiting(session: Session) -> bool:
    return bool(keys_to_check(session.transaction))


async def checked_commit(session: Session) -> None:
    """COMMIT as a session does it."""
    check_all(session)
    await session.commit()


def holders(session: Session, value: int) -> list[int]:
    return [row[0] for row in session.by_index(2, spans=[KeySpan((value,), (value,))])]


def test_rows_may_swap_keys_within_a_statement() -> None:
    node = filled(IMMEDIATE, THREE)
    session = Session(node, IMMEDIATE)

    async def shift() -> None:
        store = session.store()
        news = [(row[0], row[1] + 1, row[2]) for row in THREE]
        await store.lock(IMMEDIATE, THREE, "update", "wait")
        await store.update(session.access, THREE, news)
        node.transactions.end_statement(session.transaction)

    node.finish(shift())
    node.finish(session.commit())
    assert [row[:2] for row in session.by_index(2)] == [(1, 2), (2, 3), (3, 4)]
    assert not is_waiting(session)


def test_an_immediate_key_is_checked_when_the_statement_ends() -> None:
    node = filled(IMMEDIATE, THREE)
    session = Session(node, IMMEDIATE)
    with pytest.raises(UniqueViolation) as caught:
        node.finish(session.insert((9, 2, "x")))
    assert caught.value.detail == "Key (u)=(2) already exists."
    session.rollback()
    with pytest.raises(UniqueViolation):
        node.finish(session.insert((8, 80, "x"), (9, 80, "y")))
    session.rollback()
    with pytest.raises(UniqueViolation):
        node.finish(session.change((1, 1, "1"), (1, 3, "1")))
    session.rollback()
    assert session.rows() == THREE


def test_a_deferred_key_has_two_rows_until_it_is_checked() -> None:
    node = filled(DEFERRED, THREE)
    session = Session(node, DEFERRED)
    node.finish(session.insert((9, 2, "x")))
    assert holders(session, 2) == [2, 9]
    with pytest.raises(UniqueViolation):
        node.finish(checked_commit(session))
    node.finish(session.change((2, 2, "2"), (2, 7, "2")))
    node.finish(checked_commit(session))
    assert holders(session, 2) == [9]
    assert holders(session, 7) == [2]


@pytest.mark.parametrize("end", ["delete", "change"])
def test_either_row_may_give_way(end: str) -> None:
    node = filled(DEFERRED, THREE)
    session = Session(node, DEFERRED)
    node.finish(session.insert((9, 2, "x")))
    node.finish(session.change((9, 2, "x"), None if end == "delete" else (9, 90, "x")))
    node.finish(checked_commit(session))
    assert holders(session, 2) == [2]


def test_setting_the_constraint_deferred_makes_it_wait() -> None:
    node = filled(IMMEDIATE, THREE)
    session = Session(node, IMMEDIATE)
    session.transaction.defers = lambda index: index.name == "t_u_key"
    node.finish(session.insert((9, 2, "x")))
    assert is_waiting(session)
    session.transaction.defers = lambda _: False
    node.transactions.end_statement(session.transaction)
    assert is_waiting(session)
    with pytest.raises(UniqueViolation):
        check_all(session)
    chosen = keys_to_check(session.transaction, lambda check: check.constraint.name != "t_u_key")
    assert chosen == []


def test_a_check_that_passed_waits_again_after_going_back_to_a_savepoint() -> None:
    node = filled(DEFERRED, THREE)
    session = Session(node, DEFERRED)
    node.finish(session.insert((9, 2, "x")))
    mark = session.transaction.mark()
    node.finish(session.change((9, 2, "x"), None))
    check_all(session)
    assert not is_waiting(session)
    node.transactions.rollback_to(session.transaction, mark, release_locks=True)
    with pytest.raises(UniqueViolation):
        node.finish(checked_commit(session))


def test_a_savepoint_takes_its_duplicates_along() -> None:
    node = filled(DEFERRED, THREE)
    session = Session(node, DEFERRED)
    mark = session.transaction.mark()
    node.finish(session.insert((9, 2, "x")))
    node.transactions.rollback_to(session.transaction, mark, release_locks=True)
    assert not is_waiting(session)
    node.finish(session.insert((9, 4, "x")))
    node.finish(checked_commit(session))
    assert holders(session, 2) == [2]


def test_another_transaction_waits_for_the_key() -> None:
    node = filled(DEFERRED, THREE)
    first, second = Session(node, DEFERRED), Session(node, DEFERRED)
    node.finish(first.insert((8, 80, "first")))
    waiting = Task(second.insert((9, 80, "second")))
    assert not waiting.done
    node.finish(checked_commit(first))
    waiting.result()
    with pytest.raises(UniqueViolation):
        node.finish(checked_commit(second))
    second.rollback()
    third = Session(node, DEFERRED)
    node.finish(second.change((8, 80, "first"), None))
    waiting = Task(third.insert((9, 80, "third")))
    assert not waiting.done
    node.finish(checked_commit(second))
    waiting.result()
    node.finish(checked_commit(third))
    assert holders(third, 80) == [9]


@pytest.mark.parametrize(
    ("options", "is_allowed"), [({}, True), ({"nulls_not_distinct": True}, False)]
)
def test_null_keys(options: dict[str, Any], is_allowed: bool) -> None:
    table = unique_table(deferrable=True, **options)
    node = SimulatedNode()
    session = Session(node, table)
    node.finish(session.insert((1, None, "a")))
    if is_allowed:
        node.finish(session.insert((2, None, "b")))
        assert [row[0] for row in session.by_index(2)] == [1, 2]
    else:
        with pytest.raises(UniqueViolation):
            node.finish(session.insert((2, None, "b")))


def test_a_deferrable_key_cannot_arbitrate() -> None:
    node = filled(DEFERRED, THREE)
    session = Session(node, DEFERRED)
    for arbiters in ((), (2,)):
        with pytest.raises(ObjectNotInPrerequisiteState) as caught:
            node.finish(session.upsert((9, 90, "x"), *arbiters))
        assert caught.value.constraint == "t_u_key"
        session.rollback()
    assert node.finish(session.upsert((1, 90, "x"), 1)) == (1, 1, "1")


def test_entries_made_afterwards_are_checked_at_once() -> None:
    node = filled(unique_table(), THREE)
    session = Session(node, DEFERRED)
    store = session.store()
    with pytest.raises(UniqueViolation):
        node.finish(store.add_index_entries(session.access, 2, [(5, 50, "x"), (6, 50, "y")]))
