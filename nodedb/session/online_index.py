"""CREATE INDEX outside a transaction block: the statement's side of an online build.

The statement has planned the index, ``delete_only``, into its transaction. Here that is committed
together with the record of the build, and the build followed to its end by
``nodedb.schema_change``. What cancels the statement cancels the build, which then undoes itself
(CONCURRENTLY leaves the invalid index, as PostgreSQL does); the statement's error is the build's.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from nodedb.schema_change.records import BuildRecord, build_key, write_record
from sql.errors import AdminShutdown, QueryCanceled, SqlError

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import PendingBuild
    from nodedb.session.session import Session

_GONE_MESSAGE: Final = "terminating connection because its client is gone"


async def build(session: Session, pending: PendingBuild) -> None:
    """Commit what the statement has done, and build the index.

    Leaves an empty transaction in the place of the statement's. Raises what the build failed with.
    """
    block, node = session.block, session.node
    transaction = block.ensure_transaction(session.query_start)
    author = block.author()
    record = BuildRecord(
        table_id=pending.table_id,
        keeps_invalid=pending.keeps_invalid,
        command=pending.command,
        user=author.user,
        process_id=author.process_id,
        client=author.client,
    )
    write_record(transaction, build_key(pending.index_oid), record)
    lock_timeout_ms = session.settings.lock_timeout_ms
    started = node.schema_changes.prepare(
        pending.index_oid, record, session.process_id, lock_timeout_ms
    )
    try:
        await block.commit()
    except BaseException as error:
        started.finish(error)
        raise
    block.ensure_transaction(session.query_start)
    ended, undone = started.follow(), started.follow()
    node.schema_changes.start(started)
    try:
        await session.interrupts.wait(ended)
    except BaseException as error:
        started.interrupt(error if isinstance(error, SqlError) else AdminShutdown(_GONE_MESSAGE))
        if isinstance(error, GeneratorExit):
            raise
        # Not to be interrupted again: its outcome, like a commit's, must be learned.
        with suppress(SqlError):
            await undone
            if isinstance(error, QueryCanceled):
                return  # It was complete before it could be canceled.
        raise
