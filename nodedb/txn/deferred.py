"""Deferrable unique constraints: keys that several rows may share until they are checked.

The entries of such a constraint's index are told apart by their rows' clustering keys, so that a
transaction may write a second row of a key before it moves or deletes the first. Whoever writes an
entry locks its key, the part that must be unique, until its transaction ends: no other transaction
changes the key's entries between a check and the commit. A key that had another row when a row of
it was written waits in ``Transaction.unchecked`` for the end of the statement, and while the
constraint is deferred in ``Transaction.deferred`` for SET CONSTRAINTS IMMEDIATE or COMMIT.

Source: PostgreSQL docs, "CREATE TABLE" (DEFERRABLE), "SET CONSTRAINTS".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nodedb.storage.key_codec import prefix_end
from nodedb.txn.scan import BufferedScan
from nodedb.txn.transaction import COMMAND_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nodedb.kv.group import DataGroup
    from nodedb.txn.transaction import Transaction
    from sql.catalog.descriptor import Index
    from sql.errors import UniqueViolation


class UniqueCheck(NamedTuple):
    """A key that may have several rows; ``violation`` words it."""

    table_id: int
    constraint: Index
    violation: Callable[[], UniqueViolation]


def count_holders(group: DataGroup, transaction: Transaction, key: bytes, enough: int) -> int:
    """Count the rows that share a unique key now, up to ``enough``.

    Committed ones and what this transaction has written.
    """
    scan = BufferedScan(
        group,
        transaction,
        [(key, prefix_end(key))],
        timestamp=group.last_timestamp,
        before_command=COMMAND_MAX,
        reverse=False,
        limit=enough,
    )
    count = 0
    while count < enough and (items := scan.next_items()):
        count += len(items)
    return min(count, enough)


def defer_keys(transaction: Transaction) -> None:
    """At the end of a statement: put aside the keys of constraints that are deferred just now."""
    defers, unchecked = transaction.defers, transaction.unchecked
    for key in [key for key, check in unchecked.items() if defers(check.constraint)]:
        transaction.deferred[key] = unchecked.pop(key)


def keys_to_check(
    transaction: Transaction, chosen: Callable[[UniqueCheck], bool] | None = None
) -> list[bytes]:
    """Return the keys that wait, of all constraints or of the chosen ones."""
    return [
        key
        for waiting in (transaction.deferred, transaction.unchecked)
        for key, check in waiting.items()
        if chosen is None or chosen(check)
    ]


def waiting_check(transaction: Transaction, key: bytes) -> UniqueCheck | None:
    """Return the check that waits for a key."""
    return transaction.unchecked.get(key) or transaction.deferred.get(key)


def check_keys(group: DataGroup, transaction: Transaction, keys: Iterable[bytes]) -> None:
    """Check keys that wait, and forget those that are in order.

    UniqueViolation (23505) of the first that has several rows.
    """
    for key in keys:
        check = waiting_check(transaction, key)
        if check is not None and count_holders(group, transaction, key, 2) > 1:
            raise check.violation()
        transaction.unchecked.pop(key, None)
        transaction.deferred.pop(key, None)
