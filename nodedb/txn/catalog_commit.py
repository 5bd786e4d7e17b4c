"""COMMIT of rows together with catalog changes in a cluster: two groups, one decision.

The rows are prepared first: one entry of the data group keeps them aside, durable and invisible.
Then one entry of the metadata group changes the catalog and is the decision for both (PROTOCOL rule
55); after it the rows are given a timestamp and made visible by a last entry of the data group. The
client is answered then. From the decision to that last entry nothing begins on the leader
(``TransactionManager.finishing_count``), so nobody sees the one half without the other.

A decision carries the term of the data group's leader, its *fence*. A new leader writes its own
term into the metadata group before anything else; what an older one proposes after that is refused.
So the new leader, having applied its fence, knows every decision there will ever be about what it
finds prepared: decided transactions are finished, the others dropped (``finish_orphans``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster.ids import METADATA_GROUP
from cluster.metadata.command import CatalogChange, ForgetDecisions, encode_command
from nodedb.kv.effects import (
    ClearStorage,
    Completed,
    FinishPrepared,
    PreparedRows,
    RowWrites,
    encode_effects,
    encode_long,
)
from nodedb.txn.timestamps import leader_has_changed
from sql.errors import DiskFull, SerializationFailure, StatementCompletionUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nodedb.txn.manager import TransactionManager
    from nodedb.txn.transaction import Transaction

_ID_BITS: Final = 40
RETRY_SECONDS: Final = 0.2


async def commit_with_catalog(
    manager: TransactionManager,
    transaction: Transaction,
    catalog_change: Callable[[], bytes | None],
) -> int:
    """Commit rows and a catalog change; returns the metadata index, 0 when nothing changed there.

    Raises 40001 and 53100 when surely nothing is committed, 40003 when nobody knows.
    """
    manager.validate(transaction)
    tenure = manager.tenure
    transaction_id = tenure << _ID_BITS | transaction.id
    prepare = PreparedRows(transaction_id, tuple(_effects(transaction)))
    try:
        await _propose(manager, prepare)
    except StatementCompletionUnknown as error:
        # Whatever becomes of it: without a decision, which nobody asks for, it is dropped.
        raise leader_has_changed() from error
    manager.finishing_count += 1
    index = 0
    try:
        change = _change_now(manager, transaction, transaction_id, catalog_change)
        if change is not None:
            command = CatalogChange(change, manager.fence, transaction_id)
            index = await _decide(manager, command)
        await _finish(manager, transaction_id, tenure, is_decided=index > 0)
    except (DiskFull, SerializationFailure):
        if manager.tenure == tenure:
            _drop(manager, transaction_id)
        raise
    finally:
        if manager.tenure == tenure:
            manager.finishing_count -= 1
    if index:
        manager.note_finished(transaction_id)
    return index


def _change_now(
    manager: TransactionManager,
    transaction: Transaction,
    transaction_id: int,
    catalog_change: Callable[[], bytes | None],
) -> bytes | None:
    """Validate once more, in the turn in which the decision is proposed; returns the change."""
    try:
        manager.check_tenure(transaction)
        manager.validate(transaction)
        change = catalog_change()
    except (DiskFull, SerializationFailure):
        raise  # The caller drops the rows.
    except BaseException:
        _drop(manager, transaction_id)
        raise
    manager.note_decision(transaction)
    return change


async def _decide(manager: TransactionManager, command: CatalogChange) -> int:
    index = await manager.replicator.propose(METADATA_GROUP, encode_command(command), command)
    if manager.outcome_of(index):
        raise leader_has_changed()
    return index


async def _finish(
    manager: TransactionManager, transaction_id: int, tenure: int, *, is_decided: bool
) -> None:
    """Make the rows visible; decided ones however long the disk is full, or a transfer under way.

    The timestamp is a new one each time: others may have committed since. Where this node loses the
    lead on the way, a decided transaction has committed all the same: the next leader finishes it
    before it serves anybody. Without a decision this entry is the commit, and fails like one.
    """
    while True:
        outcome = FinishPrepared(transaction_id, manager.allocate_timestamp())
        try:
            await _propose(manager, outcome)
        except (DiskFull, SerializationFailure, StatementCompletionUnknown):
            if not is_decided:
                raise
        else:
            return
        await manager.pause(RETRY_SECONDS)
        if manager.tenure != tenure:
            return


def _effects(transaction: Transaction) -> Iterable[bytes]:
    """Encode what a transaction does to rows, without a timestamp."""
    if transaction.encoded:
        counts, parts = transaction.encoded_counts, transaction.encoded
        yield encode_long(0, transaction.id, counts, parts)
    elif transaction.writes:
        writes = [
            (vshard, key, payload) for key, (_, payload, vshard, _) in transaction.writes.items()
        ]
        yield encode_effects(RowWrites(0, transaction.id, writes))
    if transaction.cleared:
        yield encode_effects(ClearStorage(tuple(transaction.cleared)))
    if transaction.completion is not None:
        yield encode_effects(Completed(*transaction.completion, b""))


async def _propose(manager: TransactionManager, effects: PreparedRows | FinishPrepared) -> None:
    payload = encode_effects(effects)
    await manager.replicator.propose(manager.group.group_id, payload, effects)


def _drop(manager: TransactionManager, transaction_id: int) -> None:
    """Forget prepared rows without a decision; nobody waits for it, a new leader would do it."""
    outcome = FinishPrepared(transaction_id, 0)
    manager.replicator.propose(manager.group.group_id, encode_effects(outcome), outcome)


def forget_decisions(manager: TransactionManager, transaction_ids: Iterable[int]) -> None:
    """Have the metadata group forget decisions whose rows are visible (PROTOCOL rule 20)."""
    command = ForgetDecisions(tuple(sorted(transaction_ids)))
    manager.replicator.propose(METADATA_GROUP, encode_command(command), command)


async def finish_orphans(manager: TransactionManager, decided: Callable[[int], bool]) -> list[int]:
    """Finish or drop what earlier leaders left prepared; returns the ids that were decided.

    Called by a new leader whose fence is applied, before it serves anybody.
    """
    committed = []
    for transaction_id in sorted(manager.group.prepared):
        timestamp = 0
        if decided(transaction_id):
            timestamp = manager.allocate_timestamp()
            committed.append(transaction_id)
        await _propose(manager, FinishPrepared(transaction_id, timestamp))
    return committed
