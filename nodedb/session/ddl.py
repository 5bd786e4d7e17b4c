"""Runs DDL statements in a session's transaction: plan, lock what was touched, plan again.

A statement is planned into the overlay from the newest catalog, without waiting for anybody but
where it asks for a table's lock. Then it takes the locks of ``nodedb.catalog.claims``. When a lock
was not free, somebody else was changing what the statement has looked up: with the lock at last in
hand the attempt is undone, and the statement begins again from its names, as PostgreSQL looks a
relation up again after waiting for it. What was locked stays locked, so an attempt is in vain at
most once per lock; ``ATTEMPTS_MAX`` is there for what nobody has thought of.

Guarantees: when a statement has returned its tag, no other transaction can change what it has
changed or relies on before this one ends. Sequences drawn from or set are locked likewise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodedb.catalog.claims import claims
from nodedb.catalog.ddl.execute import execute_ddl
from nodedb.kv.locks import ROW_EXCLUSIVE
from nodedb.session import online_index
from nodedb.session.ddl_environment import LookAgain, SessionDdlEnvironment
from sql.catalog.descriptor import Sequence, Table
from sql.errors import InternalError, SerializationFailure

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.ast.ddl import DdlStatement

ATTEMPTS_MAX: Final = 100
"""Attempts of one statement before it gives up with 40001."""


async def run_ddl(session: Session, statement: DdlStatement, *, in_block: bool) -> str:
    """Run one DDL statement in the transaction's overlay; returns its command tag.

    On an error the overlay may hold part of the statement: the block fails.
    """
    block = session.block
    transaction = block.ensure_transaction(session.query_start)
    overlay = block.ensure_overlay()
    environment = SessionDdlEnvironment(session, in_block=in_block)
    notice_count = len(session.notices)
    before, rows, callbacks = overlay.mark(), transaction.mark(), block.mark_callbacks()
    for _ in range(ATTEMPTS_MAX):
        environment.begin_attempt()
        try:
            tag = await execute_ddl(statement, environment)
            overlay = block.ensure_overlay()
            for claim in claims(overlay.changed_since(before)):
                await environment.lock(claim)
            if overlay.conflict(overlay.base) is None:
                environment.release_unclaimed()
                if environment.pending_build is not None:
                    await online_index.build(session, environment.pending_build)
                return tag
        except LookAgain:
            pass
        overlay.rollback(before)
        session.node.transactions.rollback_to(transaction, rows, release_locks=False)
        block.undo_callbacks(callbacks)
        del session.notices[notice_count:]
    raise SerializationFailure("could not serialize access due to concurrent update")


async def locked_table(session: Session, table: Table) -> Table | None:
    """Lock a table for ANALYZE to the end of the transaction; returns it as it is then, if it is.

    Source: PostgreSQL docs, "Table-Level Locks" (SHARE UPDATE EXCLUSIVE).
    """
    session.block.ensure_transaction(session.query_start)
    environment = SessionDdlEnvironment(session, in_block=True)
    while True:
        try:
            await environment.lock_table(table.id, "share update exclusive")
            return environment.overlay.snapshot.table(table.id)
        except LookAgain:
            pass


async def open_sequence(session: Session, sequence: Sequence) -> Sequence:
    """Lock a sequence against ALTER and DROP to the end of the transaction, and look it up again.

    Raises InternalError (XX000) if it was dropped meanwhile.
    """
    transaction = session.block.ensure_transaction(session.query_start)
    manager = session.node.transactions
    if manager.locks.holds(transaction, sequence.id, ROW_EXCLUSIVE):
        return sequence
    if not manager.locks.try_acquire(transaction, sequence.id, ROW_EXCLUSIVE):
        await manager.wait_for_lock(transaction, sequence.id, ROW_EXCLUSIVE)
    found = session.catalog().relation_by_id(sequence.id)
    if not isinstance(found, Sequence):
        raise InternalError(f"could not open relation with OID {sequence.id}")
    return found
