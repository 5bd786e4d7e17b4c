"""One batch of a backfill: the missing index entries of some rows, as an ordinary transaction.

Each row is locked FOR SHARE before its newest version is looked at, and stays locked until the
batch is applied: an entry never comes back that a concurrent commit removes. A unique entry's key
is locked like a writer locks it. A batch never waits: it ends in front of the row or key that
somebody else has locked, and the build waits for that alone, holding nothing. So it can be in
nobody's way for longer than a batch takes.

Writers do their part meanwhile (``write_only``): rows that come, change or go after their lock was
let go are none of the backfill's business, and an entry that is there already is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nodedb.kv.locks import ROW_SHARE_LOCK, ROW_UPDATE
from nodedb.txn.store import index_values
from nodedb.txn.table_codec import codec_of
from nodedb.txn.violations import entry_violation
from sql.errors import UniqueViolation

if TYPE_CHECKING:
    from nodedb.txn.manager import TransactionManager
    from nodedb.txn.transaction import Transaction
    from sql.catalog.descriptor import Table
    from sql.executor.store import TableAccess


class Contended(NamedTuple):
    """A lock that somebody else holds."""

    key: bytes
    mode: int


class Batch(NamedTuple):
    """What a batch did: rows looked at, the key to go on from (None: at the end), what it met."""

    row_count: int
    position: bytes | None
    contended: Contended | None = None


def fill_batch(
    manager: TransactionManager,
    transaction: Transaction,
    access: TableAccess,
    index_id: int,
    position: bytes,
    limit: int,
) -> Batch:
    """Buffer the missing entries of up to ``limit`` rows from a key on.

    Takes no turn of the loop. Raises UniqueViolation (23505) when two rows have the same key, and
    whatever the index's expressions raise.
    """
    codec = codec_of(access.table)
    index = codec.index_by_id[index_id]
    makers = dict(access.makers)
    locks, group = manager.locks, manager.group
    newest = manager.statement_store(transaction).newest_payload
    start, end = codec.rows.whole()
    items, following = group.scan(max(start, position), end, group.last_timestamp, limit)
    for row_count, (key, payload) in enumerate(items):
        # Granted: nobody has changes of the row in hand, so what the scan found is the newest.
        if not locks.try_acquire(transaction, key, ROW_SHARE_LOCK):
            return Batch(row_count, key, Contended(key, ROW_SHARE_LOCK))
        row = codec.decode(payload)
        values = index_values(index, makers, row)
        if values is None:
            continue
        clustering = codec.clustering_of(row)
        entry, exclusive = index.entry_key(values, clustering)
        if exclusive and not locks.claim(transaction, entry):
            return Batch(row_count, key, Contended(entry, ROW_UPDATE))
        pointer = codec.encode_clustering(clustering)
        present = newest(entry)
        if present is None:
            unique_key = entry if exclusive else None
            transaction.put(entry, pointer, codec.entry_vshard(unique_key, clustering))
        elif present != pointer:
            raise entry_violation(codec, index, values)
    return Batch(len(items), following)


def is_duplicated(error: UniqueViolation, table: Table, schema_name: str) -> UniqueViolation:
    """Say it as index creation does: existing rows collide."""
    return UniqueViolation(
        f'could not create unique index "{error.constraint}"',
        detail=error.detail.replace(" already exists.", " is duplicated."),
        schema=schema_name,
        table=table.name,
        constraint=error.constraint,
    )
